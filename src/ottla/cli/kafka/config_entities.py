"""What kafka-configs describes and alters: settings of resources, quotas, SCRAM credentials.

`Entities` are what was asked for: types (`topics`, …) and names, which belong together by their places.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.kafka.common import ToolError, java_text

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.configs import ConfigEntry, ConfigResource
    from ottla.client.admin.quotas import ClientQuotaEntity

TOPICS, CLIENTS, USERS, BROKERS, IPS = "topics", "clients", "users", "brokers", "ips"
CLIENT_METRICS, GROUPS, LOGGERS = "client-metrics", "groups", "broker-loggers"

_INVALID = "org.apache.kafka.common.errors.InvalidConfigurationException"
_OUTSIDE_BRACKETS = r"(?=[^\]]*(?:\[|$))"
_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_FEWEST_ITERATIONS = 4096
_CREDENTIAL = re.compile(r"(?:iterations=(-?[0-9]*),)?password=(.*)", re.DOTALL)


class Entities(NamedTuple):
    """Types and names; the name of a default is empty."""

    types: list[str]
    names: list[str]


# Describing


def describe(admin: Admin, entities: Entities, *, everything: bool) -> None:
    """Print settings, or quotas and credentials."""
    kind = entities.types[0]
    if kind in (USERS, CLIENTS, IPS):
        _describe_quotas(admin, entities)
        if kind != IPS and CLIENTS not in entities.types and "" not in entities.names:
            _describe_credentials(admin, entities.names)
        return
    name = entities.names[0] if entities.names else None
    if name is not None and not everything and not _exists(admin, kind, name):
        print(f"The {kind[:-1]} '{name}' doesn't exist and doesn't have dynamic config.")
        return
    for one in _all_names(admin, kind) if name is None else [name]:
        if one:
            print(f"{'All' if everything else 'Dynamic'} configs for {kind[:-1]} {one} are:")
        else:
            print(f"Default configs for {kind} in the cluster are:")
        for entry in _settings(admin, kind, one, everything=everything):
            synonyms = ", ".join(f"{one.source.name}:{one.name}={java_text(one.value)}" for one in entry.synonyms)
            sensitive = java_text(entry.is_sensitive)
            print(f"  {entry.name}={java_text(entry.value)} sensitive={sensitive} synonyms={{{synonyms}}}")


def _exists(admin: Admin, kind: str, name: str) -> bool:
    if kind == TOPICS:
        _check_topic(name)
        return name in admin.list_topics(list_internal=True)
    if kind in (BROKERS, LOGGERS):
        return not name or any(str(node.id) == name for node in admin.describe_cluster().nodes)
    if kind == CLIENT_METRICS:
        return name in admin.list_client_metrics_resources()
    if any(group.group_id == name for group in admin.list_groups()):
        return True
    resources = _group_resources(admin)
    return resources is None or name in resources


def _group_resources(admin: Admin) -> list[str] | None:
    """Groups with settings; None when the cluster does not tell."""
    from ottla.client.admin.configs import ConfigType
    from ottla.client.errors import AuthorizationError, UnsupportedVersionError

    try:
        return [resource.name for resource in admin.list_config_resources(ConfigType.GROUP)]
    except (UnsupportedVersionError, AuthorizationError):
        return None


def _all_names(admin: Admin, kind: str) -> Iterable[str]:
    if kind == TOPICS:
        from ottla.cli.kafka.hash_order import hash_ordered

        return hash_ordered(admin.list_topics(list_internal=True))
    if kind == BROKERS:
        return [*(str(node.id) for node in admin.describe_cluster().nodes), ""]
    if kind == CLIENT_METRICS:
        return admin.list_client_metrics_resources()
    return dict.fromkeys([*(group.group_id for group in admin.list_groups()), *(_group_resources(admin) or ())])


def _check_topic(name: str) -> None:
    reason = ""
    if not name:
        reason = "the empty string is not allowed"
    elif name in (".", ".."):
        reason = f"'{name}' is not allowed"
    elif len(name) > 249:
        reason = f"the length of '{name}' is longer than the max allowed length 249"
    elif not re.fullmatch(r"[a-zA-Z0-9._-]+", name):
        reason = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    if reason:
        raise ToolError(f"Topic name is invalid: {reason}", "org.apache.kafka.common.errors.InvalidTopicException")


def _resource(kind: str, name: str) -> ConfigResource:
    from ottla.client.admin.configs import ConfigResource, ConfigType

    return ConfigResource(
        {
            TOPICS: ConfigType.TOPIC,
            BROKERS: ConfigType.BROKER,
            LOGGERS: ConfigType.BROKER_LOGGER,
            CLIENT_METRICS: ConfigType.CLIENT_METRICS,
            GROUPS: ConfigType.GROUP,
        }[kind],
        name,
    )


def _settings(admin: Admin, kind: str, name: str, *, everything: bool) -> list[ConfigEntry]:
    """The settings by name; only those that were set for just this, unless `everything`."""
    from ottla.client.admin.configs import ConfigSource

    if kind == TOPICS:
        _check_topic(name)
    resource = _resource(kind, name)
    entries = admin.describe_configs(resource, include_synonyms=True)[resource]
    own = {
        TOPICS: ConfigSource.DYNAMIC_TOPIC_CONFIG,
        BROKERS: ConfigSource.DYNAMIC_BROKER_CONFIG if name else ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG,
        CLIENT_METRICS: ConfigSource.DYNAMIC_CLIENT_METRICS_CONFIG,
        GROUPS: ConfigSource.DYNAMIC_GROUP_CONFIG,
    }.get(kind)
    shown = [entry for entry in entries.values() if everything or own is None or entry.source is own]
    return sorted(shown, key=lambda entry: entry.name)


def _describe_quotas(admin: Admin, entities: Entities) -> None:
    from ottla.cli.kafka.hash_order import hash_ordered
    from ottla.cli.kafka.java_text import double

    found = _quotas(admin, entities)
    for entity in hash_ordered(found, _entity_hash, capacity=len(found)):
        quotas = found[entity]
        shown = ", ".join(f"{name}={double(quotas[name])}" for name in hash_ordered(quotas, capacity=len(quotas)))
        print(f"Quota configs for {_entity_text(entity)} are {shown}")


def _quotas(admin: Admin, entities: Entities) -> dict[ClientQuotaEntity, dict[str, float]]:
    from ottla.client.admin.quotas import ANY, DEFAULT, QuotaName

    if len(entities.names) > len(entities.types):
        raise ToolError("More entity names specified than entity types")
    wanted: dict[str, str | QuotaName] = {}
    for position, kind in enumerate(entities.types):
        name = entities.names[position] if position < len(entities.names) else None
        wanted[kind] = ANY if name is None else name or DEFAULT
    return admin.describe_client_quotas(
        user=wanted.get(USERS), client_id=wanted.get(CLIENTS), ip=wanted.get(IPS), strict=True
    )


def _named(entity: ClientQuotaEntity) -> dict[str, str | None]:
    """The entity as a map of Kafka's types; None for a default."""
    parts = {"user": entity.user, "client-id": entity.client_id, "ip": entity.ip}
    return {kind: name if isinstance(name, str) else None for kind, name in parts.items() if name is not None}


def _entity_hash(entity: ClientQuotaEntity) -> int:
    from ottla.cli.kafka.hash_order import string_hash

    codes = [string_hash(kind) ^ (0 if name is None else string_hash(name)) for kind, name in _named(entity).items()]
    return 31 + sum(codes)


def _entity_text(entity: ClientQuotaEntity) -> str:
    words = {"user": "user-principal", "client-id": "client-id", "ip": "ip"}
    return ", ".join(
        f"the default {words[kind]}" if name is None else f"{words[kind]} '{name}'"
        for kind, name in _named(entity).items()
    )


def _describe_credentials(admin: Admin, users: Sequence[str]) -> None:
    from ottla.client.errors import KafkaError
    from ottla.core.errors import ErrorCode

    try:
        found, errors = admin.describe_user_scram_credentials(users or None), {}
    except KafkaError as error:
        if not error.errors:
            raise
        found, errors = dict(error.results), dict(error.errors)
    for user, infos in found.items():
        shown = ", ".join(f"{info.mechanism.name.replace('_', '-')}=iterations={info.iterations}" for info in infos)
        print(f"SCRAM credential configs for user-principal '{user}' are {shown}")
    for user, problem in errors.items():
        if problem.code is not ErrorCode.RESOURCE_NOT_FOUND:
            print(f"Error retrieving SCRAM credential configs for user-principal '{user}': {problem.message}")


# Altering


def alter(
    admin: Admin, entities: Entities, from_file: Mapping[str, str], text: str | None, removed: Sequence[str]
) -> None:
    """Set and remove settings, quotas or credentials; `text` is that of --add-config."""
    kind, name = entities.types[0], entities.names[0]
    added = {**from_file, **(_parse_settings(text) if text is not None else {})}
    for key in added:
        if not re.fullmatch(r"[$a-zA-Z0-9._-]*", key):
            raise ToolError(f"Invalid character found for config key: {key}")
    if kind in (USERS, CLIENTS):
        _alter_client(admin, entities, added, removed)
    elif kind == IPS:
        unknown = [key for key in (*added, *removed) if key not in _ip_quotas()]
        if unknown:
            raise ToolError(
                f"Only connection quota configs can be added for '{IPS}' using --bootstrap-server. "
                f"Unexpected config names: {','.join(unknown)}"
            )
        _alter_quotas(admin, entities, added, removed)
    else:
        _alter_resource(admin, kind, name, added, removed)
    if name:
        print(f"Completed updating config for {kind[:-1]} {name}.")
    else:
        print(f"Completed updating default config for {kind} in the cluster.")


def _parse_settings(text: str) -> dict[str, str]:
    """`k1=v1,k2=[v1,v2]`."""
    parts = re.split("," + _OUTSIDE_BRACKETS, text)
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    pairs = [re.split(r"\s*=\s*" + _OUTSIDE_BRACKETS, part) for part in parts]
    if any(len(pair) != 2 for pair in pairs):
        raise ToolError(
            'requirement failed: Invalid entity config: all configs to be added must be in the format "key=val" or  '
            '"key=[val1,val2]" to group values which contain commas.'
        )
    return {key.strip(): re.sub(r"[\[\]]", "", value).strip() for key, value in pairs}


def _alter_resource(admin: Admin, kind: str, name: str, added: Mapping[str, str], removed: Sequence[str]) -> None:
    from ottla.client.admin.configs import AlterConfigOp
    from ottla.client.errors import UnsupportedVersionError

    if kind == LOGGERS:
        known = {entry.name for entry in _settings(admin, kind, name, everything=False)}
        unknown = [key for key in (*removed, *added) if key not in known]
        if unknown:
            raise ToolError(f"Invalid broker logger(s): {','.join(unknown)}", _INVALID)
    changes = [AlterConfigOp.delete(key) for key in removed]
    changes += [AlterConfigOp.set(key, value) for key, value in added.items()]
    try:
        admin.incremental_alter_configs({_resource(kind, name): changes})
    except UnsupportedVersionError:
        raise ToolError(
            "The INCREMENTAL_ALTER_CONFIGS API is not supported by the cluster. The API is supported starting from "
            "version 2.3.0. You may want to use an older version of this tool to interact with your cluster, or "
            "upgrade your brokers to version 2.3.0 or newer to avoid this error.",
            "org.apache.kafka.common.errors.UnsupportedVersionException",
        ) from None


def _client_quotas() -> Iterable[str]:
    from ottla.schema.quota import CLIENT_QUOTAS

    return CLIENT_QUOTAS


def _ip_quotas() -> Iterable[str]:
    from ottla.schema.quota import IP_QUOTAS

    return IP_QUOTAS


def _alter_client(admin: Admin, entities: Entities, added: Mapping[str, str], removed: Sequence[str]) -> None:
    quotas = set(_client_quotas())
    scram_added = {key: value for key, value in added.items() if key in _MECHANISMS}
    scram_removed = [key for key in removed if key in _MECHANISMS]
    unknown_added = [key for key in added if key not in quotas and key not in _MECHANISMS]
    unknown_removed = [key for key in removed if key not in quotas and key not in _MECHANISMS]
    if entities.types[0] == CLIENTS or len(entities.types) == 2:
        start = f"Only quota configs can be %s for '{CLIENTS}' using --bootstrap-server. Unexpected config names: "
        if unknown_added or scram_added:
            raise ToolError(start % "added" + _scala("Set", [*unknown_added, *scram_added]))
        if unknown_removed or scram_removed:
            raise ToolError(start % "deleted" + _scala("ArrayBuffer", [*unknown_removed, *scram_removed]))
    else:
        start = (
            f"Only quota and SCRAM credential configs can be %s for '{USERS}' using --bootstrap-server. "
            "Unexpected config names: "
        )
        if unknown_added:
            raise ToolError(start % "added" + _scala("Set", unknown_added))
        if unknown_removed:
            raise ToolError(start % "deleted" + _scala("ArrayBuffer", unknown_removed))
        if scram_added or scram_removed:
            if "" in entities.names:
                raise ToolError(
                    "The use of --entity-default or --user-defaults is not allowed with User SCRAM Credentials using "
                    "--bootstrap-server."
                )
            if quotas.intersection((*added, *removed)):
                raise ToolError(
                    f"Cannot alter both quota and SCRAM credential configs simultaneously for '{USERS}' using "
                    "--bootstrap-server."
                )
    if quotas.intersection((*added, *removed)):
        _alter_quotas(admin, entities, added, removed)
    else:
        _alter_credentials(admin, entities.names[0], scram_added, scram_removed)


def _scala(kind: str, names: Sequence[str]) -> str:
    return f"{kind}({', '.join(names)})"


def _alter_quotas(admin: Admin, entities: Entities, added: Mapping[str, str], removed: Sequence[str]) -> None:
    from ottla.client.admin.quotas import DEFAULT, ClientQuotaEntity

    before = next(iter(_quotas(admin, entities).values()), {})
    unknown = [key for key in removed if key not in before]
    if unknown:
        raise ToolError(f"Invalid config(s): {','.join(unknown)}", _INVALID)
    named = {kind: name or DEFAULT for kind, name in zip(entities.types, entities.names, strict=True)}
    changes: dict[str, float | None] = {key: _quota(key, value) for key, value in added.items()}
    changes |= dict.fromkeys(removed)
    entity = ClientQuotaEntity(named.get(USERS), named.get(CLIENTS), named.get(IPS))
    admin.alter_client_quotas({entity: changes})


def _quota(key: str, value: str) -> float:
    try:
        if "_" in value:
            raise ValueError(value)
        return float(value)
    except ValueError:
        raise ToolError(f"Cannot parse quota configuration value for {key}: {value}") from None


def _alter_credentials(admin: Admin, user: str, added: Mapping[str, str], removed: Sequence[str]) -> None:
    from ottla.client.admin.scram import ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion

    changes: list[UserScramCredentialDeletion | UserScramCredentialUpsertion] = [
        UserScramCredentialDeletion(user, ScramMechanism[name.replace("-", "_")]) for name in removed
    ]
    for name, text in added.items():
        match = _CREDENTIAL.fullmatch(text)
        if match is None:
            raise ToolError(f"Invalid credential property {name.replace('-', '_')}={text}")
        iterations = int(match[1]) if match[1] not in (None, "-1", "") else _FEWEST_ITERATIONS
        if iterations < _FEWEST_ITERATIONS:
            raise ToolError(
                f"Iterations {iterations} is less than the minimum {_FEWEST_ITERATIONS} required for {name}"
            )
        mechanism = ScramMechanism[name.replace("-", "_")]
        changes.append(UserScramCredentialUpsertion(user, match[2], mechanism, iterations))
    admin.alter_user_scram_credentials(changes)

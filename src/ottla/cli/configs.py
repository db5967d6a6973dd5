"""`ottla configs`: the settings of topics, brokers, groups, client metrics and loggers, looked at and changed.

A resource is written `topic/orders`, `broker/1`, `group/payments`, `client-metrics/all`, `logger/1`; `broker` alone is
what holds for all brokers.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError, suggestion
from ottla.cli.output import Column, Output
from ottla.cli.selection import complete_groups, complete_topics
from ottla.cli.topics import change_json, change_text, settings_of
from ottla.cli.units import setting_meaning

if TYPE_CHECKING:
    from ottla.client.admin.configs import AlterConfigOp, ConfigEntry, ConfigResource

run = run_action

KINDS = {
    "topic": "TOPIC",
    "broker": "BROKER",
    "group": "GROUP",
    "client-metrics": "CLIENT_METRICS",
    "logger": "BROKER_LOGGER",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show what has settings of its own.", aliases=["ls"])
    listing.add_argument("-k", "--kind", choices=list(KINDS), help="only resources of this kind")
    describe = actions.add("describe", _describe, "Show settings.", aliases=["get"])
    _add_resource(describe)
    describe.add_argument("names", nargs="*", metavar="NAME", help="settings or patterns ('*.ms'); all without")
    describe.add_argument("-a", "--all", action="store_true", help="settings at their defaults as well")
    describe.add_argument("-d", "--docs", action="store_true", help="what each of them does")
    setting = actions.add("set", _set, "Set settings, and leave the others as they are.", changes=True)
    _add_resource(setting)
    names = setting.add_argument("assignments", nargs="+", metavar="KEY=VALUE", help="as retention.ms=7d")
    names.completer = complete_settings  # type: ignore[attr-defined]
    unset = actions.add("unset", _unset, "Put settings back to their defaults.", aliases=["reset"], changes=True)
    _add_resource(unset)
    names = unset.add_argument("names", nargs="+", metavar="KEY")
    names.completer = complete_settings  # type: ignore[attr-defined]
    for action, run_it, summary in (
        ("append", _append, "Add to settings that are lists."),
        ("subtract", _subtract, "Take from settings that are lists."),
    ):
        changing = actions.add(action, run_it, summary, changes=True)
        _add_resource(changing)
        changing.add_argument("assignments", nargs="+", metavar="KEY=VALUE")


def _add_resource(parser: ArgumentParser) -> None:
    action = parser.add_argument(
        "resource", metavar="RESOURCE", help="topic/NAME, broker/ID, broker, group/NAME, client-metrics/NAME, logger/ID"
    )
    action.completer = complete_resources  # type: ignore[attr-defined]


def resource_of(text: str) -> ConfigResource:
    """`topic/orders` as a resource; raises `CommandError`."""
    from ottla.client.admin.configs import ConfigResource, ConfigType

    kind, _, name = text.partition("/")
    kind = {"topics": "topic", "brokers": "broker", "groups": "group", "broker-logger": "logger"}.get(kind, kind)
    if kind not in KINDS:
        hint = suggestion(
            kind, KINDS, "write topic/NAME, broker/ID, broker, group/NAME, client-metrics/NAME, logger/ID"
        )
        raise CommandError(f"{text!r} is no resource; {hint}")
    if kind == "broker" and name in ("", "default"):
        return ConfigResource.broker()
    if not name:
        raise CommandError(f"which {kind}? Write {kind}/NAME")
    if kind in ("broker", "logger") and not name.isdigit():
        raise CommandError(f"{text!r}: a broker is named by its number, as in {kind}/1")
    return ConfigResource(ConfigType[KINDS[kind]], name)


def resource_text(resource: ConfigResource) -> str:
    """The resource as it is written on the command line."""
    kind = next(kind for kind, name in KINDS.items() if name == resource.type.name)
    return f"{kind}/{resource.name}" if resource.name else kind


def _list(options: Namespace) -> int:
    from ottla.client.admin.configs import ConfigType

    kinds = [ConfigType[KINDS[options.kind]]] if options.kind else []
    output = Output(options)
    with open_admin(options) as admin:
        found = [one for one in admin.list_config_resources(kinds) if one.type is not ConfigType.UNKNOWN]
    rows = sorted((resource_text(one), one.type.name.lower().replace("_", "-"), one.name) for one in found)
    output.table(None, ["resource"], [row[:1] for row in rows], json_rows=[_named(*row) for row in rows])
    return 0


def _named(resource: str, kind: str, name: str) -> dict[str, str]:
    return {"resource": resource, "type": kind, "name": name}


def _describe(options: Namespace) -> int:
    from fnmatch import fnmatchcase

    output = Output(options)
    resource = resource_of(options.resource)
    with open_admin(options) as admin:
        entries = admin.describe_configs(resource, include_synonyms=True, include_documentation=options.docs)[resource]
    for name in options.names:
        if not any(fnmatchcase(entry, name) for entry in entries):
            hint = suggestion(name, entries, f"`ottla configs describe {options.resource} --all` shows all")
            raise CommandError(f"{options.resource} has no setting {name!r}; {hint}")
    shown = [
        entry
        for name, entry in sorted(entries.items())
        if (any(fnmatchcase(name, pattern) for pattern in options.names) if options.names else True)
        and (options.all or options.names or not is_default(entry))
    ]
    columns: list[str | Column] = [Column("setting", "cyan"), "value", "meaning", "from"]
    rows = [[one.name, _value(one), setting_meaning(one.name, one.value), _source(one)] for one in shown]
    if options.docs:
        columns.append("what it does")
        rows = [[*row, one.documentation] for row, one in zip(rows, shown, strict=True)]
    output.table(None, columns, rows, json_rows=[_json(one, options.docs) for one in shown])
    return 0


def is_default(entry: ConfigEntry) -> bool:
    """Whether nobody has set the setting, here or in a file; or the cluster has it as it is anyway, as Kafka's new
    clusters have `min.insync.replicas`."""
    from ottla.client.admin.configs import ConfigSource

    if entry.source is ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG and entry.synonyms:
        last = entry.synonyms[-1]
        return last.source is ConfigSource.DEFAULT_CONFIG and last.value == entry.value
    return entry.source in (ConfigSource.DEFAULT_CONFIG, ConfigSource.UNKNOWN)


def _value(entry: ConfigEntry) -> str | None:
    return "[hidden]" if entry.is_sensitive else entry.value


def _source(entry: ConfigEntry) -> str:
    return entry.source.name.lower().replace("_config", "").replace("_", " ")


def _json(entry: ConfigEntry, docs: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "name": entry.name,
        "value": None if entry.is_sensitive else entry.value,
        "source": entry.source,
        "sensitive": entry.is_sensitive,
        "read_only": entry.is_read_only,
        "type": entry.type,
        "synonyms": [
            {"name": one.name, "value": None if entry.is_sensitive else one.value, "source": one.source}
            for one in entry.synonyms
        ],
    }
    return found | {"documentation": entry.documentation} if docs else found


def _set(options: Namespace) -> int:
    from ottla.client.admin.configs import AlterConfigOp

    return _change(options, [AlterConfigOp.set(*one) for one in _assigned(options).items()])


def _unset(options: Namespace) -> int:
    from ottla.client.admin.configs import AlterConfigOp

    return _change(options, [AlterConfigOp.delete(name) for name in options.names])


def _append(options: Namespace) -> int:
    from ottla.client.admin.configs import AlterConfigOp

    return _change(options, [AlterConfigOp.append(*one) for one in _assigned(options).items()])


def _subtract(options: Namespace) -> int:
    from ottla.client.admin.configs import AlterConfigOp

    return _change(options, [AlterConfigOp.subtract(*one) for one in _assigned(options).items()])


def _assigned(options: Namespace) -> Mapping[str, str]:
    return settings_of(options.assignments, options.action)


def _change(options: Namespace, changes: list[AlterConfigOp]) -> int:
    output = Output(options)
    resource = resource_of(options.resource)
    with open_admin(options) as admin:
        before = admin.describe_configs(resource)[resource]
        # A secret must not be printed because the broker does not know the setting yet.
        texts = [change_text(change, before) for change in changes]
        changed = [change_json(change, before) for change in changes]
        admin.incremental_alter_configs({resource: changes}, validate_only=options.dry_run)
    would = "would change" if options.dry_run else "changed"
    output.done(
        f"{would} {resource_text(resource)}: {', '.join(texts)}",
        json={"dry_run": options.dry_run, "resource": resource_text(resource), "changed": changed},
    )
    return 0


def complete_resources(*, prefix: str = "", parsed_args: Namespace | None = None, **_: object) -> list[str]:
    """Resources, for the shell's completion."""
    kind = prefix.partition("/")[0]
    if kind == "topic" and "/" in prefix:
        return [f"topic/{name}" for name in complete_topics(parsed_args=parsed_args)]
    if kind == "group" and "/" in prefix:
        return [f"group/{name}" for name in complete_groups(parsed_args=parsed_args)]
    return [*(f"{kind}/" for kind in KINDS), "broker"]


def complete_settings(*, parsed_args: Namespace | None = None, **_: object) -> list[str]:
    """Names of settings of the resource that was named, for the shell's completion."""
    kind = str(getattr(parsed_args, "resource", "")).partition("/")[0]
    end = "" if getattr(parsed_args, "action", "") in ("unset", "reset") else "="
    return [f"{name}{end}" for name in setting_names(kind)]


def setting_names(kind: str) -> list[str]:
    """The settings that a kind of resource can have."""
    if kind == "topic":
        from ottla.schema.topic import TOPIC_SETTINGS as TABLE
    elif kind == "group":
        from ottla.schema.group import GROUP_SETTINGS as TABLE
    elif kind == "client-metrics":
        from ottla.schema.client_metrics import CLIENT_METRICS_SETTINGS as TABLE
    elif kind == "broker":
        from ottla.schema.broker import BROKER_SETTINGS

        return [name for name in BROKER_SETTINGS if BROKER_SETTINGS[name].dynamic != "read-only"]
    else:
        return []
    return list(TABLE)

"""What settings have to do with each other: what follows from what was given, and what does not go together.

The rules are Kafka's, with two of Ottla's: a user name without `sasl.mechanism` is refused (the default is GSSAPI, in
which it means nothing), and `reconnect.backoff.ms` alone keeps the backoff exponential where Kafka makes it constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from ottla.client.errors import ConfigError
from ottla.client.settings.without_effect import KAFKA_REFUSED, KAFKA_WITHOUT_EFFECT, SHARE_WITHOUT_EFFECT

if TYPE_CHECKING:
    from ottla.client.settings.model import CommonSettings

_MAX_IN_FLIGHT_OF_IDEMPOTENCE = 5
_sequences: dict[str, count[int]] = {}
"""Numbers for generated client ids, per kind of client, as Kafka counts them."""


class _Values:
    """Given values over the defaults of the table; what is set becomes part of the given ones."""

    def __init__(self, kind: type[CommonSettings], values: dict[str, Any]) -> None:
        self.kind = kind
        self.given = frozenset(values)
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name] if name in self._values else self.kind.table[name].default

    def __setitem__(self, name: str, value: object) -> None:
        self._values[name] = value


def complete(kind: type[CommonSettings], given: dict[str, Any]) -> None:
    """Check `given` (typed values by name) and add what follows from it. Raises `ConfigError`."""
    from ottla.client.settings.model import AdminSettings, ConsumerSettings, ProducerSettings, ShareConsumerSettings

    _check_jvm(given, SHARE_WITHOUT_EFFECT if issubclass(kind, ShareConsumerSettings) else {})
    values = _Values(kind, given)
    _check_security(values)
    _backoffs(values)
    if issubclass(kind, ProducerSettings):
        _check_servers(values)
        _producer(values)
    elif issubclass(kind, ConsumerSettings):
        _check_servers(values)
        if issubclass(kind, ShareConsumerSettings):
            if not values["group.id"]:
                raise ConfigError("group.id is needed: a share consumer is always in a group.")
        else:
            _consumer(values)
        _consumer_client_id(values)
    elif issubclass(kind, AdminSettings):
        _admin(values)


def _check_jvm(given: Mapping[str, Any], also_without_effect: Mapping[str, str]) -> None:
    from ottla.client.settings.reading import tell_once

    without_effect = {**KAFKA_WITHOUT_EFFECT, **also_without_effect}
    for name in given:
        if name in KAFKA_REFUSED and given[name]:  # JmxReporter alone, Java's default, has become an empty list
            raise ConfigError(f"{name} cannot be set: {KAFKA_REFUSED[name]}.")
        if name in without_effect:
            tell_once(name, without_effect[name])


def _check_servers(values: _Values) -> None:
    if "bootstrap.servers" not in values.given:
        raise ConfigError(f"bootstrap.servers is needed: the addresses (host:port) where {values.kind.called} begins.")


def _check_security(values: _Values) -> None:
    protocol, mechanism = values["security.protocol"], values["sasl.mechanism"]
    if protocol.startswith("SASL") and not mechanism:
        raise ConfigError("sasl.mechanism is needed with security.protocol=" + protocol + ".")
    signs_in = values.given & {"sasl.username", "sasl.password", "sasl.jaas.config", "sasl.oauth.token.provider"}
    for name in sorted(signs_in):
        if not protocol.startswith("SASL"):
            raise ConfigError(
                f"{name} is set, but security.protocol is {protocol}: nobody would sign in. Set SASL_SSL "
                "(or SASL_PLAINTEXT where the network is trusted)."
            )
    by_name = values.given & {"sasl.username", "sasl.password"}
    if by_name and (mechanism == "GSSAPI" or mechanism == "OAUTHBEARER"):
        raise ConfigError(
            f"{min(by_name)} is set, but sasl.mechanism is {mechanism}. Set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
        )
    if len(by_name) == 1:
        missing = ({"sasl.username", "sasl.password"} - by_name).pop()
        raise ConfigError(f"{min(by_name)} is set, but {missing} is not. Set both.")
    if by_name and "sasl.jaas.config" in values.given:
        raise ConfigError("sasl.username and sasl.jaas.config are both set. Leave one out.")
    _check_tls(values, protocol)


def _check_tls(values: _Values, protocol: str) -> None:
    given = sorted(name for name in values.given if name.startswith("ssl.") and name not in KAFKA_WITHOUT_EFFECT)
    stores = [name for name in given if name.endswith((".location", ".key", ".chain", ".certificates"))]
    # With OAUTHBEARER the key and trust stores are used for the token endpoint, whatever the brokers speak.
    if stores and not protocol.endswith("SSL") and values["sasl.mechanism"] != "OAUTHBEARER":
        raise ConfigError(
            f"{stores[0]} is set, but security.protocol is {protocol}: nothing would be encrypted. Set "
            f"{'SASL_SSL' if protocol.startswith('SASL') else 'SSL'}."
        )
    own = {"ssl.certificate.location", "ssl.key.location"} & values.given
    if own and "ssl.keystore.location" in values.given:
        raise ConfigError(f"{min(own)} and ssl.keystore.location are both set. Leave one out.")
    if "ssl.key.location" in own and len(own) == 1:
        raise ConfigError("ssl.key.location is set, but ssl.certificate.location is not. Set both.")


def _backoffs(values: _Values) -> None:
    for name in ("reconnect.backoff", "retry.backoff", "socket.connection.setup.timeout"):
        first, longest = f"{name}.ms", f"{name}.max.ms"
        if values[first] > values[longest]:
            if longest in values.given:
                raise ConfigError(f"{first} ({values[first]}) is larger than {longest} ({values[longest]}).")
            values[longest] = values[first]


def _producer(values: _Values) -> None:
    acks = values["acks"]
    values["acks"] = -1 if acks == "all" else int(acks)
    _idempotence(values)
    if values["transaction.two.phase.commit.enable"] and "transaction.timeout.ms" in values.given:
        raise ConfigError(
            "transaction.timeout.ms cannot be set with transaction.two.phase.commit.enable: nothing times out then."
        )
    if values["transaction.two.phase.commit.enable"] and values["transactional.id"] is None:
        raise ConfigError("transaction.two.phase.commit.enable needs a transactional.id.")
    least_ms = min(values["linger.ms"] + values["request.timeout.ms"], 2**31 - 1)
    if values["delivery.timeout.ms"] < least_ms:
        if "delivery.timeout.ms" in values.given:
            raise ConfigError(
                f"delivery.timeout.ms ({values['delivery.timeout.ms']}) must be at least linger.ms + "
                f"request.timeout.ms ({least_ms}). Raise it, or lower request.timeout.ms."
            )
        values["delivery.timeout.ms"] = least_ms
    _client_id(values, "producer", values["transactional.id"])


def _idempotence(values: _Values) -> None:
    """Wanted by default, and given up silently for `acks` or `retries` that make it impossible, as in Kafka."""
    wanted = "enable.idempotence" in values.given
    transactional = values["transactional.id"] is not None
    if values["enable.idempotence"]:
        impossible = None
        if values["retries"] == 0:
            impossible = "retries must not be 0"
        elif values["acks"] != -1:
            impossible = "acks must be all"
        if impossible is not None:
            if wanted or transactional:
                what = "transactional.id" if transactional else "enable.idempotence"
                raise ConfigError(f"{what} is set: then {impossible}.")
            values["enable.idempotence"] = False
        elif values["max.in.flight.requests.per.connection"] > _MAX_IN_FLIGHT_OF_IDEMPOTENCE:
            raise ConfigError(
                "max.in.flight.requests.per.connection must be at most 5 with enable.idempotence, which is the "
                "default. Lower it, or set enable.idempotence to false."
            )
    elif transactional:
        raise ConfigError("transactional.id is set: then enable.idempotence must not be false.")


def _consumer(values: _Values) -> None:
    modern = values["group.protocol"] == "consumer"
    refused = (
        ("heartbeat.interval.ms", "partition.assignment.strategy", "session.timeout.ms")
        if modern
        else ("group.remote.assignor",)
    )
    hint = "the broker decides (group.remote.assignor names its assignor)" if modern else "set group.protocol=consumer"
    for name in (*refused, "share.acknowledgement.mode", "share.acquire.mode"):
        if name in values.given:
            why = "it is a share consumer's" if name.startswith("share.") else hint
            raise ConfigError(f"{name} cannot be set with group.protocol={values['group.protocol']}: {why}.")
    if values["group.id"] == "":
        raise ConfigError("group.id is empty: give the group a name, or leave it out for a consumer without a group.")
    if values["group.id"] is None:
        if "enable.auto.commit" in values.given and values["enable.auto.commit"]:
            raise ConfigError("enable.auto.commit is set, but group.id is not: there is no group to commit for.")
        if values["group.instance.id"] is not None:
            raise ConfigError("group.instance.id is set, but group.id is not.")
        values["enable.auto.commit"] = False
    if not modern and values["heartbeat.interval.ms"] >= values["session.timeout.ms"]:
        raise ConfigError(
            f"heartbeat.interval.ms ({values['heartbeat.interval.ms']}) must be less than session.timeout.ms "
            f"({values['session.timeout.ms']}); a third of it is usual."
        )


def _consumer_client_id(values: _Values) -> None:
    group_id = values["group.id"]
    _client_id(values, "consumer" if group_id is None else f"consumer-{group_id}", values["group.instance.id"])


def _admin(values: _Values) -> None:
    servers = "bootstrap.servers" in values.given
    if servers == ("bootstrap.controllers" in values.given):
        which = "are both set. Leave one out." if servers else "are both missing. Give one, as host:port."
        raise ConfigError(f"bootstrap.servers and bootstrap.controllers {which}")
    _client_id(values, "adminclient", None)


def _client_id(values: _Values, prefix: str, own: str | None) -> None:
    if values["client.id"] == "":
        values["client.id"] = (
            f"{prefix}-{own if own is not None else next(_sequences.setdefault(prefix[:8], count(1)))}"
        )

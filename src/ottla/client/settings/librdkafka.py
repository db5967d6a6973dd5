"""librdkafka's spellings of Kafka's settings, as confluent-kafka and many others take them.

Where the names are the same (`linger.ms`, `acks`, `fetch.min.bytes`, …) there is nothing to do. `ALIASES` has the
names that mean a setting of ours, `translate` the values too where they differ. What has no meaning here is in
`without_effect.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ottla.client.errors import ConfigError

if TYPE_CHECKING:
    from ottla.client.settings.model import CommonSettings

ALIASES: Final = {
    "auto.commit.enable": "enable.auto.commit",
    "compression.codec": "compression.type",
    "fetch.message.max.bytes": "max.partition.fetch.bytes",
    "fetch.wait.max.ms": "fetch.max.wait.ms",
    "max.in.flight": "max.in.flight.requests.per.connection",
    "message.max.bytes": "max.request.size",
    "message.send.max.retries": "retries",
    "message.timeout.ms": "delivery.timeout.ms",
    "metadata.broker.list": "bootstrap.servers",
    "oauth.cb": "sasl.oauth.token.provider",
    "partitioner": "partitioner.class",
    "queue.buffering.max.kbytes": "buffer.memory",
    "queue.buffering.max.ms": "linger.ms",
    "queued.max.messages.kbytes": "prefetch.max.bytes",
    "request.required.acks": "acks",
    "sasl.mechanisms": "sasl.mechanism",
    "sasl.oauthbearer.assertion.jwt.template.file": "sasl.oauthbearer.assertion.template.file",
    "sasl.oauthbearer.client.id": "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.secret": "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.grant.type": "sasl.oauthbearer.jwt.retriever.class",
    "socket.receive.buffer.bytes": "receive.buffer.bytes",
    "socket.send.buffer.bytes": "send.buffer.bytes",
    "socket.timeout.ms": "request.timeout.ms",
    "ssl.ca.location": "ssl.truststore.location",
    "ssl.ca.pem": "ssl.truststore.certificates",
    "ssl.certificate.pem": "ssl.keystore.certificate.chain",
    "ssl.key.pem": "ssl.keystore.key",
    "topic.metadata.refresh.interval.ms": "metadata.max.age.ms",
}
"""librdkafka's name → Kafka's (or ours, where Kafka has none)."""

LEVEL: Final = "compression.level"
"""The level of whichever codec is used: Kafka has one setting for each."""


def translate(
    kind: type[CommonSettings], name: str, value: object, values: Mapping[str, Any]
) -> tuple[str, object] | None:
    """Kafka's name and value for a librdkafka spelling, or None when it is none (or of another kind of client).

    The name is empty when nothing is to be set. `values` is what was read so far. Raises `ConfigError` for a value that
    cannot be translated.
    """
    if name == LEVEL and "compression.type" in kind.table:
        return _compression_level(value, values.get("compression.type", "none"))
    target = ALIASES.get(name)
    if target is None or target not in kind.table:
        return None
    convert = _VALUES.get(name)
    return target, value if convert is None else convert(name, value)


def _compression_level(value: object, codec: str) -> tuple[str, object]:
    """-1 is each codec's own default, which is Kafka's too; none and snappy have no levels, whatever it says."""
    number = _number(LEVEL, value)
    if codec not in ("gzip", "lz4", "zstd") or number == -1:
        return "", None
    if codec == "lz4" and number == 0:
        number = 1  # librdkafka counts from 0, the fast mode; Kafka from 1, which is the same.
    return f"compression.{codec}.level", number


def _number(name: str, value: object) -> int:
    try:
        if isinstance(value, bool):
            raise ValueError
        return int(value)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError):
        raise ConfigError(f"{name} cannot be {value!r}: a whole number is needed.") from None


def _kilobytes(name: str, value: object) -> object:
    return _number(name, value) * 1024


def _or(special: int, meaning: int) -> Callable[[str, object], object]:
    """The number, where `special` stands for `meaning`."""

    def convert(name: str, value: object) -> object:
        number = _number(name, value)
        return meaning if number == special else number

    return convert


def _milliseconds(name: str, value: object) -> object:
    """librdkafka takes fractions of a millisecond; they are rounded up, so that some wait stays one."""
    from math import ceil

    try:
        return ceil(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return value


def _grant_type(name: str, value: object) -> object:
    words = {
        "client_credentials": "client_credentials",
        "jwt-bearer": "jwt_bearer",
        "urn:ietf:params:oauth:grant-type:jwt-bearer": "jwt_bearer",
    }
    found = words.get(value) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(f"{name} cannot be {value!r}: client_credentials or jwt-bearer is needed.")
    return found


_LONGEST_MS = 2**63 - 1

_VALUES: dict[str, Callable[[str, object], object]] = {
    "message.timeout.ms": _or(0, 2**31 - 1),
    "queue.buffering.max.kbytes": _kilobytes,
    "queue.buffering.max.ms": _milliseconds,
    "queued.max.messages.kbytes": _kilobytes,
    "sasl.oauthbearer.grant.type": _grant_type,
    "socket.receive.buffer.bytes": _or(0, -1),
    "socket.send.buffer.bytes": _or(0, -1),
    "topic.metadata.refresh.interval.ms": _or(-1, _LONGEST_MS),
}

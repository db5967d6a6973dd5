"""What the values of a few settings mean beyond their type: addresses, classes, and words with several spellings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ottla.client.errors import ConfigError

PARTITIONERS: Final = (
    "consistent",
    "consistent_random",
    "fnv1a",
    "fnv1a_random",
    "murmur2",
    "murmur2_random",
    "random",
    "round_robin",
)
"""What `partitioner.class` may name: librdkafka's words and `round_robin`; unset is Kafka's default (KIP-794)."""

_JAVA_CLASSES: dict[str, str] = {
    "org.apache.kafka.clients.producer.RoundRobinPartitioner": "round_robin",
    "org.apache.kafka.clients.consumer.RangeAssignor": "range",
    "org.apache.kafka.clients.consumer.RoundRobinAssignor": "roundrobin",
    "org.apache.kafka.clients.consumer.StickyAssignor": "sticky",
    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor": "cooperative-sticky",
}
ASSIGNORS: Final = ("range", "roundrobin", "sticky", "cooperative-sticky")

_OAUTH: Final = "org.apache.kafka.common.security.oauthbearer."

JWT_RETRIEVERS: Final = {
    f"{_OAUTH}DefaultJwtRetriever": "default",
    f"{_OAUTH}ClientCredentialsJwtRetriever": "client_credentials",
    f"{_OAUTH}JwtBearerJwtRetriever": "jwt_bearer",
    f"{_OAUTH}FileJwtRetriever": "file",
}
_JWT_VALIDATORS = tuple(f"{_OAUTH}{name}JwtValidator" for name in ("Default", "Client", "Broker"))
_LOGIN_HANDLERS = {
    f"{_OAUTH}OAuthBearerLoginCallbackHandler": "default",
    f"{_OAUTH}secured.OAuthBearerLoginCallbackHandler": "default",
    f"{_OAUTH}internals.unsecured.OAuthBearerUnsecuredLoginCallbackHandler": "unsecured",
}
_SERIALIZERS = ("key.serializer", "value.serializer", "key.deserializer", "value.deserializer")


def parse_bootstrap_servers(name: str, value: object) -> list[str]:
    """Addresses as `host:port`; 9092 when there is no port. Raises `ConfigError`.

    `PLAINTEXT://host:port` is understood too; the scheme is checked against `security.protocol` elsewhere.
    """
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, bytes):
        raise ConfigError(f"{name} cannot be {value!r}: write host:port, several with commas or as a list.")
    addresses: list[str] = []
    for item in items:
        text = item.strip() if isinstance(item, str) else ""
        host, port = _split_address(text.rpartition("://")[2].rstrip("/"))
        if not host or not 0 < port <= 65535:
            raise ConfigError(f"{name} has {item!r}, which is no address: write host:port, several with commas.")
        addresses.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    if not addresses:
        raise ConfigError(f"{name} is empty: write at least one host:port.")
    return list(dict.fromkeys(addresses))


def _split_address(text: str) -> tuple[str, int]:
    """Host and port; the port is 0 when it is none."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if rest else "9092"
        return (host, int(port)) if bracket and port.isdecimal() and len(port) < 6 else ("", 0)
    if text.count(":") > 1:
        return (text, 9092)
    host, colon, port = text.partition(":")
    if not colon:
        return (host, 9092) if " " not in host else ("", 0)
    return (host, int(port)) if port.isdecimal() and len(port) < 6 and " " not in host else ("", 0)


def resolve_class(name: str, value: object) -> object:
    """The value of a class setting: an object as it is, `package.module:name` imported, a known name in our word."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if ":" in text:
        return _import(name, text)
    if name in _SERIALIZERS:
        return text
    known = _KNOWN_CLASSES.get(name)
    if known is None:
        raise ConfigError(_no_java(name, text))
    return known(name, text)


def _import(name: str, text: str) -> object:
    from importlib import import_module

    module_name, _, attribute = text.partition(":")
    try:
        found: object = import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{name}: {text} cannot be imported: {error}.") from None
    return found


def _no_java(name: str, text: str) -> str:
    return f"{name} cannot be {text!r}: Java classes do not run here; give a Python object or package.module:name."


def _partitioner(name: str, text: str) -> object:
    found = _JAVA_CLASSES.get(text, text)
    if found not in PARTITIONERS:
        raise ConfigError(
            f"{name} cannot be {text!r}: give a function or object, or one of {', '.join(PARTITIONERS)}; "
            "leave it out for Kafka's default."
        )
    return found


def _word(words: dict[str, str]) -> Callable[[str, str], object]:
    def find(name: str, text: str) -> object:
        found = words.get(text, text)
        if found not in words.values():
            raise ConfigError(_no_java(name, text))
        return found

    return find


def _validator(name: str, text: str) -> object:
    if text not in _JWT_VALIDATORS:
        raise ConfigError(_no_java(name, text))
    return text


def _engine(name: str, text: str) -> object:
    if text != "org.apache.kafka.common.security.ssl.DefaultSslEngineFactory":
        raise ConfigError(
            f"{name} cannot be {text!r}: give an ssl.SSLContext, or a function of the settings that returns one."
        )
    return None


_KNOWN_CLASSES: dict[str, Callable[[str, str], object]] = {
    "partitioner.class": _partitioner,
    "sasl.oauthbearer.jwt.retriever.class": _word(JWT_RETRIEVERS),
    "sasl.oauthbearer.jwt.validator.class": _validator,
    "sasl.login.callback.handler.class": _word(_LOGIN_HANDLERS),
    "ssl.engine.factory.class": _engine,
}


def _acks(name: str, value: object) -> object:
    if value is True or value is False:
        raise ValueError("not bool")
    text = str(value).strip().lower()
    return "all" if text == "-1" else text


def _reset(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    words = {"smallest": "earliest", "beginning": "earliest", "largest": "latest", "end": "latest", "error": "none"}
    text = value.strip()
    if text.lower().startswith("by_duration:"):
        return "by_duration:" + text[12:].upper()
    return words.get(text.lower(), text.lower())


def _endpoint_identification(name: str, value: object) -> object:
    """Empty means off in Kafka, `none` in librdkafka; what is neither is a mistake that would switch a check off."""
    text = value.strip().lower() if isinstance(value, str) else value
    if text in ("", "none"):
        return ""
    if text != "https":
        raise ConfigError(f"{name} cannot be {value!r}: write https, or nothing (an empty text) to switch it off.")
    return "https"


def _assignors(name: str, value: object) -> object:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable) or isinstance(items, bytes):
        items = [items]
    found: list[object] = []
    for item in items:
        text = item.strip() if isinstance(item, str) else item
        if isinstance(text, str):
            text = _import(name, text) if ":" in text else _JAVA_CLASSES.get(text, text)
            if isinstance(text, str) and text not in ASSIGNORS:
                raise ConfigError(
                    f"{name} cannot contain {item!r}: it takes {', '.join(ASSIGNORS)}, and objects that assign."
                )
        found.append(text)
    if not found:
        raise ConfigError(f"{name} is empty: it takes {', '.join(ASSIGNORS)}, and objects that assign.")
    return found


def _objects(name: str, value: object) -> object:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, Iterable):
        items = [items]
    return [_object(name, item) for item in items if item != ""]


def _object(name: str, item: object) -> object:
    if not isinstance(item, str):
        return item
    if ":" not in item:
        raise ConfigError(_no_java(name, item.strip()))
    return _import(name, item.strip())


def _reporters(name: str, value: object) -> object:
    items = value.split(",") if isinstance(value, str) else value
    if isinstance(items, Iterable):
        items = [item for item in items if item not in ("", "org.apache.kafka.common.metrics.JmxReporter")]
    return _objects(name, items)


def _protocols(name: str, value: object) -> object:
    text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    if isinstance(text, str):
        for old in ("TLSv1.1", "TLSv1", "SSLv3", "SSLv2Hello", "SSLv2"):
            if old in [item.strip() for item in text.split(",")]:
                raise ConfigError(f"{name} cannot have {old}: it is not safe. Use TLSv1.2 or TLSv1.3.")
    return value


def _lower(name: str, value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _upper(name: str, value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


SPECIAL: Final[dict[str, Callable[[str, object], object]]] = {
    "acks": _acks,
    "auto.offset.reset": _reset,
    "bootstrap.controllers": parse_bootstrap_servers,
    "bootstrap.servers": parse_bootstrap_servers,
    "broker.address.family": _lower,
    "compression.type": _lower,
    "interceptor.classes": _objects,
    "isolation.level": _lower,
    "metric.reporters": _reporters,
    "metrics.recording.level": _upper,
    "partition.assignment.strategy": _assignors,
    "sasl.mechanism": _upper,
    "share.acknowledgement.mode": _lower,
    "share.acquire.mode": _lower,
    "ssl.enabled.protocols": _protocols,
    "ssl.endpoint.identification.algorithm": _endpoint_identification,
    "ssl.protocol": _protocols,
}
"""What happens to a value before it is read by its type."""

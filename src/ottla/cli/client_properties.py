"""How a client logs in, as settings to copy: a `client.properties` that Java's clients, Kafka's tools and Ottla's own
take alike, and the same in librdkafka's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PLACEHOLDER: Final = "<password>"
"""Stands for a password that whoever reads it knows better than we."""

_SCRAM_MODULE: Final = "org.apache.kafka.common.security.scram.ScramLoginModule"
_SHARED: Final = (
    "bootstrap.servers",
    "security.protocol",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.certificates",
    "ssl.truststore.password",
    "ssl.endpoint.identification.algorithm",
)
"""What does not depend on who logs in."""


def scram_settings(
    base: Mapping[str, str], user: str, password: str | None, mechanism: str, *, token: bool = False
) -> dict[str, str]:
    """The settings of a client by Kafka's names: where to go from `base`, and who it is. Without a password there is
    a placeholder for it. `token`: user and password are the id and HMAC of a delegation token."""
    shared = {name: base[name] for name in _SHARED if base.get(name)}
    over_tls = shared.get("security.protocol", "").upper().endswith("SSL")
    options = f'username="{_quoted(user)}" password="{_quoted(password or PLACEHOLDER)}"'
    if token:
        options += ' tokenauth="true"'
    return {
        **shared,
        "security.protocol": "SASL_SSL" if over_tls else "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "sasl.jaas.config": f"{_SCRAM_MODULE} required {options};",
    }


def librdkafka_of(settings: Mapping[str, str]) -> dict[str, str]:
    """What `scram_settings` says, by librdkafka's names (confluent-kafka, kcat, many languages)."""
    from ottla.security.jaas import parse_jaas

    user = parse_jaas(settings["sasl.jaas.config"]).options
    found = {name: settings[name] for name in ("bootstrap.servers", "security.protocol") if name in settings}
    for name, theirs in (("ssl.truststore.location", "ssl.ca.location"), ("ssl.truststore.certificates", "ssl.ca.pem")):
        if name in settings:
            found[theirs] = settings[name]
    if not settings.get("ssl.endpoint.identification.algorithm", "https"):
        found["ssl.endpoint.identification.algorithm"] = "none"
    return {
        **found,
        "sasl.mechanism": settings["sasl.mechanism"],
        "sasl.username": user["username"],
        "sasl.password": user["password"],
    }


def properties_text(settings: Mapping[str, str]) -> str:
    """The settings as a properties file of Java's."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in settings.items())


def librdkafka_text(settings: Mapping[str, str]) -> str:
    """The settings as a file of librdkafka's programs, which take values as they are."""
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _quoted(value: str) -> str:
    """A value between the quotes of a JAAS option."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _escaped(value: str) -> str:
    """A value in a properties file."""
    return value.replace("\\", "\\\\").replace("\r\n", "\n").replace("\n", "\\n")

"""Who the client says it is: from `sasl.username` and `sasl.password`, or from `sasl.jaas.config`."""

from __future__ import annotations

from typing import NamedTuple

from ottla.client.errors import ConfigError
from ottla.client.security.jaas import JaasEntry, parse_jaas
from ottla.client.settings import CommonSettings

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI")

_MODULES = {
    "PLAIN": "PlainLoginModule",
    "SCRAM-SHA-256": "ScramLoginModule",
    "SCRAM-SHA-512": "ScramLoginModule",
    "OAUTHBEARER": "OAuthBearerLoginModule",
    "GSSAPI": "Krb5LoginModule",
}


class UserAndPassword(NamedTuple):
    """For PLAIN and SCRAM."""

    username: str
    password: str
    is_token: bool = False
    """The user name is the id of a delegation token (SCRAM only)."""

    def __repr__(self) -> str:
        return f"UserAndPassword({self.username!r}, [hidden])"


class Kerberos(NamedTuple):
    """For GSSAPI."""

    service: str
    principal: str | None
    keytab: str | None


def jaas_entry(settings: CommonSettings) -> JaasEntry | None:
    """The entry of `sasl.jaas.config`, checked to belong to `sasl.mechanism`; None without one."""
    mechanism = settings.sasl_mechanism
    if mechanism not in MECHANISMS:
        raise ConfigError(f"sasl.mechanism cannot be {mechanism!r}: it takes one of {', '.join(MECHANISMS)}.")
    if settings.sasl_jaas_config is None:
        return None
    entry = parse_jaas(settings.sasl_jaas_config.value)
    if entry.module != _MODULES[mechanism]:
        raise ConfigError(
            f"sasl.jaas.config has a {entry.module}, but sasl.mechanism is {mechanism}, which needs a "
            f"{_MODULES[mechanism]}."
        )
    return entry


def user_and_password(settings: CommonSettings) -> UserAndPassword:
    """For PLAIN and SCRAM; `ConfigError` when they are missing."""
    entry = jaas_entry(settings)
    if entry is not None:
        missing = [name for name in ("username", "password") if name not in entry.options]
        if missing:
            raise ConfigError(f"sasl.jaas.config has no {missing[0]}.")
        is_token = entry.options.get("tokenauth", "").lower() == "true"
        return UserAndPassword(entry.options["username"], entry.options["password"], is_token)
    if settings.sasl_username is None or settings.sasl_password is None:
        raise ConfigError(f"sasl.mechanism is {settings.sasl_mechanism}: set sasl.username and sasl.password.")
    return UserAndPassword(settings.sasl_username, settings.sasl_password.value)


def kerberos(settings: CommonSettings) -> Kerberos:
    """For GSSAPI; the service is `kafka` unless something else is said."""
    entry = jaas_entry(settings)
    options = {} if entry is None else entry.options
    service, jaas_service = settings.sasl_kerberos_service_name, options.get("serviceName")
    if service and jaas_service and service != jaas_service:
        raise ConfigError(
            f"sasl.kerberos.service.name is {service}, but sasl.jaas.config says {jaas_service}. Leave one out."
        )
    uses_keytab = options.get("useKeyTab", "").lower() == "true"
    return Kerberos(
        service or jaas_service or "kafka",
        settings.sasl_kerberos_principal or options.get("principal"),
        settings.sasl_kerberos_keytab or (options.get("keyTab") if uses_keytab else None),
    )

"""Which mechanisms a server can offer, and who makes them.

`sasl.server.callback.handler.class` may name a class of one's own, as `module:Class`. For PLAIN it is a `Passwords`
(`plain.py`); for every other mechanism it is the whole `MechanismService`. Either is made with the `Surroundings`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ottla.schema.definition import Password
from ottla.security.errors import SecurityConfigError
from ottla.security.jaas import parse_jaas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.server.security.sasl.mechanism import MechanismService, Surroundings

HANDLER_CLASS: Final = "sasl.server.callback.handler.class"
JAAS_CONFIG: Final = "sasl.jaas.config"

_MODULES: Final = {
    "PLAIN": "plain",
    "SCRAM-SHA-256": "scram",
    "SCRAM-SHA-512": "scram",
    "OAUTHBEARER": "oauthbearer",
    "GSSAPI": "gssapi",
}

MECHANISMS: Final = tuple(_MODULES)
"""What there is, besides mechanisms with a class of their own."""

_OWN_CLASSES: Final = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
    "org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler",
    "org.apache.kafka.common.security.plain.internals.PlainServerCallbackHandler",
    "org.apache.kafka.common.security.scram.internals.ScramServerCallbackHandler",
    "org.apache.kafka.common.security.authenticator.SaslServerCallbackHandler",
)
"""Kafka's own: they are what Ottla does itself, and for the mechanism's module to look at."""


def open_service(surroundings: Surroundings) -> MechanismService:
    """The mechanism of these surroundings. Raises SecurityConfigError."""
    mechanism = surroundings.mechanism
    own: str | None = surroundings.settings.get(HANDLER_CLASS)
    if own and own not in _OWN_CLASSES:
        made = _class_of(own)(surroundings)
        if mechanism == "PLAIN":
            from ottla.server.security.sasl.plain import PlainService

            return PlainService(made)
        service: MechanismService = made
        return service
    name = _MODULES.get(mechanism)
    if name is None:
        raise SecurityConfigError(
            "sasl.enabled.mechanisms",
            f"sasl.enabled.mechanisms: there is no mechanism {mechanism}; there are {', '.join(_MODULES)}",
        )
    module = import_module(f"ottla.server.security.sasl.{name}")
    opened: MechanismService = module.open_service(surroundings)
    return opened


def jaas_options(surroundings: Surroundings, module: str) -> Mapping[str, str]:
    """The options of the mechanism's JAAS entry, which must be for this login module. Raises SecurityConfigError."""
    key = f"listener.name.{surroundings.listener_name.lower()}.{surroundings.mechanism.lower()}.{JAAS_CONFIG}"
    text = surroundings.settings.get(JAAS_CONFIG)
    if text is None:
        raise SecurityConfigError(
            key, f'{key} is missing: {surroundings.mechanism} needs it, as in {module} required user_alice="…";'
        )
    try:
        entry = parse_jaas(text.value if isinstance(text, Password) else text)
    except SecurityConfigError as error:
        raise SecurityConfigError(key, error.message.replace(JAAS_CONFIG, key, 1)) from None
    if entry.module != module:
        raise SecurityConfigError(key, f"{key} is for {entry.module}; {surroundings.mechanism} needs a {module}")
    return entry.options


def _class_of(text: str) -> Any:
    module_name, colon, name = text.partition(":")
    if not colon:
        raise SecurityConfigError(
            HANDLER_CLASS,
            f"{HANDLER_CLASS}: {text} looks like a Java class, which Ottla cannot load; name a Python class as "
            "module:Class",
        )
    try:
        return getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise SecurityConfigError(HANDLER_CLASS, f"{HANDLER_CLASS}: {text} cannot be loaded: {error}") from None

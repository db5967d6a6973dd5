"""SASL GSSAPI on the server (RFC 4752): Kerberos, through the `gssapi` package (`pip install ottla[gssapi]`).

Each listener has the keytab and the principal that its `sasl.jaas.config` names (a Krb5LoginModule, as for Kafka), so a
process may be several services. Tokens of the context go back and forth until both sides are sure of each other; then
the client chooses from the security layers that are offered: none, as in Kafka. What protects the data is TLS.

A session ends with the client's ticket. (Kafka lets it last; a client that signs in again in time, as its clients do,
does not notice.) Accepting reads the keytab and writes the replay cache, so each step is done in a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from ottla.security.errors import SecurityConfigError
from ottla.security.jaas import parse_jaas
from ottla.server.security.sasl.kerberos_names import SETTING as RULES
from ottla.server.security.sasl.kerberos_names import NoRuleError, ShortNames
from ottla.server.security.sasl.mechanism import AuthenticationError, Mechanism, Step, Surroundings
from ottla.server.security.session import Session

_OFFER: Final = bytes([1, 0, 0, 0])
"""No security layer, and so no bytes in one piece."""

_JAAS: Final = "sasl.jaas.config"
_LONGEST_MESSAGE: Final = 64 * 1024
_FOREVER_S: Final = 2**31
"""A lifetime that GSSAPI gives for what does not end (it counts in 32 bits)."""


def open_service(surroundings: Surroundings) -> GssapiService:
    """GSSAPI as a listener offers it. Raises `SecurityConfigError`."""
    keytab, principal = _service_key(surroundings)
    library = _load()
    try:
        credentials = _credentials(library, keytab, principal)
    except library.exceptions.GSSError as error:
        raise SecurityConfigError(
            _JAAS,
            f"{_JAAS} on listener {surroundings.listener_name}: no key for {principal or 'any service'} in {keytab}: "
            f"{_text(error)}.",
        ) from None
    rules = surroundings.settings.get(RULES) or ["DEFAULT"]
    return GssapiService(surroundings, library, credentials, ShortNames(rules, _default_realm(library)))


class GssapiService:
    """The key of one listener, and what it makes of principals."""

    def __init__(self, surroundings: Surroundings, library: Any, credentials: Any, names: ShortNames) -> None:
        self.surroundings = surroundings
        self.library = library
        self.credentials = credentials
        self.names = names

    def begin(self, client_host: str) -> Mechanism:
        """A new exchange."""
        return GssapiExchange(self)

    async def close(self) -> None:
        """Nothing is held but the key, which exchanges that are under way still need."""


class GssapiExchange:
    """One login: tokens of the context, perhaps an empty message, our offer, the client's choice."""

    def __init__(self, service: GssapiService) -> None:
        self._service = service
        self._context: Any = None
        self._has_offered = False

    async def respond(self, message: bytes) -> Step:
        """The next token, the offer, or a session."""
        if len(message) > _LONGEST_MESSAGE:
            raise AuthenticationError(reason="the Kerberos message is too long")
        step: Step = await self._service.surroundings.run_blocking(self._respond, message)
        return step

    def _respond(self, message: bytes) -> Step:
        library = self._service.library
        try:
            if self._has_offered:
                return Step(b"", self._session(message))
            if self._context is None:
                self._context = library.SecurityContext(creds=self._service.credentials, usage="accept")
                # Failures are raised at once. By default a token that tells the client of them is returned first, and
                # a client that goes away then would never have been refused.
                self._context.__DEFER_STEP_ERRORS__ = False
            if not self._context.complete:
                token = self._context.step(message)
                if token or not self._context.complete:
                    return Step(token or b"")
            elif message:
                raise AuthenticationError(reason="the client goes on although the Kerberos context is complete")
            self._has_offered = True
            return Step(self._context.wrap(_OFFER, False).message)
        except library.exceptions.GSSError as error:
            raise AuthenticationError(reason=f"Kerberos: {_text(error)}") from None

    def _session(self, message: bytes) -> Session:
        chosen = self._context.unwrap(message).message
        if len(chosen) < 4 or chosen[0] != _OFFER[0]:
            raise AuthenticationError(reason="the client wants a GSSAPI security layer, which was not offered")
        # What follows is an authorization id. The client is who its ticket says, whatever it asks for, as in Kafka.
        principal = str(self._context.initiator_name)
        try:
            name = self._service.names.of(principal)
        except NoRuleError as error:
            shown = principal if principal.isprintable() else "?"
            raise AuthenticationError(reason=f"the principal {shown} has no name here: {error}") from None
        lifetime_s = self._context.lifetime
        expires_ms = None
        if lifetime_s is not None and lifetime_s < _FOREVER_S:
            expires_ms = self._service.surroundings.now_ms() + 1000 * lifetime_s
        return Session(f"User:{name}", mechanism="GSSAPI", expires_ms=expires_ms)


def _service_key(surroundings: Surroundings) -> tuple[str, str | None]:
    """The keytab, and the principal whose key in it is used (None: any)."""
    settings: Mapping[str, Any] = surroundings.settings
    where = f"on listener {surroundings.listener_name}"
    text = settings.get(_JAAS)
    example = (
        'com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true keyTab="…" '
        'principal="kafka/host@REALM";'
    )
    if text is None:
        raise SecurityConfigError(
            _JAAS,
            f"GSSAPI {where} needs {_JAAS}: {example} "
            "Without Kerberos, set sasl.enabled.mechanisms, which is GSSAPI otherwise.",
        )
    entry = parse_jaas(getattr(text, "value", text))
    if entry.module != "Krb5LoginModule":
        raise SecurityConfigError(_JAAS, f"{_JAAS} {where} has a {entry.module}; GSSAPI takes: {example}")
    keytab = entry.options.get("keyTab", "").removeprefix("FILE:").removeprefix("file:")
    if not keytab:
        raise SecurityConfigError(_JAAS, f"{_JAAS} {where} has no keyTab: {example}")
    if not os.access(keytab, os.R_OK):
        raise SecurityConfigError(_JAAS, f"{_JAAS} {where}: the keytab {keytab} is not there, or cannot be read.")
    principal = entry.options.get("principal", "")
    service = settings.get("sasl.kerberos.service.name") or entry.options.get("serviceName")
    if service and principal and principal.partition("/")[0] != service:
        raise SecurityConfigError(
            _JAAS, f"{_JAAS} {where} is for {principal}, but sasl.kerberos.service.name is {service}."
        )
    return keytab, principal if principal not in ("", "*") else None


def _credentials(library: Any, keytab: str, principal: str | None) -> Any:
    name = None if principal is None else library.Name(principal, library.NameType.kerberos_principal)
    return library.Credentials(name=name, usage="accept", store={"keytab": f"FILE:{keytab}"})


def _default_realm(library: Any) -> str:
    """The realm of krb5.conf; empty without one: then the rule DEFAULT applies to nobody."""
    try:
        name = library.Name("any", library.NameType.kerberos_principal).canonicalize(library.MechType.kerberos)
    except library.exceptions.GSSError:
        return ""
    return str(name).rpartition("@")[2]


def _load() -> Any:
    try:
        import gssapi
    except ImportError as error:
        raise SecurityConfigError(
            "sasl.enabled.mechanisms",
            f"GSSAPI, the default of sasl.enabled.mechanisms, needs the gssapi package ({error}): name other "
            "mechanisms, or pip install 'ottla[gssapi]'.",
        ) from None
    return gssapi


def _text(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")

"""SASL GSSAPI (RFC 4752): Kerberos, through the `gssapi` package (`pip install ottla[gssapi]`).

Tickets come from the credential cache (`kinit`), or from a keytab when `sasl.kerberos.keytab` (or `keyTab` in
`sasl.jaas.config`) names one; GSSAPI fetches them itself then, into memory: the cache of `kinit` may be somebody
else's, and what is in a keytab has no need of it. Only authentication is asked for, as in Kafka: what
protects the data is TLS.
"""

from __future__ import annotations

import itertools
import re
from types import ModuleType
from typing import Any, Final

from ottla.security.errors import MechanismError, SecurityConfigError

_NO_PROTECTION: Final = 1
"""The security layer that leaves the data as they are."""


class Gssapi:
    """One exchange with the service `service@host`; a client's exchanges share a `cache` for tickets of its keytab."""

    is_slow = True

    def __init__(
        self,
        service: str,
        host: str,
        *,
        principal: str | None = None,
        keytab: str | None = None,
        cache: str | None = None,
        gssapi: Any = None,
    ) -> None:
        self._gssapi = gssapi if gssapi is not None else load_gssapi()
        self._principal = principal
        try:
            name = self._gssapi.Name(f"{service}@{host}", self._gssapi.NameType.hostbased_service)
            self._context = self._gssapi.SecurityContext(
                name=name, creds=self._credentials(principal, keytab, cache), usage="initiate"
            )
        except self._gssapi.exceptions.GSSError as error:
            raise _kerberos_error(error, principal) from error

    def first_message(self) -> bytes:
        return self._step(None)

    def respond(self, challenge: bytes) -> bytes | None:
        if not self._context.complete:
            return self._step(challenge)
        if not challenge:
            return None
        return self._choose_security_layer(challenge)

    def _credentials(self, principal: str | None, keytab: str | None, cache: str | None) -> Any:
        if principal is None and keytab is None:
            return None
        gssapi = self._gssapi
        name = None if principal is None else gssapi.Name(principal, gssapi.NameType.kerberos_principal)
        store = None
        if keytab is not None:
            store = {"client_keytab": f"FILE:{keytab}", "ccache": cache or new_cache()}
        return gssapi.Credentials(name=name, usage="initiate", store=store)

    def _step(self, challenge: bytes | None) -> bytes:
        """A token of the context; empty when the server has still to speak and nothing is left to say."""
        try:
            return self._context.step(challenge) or b""
        except self._gssapi.exceptions.GSSError as error:
            raise _kerberos_error(error, self._principal) from error

    def _choose_security_layer(self, challenge: bytes) -> bytes:
        try:
            offered = self._context.unwrap(challenge).message
        except self._gssapi.exceptions.GSSError as error:
            raise _kerberos_error(error, self._principal) from error
        if len(offered) != 4 or not offered[0] & _NO_PROTECTION:
            raise MechanismError(
                "the broker insists on a GSSAPI security layer.", hint="Use TLS (SASL_SSL) to protect the data."
            )
        wrapped: bytes = self._context.wrap(bytes([_NO_PROTECTION, 0, 0, 0]), False).message
        return wrapped


_caches = itertools.count(1)


def new_cache() -> str:
    """The name of a cache in memory that nobody else has."""
    return f"MEMORY:ottla-{next(_caches)}"


def load_gssapi() -> ModuleType:
    """The `gssapi` package; `SecurityConfigError` when it is not installed."""
    try:
        import gssapi
    except ImportError as error:
        raise SecurityConfigError(
            "sasl.mechanism",
            f"sasl.mechanism=GSSAPI, the default, needs the gssapi package ({error}). "
            "Set sasl.mechanism to PLAIN, SCRAM-SHA-512 or OAUTHBEARER, or pip install 'ottla[gssapi]'.",
        ) from None
    module: ModuleType = gssapi
    return module


def _kerberos_error(error: Exception, principal: str | None) -> MechanismError:
    text = re.sub(r"\b(Major|Minor) \(\d+\): ", "", " ".join(str(error).split()))
    who = f" as {principal}" if principal else ""
    return MechanismError(
        f"Kerberos does not let us in{who}: {text}.",
        hint="Run kinit or set sasl.kerberos.keytab, and check sasl.kerberos.service.name and the broker's host name.",
    )

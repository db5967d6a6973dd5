"""Who is at the other end of a connection, as its authentication has found out."""

from __future__ import annotations

from typing import Final, NamedTuple

ANONYMOUS: Final = "User:ANONYMOUS"
"""The principal of those who need not say who they are."""


class Session(NamedTuple):
    """What is known of an authenticated client; a re-authentication replaces the whole.

    `principal` is `Type:name`, the same text as `RequestContext.principal`.
    """

    principal: str
    groups: tuple[str, ...] = ()
    """Names of the groups its back end (LDAP, token claims) puts it into, without a type."""
    mechanism: str = ""
    """The SASL mechanism; empty for a certificate."""
    expires_ms: int | None = None
    """Wall clock: when the credentials (a token, a ticket) end, whatever connections.max.reauth.ms says."""
    token_id: str | None = None
    """The delegation token that was logged in with (KIP-48): its owner is the principal."""
    client_dn: str | None = None
    """The distinguished name of the client's certificate, where there is one."""

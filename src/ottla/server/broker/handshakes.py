"""TLS handshakes of one listener: who is half-open, who came in as whom, and what went wrong.

A client without a certificate is User:ANONYMOUS; one with a certificate that was checked is what the listener's
`ssl.principal.mapping.rules` make of its subject. (On SASL_SSL the principal comes from SASL, whatever was shown.)

Handshakes that fail are counted as failed logins, and complained of in one line, within limits: on a port that the
internet can reach there is no end to them. Half-open ones end by themselves after `ssl.handshake.timeout.ms`; when
there are more than `ssl.handshake.max.pending`, the oldest has to go: an honest client is done in a few milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ottla.runtime.tls import HandshakeError, ReceiveBuffer, TlsTransport
from ottla.security.distinguished_name import subject_name
from ottla.security.principal_rules import NoMatchingRuleError
from ottla.server.security.session import ANONYMOUS, Session
from ottla.server.security.tls import RenewedContext, principal_rules

if TYPE_CHECKING:
    from ottla.server.broker.connection import Connection
    from ottla.server.broker.listener import Listener

logger = logging.getLogger(__name__)

_MECHANISM: Final = "SSL"
"""What the audit log calls logging in with a certificate."""


class Handshakes:
    """Between a listener's sockets and its connections. Made before the listener opens; reads files. SettingError."""

    def __init__(self, listener: Listener) -> None:
        config = listener.broker.config
        address = listener.address
        self.context = RenewedContext(
            config,
            address.name,
            address.protocol,
            is_server=True,
            verifies_itself=not config.is_single
            and address.name in (config.inter_broker_listener_name, *config.controller_listener_names),
        )
        self._listener = listener
        self._rules = principal_rules(config.for_listener(address.name))
        self._names_principal = address.protocol == "SSL"
        self._timeout_s: float = config["ssl.handshake.timeout.ms"] / 1000
        self._max_pending: int = config["ssl.handshake.max.pending"]
        self._receive_buffer = ReceiveBuffer()
        self._pending: dict[TlsTransport, None] = {}  # the oldest first
        self.failed_count = 0
        """Handshakes that came to nothing: refused, given up, broken off."""

    @property
    def pending_count(self) -> int:
        """Connections whose handshake is not over."""
        return len(self._pending)

    def is_own(self, transport: object) -> bool:
        """Whether a transport is of this kind, which takes ranges of files."""
        return transport.__class__ is TlsTransport

    def before(self, connection: Connection) -> TlsTransport:
        """What stands between the socket and a new connection."""
        transport = TlsTransport(
            connection,
            self.context.context,
            receive_buffer=self._receive_buffer,
            timeout_s=self._timeout_s,
            on_established=self._established,
            on_failed=self._failed,
        )
        self._pending[transport] = None
        if len(self._pending) > self._max_pending:
            next(iter(self._pending)).give_up("too many others are half-open")
        return transport

    def _established(self, transport: TlsTransport) -> None:
        self._pending.pop(transport, None)
        connection = self._connection(transport)
        principal = None
        try:
            if self._names_principal:
                principal = self._log_in(transport, connection)
        except (NoMatchingRuleError, ValueError) as error:
            self._refused(connection, str(error))
            self.failed_count += 1
            transport.abort()
            return
        if self._names_principal:
            self._listener.logins.succeeded += 1
        audit = self._listener.broker.audit
        if audit is not None and principal is not None:
            audit.authentication(connection.context.client_host, self._listener.name, _MECHANISM, principal, True)

    def _log_in(self, transport: TlsTransport, connection: Connection) -> str:
        certificate = transport.peer_certificate()
        if certificate is None:
            return ANONYMOUS
        subject = subject_name(certificate)
        principal = f"User:{self._rules.name(subject)}"
        connection.context.principal = principal
        connection.context.session = Session(principal, client_dn=subject)
        return principal

    def _failed(self, transport: TlsTransport, error: HandshakeError) -> None:
        self.failed_count += 1
        self._pending.pop(transport, None)
        connection = self._connection(transport)
        if error.is_silent:
            logger.debug("no TLS handshake with %s: %s", connection.client, error)
        else:
            self._refused(connection, str(error))

    def _refused(self, connection: Connection, reason: str) -> None:
        self._listener.logins.failed += 1
        audit = self._listener.broker.audit
        if audit is not None:
            host = connection.context.client_host
            audit.authentication(host, self._listener.name, _MECHANISM, None, False, reason)
        now_s = asyncio.get_running_loop().time()
        self._listener.complaints.log(now_s, logging.WARNING, "no TLS handshake with %s: %s", connection.client, reason)

    def _connection(self, transport: TlsTransport) -> Connection:
        return transport.protocol_behind  # type: ignore[return-value]  # `before` has put it there

"""JoinGroup and SyncGroup as the machines see them: the request with what is known of its sender, and the refusals."""

from __future__ import annotations

from collections.abc import Callable

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from ottla.protocol.messages.sync_group import SyncGroupResponse
from ottla.server.coordinator.classic.group import Protocols
from ottla.server.coordinator.result import Pending

PendingJoin = Pending[JoinGroupResponse]
PendingSync = Pending[SyncGroupResponse]


class JoinCall:
    """One JoinGroup request with what the connection says about its sender.

    `may_describe`, set by who knows, says of which topics the sender may know, where not of all.
    """

    __slots__ = ("client_host", "client_id", "may_describe", "pending", "protocols", "request", "version")

    def __init__(
        self, request: JoinGroupRequest, version: int, client_id: str, client_host: str, pending: PendingJoin
    ) -> None:
        self.request = request
        self.version = version
        self.client_id = client_id
        self.client_host = client_host
        self.pending = pending
        self.may_describe: Callable[[str], bool] | None = None
        self.protocols: Protocols = tuple((protocol.name, bytes(protocol.metadata)) for protocol in request.protocols)

    @property
    def rebalance_timeout_ms(self) -> int:
        """Version 0 has none: the session timeout serves as both."""
        return self.request.session_timeout_ms if self.version == 0 else self.request.rebalance_timeout_ms


def refused_join(member_id: str) -> Callable[[ErrorCode], JoinGroupResponse]:
    """Makes the error answers of a join."""
    return lambda code: JoinGroupResponse(error_code=code, member_id=member_id)


def refused_sync(code: ErrorCode) -> SyncGroupResponse:
    """The error answer of a sync."""
    return SyncGroupResponse(error_code=code)

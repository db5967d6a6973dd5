"""Share sessions: what a member of a share group fetches, kept from request to request. One for each member."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ottla.server.broker.broker import RequestContext
    from ottla.server.broker.share.hosted import HostedSharePartition

INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_MAX_EPOCH = 2**31 - 1

PartitionKey = tuple[bytes, int]
"""Topic id and partition index."""


class SharedPartition:
    """A partition in a session. `hosted` is where it was found last."""

    __slots__ = ("hosted", "index", "topic_id")

    def __init__(self, topic_id: bytes, index: int) -> None:
        self.topic_id = topic_id
        self.index = index
        self.hosted: HostedSharePartition | None = None


class ShareSession:
    """One member's session. `epoch` is what its next request must carry; `connection` is the one it was made on."""

    __slots__ = ("connection", "epoch", "group_id", "member_id", "partitions")

    def __init__(self, group_id: str, member_id: str, connection: RequestContext) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.connection = connection
        self.epoch = 1
        self.partitions: dict[PartitionKey, SharedPartition] = {}

    def add(self, keys: Iterable[PartitionKey]) -> None:
        """Fetch these partitions, too."""
        for key in keys:
            if key not in self.partitions:
                self.partitions[key] = SharedPartition(*key)

    def forget(self, keys: Iterable[PartitionKey]) -> None:
        """Fetch these no more; what was acquired of them stays acquired."""
        for key in keys:
            self.partitions.pop(key, None)

    def rotated(self) -> list[SharedPartition]:
        """The partitions, with another one at the front for each epoch, so that none starves."""
        partitions = list(self.partitions.values())
        if len(partitions) > 1:
            first = self.epoch % len(partitions)
            return partitions[first:] + partitions[:first]
        return partitions


class ShareSessions:
    """The sessions of one broker, at most `limit` of them: there is no eviction, who comes late is refused."""

    __slots__ = ("_sessions", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sessions: dict[tuple[str, str], ShareSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[ShareSession]:
        return iter(self._sessions.values())

    def get(self, group_id: str, member_id: str) -> ShareSession:
        """The session; raises ApiError SHARE_SESSION_NOT_FOUND."""
        session = self._sessions.get((group_id, member_id))
        if session is None:
            raise ApiError(ErrorCode.SHARE_SESSION_NOT_FOUND)
        return session

    def open(
        self,
        group_id: str,
        member_id: str,
        connection: RequestContext,
        on_replaced: Callable[[ShareSession], None],
    ) -> ShareSession:
        """A new, empty session in the place of the member's old one. Raises ApiError SHARE_SESSION_LIMIT_REACHED."""
        replaced = self._sessions.pop((group_id, member_id), None)
        if replaced is not None:
            on_replaced(replaced)
        if len(self._sessions) >= self.limit:
            raise ApiError(ErrorCode.SHARE_SESSION_LIMIT_REACHED)
        session = self._sessions[group_id, member_id] = ShareSession(group_id, member_id, connection)
        return session

    def resume(self, group_id: str, member_id: str, epoch: int) -> ShareSession:
        """The session at exactly this epoch, which goes on by one.

        Raises ApiError SHARE_SESSION_NOT_FOUND or INVALID_SHARE_SESSION_EPOCH.
        """
        session = self.get(group_id, member_id)
        if session.epoch != epoch:
            raise ApiError(ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        session.epoch = 1 if epoch == _MAX_EPOCH else epoch + 1
        return session

    def close(self, session: ShareSession) -> bool:
        """Forget a session; False when another one has taken its place, or it was closed before."""
        key = (session.group_id, session.member_id)
        if self._sessions.get(key) is not session:
            return False
        del self._sessions[key]
        return True

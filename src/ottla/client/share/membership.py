"""Membership of a share group (KIP-932): heartbeats, and the assignment they bring.

A share group has no rebalance that anybody waits for: an assignment is a hint where to fetch, and may be in several
hands at once. So this core is small: join with epoch 0, say what is subscribed when it changes, take the assignment.
Times are milliseconds of a monotonic clock.
"""

from __future__ import annotations

from enum import Enum

from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse

JOIN_EPOCH = 0
LEAVE_EPOCH = -1
FIRST_EAGER_MS = 125
"""A member without an assignment asks again so soon, and then after twice the time, up to the heartbeat interval."""
_REJOIN = {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH}
_COORDINATOR_MOVED = {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE}


class Reaction(Enum):
    """What the shell does after a heartbeat."""

    GO_ON = "nothing but to wait for the next one"
    FIND_COORDINATOR = "look for the coordinator anew"
    FAIL = "give up: `error` says why"


class ShareMembership:
    """One member. `member_id` is made by the client, once and for all (KIP-1082)."""

    def __init__(self, group_id: str, member_id: str, rack: str | None, max_poll_interval_ms: int) -> None:
        self.group_id = group_id
        self.member_id = member_id
        self.member_epoch = JOIN_EPOCH
        self.assignment: dict[bytes, tuple[int, ...]] = {}
        """Topic id → partitions to fetch from."""
        self.error: KafkaError | None = None
        self.next_heartbeat_ms = 0
        self._rack = rack
        self._max_poll_interval_ms = max_poll_interval_ms
        self._topics: frozenset[str] = frozenset()
        self._told: frozenset[str] | None = None
        self._polled_ms = 0
        self._eager_ms = FIRST_EAGER_MS
        self._is_away = False
        """Left because the application did not poll; the next poll joins again."""
        self._is_polling = False
        self.may_be_known = False
        """A heartbeat went out since the member left, answered or not: the coordinator may have the member."""

    @property
    def is_active(self) -> bool:
        """Whether there is a membership to keep up."""
        return bool(self._topics) and self.error is None and not self._is_away

    def subscribe(self, topics: frozenset[str], now_ms: int) -> None:
        """What the application wants from now on; empty for nothing (then `leave_request` is due)."""
        self._topics = topics
        self._polled_ms = now_ms
        self.next_heartbeat_ms = now_ms

    def polled(self, now_ms: int, *, waits: bool = False) -> None:
        """The application is there; as long as it `waits` for records it cannot be away."""
        self._polled_ms = now_ms
        self._is_polling = waits
        if self._is_away:
            self._is_away = False
            self.next_heartbeat_ms = now_ms

    def poll_expired(self, now_ms: int) -> bool:
        """Whether the application has been away for max.poll.interval.ms: the member leaves until it is back."""
        return self.is_active and not self._is_polling and now_ms - self._polled_ms >= self._max_poll_interval_ms

    def seconds_until_poll_expires(self, now_ms: int) -> float:
        """Infinity while there is nothing to expire."""
        if not self.is_active or self._is_polling:
            return float("inf")
        return max(0, self._polled_ms + self._max_poll_interval_ms - now_ms) / 1000

    def heartbeat_request(self) -> ShareGroupHeartbeatRequest:
        """The next heartbeat: everything when it joins, afterwards only what changed."""
        is_joining = self.member_epoch == JOIN_EPOCH
        tells = is_joining or self._told != self._topics
        self._told = self._topics
        return ShareGroupHeartbeatRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            member_epoch=self.member_epoch,
            rack_id=self._rack if is_joining else None,
            subscribed_topic_names=sorted(self._topics) if tells else None,
        )

    def leave_request(self) -> ShareGroupHeartbeatRequest:
        """Leave the group; what this member had goes to others at once."""
        return ShareGroupHeartbeatRequest(
            group_id=self.group_id, member_id=self.member_id, member_epoch=LEAVE_EPOCH, subscribed_topic_names=None
        )

    def left(self, *, until_polled: bool = False) -> None:
        """The member is out of the group, for good or until the application polls again."""
        self._join_anew()
        self._is_away = until_polled
        self.may_be_known = False

    def answered(self, response: ShareGroupHeartbeatResponse, now_ms: int, backoff_ms: int) -> Reaction:
        """Take the answer to a heartbeat; `backoff_ms` is the delay before a retry."""
        code = response.error_code
        if not code:
            self.member_epoch = response.member_epoch
            if response.assignment is not None:
                self.assignment = {
                    topic.topic_id: tuple(topic.partitions) for topic in response.assignment.topic_partitions
                }
            interval_ms = response.heartbeat_interval_ms
            if not self.assignment and self._eager_ms < interval_ms:
                # Brokers assign in bundles, a moment after a member came: five seconds later is too late to hear of it.
                interval_ms = self._eager_ms
                self._eager_ms *= 2
            self.next_heartbeat_ms = now_ms + interval_ms
            return Reaction.GO_ON
        self._told = None  # nobody knows what of the request was taken in
        self.next_heartbeat_ms = now_ms + backoff_ms
        if code in _REJOIN:
            self._join_anew()
            self.next_heartbeat_ms = now_ms
            return Reaction.GO_ON
        if code in _COORDINATOR_MOVED:
            self.next_heartbeat_ms = now_ms
            return Reaction.FIND_COORDINATOR
        error = error_for(code, response.error_message)
        if error.retriable:
            return Reaction.GO_ON
        self.error = no_share_groups() if code == ErrorCode.UNSUPPORTED_VERSION else error
        return Reaction.FAIL

    def unanswered(self, now_ms: int, backoff_ms: int) -> None:
        """No answer came: say everything again, a little later."""
        self._told = None
        self.next_heartbeat_ms = now_ms + backoff_ms

    def _join_anew(self) -> None:
        self.member_epoch = JOIN_EPOCH
        self.assignment = {}
        self._eager_ms = FIRST_EAGER_MS
        self._told = None


def no_share_groups() -> UnsupportedVersionError:
    """The brokers are too old, or have share groups switched off."""
    return UnsupportedVersionError(
        "the cluster has no share groups (KIP-932).",
        hint="Have brokers of Kafka 4.1 or newer with the feature share.version at 1.",
    )

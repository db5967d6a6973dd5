"""What the groups of KIP-848 and after have in common: epochs, subscriptions, a target assignment.

A change of members, subscriptions or topics raises the group epoch. The assignor then makes a target assignment for
that epoch, at most once per assignment interval, and each member is brought to it, one heartbeat at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from ottla.server.coordinator.modern_topics import SubscribedTopics
from ottla.server.coordinator.timers import Timer, Timers

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.core.errors import ErrorCode
    from ottla.protocol.message import Struct
    from ottla.server.coordinator.result import Instant, Result

logger = logging.getLogger(__name__)

#: Topic id → partitions, ascending.
Assignment = Mapping[bytes, tuple[int, ...]]

NO_ASSIGNMENT: Assignment = {}

#: Epochs that members send instead of theirs.
JOIN_EPOCH = 0
LEAVE_EPOCH = -1
STATIC_LEAVE_EPOCH = -2

#: Group and assignment epoch of a group without records.
FIRST_EPOCH = 1

_RETRY_MS = 1_000


class ModernMember(Protocol):
    """What this module wants to know of a member; members are immutable."""

    @property
    def member_id(self) -> str: ...

    @property
    def subscribed_topic_names(self) -> frozenset[str]: ...


M = TypeVar("M", bound=ModernMember)


class EpochedGroup:
    """Epochs and subscriptions of one group, whatever it assigns; changed by replay alone.

    Only `needs_metadata_refresh` is ephemeral: whether the topics may look otherwise than when the group was assigned.
    """

    __slots__ = (
        "_refreshed_epoch",
        "_topics",
        "assignment_epoch",
        "assignment_timestamp_ms",
        "group_epoch",
        "group_id",
        "metadata_hash",
        "subscriptions",
    )

    def __init__(self, group_id: str, topics: SubscribedTopics) -> None:
        self.group_id = group_id
        self.group_epoch = FIRST_EPOCH
        self.metadata_hash = 0
        self.assignment_epoch = FIRST_EPOCH
        #: Wall clock of the last assignment; 0 when there was none, or when it is not known.
        self.assignment_timestamp_ms = 0
        #: Topic → how many subscriptions name it.
        self.subscriptions: dict[str, int] = {}
        self._topics = topics
        self._refreshed_epoch: int | None = None

    # -- what the group subscribes to

    def subscribe(self, names: Iterable[str]) -> None:
        """Count one subscription to these topics."""
        for name in names:
            count = self.subscriptions.get(name, 0)
            self.subscriptions[name] = count + 1
            if not count:
                self._topics.subscribe(self.group_id, name)

    def unsubscribe(self, names: Iterable[str]) -> None:
        """Take one subscription to these topics back."""
        for name in names:
            count = self.subscriptions[name] - 1
            if count:
                self.subscriptions[name] = count
            else:
                del self.subscriptions[name]
                self._topics.unsubscribe(self.group_id, name)

    def dissolve(self) -> None:
        """The group is gone: nobody subscribes any more."""
        for name in self.subscriptions:
            self._topics.unsubscribe(self.group_id, name)
        self.subscriptions.clear()

    # -- when to look at the topics again, when to assign

    @property
    def needs_metadata_refresh(self) -> bool:
        """The topics changed, or the epoch that took the change into account was never stored."""
        return self._refreshed_epoch is None or self.group_epoch < self._refreshed_epoch

    def request_metadata_refresh(self) -> None:
        """Topics of the group changed."""
        self._refreshed_epoch = None

    def metadata_refreshed(self, group_epoch: int) -> None:
        """The topics of now are those of this epoch, whose record may still have to be stored."""
        self._refreshed_epoch = group_epoch

    def may_assign(self, interval_ms: int, wall_ms: int) -> bool:
        """Whether enough time has passed since the last assignment; an interval of 0 always lets through.

        An assignment from the future was made before the clock was set back, and says nothing.
        """
        timestamp_ms = self.assignment_timestamp_ms
        return not interval_ms or not timestamp_ms <= wall_ms < timestamp_ms + interval_ms


class ModernGroup(EpochedGroup, Generic[M]):
    """A group whose members subscribe to topics and are assigned partitions; changed by replay alone."""

    __slots__ = ("members", "target")

    def __init__(self, group_id: str, topics: SubscribedTopics) -> None:
        super().__init__(group_id, topics)
        self.members: dict[str, M] = {}
        self.target: dict[str, Assignment] = {}

    # -- members and what they subscribe to

    def put_member(self, member: M) -> None:
        """Take a member in, or in place of what it was before."""
        before = self.members.get(member.member_id)
        self.members[member.member_id] = member
        if before is None:
            self.subscribe(member.subscribed_topic_names)
        elif before.subscribed_topic_names != member.subscribed_topic_names:
            self.subscribe(member.subscribed_topic_names)
            self.unsubscribe(before.subscribed_topic_names)

    def remove_member(self, member_id: str) -> M | None:
        """Take a member out; None when there is none."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self.unsubscribe(member.subscribed_topic_names)
        return member

    def metadata_hash_after(self, removed: Iterable[Iterable[str]] = (), added: Iterable[Iterable[str]] = ()) -> int:
        """The hash of the topics as they are now, once these subscriptions came and went."""
        counts = dict(self.subscriptions)
        for names in added:
            for name in names:
                counts[name] = counts.get(name, 0) + 1
        for names in removed:
            for name in names:
                counts[name] -= 1
        return self._topics.metadata_hash(name for name, count in counts.items() if count)

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member consumes the topic."""
        return topic in self.subscriptions

    def target_of(self, member_id: str) -> Assignment:
        """The member's part of the target assignment."""
        return self.target.get(member_id, NO_ASSIGNMENT)

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        assert all(member.member_id == member_id for member_id, member in self.members.items())
        assert all(count > 0 for count in self.subscriptions.values())
        assert self.assignment_epoch <= self.group_epoch
        assert self.target.keys() <= self.members.keys()


class MemberTimers:
    """One kind of timer (session, rebalance) for the members of all groups of a machine.

    ``expired(group_id, member_id, now)`` is what happens at the deadline; where its records are refused by the log it
    happens again a second later, since nobody else would look at a silent member. A session is moved with each
    heartbeat, which is a dict lookup and a store.
    """

    def __init__(self, timers: Timers, expired: Callable[[str, str, Instant], Result[None]]) -> None:
        self._timers = timers
        self._expired = expired
        self._running: dict[tuple[str, str], Timer] = {}

    def restart(self, group_id: str, member_id: str, deadline_ms: int) -> None:
        """Start the timer, or move it; deadlines are on the monotonic clock."""
        timer = self._running.get((group_id, member_id))
        if timer is not None:
            self._timers.move(timer, deadline_ms)
        else:
            self._start(group_id, member_id, deadline_ms)

    def start_if_absent(self, group_id: str, member_id: str, deadline_ms: int) -> None:
        """Start the timer unless it runs."""
        if (group_id, member_id) not in self._running:
            self._start(group_id, member_id, deadline_ms)

    def cancel(self, group_id: str, member_id: str) -> None:
        """Stop the timer, if it runs."""
        timer = self._running.pop((group_id, member_id), None)
        if timer is not None:
            timer.cancel()

    def runs(self, group_id: str, member_id: str) -> bool:
        """Whether the timer runs."""
        return (group_id, member_id) in self._running

    def _start(self, group_id: str, member_id: str, deadline_ms: int) -> None:
        action = partial(self._run, group_id, member_id)
        self._running[group_id, member_id] = self._timers.schedule(deadline_ms, action)

    def _run(self, group_id: str, member_id: str, now: Instant) -> Result[None]:
        del self._running[group_id, member_id]
        result = self._expired(group_id, member_id, now)
        if result.records:
            appended = result.appended

            def tried(error: ErrorCode | None) -> None:
                if appended is not None:
                    appended(error)
                if error is not None:
                    logger.warning("group %s: timed removal of %s not stored: %s", group_id, member_id, error.name)
                    self.start_if_absent(group_id, member_id, now.monotonic_ms + _RETRY_MS)

            result.appended = tried
        return result


def assignment_of(topic_partitions: Iterable[Struct]) -> Assignment:
    """The assignment in a list of ``topic_id`` and ``partitions``, as requests and records carry it.

    A topic may stand there twice: whoever says so has the partitions of both.
    """
    found: dict[bytes, tuple[int, ...]] = {}
    for item in topic_partitions:
        topic_id: bytes = item.topic_id  # type: ignore[attr-defined]
        found[topic_id] = tuple(sorted((*found.get(topic_id, ()), *item.partitions)))  # type: ignore[attr-defined]
    return found

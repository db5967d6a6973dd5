"""What a leader knows of the replicas that follow it, and which of them are in sync: a core without I/O.

Theory of operation. A follower tells with each fetch what it has (`end_offset`), where its log starts, and in which
broker epoch it runs. It is *caught up* while it had, not longer than `replica.lag.time.max.ms` ago, everything the
leader had at that time. The ISR changes in two steps: the leader proposes (`PendingIsr`), the controller decides. In
between the *maximal* ISR counts for the high watermark: who is about to come in holds it back already, who is about to
go still does. So whatever the controller decides, no record counts as committed that a member of the ISR does not have.

Followers that are caught up but not in the ISR yet (`joining`) hold the high watermark back as well; otherwise they
could run after it for ever.

Times are milliseconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

UNKNOWN_OFFSET = -1
NEVER_MS = -(2**62)


class FollowerProgress:
    """One follower as of its last fetch. `broker_epoch` is None until it has fetched in this leader epoch."""

    __slots__ = (
        "broker_epoch",
        "end_offset",
        "last_caught_up_ms",
        "last_fetch_ms",
        "leader_end_offset",
        "start_offset",
    )

    def __init__(self, last_caught_up_ms: int) -> None:
        self.end_offset = UNKNOWN_OFFSET
        self.start_offset = UNKNOWN_OFFSET
        self.broker_epoch: int | None = None
        self.last_caught_up_ms = last_caught_up_ms
        self.last_fetch_ms = NEVER_MS
        # The leader's log end offset at the time of the last fetch.
        self.leader_end_offset = UNKNOWN_OFFSET

    def fetched(
        self, end_offset: int, start_offset: int, broker_epoch: int, leader_end_offset: int, now_ms: int
    ) -> None:
        """A fetch came from `end_offset`: everything below it is in the follower's log."""
        if end_offset >= leader_end_offset:
            self.last_caught_up_ms = max(self.last_caught_up_ms, now_ms)
        elif end_offset >= self.leader_end_offset >= 0:
            # It has by now what the leader had when it fetched last.
            self.last_caught_up_ms = max(self.last_caught_up_ms, self.last_fetch_ms)
        self.end_offset = end_offset
        self.start_offset = start_offset
        self.broker_epoch = broker_epoch
        self.leader_end_offset = leader_end_offset
        self.last_fetch_ms = now_ms

    def was_waiting(self, end_offset: int, since_ms: int) -> None:
        """Until now it was waiting at the end of the log (`end_offset`), with a fetch that came at `since_ms`."""
        if self.end_offset == end_offset and since_ms > self.last_caught_up_ms:
            self.last_caught_up_ms = self.last_fetch_ms = since_ms
            self.leader_end_offset = end_offset

    def is_caught_up(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> bool:
        """Whether it has everything, or had not long ago."""
        return self.end_offset == leader_end_offset or now_ms - self.last_caught_up_ms <= lag_time_max_ms


class PendingIsr:
    """A change of the ISR the controller was asked for; `isr` is what it shall be."""

    __slots__ = ("added", "isr", "leader_epoch", "partition_epoch", "removed")

    def __init__(
        self,
        isr: tuple[int, ...],
        added: tuple[int, ...],
        removed: tuple[int, ...],
        leader_epoch: int,
        partition_epoch: int,
    ) -> None:
        self.isr = isr
        self.added = added
        self.removed = removed
        self.leader_epoch = leader_epoch
        self.partition_epoch = partition_epoch


class Followers:
    """The followers of one partition, from the moment its leader was elected (`now_ms`)."""

    __slots__ = ("_joining", "_node_id", "isr", "pending", "progress")

    def __init__(self, node_id: int, replicas: Iterable[int], isr: tuple[int, ...], now_ms: int) -> None:
        self._node_id = node_id
        self.isr = isr
        self.pending: PendingIsr | None = None
        self._joining: tuple[int, ...] = ()
        self.progress = {
            # Who is in the ISR has until the lag time is over to fetch for the first time.
            replica: FollowerProgress(now_ms if replica in isr else NEVER_MS)
            for replica in replicas
            if replica != node_id
        }

    @property
    def maximal_isr(self) -> tuple[int, ...]:
        """The ISR with those who are about to come in."""
        return self.isr if self.pending is None else (*self.isr, *self.pending.added)

    @property
    def joining(self) -> tuple[int, ...]:
        """Who is caught up and not in the ISR, as of the last look."""
        return self._joining

    @property
    def is_alone(self) -> bool:
        """Whether nobody but the leader holds the high watermark back."""
        return len(self.isr) <= 1 and self.pending is None and not self._joining

    def update(self, replicas: tuple[int, ...], isr: tuple[int, ...], *, is_known: bool = False) -> None:
        """Take over what the metadata says now; a proposal that is under way is void.

        With `is_known` the controller has told the same before, in an answer: what was proposed on top of that stands,
        or else it might be accepted and not be heeded.
        """
        if not is_known:
            self.isr = isr
            self.pending = None
        self.progress = {
            replica: self.progress.get(replica) or FollowerProgress(NEVER_MS)
            for replica in replicas
            if replica != self._node_id
        }
        self._joining = tuple(
            replica for replica in self._joining if replica in self.progress and replica not in self.isr
        )

    def reelected(self, now_ms: int) -> None:
        """The same leader in another epoch: positions stay known, but nobody is late yet who is in the ISR."""
        for replica, progress in self.progress.items():
            if replica in self.isr:
                progress.last_caught_up_ms = max(progress.last_caught_up_ms, now_ms)

    # Offsets

    def common_end_offset(self, end_offset: int) -> int:
        """Exclusive end of what all of them have who count, starting from the leader's own `end_offset`."""
        pending = self.pending
        isr, joining = self.isr, self._joining
        for replica, progress in self.progress.items():
            if progress.end_offset < end_offset and (
                replica in isr or replica in joining or (pending is not None and replica in pending.added)
            ):
                end_offset = progress.end_offset
        return end_offset

    def low_watermark(self, log_start_offset: int, is_alive: Callable[[int], bool]) -> int:
        """The lowest log start over all replicas that are alive; -1 while one of them has not told."""
        for replica, progress in self.progress.items():
            if progress.start_offset < log_start_offset and is_alive(replica):
                log_start_offset = progress.start_offset
        return log_start_offset

    # In sync or not

    def look_for_joining(
        self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int, is_eligible: Eligible
    ) -> None:
        """Find out again who is caught up and not in the ISR yet."""
        isr = self.isr
        if len(isr) > len(self.progress):
            self._joining = ()
            return
        self._joining = tuple(
            replica
            for replica, progress in self.progress.items()
            if replica not in isr
            and progress.broker_epoch is not None
            and progress.is_caught_up(leader_end_offset, now_ms, lag_time_max_ms)
            and is_eligible(replica, progress.broker_epoch)
        )

    def propose_expansion(
        self,
        replica: int,
        needed_end_offset: int,
        leader_epoch: int,
        partition_epoch: int,
        is_eligible: Eligible,
    ) -> PendingIsr | None:
        """Let a follower in that has everything up to `needed_end_offset`: the high watermark, and the beginning of the
        leader's epoch, so that it could lead without losing what was committed.
        """
        progress = self.progress.get(replica)
        if (
            self.pending is not None
            or replica in self.isr
            or progress is None
            or progress.broker_epoch is None
            or progress.end_offset < needed_end_offset
            or not is_eligible(replica, progress.broker_epoch)
        ):
            return None
        self.pending = PendingIsr((*self.isr, replica), (replica,), (), leader_epoch, partition_epoch)
        return self.pending

    def late(self, leader_end_offset: int, now_ms: int, lag_time_max_ms: int) -> tuple[int, ...]:
        """Members of the ISR that are not caught up any more."""
        return tuple(
            replica
            for replica in self.isr
            if replica != self._node_id
            and (
                (progress := self.progress.get(replica)) is None
                or not progress.is_caught_up(leader_end_offset, now_ms, lag_time_max_ms)
            )
        )

    def propose_shrinking(self, late: tuple[int, ...], leader_epoch: int, partition_epoch: int) -> PendingIsr | None:
        """Go on without those who are late; None while another proposal is under way."""
        if self.pending is not None or not late:
            return None
        isr = tuple(replica for replica in self.isr if replica not in late)
        self.pending = PendingIsr(isr, (), late, leader_epoch, partition_epoch)
        return self.pending

    def settle(self, pending: PendingIsr, isr: tuple[int, ...] | None) -> bool:
        """The controller has answered: the ISR as it is now, or None when nothing was changed. False when `pending` was
        overtaken by other news.
        """
        if self.pending is not pending:
            return False
        self.pending = None
        if isr is not None:
            self.isr = isr
            self._joining = tuple(replica for replica in self._joining if replica not in isr)
        return True

    def check_invariants(self) -> None:
        """For tests: what must hold between any two operations."""
        assert self._node_id not in self.progress
        assert not set(self._joining) & set(self.isr)
        if self.pending is not None:
            assert set(self.pending.isr) == (set(self.isr) | set(self.pending.added)) - set(self.pending.removed)


Eligible = Callable[[int, int], bool]
"""Whether a broker, which says that it runs in this broker epoch, may come into an ISR."""

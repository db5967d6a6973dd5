"""What a share partition is made of: states of records, ranges in flight, changes on their way to the coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.core.errors import ErrorCode

# Delivery states, as they are persisted. They are plain numbers because ranges are compared by them all the time.
AVAILABLE: Final = 0
ACQUIRED: Final = 1
ACKNOWLEDGED: Final = 2
ARCHIVING: Final = 3  # given up, and not yet in the dead-letter queue (KIP-1191)
ARCHIVED: Final = 4

# Acknowledgement types of the protocol.
GAP: Final = 0
ACCEPT: Final = 1
RELEASE: Final = 2
REJECT: Final = 3
RENEW: Final = 4

REJECTED: Final = "Offset rejected by client."
DELIVERY_COUNT_EXCEEDED: Final = "Offset delivery count exceeded the threshold."


class ShareSettings(NamedTuple):
    """A group's settings that the state of its records depends on."""

    record_lock_duration_ms: int = 30_000
    delivery_count_limit: int = 5
    max_record_locks: int = 2_000
    renew_enabled: bool = True
    has_dead_letter_queue: bool = False

    @property
    def throttled_delivery_count(self) -> int:
        """Records delivered this often without success are handed out in ever smaller pieces, so that the one that
        cannot be processed does not take its neighbours with it.
        """
        return max(2, -(-self.delivery_count_limit // 2))


class InFlight:
    """Offsets `[first_offset, end_offset)` that share one state.

    `change` is the change of state that is not settled yet: until then the range keeps its `state` if the change is
    reversible, and gets `target` when it is written. `batch_records` is how many records were handed out together at
    first.
    """

    __slots__ = (
        "batch_records",
        "cause",
        "change",
        "deadline_ms",
        "delivery_count",
        "end_offset",
        "first_offset",
        "member_id",
        "state",
        "target",
    )

    def __init__(self, first_offset: int, end_offset: int, state: int, delivery_count: int) -> None:
        self.first_offset = first_offset
        self.end_offset = end_offset
        self.state = state
        self.delivery_count = delivery_count
        self.batch_records = end_offset - first_offset
        self.member_id = ""
        self.deadline_ms = 0
        self.target = state
        self.cause = ""
        self.change: StateChange | None = None

    @property
    def is_changing(self) -> bool:
        """Nobody may touch it before its change is settled."""
        return self.change is not None and self.change.is_reversible

    @property
    def is_done(self) -> bool:
        """Never to be delivered again."""
        return self.state in (ACKNOWLEDGED, ARCHIVED) and not self.is_changing

    def __repr__(self) -> str:
        return (
            f"InFlight({self.first_offset}, {self.end_offset}, {self.state}, {self.delivery_count}, {self.member_id!r})"
        )


class StateChange:
    """Ranges that change their state together, all or none.

    A reversible change (what a client asked for) takes effect when it is written; any other (a lock that timed out, a
    dead letter that was delivered) has happened already, and is written for the next leader to know.
    """

    __slots__ = ("is_reversible", "is_sent", "on_settled", "ranges")

    def __init__(self, *, is_reversible: bool) -> None:
        self.is_reversible = is_reversible
        self.is_sent = False
        self.ranges: list[InFlight] = []
        self.on_settled: Callable[[ErrorCode], None] | None = None


class StateBatch(NamedTuple):
    """One line of persisted state; both offsets inclusive."""

    first_offset: int
    last_offset: int
    delivery_state: int
    delivery_count: int


class StateWrite(NamedTuple):
    """What one write tells the share coordinator."""

    start_offset: int
    delivery_complete_count: int
    batches: list[StateBatch]


class DeadLetter(NamedTuple):
    """Records `[first_offset, end_offset)` to be put into the dead-letter queue."""

    first_offset: int
    end_offset: int
    delivery_count: int
    cause: str


class AcquireRequest(NamedTuple):
    """Who wants records, and how many. Not `is_strict`, whole batches are handed out: a few more than asked for."""

    member_id: str
    max_records: int
    batch_size: int = 500
    is_strict: bool = False


class Acknowledgement(NamedTuple):
    """One acknowledgement type for offsets `[first_offset, end_offset)`."""

    first_offset: int
    end_offset: int
    type: int

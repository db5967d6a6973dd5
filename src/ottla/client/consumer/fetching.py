"""Which fetches to send now, and what their answers mean.

One request to a broker at a time, for all its partitions that have room in the buffer. While some have none, the broker
must not wait for data of the others, since the full ones may get room at any moment: such requests ask for what is
there, and pause a little when there was nothing.

A partition is fetched from its leader, or from the replica that the leader prefers for our rack (KIP-392), until that
fails or the choice expires. Requests carry the leader epoch, so that neither side is taken in by an outdated view.
Errors of one partition leave it alone for a while, and ask for metadata where that helps; what nobody but the user can
solve goes to him as a chunk without records.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ottla.client.consumer.buffer import Chunk, FetchBuffer
from ottla.client.consumer.filtering import deliverable
from ottla.client.consumer.positions import PartitionState, Stage
from ottla.client.consumer.resets import EARLIEST, ResetStrategy
from ottla.client.consumer.sessions import FetchSession, Wanted
from ottla.client.consumer.subscription import Subscription
from ottla.client.errors import KafkaError, OffsetOutOfRangeError, error_for
from ottla.client.model import Node, TopicPartition
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.fetch import FetchRequest, FetchResponse, PartitionData

if TYPE_CHECKING:
    from ottla.client.network.metadata import ClusterMetadata
    from ottla.client.settings.model import ConsumerSettings

LOG = logging.getLogger("ottla.client")

QUICK_INTERVAL_MS = 20
"""How often to look for data of a broker's other partitions while one of its is held back."""

_NAMES_ONLY_VERSION = 12
_READ_COMMITTED = 1


class FetchLimits(NamedTuple):
    """The settings of fetching."""

    min_bytes: int = 1
    max_wait_ms: int = 500
    max_bytes: int = 50 * 1024 * 1024
    max_partition_bytes: int = 1024 * 1024
    rack: str = ""
    check_crcs: bool = True
    read_committed: bool = False
    preferred_replica_ms: int = 300_000
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 1000

    @classmethod
    def of(cls, settings: ConsumerSettings) -> FetchLimits:
        return cls(
            min_bytes=settings.fetch_min_bytes,
            max_wait_ms=settings.fetch_max_wait_ms,
            max_bytes=settings.fetch_max_bytes,
            max_partition_bytes=settings.max_partition_fetch_bytes,
            rack=settings.client_rack,
            check_crcs=settings.check_crcs,
            read_committed=settings.isolation_level == "read_committed",
            preferred_replica_ms=settings.metadata_max_age_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            retry_backoff_max_ms=settings.retry_backoff_max_ms,
        )

    def backoff_ms(self, attempts: int) -> int:
        """How long to leave something alone that failed `attempts` times before."""
        return min(self.retry_backoff_ms << min(attempts, 16), self.retry_backoff_max_ms)


class Entry(NamedTuple):
    """A partition in a request: an answer counts only when nothing moved meanwhile."""

    state: PartitionState
    incarnation: int
    fetch_offset: int


class Attempt(NamedTuple):
    """A fetch to send."""

    node_id: int
    request: FetchRequest
    max_version: int | None
    entries: dict[TopicPartition, Entry]
    """All partitions of the session."""
    quick: bool


@dataclass(slots=True)
class Outcome:
    """What an answer asks of the shell."""

    metadata_update: bool = False
    leaders: list[tuple[TopicPartition, int, int]] = field(default_factory=list)
    """Hints (KIP-951): partition, leader, leader epoch."""
    nodes: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class FetchCounters:
    """What was fetched so far."""

    requests: int = 0
    failed_requests: int = 0
    bytes: int = 0
    batches: int = 0
    records: int = 0
    """In the batches that are handed out."""


class _Broker:
    """What is under way with one broker."""

    __slots__ = ("attempts", "in_flight", "not_before_ms", "session")

    def __init__(self) -> None:
        self.session = FetchSession()
        self.in_flight = False
        self.not_before_ms = 0
        self.attempts = 0


class Fetching:
    """The core of fetching."""

    def __init__(
        self,
        subscription: Subscription,
        buffer: FetchBuffer,
        limits: FetchLimits,
        reset: ResetStrategy | None,
    ) -> None:
        self.counters = FetchCounters()
        self.needs_metadata = False
        """Set by `plan`: a partition has no leader that is known."""
        self.deadline_ms: int | None = None
        """Set by `plan`: when to plan again, should nothing happen before."""
        self._subscription = subscription
        self._buffer = buffer
        self._limits = limits
        self._reset = reset
        self._brokers: dict[int, _Broker] = {}

    # --- requests

    def metadata_changed(self, metadata: ClusterMetadata) -> None:
        """There may be other leaders."""
        for state in self._subscription.partitions.values():
            self._see(state, metadata)

    def _see(self, state: PartitionState, metadata: ClusterMetadata) -> tuple[int, int] | None:
        """Who leads the partition, and whether it is still the same one."""
        leader = metadata.leader(state.tp)
        if leader is None:
            return None
        topic_id = metadata.topics[state.tp.topic].id
        if topic_id not in (state.topic_id, ZERO_UUID):
            known, state.topic_id = state.topic_id, topic_id
            if known != ZERO_UUID:
                self._made_anew(state)
        state.leader_seen(*leader)
        return leader

    def _made_anew(self, state: PartitionState) -> None:
        """The topic was deleted, and there is another under its name: epochs begin again, and what offsets we have mean
        nothing there. All of its records are news.
        """
        state.leader_epoch = -1
        if not state.has_position:
            return
        LOG.warning("topic %s was deleted and made anew: %s is read from its beginning", state.tp.topic, state.tp)
        self._buffer.reset(state, EARLIEST)

    def plan(
        self, metadata: ClusterMetadata, now_ms: int, connect_delay_ms: Callable[[int], int] = lambda _: 0
    ) -> list[Attempt]:
        """The fetches to send now; each has to be answered with `answered` or `failed`."""
        self.needs_metadata = False
        self.deadline_ms = None
        wanted: dict[int, dict[TopicPartition, Wanted]] = {}
        held_back: set[int] = set()
        limit = self._limits.max_partition_bytes
        for tp, state in self._subscription.partitions.items():
            if not state.may_fetch(now_ms):
                if state.stage is Stage.FETCHING and state.not_before_ms > now_ms:
                    self._wake_at(state.not_before_ms)
                continue
            leader = self._see(state, metadata)
            if leader is None:
                self.needs_metadata = True
                continue
            if state.stage is not Stage.FETCHING:
                continue
            node_id = self._source(state, leader[0], metadata, now_ms)
            broker = self._brokers.get(node_id)
            if broker is not None and broker.in_flight:
                continue
            if not self._buffer.has_room(state, len(self._subscription.partitions)):
                held_back.add(node_id)
                continue
            topic = metadata.topics.get(tp.topic)
            wanted.setdefault(node_id, {})[tp] = Wanted(
                topic.id if topic is not None else ZERO_UUID, state.fetch_offset, state.leader_epoch, limit
            )
        self._buffer.waits_for_room = bool(held_back)
        attempts = []
        for node_id, partitions in wanted.items():
            broker = self._brokers.setdefault(node_id, _Broker())
            delay_ms = max(broker.not_before_ms - now_ms, connect_delay_ms(node_id))
            if delay_ms > 0:
                self._wake_at(now_ms + delay_ms)
                continue
            attempts.append(self._attempt(node_id, broker, partitions, node_id in held_back))
        return attempts

    def _source(self, state: PartitionState, leader_id: int, metadata: ClusterMetadata, now_ms: int) -> int:
        replica = state.preferred_replica
        if replica < 0 or replica == leader_id:
            return leader_id
        if now_ms >= state.preferred_until_ms or replica not in metadata.brokers:
            state.preferred_replica = -1
            return leader_id
        return replica

    def _attempt(
        self, node_id: int, broker: _Broker, wanted: dict[TopicPartition, Wanted], some_held_back: bool
    ) -> Attempt:
        limits = self._limits
        room = max(self._buffer.limit_bytes - self._buffer.size_bytes, limits.max_partition_bytes)
        request = FetchRequest(
            max_wait_ms=0 if some_held_back else limits.max_wait_ms,
            min_bytes=limits.min_bytes,
            max_bytes=min(limits.max_bytes, room),
            isolation_level=_READ_COMMITTED if limits.read_committed else 0,
            rack_id=limits.rack,
        )
        broker.session.fill(request, wanted)
        broker.in_flight = True
        self.counters.requests += 1
        states = self._subscription.partitions
        entries = {tp: Entry(states[tp], states[tp].incarnation, want.fetch_offset) for tp, want in wanted.items()}
        by_id = all(want.topic_id != ZERO_UUID for want in wanted.values())
        return Attempt(node_id, request, None if by_id else _NAMES_ONLY_VERSION, entries, some_held_back)

    def _wake_at(self, at_ms: int) -> None:
        if self.deadline_ms is None or at_ms < self.deadline_ms:
            self.deadline_ms = at_ms

    # --- answers

    def failed(self, attempt: Attempt, now_ms: int) -> Outcome:
        """No answer came: the connection broke, or it took too long."""
        broker = self._brokers[attempt.node_id]
        broker.in_flight = False
        broker.session.failed()
        self.counters.failed_requests += 1
        self._back_off(broker, now_ms)
        for state, _, _ in attempt.entries.values():
            if state.preferred_replica == attempt.node_id:
                state.preferred_replica = -1
        return Outcome(metadata_update=True)

    def answered(self, attempt: Attempt, response: FetchResponse, now_ms: int) -> Outcome:
        """Put what came into the buffer."""
        broker = self._brokers[attempt.node_id]
        broker.in_flight = False
        outcome = Outcome()
        found = broker.session.accept(response)
        if found is None:
            outcome.metadata_update = response.error_code == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR
            if broker.attempts or response.error_code not in (
                ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
                ErrorCode.INVALID_FETCH_SESSION_EPOCH,
            ):
                self._back_off(broker, now_ms)
            else:
                broker.attempts = 1
            return outcome
        broker.attempts = 0
        broker.not_before_ms = 0
        got_data = False
        for tp, data in found.items():
            entry = attempt.entries[tp]
            state = entry.state
            if (state.incarnation, state.fetch_offset) != entry[1:] or self._subscription.partitions.get(
                tp
            ) is not state:
                continue
            if data.error_code:
                self._refused(state, entry, data, now_ms, outcome, attempt.node_id)
            else:
                got_data = self._received(state, entry, data, now_ms) or got_data
        if attempt.quick and not got_data:
            broker.not_before_ms = now_ms + QUICK_INTERVAL_MS
        if outcome.leaders:
            outcome.nodes = [Node(node.node_id, node.host, node.port, node.rack) for node in response.node_endpoints]
        return outcome

    def _received(self, state: PartitionState, entry: Entry, data: PartitionData, now_ms: int) -> bool:
        state.attempts = 0
        if data.high_watermark >= 0:
            state.high_watermark = data.high_watermark
        if data.last_stable_offset >= 0:
            state.last_stable_offset = data.last_stable_offset
        if data.log_start_offset >= 0:
            state.log_start_offset = data.log_start_offset
        if data.preferred_read_replica >= 0:
            state.preferred_replica = data.preferred_read_replica
            state.preferred_until_ms = now_ms + self._limits.preferred_replica_ms
        if data.diverging_epoch.end_offset >= 0:
            state.stage = Stage.VALIDATING
            return False
        records = data.records
        if not records or state.stage is not Stage.FETCHING:
            return False
        aborted = (data.aborted_transactions or ()) if self._limits.read_committed else None
        batches, end_offset, end_epoch, error = deliverable(
            state.tp,
            records,
            entry.fetch_offset,
            state.fetch_epoch,
            aborted=aborted,
            check_crcs=self._limits.check_crcs,
        )
        self.counters.bytes += len(records)
        self.counters.batches += len(batches)
        self.counters.records += sum([header.records_count for _, header in batches])
        self._subscription.last_in_turn(state.tp)
        state.fresh = False
        if end_offset > entry.fetch_offset:
            check_crcs = self._limits.check_crcs
            self._buffer.add(Chunk(state, records, batches, end_offset, end_epoch, check_crcs=check_crcs))
        if error is not None:
            self._tell(state, error)
        return True

    def _refused(
        self,
        state: PartitionState,
        entry: Entry,
        data: PartitionData,
        now_ms: int,
        outcome: Outcome,
        node_id: int,
    ) -> None:
        code = data.error_code
        self._subscription.last_in_turn(state.tp)
        state.failed(now_ms, self._limits.backoff_ms(state.attempts))
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._out_of_range(state, entry, node_id)
            return
        if state.preferred_replica == node_id:
            state.preferred_replica = -1  # back to the leader, who may choose again
        if code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH):
            leader = data.current_leader
            if leader.leader_id >= 0 and leader.leader_epoch > state.leader_epoch:
                outcome.leaders.append((state.tp, leader.leader_id, leader.leader_epoch))
                return
        known = ERRORS.get(code)
        if code == ErrorCode.UNKNOWN_SERVER_ERROR or code == ErrorCode.UNKNOWN_LEADER_EPOCH:
            return
        if known is not None and known.retriable and code != ErrorCode.CORRUPT_MESSAGE:
            outcome.metadata_update = True
            return
        self._tell(state, _fetch_error(state.tp, entry.fetch_offset, code))

    def _out_of_range(self, state: PartitionState, entry: Entry, node_id: int) -> None:
        """Believed when the leader says so, and when the user has got all that was there before."""
        if state.preferred_replica == node_id:
            state.preferred_replica = -1
            state.not_before_ms = 0
        elif state.position != entry.fetch_offset or state.chunks:
            return  # asked again after the back-off
        elif self._reset is not None:
            self._buffer.reset(state, self._reset)
        else:
            self._tell(
                state,
                OffsetOutOfRangeError(
                    f"The offset {entry.fetch_offset} of {state.tp} is out of range, and auto.offset.reset is none.",
                    hint="Seek to an offset that exists.",
                ),
            )

    def _tell(self, state: PartitionState, error: KafkaError) -> None:
        self._buffer.add(Chunk(state, b"", [], state.fetch_offset, state.fetch_epoch, error))

    def _back_off(self, broker: _Broker, now_ms: int) -> None:
        broker.not_before_ms = now_ms + self._limits.backoff_ms(broker.attempts)
        broker.attempts += 1

    # --- the end

    def closing_requests(self) -> list[tuple[int, FetchRequest]]:
        """Requests that end the sessions, so that brokers can forget them at once. Not where a fetch is waiting for
        records: the broker would look at another request only when that is over.
        """
        requests = []
        for node_id, broker in self._brokers.items():
            if broker.in_flight:
                continue
            request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=0)
            if broker.session.closing_request(request):
                requests.append((node_id, request))
        return requests

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        for broker in self._brokers.values():
            broker.session.check_invariants()
        self._subscription.check_invariants()
        self._buffer.check_invariants()


def _fetch_error(tp: TopicPartition, offset: int, code: int) -> KafkaError:
    known = ERRORS.get(code)
    said = known.message if known is not None else f"The broker answered with the unknown error {code}."
    return error_for(code, f"{tp} could not be fetched at offset {offset}: {said}")

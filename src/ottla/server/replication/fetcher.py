"""Fetching partitions from one leader: a core without I/O.

Theory of operation. A `LeaderFetcher` holds the partitions that this broker follows on one leader. `next_request` says
what to ask: a Fetch with an incremental session (KIP-227), so that only what has changed is listed, or ListOffsets when
the leader has nothing at the wanted offset. `fetched` and `offsets_found` take the answers: records go to the log as
they are, high watermark and log start are the leader's. One request is under way at a time.

Logs that have parted are found by epochs (KIP-595): a fetch names the epoch of the last record it has; a leader that
knows another end of that epoch answers with it instead of records, the log is cut to where both agree, and asks again.
Nothing else ever cuts below the high watermark.

A partition that was refused waits, up to `backoff_ms`; one whose leader epoch is an old one, or whose disk has failed,
waits for metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState
from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.records.batch import CorruptRecordError

if TYPE_CHECKING:
    from ottla.protocol.messages.fetch import EpochEndOffset, FetchResponse, PartitionData
    from ottla.protocol.messages.list_offsets import ListOffsetsPartitionResponse, ListOffsetsResponse
    from ottla.server.replication.partition import Partition
    from ottla.server.replication.throttle import ReplicationThrottle

logger = logging.getLogger(__name__)

LATEST = -1
EARLIEST = -2
MAX_EPOCH = 2**31 - 1
# So long a throttled partition waits before somebody looks again.
THROTTLED_MS = 100
# A leader may hear of its election a moment after those who follow it: the first refusals are no reason to wait long.
FIRST_BACKOFF_MS = 10

_SESSION_GONE = frozenset((ErrorCode.FETCH_SESSION_ID_NOT_FOUND, ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR))


@dataclass(frozen=True, slots=True)
class FetcherSettings:
    """The `replica.fetch.*` settings."""

    wait_max_ms: int = 500
    min_bytes: int = 1
    partition_max_bytes: int = 1024 * 1024
    response_max_bytes: int = 10 * 1024 * 1024
    backoff_ms: int = 1000
    """The longest wait after a refusal; each one in a row doubles it until then."""

    def backoff_after(self, failures: int) -> int:
        """Milliseconds to wait after so many failures in a row, of which there is at least one."""
        return min(FIRST_BACKOFF_MS << min(failures - 1, 16), self.backoff_ms)


class Stage(IntEnum):
    """What a followed partition is about."""

    FETCHING = 0
    ASKING_LATEST = 1
    ASKING_EARLIEST = 2
    WAITING_FOR_METADATA = 3


class FollowedPartition:
    """One partition that is fetched. `fetch_offset` is the end of its log; `lag` is in offsets, None while unknown."""

    __slots__ = (
        "fetch_offset",
        "is_listed",
        "lag",
        "leader_epoch",
        "listed_epoch",
        "listed_offset",
        "partition",
        "ready_at_ms",
        "refusals",
        "stage",
    )

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.leader_epoch = partition.leader_epoch
        self.fetch_offset = partition.log.log_end_offset
        self.lag: int | None = None
        self.stage = Stage.FETCHING
        self.ready_at_ms = 0
        self.refusals = 0
        # What the leader's session has of it.
        self.is_listed = False
        self.listed_offset = self.listed_epoch = -1

    @property
    def key(self) -> tuple[bytes, int]:
        """Topic id and partition index: what a request calls it."""
        return self.partition.topic_id, self.partition.partition


class LeaderFetcher:
    """What this broker fetches from one leader, over one connection.

    `throttle` holds throttled partitions back; `broker_epoch` tells in which run this broker is.
    """

    def __init__(
        self,
        node_id: int,
        broker_epoch: Callable[[], int],
        settings: FetcherSettings,
        throttle: ReplicationThrottle | None = None,
    ) -> None:
        self._node_id = node_id
        self._broker_epoch = broker_epoch
        self.settings = settings
        self._throttle = throttle
        self._followed: dict[tuple[bytes, int], FollowedPartition] = {}
        # To be listed, or left out, in the next request.
        self._changed: dict[FollowedPartition, None] = {}
        self._dropped: dict[tuple[bytes, int], None] = {}
        self._delayed: dict[FollowedPartition, None] = {}
        self._asking: dict[FollowedPartition, None] = {}
        self._session_id = 0
        self._session_epoch = 0
        self._paused_until_ms = 0
        self._failures = 0
        # For metrics.
        self.bytes_fetched = self.requests = 0

    # What is followed

    def follow(self, partition: Partition) -> bool:
        """Fetch this partition from now on, in its present leader epoch; whether that is news."""
        key = partition.topic_id, partition.partition
        state = self._followed.get(key)
        if self.follows(partition):
            return False
        if state is not None:
            self.forget(state.partition)
        log = partition.log
        if log.leader_epochs.latest < 0 and log.log_end_offset > log.high_watermark:
            # Records without epochs (of a very old broker) say nothing of where logs part.
            log.truncate_to(log.high_watermark)
        state = self._followed[key] = FollowedPartition(partition)
        state.is_listed = self._dropped.pop(key, True) is None and self._session_id != 0
        if log.failure is not None:
            self._wait_for_metadata(state)  # to fetch is to say that one could be in sync
            return True
        self._changed[state] = None
        self._paused_until_ms = 0
        return True

    def follows(self, partition: Partition) -> bool:
        """Whether this partition is followed in its present leader epoch."""
        state = self._followed.get((partition.topic_id, partition.partition))
        return state is not None and state.partition is partition and state.leader_epoch == partition.leader_epoch

    def forget(self, partition: Partition) -> None:
        """Fetch it no more; fine when it was not fetched."""
        key = partition.topic_id, partition.partition
        state = self._followed.pop(key, None)
        if state is not None:
            for waiting in (self._changed, self._delayed, self._asking):
                waiting.pop(state, None)
            self._unlist(state)

    def partitions(self) -> Iterable[FollowedPartition]:
        """All of them."""
        return self._followed.values()

    def __len__(self) -> int:
        return len(self._followed)

    # Asking

    def deadline_ms(self) -> int | None:
        """When `next_request` may have something to ask that it has not now; None when only `follow` changes that."""
        if not self._followed:
            return None
        times = [state.ready_at_ms for state in self._delayed]
        return max(min(times), self._paused_until_ms) if times else self._paused_until_ms

    def next_request(self, now_ms: int) -> FetchRequest | ListOffsetsRequest | None:
        """What to ask the leader now; None when there is nothing."""
        if now_ms < self._paused_until_ms:
            return None
        for state in [state for state in self._delayed if state.ready_at_ms <= now_ms]:
            del self._delayed[state]
            (self._changed if state.stage is Stage.FETCHING else self._asking)[state] = None
        if self._asking:
            return self._list_offsets()
        if self._throttle is not None and self._throttle.is_used and self._throttle.is_exceeded(now_ms):
            self._hold_throttled(now_ms)
        return self._fetch(now_ms)

    def _hold_throttled(self, now_ms: int) -> None:
        throttle = self._throttle
        assert throttle is not None
        for state in self._followed.values():
            partition = state.partition
            if (
                state.stage is Stage.FETCHING
                and state not in self._delayed
                and (state.lag is None or state.lag > 0)
                and throttle.is_throttled(partition.topic, partition.partition)
            ):
                self._delay(state, now_ms, THROTTLED_MS)

    def _fetch(self, now_ms: int) -> FetchRequest | None:
        is_full = self._session_id == 0 or self._session_epoch == 0
        if is_full:
            listed: Iterable[FollowedPartition] = [
                state
                for state in self._followed.values()
                if state.stage is Stage.FETCHING and state not in self._delayed
            ]
            for state in self._followed.values():
                state.is_listed = False
            self._dropped.clear()
        else:
            listed = self._changed
        topics: dict[bytes, FetchTopic] = {}
        for state in listed:
            partition = state.partition
            topic = topics.get(partition.topic_id)
            if topic is None:
                topic = topics[partition.topic_id] = FetchTopic(topic=partition.topic, topic_id=partition.topic_id)
            log = partition.log
            topic.partitions.append(
                FetchPartition(
                    partition=partition.partition,
                    current_leader_epoch=state.leader_epoch,
                    fetch_offset=state.fetch_offset,
                    last_fetched_epoch=log.leader_epochs.latest,
                    log_start_offset=log.log_start_offset,
                    partition_max_bytes=self.settings.partition_max_bytes,
                )
            )
            self._dropped.pop(state.key, None)
            state.is_listed = True
            state.listed_offset = state.fetch_offset
            state.listed_epoch = state.leader_epoch
        self._changed.clear()
        if not topics and (is_full or not any(state.is_listed for state in self._followed.values())):
            return None
        settings = self.settings
        self.requests += 1
        return FetchRequest(
            replica_state=ReplicaState(replica_id=self._node_id, replica_epoch=self._broker_epoch()),
            replica_id=-1,
            max_wait_ms=settings.wait_max_ms,
            min_bytes=settings.min_bytes,
            max_bytes=settings.response_max_bytes,
            session_id=self._session_id,
            session_epoch=self._session_epoch,
            topics=list(topics.values()),
            forgotten_topics_data=self._forgotten(),
        )

    def _forgotten(self) -> list[ForgottenTopic]:
        forgotten: dict[bytes, ForgottenTopic] = {}
        for topic_id, index in self._dropped:
            forgotten.setdefault(topic_id, ForgottenTopic(topic_id=topic_id)).partitions.append(index)
        self._dropped.clear()
        return list(forgotten.values())

    def _list_offsets(self) -> ListOffsetsRequest:
        topics: dict[str, ListOffsetsTopic] = {}
        for state in self._asking:
            partition = state.partition
            topic = topics.setdefault(partition.topic, ListOffsetsTopic(name=partition.topic))
            topic.partitions.append(
                ListOffsetsPartition(
                    partition_index=partition.partition,
                    current_leader_epoch=state.leader_epoch,
                    timestamp=LATEST if state.stage is Stage.ASKING_LATEST else EARLIEST,
                )
            )
        return ListOffsetsRequest(replica_id=self._node_id, topics=list(topics.values()))

    # Answers

    def request_failed(self, now_ms: int) -> None:
        """There was no answer: begin a new session after a while."""
        self._session_epoch = 0
        self._failures += 1
        self._paused_until_ms = now_ms + self.settings.backoff_after(self._failures)

    def fetched(self, response: FetchResponse, now_ms: int, wall_ms: int) -> None:
        """Take the answer to a Fetch; `wall_ms` is the wall clock, by which segments grow old."""
        code = response.error_code
        if code:
            if code in _SESSION_GONE:
                self._session_id = 0
            elif code != ErrorCode.INVALID_FETCH_SESSION_EPOCH:
                logger.warning("a leader refused to be fetched from: %s", ERRORS.get(code, code))
                self._paused_until_ms = now_ms + self.settings.backoff_ms
            self._session_epoch = 0
            return
        self._failures = 0
        if response.session_id != self._session_id:
            self._session_id = response.session_id
            self._session_epoch = 1 if response.session_id else 0
        elif self._session_id:
            self._session_epoch = 1 if self._session_epoch == MAX_EPOCH else self._session_epoch + 1
        for topic in response.responses:
            for data in topic.partitions:
                state = self._followed.get((topic.topic_id, data.partition_index))
                if (
                    state is not None
                    and state.stage is Stage.FETCHING
                    and state.is_listed
                    and state.listed_offset == state.fetch_offset
                    and state.listed_epoch == state.leader_epoch == state.partition.leader_epoch
                    and state not in self._delayed
                ):
                    self._take(state, data, now_ms, wall_ms)

    def _take(self, state: FollowedPartition, data: PartitionData, now_ms: int, wall_ms: int) -> None:
        try:
            if data.error_code:
                self._refused(state, data.error_code, now_ms)
            elif data.diverging_epoch.epoch >= 0:
                self._cut(state, data.diverging_epoch, wall_ms)
            else:
                self._append(state, data, now_ms, wall_ms)
        except CorruptRecordError as error:
            logger.error("%s was fetched damaged, and is fetched again: %s", state.partition, error)
            self._resync(state)
            self._delay(state, now_ms, self.settings.backoff_ms)
        except ApiError as error:
            self._failed_here(state, error, now_ms)

    def _append(self, state: FollowedPartition, data: PartitionData, now_ms: int, wall_ms: int) -> None:
        partition = state.partition
        log = partition.log
        log_start_offset = log.log_start_offset
        records = data.records
        if log.failure is not None:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, log.failure)
        if records:
            partition.append_from_leader(records, state.leader_epoch, wall_ms)
            self.bytes_fetched += len(records)
            throttle = self._throttle
            if (
                throttle is not None
                and throttle.is_used
                and throttle.is_throttled(partition.topic, partition.partition)
            ):
                throttle.record(len(records), now_ms)
        partition.leader_told(data.high_watermark, data.log_start_offset)
        state.refusals = 0
        state.lag = max(data.high_watermark - log.log_end_offset, 0)
        if log.log_end_offset != state.fetch_offset or log.log_start_offset != log_start_offset:
            self._resync(state)

    def _resync(self, state: FollowedPartition) -> None:
        """Go on at the end of the log, wherever that is now."""
        state.fetch_offset = state.partition.log.log_end_offset
        self._changed[state] = None

    def _cut(self, state: FollowedPartition, diverging: EpochEndOffset, wall_ms: int) -> None:
        """The leader's log has other records than ours behind the end of an epoch: cut ours to where both agree."""
        log = state.partition.log
        epoch, end_offset = log.end_offset_for_epoch(diverging.epoch)
        if epoch == diverging.epoch or epoch < 0:
            target = min(diverging.end_offset, log.log_end_offset)
            if epoch >= 0:
                target = min(target, end_offset)
        else:
            # The leader's epoch is not known here: behind the one before it nothing can be the same.
            target = min(end_offset, log.log_end_offset)
        logger.info(
            "%s is cut from %d to %d: its leader's epoch %d ends at %d",
            *(state.partition, log.log_end_offset, target, diverging.epoch, diverging.end_offset),
        )
        if target < log.high_watermark:
            logger.warning("%s is cut below its high watermark %d", state.partition, log.high_watermark)
        log.truncate_to(target, wall_ms)
        self._resync(state)

    def _refused(self, state: FollowedPartition, code: int, now_ms: int) -> None:
        partition = state.partition
        if code == ErrorCode.OFFSET_OUT_OF_RANGE:
            self._ask(state, Stage.ASKING_LATEST)
        elif code == ErrorCode.FENCED_LEADER_EPOCH:
            self._wait_for_metadata(state)
        else:
            logger.debug("%s cannot be fetched at %d: %s", partition, state.fetch_offset, ERRORS.get(code, code))
            state.refusals += 1
            self._delay(state, now_ms, self.settings.backoff_after(state.refusals))

    def _failed_here(self, state: FollowedPartition, error: ApiError, now_ms: int) -> None:
        partition = state.partition
        if partition.leader_epoch != state.leader_epoch or partition.is_leader:
            self._wait_for_metadata(state)  # it is on its way to another fetcher
        elif error.code == ErrorCode.KAFKA_STORAGE_ERROR:
            logger.error("%s is followed no more: %s", partition, error.message)
            self._wait_for_metadata(state)
        else:
            logger.error("%s cannot take what its leader has: %s", partition, error.message)
            self._resync(state)
            self._delay(state, now_ms, self.settings.backoff_ms)

    def _delay(self, state: FollowedPartition, now_ms: int, delay_ms: int) -> None:
        state.ready_at_ms = now_ms + delay_ms
        self._changed.pop(state, None)
        self._asking.pop(state, None)
        self._delayed[state] = None
        self._unlist(state)

    def _wait_for_metadata(self, state: FollowedPartition) -> None:
        state.stage = Stage.WAITING_FOR_METADATA
        self._changed.pop(state, None)
        self._asking.pop(state, None)
        self._unlist(state)

    def _unlist(self, state: FollowedPartition) -> None:
        if state.is_listed and self._session_id:
            self._dropped[state.key] = None
        state.is_listed = False

    # Where the leader's log begins and ends

    def _ask(self, state: FollowedPartition, stage: Stage) -> None:
        state.stage = stage
        self._unlist(state)
        self._asking[state] = None

    def offsets_found(self, response: ListOffsetsResponse, now_ms: int, wall_ms: int) -> None:
        """Take the answer to ListOffsets."""
        found = {
            (topic.name, answer.partition_index): answer for topic in response.topics for answer in topic.partitions
        }
        for state in list(self._asking):
            answer = found.get((state.partition.topic, state.partition.partition))
            if answer is not None:
                del self._asking[state]
                try:
                    self._use_offset(state, answer, now_ms, wall_ms)
                except ApiError as error:
                    state.stage = Stage.FETCHING
                    self._failed_here(state, error, now_ms)

    def _use_offset(
        self, state: FollowedPartition, answer: ListOffsetsPartitionResponse, now_ms: int, wall_ms: int
    ) -> None:
        log = state.partition.log
        if answer.error_code == ErrorCode.FENCED_LEADER_EPOCH:
            self._wait_for_metadata(state)
        elif answer.error_code or answer.offset < 0:
            state.refusals += 1
            self._delay(state, now_ms, self.settings.backoff_after(state.refusals))
        elif state.stage is Stage.ASKING_LATEST and answer.offset >= log.log_end_offset:
            self._ask(state, Stage.ASKING_EARLIEST)
        elif state.stage is Stage.ASKING_LATEST:
            # An unclean election: the leader has less than we do.
            logger.warning("%s is cut to %d, where its leader's log ends", state.partition, answer.offset)
            log.truncate_to(answer.offset, wall_ms)
            self._fetch_again(state)
        else:
            if answer.offset > log.log_end_offset:
                logger.warning("%s begins anew at %d, where its leader's log starts", state.partition, answer.offset)
                log.truncate_fully_and_start_at(answer.offset, now_ms=wall_ms)
            self._fetch_again(state)

    def _fetch_again(self, state: FollowedPartition) -> None:
        state.stage = Stage.FETCHING
        self._resync(state)

    def check_invariants(self) -> None:
        """For tests: what must hold between any two operations."""
        for key, state in self._followed.items():
            assert state.key == key
            assert not (state in self._delayed and state in self._changed)
            if state.stage is Stage.FETCHING and state not in self._delayed and not state.is_listed:
                assert state in self._changed or self._session_epoch == 0 or self._session_id == 0
            if state.stage is Stage.FETCHING:
                assert state.fetch_offset == state.partition.log.log_end_offset or state.leader_epoch != (
                    state.partition.leader_epoch
                )
        for waiting in (self._changed, self._delayed, self._asking):
            assert all(self._followed.get(state.key) is state for state in waiting)

"""The controller's shell: one writer of the metadata log, and the image that everybody in this process reads."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.histogram import Histogram
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
from ottla.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from ottla.runtime.env import Env
from ottla.schema.config import BrokerConfig
from ottla.server.controller.brokers import BrokerRegistration
from ottla.server.controller.configs import Change, Refusal
from ottla.server.controller.controller import ControllerCore
from ottla.server.controller.result import Charge, Randomness, Result
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.features import BOOTSTRAP_FEATURES, unknown_features
from ottla.server.metadata.image import EMPTY_IMAGE, METADATA_VERSION, ConfigResource, MetadataImage
from ottla.server.metadata.loader import RecordLoader
from ottla.server.metadata.records import RecordWriter, read_frame
from ottla.server.metadata.writer import image_records
from ottla.server.raft.metadata_log import MetadataLog, MetadataLogError

if TYPE_CHECKING:
    from ottla.protocol.messages.alter_partition_reassignments import (
        AlterPartitionReassignmentsRequest,
        AlterPartitionReassignmentsResponse,
    )
    from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
    from ottla.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse
    from ottla.server.controller.client_quotas import Answers, QuotaAlteration
    from ottla.server.controller.features import FeaturesUpdate
    from ottla.server.raft.metadata_log import QuorumDescription

MAX_BATCH_RECORDS: Final = 10_000
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""What goes into one batch of the log; a command with more is written as a metadata transaction (KIP-868)."""

_CODES: Final = {int(code): code for code in ErrorCode}

Listener = Callable[[MetadataDelta, MetadataImage], None]

_log = logging.getLogger(__name__)


class _Publication(NamedTuple):
    """Appended records that wait for their commit."""

    end_offset: int
    delta: MetadataDelta
    image: MetadataImage
    config: BrokerConfig
    done: asyncio.Future[None]


class Controller:
    """Decides, appends, publishes. `image` and `config` are as of the last commit.

    `config` is the broker's configuration with the dynamic settings of the image. When the metadata log fails, every
    later command is refused with KAFKA_STORAGE_ERROR and `on_failure` is called once: what the device holds is unknown,
    so the node should stop.
    """

    def __init__(
        self,
        config: BrokerConfig,
        env: Env,
        log: MetadataLog,
        *,
        node_id: int,
        bootstrap: Sequence[bytes] = (),
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        """`bootstrap` are the framed first records of a new cluster; without any it gets `BOOTSTRAP_FEATURES`."""
        self.image: MetadataImage = EMPTY_IMAGE
        self.config = config
        self.node_id = node_id
        self._env = env
        self._metadata_log = log
        self._bootstrap = bootstrap
        self._on_failure = on_failure
        self._listeners: list[Listener] = []
        self._pending: deque[_Publication] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._snapshot: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        # For metrics: how long decisions and commits take, and what became of snapshots.
        self.decision_times = Histogram(1e-6)
        self.commit_times = Histogram(1e-6)
        self.election_ns = 0
        self.snapshot_ended_ms = -1
        self.snapshot_bytes = 0
        self._producer_ids = iter(range(0))
        self._allocation: asyncio.Task[None] | None = None
        self._started_core: ControllerCore | None = None
        self._writer = RecordWriter({})

    # Life

    async def start(self) -> None:
        """Load the log, lead it, make a new cluster's first records. Raises MetadataLogError for the operator."""
        loader = RecordLoader(EMPTY_IMAGE)
        await self._env.run_blocking(self._load, loader)
        image = loader.take()[1]
        unknown = unknown_features(image)
        if unknown:
            raise MetadataLogError(
                f"the metadata log needs features that this version of Ottla does not know: {', '.join(unknown)}"
            )
        self.image = image
        randomness = Randomness(self._env.random_uuid, self._env.random.randrange)
        self._started_core = ControllerCore(image, self.config, self.node_id, randomness)
        self.config = self._core.config
        self._writer = RecordWriter(image.features)
        if loader.in_transaction:
            # The records were never committed as a whole; Kafka's controllers end such a transaction the same way.
            abort = messages.AbortTransactionRecord(reason="the controller restarted")
            self._metadata_log.append([self._writer.frame(abort)], self._env.clock.now_ms())
        if METADATA_VERSION not in image.features:
            records = [read_frame(frame) for frame in self._bootstrap] or [
                messages.FeatureLevelRecord(name=name, feature_level=level)
                for name, level in BOOTSTRAP_FEATURES.items()
            ]
            # Written with the levels they establish.
            self._writer = RecordWriter({r.name: r.feature_level for r in records if hasattr(r, "feature_level")})
            await self._execute(lambda: self._core.bootstrap(records))
        else:
            await self._metadata_log.commit()

    def _load(self, loader: RecordLoader) -> None:
        for batch in self._metadata_log.load():
            loader.add(map(read_frame, batch.frames), batch.last_offset, batch.epoch, batch.timestamp_ms)
        begin_ns = self._env.work_ns()
        self._metadata_log.lead(self._env.clock.now_ms())
        self.election_ns = self._env.work_ns() - begin_ns

    async def register_broker(self, registration: BrokerRegistration) -> int:
        """This node's broker is ready to serve; its broker epoch."""
        end_offset = self._metadata_log.end_offset
        epoch: int = await self._execute(lambda: self._core.register_broker(registration, end_offset))
        return epoch

    async def stop(self) -> None:
        """Wait for what is under way, fence this node's broker, close the log. Listeners hear nothing any more.

        Fenced, the broker is not waited for by whoever opens the directory next: Apache Kafka would take it for alive
        until its session had run out, and refuse to register it again.
        """
        self._listeners.clear()
        if self._started_core is not None and self._failure is None:
            try:
                await self._execute(self._core.fence_broker)
            except ApiError as error:
                _log.warning("the broker could not be fenced: %s", error.message)
        for task in (self._committing, self._snapshot):
            if task is not None and not task.done():
                await asyncio.wait([task])
        await self._env.run_blocking(self._metadata_log.close)

    @property
    def _core(self) -> ControllerCore:
        assert self._started_core is not None, "not started"
        return self._started_core

    @property
    def broker_epoch(self) -> int:
        """Epoch of this node's registration; -1 before it. The clean shutdown marker holds it."""
        broker = self.image.brokers.get(self.node_id)
        return -1 if broker is None else broker.broker_epoch

    def subscribe(self, listener: Listener) -> None:
        """Have `listener(delta, image)` called after every commit, in order, before the response is released.

        It runs on the event loop and should not fail: an exception is logged, and the others are called all the same.
        """
        self._listeners.append(listener)

    # Commands. Each raises ApiError KAFKA_STORAGE_ERROR when the metadata log cannot take its records.

    async def create_topics(
        self, request: CreateTopicsRequest, *, with_configs: bool = False, charge: Charge | None = None
    ) -> CreateTopicsResponse:
        """Answer CreateTopics. The request's timeout is not needed: the answer takes one fsync."""
        response: CreateTopicsResponse = await self._execute(
            lambda: self._core.create_topics(request, with_configs=with_configs, charge=charge)
        )
        return response

    async def auto_create_topics(self, names: Iterable[str], charge: Charge | None = None) -> dict[str, ErrorCode]:
        """Make topics as the broker's configuration says (internal ones as theirs); each one's error code.

        TOPIC_ALREADY_EXISTS is as good as NONE: somebody else was faster, and the topic can be used.
        """
        wanted = list(names)
        response: CreateTopicsResponse = await self._execute(lambda: self._core.auto_create_topics(wanted, charge))
        return {topic.name: _CODES[topic.error_code] for topic in response.topics}

    async def delete_topics(
        self, request: DeleteTopicsRequest, *, api_version: int = 6, charge: Charge | None = None
    ) -> DeleteTopicsResponse:
        """Answer DeleteTopics."""
        response: DeleteTopicsResponse = await self._execute(
            lambda: self._core.delete_topics(request, api_version=api_version, charge=charge)
        )
        return response

    async def create_partitions(
        self, request: CreatePartitionsRequest, *, charge: Charge | None = None
    ) -> CreatePartitionsResponse:
        """Answer CreatePartitions."""
        response: CreatePartitionsResponse = await self._execute(
            lambda: self._core.create_partitions(request, charge=charge)
        )
        return response

    async def alter_client_quotas(
        self,
        alterations: Iterable[QuotaAlteration],
        *,
        unknown_hosts: Collection[str] = (),
        validate_only: bool = False,
    ) -> Answers:
        """Set and remove client quotas; one answer per entity."""
        answers: Answers = await self._execute(
            lambda: self._core.alter_client_quotas(
                alterations, unknown_hosts=unknown_hosts, validate_only=validate_only
            )
        )
        return answers

    async def alter_configs(
        self,
        resources: Iterable[tuple[ConfigResource, list[Change]]],
        *,
        replace: bool = False,
        validate_only: bool = False,
    ) -> list[Refusal]:
        """Change settings; one answer per resource, in order. `replace` is the old AlterConfigs."""
        answers: list[Refusal] = await self._execute(
            lambda: self._core.alter_configs(resources, replace=replace, validate_only=validate_only)
        )
        return answers

    async def update_features(self, request: UpdateFeaturesRequest, *, api_version: int) -> UpdateFeaturesResponse:
        """Answer UpdateFeatures."""

        def decide() -> Result:
            result = self._core.update_features(request, api_version=api_version, kraft_version=self.kraft_version)
            if result.response.upgrades_kraft:
                self._metadata_log.upgrade_kraft_version(self._env.clock.now_ms())
            return result

        update: FeaturesUpdate = await self._execute(decide)
        return update.response

    async def elect_leaders(self, request: ElectLeadersRequest) -> ElectLeadersResponse:
        """Answer ElectLeaders. Raises ApiError INVALID_REQUEST for an unknown election type."""
        response: ElectLeadersResponse = await self._execute(lambda: self._core.elect_leaders(request))
        return response

    async def alter_partition_reassignments(
        self, request: AlterPartitionReassignmentsRequest
    ) -> AlterPartitionReassignmentsResponse:
        """Answer AlterPartitionReassignments."""
        response: AlterPartitionReassignmentsResponse = await self._execute(
            lambda: self._core.alter_partition_reassignments(request)
        )
        return response

    async def unregister_broker(self, broker_id: int) -> None:
        """Forget a broker. Raises ApiError BROKER_ID_NOT_REGISTERED, or INVALID_REQUEST for this one."""
        await self._execute(lambda: self._core.unregister_broker(broker_id))

    @property
    def has_failed(self) -> bool:
        """Whether the metadata log is of no use any more."""
        return self._failure is not None

    @property
    def metadata_log(self) -> MetadataLog:
        """The log, to be looked at only."""
        return self._metadata_log

    @property
    def kraft_version(self) -> int:
        """Level of `kraft.version`."""
        return self._metadata_log.kraft_version

    def describe_quorum(self) -> QuorumDescription:
        """The quorum of the metadata log, which this node leads."""
        return self._metadata_log.describe_quorum()

    def try_producer_id(self) -> int | None:
        """A fresh producer id, when the block at hand has one left."""
        return next(self._producer_ids, None)

    async def producer_id(self) -> int:
        """A fresh producer id; takes the next block of them when necessary. Never given out before, never again."""
        while True:
            producer_id = next(self._producer_ids, None)
            if producer_id is not None:
                return producer_id
            if self._allocation is None:
                self._allocation = asyncio.ensure_future(self._allocate())
            await asyncio.shield(self._allocation)

    async def _allocate(self) -> None:
        try:
            block = await self._execute(lambda: self._core.allocate_producer_ids(self.broker_epoch))
            self._producer_ids = iter(range(*block))
        finally:
            self._allocation = None

    # The one writer

    async def _execute(self, command: Callable[[], Result]) -> Any:
        """Decide, append, wait for the commit."""
        if self._failure is not None:
            raise self._refusal()
        begin_ns = self._env.work_ns()
        records, response, atomic = command()
        done: asyncio.Future[None] | None
        if records:
            done = self._append(records, atomic).done
        else:
            # Decided on records that are not committed yet, the answer must not be known before they are.
            done = self._pending[-1].done if self._pending else None
        self.decision_times.record(self._env.work_ns() - begin_ns)
        if done is None:
            return response
        # A client that goes away must not take the commit of the others with it.
        await asyncio.shield(done)
        return response

    def _append(self, records: list[Any], atomic: bool) -> _Publication:
        now_ms = self._env.clock.now_ms()
        log = self._metadata_log
        core = self._core
        delta = core.prepare(records)
        batches = _batches(list(map(self._writer.frame, records)), self._writer, atomic)
        first_offset = log.end_offset
        try:
            for batch in batches:
                last_offset = log.append(batch, now_ms)
        except (OSError, MetadataLogError, ApiError) as error:
            if isinstance(error, MetadataLogError) or log.end_offset > first_offset:
                self._fail(error)
            # With nothing appended by a log that goes on (its disk is full, say) nothing has happened, and later
            # commands may fare better.
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"The metadata log refused a write: {error}") from error
        core.replay(delta, last_offset, log.leader_epoch, now_ms)
        if "features" in delta.changed:
            self._writer = RecordWriter(core.image.features)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        publication = _Publication(last_offset + 1, delta, core.image, core.config, done)
        self._pending.append(publication)
        if self._committing is None:
            self._committing = asyncio.ensure_future(self._commit())
        return publication

    async def _commit(self) -> None:
        """Until nothing is pending: wait for the device, publish in order. All that is pending shares an fsync."""
        try:
            while self._pending:
                begin_ns = self._env.work_ns()
                committed = await self._metadata_log.commit()
                self.commit_times.record(self._env.work_ns() - begin_ns)
                while self._pending and self._pending[0].end_offset <= committed:
                    self._publish(self._pending.popleft())
        except Exception as error:
            self._fail(error)
        finally:
            self._committing = None
        self._maybe_snapshot()

    def _publish(self, publication: _Publication) -> None:
        self.image, self.config = publication.image, publication.config
        for listener in self._listeners:
            try:
                listener(publication.delta, publication.image)
            except Exception:
                _log.exception("a listener failed on the metadata at offset %d", publication.image.offset)
        if not publication.done.done():
            publication.done.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """Nothing more can be decided: what was appended may or may not be in the log after a restart."""
        if self._failure is not None:
            return
        self._failure = error
        _log.error("the metadata log failed, no metadata can be changed any more: %s", error)
        while self._pending:
            done = self._pending.popleft().done
            done.set_exception(self._refusal())
            done.exception()  # a waiter that has gone is no reason for a warning
        if self._on_failure is not None:
            self._on_failure(error)

    def _refusal(self) -> ApiError:
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"The metadata log failed: {self._failure}")

    # Snapshots

    def _maybe_snapshot(self) -> None:
        """Start a snapshot when the log has grown, or aged, enough since the last one."""
        log = self._metadata_log
        if self._snapshot is not None or self._failure is not None:
            return
        age_limit_ms: int = self.config["metadata.log.max.snapshot.interval.ms"]
        aged = (
            age_limit_ms > 0
            and log.snapshot_timestamp_ms >= 0
            and self.image.timestamp_ms - log.snapshot_timestamp_ms >= age_limit_ms
        )
        if aged or log.bytes_since_snapshot >= self.config["metadata.log.max.record.bytes.between.snapshots"]:
            self._snapshot = asyncio.ensure_future(self._write_snapshot(self.image))

    async def _write_snapshot(self, image: MetadataImage) -> None:
        try:
            frames = map(RecordWriter(image.features).frame, image_records(image))
            log = self._metadata_log
            size = 0

            def counted() -> Iterator[bytes]:
                nonlocal size
                for frame in frames:
                    size += len(frame)
                    yield frame

            end_offset, timestamp_ms = image.offset + 1, image.timestamp_ms
            await self._env.run_blocking(log.write_snapshot, end_offset, image.epoch, timestamp_ms, counted())
            self.snapshot_bytes = size
            log.drop_before_snapshot()
            self.snapshot_ended_ms = self._env.clock.now_ms()
        except (OSError, MetadataLogError, ApiError) as error:
            # The log still has everything; the next commit tries again.
            _log.warning("no snapshot of the metadata could be written: %s", error)
        finally:
            self._snapshot = None


def _batches(frames: list[bytes], writer: RecordWriter, atomic: bool) -> list[list[bytes]]:
    """Frames as batches of the log; where atomic, more than one only inside a metadata transaction."""
    if len(frames) <= MAX_BATCH_RECORDS and sum(map(len, frames)) <= MAX_BATCH_BYTES:
        return [frames]
    batches: list[list[bytes]] = [[writer.frame(messages.BeginTransactionRecord())] if atomic else []]
    size = 0
    for frame in frames:
        if len(batches[-1]) >= MAX_BATCH_RECORDS or size + len(frame) > MAX_BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(frame)
        size += len(frame)
    if atomic:
        batches[-1].append(writer.frame(messages.EndTransactionRecord()))
    return batches

"""The controller's shell: the one writer of the metadata log, while this node leads it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.histogram import Histogram
from ottla.protocol.messages import metadata_records as messages
from ottla.runtime.env import Env
from ottla.schema.config import BrokerConfig
from ottla.server.controller.alone import BrokerRegistration
from ottla.server.controller.controller import ControllerCore, ProducerIds
from ottla.server.controller.periodic import PeriodicRounds
from ottla.server.controller.result import Charge, Randomness, Result
from ottla.server.metadata.cluster import MORE_FOLLOWS, ClusterMetadata, Prepared
from ottla.server.metadata.features import BOOTSTRAP_FEATURES
from ottla.server.metadata.image import METADATA_VERSION, ConfigResource
from ottla.server.metadata.records import RecordWriter, read_frame
from ottla.server.raft.metadata_log import LeaderAndEpoch, MetadataLog, MetadataLogError, NotLeaderError

if TYPE_CHECKING:
    from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
    from ottla.protocol.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse
    from ottla.protocol.messages.alter_partition_reassignments import (
        AlterPartitionReassignmentsRequest,
        AlterPartitionReassignmentsResponse,
    )
    from ottla.protocol.messages.alter_user_scram_credentials import (
        AlterUserScramCredentialsRequest,
        AlterUserScramCredentialsResponse,
    )
    from ottla.protocol.messages.assign_replicas_to_dirs import (
        AssignReplicasToDirsRequest,
        AssignReplicasToDirsResponse,
    )
    from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
    from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse
    from ottla.protocol.messages.controller_registration import (
        ControllerRegistrationRequest,
        ControllerRegistrationResponse,
    )
    from ottla.protocol.messages.create_delegation_token import (
        CreateDelegationTokenRequest,
        CreateDelegationTokenResponse,
    )
    from ottla.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
    from ottla.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
    from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
    from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
    from ottla.protocol.messages.expire_delegation_token import (
        ExpireDelegationTokenRequest,
        ExpireDelegationTokenResponse,
    )
    from ottla.protocol.messages.renew_delegation_token import (
        RenewDelegationTokenRequest,
        RenewDelegationTokenResponse,
    )
    from ottla.protocol.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse
    from ottla.server.controller.acls import Removal
    from ottla.server.controller.client_quotas import Answers, QuotaAlteration
    from ottla.server.controller.configs import Change, Refusal
    from ottla.server.controller.features import FeaturesUpdate
    from ottla.server.metadata.image import AclImage
    from ottla.server.security.acl_filter import AclFilter

MAX_BATCH_RECORDS: Final = 10_000
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
"""What goes into one batch of the log; a command with more is written as a metadata transaction (KIP-868)."""

_CODES: Final = {int(code): code for code in ErrorCode}

_log = logging.getLogger(__name__)


class _Pending(NamedTuple):
    """Appended records that wait for their commit."""

    last_offset: int
    begin_ns: int
    done: asyncio.Future[None]


class Controller:
    """Decides and appends while this node leads the metadata log; `metadata` publishes what is committed.

    Leading begins with a core made from the committed image, on which uncommitted decisions pile up; both are thrown
    away when leadership moves, and commands under way are refused with NOT_CONTROLLER. When the metadata log fails,
    every later command is refused with KAFKA_STORAGE_ERROR.
    """

    def __init__(
        self,
        config: BrokerConfig,
        env: Env,
        log: MetadataLog,
        metadata: ClusterMetadata,
        *,
        cluster_id: str | None = None,
        bootstrap: Sequence[bytes] = (),
    ) -> None:
        """`bootstrap` are the framed first records of a new cluster; without any it gets `BOOTSTRAP_FEATURES`. Brokers
        of another cluster than `cluster_id` are refused.

        To be made before the log starts: it hears then that this node leads.
        """
        self.metadata = metadata
        self.node_id = metadata.node_id
        self._config = config
        self._env = env
        self._metadata_log = log
        self._cluster_id = cluster_id
        self._bootstrap = bootstrap
        self._pending: deque[_Pending] = deque()
        # For metrics: how long decisions and commits take.
        self.decision_times = Histogram(1e-6)
        self.commit_times = Histogram(1e-6)
        self._producer_ids = iter(range(0))
        self._allocation: asyncio.Task[None] | None = None
        self._active_core: ControllerCore | None = None
        self._epoch = -1
        self._rounds: PeriodicRounds | None = None
        self._writer = RecordWriter({})
        metadata.subscribe_leader(self._on_leader)
        metadata.subscribe_progress(self._on_progress)
        metadata.subscribe_failure(self._on_failure)

    # Leadership

    @property
    def is_active(self) -> bool:
        """This node is the controller of the cluster."""
        return self._active_core is not None

    def _on_leader(self, leader: LeaderAndEpoch) -> None:
        self._resign()
        if leader.leader_id != self.node_id:
            return
        try:
            self._activate(leader.epoch)
        except ApiError as error:
            # Leadership was lost while the first records were written: whoever leads next writes them.
            _log.warning("this node could not begin as the active controller: %s", error.message)
            self._resign()

    def _activate(self, epoch: int) -> None:
        metadata = self.metadata
        randomness = Randomness(self._env.random_uuid, self._env.random.randrange)
        core = self._active_core = ControllerCore(
            metadata.image,
            self._config,
            self.node_id,
            randomness,
            cluster_id=self._cluster_id,
            now_ms=self._now_ms(),
        )
        self._epoch = epoch
        self._writer = RecordWriter(metadata.image.features)
        if metadata.in_transaction:
            # The records were never committed as a whole; Kafka's controllers end such a transaction the same way.
            self._append([messages.AbortTransactionRecord(reason="the controller restarted")], atomic=False)
        if METADATA_VERSION not in metadata.image.features:
            records = [read_frame(frame) for frame in self._bootstrap] or [
                messages.FeatureLevelRecord(name=name, feature_level=level)
                for name, level in BOOTSTRAP_FEATURES.items()
            ]
            # Written with the levels they establish.
            self._writer = RecordWriter({r.name: r.feature_level for r in records if hasattr(r, "feature_level")})
            self._append(core.bootstrap(records).records, atomic=False)  # a transaction of its own
        self._rounds = PeriodicRounds(core, self._submit, self._env.clock.now_ms)

    def _resign(self) -> None:
        """Forget what was decided on records that are not committed; whoever leads now may not have them."""
        self._active_core = None
        self._epoch = -1
        if self._rounds is not None:
            self._rounds.stop()
            self._rounds = None
        self._refuse_pending(_not_controller())

    def _refuse_pending(self, refusal: ApiError) -> None:
        while self._pending:
            done = self._pending.popleft().done
            done.set_exception(refusal)
            done.exception()  # a waiter that has gone is no reason for a warning

    def _on_failure(self, error: BaseException) -> None:
        self._refuse_pending(self._refusal())

    def _refusal(self) -> ApiError:
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"The metadata log failed: {self.metadata.failure}")

    async def register_own_broker(self, registration: BrokerRegistration, *, is_sole: bool = False) -> int | None:
        """This node's broker is ready to serve: registered and unfenced at once. Its broker epoch, or None when others
        are there, so that it has to register as they do.

        `is_sole` says that there can be no others (any more), and none that could send heartbeats.
        """
        core, end_offset = self._core, self._metadata_log.end_offset
        result = core.register_own_broker(registration, end_offset)
        if result is not None:
            epoch: int = await self._execute(lambda: result)
            return epoch
        if not is_sole:
            return None
        for other in list(core.image.brokers.values()):
            if other.broker_id != registration.broker_id and not other.fenced:
                self._submit(partial(core.fence_broker, other.broker_id))
        # Whatever ran before with these directories does no more: this node has their locks.
        core.state.heartbeats.forget(registration.broker_id)
        request = registration.as_request(self._cluster_id or "")
        response, _ = self._submit(lambda: self._register(request, api_version=4))
        await self._execute(lambda: core.unfence_broker(registration.broker_id))
        return int(response.broker_epoch)

    async def stop(self) -> None:
        """Fence this node's broker, if it is alone in the cluster; wait for what is under way.

        Fenced, the broker is not waited for by whoever opens the directory next: Apache Kafka would take it for alive
        until its session had run out, and refuse to register it again.
        """
        if self.is_active and self.metadata.failure is None:
            try:
                await self._execute(self._core.fence_own_broker)
            except ApiError as error:
                _log.warning("the broker could not be fenced: %s", error.message)
        if self._rounds is not None:
            self._rounds.stop()

    @property
    def _core(self) -> ControllerCore:
        if self._active_core is None:
            raise _not_controller()
        return self._active_core

    @property
    def broker_epoch(self) -> int:
        """Epoch of this node's registration; -1 before it. The clean shutdown marker holds it."""
        broker = self.metadata.image.brokers.get(self.node_id)
        return -1 if broker is None else broker.broker_epoch

    # Commands of brokers and controllers. Their errors are those of all commands below, and STALE_BROKER_EPOCH.

    async def register_broker(
        self, request: BrokerRegistrationRequest, *, api_version: int = 4
    ) -> BrokerRegistrationResponse:
        """Answer BrokerRegistration. Raises ApiError for refusals, see `brokers.register`."""
        response: BrokerRegistrationResponse = await self._execute(
            lambda: self._register(request, api_version=api_version)
        )
        return response

    def _register(self, request: BrokerRegistrationRequest, *, api_version: int) -> Result:
        return self._core.register_broker(
            request,
            api_version=api_version,
            offset=self._metadata_log.end_offset,
            kraft_version=self.kraft_version,
            now_ms=self._now_ms(),
        )

    async def broker_heartbeat(self, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
        """Answer BrokerHeartbeat."""
        response: BrokerHeartbeatResponse = await self._execute(
            lambda: self._core.broker_heartbeat(request, self._now_ms())
        )
        if self._rounds is not None:
            self._rounds.watch_sessions()
        return response

    def broker_departed(self, broker_id: int, broker_epoch: int) -> None:
        """The process of this broker is known to have ended: fence it before its session is over, and let it come back
        at once.
        """
        core = self._core
        was_fenced, _ = self._submit(partial(core.fence_departed, broker_id, broker_epoch))
        if was_fenced:
            core.state.heartbeats.forget(broker_id)
            _log.warning("broker %d is fenced, its process has ended", broker_id)

    async def alter_partition(self, request: AlterPartitionRequest, *, api_version: int = 3) -> AlterPartitionResponse:
        """Answer AlterPartition."""
        response: AlterPartitionResponse = await self._execute(
            lambda: self._core.alter_partition(request, api_version=api_version)
        )
        return response

    async def assign_replicas_to_dirs(self, request: AssignReplicasToDirsRequest) -> AssignReplicasToDirsResponse:
        """Answer AssignReplicasToDirs."""
        response: AssignReplicasToDirsResponse = await self._execute(
            lambda: self._core.assign_replicas_to_dirs(request)
        )
        return response

    async def allocate_producer_ids(self, request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse:
        """Answer AllocateProducerIds."""
        from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsResponse

        block: ProducerIds = await self._execute(
            lambda: self._core.allocate_producer_ids(request.broker_id, request.broker_epoch)
        )
        return AllocateProducerIdsResponse(producer_id_start=block.first, producer_id_len=block.end - block.first)

    async def register_controller(self, request: ControllerRegistrationRequest) -> ControllerRegistrationResponse:
        """Answer ControllerRegistration."""
        response: ControllerRegistrationResponse = await self._execute(lambda: self._core.register_controller(request))
        return response

    # Commands of clients. Each raises ApiError NOT_CONTROLLER when this node does not lead, or loses leadership before
    # the records are committed, and KAFKA_STORAGE_ERROR when the metadata log cannot take them.

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

    async def create_acls(self, acls: Sequence[AclImage]) -> list[Refusal]:
        """Add ACLs; one answer for each. Raises ApiError POLICY_VIOLATION for too many."""
        answers: list[Refusal] = await self._execute(lambda: self._core.create_acls(acls))
        return answers

    async def delete_acls(self, filters: Sequence[AclFilter]) -> list[Removal]:
        """Remove ACLs; one answer for each filter. Raises ApiError INVALID_REQUEST for too many."""
        removals: list[Removal] = await self._execute(lambda: self._core.delete_acls(filters))
        return removals

    async def alter_user_scram_credentials(
        self, request: AlterUserScramCredentialsRequest
    ) -> AlterUserScramCredentialsResponse:
        """Answer AlterUserScramCredentials."""
        response: AlterUserScramCredentialsResponse = await self._execute(
            lambda: self._core.alter_user_scram_credentials(request)
        )
        return response

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
        log = self._metadata_log
        end_offset = 0

        def decide() -> Result:
            nonlocal end_offset
            voters = tuple(voter.voter_id for voter in log.describe_quorum().voters)
            result = self._core.update_features(
                request, api_version=api_version, kraft_version=self.kraft_version, voters=voters
            )
            if result.response.upgrades_kraft:
                end_offset = self._logged(lambda: log.upgrade_kraft_version(self._epoch, self._env.clock.now_ms()))
            return result

        update: FeaturesUpdate = await self._execute(decide)
        try:
            await log.wait_committed(end_offset)
        except NotLeaderError as error:
            raise _not_controller() from error
        except (OSError, MetadataLogError) as error:
            raise self._refusal() from error
        return update.response

    async def create_delegation_token(
        self, request: CreateDelegationTokenRequest, requester: str, groups: tuple[str, ...] = ()
    ) -> CreateDelegationTokenResponse:
        """Answer CreateDelegationToken."""
        response: CreateDelegationTokenResponse = await self._execute(
            lambda: self._core.create_delegation_token(request, requester, self._env.clock.now_ms(), groups)
        )
        return response

    async def renew_delegation_token(
        self, request: RenewDelegationTokenRequest, requester: str
    ) -> RenewDelegationTokenResponse:
        """Answer RenewDelegationToken. Raises ApiError for refusals, see `delegation_tokens`."""
        response: RenewDelegationTokenResponse = await self._execute(
            lambda: self._core.renew_delegation_token(request, requester, self._env.clock.now_ms())
        )
        return response

    async def expire_delegation_token(
        self, request: ExpireDelegationTokenRequest, requester: str
    ) -> ExpireDelegationTokenResponse:
        """Answer ExpireDelegationToken. Raises ApiError for refusals, see `delegation_tokens`."""
        response: ExpireDelegationTokenResponse = await self._execute(
            lambda: self._core.expire_delegation_token(request, requester, self._env.clock.now_ms())
        )
        return response

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
    def kraft_version(self) -> int:
        """Level of `kraft.version`."""
        return self._metadata_log.kraft_version

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
            block = await self._execute(lambda: self._core.allocate_producer_ids(self.node_id, self.broker_epoch))
            self._producer_ids = iter(range(*block))
        finally:
            self._allocation = None

    # The one writer

    async def _execute(self, command: Callable[[], Result]) -> Any:
        """Decide, append, wait for the commit."""
        response, done = self._submit(command)
        if done is not None:
            # A client that goes away must not take the commit of the others with it.
            await asyncio.shield(done)
        return response

    def _submit(self, command: Callable[[], Result]) -> tuple[Any, asyncio.Future[None] | None]:
        """Decide and append; the response, and what to wait for before anybody may know it."""
        if self.metadata.failure is not None:
            raise self._refusal()
        if self._active_core is None:
            raise _not_controller()
        begin_ns = self._env.work_ns()
        records, response, atomic = command()
        if records:
            done: asyncio.Future[None] | None = self._append(records, atomic).done
        else:
            # Decided on records that are not committed yet, the answer must not be known before they are.
            done = self._pending[-1].done if self._pending else None
        self.decision_times.record(self._env.work_ns() - begin_ns)
        return response, done

    def _now_ms(self) -> int:
        """Milliseconds of a clock that nobody sets."""
        return int(asyncio.get_running_loop().time() * 1000)

    def _append(self, records: list[Any], atomic: bool) -> _Pending:
        now_ms = self._env.clock.now_ms()
        core, epoch = self._core, self._epoch
        delta = core.prepare(records)
        prepared = Prepared(delta)
        *first_batches, last_batch = _batches(list(map(self._writer.frame, records)), self._writer, atomic)

        def append() -> int:
            for batch in first_batches:
                self._metadata_log.append(epoch, batch, now_ms, MORE_FOLLOWS)
            return self._metadata_log.append(epoch, last_batch, now_ms, prepared)

        last_offset = self._logged(append)
        core.replay(delta, last_offset, epoch, now_ms)
        prepared.image = core.image
        if "features" in delta.changed:
            self._writer = RecordWriter(core.image.features)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pending = _Pending(last_offset, self._env.work_ns(), done)
        self._pending.append(pending)
        return pending

    def _logged(self, append: Callable[[], int]) -> int:
        """Have the log take something: all of it, or ApiError."""
        log = self._metadata_log
        end_offset = log.end_offset
        try:
            return append()
        except NotLeaderError as error:
            self._resign()
            raise _not_controller() from error
        except (OSError, MetadataLogError, ApiError) as error:
            if isinstance(error, ApiError) and error.code != ErrorCode.KAFKA_STORAGE_ERROR:
                raise  # kraft.version cannot be raised, say
            if isinstance(error, MetadataLogError) or log.end_offset > end_offset:
                self.metadata.on_failure(error)
            # With nothing appended by a log that goes on (its disk is full, say) nothing has happened, and later
            # commands may fare better.
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"The metadata log refused a write: {error}") from error

    def _on_progress(self, offset: int) -> None:
        """All before and at `offset` is published: those who wait for it may be answered."""
        pending = self._pending
        while pending and pending[0].last_offset <= offset:
            _, begin_ns, done = pending.popleft()
            self.commit_times.record(self._env.work_ns() - begin_ns)
            if not done.done():
                done.set_result(None)


def _not_controller() -> ApiError:
    return ApiError(ErrorCode.NOT_CONTROLLER)


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

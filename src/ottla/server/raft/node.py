"""`RaftNode`: the metadata log of a node in a cluster, voter or observer: what carries out the quorum core's effects.

Effects are carried out in the order they come. Only `Persist` holds up those behind it, since a vote must be on the
device before it is sent; the log is flushed beside them, as many appends at a time as there are. Time comes from the
event loop, one timer for the core's deadline. What is committed goes to the listener through `Delivery`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import CorruptRecordError
from ottla.runtime.disk import MissingFileError
from ottla.server.peers.errors import PeerError, UnsupportedPeerVersionError
from ottla.server.raft import effects as to_do
from ottla.server.raft.core import LocalReplica, QuorumCore, QuorumSettings
from ottla.server.raft.delivery import Delivery
from ottla.server.raft.leader import Leader
from ottla.server.raft.metadata_log import (
    CommittedBatch,
    LeaderAndEpoch,
    MetadataLogError,
    NotLeaderError,
    QuorumDescription,
    RaftListener,
    VoterState,
)
from ottla.server.raft.quorum_state import read_quorum_state, write_quorum_state
from ottla.server.raft.shell import ReplicaShell
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import address_of

if TYPE_CHECKING:
    from ottla.protocol.message import Request, Response
    from ottla.runtime.env import Env
    from ottla.server.log.flush import FlushTask
    from ottla.server.peers.peers import Peers
    from ottla.server.raft.quorum_state import QuorumState
    from ottla.server.raft.replica_log import DiskReplicaLog

logger = logging.getLogger(__name__)

CHANNEL: Final = "raft"
SHUTDOWN_TIMEOUT_S: Final = 5.0
"""Nobody who leaves waits longer for the others, as in Kafka."""


class RaftNode(ReplicaShell):
    """See `MetadataLog` for the methods. `replica` was opened, and not read yet; `check` may refuse to start with what
    is found in it (MetadataLogError)."""

    def __init__(
        self,
        env: Env,
        replica: DiskReplicaLog,
        local: LocalReplica,
        settings: QuorumSettings,
        peers: Peers,
        check: Callable[[QuorumState], None] | None = None,
    ) -> None:
        super().__init__(env, replica)
        self.local = local
        self.election_ns = 0
        self._settings = settings
        self._peers = peers
        self._check = check
        self._started_core: QuorumCore | None = None
        self._delivery: Delivery | None = None
        self._listener: RaftListener | None = None
        self._effects: deque[to_do.Effect] = deque()
        self._is_held_up = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._requests: dict[asyncio.Future[Response], None] = {}  # in the order in which they came
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._failure: BaseException | None = None
        self._is_stopping = False
        self._unreachable: set[tuple[str, int]] = set()
        """Where the last request got no answer."""
        self._changed: asyncio.Future[None] | None = None

    # Life

    async def start(self, listener: RaftListener) -> None:
        """Recover, hand over the newest snapshot, join the quorum. The only voter leads when this returns."""
        self._listener = listener
        self._delivery = Delivery(self._env, self.replica, listener, self._fail)
        state = await self._env.run_blocking(self._read)
        await self._delivery.start_from_snapshot()
        random_below = self._env.random.randrange
        self._started_core = QuorumCore(
            self.local, self._settings, self.replica, self.replica.history, state, random_below
        )
        begin_ns = self._env.work_ns()
        self._tell(lambda core: core.start(self._now_ms()))
        if self._core.voters.is_only_voter(self.local.key):
            await self._until(lambda: self.is_leader)
            self.election_ns = self._env.work_ns() - begin_ns

    def _read(self) -> QuorumState:
        self.replica.learn()
        state = read_quorum_state(self._env.disk, self.replica.path)
        if self._check is not None:
            self._check(state)
        return state

    async def stop(self) -> None:
        """Resign when leading, and wait a little for a successor; close."""
        core = self._started_core
        if core is not None and self._failure is None:
            # One election: in that time its vote may be needed, and a leader has a successor.
            patience_s = min(SHUTDOWN_TIMEOUT_S, 2 * self._settings.election_timeout_ms / 1000)
            self._tell(lambda core: core.shutdown(self._now_ms()))
            try:
                async with asyncio.timeout(patience_s):
                    await self._until(lambda: core.is_shut_down or self._is_last)
            except (TimeoutError, MetadataLogError):
                pass  # the others will notice by themselves
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._delivery is not None:
            await self._delivery.stop()
        self._refuse(ApiError(ErrorCode.BROKER_NOT_AVAILABLE))
        sending = [task for task in self._tasks if task.get_name() == CHANNEL]
        for task in sending:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._env.run_blocking(lambda: self.replica.close(flush=self._failure is None))

    @property
    def _is_last(self) -> bool:
        """No other voter is there that could take over."""
        core = self._core
        others = [voter for voter in core.voters if voter.voter_id != self.local.key.replica_id]
        return all(
            (found := core.destination_of(voter)) is None or found.address in self._unreachable for voter in others
        )

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that comes with an effect. Raises MetadataLogError when the log fails."""
        while not condition():
            if self._failure is not None:
                raise self._failed_before()
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed

    @property
    def _core(self) -> QuorumCore:
        assert self._started_core is not None, "not started"
        return self._started_core

    # Reading

    @property
    def leader(self) -> LeaderAndEpoch:
        """Who leads, as far as this node knows."""
        return LeaderAndEpoch(-1, 0) if self._started_core is None else self._started_core.leader

    @property
    def is_leader(self) -> bool:
        """This node leads, and the listener was told so."""
        core, delivery = self._started_core, self._delivery
        return core is not None and delivery is not None and core.is_leader and delivery.told == core.leader

    def leader_address(self) -> tuple[str, int] | None:
        """Where the leader's controller listener is."""
        return None if self._started_core is None else address_of(self._core.leader_endpoints, self.local.listener)

    @property
    def committed_offset(self) -> int:
        """End of what is known to be committed."""
        return 0 if self._started_core is None else self._started_core.high_watermark

    def describe_quorum(self) -> QuorumDescription:
        """The quorum as this node sees it; how far other voters are is known to the leader (else -1)."""
        core = self._core
        role = core.role
        ends = {self.local.key.replica_id: self.end_offset}
        if isinstance(role, Leader):
            ends = {voter_id: progress.end_offset for voter_id, progress in role.replicas.voters.items()}
        return QuorumDescription(
            leader_id=core.leader.leader_id,
            leader_epoch=core.leader.epoch,
            high_watermark=core.high_watermark,
            voters=tuple(
                VoterState(one.voter_id, one.directory_id, ends.get(one.voter_id, -1), one.endpoints)
                for one in core.voters
            ),
        )

    # Leading

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, prepared: Any = None) -> int:
        """Append one batch; the offset of its last record."""
        self._check_failure()
        assert self._delivery is not None
        base_offset = self.end_offset
        last_offset = self._core.append(epoch, frames, self._now_ms(), now_ms)
        self._delivery.appended(base_offset, CommittedBatch(list(frames), last_offset, epoch, now_ms, prepared))
        self._carry_out()
        return last_offset

    async def wait_committed(self, end_offset: int) -> None:
        """Wait until `committed_offset` has reached `end_offset`."""
        if self.committed_offset >= end_offset:
            return
        self._check_failure()
        if not self._core.is_leader:
            raise NotLeaderError("this node does not lead the metadata log")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((end_offset, self._core.epoch, done))
        await done

    def resign(self, epoch: int) -> None:
        """Give up leadership of `epoch`."""
        if self._started_core is not None:
            self._tell(lambda core: core.resign(epoch, self._now_ms()))

    def upgrade_kraft_version(self, epoch: int, now_ms: int) -> int:
        """Move the voters into the log. Raises ApiError INVALID_UPDATE_VERSION when a voter cannot."""
        self._check_failure()
        self._core.upgrade_kraft_version(epoch, 1, self._now_ms())
        self._carry_out()
        return self.end_offset

    async def request(self, request: Request, *, version: int, listener: str) -> Response:
        """The answer to a request of the quorum's APIs that came in on `listener`."""
        if self._is_stopping or self._failure is not None or self._started_core is None:
            raise ApiError(ErrorCode.BROKER_NOT_AVAILABLE)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._requests[answer] = None
        wall_ms = self._env.clock.now_ms()
        try:
            self._tell(
                lambda core: core.on_request(
                    answer, request, self._now_ms(), version=version, listener=listener, wall_ms=wall_ms
                )
            )
            return await answer
        finally:
            self._requests.pop(answer, None)

    # The core

    def _now_ms(self) -> int:
        # A timer set for a millisecond must find it come, whatever the division has made of it.
        return int(asyncio.get_running_loop().time() * 1000 + 0.001)

    def _tell(self, event: Callable[[QuorumCore], None]) -> None:
        """Give the core an input, and do what it wants done."""
        if self._failure is not None or self._is_stopping:
            return
        try:
            event(self._core)
        except Exception as error:
            self._fail(error)
        self._carry_out()

    def _carry_out(self) -> None:
        self._effects.extend(self._core.take_effects())
        while self._effects and not self._is_held_up and self._failure is None:
            effect = self._effects.popleft()
            try:
                self._do(effect)
            except Exception as error:
                self._fail(error)
        self._set_timer()
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    def _do(self, effect: to_do.Effect) -> None:
        match effect:
            case to_do.Send():
                self._spawn(self._send(effect), CHANNEL)
            case to_do.Reply(token, response):
                _answer(token, response)
            case to_do.HighWatermark(offset):
                self._commit(offset)
            case to_do.Flush():
                # Whatever is appended in this turn of the loop shares it.
                asyncio.get_running_loop().call_soon(self._begin_flush)
            case to_do.Persist(state):
                self._is_held_up = True
                self._spawn(self._persist(state))
            case to_do.LeaderChange(leader, epoch_start_offset):
                self._change_leader(leader, epoch_start_offset)
            case to_do.ReplySnapshot():
                self._spawn(self._reply_snapshot(effect))
            case to_do.StoreSnapshotPiece(snapshot_id, position, data):
                self.replica.store_snapshot_piece(snapshot_id, position, data)
            case to_do.InstallSnapshot(snapshot_id):
                self._spawn(self._install_snapshot(snapshot_id))
            case to_do.Fail(reason):
                self._fail(MetadataLogError(reason))

    def _set_timer(self) -> None:
        deadline_ms = self._core.deadline_ms
        if deadline_ms is None or self._is_stopping or self._failure is not None:
            return
        if self._timer is not None:
            if self._timer_ms <= deadline_ms:
                return  # it will look again
            self._timer.cancel()
        self._timer_ms = deadline_ms
        self._timer = asyncio.get_running_loop().call_at(deadline_ms / 1000, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        deadline_ms = self._core.deadline_ms
        if deadline_ms is not None and self._now_ms() >= deadline_ms:
            self._tell(lambda core: core.on_time(self._now_ms()))
        else:
            self._set_timer()

    # Effects

    def _spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _persist(self, state: QuorumState) -> None:
        try:
            await self._env.run_blocking(write_quorum_state, self._env.disk, self.replica.path, state)
        except Exception as error:
            self._fail(error)
        self._is_held_up = False
        self._carry_out()

    async def _send(self, effect: to_do.Send) -> None:
        token = effect.token
        try:
            response = await self._peers.send(
                effect.destination.address, effect.request, timeout_ms=effect.timeout_ms, channel=CHANNEL
            )
        except UnsupportedPeerVersionError:
            self._tell(lambda core: core.on_send_failed(token, self._now_ms(), unsupported_version=True))
        except PeerError:
            self._unreachable.add(effect.destination.address)
            self._tell(lambda core: core.on_send_failed(token, self._now_ms()))
        else:
            self._unreachable.discard(effect.destination.address)
            self._tell(lambda core: core.on_response(token, response, self._now_ms()))

    def _begin_flush(self) -> None:
        if self._failure is not None or self._is_stopping:
            return
        try:
            task = self.replica.begin_flush()
        except OSError as error:
            self._fail(error)
            return
        if task is None:
            self._tell(lambda core: core.on_flushed(self._now_ms()))
        else:
            self._spawn(self._flush(task))

    async def _flush(self, task: FlushTask) -> None:
        try:
            await self._env.run_blocking(task.run)
            self.replica.complete_flush(task)
        except Exception as error:
            # After a failed fsync nobody knows what the device holds; going on could acknowledge lost records.
            self._fail(error)
        self._tell(lambda core: core.on_flushed(self._now_ms()))

    def _commit(self, offset: int) -> None:
        assert self._delivery is not None
        self.replica.advance_high_watermark(offset)
        self._delivery.commit(offset)
        if self._waiting:
            still = []
            for one in self._waiting:
                if one[0] > offset:
                    still.append(one)
                elif not one[2].done():
                    one[2].set_result(None)
            self._waiting = still

    def _change_leader(self, leader: LeaderAndEpoch, epoch_start_offset: int) -> None:
        assert self._delivery is not None
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if leader == (self.local.key.replica_id, one[1]):
                self._waiting.append(one)
            elif not one[2].done():
                one[2].set_exception(NotLeaderError("this node leads the metadata log no more"))
        self._delivery.change_leader(leader, epoch_start_offset)

    async def _reply_snapshot(self, effect: to_do.ReplySnapshot) -> None:
        answer: Any = effect.response
        partition = answer.topics[0].partitions[0]
        try:
            partition.unaligned_records = await self._env.run_blocking(
                self.replica.read_snapshot, effect.snapshot_id, effect.position, effect.max_bytes
            )
        except MissingFileError:
            partition.error_code = ErrorCode.SNAPSHOT_NOT_FOUND
            partition.unaligned_records = b""
        except OSError as error:
            self._fail(error)
        _answer(effect.token, effect.response)

    async def _install_snapshot(self, snapshot_id: SnapshotId) -> None:
        try:
            found = await self._env.run_blocking(self.replica.finish_download, snapshot_id)
        except MetadataLogError:
            self._tell(lambda core: core.on_snapshot_failed(snapshot_id, self._now_ms()))
            return
        except OSError as error:
            self._fail(error)
            return
        kraft_version, voters, timestamp_ms = found
        try:
            self.replica.install_snapshot(snapshot_id, timestamp_ms)
            task = self.replica.begin_flush()
            if task is not None:
                await self._env.run_blocking(task.run)
                self.replica.complete_flush(task)
        except (OSError, ApiError) as error:
            self._fail(error)
            return
        self._tell(lambda core: core.on_snapshot_installed(snapshot_id, kraft_version, voters, self._now_ms()))

    # The end

    def _fail(self, error: BaseException) -> None:
        """Nothing more is said or done: what the device holds is unknown, or what the core will do.

        A mistake of ours ends the node as well: half a voter, which holds an epoch and never answers, is worse for the
        others than none.
        """
        if self._failure is not None:
            return
        self._failure = error
        if not isinstance(error, (OSError, MetadataLogError, ApiError, CorruptRecordError)):
            logger.error("the quorum cannot go on", exc_info=error)
        self._refuse(ApiError(ErrorCode.KAFKA_STORAGE_ERROR))
        if self._listener is not None:
            self._listener.on_failure(error)
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    def _refuse(self, refusal: ApiError) -> None:
        for answer in self._requests:
            if not answer.done():
                answer.set_exception(refusal)
        waiting, self._waiting = self._waiting, []
        for _, _, done in waiting:
            if not done.done():
                error = self._failed_before() if self._failure is not None else NotLeaderError("this node is stopping")
                done.set_exception(error)

    def _check_failure(self) -> None:
        if self._failure is not None:
            raise self._failed_before()

    def _failed_before(self) -> MetadataLogError:
        return MetadataLogError(f"{self.replica.path} has failed before: {self._failure}")


def _answer(token: object, response: Response) -> None:
    assert isinstance(token, asyncio.Future)
    if not token.done():  # who asked may have gone
        token.set_result(response)

"""A world of quorum cores: model logs, a network that loses, doubles and reorders, crashes, changes of the voters.

One seed is one run, the same each time. Checkers watch from outside: one leader per epoch, committed records stay what
they are wherever they are committed, high watermarks do not go back, a new leader has everything that was committed,
logs that agree on a record agree on all before it, voters change one at a time (each change when the one before it is
committed), and once the faults end the quorum commits again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from random import Random
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import UnsupportedVersionError
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest, Listener
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse, SupportedFeatureKey
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from ottla.protocol.messages.raft_data import VotersRecord
from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from ottla.protocol.messages.vote import VoteRequest, VoteResponse
from ottla.server.raft import effects as effect
from ottla.server.raft.core import LocalReplica, QuorumCore, QuorumSettings
from ottla.server.raft.leader import Leader
from ottla.server.raft.metadata_log import NotLeaderError
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import ReplicaKey, Voter, VoterSet
from tests.server.raft.model_log import Batch, ModelLog, Snapshot

LISTENER = "CONTROLLER"
CLUSTER = "cluster"
BOOTSTRAP_PORT = 9000
"""A name that always leads to the node, wherever it listens at the moment."""

SETTINGS = QuorumSettings(
    election_timeout_ms=100,
    fetch_timeout_ms=200,
    election_backoff_max_ms=100,
    request_timeout_ms=200,
    retry_backoff_ms=10,
    fetch_max_wait_ms=50,
    fetch_max_bytes=2000,
    fetch_snapshot_max_bytes=64,
)


@dataclass(slots=True)
class Faults:
    """How bad the world is; all zero when it has healed."""

    lose: float = 0.0
    double: float = 0.0
    slow: float = 0.0
    disconnect: float = 0.0


@dataclass(slots=True)
class Setup:
    """What a run is made of."""

    voters: int = 3
    spare_controllers: int = 1
    brokers: int = 1
    is_static: bool = False
    auto_join: bool = False
    old_votes: bool = False
    """Some nodes do not know pre-votes."""
    encode: bool = False
    """Messages go through their codecs."""
    election_timeout_ms: int = 100
    """The shorter, the more elections are split."""
    forgetful: float = 0.1
    """How often a voter crashes right after it has voted."""
    is_restless: bool = False
    """Voters are changed several at a time, and links cut, more often than anything else happens."""
    slow_disk: float = 0.0
    """How often a flush takes long."""
    faults: Faults = field(default_factory=Faults)


class Node:
    """A node with its disk; `core` is None while it is down."""

    def __init__(self, world: World, node_id: int, *, is_controller: bool, bootstrap: Snapshot | None) -> None:
        self.world = world
        self.node_id = node_id
        self.is_controller = is_controller
        self.directory = 0
        self.port = 9093
        self.log = ModelLog(bootstrap)
        self.state = QuorumState()
        self.core: QuorumCore | None = None
        self.incarnation = 0
        self.queue: deque[effect.Effect] = deque()
        self.persisting: QuorumState | None = None
        self.high_watermark = 0
        self.checked_offset = 0
        self.known_voters: tuple[int | None, VoterSet] = (None, VoterSet())
        """The newest set of its log when it was looked at last, and where that stood."""
        self.download = bytearray()
        self.timer_ms: int | None = None
        self.callers: list[Callable[[], None]] = []
        """Who may be waiting for an answer: what tells them that there will be none."""

    @property
    def key(self) -> ReplicaKey:
        return ReplicaKey(self.node_id, bytes([self.node_id, self.directory]) * 8)

    @property
    def endpoints(self) -> tuple[tuple[str, str, int], ...]:
        return ((LISTENER, f"n{self.node_id}", self.port),) if self.is_controller else ()

    @property
    def voter(self) -> Voter:
        return Voter(self.node_id, self.key.directory_id, self.endpoints)

    def start(self) -> None:
        """Boot from what is on the disk."""
        world = self.world
        local = LocalReplica(self.key, CLUSTER, LISTENER, self.endpoints, self.is_controller, world.bootstrap_servers)
        settings = world.settings if self.is_controller else SETTINGS
        self.incarnation += 1
        history = self.log.history(world.static_voters)
        self.core = QuorumCore(local, settings, self.log, history, self.state, world.random.randrange)
        self.queue.clear()
        self.persisting = None
        self.high_watermark = self.checked_offset = self.core.high_watermark
        self.known_voters = history.voters_offset, history.voters
        self.core.start(world.now_ms)
        world.settle(self)

    def crash(self) -> None:
        """Stop dead: the process, whose connections end at once, or the machine, of which nothing is heard."""
        random = self.world.random
        callers, self.callers = self.callers, []
        if random.random() < 0.7:
            for fail in callers:
                self.world.later(random.randrange(1, 5), fail)
        if self.persisting is not None and random.random() < 0.5:
            self.state = self.persisting
        self.core = None
        self.timer_ms = None
        self.incarnation += 1
        self.log.crash(random)

    def wipe(self) -> None:
        """Come back with an empty disk, which is another replica."""
        self.directory += 1
        self.log = ModelLog()
        self.state = QuorumState()


class World:
    """Runs the nodes on virtual time."""

    def __init__(self, seed: int, setup: Setup) -> None:
        self.random = Random(seed)
        self.setup = setup
        self.settings = replace(SETTINGS, auto_join=setup.auto_join, election_timeout_ms=setup.election_timeout_ms)
        self.faults = setup.faults
        self.is_bad = True
        self.now_ms = 0
        self.trace: list[str] | None = None
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self.blocked: set[tuple[int, int]] = set()
        self.committed: list[Batch] = []
        self.committed_end = 0
        self.leaders: dict[int, int] = {}
        self.appended = 0
        self.answers: list[tuple[str, ErrorCode]] = []
        self.counts: dict[str, int] = {}
        self._admin: dict[int, str] = {}
        self._build()

    def _build(self) -> None:
        setup = self.setup
        ids = range(1, setup.voters + setup.spare_controllers + setup.brokers + 1)
        controllers = setup.voters + setup.spare_controllers
        self.bootstrap_servers = tuple((f"n{one}", BOOTSTRAP_PORT) for one in ids if one <= controllers)
        self.static_voters: VoterSet | None = None
        if setup.is_static:
            self.static_voters = VoterSet.static(
                LISTENER, {one: (f"n{one}", 9093) for one in range(1, setup.voters + 1)}
            )
        self.nodes: dict[int, Node] = {}
        for one in ids:
            self.nodes[one] = Node(self, one, is_controller=one <= controllers, bootstrap=None)
        if not setup.is_static:
            voters = VoterSet(self.nodes[one].voter for one in range(1, setup.voters + 1))
            for one in range(1, setup.voters + 1):
                self.nodes[one].log.bootstrap = Snapshot(SnapshotId(0, 0), b"", 1, voters)
        for node in self.nodes.values():
            node.start()

    # Time

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        """Do something later."""
        self._sequence += 1
        heappush(self._events, (self.now_ms + delay_ms, self._sequence, action))

    def run_for(self, duration_ms: int, *, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; whether `until` came true."""
        end_ms = self.now_ms + duration_ms
        while self._events and self._events[0][0] <= end_ms:
            time_ms, _, action = heappop(self._events)
            self.now_ms = time_ms
            action()
            if until is not None and until():
                return True
        self.now_ms = end_ms
        return False

    def tick_every(self, period_ms: int) -> None:
        """Let something happen, so that whoever waits for a state looks at it."""
        self.later(period_ms, lambda: self.tick_every(period_ms))

    def settle(self, node: Node) -> None:
        """After an input: carry out effects, set the timer, check."""
        core = node.core
        if core is None:
            return
        core.check_invariants()
        self._check_change(node)
        node.queue.extend(core.take_effects())
        self._pump(node)
        deadline_ms = core.deadline_ms
        if deadline_ms is not None and (node.timer_ms is None or deadline_ms < node.timer_ms):
            node.timer_ms = max(deadline_ms, self.now_ms + 1)
            self.later(node.timer_ms - self.now_ms, self._timer(node, node.incarnation, node.timer_ms))

    def _timer(self, node: Node, incarnation: int, time_ms: int) -> Callable[[], None]:
        def run() -> None:
            if node.incarnation == incarnation and node.timer_ms == time_ms and node.core is not None:
                node.timer_ms = None
                node.core.on_time(self.now_ms)
                self.settle(node)

        return run

    # Effects

    def _pump(self, node: Node) -> None:
        while node.queue and node.persisting is None and node.core is not None:
            self._carry_out(node, node.queue.popleft())

    def _carry_out(self, node: Node, what: effect.Effect) -> None:
        random = self.random
        match what:
            case effect.Persist(state):
                node.persisting = state
                self._on_node(node, random.randrange(4), lambda: self._persisted(node, state), settle=False)
            case effect.Send(destination, request, token):
                self._send(node, destination, request, token)
            case effect.Reply(token, response):
                self._reply(token, response)
                if isinstance(response, VoteResponse) and self.is_bad and random.random() < self.setup.forgetful:
                    self._on_node(node, random.randrange(1, 3), lambda: self._blink(node), settle=False)
            case effect.ReplySnapshot(token, response, snapshot_id, position, max_bytes):
                data = node.log.snapshots[snapshot_id].data if snapshot_id in node.log.snapshots else b""
                piece: Any = response
                piece.topics[0].partitions[0].unaligned_records = data[position : position + max_bytes]
                self._reply(token, piece)
            case effect.Flush():
                end_offset = node.log.end_offset
                is_slow = self.is_bad and random.random() < self.setup.slow_disk
                delay_ms = random.randrange(20, 80) if is_slow else random.randrange(1, 6)
                self._on_node(node, delay_ms, lambda: self._flushed(node, end_offset))
            case effect.HighWatermark(offset):
                assert offset > node.high_watermark, "the high watermark went back"
                node.high_watermark = offset
                self._check_committed(node)
            case effect.LeaderChange(leader):
                if leader.leader_id == node.node_id:
                    self._check_leader(node, leader.epoch)
            case effect.StoreSnapshotPiece(_, position, data):
                del node.download[position:]
                assert len(node.download) == position, "a piece is missing"
                node.download += data
            case effect.InstallSnapshot(snapshot_id):
                self._on_node(node, random.randrange(1, 20), lambda: self._install(node, snapshot_id))
            case effect.Fail(reason):
                raise AssertionError(f"node {node.node_id} failed: {reason}")

    def _on_node(self, node: Node, delay_ms: int, action: Callable[[], None], *, settle: bool = True) -> None:
        """Do something on a node a little later, unless it crashes before."""
        incarnation = node.incarnation

        def run() -> None:
            if node.incarnation == incarnation and node.core is not None:
                action()
                if settle:
                    self.settle(node)

        self.later(delay_ms, run)

    def _persisted(self, node: Node, state: QuorumState) -> None:
        node.state, node.persisting = state, None
        self._pump(node)

    def _flushed(self, node: Node, end_offset: int) -> None:
        assert node.core is not None
        log = node.log
        if end_offset <= log.end_offset:
            log.flushed_end_offset = max(log.flushed_end_offset, end_offset)
        node.core.on_flushed(self.now_ms)

    def _install(self, node: Node, snapshot_id: SnapshotId) -> None:
        assert node.core is not None
        if self.random.random() < 0.05:
            node.core.on_snapshot_failed(snapshot_id, self.now_ms)
            return
        data = bytes(node.download)
        snapshot = _read_snapshot(snapshot_id, data)
        self.count("snapshots installed")
        node.log.install(snapshot)
        node.core.on_snapshot_installed(snapshot_id, snapshot.kraft_version, snapshot.voters, self.now_ms)

    def _blink(self, node: Node) -> None:
        """Whoever has voted may forget it."""
        node.crash()
        node.start()
        self.count("voters that blinked")

    # The network

    def _send(self, node: Node, destination: effect.Destination, request: Request, token: int) -> None:
        random, faults = self.random, self.faults
        target = self.nodes[int(destination.host[1:])]
        incarnation = node.incarnation
        version = _version(request)
        if isinstance(request, VoteRequest) and self.setup.old_votes and target.node_id % 2:
            version = 1

        def fail(*, unsupported: bool = False) -> None:
            if node.incarnation == incarnation and node.core is not None:
                node.core.on_send_failed(token, self.now_ms, unsupported_version=unsupported)
                self.settle(node)

        try:
            request = self._through_codec(request, version)
        except UnsupportedVersionError:
            self.later(1, lambda: fail(unsupported=True))
            return
        reachable = destination.port in (BOOTSTRAP_PORT, target.port)
        if target.core is None or not reachable or (faults.disconnect and random.random() < faults.disconnect):
            self.later(random.randrange(1, 5), fail)
            return
        if self._is_lost(node, target):
            return
        target.callers = [*target.callers[-20:], fail]
        copies = 2 if faults.double and random.random() < faults.double else 1
        for _ in range(copies):
            inbound = (node, incarnation, token, target, version)
            self.later(self._delay(), lambda inbound=inbound: self._deliver(inbound, request))  # type: ignore[misc]

    def _deliver(self, inbound: Any, request: Request) -> None:
        _, _, _, target, version = inbound
        if target.core is None:
            return
        if isinstance(request, ApiVersionsRequest):
            features = [SupportedFeatureKey(name="kraft.version", min_version=0, max_version=1)]
            self._reply(inbound, ApiVersionsResponse(supported_features=features))
            return
        target.core.on_request(
            inbound, request, self.now_ms, version=version, listener=LISTENER, wall_ms=self.now_ms + 1_000_000
        )
        self.settle(target)

    def _reply(self, inbound: Any, response: Response) -> None:
        if isinstance(inbound, int):
            self._admin_answered(inbound, response)
            return
        node, incarnation, token, target, version = inbound
        response = self._through_codec(response, version)
        if self._is_lost(target, node):
            return

        def arrive() -> None:
            if node.incarnation == incarnation and node.core is not None:
                node.core.on_response(token, response, self.now_ms)
                self.settle(node)

        self.later(self._delay(), arrive)

    def _is_lost(self, source: Node, target: Node) -> bool:
        if (source.node_id, target.node_id) in self.blocked:
            return True
        return bool(self.faults.lose) and self.random.random() < self.faults.lose

    def _delay(self) -> int:
        random = self.random
        if self.faults.slow and random.random() < self.faults.slow:
            return random.randrange(20, 300)
        return random.randrange(1, 6)

    def _through_codec(self, message: Any, version: int) -> Any:
        old_vote = isinstance(message, VoteRequest) and version < 2
        if not self.setup.encode and not old_vote:
            return message
        return decode(type(message), version, encode(message, version))

    # Checkers

    def _check_leader(self, node: Node, epoch: int) -> None:
        assert epoch not in self.leaders, f"epoch {epoch} has two leaders: {self.leaders[epoch]} and {node.node_id}"
        self.leaders[epoch] = node.node_id
        self.count("leaders")
        self._check_voters(node)
        assert node.log.end_offset >= self.committed_end, f"leader {node.node_id} lacks what was committed"
        self._check_against_committed(node, node.log.start_offset, self.committed_end)

    def _check_change(self, node: Node) -> None:
        """A leader changes one voter at a time, when the set before and a record of its own epoch are committed: only
        then no two majorities can decide without each other.
        """
        core = node.core
        assert core is not None
        offset, voters = core.history.voters_offset, core.voters
        former_offset, former = node.known_voters
        if offset == former_offset:
            return
        node.known_voters = offset, voters
        if not isinstance(core.role, Leader) or former_offset is None:
            return
        changed = {voter.key for voter in voters} ^ {voter.key for voter in former}
        if changed:
            self.count("voter changes")
            assert len(changed) == 1, f"{former} becomes {voters} in one go"
            assert former_offset < core.high_watermark, f"{voters} follows {former}, which is not committed"
            assert core.role.high_watermark > 0, "voters are changed before the epoch is known to be this leader's"

    def _check_committed(self, node: Node) -> None:
        """What a node calls committed is what every other calls so."""
        end_offset = min(node.high_watermark, node.log.end_offset)
        self._check_against_committed(node, node.checked_offset, min(end_offset, self.committed_end))
        node.checked_offset = max(node.checked_offset, end_offset)
        if end_offset > self.committed_end:
            new = [batch for batch in node.log.batches if self.committed_end <= batch.base_offset < end_offset]
            assert new, "committed what it does not have"
            assert new[0].base_offset == self.committed_end
            assert new[-1].end_offset == end_offset
            self.committed += new
            self.committed_end = end_offset

    def _check_against_committed(self, node: Node, start_offset: int, end_offset: int) -> None:
        if start_offset >= end_offset:
            return
        here = {batch.base_offset: batch for batch in node.log.batches if batch.base_offset < end_offset}
        for batch in reversed(self.committed):
            if batch.end_offset <= start_offset:
                break
            if batch.base_offset < end_offset and batch.base_offset >= node.log.start_offset:
                found = here.get(batch.base_offset)
                assert found == batch, f"node {node.node_id} has other records at offset {batch.base_offset}"

    def check_logs(self) -> None:
        """Logs that agree on a record agree on all before it; who votes is what the log says."""
        for node in self.nodes.values():
            self._check_voters(node)
        logs = [node.log for node in self.nodes.values()]
        for index, one in enumerate(logs):
            for other in logs[index + 1 :]:
                theirs = {batch.base_offset: batch for batch in other.batches}
                agree = False
                for batch in reversed(one.batches):
                    match = theirs.get(batch.base_offset)
                    if match is None:
                        continue
                    if agree or match.epoch == batch.epoch:
                        assert match == batch, f"logs differ at offset {batch.base_offset} and agree after it"
                        agree = True

    def _check_voters(self, node: Node) -> None:
        if node.core is not None:
            history = node.log.history(self.static_voters)
            assert node.core.voters == history.voters, "counts other voters than its log has"
            assert node.core.kraft_version == history.kraft_version

    # What happens

    def leader(self) -> Node | None:
        """The leader of the latest epoch."""
        leading = [node for node in self.nodes.values() if node.core is not None and node.core.is_leader]
        return max(leading, key=lambda node: node.core.epoch, default=None)  # type: ignore[union-attr]

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def append(self) -> None:
        """Append to a node that believes to lead."""
        leading = [node for node in self.nodes.values() if node.core is not None and node.core.is_leader]
        if not leading:
            return
        node = self.random.choice(leading)
        core = node.core
        assert core is not None
        self.appended += 1
        frames = [f"{self.appended}.{one}".encode() for one in range(self.random.randrange(1, 4))]
        try:
            core.append(core.epoch, frames, self.now_ms, self.now_ms)
        except NotLeaderError:
            return
        self.settle(node)

    def snapshot(self, node: Node) -> None:
        """Take a snapshot of what a node knows to be committed, and drop the log before it, now or never."""
        core, log = node.core, node.log
        if core is None or core.installing is not None:
            return
        ends = [batch for batch in log.batches if batch.end_offset <= core.high_watermark]
        if not ends:
            return
        batch = self.random.choice(ends[-3:])
        snapshot_id = SnapshotId(batch.end_offset, batch.epoch)
        if log.latest_snapshot is not None and snapshot_id <= log.latest_snapshot:
            return
        last_offset = snapshot_id.end_offset - 1
        version = core.history.kraft_version_at(last_offset)
        voters = core.history.voters_at(last_offset) if version > 0 else None
        log.take_snapshot(_write_snapshot(snapshot_id, version if version > 0 else None, voters))
        core.forget_before(snapshot_id.end_offset)
        self.count("snapshots taken")
        if self.random.random() < 0.7:
            log.drop_before(snapshot_id)

    def ask(self, request: Request, what: str, node: Node | None = None) -> None:
        """An operator asks a node, or whoever seems to lead."""
        node = node or self.leader()
        if node is None or node.core is None:
            return
        self._sequence += 1
        token = self._sequence
        self._admin[token] = what
        node.core.on_request(
            token, request, self.now_ms, version=_version(request), listener=LISTENER, wall_ms=self.now_ms
        )
        self.settle(node)

    def _admin_answered(self, token: int, response: Any) -> None:
        what = self._admin.pop(token)
        error = ErrorCode(response.error_code) if response.error_code >= 0 else ErrorCode.UNKNOWN_SERVER_ERROR
        self.answers.append((what, error))
        self.count(f"{what}: {error.name}")
        if what == "describe":
            partition = response.topics[0].partitions[0]
            assert partition.error_code in (ErrorCode.NONE, ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def add_voter(self, node: Node) -> None:
        """Ask for a controller to be added."""
        listeners = [Listener(name=name, host=host, port=port) for name, host, port in node.endpoints]
        request = AddRaftVoterRequest(
            cluster_id=CLUSTER,
            timeout_ms=1000,
            voter_id=node.node_id,
            voter_directory_id=node.key.directory_id,
            listeners=listeners,
            ack_when_committed=self.random.random() < 0.5,
        )
        self.ask(request, "add")

    def remove_voter(self, voter: Voter, node: Node | None = None) -> None:
        """Ask for a voter to be removed."""
        request = RemoveRaftVoterRequest(
            cluster_id=CLUSTER, voter_id=voter.voter_id, voter_directory_id=voter.directory_id
        )
        self.ask(request, "remove", node)

    def describe(self) -> None:
        """Ask for the state of the quorum."""
        partition = DescribeQuorumRequestPartitionData(partition_index=0)
        topic = DescribeQuorumRequestTopicData(topic_name="__cluster_metadata", partitions=[partition])
        self.ask(DescribeQuorumRequest(topics=[topic]), "describe")

    def upgrade(self) -> None:
        """Move a static quorum to kraft.version 1."""
        node = self.leader()
        if node is None or node.core is None:
            return
        try:
            if node.core.upgrade_kraft_version(node.core.epoch, 1, self.now_ms):
                self.count("upgrades")
        except ApiError:
            self.count("upgrades refused")
        self.settle(node)

    def partition(self) -> None:
        """Cut links: one node off, two halves, or one direction between two."""
        ids = list(self.nodes)
        random = self.random
        self.count("partitions")
        kind = random.randrange(3) if len(ids) > 1 else 0
        if kind == 0:
            one = random.choice(ids)
            self.blocked |= {(one, other) for other in ids} | {(other, one) for other in ids}
        elif kind == 1:
            random.shuffle(ids)
            half = set(ids[: len(ids) // 2])
            self.blocked |= {(a, b) for a in ids for b in ids if (a in half) != (b in half)}
        else:
            a, b = random.sample(ids, 2)
            self.blocked.add((a, b))


def _write_snapshot(snapshot_id: SnapshotId, version: int | None, voters: VoterSet | None) -> Snapshot:
    record = b"" if voters is None else encode(voters.to_record(), 0)
    data = bytes([255 if version is None else version]) + record
    return Snapshot(snapshot_id, data, version, voters)


def _read_snapshot(snapshot_id: SnapshotId, data: bytes) -> Snapshot:
    version = None if data[0] == 255 else data[0]
    voters = VoterSet.from_record(decode(VotersRecord, 0, data[1:])) if len(data) > 1 else None
    return Snapshot(snapshot_id, data, version, voters)


def _version(request: Request) -> int:
    return type(request).VALID_VERSIONS[1]

"""A share group: workers that accept, release, reject, renew, oversleep their locks, and go without a word."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.messages import share_acknowledge as acknowledging
from ottla.protocol.messages import share_fetch as fetching
from ottla.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsResponse,
)
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse
from tests.simulation.workloads.client import (
    GROUP,
    GROUP_RESOURCE,
    RETRIABLE,
    SHARE,
    TRANSACTION,
    BrokenError,
    Client,
)
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.members import LOST
from tests.simulation.workloads.producer import (
    AbortableError,
    FencedError,
    IdempotentProducer,
    Ledger,
    TransactionalProducer,
)

JOBS, WORKERS_GROUP = "jobs", "workers"
PARTITIONS = 2
LOCK_S = 5.0
MOST_DELIVERIES = 5
MEAN_LIFE_S = 6.0
ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4

Job = tuple[int, int]
"""Partition and offset."""
Batches = dict[int, list[tuple[int, int, int]]]
"""Acknowledgements by partition: first and last offset, type."""


class GoneError(Exception):
    """The session, or the connection under it, is over."""


@dataclass(eq=False)
class Hold:
    worker: object
    until_s: float
    life: int


@dataclass
class Board:
    """Who has which job by the workers' own account, and what became of each."""

    cluster: Cluster
    holds: dict[Job, Hold] = field(default_factory=dict)
    done: set[Job] = field(default_factory=set)
    rejected: set[Job] = field(default_factory=set)
    in_doubt: set[Job] = field(default_factory=set)
    deliveries: dict[Job, int] = field(default_factory=dict)
    lost_answers: int = 0

    def hand_out(self, job: Job, worker: object, count: int, sent_s: float, life: int) -> None:
        """A fetch that was sent then, in that life of the node, brought a job."""
        now_s = self.cluster.now()
        if job in self.done or job in self.rejected:
            self.cluster.fail_promise(f"{job} was handed out to {worker} after it was settled")
        hold = self.holds.get(job)
        if hold is not None and hold.worker is not worker and hold.life == self.cluster.lives and now_s < hold.until_s:
            self.cluster.fail_promise(f"{worker} was given {job}, which {hold.worker} has until {hold.until_s:.3f}")
        if not 1 <= count <= MOST_DELIVERIES:
            self.cluster.fail_promise(f"{job} was delivered for the {count}th time")
        self.deliveries[job] = max(count, self.deliveries.get(job, 0))
        self.holds[job] = Hold(worker, sent_s + LOCK_S, life)

    def drop(self, worker: object) -> None:
        """The worker has nothing any more, or is about to say so."""
        self.holds = {job: hold for job, hold in self.holds.items() if hold.worker is not worker}


class Worker:
    """A member of the share group, on one connection: group membership, share session, and what it was given."""

    def __init__(self, client: Client, board: Board) -> None:
        self.client = client
        self.board = board
        self.member_id = uuid_to_text(client.random.randbytes(16))
        self.topic_id = b""
        self.assigned: set[int] = set()
        self.jobs: dict[Job, int] = {}
        self._member_epoch = 0
        self._session_epoch = 0
        self._in_session: set[int] = set()
        self._next_heartbeat_s = 0.0
        self._says_all = True

    def __repr__(self) -> str:
        return f"{self.client.name}/{self.member_id}"

    async def heartbeat(self) -> None:
        """Join, or stay."""
        if self.client.cluster.now() < self._next_heartbeat_s:
            return
        request = ShareGroupHeartbeatRequest(
            group_id=WORKERS_GROUP,
            member_id=self.member_id,
            member_epoch=self._member_epoch,
            subscribed_topic_names=[JOBS] if not self._member_epoch or self._says_all else None,
        )
        self._says_all = True  # until it is answered: an assignment that got lost is only told to who asks
        response = await self._ask(request, 1, ShareGroupHeartbeatResponse)
        code = ErrorCode(response.error_code)
        if code is ErrorCode.NONE:
            self._member_epoch = response.member_epoch
            self._says_all = False
            self._next_heartbeat_s = self.client.cluster.now() + response.heartbeat_interval_ms / 1000
            if response.assignment is not None:
                assigned = response.assignment.topic_partitions
                self.assigned = {index for topic in assigned for index in topic.partitions}
                self.topic_id = assigned[0].topic_id if assigned else self.topic_id
        elif code in LOST:
            self._member_epoch = 0
        else:
            assert code in RETRIABLE, code
            await self.client.back_off()

    async def leave(self) -> None:
        await self.close_session()
        request = ShareGroupHeartbeatRequest(group_id=WORKERS_GROUP, member_id=self.member_id, member_epoch=-1)
        await self._ask(request, 1, ShareGroupHeartbeatResponse)

    async def fetch(self, given: Batches) -> None:
        """Acknowledge, and get more; GoneError when the session is over."""
        if self._in_session and self._in_session != self.assigned:
            await self.close_session()
            given = {}
        if not self.assigned:
            return
        dice = self.client.random
        is_first = not self._in_session
        indexes = self.assigned if is_first else given.keys()
        partitions = [
            fetching.FetchPartition(
                partition_index=index,
                acknowledgement_batches=[
                    fetching.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=[kind])
                    for first, last, kind in given.get(index, ())
                ],
            )
            for index in sorted(indexes)
        ]
        request = fetching.ShareFetchRequest(
            group_id=WORKERS_GROUP,
            member_id=self.member_id,
            share_session_epoch=self._session_epoch,
            max_wait_ms=dice.choice((0, 300)),
            min_bytes=1,
            max_bytes=1_000_000,
            max_records=dice.choice((1, 5, 100)),
            batch_size=dice.choice((1, 100)),
            share_acquire_mode=int(dice.random() < 0.5),
            topics=[fetching.FetchTopic(topic_id=self.topic_id, partitions=partitions)] if partitions else [],
        )
        self._about_to_send(given)
        sent_s, life = self.client.cluster.now(), self.client.cluster.lives
        response = await self._ask(request, 2, fetching.ShareFetchResponse, given)
        self._check_session(ErrorCode(response.error_code), given)
        self._in_session = set(self.assigned)
        for topic in response.responses:
            for data in topic.partitions:
                index = data.partition_index
                self._settle(index, given.get(index, []), ErrorCode(data.acknowledge_error_code), sent_s)
                code = ErrorCode(data.error_code)
                assert code is ErrorCode.NONE or code in RETRIABLE, code
                for acquired in data.acquired_records:
                    for offset in range(acquired.first_offset, acquired.last_offset + 1):
                        self.board.hand_out((index, offset), self, acquired.delivery_count, sent_s, life)
                        self.jobs[index, offset] = acquired.delivery_count
                if code is not ErrorCode.NONE:
                    await self.client.back_off()

    async def acknowledge(self, given: Batches) -> None:
        """A request of its own; GoneError when the session is over."""
        is_renew = any(kind == RENEW for batches in given.values() for _, _, kind in batches)
        partitions = [
            acknowledging.AcknowledgePartition(
                partition_index=index,
                acknowledgement_batches=[
                    acknowledging.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=[kind])
                    for first, last, kind in batches
                ],
            )
            for index, batches in sorted(given.items())
        ]
        request = acknowledging.ShareAcknowledgeRequest(
            group_id=WORKERS_GROUP,
            member_id=self.member_id,
            share_session_epoch=self._session_epoch,
            is_renew_ack=is_renew,
            topics=[acknowledging.AcknowledgeTopic(topic_id=self.topic_id, partitions=partitions)],
        )
        self._about_to_send(given)
        sent_s = self.client.cluster.now()
        response = await self._ask(request, 2, acknowledging.ShareAcknowledgeResponse, given)
        self._check_session(ErrorCode(response.error_code), given)
        for topic in response.responses:
            for data in topic.partitions:
                index = data.partition_index
                self._settle(index, given.get(index, []), ErrorCode(data.error_code), sent_s)

    async def close_session(self) -> None:
        """Give back whatever is not settled."""
        if not self._in_session:
            return
        self.board.drop(self)
        self.jobs.clear()
        request = fetching.ShareFetchRequest(
            group_id=WORKERS_GROUP,
            member_id=self.member_id,
            share_session_epoch=-1,
            max_wait_ms=0,
            min_bytes=0,
            max_records=0,
            batch_size=0,
        )
        self._in_session, self._session_epoch = set(), 0
        response = await self._ask(request, 2, fetching.ShareFetchResponse)
        assert response.error_code in (ErrorCode.NONE, ErrorCode.SHARE_SESSION_NOT_FOUND), response

    def _about_to_send(self, given: Batches) -> None:
        for index, batches in given.items():
            for first, last, kind in batches:
                for offset in range(first, last + 1):
                    if kind == RELEASE:
                        self.board.holds.pop((index, offset), None)
                    if kind != RENEW:
                        self.jobs.pop((index, offset), None)

    def _settle(self, index: int, batches: list[tuple[int, int, int]], code: ErrorCode, sent_s: float) -> None:
        board = self.board
        if code is not ErrorCode.NONE:
            # The last is how a state that cannot be written, as the disk fails, looks to a client.
            allowed = (
                ErrorCode.INVALID_RECORD_STATE,
                ErrorCode.NOT_LEADER_OR_FOLLOWER,
                ErrorCode.UNKNOWN_SERVER_ERROR,
            )
            assert code in allowed or code in RETRIABLE, code
            board.cluster.count(f"acknowledgements refused with {code.name}")
            # Some of the batches may have been taken, others not.
            self._doubt({index: batches})
            return
        for first, last, kind in batches:
            jobs = {(index, offset) for offset in range(first, last + 1)}
            if kind == ACCEPT:
                board.done |= jobs
                board.cluster.count("jobs done", len(jobs))
            elif kind == REJECT:
                board.rejected |= jobs
            elif kind == RENEW:
                board.cluster.count("renewed")
                for job in jobs:
                    if job in board.holds:
                        board.holds[job].until_s = sent_s + LOCK_S
            if kind != RENEW:
                for job in jobs:
                    board.holds.pop(job, None)

    def _doubt(self, given: Batches) -> None:
        for index, batches in given.items():
            for first, last, kind in batches:
                jobs = {(index, offset) for offset in range(first, last + 1)}
                for job in jobs:
                    self.board.holds.pop(job, None)
                if kind in (ACCEPT, REJECT):
                    self.board.in_doubt |= jobs

    def _check_session(self, code: ErrorCode, given: Batches) -> None:
        if code is ErrorCode.NONE:
            self._session_epoch += 1
            return
        sessions = (ErrorCode.SHARE_SESSION_NOT_FOUND, ErrorCode.INVALID_SHARE_SESSION_EPOCH)
        assert code in sessions or code in RETRIABLE, code
        self._doubt(given)
        self._lost()
        raise GoneError(code.name)

    def _lost(self) -> None:
        self.board.drop(self)
        self.jobs.clear()
        self._in_session, self._session_epoch = set(), 0

    async def _ask(self, request, version, response, given: Batches | None = None):  # type: ignore[no-untyped-def]
        try:
            return await self.client.ask(request, version, response)
        except (BrokenError, asyncio.CancelledError) as error:
            self.board.lost_answers += 1
            self._doubt(given or {})
            self._lost()
            if isinstance(error, asyncio.CancelledError):
                raise
            await self.client.back_off()
            raise GoneError(str(error)) from None


class Sharing:
    """The share group, its topic, and its workers."""

    def __init__(self, cluster: Cluster, ledger: Ledger, *, slots: int, transactional: bool) -> None:
        self.cluster = cluster
        self.ledger = ledger
        self.board = Board(cluster)
        self.slots = slots
        self.transactional = transactional
        self.is_over = False
        self._admin = cluster.client("share-admin")

    async def create_topics(self) -> None:
        await self._admin.find_coordinator(WORKERS_GROUP, GROUP)
        topic_id = await self._admin.create_topic(JOBS, PARTITIONS)
        key = f"{WORKERS_GROUP}:{uuid_to_text(topic_id)}:0"
        await self._admin.find_coordinator(key, SHARE)
        if self.transactional:
            await self._admin.find_coordinator("foreman", TRANSACTION)
        await self._admin.alter(
            GROUP_RESOURCE,
            WORKERS_GROUP,
            share_auto_offset_reset="earliest",
            share_isolation_level="read_committed" if self.transactional else "read_uncommitted",
        )

    def start(self) -> None:
        self.cluster.spawn(self._submit_in_transactions() if self.transactional else self._submit())
        for slot in range(self.slots):
            self.cluster.spawn(self._keep_running(slot))

    async def _submit(self) -> None:
        client = self.cluster.client("submitter")
        producer = IdempotentProducer(client, self.ledger)
        await producer.start()
        number = 0
        while not self.cluster.is_calm:
            size = client.random.choice((1, 1, 4, 12))
            values = [b"%d" % (number + index) for index in range(size)]
            number += size
            await producer.write(JOBS, client.random.randrange(PARTITIONS), [(None, value) for value in values])
            await asyncio.sleep(client.random.expovariate(4))

    async def _submit_in_transactions(self) -> None:
        client = self.cluster.client("foreman")
        producer = TransactionalProducer(client, self.ledger, "foreman", timeout_ms=3_000, v2=True)
        number = 0
        while not self.cluster.is_calm:
            try:
                if producer.producer_id < 0:
                    await producer.start()
                producer.begin()
                for _ in range(client.random.randint(1, 3)):
                    size = client.random.choice((1, 3, 8))
                    values = [b"%d" % (number + index) for index in range(size)]
                    number += size
                    partition = client.random.randrange(PARTITIONS)
                    await producer.write(JOBS, partition, [(None, value) for value in values])
                    await asyncio.sleep(client.random.expovariate(20))
                await producer.end(is_commit=client.random.random() < 0.7)
            except (AbortableError, FencedError):
                # Timed out, or the node ended: nobody else has this id, so a new start ends what is open.
                producer.transaction = None
                await producer.start()
            await asyncio.sleep(client.random.expovariate(4))
        client.close()

    async def _keep_running(self, slot: int) -> None:
        dice = self.cluster.random(f"worker slot {slot}")
        number = 0
        while not self.is_over:
            number += 1
            client = self.cluster.client(f"worker-{slot}.{number}")
            worker = Worker(client, self.board)
            running = self.cluster.spawn(self._work(worker))
            while not running.done() and not self.is_over:
                await asyncio.wait({running}, timeout=dice.expovariate(1 / MEAN_LIFE_S))
                if not self.cluster.is_calm:
                    break
            running.cancel()
            self.board.drop(worker)
            client.close()
            await asyncio.sleep(dice.choice((0.01, dice.random(), 3 * dice.random())))

    async def _work(self, worker: Worker) -> None:
        dice = worker.client.random
        rounds = dice.choice((5, 50, 1_000_000))
        given: Batches = {}
        while rounds or self.cluster.is_calm:
            rounds -= 1
            try:
                await worker.heartbeat()
                sent, given = given, {}
                await worker.fetch(sent)
                await asyncio.sleep(dice.expovariate(20))
                if not self.cluster.is_calm and dice.random() < 0.03:
                    self.cluster.count("naps")
                    await asyncio.sleep(dice.choice((1.0, 2 * LOCK_S)) * dice.random())
                given = self._decide(worker)
                if given and (dice.random() < 0.4 or any(kind == RENEW for b in given.values() for _, _, kind in b)):
                    sent, given = given, {}
                    await worker.acknowledge(sent)
                if not worker.assigned:
                    await asyncio.sleep(0.1)
            except GoneError:
                given = {}
        try:
            await worker.leave()
            self.cluster.count("workers that left")
        except GoneError:
            pass

    def _decide(self, worker: Worker) -> Batches:
        """What to say of the jobs at hand; of some nothing, for now."""
        dice = worker.client.random
        given: Batches = {}
        kinds = (ACCEPT,) if self.cluster.is_calm else (ACCEPT, ACCEPT, ACCEPT, ACCEPT, RELEASE, REJECT, RENEW, 0)
        kind = 0
        is_renewing = not self.cluster.is_calm and dice.random() < 0.1
        for index, offset in sorted(worker.jobs):
            if not kind or dice.random() < 0.3:
                kind = RENEW if is_renewing else dice.choice(kinds)
            if kind == RENEW and not is_renewing:
                kind = ACCEPT
            if kind:
                batches = given.setdefault(index, [])
                if batches and batches[-1][1] == offset - 1 and batches[-1][2] == kind:
                    batches[-1] = (batches[-1][0], offset, kind)
                else:
                    batches.append((offset, offset, kind))
        return given

    # -- what must hold

    async def start_offsets(self) -> dict[int, int]:
        """Where the group stands, as an administrator sees it."""
        asked = DescribeShareGroupOffsetsRequestGroup(group_id=WORKERS_GROUP, topics=None)
        request = DescribeShareGroupOffsetsRequest(groups=[asked])
        response = await self._admin.insist(request, 1, DescribeShareGroupOffsetsResponse)
        [group] = response.groups
        if group.error_code != ErrorCode.NONE:
            return {}
        return {
            part.partition_index: part.start_offset
            for topic in group.topics
            for part in topic.partitions
            if part.error_code == ErrorCode.NONE
        }

    def check_fates(self, standing: dict[int, dict[int, object]], aborted: dict[int, dict[int, object]]) -> None:
        """Every job that stands was done, rejected, or tried as often as it may be; nobody got an aborted one."""
        board = self.board
        for index, offsets in standing.items():
            for offset in offsets:
                job = (index, offset)
                settled = job in board.done or job in board.rejected or job in board.in_doubt
                if not settled and board.deliveries.get(job, 0) + board.lost_answers < MOST_DELIVERIES:
                    self.cluster.fail(f"{job} is gone, after {board.deliveries.get(job, 0)} deliveries")
        for index, offsets in aborted.items():
            for offset in offsets:
                if (index, offset) in board.deliveries:
                    self.cluster.fail(f"{(index, offset)} was delivered, and was aborted")

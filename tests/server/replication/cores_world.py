"""Three brokers as cores: partitions, fetchers and ISR proposals, with a network that loses messages and a controller
that elects, without sockets and without a clock.

The controller is slow to hear of ISRs, followers fall behind one by one, and leaders change most while a proposal is
under way: that is when it matters who counts.

What is checked after every step: a record that was committed once is in the log of every leader that comes later, at
its offset (looked at when it is elected, and now and then); the high watermark of a leader never goes back; below the
lowest high watermark all logs are the same.
"""

from __future__ import annotations

import logging
from random import Random
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
)
from ottla.protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.records.batch import batches
from ottla.records.validation import AppendOrigin
from ottla.server.broker.fetch_sessions import FetchSessionCache, forgotten_partitions
from ottla.server.log.config import LogConfig
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.metadata.image import BrokerImage, MetadataImage, PartitionImage
from ottla.server.replication.cluster_view import ClusterView
from ottla.server.replication.fetcher import EARLIEST, FetcherSettings, LeaderFetcher
from ottla.server.replication.isr_proposals import IsrProposals
from ottla.server.replication.partition import Partition
from tests.server.log.support import NOW, batch, new_disk

TOPIC = TopicPartition("replicated", 0)
TOPIC_ID = bytes(range(16))
DIRECTORY = "/data/replicated-0"
NODES = (1, 2, 3)
LAG_MS = 200
logging.getLogger("ottla.server.replication").setLevel(logging.CRITICAL)


class Broker:
    """One broker: its log stays when it crashes, everything else is made anew."""

    def __init__(self, node_id: int, settings: dict[str, Any]) -> None:
        self.node_id = node_id
        self.host = SimpleHost(new_disk())
        self.config = LogConfig(**settings)
        self.log = create_log(self.host, TOPIC, DIRECTORY, TOPIC_ID, self.config)
        self.checkpointed_high_watermark = 0
        self.broker_epoch = 0
        self.is_alive = False
        self.sleeps_until_ms = 0
        """Until then it does not fetch."""
        self.images: list[tuple[PartitionImage, dict[int, BrokerImage]]] = []

    def start(self, broker_epoch: int, random: Random) -> None:
        self.broker_epoch = broker_epoch
        self.is_alive = True
        self.view = ClusterView(LAG_MS)
        self.view.propose_isr = lambda partition, pending: self.proposals.add(partition, pending)
        self.proposals = IsrProposals(self.node_id)
        self.partition = Partition(self.node_id, TOPIC, TOPIC_ID, self.log, self.view)
        self.sessions = FetchSessionCache(1000, random)
        self.fetchers: dict[int, LeaderFetcher] = {}
        self.leading_high_watermark = -1
        self.images = []

    def crash(self) -> None:
        """The process ends; what was written stays."""
        self.is_alive = False
        self.log.close()
        request = LoadRequest(
            self.log.recovery_point, self.log.log_start_offset, self.checkpointed_high_watermark, False
        )
        self.log = load_log(self.host, TOPIC, DIRECTORY, self.config, request, NOW)

    def fetcher(self, leader: int) -> LeaderFetcher:
        if leader not in self.fetchers:
            settings = FetcherSettings(backoff_ms=20, partition_max_bytes=2000, response_max_bytes=4000)
            self.fetchers[leader] = LeaderFetcher(self.node_id, lambda: self.broker_epoch, settings)
        return self.fetchers[leader]


class World:
    def __init__(self, seed: int) -> None:
        random = self.random = Random(seed)
        settings = {
            "segment_bytes": random.choice([600, 3000, 1 << 20]),
            "index_interval_bytes": random.choice([1, 200, 4096]),
        }
        self.min_isr = random.choice([1, 2])
        self.brokers = {node: Broker(node, settings) for node in NODES}
        self.now_ms = 1000
        self.placement = PartitionImage(replicas=NODES, isr=NODES, leader=1, leader_epoch=0, partition_epoch=0)
        self.epochs = dict.fromkeys(NODES, 0)
        self.next_epoch = 1
        self.committed: dict[int, bytes] = {}
        self.in_flight: list[tuple[Any, ...]] = []
        self.asking: set[tuple[int, int]] = set()
        self.appended = self.elections = self.cut = 0
        self.loss = random.choice([0.0, 0.05, 0.2])
        for node in NODES:
            self.start(node)

    # The controller

    def publish(self, **changes: Any) -> None:
        self.placement = self.placement._replace(partition_epoch=self.placement.partition_epoch + 1, **changes)
        self.tell_all()

    def tell_all(self) -> None:
        brokers = {
            node: BrokerImage(node, self.epochs[node], bytes(16), {}, {}, fenced=not self.brokers[node].is_alive)
            for node in NODES
        }
        for broker in self.brokers.values():
            if broker.is_alive:
                broker.images.append((self.placement, brokers))

    def elect(self, leader: int) -> None:
        self.elections += 1
        self.publish(leader=leader, leader_epoch=self.placement.leader_epoch + 1)
        self.check_leader_has_all()

    def start(self, node: int) -> None:
        self.epochs[node] = self.next_epoch
        self.next_epoch += 1
        self.brokers[node].start(self.epochs[node], self.random)
        if self.placement.leader < 0 and node in self.placement.isr:
            self.elect(node)
        else:
            self.tell_all()

    def crash(self, node: int) -> None:
        broker = self.brokers[node]
        broker.crash()
        self.in_flight = [message for message in self.in_flight if node not in message[1:3]]
        self.asking = {pair for pair in self.asking if node not in pair}
        for other in self.brokers.values():
            if other.is_alive and node in other.fetchers:
                other.fetchers[node].request_failed(self.now_ms)
        isr = self.placement.isr
        if node in isr and len(isr) > 1:
            self.publish(isr=tuple(member for member in isr if member != node))
        if self.placement.leader == node:
            alive = [member for member in self.placement.isr if self.brokers[member].is_alive]
            self.elect(self.random.choice(alive) if alive else -1)
        else:
            self.tell_all()

    def alter(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        if request.broker_epoch != self.epochs[request.broker_id]:
            return AlterPartitionResponse(error_code=ErrorCode.STALE_BROKER_EPOCH)
        data = request.topics[0].partitions[0]
        answer = AlterPartitionResponsePartitionData(partition_index=0)
        wanted = {state.broker_id: state.broker_epoch for state in data.new_isr_with_epochs}
        placement = self.placement
        if data.leader_epoch != placement.leader_epoch or request.broker_id != placement.leader:
            answer.error_code = ErrorCode.FENCED_LEADER_EPOCH
        elif data.partition_epoch != placement.partition_epoch:
            answer.error_code = ErrorCode.INVALID_UPDATE_VERSION
        elif any(
            not self.brokers[node].is_alive or epoch not in (-1, self.epochs[node]) for node, epoch in wanted.items()
        ):
            answer.error_code = ErrorCode.INELIGIBLE_REPLICA
        else:
            self.publish(isr=tuple(sorted(wanted)))
            answer.isr = list(self.placement.isr)
            answer.leader_id, answer.leader_epoch = self.placement.leader, self.placement.leader_epoch
            answer.partition_epoch = self.placement.partition_epoch
        topic = AlterPartitionResponseTopicData(topic_id=TOPIC_ID, partitions=[answer])
        return AlterPartitionResponse(topics=[topic])

    # What a leader answers

    def answer_fetch(self, leader: Broker, request: FetchRequest) -> FetchResponse:
        replica, sessions = request.replica_state.replica_id, leader.sessions
        if request.session_epoch == 0:
            sessions.close(request.session_id)
            session = sessions.create(1, privileged=True, uses_topic_ids=True, now_ms=self.now_ms)
            assert session is not None
        else:
            try:
                session = sessions.resume(request.session_id, request.session_epoch, uses_topic_ids=True)
            except ApiError as error:
                return FetchResponse(error_code=error.code)
            sessions.advance(session, self.now_ms)
        session.update(
            ((topic.topic_id, wanted) for topic in request.topics for wanted in topic.partitions),
            forgotten_partitions(request.forgotten_topics_data, uses_topic_ids=True),
        )
        told = []
        for entry in list(session.partitions.values()):
            data = self.read(leader.partition, entry.request, replica, request.replica_state.replica_epoch)
            if entry.has_news(data) or request.session_epoch == 0:
                told.append(data)
        topics = [FetchableTopicResponse(topic_id=TOPIC_ID, partitions=told)] if told else []
        return FetchResponse(session_id=session.session_id, responses=topics)

    def read(self, partition: Partition, wanted: Any, replica: int, broker_epoch: int) -> PartitionData:
        data = PartitionData(partition_index=0, high_watermark=-1, records=b"")
        log = partition.log
        if error := partition.check_leader_epoch(wanted.current_leader_epoch):
            data.error_code = error
            return data
        if wanted.last_fetched_epoch >= 0:
            epoch, end_offset = partition.end_offset_for_epoch(wanted.last_fetched_epoch)
            if epoch < 0 or wanted.fetch_offset < log.log_start_offset:
                data.error_code = ErrorCode.OFFSET_OUT_OF_RANGE
                return data
            if epoch < wanted.last_fetched_epoch or end_offset < wanted.fetch_offset:
                data.diverging_epoch = EpochEndOffset(epoch=epoch, end_offset=end_offset)
                self.cut += 1
                return data
        if not log.log_start_offset <= wanted.fetch_offset <= log.log_end_offset:
            data.error_code = ErrorCode.OFFSET_OUT_OF_RANGE
            return data
        partition.follower_fetched(replica, wanted.fetch_offset, wanted.log_start_offset, broker_epoch, self.now_ms)
        found = log.read(
            wanted.fetch_offset, wanted.partition_max_bytes, upper_bound=log.log_end_offset, min_one_batch=True
        )
        data.records = memoryview(bytearray(found.read()))
        data.high_watermark, data.log_start_offset = log.high_watermark, log.log_start_offset
        return data

    def answer_offsets(self, leader: Broker, request: ListOffsetsRequest) -> ListOffsetsResponse:
        wanted = request.topics[0].partitions[0]
        answer = ListOffsetsPartitionResponse(partition_index=0)
        answer.error_code = leader.partition.check_leader_epoch(wanted.current_leader_epoch)
        if not answer.error_code:
            log = leader.partition.log
            answer.offset = log.log_start_offset if wanted.timestamp == EARLIEST else log.log_end_offset
        return ListOffsetsResponse(topics=[ListOffsetsTopicResponse(name=TOPIC.topic, partitions=[answer])])

    # Steps

    def step(self) -> None:
        random = self.random
        self.now_ms += random.randrange(4)
        node = random.choice(NODES)
        broker = self.brokers[node]
        choice = random.random()
        if not broker.is_alive:
            if choice < 0.05:
                self.start(node)
        elif broker.images and choice < 0.3:
            self.take_image(broker)
        elif choice < 0.55:
            self.ask(broker)
        elif choice < 0.7:
            self.produce(broker)
        elif choice < 0.72 and broker.partition.is_leader:
            self.delete_records(broker.partition)
        elif choice < 0.74:
            broker.checkpointed_high_watermark = broker.log.high_watermark
        elif choice < 0.76:
            broker.partition.check_isr(self.now_ms)
        elif choice < 0.763:
            self.now_ms += LAG_MS
        elif choice < 0.767:
            broker.sleeps_until_ms = self.now_ms + 2 * LAG_MS
        elif choice < 0.774:
            self.crash(node)
        elif choice < 0.78 and self.placement.leader >= 0:
            alive = [member for member in self.placement.isr if self.brokers[member].is_alive]
            self.elect(random.choice(alive))
        elif self.in_flight:
            index = random.randrange(len(self.in_flight))
            if self.in_flight[index][0] != "alter":
                self.deliver(index)
            elif random.random() < 0.1:
                self.elect_amid(self.in_flight[index][3])
            elif random.random() < 0.3:
                self.deliver(index)
        self.check()

    def elect_amid(self, request: AlterPartitionRequest) -> None:
        """Somebody leads whom the leader proposes to do without, or anybody else, before the controller hears of it."""
        proposed = {state.broker_id for state in request.topics[0].partitions[0].new_isr_with_epochs}
        alive = [member for member in self.placement.isr if self.brokers[member].is_alive]
        late = [member for member in alive if member not in proposed]
        if alive and self.placement.leader >= 0:
            self.elect(self.random.choice(late or alive))

    def take_image(self, broker: Broker) -> None:
        if self.random.random() < 0.2:
            del broker.images[:-1]  # what was committed meanwhile comes at once
        placement, brokers = broker.images.pop(0)
        broker.view.image = MetadataImage(brokers=brokers)
        partition = broker.partition
        before = partition.leader_id, partition.leader_epoch
        partition.update_min_isr(self.min_isr)
        partition.update_leadership(
            placement.leader,
            placement.leader_epoch,
            placement.replicas,
            placement.isr,
            placement.partition_epoch,
            self.now_ms,
        )
        if before != (partition.leader_id, partition.leader_epoch):
            broker.leading_high_watermark = -1
            for fetcher in broker.fetchers.values():
                fetcher.forget(partition)
            if partition.leader_id not in (-1, broker.node_id):
                broker.fetcher(partition.leader_id).follow(partition)

    def ask(self, broker: Broker) -> None:
        for leader, fetcher in broker.fetchers.items():
            if (broker.node_id, leader) not in self.asking and self.now_ms >= broker.sleeps_until_ms:
                request = fetcher.next_request(self.now_ms)
                if request is not None:
                    self.asking.add((broker.node_id, leader))
                    self.in_flight.append(("ask", broker.node_id, leader, request))
        request_isr = broker.proposals.next_request(broker.broker_epoch)
        if request_isr is not None:
            self.in_flight.append(("alter", broker.node_id, 0, request_isr))

    def deliver(self, index: int) -> None:
        kind, sender, receiver, message = self.in_flight.pop(index)
        lost = self.random.random() < self.loss
        broker = self.brokers[sender]
        if kind == "ask":
            leader = self.brokers[receiver]
            if lost or not leader.is_alive:
                self.lost(sender, receiver)
            elif isinstance(message, FetchRequest):
                self.in_flight.append(("answer", sender, receiver, self.answer_fetch(leader, message)))
            else:
                self.in_flight.append(("answer", sender, receiver, self.answer_offsets(leader, message)))
        elif kind == "answer":
            if lost:
                self.lost(sender, receiver)
                return
            self.asking.discard((sender, receiver))
            fetcher = broker.fetchers[receiver]
            if isinstance(message, FetchResponse):
                fetcher.fetched(message, self.now_ms, NOW)
            else:
                fetcher.offsets_found(message, self.now_ms, NOW)
            fetcher.check_invariants()
        elif kind == "alter":
            if lost:
                broker.proposals.failed()
            else:
                self.in_flight.append(("altered", sender, 0, self.alter(message)))
        elif lost:
            broker.proposals.failed()
        else:
            broker.proposals.answered(message)

    def lost(self, sender: int, receiver: int) -> None:
        self.asking.discard((sender, receiver))
        self.brokers[sender].fetchers[receiver].request_failed(self.now_ms)

    def produce(self, broker: Broker) -> None:
        records = batch(self.random.randrange(1, 4), size=self.random.randrange(60), timestamp=NOW + self.appended)
        try:
            broker.partition.append(records, self.random.choice([1, -1]), NOW, AppendOrigin.CLIENT)
            self.appended += 1
        except ApiError as error:
            if error.code not in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS):
                raise

    def delete_records(self, partition: Partition) -> None:
        log = partition.log
        if self.random.random() < 0.3 and partition.leader_epoch == self.placement.leader_epoch:
            partition.delete_records_before(self.random.randrange(log.log_start_offset, log.high_watermark + 1))

    # Checks

    def check(self) -> None:
        for broker in self.brokers.values():
            if not broker.is_alive:
                continue
            partition = broker.partition
            partition.log.check_invariants()
            if partition.followers is not None:
                partition.followers.check_invariants()
            if partition.is_leader:
                high_watermark = partition.log.high_watermark
                assert high_watermark >= broker.leading_high_watermark, "the high watermark goes back"
                if high_watermark > broker.leading_high_watermark:
                    broker.leading_high_watermark = high_watermark
                    self.note_committed(broker)

    def note_committed(self, broker: Broker) -> None:
        for offset, data in contents(broker.log).items():
            # Below its start a log may have kept what nobody can read, and others have cut.
            if broker.log.log_start_offset <= offset < broker.log.high_watermark:
                known = self.committed.setdefault(offset, data)
                assert known == data, f"offset {offset} was committed with other records"

    def check_leader_has_all(self) -> None:
        """Of a leader that is up to date: nothing that was committed may be missing."""
        leader = self.brokers.get(self.placement.leader)
        if leader is not None and leader.is_alive:
            mine = contents(leader.log)
            for offset, data in self.committed.items():
                if offset >= leader.log.log_start_offset:
                    assert mine.get(offset) == data, f"what was committed at {offset} is lost"

    def settle(self) -> None:
        """Everybody comes back, nothing is lost any more: in the end all logs are the same, and committed."""
        self.loss = 0.0
        for node, broker in self.brokers.items():
            if not broker.is_alive:
                self.start(node)
        for _ in range(5000):
            self.now_ms += 5
            for broker in self.brokers.values():
                while broker.images:
                    self.take_image(broker)
                self.ask(broker)
            while self.in_flight:
                self.deliver(0)
            self.check()
            if self.is_settled():
                return
        raise AssertionError("the logs do not become the same")

    def is_settled(self) -> bool:
        # Where logs start is not agreed upon: a new leader may not have heard of it yet.
        logs = [broker.log for broker in self.brokers.values()]
        return (
            len(self.placement.isr) == len(NODES)
            and len({(log.log_end_offset, log.high_watermark) for log in logs}) == 1
            and logs[0].high_watermark == logs[0].log_end_offset
        )

    def check_same(self) -> None:
        """All logs have the same bytes, from where all of them can be read."""
        all_contents = [contents(broker.log) for broker in self.brokers.values()]
        start = max(broker.log.log_start_offset for broker in self.brokers.values())
        trimmed = [{offset: data for offset, data in found.items() if offset >= start} for found in all_contents]
        assert trimmed[0] == trimmed[1] == trimmed[2]


def contents(log: Any) -> dict[int, bytes]:
    """Base offset → batch, of the whole log."""
    found = {}
    for segment in log.segments:
        data = bytes(segment.file.read_at(0, segment.size))
        for position, header in batches(data):
            found[header.base_offset] = data[position : position + header.size_in_bytes]
    return found

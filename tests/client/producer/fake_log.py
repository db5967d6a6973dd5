"""Logs behind the fake brokers, which keep the rules that matter to a producer: leaders, sequences, sizes."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.records.batch import crc_matches, parse_header
from ottla.records.record import Record, read_batch_records
from tests.client.network.fake_broker import CLOSE, SILENCE, Call, FakeCluster

REMEMBERED = 5


class FakeLogs:
    """All partitions of a fake cluster."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.logs: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.max_message_bytes = 1 << 30
        self.bad_values: set[bytes] = set()
        self.refusals: deque[int] = deque()
        """Error codes for the next batches, whatever is in them."""
        self.appended_batches = 0
        self.duplicates = 0
        self._producers: dict[tuple[str, int, int], tuple[int, deque[tuple[int, int, int]]]] = {}
        self._next_producer_id = 1000
        for broker in cluster:
            broker.on(ApiKey.PRODUCE, self.produce)
            broker.on(ApiKey.INIT_PRODUCER_ID, self.init_producer_id)

    def values(self, topic: str) -> list[bytes | None]:
        """The values of all partitions, one partition after the other."""
        return [record.value for key in sorted(self.logs) if key[0] == topic for record in self.logs[key]]

    def init_producer_id(self, request: Any, call: Call) -> InitProducerIdResponse:
        self._next_producer_id += 1
        return InitProducerIdResponse(producer_id=self._next_producer_id, producer_epoch=0)

    def produce(self, request: Any, call: Call) -> Any:
        names = {topic.id: name for name, topic in self.cluster.topics.items()}
        responses = []
        for topic in request.topic_data:
            name = names.get(topic.topic_id) if topic.topic_id != ZERO_UUID else topic.name
            answers = [self._append(name, each.index, each.records, call) for each in topic.partition_data]
            responses.append(
                TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers)
            )
        if request.acks == 0:
            return SILENCE
        if call.version < 10:
            return ProduceResponse(responses=responses)
        endpoints = [NodeEndpoint(node_id=one.id, host=one.host, port=one.port) for one in self.cluster]
        return ProduceResponse(responses=responses, node_endpoints=endpoints)

    def produce_and_lose_the_answer(self, request: Any, call: Call) -> Any:
        self.produce(request, call)
        return CLOSE

    def _append(self, name: str | None, index: int, data: Any, call: Call) -> PartitionProduceResponse:
        def refuse(code: int, **more: Any) -> PartitionProduceResponse:
            return PartitionProduceResponse(index=index, error_code=code, base_offset=-1, **more)

        if name is None:
            return refuse(ErrorCode.UNKNOWN_TOPIC_ID)
        if self.refusals:
            return refuse(self.refusals.popleft())
        partition = self.cluster.topics[name].partitions[index]
        if partition.leader != call.broker.id:
            leader = LeaderIdAndEpoch(leader_id=partition.leader, leader_epoch=partition.leader_epoch)
            return refuse(ErrorCode.NOT_LEADER_OR_FOLLOWER, current_leader=leader)
        buffer = bytes(data)
        header = parse_header(buffer)
        assert crc_matches(buffer, 0, header)
        assert header.size_in_bytes == len(buffer)
        if len(buffer) > self.max_message_bytes:
            return refuse(ErrorCode.MESSAGE_TOO_LARGE)
        records = read_batch_records(buffer, 0, header)
        bad = [number for number, record in enumerate(records) if record.value in self.bad_values]
        if bad:
            errors = [BatchIndexAndErrorMessage(batch_index=number, batch_index_error_message="bad") for number in bad]
            return refuse(ErrorCode.INVALID_TIMESTAMP, record_errors=errors, error_message="some are bad")
        log = self.logs[name, index]
        if header.has_producer_id:
            found = self._check_sequence((name, index, header.producer_id), header, len(log))
            if isinstance(found, ErrorCode):
                return refuse(found)
            if found is not None:
                self.duplicates += 1
                return PartitionProduceResponse(index=index, error_code=0, base_offset=found)
        self.appended_batches += 1
        base_offset = len(log)
        log.extend(records)
        return PartitionProduceResponse(index=index, error_code=0, base_offset=base_offset)

    def _check_sequence(self, key: tuple[str, int, int], header: Any, base_offset: int) -> ErrorCode | int | None:
        epoch, batches = self._producers.get(key, (-1, deque(maxlen=REMEMBERED)))
        first, last = header.base_sequence, header.last_sequence
        if header.producer_epoch < epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if header.producer_epoch > epoch:
            if first != 0:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
            batches = deque(maxlen=REMEMBERED)
        for old_first, old_last, offset in batches:
            if (old_first, old_last) == (first, last):
                return offset
        if batches and first != (batches[-1][1] + 1) & 0x7FFFFFFF:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
        batches.append((first, last, base_offset))
        self._producers[key] = (header.producer_epoch, batches)
        return None

"""Transactions over a plain socket: what the broker takes for one, in either version of the protocol."""

from __future__ import annotations

import socket
import time
import uuid
from typing import Any

from benchmarks.measure import Measures, percentiles
from benchmarks.topics import Options, Target
from benchmarks.wire import WireError
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.message import Request
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.records.record import Record, build_batch

# Loading, not available, not coordinator, transaction before not complete yet: a client asks again.
NOT_YET = (14, 15, 16, 51)
PAUSE_S = 0.001


def transactions_raw(target: Target, options: Options, version: int, records: int = 100) -> Measures:
    """One producer, one partition, a hundred records a transaction; asked again after a millisecond while the
    transaction before is being completed."""
    with target.topic(1) as topic, _Producer(target.bootstrap, version, topic) as producer:
        payload = [Record(timestamp_ms=int(time.time() * 1000), value=b"x" * 100)] * records
        for _ in range(20):
            producer.transaction(payload)
        latencies = []
        with target.window() as measured:
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                start = time.perf_counter_ns()
                producer.transaction(payload)
                latencies.append(time.perf_counter_ns() - start)
    measures = {"txn_s": len(latencies) / measured.seconds, **percentiles(latencies, "txn_")}
    if measured.broker_cpu_s:
        measures["broker_cpu_ms_per_txn"] = measured.broker_cpu_s / len(latencies) * 1e3
    return measures


class _Producer:
    """A transactional producer of a few lines; `version` is the transaction.version that it speaks."""

    def __init__(self, bootstrap: str, version: int, topic: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._correlation_id = 0
        self._version = version
        self._topic = topic
        self._key = f"raw-{uuid.uuid4().hex[:8]}"
        self._sequence = 0
        find = FindCoordinatorRequest(key=self._key, key_type=1)
        self._until(find, 3, FindCoordinatorResponse, lambda answer: answer.error_code)
        init = InitProducerIdRequest(transactional_id=self._key, transaction_timeout_ms=60_000)
        made = self._until(init, 4, InitProducerIdResponse, lambda answer: answer.error_code)
        self._producer_id, self._epoch = made.producer_id, made.producer_epoch

    def __enter__(self) -> _Producer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def transaction(self, records: list[Record]) -> None:
        """Begin, write, commit."""
        if self._version < 2:
            add = AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self._key,
                v3_and_below_producer_id=self._producer_id,
                v3_and_below_producer_epoch=self._epoch,
                v3_and_below_topics=[AddPartitionsToTxnTopic(name=self._topic, partitions=[0])],
            )
            self._until(
                add,
                3,
                AddPartitionsToTxnResponse,
                lambda answer: answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code,
            )
        batch = build_batch(
            records,
            producer_id=self._producer_id,
            producer_epoch=self._epoch,
            base_sequence=self._sequence,
            transactional=True,
        )
        data = TopicProduceData(name=self._topic, partition_data=[PartitionProduceData(index=0, records=bytes(batch))])
        produce = ProduceRequest(transactional_id=self._key, acks=-1, timeout_ms=30_000, topic_data=[data])
        self._until(
            produce,
            11 if self._version < 2 else 12,
            ProduceResponse,
            lambda answer: answer.responses[0].partition_responses[0].error_code,
        )
        end = EndTxnRequest(
            transactional_id=self._key, producer_id=self._producer_id, producer_epoch=self._epoch, committed=True
        )
        ended = self._until(end, 3 if self._version < 2 else 5, EndTxnResponse, lambda answer: answer.error_code)
        if self._version < 2:
            self._sequence += len(records)
        else:
            self._producer_id, self._epoch, self._sequence = ended.producer_id, ended.producer_epoch, 0

    def _until(self, request: Request, version: int, response: Any, code_of: Any) -> Any:
        while True:
            answer = self._ask(request, version, response)
            code = code_of(answer)
            if code == 0:
                return answer
            if code not in NOT_YET:
                raise WireError(f"{type(request).__name__} is refused", code)
            time.sleep(PAUSE_S)

    def _ask(self, request: Request, version: int, response: Any) -> Any:
        self._correlation_id += 1
        self._socket.sendall(b"".join(encode_request(request, version, self._correlation_id, "benchmark")))
        size = int.from_bytes(self._receive(4), "big")
        flexible = response_header_version(request.API_KEY, version) == 1
        return decode(response, version, self._receive(size), 5 if flexible else 4)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                raise WireError("the broker closed the connection")
            data += more
        return data

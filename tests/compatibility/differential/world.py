"""One broker behind raw requests: what a scenario asks with, and the record of what was answered."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol import apis
from ottla.protocol.connection import NEED_DATA, ClientConnection
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.batch import update_crc
from ottla.records.record import Record, build_batch

TIMEOUT_S = 30.0
SETTLE_S = 1.0
CLOSED = "the connection was closed"

Step = tuple[str, Any]
"""What was asked, and the answer: a message, bytes, or `CLOSED`."""


class Wire:
    """One connection. After the broker closed it the next request opens another."""

    def __init__(self, address: tuple[str, int], client_id: str) -> None:
        self.address, self.client_id = address, client_id
        self.socket: socket.socket | None = None

    def _open(self) -> socket.socket:
        if self.socket is None:
            self.socket = socket.create_connection(self.address, TIMEOUT_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.protocol = ClientConnection(self.client_id)
        return self.socket

    def send(self, request: Request, version: int, *, expect_response: bool = True) -> None:
        self._open().sendall(b"".join(self.send_parts(request, version, expect_response)))

    def send_parts(self, request: Request, version: int, expect_response: bool) -> list[Any]:
        self._open()
        return self.protocol.send(request, version, expect_response=expect_response)

    def receive(self) -> Response | None:
        """The next response, or None when the broker closed the connection instead."""
        assert self.socket is not None
        while (response := self.protocol.next_response()) is NEED_DATA:
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                self.close()
                return None
            self.protocol.receive_data(data)
        return response.body

    def exchange(self, data: bytes) -> bytes | None:
        """Send these bytes on a connection of their own; the first frame that comes back, None when it is closed."""
        with socket.create_connection(self.address, TIMEOUT_S) as raw:
            raw.sendall(data)
            received = b""
            while len(received) < 4 or len(received) < 4 + struct.unpack_from(">i", received)[0]:
                try:
                    more = raw.recv(1 << 16)
                except ConnectionResetError:
                    return None
                if not more:
                    return None
                received += more
            return received

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class World:
    """One broker: `ask` sends a request and writes down the answer under a label."""

    def __init__(self, kind: str, bootstrap: str, *, run: str = "", base_ms: int | None = None) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self.kind, self.address = kind, (host, int(port))
        self._name_of_run = self.run = run
        self._scenarios = 0
        self.base_ms = int(time.time() * 1000) - 600_000 if base_ms is None else base_ms
        self.steps: list[Step] = []
        self.scenario = ""
        self.reference: World | None = None
        self.names: dict[Any, str] = {}
        """Values that the broker made up, with the name that the record gives them."""
        self.wires: list[Wire] = []
        self.wire = self.new_wire()
        self.supported = {key.api_key: (key.min_version, key.max_version) for key in self._api_versions()}

    def _api_versions(self) -> list[Any]:
        self.wire.send(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 3)
        response: Any = self.wire.receive()
        return list(response.api_keys)

    def begin(self, scenario: str, reference: World | None = None) -> None:
        """A new scenario: an empty record, new connections. `reference` has been through it before: see `settle`."""
        self.steps, self.names = [], {}
        self.scenario, self.reference = scenario, reference
        self._scenarios += 1
        self.run = f"{self._name_of_run}{self._scenarios}-"
        self.close()
        self.wire = self.new_wire()

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        self.wires.clear()

    def new_wire(self, client_id: str = "differential") -> Wire:
        self.wires.append(wire := Wire(self.address, client_id))
        return wire

    def name(self, text: str) -> str:
        """A topic or group name that belongs to this scenario of this run."""
        return self.run + text

    def versions(self, request: type[Request], first: int = 0) -> Iterator[int]:
        """Versions of the API that both brokers serve."""
        low, high = self.common[request.API_KEY]
        return iter(range(max(low, first), high + 1))

    def latest(self, request: type[Request]) -> int:
        return self.common[request.API_KEY][1]

    common: dict[int, tuple[int, int]] = {}
    """API key → versions that both brokers serve (Produce: those that it answers)."""

    def ask(
        self,
        label: str,
        request: Request,
        version: int | None = None,
        *,
        wire: Wire | None = None,
        response: bool = True,
    ) -> Any:
        """Send and write down the answer; returns the response, or None when the connection was closed."""
        version = self.latest(type(request)) if version is None else version
        wire = wire or self.wire
        wire.send(request, version, expect_response=response)
        return self.take(f"{label} v{version}", wire) if response else None

    def take(self, label: str, wire: Wire) -> Any:
        answer = wire.receive()
        self.steps.append((label, CLOSED if answer is None else answer))
        return answer

    def settle(self, label: str, request: Request, version: int | None = None) -> Any:
        """Ask for a state that a change may reach a little later: again and again until it is as in `reference`."""
        from tests.compatibility.differential.intended import unintended

        deadline = time.monotonic() + SETTLE_S
        while True:
            answer = self.ask(label, request, version)
            if self.reference is None or time.monotonic() > deadline:
                return answer
            if not unintended(self.scenario, self.reference, self, len(self.steps) - 1):
                return answer
            self.steps.pop()
            time.sleep(0.01)

    def ask_quietly(self, request: Request, version: int | None = None, *, wire: Wire | None = None) -> Any:
        """Ask for something that is not compared."""
        wire = wire or self.wire
        wire.send(request, self.latest(type(request)) if version is None else version)
        return wire.receive()

    def ask_raw(self, label: str, data: bytes) -> None:
        answer = self.wire.exchange(data)
        self.steps.append((label, CLOSED if answer is None else answer))

    def note(self, label: str, value: Any) -> None:
        """Write down something that a scenario worked out."""
        self.steps.append((label, value))

    def call(self, value: Any, name: str) -> None:
        """From now on the record shows this value as `name`."""
        self.names[value] = f"<{name}>"

    # Requests that many scenarios need.

    def create(self, topic: str, partitions: int = 1, **configs: str) -> bytes:
        """Create a topic and wait until the broker leads its partitions; returns its id. Dots in settings are `_`."""
        settings = [CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in configs.items()]
        name = self.name(topic)
        created = self.ask_quietly(
            CreateTopicsRequest(
                topics=[CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=settings)],
                timeout_ms=10_000,
            )
        )
        result = created.topics[0]
        assert result.error_code == 0, (topic, result)
        self.call(result.topic_id, f"id of {topic}")
        self.await_leaders(name, partitions)
        return bytes(result.topic_id)

    def await_leaders(self, name: str, partitions: int) -> None:
        """Wait until Metadata knows all partitions and ListOffsets is answered, which is later at Apache Kafka."""
        wanted = [ListOffsetsPartition(partition_index=index, timestamp=-2) for index in range(partitions)]
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(name=name, partitions=wanted)])
        for _ in range(2000):
            metadata = self.ask_quietly(
                MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=False)
            )
            if len(metadata.topics[0].partitions) == partitions:
                answer = self.ask_quietly(request, 1)
                if not any(partition.error_code for partition in answer.topics[0].partitions):
                    return
            time.sleep(0.005)
        raise AssertionError(f"{self.kind}: no leaders for {name}")

    def batch(self, *values: bytes, at: int = 0, **options: Any) -> bytearray:
        """A batch of keyless records, 1 ms apart, the first at the scenario's time + `at`."""
        return self.record_batch([(None, value) for value in values], at=at, **options)

    def record_batch(
        self, pairs: Iterable[tuple[bytes | None, bytes | None]], *, at: int = 0, **options: Any
    ) -> bytearray:
        records = [Record(0, self.base_ms + at + index, key, value) for index, (key, value) in enumerate(pairs)]
        return build_batch(records, **options)

    def produce(
        self, label: str, topic: str, records: bytes | bytearray | None, version: int | None = None, **options: Any
    ) -> Any:
        """Produce to one partition. Options: partition, acks, timeout_ms, transactional_id, topic_id, wire."""
        version = self.latest(ProduceRequest) if version is None else version
        topic_id = options.pop("topic_id", None)
        if version >= 13 and topic_id is None:
            topic_id = self.topic_id(topic)
        wire = options.pop("wire", None)
        partition = PartitionProduceData(index=options.pop("partition", 0), records=records)
        data = TopicProduceData(name=self.name(topic), topic_id=topic_id or ZERO_UUID, partition_data=[partition])
        acks = options.pop("acks", -1)
        request = ProduceRequest(acks=acks, timeout_ms=options.pop("timeout_ms", 10_000), topic_data=[data], **options)
        return self.ask(label, request, version, wire=wire, response=acks != 0)

    def topic_id(self, topic: str) -> bytes:
        """The id of a topic as Metadata tells it; the zero id when there is no such topic."""
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=self.name(topic))], allow_auto_topic_creation=False)
        topic_id = bytes(self.ask_quietly(asked).topics[0].topic_id)
        if topic_id != ZERO_UUID:
            self.call(topic_id, f"id of {topic}")
        return topic_id

    def fetch_request(
        self, topic: str, offset: int = 0, *, partition: int = 0, partition_max_bytes: int = 1 << 20, **options: Any
    ) -> FetchRequest:
        """A fetch of one partition, by name and by id. More options: the fields of the request and the partition."""
        of_partition = {
            name: options.pop(name) for name in ("current_leader_epoch", "last_fetched_epoch") if name in options
        }
        asked = FetchPartition(
            partition=partition, fetch_offset=offset, partition_max_bytes=partition_max_bytes, **of_partition
        )
        topic_id = options.pop("topic_id", None) or self.topic_id(topic)
        defaults = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 24, "session_id": 0, "session_epoch": -1}
        return FetchRequest(
            topics=[FetchTopic(topic=self.name(topic), topic_id=topic_id, partitions=[asked])], **(defaults | options)
        )

    def fetch(self, label: str, topic: str, offset: int = 0, version: int | None = None, **options: Any) -> Any:
        wire = options.pop("wire", None)
        return self.ask(label, self.fetch_request(topic, offset, **options), version, wire=wire)


def patched(batch: bytes | bytearray, field: str, value: int, *, keep_crc: bool = False) -> bytearray:
    """A copy of the batch with one header field changed; the checksum fits again unless `keep_crc`."""
    offsets = {
        "base_offset": (0, ">q"),
        "batch_length": (8, ">i"),
        "leader_epoch": (12, ">i"),
        "magic": (16, ">b"),
        "crc": (17, ">I"),
        "attributes": (21, ">h"),
        "last_offset_delta": (23, ">i"),
        "base_timestamp": (27, ">q"),
        "max_timestamp": (35, ">q"),
        "producer_id": (43, ">q"),
        "producer_epoch": (51, ">h"),
        "base_sequence": (53, ">i"),
        "record_count": (57, ">i"),
    }
    position, form = offsets[field]
    copy = bytearray(batch)
    struct.pack_into(form, copy, position, value)
    if not keep_crc and field not in ("base_offset", "batch_length", "leader_epoch", "magic", "crc"):
        update_crc(copy, 0, len(copy))
    return copy


def frame(api_key: int, version: int, body: bytes, *, correlation_id: int = 7, client_id: str | None = "raw") -> bytes:
    """A request frame; the header is as flexible as the API says."""
    data = b"\xff\xff" if client_id is None else struct.pack(">h", len(client_id)) + client_id.encode()
    header = struct.pack(">hhi", api_key, version, correlation_id) + data
    known = apis.APIS.get(api_key)
    if known is not None and version >= known.flexible_since:
        header += b"\x00"
    return struct.pack(">i", len(header) + len(body)) + header + body


def served_by_both(one: World, other: World) -> dict[int, tuple[int, int]]:
    """API key → versions that both serve. Produce is advertised from 0 on, but answered from 3 on (KIP-896)."""
    common: dict[int, tuple[int, int]] = {}
    for key in one.supported.keys() & other.supported.keys():
        low = max(one.supported[key][0], other.supported[key][0], apis.APIS[apis.ApiKey(key)].versions[0])
        common[key] = low, min(one.supported[key][1], other.supported[key][1])
    return common

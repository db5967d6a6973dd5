"""Scriptable brokers for tests of clients: real frames over the loop's (or the simulator's) network.

    fake = FakeCluster(2)                       # brokers 1 and 2
    fake.add_topic("orders", partitions=3)      # led in turn
    await fake.start()                          # fake.bootstrap is what a client is given
    fake[1].script(ApiKey.METADATA, Cut(7))     # the next answer to it ends after 7 bytes
    fake[1].on(ApiKey.PRODUCE, lambda request, call: ProduceResponse(...))   # every answer from now on

ApiVersions, Metadata and FindCoordinator are answered from what the `FakeCluster` holds; anything else needs an answer,
or is met with silence. An answer is a response object, a function `(request, call) -> answer` (it may be a coroutine
function), or one of the faults: `Cut`, `Delay`, `CLOSE`, `SILENCE`. All that came in is in `FakeBroker.requests`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.codec import decoder
from ottla.protocol.connection import NEED_DATA, ServerConnection
from ottla.protocol.framing import encode_response
from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse, FinalizedFeatureKey
from ottla.protocol.messages.describe_cluster import DescribeClusterBroker, DescribeClusterResponse
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)


class Fault(Enum):
    CLOSE = "close the connection without an answer"
    SILENCE = "never answer"


CLOSE, SILENCE = Fault.CLOSE, Fault.SILENCE
TELEMETRY = (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY)


@dataclass(frozen=True)
class Cut:
    """The usual answer, but only its first bytes; then the connection ends."""

    size: int


@dataclass(frozen=True)
class Delay:
    """The usual answer (or `answer`), this much later; what comes behind it waits too."""

    seconds: float
    answer: Any = None


@dataclass
class Call:
    """A request that came in."""

    broker: FakeBroker
    api_key: int
    version: int
    body: Any
    client_id: str | None
    connection: int
    """Number of the connection, from 1 on."""


@dataclass
class Partition:
    leader: int
    leader_epoch: int = 0
    error: int = 0


@dataclass
class Topic:
    id: bytes
    partitions: list[Partition]
    error: int = 0


@dataclass
class FakeCluster:
    """What the brokers agree on; change it at any time."""

    size: int = 1
    host: str = "127.0.0.1"
    cluster_id: str | None = "fake"
    topics: dict[str, Topic] = field(default_factory=dict)
    coordinators: dict[tuple[int, str], int] = field(default_factory=dict)
    """(key type, key) → broker; the lowest running broker where nothing is said, 0 for none."""
    creates_topics: bool = True
    features: dict[str, int] = field(default_factory=dict)
    tls: Any = None
    """The servers' SSLContext; not in the simulator."""
    versions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Where they differ from what we know ourselves; (0, -1) is an API that is not served."""

    def __post_init__(self) -> None:
        self.brokers = {number: FakeBroker(self, number) for number in range(1, self.size + 1)}
        self.controller_id = 1

    def __getitem__(self, node_id: int) -> FakeBroker:
        return self.brokers[node_id]

    def __iter__(self) -> Iterator[FakeBroker]:
        return iter(self.brokers.values())

    async def start(self) -> FakeCluster:
        for broker in self:
            await broker.start()
        return self

    async def stop(self) -> None:
        for broker in self:
            await broker.stop()

    async def __aenter__(self) -> FakeCluster:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self)

    def add_topic(self, name: str, partitions: int = 1) -> Topic:
        ids = sorted(self.brokers)
        topic = self.topics[name] = Topic(
            len(self.topics).to_bytes(8, "big") + b"fake-id\0",
            [Partition(ids[number % len(ids)]) for number in range(partitions)],
        )
        return topic

    def move(self, topic: str, partition: int, leader: int) -> None:
        """Another leader, and the next epoch."""
        moved = self.topics[topic].partitions[partition]
        moved.leader = leader
        moved.leader_epoch += 1

    # The answers that every broker knows

    def api_versions(self, request: Any, call: Call) -> ApiVersionsResponse:
        return ApiVersionsResponse(
            api_keys=[
                ApiVersion(api_key=key, min_version=low, max_version=high)
                for key in APIS
                for low, high in [self.served(key)]
                # As a broker without a receiver of metrics: what nobody answers is not advertised.
                if low <= high and (key not in TELEMETRY or any(one.answers(key) for one in self))
            ],
            finalized_features_epoch=1 if self.features else -1,
            finalized_features=[
                FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
                for name, level in self.features.items()
            ],
        )

    def served(self, api_key: int) -> tuple[int, int]:
        return self.versions.get(api_key, APIS[api_key].versions)

    def metadata(self, request: Any, call: Call) -> MetadataResponse:
        if request.topics is None:
            names = list(self.topics)
        else:
            by_id = {topic.id: name for name, topic in self.topics.items()}
            names = [one.name if one.name is not None else by_id.get(one.topic_id) for one in request.topics]
        for name in names:
            if name and name not in self.topics and self.creates_topics and request.allow_auto_topic_creation:
                self.add_topic(name)
        running = [broker for broker in self if broker.is_running]
        return MetadataResponse(
            brokers=[MetadataResponseBroker(node_id=one.id, host=one.host, port=one.port) for one in running],
            cluster_id=self.cluster_id,
            controller_id=self.controller_id,
            topics=[self._topic(name) for name in names],
        )

    def _topic(self, name: str | None) -> MetadataResponseTopic:
        if name is None:
            return MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None)
        topic = self.topics.get(name)
        if topic is None or topic.error:
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if topic is None else topic.error
            return MetadataResponseTopic(error_code=code, name=name)
        return MetadataResponseTopic(
            name=name,
            topic_id=topic.id,
            partitions=[
                MetadataResponsePartition(
                    error_code=partition.error,
                    partition_index=index,
                    leader_id=partition.leader,
                    leader_epoch=partition.leader_epoch,
                    replica_nodes=sorted(self.brokers),
                    isr_nodes=sorted(self.brokers),
                    offline_replicas=[],
                )
                for index, partition in enumerate(topic.partitions)
            ],
        )

    def find_coordinator(self, request: Any, call: Call) -> FindCoordinatorResponse:
        if call.version < 4:
            one = self._coordinator(request.key_type, request.key)
            return FindCoordinatorResponse(error_code=one.error_code, node_id=one.node_id, host=one.host, port=one.port)
        return FindCoordinatorResponse(
            coordinators=[self._coordinator(request.key_type, key) for key in request.coordinator_keys]
        )

    def _coordinator(self, key_type: int, key: str) -> Coordinator:
        lowest = min((broker.id for broker in self if broker.is_running), default=0)
        broker = self.brokers.get(self.coordinators.get((key_type, key), lowest))
        if broker is None:
            return Coordinator(key=key, node_id=-1, host="", port=-1, error_code=ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return Coordinator(key=key, node_id=broker.id, host=broker.host, port=broker.port)

    def describe_cluster(self, request: Any, call: Call) -> DescribeClusterResponse:
        return DescribeClusterResponse(
            endpoint_type=request.endpoint_type,
            cluster_id=self.cluster_id or "",
            controller_id=self.controller_id,
            brokers=[DescribeClusterBroker(broker_id=one.id, host=one.host, port=one.port) for one in self],
        )


class FakeBroker:
    """One broker: a listening address and its connections."""

    def __init__(self, cluster: FakeCluster, node_id: int) -> None:
        self.cluster = cluster
        self.id = node_id
        self.host = cluster.host
        self.port = 0
        self.requests: list[Call] = []
        self.connections_made = 0
        self._server: Any = None
        self._connections: set[_Connection] = set()
        self._scripts: dict[int, deque[Any]] = defaultdict(deque)
        self._answers: dict[int, Any] = {
            ApiKey.API_VERSIONS: cluster.api_versions,
            ApiKey.METADATA: cluster.metadata,
            ApiKey.FIND_COORDINATOR: cluster.find_coordinator,
            ApiKey.DESCRIBE_CLUSTER: cluster.describe_cluster,
        }

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._server is not None

    @property
    def open_connections(self) -> int:
        return len(self._connections)

    async def start(self) -> None:
        """Listen; on the same port as before when it was stopped."""
        loop = asyncio.get_running_loop()
        options = {"ssl": self.cluster.tls} if self.cluster.tls is not None else {}
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and drop those there are."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self.drop_connections()
        await asyncio.sleep(0)

    async def restart(self, after_s: float = 0.0) -> None:
        await self.stop()
        await asyncio.sleep(after_s)
        await self.start()

    def drop_connections(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def on(self, api_key: int, answer: Any) -> None:
        """Answer every request of this API so."""
        self._answers[api_key] = answer

    def script(self, api_key: int, *answers: Any) -> None:
        """Answer the next requests of this API so, one each; then as usual."""
        self._scripts[api_key].extend(answers)

    def received(self, api_key: int) -> list[Any]:
        """The bodies of all requests of this API so far."""
        return [call.body for call in self.requests if call.api_key == api_key]

    def answers(self, api_key: int) -> bool:
        """Whether something was said about this API."""
        return api_key in self._answers or bool(self._scripts[api_key])

    async def answer(self, call: Call) -> Any:
        scripted = self._scripts[call.api_key]
        usual = self._answers.get(call.api_key, SILENCE)
        answer = scripted.popleft() if scripted else usual
        size = None
        if isinstance(answer, Delay):
            await asyncio.sleep(answer.seconds)
            answer = usual if answer.answer is None else answer.answer
        if isinstance(answer, Cut):
            size, answer = answer.size, usual
        if callable(answer):
            answer = answer(call.body, call)
            if inspect.isawaitable(answer):
                answer = await answer
        return answer if size is None else (answer, size)


class _Connection(asyncio.Protocol):
    """Answers one request after the other."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.transport: Any = None
        self._wire = ServerConnection()
        self._waiting: deque[tuple[Call, int]] = deque()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.broker._connections.add(self)
        self.broker.connections_made += 1
        self.number = self.broker.connections_made

    def connection_lost(self, exc: Exception | None) -> None:
        self.broker._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        self.broker._connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._wire.receive_data(data)
        while (request := self._wire.next_request()) is not NEED_DATA:
            key, version = request.api_key, request.api_version
            low, high = self.broker.cluster.served(key)
            body = None
            if low <= version <= high:
                window = bytes(memoryview(request.buffer)[request.body_offset : request.end])
                body, _ = decoder(APIS[key].request_class(), version)(window, 0, len(window))
            call = Call(self.broker, key, version, body, request.client_id, self.number)
            self.broker.requests.append(call)
            self._waiting.append((call, request.correlation_id))
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            call, correlation_id = self._waiting.popleft()
            if call.body is None:
                answer, version = self._unsupported(call), 0
            else:
                answer, version = await self.broker.answer(call), call.version
            if answer is CLOSE or answer is None:
                self.abort()
                return
            if answer is SILENCE:
                continue
            answer, size = answer if isinstance(answer, tuple) else (answer, None)
            frame = b"".join(encode_response(answer, version, correlation_id))
            self.transport.write(frame[:size])
            if size is not None:
                self.transport.close()
                return
        self._task = None

    def _unsupported(self, call: Call) -> Any:
        if call.api_key != ApiKey.API_VERSIONS:
            return CLOSE
        low, high = self.broker.cluster.served(ApiKey.API_VERSIONS)
        known = [ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=low, max_version=high)] if high else []
        return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=known)


Answer = Callable[[Any, Call], Any]

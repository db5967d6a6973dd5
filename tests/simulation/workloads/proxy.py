"""What stands between our clients and the node: a proxy that knows where requests and answers begin, and hurts them.

Per request it may cut the connection before the request is passed on, in the middle of it, while it is being answered
(the request was carried out, its answer is never seen), or in the middle of the answer; keep the answer, and all behind
it, for longer than anybody waits; or answer in the node's place that the coordinator is loading, has moved, that the
leader is another, that the fetch session is gone. An `outage` makes it unreachable for a while, in one of several ways.

Clients that are told its address by the node come here; those of the simulation itself go to the node directly.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from struct import Struct
from typing import Any, cast

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_response
from ottla.protocol.headers import parse_request_header
from ottla.protocol.message import Response
from ottla.protocol.messages import (
    add_offsets_to_txn,
    consumer_group_heartbeat,
    end_txn,
    fetch,
    find_coordinator,
    heartbeat,
    init_producer_id,
    join_group,
    offset_commit,
    produce,
    share_group_heartbeat,
    sync_group,
    txn_offset_commit,
)
from tests.simulation.workloads.cluster import ADDRESS, Cluster

HOST, PORT = "127.0.0.1", 19_092
PROXY_ADDRESS = f"{HOST}:{PORT}"
#: The node says that it is where the proxy is.
ADVERTISED = {"advertised.listeners": f"PLAINTEXT://{PROXY_ADDRESS}"}
SHORTEST_STALL_S, LONGEST_STALL_S = 0.5, 7.0

_SIZE = Struct(">i")


class Fault(Enum):
    """What may happen to a request."""

    CUT_BEFORE = "cut before the request"
    CUT_REQUEST = "cut in a request"
    LOST_ANSWER = "lost answers"
    CUT_ANSWER = "cut in an answer"
    STALL = "stalled connections"
    REFUSED = "answers that ask for patience"


CUTS = (Fault.CUT_BEFORE, Fault.CUT_REQUEST, Fault.LOST_ANSWER, Fault.CUT_ANSWER)


class Outage(Enum):
    """How the node cannot be reached."""

    REFUSED = "connections are refused"
    CUT = "every connection ends with its first request, in the middle of it or of the answer"
    DEAF = "connections stay, and nothing passes until it is over"
    MUTE = "requests get through, and answers do not until it is over"


class Proxy:
    """Listens where the node says it does. `share` of the requests are hurt, unless the faults are over."""

    def __init__(self, cluster: Cluster, share: float) -> None:
        self.cluster = cluster
        self.share = share
        self.lost: Counter[int] = Counter()
        """Requests that were carried out, or may have been, and whose answer nobody got, by API."""
        self.dice = cluster.random("proxy")
        self.connections: dict[Front, None] = {}
        self.way: Outage | None = None
        """How the node cannot be reached now."""
        self.cut_s: dict[str, float] = {}
        """When a client lost a connection for the last time, by client id."""
        self._server: asyncio.AbstractServer | None = None

    async def open(self) -> None:
        """Take connections."""
        self._server = await self.cluster.loop.create_server(lambda: Front(self), HOST, PORT)

    def close(self) -> None:
        """Nobody gets through any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.abort()

    async def outage(self, seconds: float, way: Outage = Outage.REFUSED) -> None:
        """The node is there, and cannot be reached."""
        self.cluster.count("outages")
        self.way = way
        if way is Outage.REFUSED:
            self.close()
        await asyncio.sleep(seconds)
        self.way = None
        if way is Outage.REFUSED:
            await self.open()
        for connection in list(self.connections):
            connection.resume()

    def choose(self, api_key: int) -> Fault | None:
        """What happens to the next request."""
        if self.way is Outage.CUT:
            return self.dice.choice(CUTS)
        if self.cluster.is_calm or self.dice.random() >= self.share:
            return None
        fault: Fault = self.dice.choice([*Fault])
        if fault is Fault.REFUSED and api_key not in REFUSALS:
            fault = Fault.LOST_ANSWER
        self.cluster.count(fault.value)
        return fault


class _Expected:
    """A request that was passed on, or answered here."""

    __slots__ = ("answer", "api_key", "fault")

    def __init__(self, api_key: int, fault: Fault | None, answer: bytes | None = None) -> None:
        self.api_key = api_key
        self.fault = fault
        self.answer = answer


class _Frames:
    """Bytes in, whole frames out (with their size in front)."""

    def __init__(self) -> None:
        self._unread = b""

    def feed(self, data: bytes) -> list[bytes]:
        unread = self._unread + data
        found = []
        while len(unread) >= 4 and len(unread) >= 4 + _SIZE.unpack_from(unread)[0]:
            end = 4 + _SIZE.unpack_from(unread)[0]
            found.append(unread[:end])
            unread = unread[end:]
        self._unread = unread
        return found


class Front(asyncio.Protocol):
    """The client's side of a connection."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._back: asyncio.Transport | None = None
        self._requests, self._answers = _Frames(), _Frames()
        self._waiting: list[bytes] = []
        self._unheard: list[bytes] = []
        self._client_id = ""
        self._expected: deque[_Expected] = deque()
        self._stalled_until_s = 0.0
        self._is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._proxy.connections[self] = None
        self._proxy.cluster.spawn(self._connect())

    async def _connect(self) -> None:
        host, _, port = ADDRESS.rpartition(":")
        loop = self._proxy.cluster.loop
        try:
            transport, _ = await loop.create_connection(lambda: _Back(self), host, int(port))
        except OSError:
            self.abort()
            return
        self._back = transport
        if self._is_over:
            transport.abort()
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            transport.write(data)

    def _pass_on(self, data: bytes) -> None:
        if self._back is None:
            self._waiting.append(data)
        else:
            self._back.write(data)

    def data_received(self, data: bytes) -> None:
        self._unheard += self._requests.feed(data)
        self.resume()

    def resume(self) -> None:
        """Pass on what an outage holds back, when there is none."""
        while self._unheard and self._proxy.way is not Outage.DEAF and not self._is_over:
            self._request(self._unheard.pop(0))
        self._deliver()

    def _request(self, frame: bytes) -> None:
        api_key, version, correlation_id, client_id, body = parse_request_header(frame, 4, len(frame))
        self._client_id = client_id or ""
        proxy = self._proxy
        fault = proxy.choose(api_key)
        if fault is Fault.CUT_BEFORE:
            self.abort()
            return
        if fault is Fault.CUT_REQUEST:
            self._pass_on(frame[: proxy.dice.randrange(1, len(frame))])
            self.abort(gently=True)
            return
        if fault is Fault.REFUSED:
            refusal = REFUSALS[api_key](proxy.dice.choice, frame, version, body)
            answer = b"".join(encode_response(refusal, version, correlation_id))
            self._expected.append(_Expected(api_key, fault, answer))
            self._deliver()
            return
        if api_key != ApiKey.PRODUCE or int.from_bytes(frame[_acks_at(frame, version, body) :][:2], "big"):
            self._expected.append(_Expected(api_key, fault))
        self._pass_on(frame)

    def answered(self, data: bytes) -> None:
        """The node has written something."""
        for frame in self._answers.feed(data):
            for expected in self._expected:
                if expected.answer is None:
                    expected.answer = frame
                    break
        self._deliver()

    def _deliver(self) -> None:
        proxy, loop = self._proxy, self._proxy.cluster.loop
        while self._expected and self._expected[0].answer is not None and not self._is_over:
            if loop.time() < self._stalled_until_s or proxy.way in (Outage.DEAF, Outage.MUTE):
                return
            expected = self._expected[0]
            answer = expected.answer
            assert answer is not None
            if expected.fault is Fault.STALL:
                expected.fault = None
                stall_s = proxy.dice.uniform(SHORTEST_STALL_S, LONGEST_STALL_S)
                self._stalled_until_s = loop.time() + stall_s
                loop.call_later(stall_s + 1e-6, self._deliver)
                return
            if expected.fault is Fault.LOST_ANSWER:
                self.abort()
                return
            assert self._transport is not None
            if expected.fault is Fault.CUT_ANSWER:
                self._transport.write(answer[: proxy.dice.randrange(1, len(answer))])
                self.abort(gently=True)
                return
            self._expected.popleft()
            self._transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.abort()

    def abort(self, *, gently: bool = False) -> None:
        """End both sides. Gently: what was written still arrives."""
        if self._is_over:
            return
        self._is_over = True
        proxy = self._proxy
        proxy.connections.pop(self, None)
        proxy.cut_s[self._client_id] = proxy.cluster.now()
        proxy.lost.update(expected.api_key for expected in self._expected if expected.fault is not Fault.REFUSED)
        for transport in (self._transport, self._back):
            if transport is not None:
                transport.close() if gently else transport.abort()


class _Back(asyncio.Protocol):
    """The node's side of a connection."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def data_received(self, data: bytes) -> None:
        self._front.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.abort()


def _acks_at(frame: bytes, version: int, body: int) -> int:
    """Where a Produce request has its acks: behind the transactional id."""
    if version >= 9:
        return body + max(1, frame[body])  # shorter than 127 bytes here
    size = int.from_bytes(frame[body : body + 2], "big", signed=True)
    return body + 2 + max(0, size)


# Answers in the node's place

Choose = Callable[[list[ErrorCode]], ErrorCode]
Refusal = Callable[[Choose, bytes, int, int], Response]

_LOADING = [
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
]


def _plain(response: Callable[..., Response], codes: list[ErrorCode] = _LOADING, **fields: Any) -> Refusal:
    """A response with nothing but its error code."""

    def refuse(choose: Choose, frame: bytes, version: int, body: int) -> Response:
        return response(error_code=choose(codes), **fields)

    return refuse


def _find_coordinator(choose: Choose, frame: bytes, version: int, body: int) -> Response:
    request = decode(find_coordinator.FindCoordinatorRequest, version, frame, body)
    code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    if version < 4:
        return find_coordinator.FindCoordinatorResponse(error_code=code, node_id=-1, port=-1)
    coordinators = [
        find_coordinator.Coordinator(key=key, node_id=-1, host="", port=-1, error_code=code)
        for key in request.coordinator_keys
    ]
    return find_coordinator.FindCoordinatorResponse(coordinators=coordinators)


def _offset_commit(choose: Choose, frame: bytes, version: int, body: int) -> Response:
    request = decode(offset_commit.OffsetCommitRequest, version, frame, body)
    code = choose(_LOADING)
    return offset_commit.OffsetCommitResponse(
        topics=[
            offset_commit.OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    offset_commit.OffsetCommitResponsePartition(partition_index=one.partition_index, error_code=code)
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _txn_offset_commit(choose: Choose, frame: bytes, version: int, body: int) -> Response:
    request = decode(txn_offset_commit.TxnOffsetCommitRequest, version, frame, body)
    code = choose(_LOADING)
    return txn_offset_commit.TxnOffsetCommitResponse(
        topics=[
            txn_offset_commit.TxnOffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    txn_offset_commit.TxnOffsetCommitResponsePartition(
                        partition_index=one.partition_index, error_code=code
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _produce(choose: Choose, frame: bytes, version: int, body: int) -> Response:
    request = decode(produce.ProduceRequest, version, frame, body)
    code = choose([ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.REQUEST_TIMED_OUT])
    return produce.ProduceResponse(
        responses=[
            produce.TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    produce.PartitionProduceResponse(index=one.index, error_code=code, base_offset=-1)
                    for one in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )


REFUSALS: dict[int, Refusal] = {
    ApiKey.PRODUCE: _produce,
    ApiKey.FETCH: _plain(fetch.FetchResponse, [ErrorCode.FETCH_SESSION_ID_NOT_FOUND]),
    ApiKey.FIND_COORDINATOR: _find_coordinator,
    ApiKey.INIT_PRODUCER_ID: _plain(
        init_producer_id.InitProducerIdResponse, [*_LOADING, ErrorCode.CONCURRENT_TRANSACTIONS], producer_epoch=-1
    ),
    ApiKey.ADD_OFFSETS_TO_TXN: _plain(add_offsets_to_txn.AddOffsetsToTxnResponse),
    ApiKey.END_TXN: _plain(end_txn.EndTxnResponse, [*_LOADING, ErrorCode.CONCURRENT_TRANSACTIONS]),
    ApiKey.TXN_OFFSET_COMMIT: _txn_offset_commit,
    ApiKey.OFFSET_COMMIT: _offset_commit,
    ApiKey.JOIN_GROUP: _plain(join_group.JoinGroupResponse, generation_id=-1, protocol_name=""),
    ApiKey.SYNC_GROUP: _plain(sync_group.SyncGroupResponse),
    ApiKey.HEARTBEAT: _plain(heartbeat.HeartbeatResponse),
    ApiKey.CONSUMER_GROUP_HEARTBEAT: _plain(consumer_group_heartbeat.ConsumerGroupHeartbeatResponse),
    ApiKey.SHARE_GROUP_HEARTBEAT: _plain(share_group_heartbeat.ShareGroupHeartbeatResponse),
}
"""How the node would say it, by API."""

"""A client of a cluster that speaks to the wire itself: it asks who leads and who coordinates, and asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.message import Message, Request, Response
from ottla.protocol.messages.fetch import FetchResponse
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from ottla.protocol.messages.produce import ProduceResponse
from tests.simulation.workloads.client import GROUP, TRACE, TRANSACTION, BrokenError, Client

if TYPE_CHECKING:
    from tests.simulation.cluster_world import ClusterWorld

R = TypeVar("R", bound=Response)
Address = tuple[str, int]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

ANSWER_S = 12.0
CONNECT_S = 2.0
#: How long a node may not know of a topic that is there.
LATE_NEWS_S = 5.0
MOVED = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.BROKER_NOT_AVAILABLE,
    }
)
TRANSACTIONAL = frozenset({"AddPartitionsToTxnRequest", "AddOffsetsToTxnRequest", "EndTxnRequest"})


class ClusterClient(Client):
    """One client id, a connection to each node, one request at a time."""

    def __init__(self, cluster: ClusterWorld, name: str) -> None:
        super().__init__(cast(Any, cluster), name)
        self.world = cluster
        self._connections: dict[Address, Streams] = {}
        self._leaders: dict[tuple[str, int], Address] = {}
        self._coordinators: dict[tuple[int, str], Address] = {}
        self._unknown_since_s: float | None = None

    async def ask(self, request: Request, version: int, response: type[R]) -> R:
        """Send a request to the node that it is for, and wait for its answer; BrokenError when there is none."""
        address = await self._address_of(request)
        answer = await self.ask_at(address, request, version, response)
        codes = set(error_codes(answer))
        if codes & MOVED:
            self._leaders.clear()
            self._coordinators.clear()
        if isinstance(answer, FetchResponse | ProduceResponse):
            self._pass_over_late_news(codes)
        return answer

    async def ask_at(self, address: Address, request: Request, version: int, response: type[R]) -> R:
        """Ask this node; BrokenError when it does not answer."""
        try:
            reader, writer = self._connections.get(address) or await self._connect(address)
            self._correlation_id += 1
            writer.write(b"".join(encode_request(request, version, self._correlation_id, self.name)))
            async with asyncio.timeout(ANSWER_S):
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = await reader.readexactly(size)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._forget(address)
            if TRACE:
                self._tell(request, f"{address[1]} {error!r}")
            raise BrokenError(repr(error)) from None
        except asyncio.CancelledError:
            self.close()
            raise
        assert int.from_bytes(frame[:4], "big") == self._correlation_id
        answer = decode(response, version, frame, 5 if response_header_version(request.API_KEY, version) else 4)
        if TRACE:
            self._tell(request, f"{address[1]} {answer}")
        return answer

    def close(self) -> None:
        """End all connections at once."""
        for address in list(self._connections):
            self._forget(address)

    async def find_coordinator(self, key: str, key_type: int) -> None:
        """Have it made when it is not there; then it may be anywhere."""
        self._coordinators.clear()
        await super().find_coordinator(key, key_type)

    # -- who is asked

    async def _address_of(self, request: Request) -> Address:
        name = type(request).__name__
        if isinstance(request, FindCoordinatorRequest | MetadataRequest):
            return self.anybody()
        if (transactional_id := getattr(request, "transactional_id", None)) and (
            name in TRANSACTIONAL or name == "InitProducerIdRequest"
        ):
            return await self._coordinator(TRANSACTION, transactional_id)
        group_id = getattr(request, "group_id", None)
        if name == "OffsetFetchRequest" and not group_id:
            group_id = cast(Any, request).groups[0].group_id
        if group_id and name not in ("ShareFetchRequest", "ShareAcknowledgeRequest", "AddOffsetsToTxnRequest"):
            return await self._coordinator(GROUP, group_id)
        place = _place_of(request)
        return self.anybody() if place is None else await self._leader(place)

    def anybody(self) -> Address:
        """Some broker, dead or alive."""
        return self.random.choice(self.world.brokers).address

    async def _leader(self, place: tuple[str, int]) -> Address:
        known = self._leaders.get(place)
        if known is None:
            wanted = [MetadataRequestTopic(name=place[0])]
            asking = MetadataRequest(topics=wanted, allow_auto_topic_creation=False)
            answer = await self.ask_at(self.anybody(), asking, 12, MetadataResponse)
            addresses = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
            for topic in answer.topics:
                for partition in topic.partitions:
                    if partition.leader_id in addresses:
                        self._leaders[place[0], partition.partition_index] = addresses[partition.leader_id]
                    elif (topic.name, partition.partition_index) == place:
                        # A follower may serve readers, and has not all that others were given already.
                        raise BrokenError(f"nobody leads {place[0]}-{place[1]}")
            known = self._leaders.get(place)
        if known is None:
            # Who leads nothing says so in the request's own words.
            return self.anybody()
        return known

    async def _coordinator(self, key_type: int, key: str) -> Address:
        known = self._coordinators.get((key_type, key))
        if known is None:
            asking = FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key])
            answer = await self.ask_at(self.anybody(), asking, 6, FindCoordinatorResponse)
            [found] = answer.coordinators
            if found.error_code != ErrorCode.NONE:
                raise BrokenError(f"no coordinator: {ErrorCode(found.error_code).name}")
            known = self._coordinators[key_type, key] = found.host, found.port
        return known

    def _pass_over_late_news(self, codes: set[int]) -> None:
        """A node that leads a partition a moment later, or has not heard of it yet, is asked again."""
        late = codes & {
            ErrorCode.FENCED_LEADER_EPOCH,
            ErrorCode.UNKNOWN_LEADER_EPOCH,
            ErrorCode.OFFSET_NOT_AVAILABLE,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            # From one that leads no more, follows, and has not got as far.
            ErrorCode.OFFSET_OUT_OF_RANGE,
        }
        if not late:
            self._unknown_since_s = None
            return
        if self._unknown_since_s is None:
            self._unknown_since_s = self.world.now()
        waited_s = self.world.now() - self._unknown_since_s
        if codes & {ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.OFFSET_OUT_OF_RANGE} and waited_s > LATE_NEWS_S:
            return
        self._leaders.clear()
        raise BrokenError(f"not yet: {late}")

    # -- connections

    async def _connect(self, address: Address) -> Streams:
        async with asyncio.timeout(CONNECT_S):
            streams = await asyncio.open_connection(*address)
        self._connections[address] = streams
        self.world.connections.add(streams[1])
        return streams

    def _forget(self, address: Address) -> None:
        streams = self._connections.pop(address, None)
        self._leaders.clear()
        self._coordinators.clear()
        if streams is not None:
            self.world.connections.discard(streams[1])
            streams[1].transport.abort()


def error_codes(answer: Message) -> Iterator[int]:
    """Every error code in a response, at whatever depth."""
    for name in type(answer).__slots__:
        value = getattr(answer, name)
        if name == "error_code":
            yield value
        elif isinstance(value, list) and value and isinstance(value[0], Message):
            for one in value:
                yield from error_codes(one)


def _place_of(request: Request) -> tuple[str, int] | None:
    """The first partition that a request is about."""
    kind = type(request).__name__
    topics = getattr(request, "topic_data", None) if kind == "ProduceRequest" else getattr(request, "topics", None)
    if kind not in ("ProduceRequest", "FetchRequest", "ListOffsetsRequest", "DeleteRecordsRequest") or not topics:
        return None
    topic = topics[0]
    partitions = topic.partition_data if kind == "ProduceRequest" else topic.partitions
    first = partitions[0]
    name = getattr(topic, "name", None) or getattr(topic, "topic", None)
    index = next(getattr(first, key) for key in ("index", "partition", "partition_index") if hasattr(first, key))
    return cast(str, name), cast(int, index)

"""One connection by hand: back-pressure, what cannot be written, metrics."""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager
from random import Random

import pytest

from ottla.client.errors import ConnectionFailedError, KafkaError, UnsupportedVersionError
from ottla.client.metrics.network import NetworkMetrics
from ottla.client.metrics.registry import Metrics
from ottla.client.network.cluster import Cluster
from ottla.client.network.connection import BrokerConnection, Call, reason_of
from ottla.client.settings import ProducerSettings
from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import encode
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import FakeCluster


class Owner:
    def __init__(self):
        self.closed = []

    def response_received(self, call, response, size_bytes):
        pass

    def connection_closed(self, connection, error):
        self.closed.append(error)


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data):
        assert data
        self.written += data

    def writelines(self, parts):
        for part in parts:
            self.write(part)

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True


def made():
    connection = BrokerConnection(Owner(), "me", "broker:1")
    connection.connection_made(Transport())
    return connection


def call(request, **options):
    return Call(request, asyncio.get_running_loop().create_future(), 0, 0, **options)


def run(main):
    asyncio.run(main())


def test_without_response_a_request_is_done_when_the_buffer_has_room():
    async def main():
        connection = made()
        first, second = (call(ProduceRequest(acks=0), expect_response=False) for _ in range(2))
        assert connection.write(first, 9) > 0
        assert first.future.done()
        connection.pause_writing()
        connection.write(second, 9)
        assert not second.future.done()
        connection.resume_writing()
        assert second.future.result() is None
        connection.pause_writing()
        third = call(ProduceRequest(acks=0), expect_response=False)
        connection.write(third, 9)
        connection.connection_lost(None)
        assert isinstance(third.future.exception(), ConnectionFailedError)

    run(main)


def test_what_cannot_be_encoded_fails_alone():
    async def main():
        connection = made()
        lossy, wrong, good = (
            call(HeartbeatRequest(group_instance_id="x")),
            call(HeartbeatRequest(generation_id="x")),
            None,
        )
        assert connection.write(lossy, 0) == 0
        assert isinstance(lossy.future.exception(), UnsupportedVersionError)
        assert connection.write(wrong, 4) == 0
        assert not wrong.future.exception().retriable
        good = call(HeartbeatRequest())
        assert connection.write(good, 4) > 0
        assert list(connection.in_flight) == [good]

    run(main)


def test_the_end_comes_once_and_for_everything():
    async def main():
        connection = made()
        owner = connection._owner
        calls = [call(HeartbeatRequest()) for _ in range(3)]
        for one in calls:
            connection.write(one, 4)
        reason = KafkaError("enough")
        connection.abort(reason)
        connection.abort(KafkaError("again"))
        connection.connection_lost(ConnectionResetError())
        assert owner.closed == [reason]
        assert all(one.future.exception() is reason for one in calls)
        assert connection.in_flight_at_end == 3
        late = call(HeartbeatRequest())
        assert connection.write(late, 4) == 0
        assert late.future.exception() is reason
        connection.get_buffer(-1)[:4] = b"\0\0\0\4"
        connection.buffer_updated(4)

    run(main)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "no answer in time"),
        (OSError(111, "Connect call failed ('::1', 1)"), "Connection refused"),
        (ValueError("what it says"), "what it says"),
        (OSError(), "OSError"),
    ],
)
def test_reasons_are_told_in_the_systems_words(error, text):
    assert reason_of(error) == text


def test_metrics_count_what_goes_over_the_wire():
    async def main(_):
        async with FakeCluster(1) as fake:
            fake[1].on(ApiKey.HEARTBEAT, HeartbeatResponse())
            metrics = Metrics(lambda: 1)
            cluster = Cluster(
                ProducerSettings.of(fake.bootstrap), random=Random(1), metrics=NetworkMetrics(metrics, "producer")
            )
            await cluster.start()
            for _ in range(5):
                await cluster.request(1, HeartbeatRequest())
            values = metrics.snapshot()
            await cluster.close()
            return values

    values = simulate(main, seed=1)
    total = {name.name: value for name, value in values.items() if name.group == "producer-metrics"}
    node = {name.name: value for name, value in values.items() if ("node-id", "node-1") in name.tags}
    assert total["connection-creation-total"] == 2
    assert total["connection-count"] == 2
    assert node["request-total"] == node["response-total"] == 6, "ApiVersions too"
    assert total["outgoing-byte-total"] > node["outgoing-byte-total"] > 5 * 20


class Collector(Owner):
    """Keeps what comes."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def response_received(self, call, response, size_bytes):
        self.sizes.append(size_bytes)


@asynccontextmanager
async def peer(serve):
    """A connection over real sockets to `serve(reader, writer)`, which may receive large responses."""
    served = []

    async def accept(reader, writer):
        served.append(asyncio.current_task())
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 24)
    loop = asyncio.get_running_loop()
    host, port = server.sockets[0].getsockname()
    transport, connection = await loop.create_connection(
        lambda: BrokerConnection(Collector(), "me", "broker:1"), host, port
    )
    connection.set_socket_options(None, None)
    connection.accept_large_frames()
    try:
        yield connection
    finally:
        transport.abort()
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        await asyncio.sleep(0)  # what is aborted closes its socket in the next round


def test_requests_arrive_whole_and_in_order_at_a_peer_that_reads_slowly():
    received = bytearray()
    records = [bytes([number]) * 700_000 for number in range(12)]

    async def main():
        done = asyncio.Event()

        async def serve(reader, writer):
            while len(received) < sum(map(len, records)):
                received.extend(await reader.read(50_000))
                await asyncio.sleep(0)
            while b"\x0b" * 700_000 not in received[-800_000:]:
                received.extend(await reader.read(50_000))
            done.set()

        async with peer(serve) as connection:
            for data in records:
                topics = [TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=data)])]
                connection.write(call(ProduceRequest(acks=1, topic_data=topics)), 9)
            assert connection._transport.get_write_buffer_size() > 0  # more than the system takes at once
            await done.wait()

    run(main)
    places = [received.find(data) for data in records]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("trickle", [100_000, 1_500_000])
def test_a_large_response_that_trickles_in_is_read_whole(trickle):
    async def main():
        body = response_of(5_000_000)

        async def serve(reader, writer):
            await reader.read(1000)
            for start in range(0, len(body), trickle):
                writer.write(body[start : start + trickle])
                await writer.drain()
                await asyncio.sleep(0.001)
            await reader.read(1000)
            writer.write(SMALL)
            await reader.read(1000)

        async with peer(serve) as connection:
            large = call(FetchRequest())
            connection.write(large, 12)
            response = await large.future
            assert len(response.responses[0].partitions[0].records) == 5_000_000
            small = call(FetchRequest())
            connection.write(small, 12)  # and small ones do not wait for more afterwards
            await small.future
            assert connection._owner.sizes == [len(body) - 4, len(SMALL) - 4]

    run(main)


def test_the_end_in_the_middle_of_a_large_response_is_noticed_at_once():
    async def main():
        body = response_of(5_000_000)

        async def serve(reader, writer):
            await reader.read(1000)
            writer.write(body[:2_100_000])
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with peer(serve) as connection:
            large = call(FetchRequest())
            connection.write(large, 12)
            with pytest.raises(ConnectionFailedError, match="closed the connection"):
                await asyncio.wait_for(large.future, 30)

    run(main)


def response_of(size, correlation_id=0):
    """A framed Fetch response (v12) with so many bytes of records."""
    partition = PartitionData(partition_index=0, high_watermark=1, records=b"r" * size)
    body = encode(FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=[partition])]), 12)
    return struct.pack(">iix", len(body) + 5, correlation_id) + body


SMALL = response_of(10, correlation_id=1)

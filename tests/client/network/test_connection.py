"""One connection by hand: back-pressure, what cannot be written, metrics."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.client.errors import ConnectionFailedError, KafkaError, UnsupportedVersionError
from ottla.client.metrics.network import NetworkMetrics
from ottla.client.metrics.registry import Metrics
from ottla.client.network.cluster import Cluster
from ottla.client.network.connection import BrokerConnection, Call, reason_of
from ottla.client.settings import ProducerSettings
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.produce import ProduceRequest
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

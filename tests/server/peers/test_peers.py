"""Requests to other nodes, on the real event loop and on the simulated network alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from ottla.protocol.apis import ApiKey
from ottla.protocol.message import Response
from ottla.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.server.peers.errors import PeerError, UnsupportedPeerVersionError
from ottla.server.peers.peers import Peers, PeerSettings
from ottla.testing.sim.env import simulate
from tests.server.peers.fake_node import Answer, FakeNode

Scenario = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Scenario], None]


def on_real_loop(scenario: Scenario) -> None:
    asyncio.run(scenario())


def simulated(scenario: Scenario) -> None:
    for seed in range(5):
        simulate(lambda env: scenario(), seed=seed, shuffle=True)


@pytest.fixture(params=[on_real_loop, simulated], ids=["real", "simulated"])
def run(request: pytest.FixtureRequest) -> Run:
    return request.param  # type: ignore[no-any-return]


def heartbeat(generation: int) -> HeartbeatRequest:
    return HeartbeatRequest(group_id="g", generation_id=generation, member_id="m")


def echo(request: Any, version: int) -> Response:
    return HeartbeatResponse(throttle_time_ms=request.generation_id)


class World:
    """A fake node, and the peers that ask it."""

    def __init__(self, answer: Answer = echo, **options: Any) -> None:
        self.node = FakeNode(answer, **options)
        self.peers = Peers(client_id="ottla-1", settings=PeerSettings(connection_setup_timeout_ms=500))

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peers.close()
        await self.node.stop()

    async def send(self, message: Any, *, timeout_ms: int = 5000, **options: Any) -> Any:
        return await self.peers.send(self.node.address, message, timeout_ms=timeout_ms, **options)


def test_asks_in_the_highest_version_that_both_sides_know(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            assert (await world.send(heartbeat(7))).throttle_time_ms == 7
            await world.send(heartbeat(1), version=2)
            assert [(key, version) for key, version, _ in world.node.requests] == [(12, 4), (12, 2)]
            assert world.peers.versions(world.node.address)[ApiKey.HEARTBEAT] == (0, 4)

        versions = {int(ApiKey.HEARTBEAT): (0, 3)}
        async with World(versions=versions) as world:
            await world.send(heartbeat(1))
            assert world.node.requests[0][1] == 3

    run(scenario)


def test_one_greeting_for_each_connection(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            answers = await asyncio.gather(*(world.send(heartbeat(number)) for number in range(10)))
            assert [answer.throttle_time_ms for answer in answers] == list(range(10))
            assert len(world.node.connections) == 1
            await asyncio.gather(*(world.send(heartbeat(1), channel=channel) for channel in ("fetch", "markers")))
            assert len(world.node.connections) == 3
            assert world.node.greetings == [4, 4, 4]

    run(scenario)


def test_older_node_is_greeted_again_in_its_version(run: Run) -> None:
    async def scenario() -> None:
        world = World()
        world.node.highest_api_versions = 2
        async with world:
            await world.send(heartbeat(1))
            assert world.node.greetings == [4, 2]

    run(scenario)


def test_what_the_peer_does_not_offer_is_refused_without_asking(run: Run) -> None:
    async def scenario() -> None:
        def answer(request: Any, version: int) -> Response:
            return echo(request, version) if isinstance(request, HeartbeatRequest) else FindCoordinatorResponse()

        versions = {int(ApiKey.HEARTBEAT): (7, 9), int(ApiKey.FIND_COORDINATOR): (0, 3)}
        async with World(answer, versions=versions) as world:
            with pytest.raises(UnsupportedPeerVersionError, match=r"offers Heartbeat in versions 7 to 9.*needs 0 to 4"):
                await world.send(heartbeat(1))
            with pytest.raises(UnsupportedPeerVersionError, match="does not offer Fetch"):
                await world.send(FetchRequest())
            with pytest.raises(UnsupportedPeerVersionError, match="is too old for this"):
                await world.send(FindCoordinatorRequest(key_type=1, key="t"), version=0)
            assert world.node.requests == []
            await world.send(FindCoordinatorRequest(key_type=0, key="g"))  # the connection is still of use

    run(scenario)


def test_refused_connection_says_so(run: Run) -> None:
    async def scenario() -> None:
        world = World()
        async with world:
            await world.node.stop()
            with pytest.raises(PeerError, match=r"cannot connect to 127.0.0.1:\d+: (Connection refused|.*Errno)"):
                await world.send(heartbeat(1))

    run(scenario)


def test_lost_connection_fails_what_is_in_flight_and_the_next_request_opens_another(run: Run) -> None:
    async def scenario() -> None:
        silent = True

        def answer(request: Any, version: int) -> Response | None:
            return None if silent else echo(request, version)

        async with World(answer) as world:
            asked = [asyncio.ensure_future(world.send(heartbeat(number))) for number in range(3)]
            await world.node.received(3)
            world.node.connections[0].transport.abort()
            for outcome in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(outcome, PeerError)
            silent = False
            assert (await world.send(heartbeat(5))).throttle_time_ms == 5

    run(scenario)


def test_unanswered_request_ends_its_connection_but_no_other(run: Run) -> None:
    async def scenario() -> None:
        def answer(request: Any, version: int) -> Response | None:
            return echo(request, version) if request.generation_id else None

        async with World(answer) as world:
            assert await world.send(heartbeat(1), channel="other")
            first = asyncio.ensure_future(world.send(heartbeat(0), timeout_ms=200))
            await world.node.received(2)
            behind = asyncio.ensure_future(world.send(heartbeat(1)))
            with pytest.raises(PeerError, match="did not answer HeartbeatRequest within 200 ms"):
                await first
            with pytest.raises(PeerError, match="did not answer"):
                await behind
            assert await world.send(heartbeat(2))
            assert await world.send(heartbeat(3), channel="other")
            assert len(world.node.greetings) == 3

    run(scenario)


def test_node_that_does_not_greet_is_given_up(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            world.node.greets = False
            with pytest.raises(PeerError, match=r"no connection to 127.0.0.1:\d+ within 20 ms"):
                await world.send(heartbeat(1), timeout_ms=20)
            with pytest.raises(PeerError, match=r"no connection to 127.0.0.1:\d+ within 500 ms"):
                await world.send(heartbeat(1))
            world.node.greets = True
            await world.send(heartbeat(1))

    run(scenario)


def test_cancelled_send_drops_its_response_only(run: Run) -> None:
    async def scenario() -> None:
        release = asyncio.Event()

        def answer(request: Any, version: int) -> Awaitable[Response]:
            async def later() -> Response:
                await release.wait()
                return echo(request, version)

            return later()

        async with World(answer) as world:
            first, second = (asyncio.ensure_future(world.send(heartbeat(number))) for number in (1, 2))
            await world.node.received(2)
            first.cancel()
            release.set()
            assert (await second).throttle_time_ms == 2
            assert first.cancelled()

    run(scenario)


def test_giving_up_while_connecting_leaves_the_others_their_connection(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            first = asyncio.ensure_future(world.send(heartbeat(1)))
            second = asyncio.ensure_future(world.send(heartbeat(2)))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).throttle_time_ms == 2
            assert len(world.node.connections) == 1

    run(scenario)


def test_close_fails_what_is_in_flight_and_all_that_follows(run: Run) -> None:
    async def scenario() -> None:
        async with World(lambda request, version: None) as world:
            waiting = asyncio.ensure_future(world.send(heartbeat(1)))
            await world.node.received(1)
            opening = asyncio.ensure_future(world.send(heartbeat(1), channel="other"))
            await asyncio.sleep(0)
            await world.peers.close()
            for one in (waiting, opening):
                with pytest.raises(PeerError, match="stopping"):
                    await one
            with pytest.raises(PeerError, match="stopping"):
                await world.send(heartbeat(1))

    run(scenario)


def test_disconnect_gives_up_what_is_being_opened(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            world.node.greets = False
            asked = [asyncio.ensure_future(world.send(heartbeat(1), channel=channel)) for channel in ("a", "b")]
            await asyncio.sleep(0.05)
            world.peers.disconnect(world.node.address, "node 2 leads no more.", channel_prefix="a")
            with pytest.raises(PeerError, match="leads no more"):
                await asked[0]
            assert not asked[1].done()
            with pytest.raises(PeerError, match="within 500 ms"):
                await asked[1]

    run(scenario)


def test_peer_of_another_protocol(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            await world.send(heartbeat(1))
            world.node.answer = lambda request, version: None
            asked = asyncio.ensure_future(world.send(heartbeat(1)))
            await asyncio.sleep(0.01)
            world.node.connections[0].transport.write(b"\0\0\0\4\0\0\0\x63")
            with pytest.raises(PeerError, match="not Kafka's protocol: not the response to request"):
                await asked

    run(scenario)


def test_record_sets_stay_when_the_connection_goes_on(run: Run) -> None:
    async def scenario() -> None:
        def answer(request: Any, version: int) -> Response:
            records = bytes([request.max_bytes]) * (100 if request.max_bytes % 2 else 300_000)
            topic = FetchableTopicResponse(
                topic_id=bytes(16), partitions=[PartitionData(partition_index=0, high_watermark=1, records=records)]
            )
            return FetchResponse(responses=[topic])

        async with World(answer) as world:
            held = []
            for number in range(8):
                request = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=number)
                response = await world.send(request, channel="fetch")
                held.append(response.responses[0].partitions[0].records)
            for number, records in enumerate(held):
                assert set(bytes(records)) == {number}

    run(scenario)


def test_disconnect_ends_the_channels_of_an_address(run: Run) -> None:
    async def scenario() -> None:
        async with World() as world:
            channels = ("raft", "controller:a", "controller:b")
            for channel in channels:
                await world.send(heartbeat(1), channel=channel)
            world.node.answer = lambda request, version: None
            raft, *others = [asyncio.ensure_future(world.send(heartbeat(1), channel=channel)) for channel in channels]
            await world.node.received(6)
            world.peers.disconnect(world.node.address, "node 2 leads no more.", channel_prefix="controller:")
            for one in others:
                with pytest.raises(PeerError, match="leads no more"):
                    await one
            assert not raft.done()
            world.peers.disconnect(world.node.address, "node 2 has another address now.")
            with pytest.raises(PeerError, match="another address"):
                await raft

    run(scenario)

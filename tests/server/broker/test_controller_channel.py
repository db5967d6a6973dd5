"""Requests to the active controller, while there is one, while there is none, and while it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.message import Response
from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from ottla.protocol.messages.create_topics import CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse
from ottla.server.broker.controller_channel import ControllerChannel, ControllerUnavailableError
from ottla.server.peers.errors import UnsupportedPeerVersionError
from ottla.server.peers.peers import Peers
from ottla.testing.sim.env import simulate
from tests.server.peers.fake_node import FakeNode

REQUEST = AllocateProducerIdsRequest(broker_id=1, broker_epoch=5)


class FakeLocator:
    """Who leads, as the test says."""

    def __init__(self) -> None:
        self.address: tuple[str, int] | None = None

    def leader_address(self) -> tuple[str, int] | None:
        return self.address


class FakeLocal:
    """A controller in this process."""

    def __init__(self) -> None:
        self.is_active = True
        self.asked = 0
        self.error: ErrorCode | None = None

    async def answer(self, message: Any) -> Any:
        self.asked += 1
        if self.error is not None:
            raise ApiError(self.error)
        return AllocateProducerIdsResponse(producer_id_start=1, producer_id_len=2)


def block(start: int) -> Callable[[Any, int], Response]:
    return lambda request, version: AllocateProducerIdsResponse(producer_id_start=start, producer_id_len=1000)


class World:
    """Two nodes that may be the controller, and a broker's channel."""

    def __init__(self) -> None:
        self.first, self.second = FakeNode(block(0)), FakeNode(block(1000))
        self.locator = FakeLocator()
        self.local = FakeLocal()
        self.local.is_active = False
        self.peers = Peers(client_id="ottla-3")
        self.channel = ControllerChannel(
            lambda: self.peers, self.locator, Random(1), local=self.local, attempt_timeout_ms=5000
        )

    async def __aenter__(self) -> World:
        await self.first.start()
        await self.second.start()
        self.locator.address = self.first.address
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peers.close()
        await self.first.stop()
        await self.second.stop()

    def lead(self, node: FakeNode | None) -> None:
        self.locator.address = None if node is None else node.address
        self.channel.leader_changed()

    async def ask(self, timeout_ms: int = 30_000) -> Any:
        return await self.channel.request(REQUEST, timeout_ms=timeout_ms)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    for seed in range(5):
        simulate(lambda env: scenario(), seed=seed, shuffle=True)


def test_active_controller_elsewhere_is_asked_over_the_network() -> None:
    async def scenario() -> None:
        async with World() as world:
            assert (await world.ask()).producer_id_start == 0
            assert world.first.requests[0][2].broker_epoch == 5
            assert world.local.asked == 0

    run(scenario)


def test_controller_of_this_process_is_asked_without_a_connection() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.local.is_active = True
            assert (await world.ask()).producer_id_start == 1
            assert not world.first.requests
            world.local.error = ErrorCode.NOT_CONTROLLER
            asked = asyncio.ensure_future(world.ask())
            await asyncio.sleep(0.1)
            assert world.local.asked > 2
            world.local.is_active = False
            assert (await asked).producer_id_start == 0

            world.local.is_active, world.local.error = True, ErrorCode.KAFKA_STORAGE_ERROR
            with pytest.raises(ApiError, match="KAFKA_STORAGE_ERROR"):
                await world.ask()

    run(scenario)


def test_unknown_leader_is_waited_for_and_asked_at_once() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.lead(None)
            loop = asyncio.get_running_loop()
            asked = asyncio.ensure_future(world.ask())
            await asyncio.sleep(7)
            assert not asked.done()
            begin = loop.time()
            world.lead(world.second)
            assert (await asked).producer_id_start == 1000
            assert loop.time() - begin < 0.05

    run(scenario)


def test_who_says_that_it_is_not_the_controller_is_asked_again() -> None:
    async def scenario() -> None:
        async with World() as world:
            answers = [ErrorCode.NOT_CONTROLLER, ErrorCode.NOT_CONTROLLER, ErrorCode.NONE]
            world.first.answer = lambda request, version: AllocateProducerIdsResponse(error_code=answers.pop(0))
            assert (await world.ask()).error_code == 0
            assert answers == []

            parts = [[ErrorCode.NONE, ErrorCode.NOT_CONTROLLER], [ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS]]
            world.first.answer = lambda request, version: CreateTopicsResponse(
                topics=[CreatableTopicResult(name=f"t{code}", error_code=code, configs=[]) for code in parts.pop(0)]
            )
            response = await world.channel.request(CreateTopicsRequest(), timeout_ms=1000)
            assert [topic.error_code for topic in response.topics] == [0, ErrorCode.TOPIC_ALREADY_EXISTS]

    run(scenario)


def test_nobody_waits_for_the_answer_of_a_leader_that_was() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.first.answer = lambda request, version: None
            loop = asyncio.get_running_loop()
            asked = asyncio.ensure_future(world.ask())
            await world.first.received(1)
            begin = loop.time()
            world.lead(world.second)
            assert (await asked).producer_id_start == 1000
            assert loop.time() - begin < 0.2

    run(scenario)


def test_same_leader_in_another_epoch_may_still_answer() -> None:
    async def scenario() -> None:
        async with World() as world:
            release = asyncio.Event()

            async def later(request: Any, version: int) -> Response:
                await release.wait()
                return block(0)(request, version)

            world.first.answer = later  # type: ignore[assignment]
            asked = asyncio.ensure_future(world.ask())
            await world.first.received(1)
            world.lead(world.first)
            release.set()
            assert (await asked).producer_id_start == 0
            assert len(world.first.requests) == 1

    run(scenario)


def test_lost_connection_and_silent_leader_are_tried_again() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.first.answer = lambda request, version: None
            asked = asyncio.ensure_future(world.ask())
            await world.first.received(1)
            world.first.connections[0].transport.abort()
            await world.first.received(2)
            await asyncio.sleep(1)
            world.first.answer = block(0)
            assert (await asked).producer_id_start == 0, "after an attempt of five seconds"
            assert asyncio.get_running_loop().time() > 5

    run(scenario)


def test_request_that_finds_no_controller_in_time_says_why() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.lead(None)
            with pytest.raises(
                ControllerUnavailableError, match="AllocateProducerIds: no answer within 300 ms: there is"
            ):
                await world.ask(timeout_ms=300)
            world.lead(world.first)
            await world.first.stop()
            with pytest.raises(ControllerUnavailableError, match=r"within 300 ms: cannot connect to 127.0.0.1:\d+"):
                await world.ask(timeout_ms=300)

    run(scenario)


def test_controller_that_does_not_know_the_api_is_not_asked_again() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.first.versions = {int(ApiKey.ENVELOPE): (0, 0)}
            with pytest.raises(UnsupportedPeerVersionError, match="does not offer AllocateProducerIds"):
                await world.ask()

    run(scenario)


def test_versions_of_the_controller_are_known_once_something_was_forwarded() -> None:
    async def scenario() -> None:
        async with World() as world:
            world.first.versions = {int(ApiKey.ENVELOPE): (0, 0), int(ApiKey.CREATE_TOPICS): (2, 5)}
            world.first.answer = lambda request, version: EnvelopeResponse()
            assert world.channel.served_versions(ApiKey.CREATE_TOPICS) is None
            await world.channel.request(EnvelopeRequest(), timeout_ms=1000)
            assert world.channel.served_versions(ApiKey.CREATE_TOPICS) == (2, 5)
            world.lead(world.second)
            assert world.channel.served_versions(ApiKey.CREATE_TOPICS) is None

    run(scenario)

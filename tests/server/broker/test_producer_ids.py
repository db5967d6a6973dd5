"""Blocks of producer ids: every id once, no waiting while there is a controller, a word when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsResponse
from ottla.server.broker.controller_channel import ControllerUnavailableError
from ottla.server.broker.producer_ids import ProducerIds
from ottla.testing.sim.env import simulate

BLOCK = 100


class FakeChannel:
    """A controller that is `delay_s` away, and gives blocks to several brokers."""

    def __init__(self) -> None:
        self.next = 0
        self.delay_s = 0.01
        self.epochs: list[int] = []
        self.error = ErrorCode.NONE
        self.is_there = True

    async def request(self, message: Any, *, timeout_ms: int) -> AllocateProducerIdsResponse:
        self.epochs.append(message.broker_epoch)
        await asyncio.sleep(self.delay_s)
        if not self.is_there:
            raise ControllerUnavailableError("AllocateProducerIds: no answer.")
        if self.error:
            return AllocateProducerIdsResponse(error_code=self.error)
        start = self.next
        self.next += BLOCK
        return AllocateProducerIdsResponse(producer_id_start=start, producer_id_len=BLOCK)


class World:
    def __init__(self) -> None:
        self.channel = FakeChannel()
        self.epoch = 7

    def ids(self, node_id: int = 1) -> ProducerIds:
        return ProducerIds(self.channel, node_id, lambda: self.epoch)  # type: ignore[arg-type]


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    simulate(lambda env: scenario(World()), seed=1, shuffle=True)


def test_ids_come_in_order_and_the_next_block_before_it_is_needed() -> None:
    async def scenario(world: World) -> None:
        ids = world.ids()
        assert ids.try_producer_id() is None
        assert await ids.producer_id() == 0
        assert [ids.try_producer_id() for _ in range(89)] == list(range(1, 90))
        assert len(world.channel.epochs) == 1
        assert ids.try_producer_id() == 90
        await asyncio.sleep(1)
        assert len(world.channel.epochs) == 2
        assert [ids.try_producer_id() for _ in range(99)] == list(range(91, 190))
        assert len(world.channel.epochs) == 2

    run(scenario)


def test_every_id_goes_to_one_producer_of_one_broker() -> None:
    async def scenario(world: World) -> None:
        brokers = [world.ids(node_id) for node_id in (1, 2, 3)]
        given = await asyncio.gather(*(brokers[number % 3].producer_id() for number in range(900)))
        assert len(set(given)) == 900
        assert len(world.channel.epochs) <= 12

    run(scenario)


def test_controller_that_is_away_is_said_to_be_loading() -> None:
    async def scenario(world: World) -> None:
        ids = world.ids()
        world.channel.is_there = False
        begin = asyncio.get_running_loop().time()
        with pytest.raises(ApiError) as refusal:
            await ids.producer_id()
        assert refusal.value.code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        assert 1 <= asyncio.get_running_loop().time() - begin < 1.1
        world.channel.is_there = True
        assert await ids.producer_id() == 0

    run(scenario)


def test_slow_controller_keeps_nobody_for_long_and_its_block_is_not_lost() -> None:
    async def scenario(world: World) -> None:
        ids = world.ids()
        world.channel.delay_s = 5.0
        with pytest.raises(ApiError):
            await ids.producer_id()
        await asyncio.sleep(5)
        assert ids.try_producer_id() == 0
        assert len(world.channel.epochs) == 1

    run(scenario)


def test_stale_epoch_is_tried_again_with_the_new_one() -> None:
    async def scenario(world: World) -> None:
        ids = world.ids()
        world.channel.error = ErrorCode.STALE_BROKER_EPOCH
        waiting = asyncio.ensure_future(ids.producer_id())
        await asyncio.sleep(0.2)
        world.epoch, world.channel.error = 8, ErrorCode.NONE
        assert await waiting == 0
        assert world.channel.epochs[0] == 7
        assert world.channel.epochs[-1] == 8

    run(scenario)


def test_block_that_goes_back_is_not_used() -> None:
    async def scenario(world: World) -> None:
        ids = world.ids()
        world.channel.next = 500
        assert await ids.producer_id() == 500
        world.channel.next = 400
        given = [await ids.producer_id() for _ in range(150)]
        assert given == [*range(501, 600), *range(600, 651)]
        assert len(world.channel.epochs) == 4, "two blocks were refused"

    run(scenario)

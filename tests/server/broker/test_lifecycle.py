"""A broker's life on a virtual clock: what is sent, when who waits goes on, and what it hears when it may not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse
from ottla.schema.config import BrokerConfig
from ottla.server.broker.controller_channel import ControllerUnavailableError
from ottla.server.broker.lifecycle import BrokerDescription, BrokerLifecycle, LifecycleError
from ottla.server.broker.lifecycle_core import BrokerState
from ottla.server.metadata.features import SUPPORTED_FEATURES
from ottla.server.metadata.image import Endpoint, MetadataImage
from ottla.testing.sim.env import simulate

INCARNATION = b"i" * 16
DIRECTORIES = {"/b": b"b" * 16, "/a": b"a" * 16}


class FakeMetadata:
    """Follows the metadata as the test says."""

    def __init__(self, config: BrokerConfig) -> None:
        self.offset = -1
        self.image = MetadataImage(features={"metadata.version": 30})
        self.config = config
        self._listeners: list[Callable[[int], None]] = []

    def subscribe_progress(self, listener: Callable[[int], None]) -> None:
        self._listeners.append(listener)

    def advance(self, offset: int) -> None:
        self.offset = offset
        for listener in self._listeners:
            listener(offset)


class FakeController:
    """Takes the broker in as KIP-631 says, unless the test has something against it."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, Any]] = []
        self.is_there = True
        self.registration_error = ErrorCode.NONE
        self.heartbeat_error = ErrorCode.NONE
        self.epoch = 10
        self.is_fenced = True
        self.leads = 2

    async def request(self, message: Any, *, timeout_ms: int) -> Any:
        loop = asyncio.get_running_loop()
        self.requests.append((loop.time(), message))
        await asyncio.sleep(0.001)
        if not self.is_there:
            await asyncio.sleep(timeout_ms / 1000)
            raise ControllerUnavailableError("no answer")
        if isinstance(message, BrokerRegistrationRequest):
            self.is_fenced = True
            return BrokerRegistrationResponse(error_code=self.registration_error, broker_epoch=self.epoch)
        if self.heartbeat_error:
            return BrokerHeartbeatResponse(error_code=self.heartbeat_error)
        caught_up = message.current_metadata_offset >= self.epoch
        self.is_fenced = self.is_fenced and (message.want_fence or not caught_up)
        if message.want_shut_down:
            self.leads -= 1
        return BrokerHeartbeatResponse(
            is_caught_up=caught_up, is_fenced=self.is_fenced, should_shut_down=message.want_shut_down and self.leads < 0
        )

    def heartbeats(self) -> list[BrokerHeartbeatRequest]:
        return [message for _, message in self.requests if isinstance(message, BrokerHeartbeatRequest)]


class World:
    def __init__(self, **settings: object) -> None:
        self.config = BrokerConfig.of({name.replace("_", "."): value for name, value in settings.items()})
        self.controller = FakeController()
        self.metadata = FakeMetadata(self.config)
        description = BrokerDescription(
            broker_id=3,
            cluster_id="cluster",
            incarnation_id=INCARNATION,
            endpoints=(Endpoint("PLAINTEXT", "host", 9092, 0),),
            log_dirs=DIRECTORIES,
            rack="r1",
            previous_broker_epoch=4,
        )
        channel: Any = self.controller
        metadata: Any = self.metadata
        self.lifecycle = BrokerLifecycle(self.config, channel, metadata, description)

    async def up(self) -> None:
        self.metadata.advance(self.controller.epoch)
        await self.lifecycle.register()
        await self.lifecycle.catch_up()
        await self.lifecycle.unfence()


def run(scenario: Callable[[World], Coroutine[Any, Any, None]], **settings: object) -> None:
    async def main(env: Any) -> None:
        world = World(**settings)
        try:
            await asyncio.wait_for(scenario(world), 1000)
        finally:
            await world.lifecycle.stop()

    for seed in range(3):
        simulate(main, seed=seed, shuffle=True)


def test_registration_says_who_the_broker_is() -> None:
    async def scenario(world: World) -> None:
        await world.lifecycle.register()
        assert world.lifecycle.broker_epoch == 10
        (_, request), *_ = world.controller.requests
        assert (request.broker_id, request.cluster_id, request.incarnation_id) == (3, "cluster", INCARNATION)
        assert [(one.name, one.host, one.port) for one in request.listeners] == [("PLAINTEXT", "host", 9092)]
        assert (request.rack, request.previous_broker_epoch) == ("r1", 4)
        assert request.log_dirs == [b"a" * 16, b"b" * 16]
        features = {one.name: (one.min_supported_version, one.max_supported_version) for one in request.features}
        assert features == dict(SUPPORTED_FEATURES)

    run(scenario)


def test_each_wait_ends_when_its_time_has_come() -> None:
    async def scenario(world: World) -> None:
        lifecycle = world.lifecycle
        await lifecycle.register()
        catching_up = asyncio.ensure_future(lifecycle.catch_up())
        await asyncio.sleep(3)
        assert not catching_up.done()
        world.metadata.advance(9)
        world.metadata.advance(10)
        await catching_up
        assert (lifecycle.state, lifecycle.is_fenced) == (BrokerState.RECOVERY, True)
        begin = asyncio.get_running_loop().time()
        await lifecycle.unfence()
        assert (lifecycle.state, lifecycle.is_fenced) == (BrokerState.RUNNING, False)
        assert asyncio.get_running_loop().time() - begin < 0.01

    run(scenario)


def test_whole_start_takes_two_round_trips_when_everything_is_there() -> None:
    async def scenario(world: World) -> None:
        world.metadata.advance(20)
        registering = asyncio.ensure_future(world.lifecycle.register())
        await asyncio.sleep(0)
        unfencing = asyncio.ensure_future(world.lifecycle.unfence())
        await asyncio.gather(registering, unfencing)
        assert len(world.controller.requests) == 2

    run(scenario)


def test_heartbeats_come_at_their_interval_with_what_the_broker_has_followed() -> None:
    async def scenario(world: World) -> None:
        await world.up()
        world.controller.requests.clear()
        world.metadata.advance(55)
        await asyncio.sleep(10.1)
        times = [when for when, _ in world.controller.requests]
        assert len(times) in (20, 21)
        assert all(later - earlier == pytest.approx(0.5, abs=0.01) for earlier, later in pairwise(times))
        newest = world.controller.heartbeats()[-1]
        assert (newest.broker_id, newest.broker_epoch, newest.current_metadata_offset) == (3, 10, 55)
        assert newest.cordoned_log_dirs == [b"b" * 16]

    run(scenario, broker_heartbeat_interval_ms=500, cordoned_log_dirs="/b,/elsewhere", log_dirs="/a,/b,/elsewhere")


def test_broker_that_cannot_register_fails_who_waits_for_it() -> None:
    async def scenario(world: World) -> None:
        world.controller.registration_error = ErrorCode.INCONSISTENT_CLUSTER_ID
        with pytest.raises(LifecycleError, match=r"within 5000 ms .*: the controller answers INCONSISTENT_CLUSTER_ID"):
            await world.lifecycle.register()
        with pytest.raises(LifecycleError, match="INCONSISTENT_CLUSTER_ID"):
            await world.lifecycle.failed
        with pytest.raises(LifecycleError):
            await world.lifecycle.unfence()

    run(scenario, initial_broker_registration_timeout_ms=5000)


def test_stop_ends_every_wait() -> None:
    async def scenario(world: World) -> None:
        world.controller.is_there = False
        waits = [asyncio.ensure_future(wait()) for wait in (world.lifecycle.register, world.lifecycle.catch_up)]
        await asyncio.sleep(1)
        await world.lifecycle.stop()
        for wait in waits:
            with pytest.raises(LifecycleError, match="stopping"):
                await wait
        before = len(world.controller.requests)
        await asyncio.sleep(100)
        assert len(world.controller.requests) == before

    run(scenario)


def test_controlled_shutdown_ends_when_nothing_is_led_any_more() -> None:
    async def scenario(world: World) -> None:
        await world.up()
        assert await world.lifecycle.leave(10_000)
        assert world.lifecycle.state == BrokerState.SHUTTING_DOWN
        assert world.controller.leads < 0
        assert [one.want_shut_down for one in world.controller.heartbeats()][-3:] == [True] * 3

    run(scenario)


def test_controlled_shutdown_is_not_waited_for_without_end() -> None:
    async def scenario(world: World) -> None:
        await world.up()
        world.controller.leads = 10**9
        begin = asyncio.get_running_loop().time()
        assert not await world.lifecycle.leave(10_000)
        assert 10 <= asyncio.get_running_loop().time() - begin < 10.1

    run(scenario)


def test_forgotten_broker_registers_again_and_serves_under_the_new_epoch() -> None:
    async def scenario(world: World) -> None:
        await world.up()
        controller, lifecycle = world.controller, world.lifecycle
        controller.heartbeat_error = ErrorCode.STALE_BROKER_EPOCH
        controller.registration_error = ErrorCode.DUPLICATE_BROKER_REGISTRATION
        await asyncio.sleep(5)
        assert (lifecycle.broker_epoch, lifecycle.is_fenced) == (10, True)
        controller.epoch, controller.heartbeat_error = 30, ErrorCode.NONE
        controller.registration_error = ErrorCode.NONE
        await asyncio.sleep(3)
        assert (lifecycle.broker_epoch, lifecycle.is_fenced) == (30, True)
        world.metadata.advance(31)
        await asyncio.sleep(1)
        assert not lifecycle.is_fenced

    run(scenario)


def test_failed_directory_and_cordoned_ones_are_told_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.up()
        await asyncio.sleep(0.5)
        world.lifecycle.directory_failed(b"a" * 16)
        await asyncio.sleep(0.1)
        assert world.controller.heartbeats()[-1].offline_log_dirs == [b"a" * 16]
        world.metadata.config = BrokerConfig.of({"log.dirs": "/a,/b", "cordoned.log.dirs": "/b"})
        world.lifecycle.follow_settings(world.metadata.config)
        await asyncio.sleep(0.1)
        assert world.controller.heartbeats()[-1].cordoned_log_dirs == [b"b" * 16]

    run(scenario)


def test_directory_that_nobody_hears_of_stops_the_broker() -> None:
    async def scenario(world: World) -> None:
        await world.up()
        world.controller.is_there = False
        world.lifecycle.directory_failed(b"a" * 16)
        with pytest.raises(LifecycleError, match="no controller could be told that directory 6161"):
            await world.lifecycle.failed

    run(scenario, log_dir_failure_timeout_ms=20_000)


def test_lone_broker_runs_from_the_start_and_is_heard_of_later() -> None:
    async def scenario(world: World) -> None:
        world.lifecycle.adopt(10)
        world.controller.is_fenced = False
        assert world.lifecycle.state == BrokerState.RUNNING
        await asyncio.sleep(Random(1).uniform(1, 1.9))
        assert not world.controller.requests
        await asyncio.sleep(1)
        assert len(world.controller.requests) == 1

    run(scenario)

"""A cluster that misbehaves at random, in virtual time: every request ends, every change is told once."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from random import Random

import pytest

from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition
from ottla.client.network.cluster import Cluster
from ottla.client.network.coordinators import broker_id
from ottla.client.network.retry import retrying
from ottla.client.settings import ProducerSettings
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.find_coordinator import FindCoordinatorResponse
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import CLOSE, SILENCE, Cut, Delay, FakeBroker, FakeCluster

REQUEST_TIMEOUT_MS = 2000
FAULTY_SECONDS = 40
SETTINGS = {
    "request_timeout_ms": REQUEST_TIMEOUT_MS,
    "metadata_max_age_ms": 3000,
    "socket_connection_setup_timeout_ms": 1000,
    "socket_connection_setup_timeout_max_ms": 1000,
    "connections_max_idle_ms": 4000,
    "metadata_recovery_rebootstrap_trigger_ms": 10_000,
}
GROUPS = ("g", "h", "i")


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(f"faults {seed}")
        self.fake = FakeCluster(3)
        self.fake.add_topic("t", partitions=3)
        for broker in self.fake:
            broker.on(ApiKey.HEARTBEAT, self.beat)
        self.is_faulty = True
        self.answered = self.failed = 0

    def beat(self, request, call):
        throttle_time_ms = self.random.choice((0, 0, 0, 0, 300)) if self.is_faulty else 0
        return HeartbeatResponse(error_code=request.generation_id % 100, throttle_time_ms=throttle_time_ms)

    def fault(self) -> object:
        random = self.random
        return random.choice((CLOSE, SILENCE, Cut(random.randrange(30)), Delay(random.random() * 3), Delay(0.05)))

    async def misbehave(self) -> None:
        random, fake, loop = self.random, self.fake, asyncio.get_running_loop()
        restarts = set()
        while loop.time() < FAULTY_SECONDS:
            await asyncio.sleep(random.expovariate(3))
            broker: FakeBroker = random.choice(list(fake))
            kind = random.randrange(8)
            if kind == 0 and broker.is_running:
                task = asyncio.ensure_future(broker.restart(random.random() * 4))
                restarts.add(task)
                task.add_done_callback(restarts.discard)
            elif kind == 1:
                broker.drop_connections()
            elif kind == 2:
                fake.move("t", random.randrange(3), random.randint(1, 3))
            elif kind == 3:
                fake.coordinators[0, random.choice(GROUPS)] = random.randint(0, 3)
            else:
                key = random.choice(
                    (ApiKey.HEARTBEAT,) * 3 + (ApiKey.METADATA, ApiKey.API_VERSIONS, ApiKey.FIND_COORDINATOR)
                )
                broker.script(key, self.fault())
        await asyncio.gather(*restarts)
        for broker in fake:
            broker._scripts.clear()
            if not broker.is_running:
                await broker.start()
        fake.coordinators.clear()
        self.is_faulty = False

    async def ask_leader(self, cluster: Cluster, number: int) -> None:
        """Requests to whoever leads a partition, one after the other."""
        random, loop = self.random, asyncio.get_running_loop()
        while loop.time() < FAULTY_SECONDS:
            await asyncio.sleep(random.random() * 0.2)
            leader = cluster.metadata.leader(TopicPartition("t", number))
            if leader is None:
                cluster.request_metadata_update()
                continue
            await self.ask(cluster, leader[0], random.choice((None, None, 100, 1000)))

    async def ask_coordinator(self, cluster: Cluster, group: str) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < FAULTY_SECONDS:
            await asyncio.sleep(self.random.random() * 0.3)
            try:
                node_id = await cluster.coordinator(0, group, 1000)
            except KafkaError as error:
                if not error.retriable:
                    raise
                continue
            if broker_id(node_id) != self.fake.coordinators.get((0, group), broker_id(node_id)):
                cluster.forget_coordinator(0, group)
            await self.ask(cluster, node_id, None)

    async def ask(self, cluster: Cluster, node_id: int, timeout_ms: int | None) -> None:
        """A burst of pipelined requests; all of them end in time, and the answers are theirs."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        numbers = range(self.random.randint(1, 5))
        futures = [
            cluster.send(node_id, HeartbeatRequest(group_id="g", generation_id=number), timeout_ms=timeout_ms)
            for number in numbers
        ]
        _, pending = await asyncio.wait(futures, timeout=60)
        assert not pending, "a request was lost"
        most = (timeout_ms or 3 * REQUEST_TIMEOUT_MS) / 1000
        assert loop.time() - begun <= most + 0.01
        for number, future in zip(numbers, futures, strict=True):
            error = future.exception()
            if error is None:
                assert future.result().error_code == number
                self.answered += 1
            else:
                assert isinstance(error, KafkaError), error
                assert error.retriable, error
                self.failed += 1


@pytest.mark.parametrize("seed", range(12))
def test_no_request_is_lost_and_everything_heals(seed, caplog):
    world = World(seed)

    async def main(_):
        async with world.fake:
            cluster = Cluster(ProducerSettings.of(world.fake.bootstrap, None, SETTINGS), random=Random(seed))
            cluster.interest(["t"])
            await asyncio.gather(
                world.misbehave(),
                *(world.ask_leader(cluster, number) for number in range(3)),
                *(world.ask_coordinator(cluster, group) for group in GROUPS),
            )
            cluster.metadata_state.check_invariants()
            for link in cluster._links.values():
                link.check_invariants()
            metadata = await cluster.refresh_metadata(15_000)
            for number, partition in enumerate(world.fake.topics["t"].partitions):
                assert metadata.leader(TopicPartition("t", number)) == (partition.leader, partition.leader_epoch)

            async def attempt(_):
                return await cluster.request(await cluster.coordinator(0, "g", 5000), HeartbeatRequest(group_id="g"))

            assert await retrying(cluster, attempt, 10_000) == HeartbeatResponse()
            await cluster.close()
            left = [task for task in asyncio.all_tasks() if "client/network/" in task.get_coro().cr_code.co_filename]
            assert not [task for task in left if "tests" not in task.get_coro().cr_code.co_filename]

    with caplog.at_level(logging.INFO, "ottla.client"):
        simulate(main, seed=seed, shuffle=seed % 2 == 1)
    assert world.answered > 100
    assert world.failed > 10
    check_log(caplog)


def check_log(caplog) -> None:
    """For each address, "lost" and "answers again" take turns."""
    last = defaultdict(lambda: "INFO")
    for record in caplog.records:
        message = record.getMessage()
        if message.startswith("Starting again"):
            continue
        port = message.split("127.0.0.1:", 1)[1][:5]
        assert last[port] != record.levelname, message
        last[port] = record.levelname


def test_a_slow_broker_is_slow_not_gone(caplog):
    async def main(_):
        async with FakeCluster(1) as fake:
            fake[1].on(ApiKey.HEARTBEAT, lambda request, call: slow())

            async def slow():
                await asyncio.sleep(1.5)
                return HeartbeatResponse()

            cluster = Cluster(ProducerSettings.of(fake.bootstrap, None, SETTINGS), random=Random(1))
            await cluster.start()
            for _ in range(10):
                assert await cluster.request(1, HeartbeatRequest()) == HeartbeatResponse()
            assert fake[1].connections_made <= 2 + 10
            await cluster.close()

    with caplog.at_level(logging.INFO, "ottla.client"):
        simulate(main, seed=1)
    assert not caplog.records


def test_a_coordinator_that_moves_all_the_time_is_found():
    async def main(_):
        async with FakeCluster(3) as fake:
            loading = FindCoordinatorResponse()
            loading.coordinators = []
            for broker in fake:
                broker.on(ApiKey.HEARTBEAT, beat(fake, broker.id))
                broker.script(ApiKey.FIND_COORDINATOR, loading)
            cluster = Cluster(ProducerSettings.of(fake.bootstrap, None, SETTINGS), random=Random(1))

            async def attempt(_):
                node_id = await cluster.coordinator(0, "g", 5000)
                response = await cluster.request(node_id, HeartbeatRequest(group_id="g"))
                if response.error_code == ErrorCode.NOT_COORDINATOR:
                    cluster.forget_coordinator(0, "g")
                    raise KafkaError(code=response.error_code)
                return response

            for round_number in range(30):
                fake.coordinators[0, "g"] = 1 + round_number % 3
                assert (await retrying(cluster, attempt, 10_000)).error_code == 0
            await cluster.close()

    def beat(fake, node_id):
        def answer(request, call):
            is_here = fake.coordinators[0, "g"] == node_id
            return HeartbeatResponse(error_code=0 if is_here else ErrorCode.NOT_COORDINATOR)

        return answer

    simulate(main, seed=1)

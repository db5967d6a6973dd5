"""A node that nobody has looked at for long is not said to do everything at the moment of the first look."""

from __future__ import annotations

import asyncio

from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.server.node.observation import Observation
from ottla.testing.sim.env import SimulatedEnv, simulate


def test_the_first_look_counts_since_the_start() -> None:
    rates: list[float] = []

    async def main(env: SimulatedEnv) -> None:
        config = BrokerConfig.of({"listeners": "PLAINTEXT://127.0.0.1:9092", "log.dirs": "/data"})
        node = Node(config, env)
        await node.start()
        observation = Observation(config)
        observation.started(node)
        await asyncio.sleep(100)
        metrics = observation.metrics()
        assert metrics is not None
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        rates.append(metrics.rates.record("requests", 500, now_ms))
        await observation.stop()
        await node.stop()

    simulate(main, seed=1)
    assert rates == [5.0]

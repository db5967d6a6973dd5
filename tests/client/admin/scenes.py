"""Runs an `Admin` against fake brokers in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ottla.client.admin.client import Admin
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.client.network.fake_broker import FakeCluster

T = TypeVar("T")
Scene = Callable[[FakeCluster, Admin], Awaitable[T]]


def play(scene: Scene[T], *, brokers: int = 1, fake: FakeCluster | None = None, **settings: Any) -> T:
    """What the scene returns; `fake` instead of a cluster of so many brokers."""

    async def main(_: SimulatedEnv) -> T:
        async with (
            fake or FakeCluster(brokers, creates_topics=False) as cluster,
            Admin(cluster.bootstrap, None, **settings) as admin,
        ):
            return await scene(cluster, admin)

    return simulate(main, seed=1)


def virtual_now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)

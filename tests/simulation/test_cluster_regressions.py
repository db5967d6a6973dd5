"""What the simulations of clusters found, in its shortest form."""

from __future__ import annotations

import asyncio

from tests.simulation.cluster_scenarios import THREE, ClusterPrograms
from tests.simulation.cluster_watch import out_of_sync
from tests.simulation.cluster_world import ClusterWorld, run_world
from tests.simulation.workloads.programs import Program

SOON_S = 15.0


async def in_sync(world: ClusterWorld) -> None:
    """Within a short time everybody is."""
    deadline = world.now() + SOON_S
    while any(out_of_sync(world, machine) for machine in world.brokers):
        assert world.now() < deadline, {str(one): out_of_sync(world, one) for one in world.brokers}
        await asyncio.sleep(0.1)


def test_followers_of_partitions_in_which_nothing_happens_come_back_into_the_isr() -> None:
    """They had fetched before they were eligible, and nobody looked at them again."""

    async def main(world: ClusterWorld) -> None:
        await world.client("operator").create_topic("quiet", 6)
        for _ in range(3):
            for machine in world.brokers:
                await machine.stop()
                await asyncio.sleep(0.3)
                machine.start()
                await machine.wait_up()
                await in_sync(world)

    run_world(main, seed="quiet", shape=THREE)


def test_clients_leave_nothing_of_brokers_that_left_the_cluster_before_them() -> None:
    """Their connections were forgotten with the timers still set."""

    async def main(world: ClusterWorld) -> None:
        await world.client("operator").create_topic("records", 6)
        programs = ClusterPrograms(world)

        async def send(program: Program) -> None:
            producer = program.producer({})
            async with producer:
                for number in range(60):
                    await producer.send("records", b"%d" % number, partition=number % 6)
                    await asyncio.sleep(0.1)

        sender = programs.start("sender", send)
        await asyncio.sleep(1)
        world.machines[2].kill()
        await sender.ended()
        world.machines[2].start()
        await world.machines[2].wait_up()
        await in_sync(world)

    run_world(main, seed="left", shape=THREE)

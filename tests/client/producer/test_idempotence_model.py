"""An idempotent producer against a model broker over a network in trouble: no record twice, none missing, in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from ottla.client.producer.sequences import SEQUENCES
from ottla.core.ids import TopicPartition
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.client.producer.mini_producer import MiniProducer
from tests.client.producer.model_broker import MAX_EPOCH, ModelCluster
from tests.client.producer.model_network import ModelNetwork

PARTITIONS = [TopicPartition("t", partition) for partition in range(3)]


async def produce(dice: Random, *, records: int, trouble: float, near_the_end: bool = False, **options: float) -> None:
    loop = asyncio.get_running_loop()
    cluster = ModelCluster(loop.call_later, version=2)
    network = ModelNetwork(cluster, dice)
    network.trouble = trouble
    producer = MiniProducer(network, dice, **options)  # type: ignore[arg-type]
    if near_the_end:
        cluster.first_epoch = MAX_EPOCH - 2
    sent: dict[TopicPartition, list[tuple[str, object]]] = {tp: [] for tp in PARTITIONS}
    for number in range(records):
        tp = dice.choice(PARTITIONS)
        value = f"{number}"
        sent[tp].append((value, producer.send(tp, value)))
        if dice.random() < 0.3:
            await asyncio.sleep(dice.expovariate(1 / 0.01))
    await producer.flush()
    await asyncio.sleep(60)  # what is late arrives
    for tp in PARTITIONS:
        found = cluster.log(tp).all_values()
        counted = Counter(found)
        assert max(counted.values(), default=0) <= 1, "twice"
        acknowledged = [value for value, batch in sent[tp] if batch.outcome == "acknowledged"]  # type: ignore[attr-defined]
        assert set(acknowledged) <= set(found), "a gap"
        places = {value: place for place, value in enumerate(found)}
        assert acknowledged == sorted(acknowledged, key=places.__getitem__), "out of order"
    if not options:
        assert all(batch.outcome == "acknowledged" for batch in producer.batches)
    await producer.close()


@pytest.mark.parametrize("seed", range(50))
def test_every_record_is_there_once_and_in_order(seed: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        await produce(Random(seed), records=80, trouble=Random(seed).choice((0.0, 0.02, 0.1, 0.3)))

    simulate(main, seed=seed)


@pytest.mark.parametrize("seed", range(50))
def test_what_expires_or_is_refused_leaves_no_gap(seed: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        dice = Random(f"expires {seed}")
        await produce(
            dice,
            records=80,
            trouble=dice.choice((0.02, 0.1, 0.3)),
            delivery_timeout=dice.choice((0.05, 0.2, 1.0)),
            refusals=dice.choice((0.0, 0.1)),
            near_the_end=seed % 4 == 0,
        )

    simulate(main, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_sequence_numbers_go_round(seed: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        dice = Random(f"round {seed}")
        cluster = ModelCluster(asyncio.get_running_loop().call_later, version=2)
        network = ModelNetwork(cluster, dice)
        producer = MiniProducer(network, dice)
        [tp, *_] = PARTITIONS
        producer.send(tp, "first")
        await producer.flush()
        numbers = producer.state._sequences.partitions[tp]
        numbers.next_sequence = numbers.accepted = SEQUENCES - 7
        known = cluster.log(tp).producers[producer.state.producer_id]
        known.batches.clear()
        known.batches.append((SEQUENCES - 8, SEQUENCES - 8, 0))
        network.trouble = 0.1
        for number in range(40):
            producer.send(tp, f"{number}")
            await asyncio.sleep(dice.expovariate(1 / 0.005))
        await producer.flush()
        assert cluster.log(tp).all_values() == ["first", *(f"{number}" for number in range(40))]
        assert numbers.next_sequence < 40
        await producer.close()

    simulate(main, seed=seed)

"""This broker against Apache Kafka: the same raw requests to both, the answers compared field by field.

Both run once for the whole module, with the same settings. A difference that no entry of the table `INTENDED` covers
fails its scenario; an entry that covers nothing any more fails the last test. To look into one scenario:
`pytest tests/compatibility/test_differential.py -k idempotence`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from benchmarks.brokers import ApacheKafka, BrokerError, OttlaBroker, require_kafka
from tests.compatibility.differential import (
    admin_scenarios,
    config_scenarios,
    consumer_group_scenarios,
    fetch_scenarios,
    group_scenarios,
    produce_scenarios,
    protocol_scenarios,
    quota_scenarios,
    share_fetch_scenarios,
    share_scenarios,
    streams_scenarios,
    topic_scenarios,
    transaction_scenarios,
)
from tests.compatibility.differential.comparison import differences
from tests.compatibility.differential.intended import INTENDED, Intended, reason_for
from tests.compatibility.differential.settings import SETTINGS
from tests.compatibility.differential.world import World, served_by_both
from tests.conftest import require

pytestmark = pytest.mark.xdist_group("differential")

MODULES = (
    protocol_scenarios,
    topic_scenarios,
    config_scenarios,
    admin_scenarios,
    produce_scenarios,
    fetch_scenarios,
    group_scenarios,
    consumer_group_scenarios,
    quota_scenarios,
    share_scenarios,
    share_fetch_scenarios,
    streams_scenarios,
    transaction_scenarios,
)
SCENARIOS: dict[str, Callable[[World], None]] = {
    scenario.__name__: scenario for module in MODULES for scenario in module.SCENARIOS
}
SHOWN_DIFFERENCES = 40


class Sides(NamedTuple):
    """Both brokers, and what has been learnt so far."""

    ottla: World
    kafka: World
    seen: set[str]
    used: set[Intended]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    try:
        require_kafka()
    except BrokerError as error:
        require(str(error))
    kafka = ApacheKafka(
        tmp_path_factory.mktemp("kafka"), settings=SETTINGS, heap="-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
    )
    ottla = OttlaBroker(tmp_path_factory.mktemp("ottla"), settings=SETTINGS)
    try:
        for broker in (kafka, ottla):
            broker.spawn()
        for broker in (kafka, ottla):
            broker.wait_until_ready()
        base_ms = int(time.time() * 1000) - 600_000
        worlds = [World(broker.label, broker.bootstrap, base_ms=base_ms) for broker in (ottla, kafka)]
        common = served_by_both(*worlds)
        for world in worlds:
            world.common = common
        yield Sides(*worlds, set(), set())
        for world in worlds:
            world.close()
    finally:
        ottla.stop()
        # What it wrote is of no interest, and an orderly stop takes seconds.
        kafka.kill()


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_like_apache_kafka(sides: Sides, name: str) -> None:
    for world, reference in ((sides.ottla, None), (sides.kafka, sides.ottla)):
        world.begin(name, reference)
        SCENARIOS[name](world)
    sides.seen.add(name)
    assert sides.ottla.steps
    found = []
    for difference in differences(name, sides.ottla, sides.kafka):
        reason = reason_for(difference)
        if reason is None:
            found.append(str(difference))
        else:
            sides.used.add(reason)
    assert not found, "\n".join([f"{len(found)} differences", *found[:SHOWN_DIFFERENCES]])


def test_every_intended_difference_is_still_there(sides: Sides) -> None:
    if sides.seen != set(SCENARIOS):
        return  # only some scenarios were asked for
    unused = [entry for entry in INTENDED if entry not in sides.used]
    assert not unused, "\n".join(f"nothing differs here: {entry}" for entry in unused)

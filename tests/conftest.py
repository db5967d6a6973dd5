"""Brokers as processes, for the suites that meet a broker on its port.

OTTLA_TEST_BROKER=kafka runs them against Apache Kafka instead, which shows that a test asks for what Kafka really does;
OTTLA_TEST_BOOTSTRAP=host:port sends those that need no broker of their own to one that is already running.
OTTLA_REQUIRE_TOOLS=1 makes a missing foreign tool a failure: the build server has them all.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.brokers import ApacheKafka, Broker, OttlaBroker

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background with interrupts ignored; tests and their processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """See `tests.scheduling`; the name is a hook's."""
    from tests.scheduling import Scheduling

    return Scheduling(config, log)  # type: ignore[arg-type]


KINDS: dict[str, type[Broker]] = {"ottla": OttlaBroker, "kafka": ApacheKafka}
SETTINGS = {"group.initial.rebalance.delay.ms": "0", "offsets.topic.num.partitions": "4"}

MakeBroker = Callable[..., Broker]


def new_broker(directory: Path, settings: Mapping[str, str] | None = None) -> Broker:
    kind = KINDS[os.environ.get("OTTLA_TEST_BROKER", "ottla")]
    more = {"heap": "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"} if kind is ApacheKafka else {}
    return kind(directory, settings={**SETTINGS, **(settings or {})}, **more)


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker that the whole session shares: use topics and groups of your own."""
    if address := os.environ.get("OTTLA_TEST_BOOTSTRAP"):
        yield address
        return
    broker = new_broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker.bootstrap
    broker.stop()


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[MakeBroker]:
    """Start brokers that belong to this test alone: make_broker(**{"setting.name": "value"}) → a running Broker."""
    made: list[Broker] = []

    def make(settings: Mapping[str, str] | None = None) -> Broker:
        broker = new_broker(tmp_path / f"broker-{len(made)}", settings)
        made.append(broker)
        return broker.start()

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def name() -> str:
    """A name for a topic or a group that nothing else uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


def require(missing: str | None) -> None:
    """Skip the test when a tool is missing; fail it where all tools have to be there."""
    if missing is None:
        return
    if os.environ.get("OTTLA_REQUIRE_TOOLS"):
        pytest.fail(f"missing on this machine: {missing}", pytrace=False)
    pytest.skip(f"missing on this machine: {missing}")

"""What the loads share: target and options, topics that last as long as a case, payloads, librdkafka clients."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import Broker
from benchmarks.measure import Window, window
from benchmarks.wire import FETCH, Connection, WireError, advance, fetch_body


@dataclass(frozen=True)
class Options:
    """How large a run is: seconds of timed loads, a factor for counted ones, partitions of throughput topics."""

    seconds: float = 2.0
    scale: float = 0.4
    partitions: int = 4


@dataclass
class Target:
    """A broker under test with the topics that were filled for its consumers."""

    broker: Broker
    # Makes a second broker of the same kind, for the start-up case; the argument is its directory.
    make: Any
    filled: dict[int, tuple[str, int]] = field(default_factory=dict)
    apis: frozenset[int] = frozenset()

    @property
    def label(self) -> str:
        return self.broker.label

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    @property
    def pid(self) -> int | None:
        return self.broker.pid

    def window(self) -> AbstractContextManager[Window]:
        return window(self.pid)

    def connect(self) -> Connection:
        return Connection(self.bootstrap)

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def new_broker(self, directory: Path) -> Broker:
        broker: Broker = self.make(directory)
        return broker

    def producer(self, **settings: object) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "log_level": 0,
                "delivery.report.only.error": True,
                **{name.replace("_", "."): value for name, value in settings.items()},
            }
        )

    def consumer(self, **settings: object) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "log_level": 0,
                "group.id": f"g-{uuid.uuid4().hex[:8]}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **{name.replace("_", "."): value for name, value in settings.items()},
            }
        )

    @contextmanager
    def topic(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> Iterator[str]:
        """A new topic that is deleted afterwards."""
        name = f"bench-{uuid.uuid4().hex[:10]}"
        self.create_topic(name, partitions, config)
        try:
            yield name
        finally:
            with contextlib.suppress(Exception):
                admin = self.admin()  # a client that is dropped drops its request
                admin.delete_topics([name], request_timeout=30)[name].result(60)

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        admin = self.admin()
        topic = NewTopic(name, partitions, 1, config=dict(config or {}))
        admin.create_topics([topic], request_timeout=110)[name].result(120)
        self.wait_for_topic(name, partitions)

    def wait_for_topic(self, name: str, partitions: int, timeout: float = 120) -> None:
        """Until every partition names a leader and can be read: a leader may still refuse for a moment."""
        deadline = time.monotonic() + timeout
        with self.connect() as connection:
            while time.monotonic() < deadline:
                error, found = connection.metadata([name]).topics.get(name, (3, {}))
                if error == 0 and len(found) == partitions and all(leader >= 0 for _, leader in found.values()):
                    offsets = dict.fromkeys(range(partitions), 0)
                    body = fetch_body(name, offsets, max_wait_ms=0, min_bytes=0)
                    with contextlib.suppress(WireError):
                        advance(connection.call(FETCH, 4, body), offsets)
                        return
                time.sleep(0.005)
        raise WireError(f"topic {name} is not ready")

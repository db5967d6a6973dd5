"""Consumer lag: the windows of commits of every group that is coordinated here, and what they say.

Commits are looked at in the coordinator's own state, once a second or, where there are very many, as often as costs a
five-hundredth of the event loop's time. No request is needed, and nothing is done on the way of a commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.server.metrics.exposition import Family, Labels, labels
from ottla.server.metrics.lag import Evaluation, Status, Window, worst

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker

Rows = Iterator[tuple[Labels, Any]]

LOOK_S: Final = 1.0
SHARE: Final = 500
PARTITIONS_PER_TURN: Final = 500
MOST_WINDOWS: Final = 100_000

Key = tuple[str, str, int]
"""Group, topic, partition."""


class PartitionLag(NamedTuple):
    """One partition of a group."""

    topic: str
    partition: int
    evaluation: Evaluation


class GroupLag:
    """Keeps the windows. `run` looks again and again; `look` does it once."""

    def __init__(self, broker: Broker, work_ns: Callable[[], int]) -> None:
        self._broker = broker
        self._work_ns = work_ns
        self._windows: dict[Key, Window] = {}

    async def run(self) -> None:
        """Look, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            spent_ns = 0
            begin_ns = self._work_ns()
            for _ in self.look():
                spent_ns += self._work_ns() - begin_ns
                await asyncio.sleep(0)
                begin_ns = self._work_ns()
            spent_ns += self._work_ns() - begin_ns
            due = loop.time() + max(LOOK_S, spent_ns * SHARE / 1e9)
            await asyncio.sleep(due - loop.time())

    def look(self) -> Iterator[None]:
        """See what was committed since the last look; each None lets others have a turn."""
        windows, seen = self._windows, set()
        replicas = self._broker.replicas
        count = 0
        for group_id, topic, index, committed in self._committed():
            key = (group_id, topic, index)
            partition = replicas.get(topic, index)
            if partition is None or (key not in windows and len(windows) >= MOST_WINDOWS):
                continue
            seen.add(key)
            window = windows.get(key)
            if window is None:
                window = windows[key] = Window()
            window.observe(committed.offset, committed.commit_timestamp_ms, partition.log.high_watermark)
            count += 1
            if count % PARTITIONS_PER_TURN == 0:
                yield
        for key in windows.keys() - seen:
            del windows[key]

    def _committed(self) -> Iterator[tuple[str, str, int, Any]]:
        coordinator = self._broker.coordinators.existing("groups")
        for partition in [] if coordinator is None else coordinator.active_partitions():
            for group_id, topics in list(partition.shard.offsets.committed.items()):
                for topic, partitions in list(topics.items()):
                    for index, committed in list(partitions.items()):
                        yield group_id, topic, index, committed

    def evaluate(self, now_ms: int, group_id: str | None = None) -> dict[str, list[PartitionLag]]:
        """Every partition of every group, or of one; `now_ms` is the wall clock."""
        found: dict[str, list[PartitionLag]] = {}
        replicas = self._broker.replicas
        for (group, topic, index), window in list(self._windows.items()):
            partition = replicas.get(topic, index) if group_id is None or group == group_id else None
            if partition is not None:
                evaluation = window.evaluate(partition.log.high_watermark, now_ms)
                found.setdefault(group, []).append(PartitionLag(topic, index, evaluation))
        return found

    def families(self, now_ms: int) -> Iterator[Family | None]:
        """Under the names of Burrow's own metrics."""
        groups = self.evaluate(now_ms)
        cluster = self._broker.cluster_id
        yield None

        def of_group(read: Callable[[list[PartitionLag]], int]) -> Rows:
            for group, partitions in groups.items():
                yield labels(("cluster", cluster), ("consumer_group", group)), read(partitions)

        def of_partition(read: Callable[[Evaluation], int]) -> Rows:
            for group, partitions in groups.items():
                for one in partitions:
                    label = labels(
                        ("cluster", cluster),
                        ("consumer_group", group),
                        ("topic", one.topic),
                        ("partition", str(one.partition)),
                    )
                    yield label, read(one.evaluation)

        text = "1 OK, 2 WARN, 3 ERR"
        prefix = "burrow_kafka_consumer"
        yield Family(f"{prefix}_status", "gauge", f"Whether a group keeps up: {text}.", of_group(_status))
        yield Family(f"{prefix}_lag_total", "gauge", "Records that a group has before it.", of_group(_total_lag))
        yield Family(f"{prefix}_partition_lag", "gauge", "Of a partition.", of_partition(lambda one: one.current_lag))
        yield Family(
            f"{prefix}_partition_status",
            "gauge",
            f"Whether a group keeps up with a partition: {text}, 4 STOP, 5 STALL, 6 REWIND.",
            of_partition(lambda one: one.status.value),
        )
        yield Family(f"{prefix}_current_offset", "gauge", "What was committed.", of_partition(_offset))

    def report(self, group_id: str, now_ms: int) -> dict[str, Any] | None:
        """One group in the shape of Burrow's answers; None when it has committed nothing."""
        partitions = self.evaluate(now_ms, group_id).get(group_id)
        if partitions is None:
            return None
        described = [_described(one) for one in partitions]
        return {
            "cluster": self._broker.cluster_id,
            "group": group_id,
            "status": worst(one.evaluation.status for one in partitions).name,
            "complete": min(one.evaluation.complete for one in partitions),
            "partitions": described,
            "partition_count": len(partitions),
            "maxlag": max(described, key=lambda one: one["current_lag"]),
            "totallag": _total_lag(partitions),
        }

    @property
    def group_ids(self) -> list[str]:
        """The groups that have committed something."""
        return sorted({group for group, _, _ in self._windows})


def _status(partitions: list[PartitionLag]) -> int:
    return worst(one.evaluation.status for one in partitions).value


def _total_lag(partitions: list[PartitionLag]) -> int:
    return sum(one.evaluation.current_lag for one in partitions)


def _offset(evaluation: Evaluation) -> int:
    return evaluation.last.offset if evaluation.last is not None else -1


def _described(one: PartitionLag) -> dict[str, Any]:
    evaluation = one.evaluation
    return {
        "topic": one.topic,
        "partition": one.partition,
        "status": evaluation.status.name if evaluation.status is not Status.NOT_FOUND else "NOTFOUND",
        "start": _commit(evaluation.first),
        "end": _commit(evaluation.last),
        "current_lag": evaluation.current_lag,
        "complete": evaluation.complete,
    }


def _commit(commit: Any) -> dict[str, int] | None:
    if commit is None:
        return None
    return {"offset": commit.offset, "timestamp": commit.timestamp_ms, "lag": commit.lag}

"""What a large cluster costs its metadata: `python -m benchmarks.metadata_scale --topics 10000 --partitions 100`.

A controller's core makes the topics, a snapshot in Kafka's format is written and read back in a process of its own (so
that its memory is that of a node which starts), and then what happens in such a cluster is timed: a topic is made, an
ISR changes, a broker is fenced, and what each costs everybody who follows the metadata. Time is processor time.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from ottla.protocol.messages import alter_partition as alterations
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest
from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.protocol.messages.metadata_records import FeatureLevelRecord
from ottla.runtime.real_disk import RealDisk
from ottla.schema.config import BrokerConfig
from ottla.server.controller.controller import ControllerCore
from ottla.server.controller.partition_index import PartitionIndex
from ottla.server.controller.result import Randomness, Result
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.features import SUPPORTED_FEATURES
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.server.metadata.loader import RecordLoader
from ottla.server.metadata.records import RecordWriter, read_for_replay
from ottla.server.metadata.writer import image_frames
from ottla.server.raft.snapshot import SnapshotReader, snapshot_pieces, write_snapshot_file

FEATURES: Final = {"metadata.version": 30, "eligible.leader.replicas.version": 1}
PARTITIONS_PER_REQUEST: Final = 10_000
SNAPSHOT: Final = "00000000000000000000-0000000001.checkpoint"


class Figures:
    """What was measured, by name."""

    def __init__(self) -> None:
        self.of: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str, times: int = 1) -> Iterator[None]:
        """Seconds of processor time, each of `times`."""
        begin = time.process_time()
        yield
        self.of[name] = (time.process_time() - begin) / times


class Cluster:
    """A controller's core, and the log it would write."""

    def __init__(self, brokers: int) -> None:
        random = Random(0)
        config = BrokerConfig.of({"node.id": 10_000, "min.insync.replicas": 2, "default.replication.factor": 3})
        randomness = Randomness(lambda: random.randbytes(16), random.randrange)
        self.core = ControllerCore(EMPTY_IMAGE, config, 10_000, randomness)
        self.writer = RecordWriter(FEATURES)
        self.offset = 0
        self.do(Result([FeatureLevelRecord(name=name, feature_level=level) for name, level in FEATURES.items()], None))
        for broker_id in range(brokers):
            self.join(broker_id)

    def do(self, result: Result) -> MetadataDelta:
        """Replay what was decided; the delta as listeners get it."""
        delta = self.core.prepare(result.records)
        self.offset += len(result.records)
        self.core.replay(delta, self.offset - 1, 1, 0)
        return delta

    def join(self, broker_id: int) -> None:
        """A broker registers and is unfenced."""
        request = BrokerRegistrationRequest(
            broker_id=broker_id,
            incarnation_id=broker_id.to_bytes(16, "big"),
            listeners=[Listener(name="PLAINTEXT", host=f"broker-{broker_id}", port=9092, security_protocol=0)],
            features=[
                Feature(name=name, min_supported_version=lowest, max_supported_version=highest)
                for name, (lowest, highest) in SUPPORTED_FEATURES.items()
            ],
            rack=f"rack-{broker_id % 3}",
            log_dirs=[(1_000 + broker_id).to_bytes(16, "big")],
        )
        self.do(self.core.register_broker(request, api_version=4, offset=self.offset, kraft_version=1, now_ms=0))
        self.do(self.core.broker_heartbeat(self.heartbeat(broker_id), 0))

    def heartbeat(self, broker_id: int, **fields: Any) -> BrokerHeartbeatRequest:
        epoch = self.core.image.brokers[broker_id].broker_epoch
        values = {"broker_epoch": epoch, "current_metadata_offset": self.offset} | fields
        return BrokerHeartbeatRequest(broker_id=broker_id, **values)

    def create(self, names: list[str], partitions: int) -> None:
        topics = [CreatableTopic(name=name, num_partitions=partitions, replication_factor=3) for name in names]
        self.do(self.core.create_topics(CreateTopicsRequest(topics=topics), with_configs=False))

    def shrink(self, name: str) -> alterations.AlterPartitionRequest:
        """The leader of a topic's first partition drops its last follower."""
        image = self.core.image
        topic = image.topics.by_name[name]
        partition = topic.partitions[0]
        asked = alterations.AlterPartitionRequestPartitionData(
            partition_index=0,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            new_isr_with_epochs=[alterations.BrokerState(broker_id=one) for one in partition.isr[:-1]],
        )
        return alterations.AlterPartitionRequest(
            broker_id=partition.leader,
            broker_epoch=image.brokers[partition.leader].broker_epoch,
            topics=[alterations.AlterPartitionRequestTopicData(topic_id=topic.topic_id, partitions=[asked])],
        )


def build(topics: int, partitions: int, brokers: int, figures: Figures) -> Cluster:
    """The cluster, made by commands."""
    cluster = Cluster(brokers)
    batch = max(1, PARTITIONS_PER_REQUEST // partitions)
    names = [f"topic-{number:06d}" for number in range(topics)]
    with figures.timed("create_all_s"):
        for first in range(0, topics, batch):
            cluster.create(names[first : first + batch], partitions)
    return cluster


def write(cluster: Cluster, path: Path, figures: Figures) -> None:
    """The snapshot, as a controller writes it."""
    image = cluster.core.image
    with figures.timed("snapshot_write_s"):
        frames = image_frames(image, RecordWriter(image.features).frame)
        pieces = snapshot_pieces(frames, kraft_version=1, voters=(), timestamp_ms=0, now_ms=0)
        write_snapshot_file(RealDisk(), str(path), pieces, "bench")
    figures.of["snapshot_mb"] = path.stat().st_size / 1e6


def happenings(cluster: Cluster, figures: Figures) -> None:
    """Small changes, then a broker that falls silent."""
    core = cluster.core
    with figures.timed("index_s"):
        PartitionIndex(core.image.topics)
    names = list(core.image.topics.by_name)
    times = 50
    with figures.timed("create_topic_ms", times):
        for number in range(times):
            cluster.create([f"new-{number}"], 1)
    with figures.timed("alter_partition_ms", times):
        for number in range(times):
            cluster.do(core.alter_partition(cluster.shrink(names[number * len(names) // times]), api_version=3))
    with figures.timed("heartbeat_us", 1000):
        for _ in range(1000):
            core.broker_heartbeat(cluster.heartbeat(1), 1)
    _fence(cluster, figures)
    with figures.timed("unfence_s"):
        cluster.do(core.broker_heartbeat(cluster.heartbeat(0), 2))


def _fence(cluster: Cluster, figures: Figures) -> None:
    """One broker is silent; what the controller does, and what every other node does with the records."""
    core = cluster.core
    for broker_id in core.image.brokers:
        if broker_id:
            core.broker_heartbeat(cluster.heartbeat(broker_id), 9_000)
    base = core.image
    with figures.timed("fence_decide_s"):
        result = core.fence_expired(9_001)
    assert result.response == 0
    with figures.timed("fence_encode_s"):
        frames = list(map(cluster.writer.frame, result.records))
    with figures.timed("fence_replay_s"):
        cluster.do(result)
    figures.of["fence_records"] = len(frames)
    follower = RecordLoader(base)
    with figures.timed("fence_follow_s"):
        follower.add(map(read_for_replay, frames), cluster.offset - 1, 1, 0)
        _, image = follower.take()
    assert image == core.image


def load(path: Path) -> MetadataImage:
    """A node that starts; prints its figures as JSON."""
    figures = Figures()
    before = _resident_mb()
    loader = RecordLoader(EMPTY_IMAGE)
    with figures.timed("load_s"), SnapshotReader(RealDisk(), str(path)) as reader:
        for frames in reader.batches():
            loader.add(map(read_for_replay, frames), 0, 1, 0)
        _, image = loader.take()
    del loader
    gc.collect()
    figures.of["image_mb"] = _resident_mb() - before
    with figures.timed("full_collection_ms"):
        gc.collect()
    print(json.dumps(figures.of))
    return image


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    return 0.0


_UNITS: Final[dict[str, tuple[float, str]]] = {"_s": (1, "s"), "_ms": (1e3, "ms"), "_us": (1e6, "µs"), "_mb": (1, "MB")}


def report(figures: Figures, print_line: Callable[[str], None] = print) -> None:
    """One line per figure."""
    for name, value in figures.of.items():
        for suffix, (factor, unit) in _UNITS.items():
            if name.endswith(suffix):
                print_line(f"{name.removesuffix(suffix).replace('_', ' '):<20} {value * factor:>12,.2f} {unit}")
                break
        else:
            print_line(f"{name.replace('_', ' '):<20} {value:>12,.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--partitions", type=int, default=100, help="of each topic")
    parser.add_argument("--brokers", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load is not None:
        load(options.load)
        return
    figures = Figures()
    cluster = build(options.topics, options.partitions, options.brokers, figures)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / SNAPSHOT
        write(cluster, path, figures)
        command = [sys.executable, "-m", "benchmarks.metadata_scale", "--load", str(path)]
        figures.of |= json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    happenings(cluster, figures)
    print(json.dumps(figures.of)) if options.json else report(figures)


if __name__ == "__main__":
    main()

"""Metadata logs on a memory disk, for tests."""

from __future__ import annotations

import asyncio
from random import Random

from ottla.protocol.messages import metadata_records as messages
from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.metadata.image import MetadataImage
from ottla.server.metadata.records import RecordWriter
from ottla.server.raft.alone import LocalVoter, LoneNode
from ottla.server.raft.opening import open_metadata_log
from ottla.server.raft.replica_log import DiskReplicaLog, ReplicaLogSettings, open_replica_log
from ottla.server.raft.voters import VoterHistory

NODE_ID = 1
DIRECTORY = "/data"
METADATA = "/data/__cluster_metadata-0"
VOTER = LocalVoter(NODE_ID, bytes(range(16)), "cluster")
NOW_MS = 1_700_000_000_000
FEATURES = {"metadata.version": 30}
WRITER = RecordWriter(FEATURES)


def topic(name: str) -> bytes:
    """A framed TopicRecord."""
    return WRITER.frame(messages.TopicRecord(name=name, topic_id=name.encode().ljust(16, b"-")))


class StillClock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.time_ms = NOW_MS

    def now_ms(self) -> int:
        return self.time_ms


class InlineEnv(Env):
    """Blocking work is done at once, on the loop."""

    async def run_blocking(self, function, /, *arguments):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0)
        return function(*arguments)


def new_env(disk: MemoryDisk | None = None, seed: int = 0) -> InlineEnv:
    """An environment on `disk`; a new disk has the data directory."""
    if disk is None:
        disk = MemoryDisk()
        disk.make_directories(DIRECTORY)
    return InlineEnv(disk, StillClock(), Random(seed))


def config(**settings: object) -> BrokerConfig:
    """A broker's configuration; dots of the names written as underscores."""
    return BrokerConfig.of(
        {"node.id": NODE_ID, "log.dirs": DIRECTORY, **{name.replace("_", "."): v for name, v in settings.items()}}
    )


def formatted(env: Env) -> tuple[LoneNode, list[bytes]]:
    """The log of a data directory that is formatted when it is new, not started yet."""
    return open_metadata_log(config(), env, DIRECTORY, VOTER)


def opened(env: Env, *, segment_bytes: int = 1 << 20, **settings: int | bool) -> DiskReplicaLog:
    """The replica's log of a formatted directory, not read yet."""
    made = ReplicaLogSettings(segment_bytes, 1 << 40, **settings)  # type: ignore[arg-type]
    return open_replica_log(env, METADATA, made, VoterHistory())


def reopened(env: Env, voter: LocalVoter = VOTER) -> LoneNode:
    """The log of a formatted directory, not started yet."""
    return LoneNode(env, opened(env, keeps_for_others=False), voter)


async def started(log: LoneNode, env: Env) -> ClusterMetadata:
    """Start a log; who follows it."""
    metadata = ClusterMetadata(config(), env, node_id=NODE_ID)
    await log.start(metadata)
    return metadata


def load(log: LoneNode, env: Env) -> MetadataImage:
    """The image that a log amounts to. It is led for a moment, and closed."""

    async def main() -> MetadataImage:
        metadata = await started(log, env)
        await log.stop()
        return metadata.image

    return asyncio.run(main())

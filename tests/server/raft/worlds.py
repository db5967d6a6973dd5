"""Metadata logs on a memory disk, for tests."""

from __future__ import annotations

import asyncio
from random import Random

from ottla.protocol.messages import metadata_records as messages
from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.server.metadata.loader import RecordLoader
from ottla.server.metadata.records import RecordWriter, read_frame
from ottla.server.raft.local_log import LocalMetadataLog, LocalVoter, open_local_log
from ottla.server.raft.opening import open_metadata_log

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


def formatted(env: Env) -> tuple[LocalMetadataLog, list[bytes]]:
    """The log of a data directory that is formatted when it is new, not loaded yet."""
    return open_metadata_log(config(), env, DIRECTORY, VOTER)


def reopened(env: Env, *, segment_bytes: int = 1 << 20) -> LocalMetadataLog:
    """The log of a formatted directory, not loaded yet."""
    return open_local_log(env, DIRECTORY, VOTER, segment_bytes=segment_bytes, segment_ms=1 << 40)


def load(log: LocalMetadataLog) -> MetadataImage:
    """The image that a log amounts to."""
    loader = RecordLoader(EMPTY_IMAGE)
    for batch in log.load():
        loader.add(map(read_frame, batch.frames), batch.last_offset, batch.epoch, batch.timestamp_ms)
    return loader.take()[1]

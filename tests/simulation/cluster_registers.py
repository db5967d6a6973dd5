"""Committed offsets as registers: one program writes numbers that grow, another one reads them, and both write it down.

What is asked of a coordinator is the smallest thing there is, so that nothing hides what it forgets.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from tests.simulation.workloads.client import GROUP, BrokenError, Client

if TYPE_CHECKING:
    from tests.simulation.cluster_recording import Recorder
    from tests.simulation.cluster_world import ClusterWorld

TOPIC = "registers"
GROUPS = tuple(f"register {number}" for number in range(3))
MEAN_PAUSE_S = 0.3


class Registers:
    """All of them."""

    def __init__(self, world: ClusterWorld, recorder: Recorder) -> None:
        self.world = world
        self.recorder = recorder

    async def start(self) -> None:
        admin = self.world.client("registrar")
        await admin.create_topic(TOPIC, 1)
        for group in GROUPS:
            await admin.find_coordinator(group, GROUP)
            self.world.spawn(self._write(group))
            self.world.spawn(self._read(group))

    async def finished(self) -> None:
        """What is there in the end."""
        client = self.world.client("auditor")
        for group in GROUPS:
            while not await self._look(client, group, final=True):
                await client.back_off()

    async def _write(self, group: str) -> None:
        client = self.world.client(f"writer of {group}")
        offset = 0
        while not self.world.is_calm:
            await asyncio.sleep(client.random.expovariate(1 / MEAN_PAUSE_S))
            offset += 1
            started_s = self.world.now()
            partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset, committed_metadata="")
            topic = OffsetCommitRequestTopic(name=TOPIC, partitions=[partition])
            # Who reads may be told of it before the writer is, or while he hears nothing to the end of the run.
            commit = self.recorder.add(
                "commit",
                client.name,
                started_s,
                outcome="unknown",
                ended=False,
                group=group,
                topic=TOPIC,
                partition=0,
                offset=offset,
                member="",
                epoch=-1,
            )
            is_done = False
            try:
                answer = await client.ask(OffsetCommitRequest(group_id=group, topics=[topic]), 8, OffsetCommitResponse)
                is_done = answer.topics[0].partitions[0].error_code == ErrorCode.NONE
            except BrokenError:
                pass
            if is_done:
                commit.update(outcome="ok", completed_s=self.world.now())
            self.world.count("registers written" if is_done else "writes of registers in doubt")

    async def _read(self, group: str) -> None:
        client = self.world.client(f"reader of {group}")
        while not self.world.is_calm:
            await asyncio.sleep(client.random.expovariate(1 / MEAN_PAUSE_S))
            await self._look(client, group)

    async def _look(self, client: Client, group: str, *, final: bool = False) -> bool:
        started_s = self.world.now()
        topic = OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])
        asking = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=[topic])])
        try:
            answer = await client.ask(asking, 8, OffsetFetchResponse)
        except BrokenError:
            return False
        [found] = answer.groups
        if found.error_code:
            return False
        partition = found.topics[0].partitions[0]
        if partition.error_code:
            return False
        offset = partition.committed_offset
        self.recorder.add(
            "committed",
            client.name,
            started_s,
            group=group,
            topic=TOPIC,
            partition=0,
            offset=None if offset < 0 else offset,
            final=final,
        )
        self.world.count("registers read")
        return True

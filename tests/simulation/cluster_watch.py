"""Who looks at a cluster from outside: what nodes answer, what their images say, what is on their disks.

Answers go to the history, where they are compared with everything else that anybody was told (`history.py`). Images and
disks are compared with each other: whoever has got as far has the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from ottla.records.batch import batches, parse_header
from ottla.records.control import read_end_transaction_marker
from ottla.records.record import read_batch_records
from ottla.server.metadata.writer import image_records
from tests.simulation.cluster_client import ClusterClient
from tests.simulation.workloads.client import BrokenError

if TYPE_CHECKING:
    from ottla.runtime.memory_disk import MemoryDisk
    from ottla.server.metadata.image import MetadataImage, TopicImage
    from tests.simulation.cluster_recording import Recorder
    from tests.simulation.cluster_world import ClusterWorld, Machine

LATEST = -1
FORGOTTEN_S = 10.0
"""After which nobody works any more on what he was given by a leader that had been replaced."""
LOG_SUFFIX = ".log"
Batch = tuple[int, int, bytes]
"""Base offset, leader epoch, and all of it."""


def image_of(machine: Machine) -> MetadataImage | None:
    """What a running node knows."""
    node = machine.node
    return None if node is None or not machine.is_up else node.broker.image


def newest_image(world: ClusterWorld) -> MetadataImage | None:
    """That of the node that has got farthest."""
    images = [image for one in world.machines.values() if (image := image_of(one)) is not None]
    return max(images, key=lambda image: image.offset, default=None)


def leader_of_metadata(world: ClusterWorld) -> Machine | None:
    """Who leads the controllers, by what the nodes know with the highest epoch."""
    known = [one.node.broker.metadata.leader for one in world.machines.values() if one.is_up and one.node is not None]
    leaders = [leader for leader in known if leader.leader_id >= 0]
    return world.machines.get(max(leaders, key=lambda leader: leader.epoch).leader_id) if leaders else None


def out_of_sync(world: ClusterWorld, machine: Machine) -> list[str]:
    """Partitions with a replica on this machine that is not in sync, as far as anybody knows."""
    image = newest_image(world)
    if image is None:
        return ["nobody knows"]
    return [
        f"{topic.name}-{index}"
        for topic in image.topics.by_name.values()
        for index, partition in topic.partitions.items()
        if machine.node_id in partition.replicas and machine.node_id not in partition.isr
    ]


def out_of_service(world: ClusterWorld) -> list[str]:
    """Brokers that are fenced, and partitions that nobody leads, as far as anybody knows."""
    image = newest_image(world)
    if image is None:
        return ["nobody knows"]
    missing = [
        one.host for one in world.brokers if (known := image.brokers.get(one.node_id)) is None or not known.is_active
    ]
    return missing + [
        f"{topic.name}-{index}"
        for topic in image.topics.by_name.values()
        for index, partition in topic.partitions.items()
        if partition.leader < 0
    ]


class Watch:
    """Programs that look all the time, and what they have seen."""

    def __init__(self, world: ClusterWorld, recorder: Recorder) -> None:
        self.world = world
        self.recorder = recorder
        self._images: dict[int, tuple[str, str]] = {}
        """Metadata offset → what the image there is, and who showed it first."""
        self._seen: dict[int, int] = {}
        """Node → the offset of its image that was looked at last."""
        self._leaders: dict[tuple[bytes, int, int], tuple[int, str]] = {}
        """Partition and leader epoch → its leader, and who said so first."""
        self._controllers: dict[int, tuple[int, str]] = {}
        """Epoch of the controllers → their leader, and who said so first."""
        self._stale_s: dict[tuple[str, int], float] = {}
        """Partition → when somebody last took himself for its leader who had been replaced."""

    def start(self) -> None:
        """Look at everything now and then, until the simulation ends."""
        self.world.spawn(self._look_at_images())
        for machine in self.world.brokers:
            self.world.spawn(self._ask(machine))

    # -- answers

    async def _ask(self, machine: Machine) -> None:
        """Who leads answers where its high watermark is: everybody is asked about everything."""
        world = self.world
        client = ClusterClient(world, f"watch of {machine}")
        dice = client.random
        while True:
            await asyncio.sleep(dice.expovariate(2.0))
            image = image_of(machine)
            if image is None:
                continue
            places = [
                (topic, index, partition.leader_epoch)
                for topic in image.topics.by_name.values()
                for index, partition in topic.partitions.items()
                if partition.leader == machine.node_id and not topic.name.startswith("__")
            ]
            if places:
                await self._ask_about(client, machine, dice.choice(places))

    async def _ask_about(self, client: ClusterClient, machine: Machine, place: tuple[TopicImage, int, int]) -> None:
        topic, index, epoch = place
        wanted = ListOffsetsPartition(partition_index=index, current_leader_epoch=epoch, timestamp=LATEST)
        request = ListOffsetsRequest(topics=[ListOffsetsTopic(name=topic.name, partitions=[wanted])])
        started_s = self.world.now()
        try:
            answer = await client.ask_at(machine.address, request, 5, ListOffsetsResponse)
        except BrokenError:
            return
        found = answer.topics[0].partitions[0]
        image = image_of(machine)
        known = None if image is None else image.topics.by_name.get(topic.name)
        # The broker that answers may know another topic by the name than others do, but only one before and after.
        if found.error_code != ErrorCode.NONE or known is None or known.topic_id != topic.topic_id:
            return
        self.world.count("high watermarks seen")
        self.recorder.add(
            "watermark",
            client.name,
            started_s,
            topic=self.recorder.topic(topic.name, topic.topic_id),
            partition=index,
            node=machine.host,
            leader_epoch=epoch,
            high_watermark=found.offset,
        )

    # -- images

    async def _look_at_images(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            self.look()

    def look(self) -> None:
        """Compare what all running nodes know now."""
        for machine in self.world.machines.values():
            if not machine.is_up or machine.node is None:
                continue
            metadata = machine.node.broker.metadata
            leader = metadata.leader
            if leader.leader_id >= 0:
                self._compare_once(self._controllers, leader.epoch, leader.leader_id, machine, "controllers of epoch")
            image = metadata.image
            if self._seen.get(machine.node_id) == image.offset:
                continue
            self._seen[machine.node_id] = image.offset
            self._compare_leaders(machine, image)
            text = repr([repr(record) for record in image_records(image)])
            known, who = self._images.setdefault(image.offset, (text, machine.host))
            self.world.count("images compared")
            if known != text:
                self.world.fail(f"images at {image.offset} differ: {who}\n{known}\n{machine}\n{text}")

        self._look_for_stale_leaders()

    def _look_for_stale_leaders(self) -> None:
        newest = newest_image(self.world)
        for machine in self.world.brokers:
            image = image_of(machine)
            if image is None or newest is None or image.offset == newest.offset:
                continue
            for topic in image.topics.by_name.values():
                topic_now = newest.topics.by_name.get(topic.name)
                for index, partition in topic.partitions.items():
                    now = None if topic_now is None else topic_now.partitions.get(index)
                    is_led = partition.leader == machine.node_id
                    if is_led and (now is None or now.leader_epoch > partition.leader_epoch):
                        self._stale_s[topic.name, index] = self.world.now()

    def saw_stale_leader(self, topic: str, partition: int) -> bool:
        """Whether somebody took himself for the leader who had been replaced, now or a moment ago."""
        self._look_for_stale_leaders()
        seen_s = self._stale_s.get((topic, partition))
        return seen_s is not None and self.world.now() - seen_s < FORGOTTEN_S

    def _compare_leaders(self, machine: Machine, image: MetadataImage) -> None:
        for topic in image.topics.by_name.values():
            for index, partition in topic.partitions.items():
                if partition.leader >= 0:
                    key = topic.topic_id, index, partition.leader_epoch
                    self._compare_once(self._leaders, key, partition.leader, machine, f"leaders of {topic.name}")

    def _compare_once(
        self, book: dict[Any, tuple[int, str]], key: Any, value: int, machine: Machine, what: str
    ) -> None:
        known, who = book.setdefault(key, (value, machine.host))
        if known != value:
            self.world.fail(f"two {what} {key}: {known} says {who}, {value} says {machine}")


# -- disks


def read_log(disk: MemoryDisk, directory: str) -> list[Batch]:
    """All batches of a partition, as they are on the disk."""
    found: list[Batch] = []
    for name in disk.list_directory(directory):
        if name.endswith(LOG_SUFFIX):
            content = disk.read(f"{directory}/{name}")
            for position, header in batches(content):
                size = 12 + header.batch_length
                found.append((header.base_offset, header.partition_leader_epoch, content[position : position + size]))
    return found


def compare_logs(world: ClusterWorld, name: str, logs: dict[str, list[Batch]], *, is_whole: bool) -> None:
    """Where two replicas have a batch of one offset and one epoch, they have the same up to there.

    `is_whole`: nothing happens any more, and all of them must end with the same batch.
    """
    reference: dict[tuple[int, int], tuple[bytes, str]] = {}
    for host, log in logs.items():
        for base_offset, epoch, content in log:
            known, who = reference.setdefault((base_offset, epoch), (content, host))
            if known != content:
                world.fail(f"{name}: {who} and {host} have different batches at {base_offset} in epoch {epoch}")
                return
    if is_whole:
        ends = {host: (log[-1][0], log[-1][1]) if log else None for host, log in logs.items()}
        if len(set(ends.values())) > 1:
            world.fail(f"{name}: replicas end at different places: {ends}")


def compare_tables(world: ClusterWorld, name: str, logs: dict[str, list[Batch]]) -> None:
    """Whatever their cleaners have removed by now: replicas have the same records, and the same last ones of all keys.

    Markers have to be there still.
    """
    records: dict[int, tuple[tuple[bytes | None, bytes | None], str]] = {}
    tables: dict[str, dict[bytes | None, int]] = {}
    for host, log in logs.items():
        table = tables[host] = {}
        under_way: dict[int, dict[bytes | None, int]] = {}
        for _, _, content in log:
            header = parse_header(content, 0)
            found = read_batch_records(content, 0, header)
            if header.is_control:
                changes = under_way.pop(header.producer_id, {})
                marker = read_end_transaction_marker(found[0]) if found else None
                if marker is not None and marker.is_commit:
                    table.update({key: offset for key, offset in changes.items() if offset > table.get(key, -1)})
                continue
            target = under_way.setdefault(header.producer_id, {}) if header.is_transactional else table
            for record in found:
                target[record.key] = record.offset
                known, who = records.setdefault(record.offset, ((record.key, record.value), host))
                if known != (record.key, record.value):
                    world.fail(f"{name}: {who} and {host} have different records at {record.offset}")
    (first, expected), *others = tables.items()
    for host, table in others:
        if table != expected:
            world.fail(
                f"{name}: last records differ: {first} {host} {sorted(table.items() ^ expected.items(), key=str)}"
            )


def compare_disks(world: ClusterWorld, tables: Collection[str] = ()) -> None:
    """All replicas of everything that nothing is removed from, the metadata log, and tables, after an orderly end."""
    by_partition: dict[str, dict[str, list[Batch]]] = {}
    for machine in world.machines.values():
        for directory in machine.directories:
            for name in machine.disk.list_directory(directory):
                path = f"{directory}/{name}"
                is_partition = machine.disk.is_directory(path) and name.rpartition("-")[2].isdecimal()
                if is_partition and (not name.startswith("__") or name == "__cluster_metadata-0"):
                    by_partition.setdefault(name, {})[machine.host] = read_log(machine.disk, path)
    for name, logs in by_partition.items():
        if name.rpartition("-")[0] in tables:
            compare_tables(world, name, logs)
            continue
        # The last records of the metadata log are about nodes that end, and reach those who are still there.
        compare_logs(world, name, logs, is_whole=name != "__cluster_metadata-0")
        world.count("logs compared", len(logs))

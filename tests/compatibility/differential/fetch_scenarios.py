"""Fetch with its limits, epochs and sessions; ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

from __future__ import annotations

from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic, ForgottenTopic, ReplicaState
from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from ottla.records.compression import Codec
from tests.compatibility.differential.world import World

OTHER_ID = bytes(range(16))


def _fill(world: World, topic: str, batches: int = 4, partition: int = 0) -> None:
    """Batches of three records, 100 ms apart."""
    for index in range(batches):
        values = [b"%d-%d" % (index, number) for number in range(3)]
        world.produce(
            f"fill {topic}-{partition} {index}", topic, world.batch(*values, at=index * 100), partition=partition
        )


def fetch_in_every_version(world: World) -> None:
    topic_id = world.create("fetched", 2)
    _fill(world, "fetched")
    for version in world.versions(FetchRequest):
        for offset in (0, 1, 2, 3, 11, 12, 13, -1, -2, 1 << 40):
            world.fetch(f"from {offset}", "fetched", offset, version)
        world.fetch("an empty partition", "fetched", 0, version, partition=1)
        world.fetch("unknown partition", "fetched", 0, version, partition=2)
        world.fetch("partition -1", "fetched", 0, version, partition=-1)
        if version < 13:
            world.fetch("unknown topic", "fetched-none", 0, version)
            world.ask(
                "illegal name",
                FetchRequest(topics=[FetchTopic(topic="a b", partitions=[FetchPartition(partition_max_bytes=99)])]),
                version,
            )
        else:
            world.fetch("unknown id", "fetched", 0, version, topic_id=OTHER_ID)
            zero = FetchTopic(topic_id=ZERO_UUID, partitions=[FetchPartition(partition_max_bytes=99)])
            world.ask("zero id", FetchRequest(topics=[zero], session_epoch=-1), version)
        for level in (0, 1, 2, -1):
            world.fetch(f"isolation level {level}", "fetched", 9, version, isolation_level=level)
        world.ask("nothing", FetchRequest(max_wait_ms=0, session_epoch=-1), version)
        two = [FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=1 << 20) for index in (0, 1)]
        entry = FetchTopic(topic=world.name("fetched"), topic_id=topic_id, partitions=two)
        request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=[entry], session_epoch=-1)
        world.ask("two partitions", request, version)
        entry = FetchTopic(topic=world.name("fetched"), topic_id=topic_id, partitions=[two[0], two[0]])
        world.ask("a partition twice", FetchRequest(max_wait_ms=0, topics=[entry], session_epoch=-1), version)
        entry = FetchTopic(topic=world.name("fetched"), topic_id=topic_id, partitions=[])
        world.ask("no partitions", FetchRequest(max_wait_ms=0, topics=[entry], session_epoch=-1), version)


def limits(world: World) -> None:
    topic_id = world.create("limited", 3)
    for partition in (0, 1, 2):
        _fill(world, "limited", 3, partition)
    for version in (4, 11, 13):
        for size in (0, 1, 50, 100, 101, 200, 250, 300, 1 << 20, -1):
            world.fetch(f"partition max bytes {size}", "limited", 0, version, partition_max_bytes=size)
            world.fetch(f"max bytes {size}", "limited", 0, version, max_bytes=size)
        world.fetch("min bytes 1 of what is there", "limited", 0, version, min_bytes=1, max_wait_ms=5000)
        world.fetch("min bytes too many", "limited", 0, version, min_bytes=100_000, max_wait_ms=20)
        world.fetch("min bytes 1 at the end", "limited", 9, version, min_bytes=1, max_wait_ms=20)
        world.fetch("min bytes -1 at the end", "limited", 9, version, min_bytes=-1, max_wait_ms=5000)
        world.fetch("wait -1", "limited", 9, version, min_bytes=1, max_wait_ms=-1)
        world.fetch("an error ends the wait", "limited", 99, version, min_bytes=1, max_wait_ms=5000)
        for sizes in ((1, 1, 1), (100, 100, 100), (1000, 0, 1000), (0, 0, 0)):
            for most in (1, 100, 250, 1000):
                partitions = [
                    FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=size)
                    for index, size in enumerate(sizes)
                ]
                entry = FetchTopic(topic=world.name("limited"), topic_id=topic_id, partitions=partitions)
                request = FetchRequest(max_wait_ms=0, max_bytes=most, topics=[entry], session_epoch=-1)
                world.ask(f"partitions {sizes}, at most {most}", request, version)


def epochs(world: World) -> None:
    world.create("epochs")
    _fill(world, "epochs")
    for version in (9, 12, 13, 17):
        for epoch in (0, 1, 7, -1, -2):
            world.fetch(f"current leader epoch {epoch}", "epochs", 3, version, current_leader_epoch=epoch)
            world.fetch(f"out of range, epoch {epoch}", "epochs", 99, version, current_leader_epoch=epoch)
    for version in (12, 13, 17):
        for epoch in (0, 1, 7, -1, -2):
            for offset in (0, 3, 12, 13, 50):
                label = f"last fetched epoch {epoch} at {offset}"
                world.fetch(label, "epochs", offset, version, last_fetched_epoch=epoch)
                world.fetch(
                    f"{label} in 0", "epochs", offset, version, last_fetched_epoch=epoch, current_leader_epoch=0
                )


def replica_fetches(world: World) -> None:
    """A consumer that says it is a broker which is no replica."""
    world.create("replicated")
    _fill(world, "replicated", 1)
    for replica in (5, 99, -2, -3):
        world.fetch(f"replica {replica}", "replicated", 0, 12, replica_id=replica)
        state = ReplicaState(replica_id=replica, replica_epoch=-1)
        world.fetch(f"replica {replica}", "replicated", 0, 16, replica_state=state)


def codecs(world: World) -> None:
    for codec in Codec:
        topic = f"stored-{codec.name.lower()}"
        world.create(topic)
        world.produce(f"fill {topic}", topic, world.batch(b"a" * 100, b"b", compression=codec))
        for version in (4, 9, 10, 12, 17):
            world.fetch(f"{topic}", topic, 0, version)
            world.fetch(f"{topic} from the middle", topic, 1, version)


def sessions(world: World) -> None:
    ids = {name: world.create(name, 2) for name in ("session-a", "session-b")}
    for name in ids:
        _fill(world, name, 2)

    def ask(
        label: str,
        version: int,
        session: tuple[int, int],
        topics: dict[str, list[tuple[int, int]]],
        forgotten: dict[str, list[int]] | None = None,
    ) -> Any:
        request = FetchRequest(
            max_wait_ms=0,
            min_bytes=0,
            session_id=session[0],
            session_epoch=session[1],
            topics=[
                FetchTopic(
                    topic=world.name(name),
                    topic_id=ids[name],
                    partitions=[
                        FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 20)
                        for index, offset in pairs
                    ],
                )
                for name, pairs in topics.items()
            ],
            forgotten_topics_data=[
                ForgottenTopic(topic=world.name(name), topic_id=ids[name], partitions=partitions)
                for name, partitions in (forgotten or {}).items()
            ],
        )
        return world.ask(label, request, version)

    for version in (7, 12, 13, 17):
        both = {"session-a": [(0, 0), (1, 0)], "session-b": [(0, 0)]}
        session = ask("create", version, (0, 0), both).session_id
        ask("nothing new", version, (session, 1), {})
        ask("nothing new again", version, (session, 2), {})
        ask("an old epoch", version, (session, 2), {})
        ask("an epoch too far", version, (session, 9), {})
        ask("the right one after it", version, (session, 3), {})
        ask("moved on", version, (session, 4), {"session-a": [(0, 6)]})
        ask("moved on, nothing new", version, (session, 5), {})
        world.produce("one more", "session-a", world.batch(b"x"), 9, partition=1)
        ask("one more arrived", version, (session, 6), {})
        ask("it is told again", version, (session, 7), {})
        ask("out of range", version, (session, 8), {"session-b": [(0, 99)]})
        ask("out of range again", version, (session, 9), {})
        ask("back in range", version, (session, 10), {"session-b": [(0, 6)]})
        ask("forget", version, (session, 11), {}, {"session-a": [1]})
        ask("forget what is not there", version, (session, 12), {}, {"session-a": [1], "session-b": [1]})
        ask("add again", version, (session, 13), {"session-a": [(1, 0)]})
        ask("unknown partition", version, (session, 14), {"session-a": [(7, 0)]})
        ask("unknown partition again", version, (session, 15), {})
        ask("forget the unknown", version, (session, 16), {}, {"session-a": [7]})
        ask("forget all", version, (session, 17), {}, {"session-a": [0, 1], "session-b": [0]})
        ask("an empty session", version, (session, 18), {})
        ask("unknown session", version, (session + 12345, 1), {})
        ask("session 0 with epoch 1", version, (0, 1), {})
        ask("negative epoch", version, (session, -5), {})
        again = ask("create another", version, (0, 0), both).session_id
        ask("close", version, (again, -1), {})
        ask("closed", version, (again, 1), {})
        third = ask("create a third", version, (0, 0), both).session_id
        ask("full with its id", version, (third, 0), both)
        ask("the old one is gone", version, (third, 1), {})
        ask("close unknown", version, (99_999_999, -1), both)
        ask("create an empty one", version, (0, 0), {})
        ask("sessionless", version, (0, -1), both)
    by_name = ask("create by name", 12, (0, 0), {"session-a": [(0, 0)]}).session_id
    ask("go on by id", 13, (by_name, 1), {"session-a": [(1, 0)]})
    by_id = ask("create by id", 13, (0, 0), {"session-a": [(0, 0)]}).session_id
    ask("go on by name", 12, (by_id, 1), {"session-a": [(1, 0)]})
    ids["session-c"] = OTHER_ID
    unknown = ask("create with an unknown id", 13, (0, 0), {"session-c": [(0, 0)], "session-a": [(0, 0)]}).session_id
    ask("still unknown", 13, (unknown, 1), {})


def list_offsets(world: World) -> None:
    world.create("listed", 2)
    _fill(world, "listed")

    def ask(label: str, version: int, *timestamps: int, **options: Any) -> Any:
        epoch = options.pop("current_leader_epoch", -1)
        partition = options.pop("partition", 0)
        wanted = [
            ListOffsetsPartition(partition_index=partition, current_leader_epoch=epoch, timestamp=timestamp)
            for timestamp in timestamps
        ]
        entry = ListOffsetsTopic(name=options.pop("topic", world.name("listed")), partitions=wanted)
        defaults = {"replica_id": -1, "timeout_ms": 1000}
        return world.ask(label, ListOffsetsRequest(topics=[entry], **(defaults | options)), version)

    moments = [world.base_ms + at for at in (-50, 0, 1, 2, 3, 99, 100, 101, 302, 303, 1_000_000)]
    for version in world.versions(ListOffsetsRequest):
        for special in (-1, -2, -3, -4, -5, -6, -7, -100):
            ask(f"timestamp {special}", version, special)
            ask(f"timestamp {special} of an empty partition", version, special, partition=1)
        for moment in (0, *moments, 2**62):
            ask(f"at {moment - world.base_ms if moment > 9 else moment}", version, moment)
        ask("unknown partition", version, -1, partition=9)
        ask("unknown topic", version, -1, topic=world.name("listed-none"))
        ask("illegal name", version, -1, topic="a b")
        ask("a partition twice", version, -1, -2)
        for replica in (-2, -3, 5):
            ask(f"replica {replica}", version, -1, replica_id=replica)
        if version >= 2:
            for level in (1, 2, -1):
                ask(f"isolation level {level}", version, -1, isolation_level=level)
        if version >= 4:
            for epoch in (0, 1, -2):
                ask(f"epoch {epoch}", version, -1, current_leader_epoch=epoch)
        world.ask("nothing", ListOffsetsRequest(replica_id=-1), version)
        entry = ListOffsetsTopic(name=world.name("listed"), partitions=[])
        world.ask("no partitions", ListOffsetsRequest(replica_id=-1, topics=[entry]), version)
    for codec in Codec:
        topic = f"listed-{codec.name.lower()}"
        world.create(topic)
        times = [(None, b"x" * 20)] * 5
        world.produce(f"fill {topic}", topic, world.record_batch(times, compression=codec))
        world.produce(f"fill {topic} with older ones", topic, world.record_batch(times, at=-100, compression=codec))
        for at in (-100, -98, 0, 3, 4, 5):
            ask(f"{topic} at {at}", 7, world.base_ms + at, topic=world.name(topic))
        ask(f"{topic} max", 7, -3, topic=world.name(topic))


def leader_epochs(world: World) -> None:
    world.create("epoch-ends", 2)
    _fill(world, "epoch-ends")

    def ask(label: str, version: int, epoch: int, **options: Any) -> None:
        partition = OffsetForLeaderPartition(
            partition=options.pop("partition", 0),
            current_leader_epoch=options.pop("current", -1),
            leader_epoch=epoch,
        )
        entry = OffsetForLeaderTopic(topic=options.pop("topic", world.name("epoch-ends")), partitions=[partition])
        world.ask(label, OffsetForLeaderEpochRequest(topics=[entry], **options), version)

    for version in world.versions(OffsetForLeaderEpochRequest):
        for epoch in (0, 1, 9, -1, -2):
            ask(f"epoch {epoch}", version, epoch)
            ask(f"epoch {epoch} of an empty partition", version, epoch, partition=1)
        for current in (0, 1, -2):
            ask(f"current {current}", version, 0, current=current)
        ask("unknown partition", version, 0, partition=9)
        ask("unknown topic", version, 0, topic=world.name("epoch-ends-none"))
        ask("illegal name", version, 0, topic="a b")
        if version >= 3:
            for replica in (-1, -2, 5):
                ask(f"replica {replica}", version, 0, replica_id=replica)
        world.ask("nothing", OffsetForLeaderEpochRequest(), version)


def delete_records(world: World) -> None:
    world.create("trimmed", 2)
    world.create("trimmed-compacted", 1, cleanup_policy="compact")
    world.create("trimmed-both", 1, cleanup_policy="compact,delete")
    _fill(world, "trimmed")
    for name in ("trimmed-compacted", "trimmed-both"):
        world.produce(f"fill {name}", name, world.record_batch([(b"k", b"v"), (b"l", b"w")]))

    def ask(label: str, version: int, *pairs: tuple[int, int], topic: str = "trimmed") -> None:
        wanted = [DeleteRecordsPartition(partition_index=index, offset=offset) for index, offset in pairs]
        entry = DeleteRecordsTopic(name=world.name(topic) if topic != "a b" else topic, partitions=wanted)
        world.ask(label, DeleteRecordsRequest(topics=[entry], timeout_ms=5000), version)

    for version in world.versions(DeleteRecordsRequest):
        at = version * 4
        ask("to 0", version, (0, 0))
        ask("into a batch", version, (0, at + 2))
        world.fetch(f"{version}: before it", "trimmed", 0)
        world.fetch(f"{version}: in its batch", "trimmed", at + 1)
        world.fetch(f"{version}: from it", "trimmed", at + 2)
        ask("back again", version, (0, 1))
        ask("the same", version, (0, at + 2))
        ask("behind the end", version, (0, 13))
        ask("-2", version, (0, -2))
        ask("unknown partition", version, (9, 0))
        ask("unknown topic", version, (0, 0), topic="trimmed-none")
        ask("illegal name", version, (0, 0), topic="a b")
        ask("compacted", version, (0, 1), topic="trimmed-compacted")
        ask("compacted and deleted", version, (0, 1), topic="trimmed-both")
        ask("two", version, (0, at + 3), (1, 0))
        ask("an empty one", version, (1, -1))
        ask("twice", version, (1, 0), (1, 0))
        wanted = [ListOffsetsPartition(partition_index=0, timestamp=timestamp) for timestamp in (-2,)]
        entry = ListOffsetsTopic(name=world.name("trimmed"), partitions=wanted)
        world.ask(f"{version}: start", ListOffsetsRequest(replica_id=-1, topics=[entry]), 4)
        world.ask("nothing", DeleteRecordsRequest(timeout_ms=1000), version)
    world.produce("refused: tells the start", "trimmed", world.batch(b"a", producer_id=3, producer_epoch=0), 9)
    ask("all", 2, (0, -1))
    world.fetch("nothing left", "trimmed", 12)
    world.produce("goes on", "trimmed", world.batch(b"a"), 9)
    world.fetch("what went on", "trimmed", 12)


SCENARIOS = (
    fetch_in_every_version,
    limits,
    epochs,
    replica_fetches,
    codecs,
    sessions,
    list_offsets,
    leader_epochs,
    delete_records,
)

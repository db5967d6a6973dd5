"""Produce: acknowledgements, wrong batches, idempotence, timestamps, codecs; InitProducerId and DescribeProducers."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.describe_producers import DescribeProducersRequest
from ottla.protocol.messages.describe_producers import TopicRequest as ProducersOfTopic
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.compression import Codec
from tests.compatibility.differential.world import World, patched

CONTROL, TRANSACTIONAL, APPEND_TIME, DELETE_HORIZON = 0x20, 0x10, 0x08, 0x40
OPAQUE = (
    "append time",
    "codec that it is not",
    "record length negative",
    "offset delta differs",
    "bytes behind the records",
)
"""Wrong batches that go to a topic of their own, since only one of the brokers may see that they are wrong."""


def produce_in_every_version(world: World) -> None:
    """What any version can ask. Left out: null records, which Kafka never answers."""
    topic_id = world.create("produced", 2)
    loose_id = world.create("loose")
    for version in world.versions(ProduceRequest):
        world.produce("one record", "produced", world.batch(b"a"), version)
        world.produce("three records, acks 1", "produced", world.batch(b"a", b"b", b"c"), version, acks=1)
        world.produce("acks 0", "produced", world.batch(b"a"), version, acks=0)
        for acks in (2, -2, 5):
            world.produce(f"acks {acks}", "produced", world.batch(b"a"), version, acks=acks)
        world.produce("no partition 2", "produced", world.batch(b"a"), version, partition=2)
        world.produce("partition -1", "produced", world.batch(b"a"), version, partition=-1)
        other = bytes(range(16)) if version >= 13 else None
        world.produce("unknown topic", "produced-none", world.batch(b"a"), version, topic_id=other)
        if version >= 13:
            world.produce("zero id", "produced", world.batch(b"a"), version, topic_id=ZERO_UUID)
        else:
            for name in ("a b", "", "__consumer_offsets"):
                data = TopicProduceData(
                    name=name, partition_data=[PartitionProduceData(index=0, records=world.batch(b"a"))]
                )
                request = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[data])
                if name != "__consumer_offsets":
                    world.ask(f"name {name!r}", request, version)
        world.produce("no records", "produced", b"", version)
        world.produce("cut off", "produced", world.batch(b"abc")[:-1], version)
        world.produce("cut off in the header", "produced", world.batch(b"abc")[:40], version)
        world.produce("ten bytes", "produced", b"\0" * 10, version)
        world.produce("bad checksum", "produced", patched(world.batch(b"a"), "crc", 5), version)
        world.produce("two batches", "produced", world.batch(b"a") + world.batch(b"b"), version)
        world.produce("a batch and bytes behind", "loose", world.batch(b"a") + b"xyz", version)
        world.produce("zstd", "produced", world.batch(b"a" * 50, compression=Codec.ZSTD), version)
        world.produce("magic 0", "produced", _legacy(0), version)
        world.produce("magic 1", "produced", _legacy(1), version)
        world.produce("magic 3", "produced", patched(world.batch(b"a"), "magic", 3), version)
        world.ask("nothing", ProduceRequest(acks=-1, timeout_ms=1000), version)
        topic = TopicProduceData(name=world.name("produced"), topic_id=topic_id, partition_data=[])
        world.ask("no partitions", ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic]), version)
        pair = [PartitionProduceData(index=index, records=world.batch(b"x")) for index in (0, 1, 7)]
        topic = TopicProduceData(name=world.name("produced"), topic_id=topic_id, partition_data=pair)
        world.ask("two good, one bad", ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic]), version)
        pair = [PartitionProduceData(index=0, records=world.batch(b"x")) for _ in range(2)]
        topic = TopicProduceData(name=world.name("loose"), topic_id=loose_id, partition_data=pair)
        world.ask("a partition twice", ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[topic]), version)
        if version < 12:
            world.produce("transactional id, plain batch", "produced", world.batch(b"a"), version, transactional_id="t")
    for partition in (0, 1):
        world.fetch("all of it", "produced", partition=partition)


def _legacy(magic: int) -> bytes:
    """A message set of the old formats with one message."""
    fields = struct.pack(">bb", magic, 0) + (struct.pack(">q", 1_000) if magic else b"")
    body = fields + struct.pack(">i", -1) + struct.pack(">i", 1) + b"v"
    return struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body


def errors_without_acknowledgement(world: World) -> None:
    """With acks 0 there is no answer: an error closes the connection, which the next request shows."""
    world.create("unacknowledged")
    batches = {
        "good": world.batch(b"a"),
        "bad checksum": patched(world.batch(b"a"), "crc", 5),
        "magic 1": _legacy(1),
    }
    for label, batch in batches.items():
        for topic in ("unacknowledged", "unacknowledged-none"):
            wire = world.new_wire()
            world.produce(f"{label} to {topic}", topic, batch, 9, acks=0, wire=wire)
            try:
                answer = world.ask_quietly(InitProducerIdRequest(transaction_timeout_ms=1000), 4, wire=wire)
            except OSError:
                answer = None
            world.note(f"{label} to {topic}: the next request", "closed" if answer is None else "answered")
    world.fetch("all of it", "unacknowledged")


def wrong_batches(world: World) -> None:
    world.create("wrong")
    good = world.batch(b"a", b"b", b"c")
    cases: dict[str, bytes | bytearray] = {
        "base offset 5": patched(good, "base_offset", 5),
        "base offset -1": patched(good, "base_offset", -1),
        "length larger": patched(good, "batch_length", len(good)),
        "length smaller": patched(good, "batch_length", len(good) - 13),
        "length negative": patched(good, "batch_length", -1),
        "length 10": patched(good, "batch_length", 10),
        "leader epoch 7": patched(good, "leader_epoch", 7),
        "count too small": patched(good, "record_count", 2),
        "count too large": patched(good, "record_count", 4),
        "count 0": patched(good, "record_count", 0),
        "count -1": patched(good, "record_count", -1),
        "last offset delta 5": patched(good, "last_offset_delta", 5),
        "last offset delta -1": patched(good, "last_offset_delta", -1),
        "control": patched(good, "attributes", CONTROL),
        "transactional without producer": patched(good, "attributes", TRANSACTIONAL),
        "append time": patched(good, "attributes", APPEND_TIME),
        "delete horizon": patched(good, "attributes", DELETE_HORIZON),
        "unused bit": patched(good, "attributes", 0x100),
        "codec 5": patched(good, "attributes", 5),
        "codec 7": patched(good, "attributes", 7),
        "codec that it is not": patched(good, "attributes", 1),
        "max timestamp too small": patched(good, "max_timestamp", world.base_ms),
        "max timestamp too large": patched(good, "max_timestamp", world.base_ms + 5),
        "base timestamp -1": patched(good, "base_timestamp", -1),
        "all timestamps -1": patched(patched(good, "base_timestamp", -1), "max_timestamp", -1),
        "an hour old": world.batch(b"a", at=-3_600_000),
        "in an hour and a half": world.batch(b"a", at=5_400_000 + 600_000),
        "in fifty minutes": world.batch(b"a", at=3_000_000 + 600_000),
        "of 1970": patched(patched(good, "base_timestamp", 0), "max_timestamp", 2),
        "producer without sequence": world.batch(b"a", producer_id=77, producer_epoch=0),
        "producer -2": patched(good, "producer_id", -2),
        "producer with epoch -1": world.batch(b"a", producer_id=77, producer_epoch=-1, base_sequence=0),
        "sequence without producer": patched(good, "base_sequence", 3),
        "epoch without producer": patched(good, "producer_epoch", 3),
        "too large": world.batch(b"x" * 1_048_600),
        "just small enough": world.batch(b"x" * 1_048_500),
        "too large, compressed small": world.batch(b"x" * 2_000_000, compression=Codec.GZIP),
    }
    body = bytearray(good)
    body[61] = 0xFE  # the first record's length
    cases["record length negative"] = patched(body, "base_timestamp", world.base_ms)
    body = bytearray(good)
    body[63] = 9  # its timestamp delta
    cases["timestamp delta differs"] = patched(body, "base_timestamp", world.base_ms)
    body = bytearray(good)
    body[64] = 9  # its offset delta
    cases["offset delta differs"] = patched(body, "base_timestamp", world.base_ms)
    body = bytearray(good) + b"rest"
    cases["bytes behind the records"] = patched(body, "batch_length", len(body) - 12)
    cases["bytes behind the records"] = patched(cases["bytes behind the records"], "record_count", 3)
    world.create("opaque")
    for label, batch in cases.items():
        for version in (7, 12):
            world.produce(label, "opaque" if label in OPAQUE else "wrong", batch, version)
    for codec in (Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD):
        batch = world.batch(b"a" * 100, b"b" * 100, compression=codec)
        world.produce(f"codec {int(codec)}", "wrong", batch)
        damaged = bytearray(batch)
        damaged[61:70] = b"\0" * 9
        world.produce(f"what is opaque, codec {int(codec)}, damaged", "opaque", patched(damaged, "record_count", 2))
        world.produce(f"codec {int(codec)}, count too large", "wrong", patched(batch, "record_count", 3))
    world.fetch("all of it", "wrong", partition_max_bytes=1 << 22)
    world.create("append-time-duplicates", 1, message_timestamp_type="LogAppendTime")
    batch = world.batch(b"a", producer_id=9, producer_epoch=0, base_sequence=0)
    for label in ("first", "second time"):
        world.produce(label, "append-time-duplicates", batch)


def compacted(world: World) -> None:
    world.create("compacted", 1, cleanup_policy="compact")
    for version in (3, 7, 8, 12):
        world.produce("keys", "compacted", world.record_batch([(b"k", b"v"), (b"l", None)]), version)
        world.produce("no key", "compacted", world.batch(b"v"), version)
        some = world.record_batch([(b"k", b"v"), (None, b"w"), (b"l", b"x"), (None, None)])
        world.produce("some without key", "compacted", some, version)
        empty = world.record_batch([(b"", b"v")])
        world.produce("empty key", "compacted", empty, version)
        gzip = world.record_batch([(b"k", b"v"), (None, b"w")], compression=Codec.GZIP)
        world.produce("no key, compressed", "compacted", gzip, version)
        idempotent = world.record_batch([(None, b"v")], producer_id=9, producer_epoch=0, base_sequence=0)
        world.produce("no key, with producer", "compacted", idempotent, version)
    world.create("compacted-and-deleted", 1, cleanup_policy="compact,delete")
    world.produce("no key, both policies", "compacted-and-deleted", world.batch(b"v"))
    world.fetch("all of it", "compacted")


def timestamps(world: World) -> None:
    world.create("append-time", 1, message_timestamp_type="LogAppendTime")
    good = world.batch(b"a", b"b")
    for version in (3, 8, 12):
        world.produce("append time", "append-time", good, version)
        world.produce("append time, old", "append-time", patched(good, "base_timestamp", 5), version)
        world.produce("append time, bit set", "append-time", patched(good, "attributes", APPEND_TIME), version)
        gzip = world.batch(b"a" * 50, b"b", compression=Codec.GZIP)
        world.produce("append time, compressed", "append-time", gzip, version)
    world.fetch("append time: all of it", "append-time")
    world.create("bounded", 1, message_timestamp_before_max_ms="1000000", message_timestamp_after_max_ms="1000000")
    for label, at in (
        ("now", 600_000),
        ("too old", -600_000),
        ("too young", 3_600_000),
        ("old enough", 0),
    ):
        for version in (7, 8, 12):
            world.produce(label, "bounded", world.batch(b"a", b"b", at=at), version)
            world.produce(f"{label}, gzip", "bounded", world.batch(b"a", b"b", at=at, compression=1), version)
    first_good = world.record_batch([(None, b"a"), (None, b"b"), (None, b"c")])
    body = bytearray(first_good)
    world.produce("negative", "bounded", patched(patched(body, "base_timestamp", -5), "max_timestamp", -3), 12)
    world.produce("minus one", "bounded", patched(patched(body, "base_timestamp", -1), "max_timestamp", 1), 12)
    world.fetch("bounded: all of it", "bounded")


def recompression(world: World) -> None:
    """A topic with a codec of its own gets every batch in it."""
    for codec in ("gzip", "snappy", "lz4", "zstd", "uncompressed", "producer"):
        topic = f"codec-{codec}"
        world.create(topic, 1, compression_type=codec)
        for sent in Codec:
            batch = world.batch(b"a" * 200, b"b" * 10, b"c", compression=sent)
            world.produce(f"{sent.name} to {codec}", topic, batch)
        idempotent = world.batch(b"a" * 30, producer_id=5, producer_epoch=1, base_sequence=0)
        world.produce(f"idempotent to {codec}", topic, idempotent)
        world.produce(f"again to {codec}", topic, idempotent)
        world.produce(f"zstd v6 to {codec}", topic, world.batch(b"a" * 20, compression=Codec.ZSTD), 6)
        world.produce(f"uncompressed v6 to {codec}", topic, world.batch(b"a" * 20), 6)
        world.fetch(f"all of {codec}", topic)
    world.create("small", 1, max_message_bytes="300")
    world.produce("too large", "small", world.batch(b"x" * 400))
    world.produce("too large, but compressed", "small", world.batch(b"x" * 400, compression=Codec.GZIP))
    world.produce("301 bytes", "small", world.batch(b"x" * (301 - 61 - 9)))
    world.produce("300 bytes", "small", world.batch(b"x" * (300 - 61 - 9)))
    world.create("small-uncompressed", 1, max_message_bytes="300", compression_type="uncompressed")
    world.produce("too large after it", "small-uncompressed", world.batch(b"x" * 400, compression=Codec.GZIP))
    world.create("small-gzip", 1, max_message_bytes="300", compression_type="gzip")
    world.produce("small enough after it", "small-gzip", world.batch(b"x" * 400))
    world.create("tiny-segments", 1, segment_bytes="1048576", max_message_bytes="3000000")
    world.produce("larger than a segment", "tiny-segments", world.batch(b"x" * 1_100_000))


def idempotence(world: World) -> None:
    world.create("idempotent", 2)

    def send(label: str, sequence: int, count: int = 1, *, producer: int = 1, epoch: int = 0, **more: Any) -> None:
        values = [b"%d" % (sequence + index) for index in range(count)]
        batch = world.batch(*values, producer_id=producer, producer_epoch=epoch, base_sequence=sequence)
        world.produce(label, "idempotent", batch, **more)

    for version in (3, 9, 12):
        producer = version
        send("first", 0, producer=producer, version=version)
        send("second", 1, 3, producer=producer, version=version)
        send("duplicate of the second", 1, 3, producer=producer, version=version)
        send("duplicate of the first", 0, producer=producer, version=version)
        send("gap", 9, producer=producer, version=version)
        send("overlap", 3, 2, producer=producer, version=version)
        send("part of the second", 1, 2, producer=producer, version=version)
        send("third", 4, producer=producer, version=version)
        for number in range(5, 10):
            send(f"{number}", number, producer=producer, version=version)
        send("duplicate of the oldest remembered", 5, producer=producer, version=version)
        send("duplicate of one forgotten", 4, producer=producer, version=version)
        send("new epoch, not from 0", 10, producer=producer, epoch=1, version=version)
        send("new epoch", 0, producer=producer, epoch=1, version=version)
        send("new epoch, duplicate", 0, producer=producer, epoch=1, version=version)
        send("old epoch", 10, producer=producer, epoch=0, version=version)
        send("two epochs on", 0, producer=producer, epoch=3, version=version)
        send("unknown producer, sequence 7", 7, producer=producer + 100, version=version)
        send("unknown producer, sequence 8", 8, producer=producer + 100, version=version)
        send("the other partition", 0, producer=producer, epoch=3, version=version, partition=1)
    last = 2**31 - 1
    send("near the end", last - 2, 2, producer=50)
    send("up to the end", last, 1, producer=50)
    send("wrapped", 0, 1, producer=50)
    send("wrapped, duplicate", 0, 1, producer=50)
    send("before the wrap, duplicate", last, 1, producer=50)
    send("near the end", last - 1, 1, producer=51)
    send("across the end", last, 4, producer=51)
    send("across the end, duplicate", last, 4, producer=51)
    send("after it", 3, 1, producer=51)
    send("epoch at its end", 0, 1, producer=52, epoch=32767)
    world.produce("acks 1", "idempotent", world.batch(b"a", producer_id=53, producer_epoch=0, base_sequence=0), acks=1)
    world.fetch("all of it", "idempotent")
    describe_producers(world, "after it", "idempotent", [0, 1, 2])


def describe_producers(world: World, label: str, topic: str, partitions: list[int]) -> None:
    asked = [ProducersOfTopic(name=world.name(topic), partition_indexes=partitions)]
    world.ask(label, DescribeProducersRequest(topics=asked))


def producers(world: World) -> None:
    world.create("producers", 2)
    describe_producers(world, "none", "producers", [0, 1])
    batch = world.batch(b"a", b"b", producer_id=4000, producer_epoch=2, base_sequence=0)
    world.produce("first", "producers", batch)
    world.produce("other", "producers", world.batch(b"a", producer_id=4001, producer_epoch=0, base_sequence=5))
    describe_producers(world, "two", "producers", [0])
    world.produce("new epoch", "producers", patched(batch, "producer_epoch", 3))
    describe_producers(world, "new epoch", "producers", [0])
    describe_producers(world, "unknown topic", "producers-none", [0])
    describe_producers(world, "unknown partition", "producers", [9, -1])
    for name in ("a b", ""):
        world.ask(
            f"illegal name {name!r}",
            DescribeProducersRequest(topics=[ProducersOfTopic(name=name, partition_indexes=[0])]),
        )
    describe_producers(world, "no partitions", "producers", [])
    describe_producers(world, "twice the same", "producers", [0, 0])
    world.ask("nothing", DescribeProducersRequest(topics=[]))


def init_producer_id(world: World) -> None:
    for version in world.versions(InitProducerIdRequest):
        for timeout in (60_000, 0, -1):
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=timeout)
            while (answer := world.ask_quietly(request, version)).error_code == 14:
                time.sleep(0.01)  # Kafka has only just asked for its first block of ids
            world.note(
                f"timeout {timeout} v{version}", (answer.error_code, answer.producer_id >= 0, answer.producer_epoch)
            )
        world.ask("empty id", InitProducerIdRequest(transactional_id="", transaction_timeout_ms=1000), version)
        if version >= 3:
            for producer_id, epoch in ((5, 3), (5, -1), (-1, 3), (-5, -5)):
                request = InitProducerIdRequest(
                    transactional_id=None, transaction_timeout_ms=1000, producer_id=producer_id, producer_epoch=epoch
                )
                answer = world.ask_quietly(request, version)
                shown = None if answer is None else (answer.error_code, answer.producer_id >= 0, answer.producer_epoch)
                world.note(f"with {producer_id} and {epoch} v{version}", shown)


SCENARIOS = (
    produce_in_every_version,
    errors_without_acknowledgement,
    wrong_batches,
    compacted,
    timestamps,
    recompression,
    idempotence,
    producers,
    init_producer_id,
)

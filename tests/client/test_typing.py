"""What a type checker makes of the clients: keys and values have the types that their deserializers give them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("mypy")

# ruff: noqa: E501
PROGRAM = """
import uuid
from typing import Any

import msgspec

import ottla
from ottla import aio, serde


class Order(msgspec.Struct):
    id: int


class Sets:
    def deserialize(self, topic: str, data: bytes | None, headers: Any, /) -> frozenset[int]:
        return frozenset(data or b"")


def number(data: bytes) -> float:
    return float(data)


def told(data: bytes, context: serde.SerializationContext) -> complex:
    return complex(context.topic)


for kind in (1,):
    reveal_type(ottla.Consumer("a:1"))  # Consumer[bytes, bytes]
    reveal_type(aio.Consumer("a:1", group_id="g"))  # Consumer[bytes, bytes]
    reveal_type(ottla.Consumer("a:1", value_deserializer=serde.json(Order)))  # Consumer[bytes, Order]
    reveal_type(aio.Consumer("a:1", key_deserializer=str, value_deserializer=number))  # Consumer[str, float]
    reveal_type(ottla.Producer("a:1"))  # Producer[bytes | bytearray | memoryview[int] | str, bytes | bytearray | memoryview[int] | str]
    reveal_type(ottla.Producer("a:1", key_serializer=str, value_serializer=serde.json(Order)))  # Producer[str, Order]
    reveal_type(aio.Producer("a:1", key_serializer=uuid.UUID, value_serializer=int))  # Producer[UUID, int]
    reveal_type(ottla.ShareConsumer("a:1", group_id="g"))  # ShareConsumer[bytes, bytes]
    reveal_type(aio.ShareConsumer("a:1", group_id="g"))  # ShareConsumer[bytes, bytes]
    reveal_type(ottla.ShareConsumer("a:1", group_id="g", key_deserializer=str, value_deserializer=Order))  # ShareConsumer[str, Order]
    reveal_type(aio.ShareConsumer("a:1", group_id="g", value_deserializer=serde.json(Order)))  # ShareConsumer[bytes, Order]
    reveal_type(aio.ShareConsumer("a:1", group_id="g", value_deserializer=serde.struct(Order)))  # ShareConsumer[bytes, Order]
    reveal_type(aio.ShareConsumer("a:1", group_id="g", key_deserializer=serde.raw()))  # ShareConsumer[bytes, bytes]
    reveal_type(aio.ShareConsumer("a:1", group_id="g", key_deserializer=serde.string()))  # ShareConsumer[str, bytes]
    reveal_type(aio.ShareConsumer("a:1", group_id="g", key_deserializer=serde.list_of(int)))  # ShareConsumer[list[int], bytes]
    reveal_type(ottla.ShareConsumer("a:1", group_id="g", key_deserializer=uuid.UUID, value_deserializer=number))  # ShareConsumer[UUID, float]
    reveal_type(ottla.ShareConsumer("a:1", group_id="g", key_deserializer=serde.uuid(), value_deserializer=told))  # ShareConsumer[UUID, complex]
    reveal_type(ottla.ShareConsumer("a:1", group_id="g", value_deserializer=Sets()))  # ShareConsumer[bytes, frozenset[int]]
    named: ottla.ShareConsumer[bytes, dict[str, int]] = ottla.ShareConsumer("a:1", {"value.deserializer": "json"}, group_id="g")


def work(consumer: ottla.ShareConsumer[str, Order]) -> None:
    for record in consumer:
        reveal_type(record.key)  # str
        reveal_type(record.value)  # Order


def read(consumer: ottla.Consumer[str, Order]) -> None:
    for record in consumer:
        reveal_type(record)  # ConsumerRecord[str, Order]
    reveal_type(consumer.poll(1.0)[0].value)  # Order
    reveal_type(consumer.poll())  # Records[str, Order]


async def read_async(consumer: aio.Consumer[bytes, int]) -> None:
    async for record in consumer:
        reveal_type(record)  # ConsumerRecord[bytes, int]


def write(producer: ottla.Producer[str, Order], plain: ottla.Producer[bytes, bytes]) -> None:
    producer.send("t", Order(1), key="a")
    producer.send("t", b"order")  # not Order
    producer.send("t", Order(1), key=1)  # not str
    plain.send("t", b"a", key=None)


named_producer: ottla.Producer[str, dict[str, int]] = ottla.Producer("a:1", value_serializer="json")
ottla.Producer("a:1", linger=5)  # not a setting
with ottla.Producer("a:1") as anything:
    anything.send("t", "text", key=b"bytes")
    anything.send("t", 5)  # not bytes or text


def of_a_producer(serializer: serde.SerializerLike[int] | None) -> None: ...


of_a_producer(serde.int32())
of_a_producer(int)
of_a_producer(lambda value: b"%d" % value)
of_a_producer(str)  # not int
"""


def test_types_follow_from_serializers_and_deserializers(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    # In a process of its own: mypy raises the recursion limit of the one it runs in.
    options = ["--strict", "--no-error-summary", "--hide-error-context", "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert not done.stderr
    output = done.stdout
    found = {}
    for line in output.splitlines():
        place, _, said = line.partition(": ")
        found.setdefault(int(place.rpartition(":")[2]), said)
    for number, line in enumerate(program.read_text().splitlines(), 1):
        wanted = line.rpartition("  # ")[2] if "  # " in line else None
        if wanted is None:
            assert number not in found, (line, found[number])
        elif wanted.startswith("not "):
            assert found[number].startswith("error"), line
        else:
            shown = found[number].partition('"')[2].rstrip('"')
            for module in (
                "ottla.client.share.blocking.",
                "ottla.client.share.client.",
                "ottla.client.consumer.blocking.",
                "ottla.client.consumer.client.",
                "ottla.client.consumer.records.",
                "ottla.client.producer.blocking.",
                "ottla.client.producer.client.",
                "ottla.records.reader.",
                "builtins.",
                "uuid.",
                "program.",
            ):
                shown = shown.replace(module, "")
            assert shown == wanted, line

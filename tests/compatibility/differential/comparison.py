"""Answers made comparable: what differs between any two brokers gets a name, the rest is laid out field by field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Message
from ottla.records.batch import CorruptRecordError, batches, crc_matches
from ottla.records.record import read_batch_records
from tests.compatibility.differential.world import World

SETS = {"subscribed_topic_names"}
"""Fields with a set of texts, which may come in any order."""

IGNORED = {"throttle_time_ms", "cluster_id", "documentation", "total_bytes", "usable_bytes", "client_host"}
TEXTS = {"error_message", "batch_index_error_message"}
"""Only whether there is a text matters, and not whether a missing one is null or empty: they are for people."""
NAMED = {"member_id", "leader", "session_id", "topic_id"}
"""Values that the broker makes up: the record shows in which order they came up."""
IDENTITY = ("name", "topic", "topic_name", "group_id", "key", "api_key", "topic_id", "resource_name", "resource_type")
IDENTITY += (
    "partition_index",
    "partition",
    "index",
    "member_id",
    "producer_id",
    "batch_index",
    "node_id",
    "replica_id",
    "broker_id",
    "log_dir",
    "entity_type",
    "entity_name",
)


class Difference(NamedTuple):
    """One field of one answer: what the two brokers said."""

    scenario: str
    step: str
    field: str
    ottla: Any
    kafka: Any

    def __str__(self) -> str:
        return f"{self.scenario}: {self.step}: {self.field or 'answer'}: ottla {self.ottla!r}, kafka {self.kafka!r}"


def differences(scenario: str, ottla: World, kafka: World, first_step: int = 0) -> list[Difference]:
    """All fields in which the two records differ, in the order of the steps."""
    found: list[Difference] = []
    for number in range(first_step, max(len(ottla.steps), len(kafka.steps))):
        sides = [world.steps[number] if number < len(world.steps) else ("(no step)", None) for world in (ottla, kafka)]
        if sides[0][0] != sides[1][0]:
            return [*found, Difference(scenario, sides[0][0], "step", sides[0][0], sides[1][0])]
        step = sides[0][0]
        left = dict(_flat(readable(ottla, sides[0][1]), ""))
        right = dict(_flat(readable(kafka, sides[1][1]), ""))
        for field in [*left, *(field for field in right if field not in left)]:
            of_left, of_right = left.get(field, "absent"), right.get(field, "absent")
            if of_left != of_right:
                found.append(Difference(scenario, step, field, of_left, of_right))
    return found


def readable(world: World, value: Any, field: str = "") -> Any:
    """Plain data of an answer; a message is a dict, an array of messages a dict by what identifies its elements."""
    if isinstance(value, Message):
        topic, topic_id = getattr(value, "name", None), getattr(value, "topic_id", ZERO_UUID)
        if isinstance(topic, str) and topic and topic_id != ZERO_UUID:
            world.names.setdefault(bytes(topic_id), f"<id of {topic.removeprefix(world.run)}>")
        named = {name.name: getattr(value, name.name) for name in value.FIELDS if name.name not in IGNORED}
        return {name: readable(world, content, name) for name, content in named.items()}
    if field == "records":
        return _readable_records(world, value)
    if isinstance(value, (list, tuple)):
        return _readable_list(world, value, field)
    if isinstance(value, memoryview):
        value = bytes(value)
    if field in TEXTS:
        return "a text" if value else "no text"
    if field in NAMED and value not in (-1, 0, "", ZERO_UUID):
        return world.names.setdefault(value, f"<{field} {len(world.names)}>")
    if field == "log_dir":
        return "<log dir>"
    if isinstance(value, bytes):
        return world.names.get(value, value)
    if isinstance(value, str):
        return _readable_text(world, value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _readable_number(world, value, field)
    return value


def _readable_number(world: World, value: int, field: str) -> Any:
    if field == "port" and value == world.address[1]:
        return "<port>"
    since = value - world.base_ms
    if 0 <= since < 300_000:
        return f"<base + {since} ms>"
    if 300_000 <= since < 7_200_000:
        return "<now>"
    return value


def _readable_text(world: World, value: str) -> str:
    if value in world.names:
        return world.names[value]
    return value.removeprefix(world.run) if world.run else value


def _readable_list(world: World, value: Sequence[Any], field: str) -> Any:
    items = [readable(world, item, field) for item in value]
    if not items or not isinstance(items[0], dict):
        return sorted(items) if field in SETS else items
    keyed: dict[str, Any] = {}
    for item in items:
        parts = [str(item[name]) for name in IDENTITY if name in item and item[name] not in ("", None, ZERO_UUID)]
        if isinstance(item.get("entity"), dict):
            parts += sorted(item["entity"])  # of a quota: its parts, which may come in any order
        identity = " ".join(dict.fromkeys(parts))
        while identity in keyed:
            identity += "'"
        keyed[identity] = item
    return {"count": len(items), **keyed}


def _readable_records(world: World, value: Any) -> Any:
    """The batches of a record set: every header field but the checksum, and the records."""
    if value is None:
        return None
    found = []
    end = 0
    for position, header in batches(value):
        end = position + header.size_in_bytes
        shown = {name: readable(world, getattr(header, name), name) for name in header._fields if name != "crc"}
        if header.compression:
            del shown["batch_length"]  # two compressors need not agree on the bytes
        shown["crc"] = crc_matches(value, position, header)
        try:
            shown["content"] = [
                (record.offset, readable(world, record.timestamp_ms), record.key, record.value, record.headers)
                for record in read_batch_records(value, position, header)
            ]
        except CorruptRecordError:
            shown["content"] = "unreadable"
        found.append(shown)
    if end != len(value):
        found.append({"bytes of a part of a batch": len(value) - end})
    return {str(number): batch for number, batch in enumerate(found)}


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, content in value.items():
            yield from _flat(content, f"{path}.{name}" if path else name)
    else:
        yield path, value

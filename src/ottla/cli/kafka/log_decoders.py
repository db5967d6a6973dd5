"""What kafka-dump-log shows of a record: its key and value as text, in the manner of the log they stand in.

A decoder takes a record and gives the texts of key and value, None for one that is not to be shown. A record that it
cannot read becomes a remark in its place: a dump goes on behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.java_text import decode as text_of
from ottla.cli.kafka.message_json import compact_json, message_json
from ottla.cli.secret_fields import without_secrets
from ottla.core.binary import read_uvarint
from ottla.core.ids import uuid_to_text
from ottla.protocol.codec import decode, decode_prefix
from ottla.protocol.errors import ProtocolError, UnsupportedVersionError
from ottla.protocol.message import CoordinatorKey, CoordinatorValue, Message, MetadataRecord
from ottla.records.record import Record

Decoder = Callable[[Record], tuple[str | None, str | None]]
RecordTypes = dict[int, tuple[type[Message], type[Message]]]

_SHARE_STATE_TYPES = (0, 1)
_GROUP_METADATA = 2
_FRAME_VERSION = 1


# Records of applications


def plain_decoder(key_class: str, value_class: str) -> Decoder:
    """Keys and values by the class names that Kafka has for its decoders, or by a Python function `module:name`."""
    key_of, value_of = _content_decoder(key_class), _content_decoder(value_class)

    def show(record: Record) -> tuple[str | None, str | None]:
        return (
            None if record.key is None else str(key_of(record.key)),
            None if record.value is None else str(value_of(record.value)),
        )

    return show


def _content_decoder(name: str) -> Callable[[bytes], object]:
    package, _, kind = name.rpartition(".")
    if package == "org.apache.kafka.tools.api" and kind in _CONTENTS:
        return _CONTENTS[kind]
    module, colon, function = name.partition(":")
    if colon:
        try:
            found: Callable[[bytes], object] = getattr(import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ToolError(f"Failed to load decoder class {name}: {error}", "RuntimeException") from None
        return found
    raise ToolError(
        f"Failed to load decoder class {name}: a class of Java's cannot be; name a Python function as module:function",
        "RuntimeException",
    )


def _number(width: int) -> Callable[[bytes], object]:
    return lambda data: int.from_bytes(data[:width], "big", signed=True)


_CONTENTS: dict[str, Callable[[bytes], object]] = {
    "StringDecoder": text_of,
    "DefaultDecoder": lambda data: f"[B@{id(data) & 0xFFFFFFF:x}",
    "IntegerDecoder": _number(4),
    "LongDecoder": _number(8),
}


# Records of coordinators


def offsets_decoder() -> Decoder:
    """Records of `__consumer_offsets`: offsets, and groups of all kinds."""
    from ottla.protocol.messages import group_records, share_records, streams_records

    types = _record_types(group_records, streams_records)
    types |= {kind: pair for kind, pair in _record_types(share_records).items() if kind not in _SHARE_STATE_TYPES}
    return _coordinator_decoder(types, _group_value)


def share_group_state_decoder() -> Decoder:
    """Records of `__share_group_state`."""
    from ottla.protocol.messages import share_records

    types = _record_types(share_records)
    return _coordinator_decoder({kind: types[kind] for kind in _SHARE_STATE_TYPES})


def transaction_log_decoder() -> Decoder:
    """Records of `__transaction_state`."""
    from ottla.protocol.messages import transaction_records

    return _coordinator_decoder(_record_types(transaction_records))


def _record_types(*modules: ModuleType) -> RecordTypes:
    keys: dict[int, type[Message]] = {}
    values: dict[int, type[Message]] = {}
    for module in modules:
        for found in vars(module).values():
            if isinstance(found, type) and found not in (CoordinatorKey, CoordinatorValue):
                if issubclass(found, CoordinatorKey):
                    keys[found.API_KEY] = found
                elif issubclass(found, CoordinatorValue):
                    values[found.API_KEY] = found
    return {kind: (keys[kind], values[kind]) for kind in keys}


def _coordinator_decoder(
    types: RecordTypes, value_json: Callable[[Message, int], dict[str, Any]] = message_json
) -> Decoder:
    def show(record: Record) -> tuple[str | None, str | None]:
        if record.key is None:
            raise ToolError(
                f"Failed to decode message at offset {record.offset} using the specified decoder "
                "(message had a missing key)",
                "RuntimeException",
            )
        kind = _prefix(record.key)
        if kind is not None and kind not in types:
            return f"Unknown record type {kind} at offset {record.offset}, skipping.", None
        try:
            if kind is None:
                raise ProtocolError("Could not read version from key's buffer.")
            key = {"type": str(kind), "data": message_json(_message(types[kind][0], 0, record.key, "key"), 0)}
            if record.value is None:
                return compact_json(key), "<DELETE>"
            version = _prefix(record.value)
            if version is None:
                raise ProtocolError("Could not read version from value's buffer.")
            value_type = types[kind][1]
            if not value_type.VALID_VERSIONS[0] <= version <= value_type.VALID_VERSIONS[1]:
                raise ProtocolError(f"Found an unknown record version {version} for {kind} type")
            message = _message(value_type, version, record.value, "value")
            return compact_json(key), compact_json({"version": str(version), "data": value_json(message, version)})
        except ProtocolError as error:
            return f"Error at offset {record.offset}, skipping. {error}", None

    return show


def _prefix(data: bytes) -> int | None:
    return int.from_bytes(data[:2], "big", signed=True) if len(data) >= 2 else None


def _message(kind: type[Message], version: int, data: bytes, name: str) -> Message:
    """What follows the two bytes of type or version. Bytes behind it are none of our business, as in Kafka."""
    try:
        message, _ = decode_prefix(kind, version, data, 2)
    except (ProtocolError, UnsupportedVersionError) as error:
        raise ProtocolError(
            f"Could not read record with version {version} from {name}'s buffer due to: {error}."
        ) from error
    return message


def _group_value(message: Message, version: int) -> dict[str, Any]:
    """Of a classic group of consumers, what its members subscribe and are assigned is shown too, and not as bytes."""
    found = message_json(message, version)
    if message.API_KEY == _GROUP_METADATA and found.get("protocolType") == "consumer":
        from ottla.protocol.messages.consumer_protocol import ConsumerProtocolAssignment, ConsumerProtocolSubscription

        members: Iterable[Any] = getattr(message, "members", None) or ()
        for member, shown in zip(members, found["members"], strict=True):
            for name, kind in (
                ("subscription", ConsumerProtocolSubscription),
                ("assignment", ConsumerProtocolAssignment),
            ):
                data = getattr(member, name)
                told = _prefix(data)
                if told is None:
                    continue
                try:
                    content, _ = decode_prefix(kind, min(told, kind.VALID_VERSIONS[1]), data, 2)
                except (ProtocolError, UnsupportedVersionError):
                    continue  # somebody's own protocol: it stays bytes
                shown[name] = message_json(content, told)
    return found


# The metadata log


def cluster_metadata_decoder() -> Decoder:
    """Records of `__cluster_metadata` and its snapshots."""
    from ottla.protocol.messages import metadata_records

    types = _framed_types(metadata_records)

    def show(record: Record) -> tuple[str | None, str | None]:
        try:
            message, version = _framed(types, record)
        except ProtocolError as error:
            return None, f"Error at {record.offset}, skipping. {error}"
        kind = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", type(message).__name__).upper()
        data = without_secrets(type(message).__name__, message_json(message, version), "(redacted)")
        return None, compact_json({"type": kind, "version": version, "data": data})

    return show


def _framed_types(module: ModuleType) -> dict[int, type[Message]]:
    return {
        found.API_KEY: found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, MetadataRecord) and found is not MetadataRecord
    }


def _framed(types: dict[int, type[Message]], record: Record) -> tuple[Message, int]:
    """A record behind frame version, type and version, all as variable-length numbers."""
    data = record.value or b""
    position = 0
    numbers = []
    for what in ("frame version", "type", "version"):
        try:
            number, position = read_uvarint(data, position)
        except (ProtocolError, IndexError, ValueError):
            raise ProtocolError(f"Error while reading {what}") from None
        numbers.append(number)
        if what == "frame version" and number != _FRAME_VERSION:
            raise ProtocolError(_wrong_frame(number))
    _, kind, version = numbers
    if kind not in types:
        raise ProtocolError(f"org.apache.kafka.common.errors.UnsupportedVersionException: Unknown metadata id {kind}")
    try:
        return decode(types[kind], version, data, position), version
    except (ProtocolError, UnsupportedVersionError):
        raise ProtocolError(f"Failed to deserialize record with type {kind}") from None


def _wrong_frame(number: int) -> str:
    if number == 0:
        return (
            "Could not deserialize metadata record with frame version 0. Note that upgrades from the preview release "
            "of KRaft in 2.8 to newer versions are not supported."
        )
    return (
        f"Could not deserialize metadata record due to unknown frame version {number}"
        f"(only frame version {_FRAME_VERSION} is supported)"
    )


# Where tiered segments are


def remote_log_metadata_decoder() -> Decoder:
    """Records of `__remote_log_metadata`, in the words of Kafka's own topic-based manager of it."""
    from ottla.protocol.messages import remote_log_records

    types = _framed_types(remote_log_records)

    def show(record: Record) -> tuple[str | None, str | None]:
        try:
            message, _ = _framed(types, record)
            return None, _REMOTE[message.API_KEY](message)
        except ProtocolError as error:
            return None, f"Error at offset {record.offset}, skipping. {error}"

    return show


_SEGMENT_STATES = (
    "COPY_SEGMENT_STARTED",
    "COPY_SEGMENT_FINISHED",
    "DELETE_SEGMENT_STARTED",
    "DELETE_SEGMENT_FINISHED",
)


def _state(names: tuple[str, ...], number: int, otherwise: str) -> str:
    if not 0 <= number < len(names):
        raise ProtocolError(otherwise)
    return names[number]


_PARTITION_STATES = ("DELETE_PARTITION_MARKED", "DELETE_PARTITION_STARTED", "DELETE_PARTITION_FINISHED")


def _topic_id_partition(entry: Any) -> str:
    return f"{uuid_to_text(entry.id)}:{entry.name}-{entry.partition}"


def _segment_id(entry: Any) -> str:
    return (
        f"RemoteLogSegmentId{{topicIdPartition={_topic_id_partition(entry.topic_id_partition)}, "
        f"id={uuid_to_text(entry.id)}}}"
    )


def _custom(data: bytes | None) -> str:
    return "Optional.empty" if data is None else f"Optional[CustomMetadata{{{len(data)} bytes}}]"


def _epochs(entries: Iterable[Any]) -> str:
    found = {entry.leader_epoch: entry.offset for entry in entries}
    return "{" + ", ".join(f"{epoch}={found[epoch]}" for epoch in sorted(found)) + "}"


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _segment_state(message: Any) -> str:
    return _state(_SEGMENT_STATES, message.remote_log_segment_state, "state can not be null")


def _segment(message: Any) -> str:
    return (
        f"RemoteLogSegmentMetadata{{remoteLogSegmentId={_segment_id(message.remote_log_segment_id)}, "
        f"startOffset={message.start_offset}, endOffset={message.end_offset}, brokerId={message.broker_id}, "
        f"maxTimestampMs={message.max_timestamp_ms}, eventTimestampMs={message.event_timestamp_ms}, "
        f"segmentLeaderEpochs={_epochs(message.segment_leader_epochs)}, "
        f"segmentSizeInBytes={message.segment_size_in_bytes}, customMetadata={_custom(message.custom_metadata)}, "
        f"state={_segment_state(message)}, txnIdxEmpty={_truth(message.txn_index_empty)}}}"
    )


def _segment_update(message: Any) -> str:
    return (
        f"RemoteLogSegmentMetadataUpdate{{remoteLogSegmentId={_segment_id(message.remote_log_segment_id)}, "
        f"customMetadata={_custom(message.custom_metadata)}, "
        f"state={_segment_state(message)}, eventTimestampMs={message.event_timestamp_ms}, "
        f"brokerId={message.broker_id}}}"
    )


def _partition_delete(message: Any) -> str:
    return (
        f"RemotePartitionDeleteMetadata{{topicPartition={_topic_id_partition(message.topic_id_partition)}, "
        f"state={_state(_PARTITION_STATES, message.remote_partition_delete_state, 'null')}, "
        f"eventTimestampMs={message.event_timestamp_ms}, brokerId={message.broker_id}}}"
    )


def _segment_snapshot(message: Any) -> str:
    return (
        f"RemoteLogSegmentMetadataSnapshot{{segmentId={uuid_to_text(message.segment_id)}, "
        f"startOffset={message.start_offset}, endOffset={message.end_offset}, "
        f"maxTimestampMs={message.max_timestamp_ms}, segmentLeaderEpochs={_epochs(message.segment_leader_epochs)}, "
        f"segmentSizeInBytes={message.segment_size_in_bytes}, customMetadata={_custom(message.custom_metadata)}, "
        f"state={_segment_state(message)}, txnIdxEmpty={_truth(message.txn_index_empty)}}}"
    )


_REMOTE: dict[int, Callable[[Any], str]] = {
    0: _segment,
    1: _segment_update,
    2: _partition_delete,
    3: _segment_snapshot,
}

"""Log files with one of everything: what kafka-dump-log is compared on, and tested with."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from ottla.core.binary import write_uvarint
from ottla.protocol.codec import encode
from ottla.protocol.message import CoordinatorKey, CoordinatorValue, Message, MetadataRecord, version_range
from ottla.protocol.messages import metadata_records, raft_data, remote_log_records
from ottla.protocol.messages.consumer_protocol import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from ottla.protocol.messages.group_records import GroupMetadataKey, GroupMetadataValue, MemberMetadata
from ottla.records.compression import Codec
from ottla.records.control import control_batch, end_transaction_marker
from ottla.records.record import Record, build_batch

TIME_MS = 1_700_000_000_000
BASE_NAME = "00000000000000000000"
NEWER = ("stored_description_topology_epoch", "failed_description_topology_epoch")
"""Tagged fields of a later Kafka than the one that is compared with."""
_WORDS = 'text with "quotes", \\ and grüße\n'


def filled(cls: type[Message], version: int, depth: int = 0) -> Message:
    """A message with something in every field that the version has."""
    values: dict[str, Any] = {}
    for number, field in enumerate(cls.FIELDS):
        first, last = version_range(field.versions)
        if first <= version <= last and field.name not in NEWER:
            values[field.name] = _sample(field, field.type, number + 1, version, depth)
    return cls(**values)


def _sample(field: Any, kind: str, number: int, version: int, depth: int) -> Any:
    if kind == "array":
        if field.struct is not None:
            return [filled(field.struct, version, depth + 1) for _ in range(2)]
        return [_sample(field, field.element, number + one, version, depth) for one in range(2)]
    if kind == "struct":
        return filled(field.struct, version, depth + 1)
    if field.name.endswith("_state"):
        return 1
    if kind == "bool":
        return True
    if kind == "float64":
        return 10485760.0 * number
    if kind == "uuid":
        return bytes([number, *range(15)])
    if kind == "string":
        return f"{_WORDS if depth == 0 else ''}{number}"
    if kind == "bytes":
        return b"\x00\xff" + bytes([number])
    return number


def _classes(module: Any, kind: type[Message]) -> list[type[Message]]:
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, kind) and found is not kind and found.VALID_VERSIONS[1] >= 0
    ]


def coordinator_records(*names: str, types: Iterable[int] | None = None) -> Iterator[Record]:
    """All record types of these modules: tombstones, values with nothing in them and with all of it, in all versions,
    and what no decoder can read."""
    keys: dict[int, type[Message]] = {}
    values: dict[int, type[Message]] = {}
    for name in names:
        module = import_module(f"ottla.protocol.messages.{name}")
        keys |= {cls.API_KEY: cls for cls in _classes(module, CoordinatorKey)}
        values |= {cls.API_KEY: cls for cls in _classes(module, CoordinatorValue)}
    for kind in sorted(keys if types is None else types):
        prefix = kind.to_bytes(2, "big")
        key = prefix + encode(filled(keys[kind], 0), 0)
        yield Record(key=key, value=None, timestamp_ms=TIME_MS)
        yield Record(key=prefix + encode(keys[kind](), 0), value=None, timestamp_ms=TIME_MS)
        first, last = values[kind].VALID_VERSIONS
        for version in range(first, last + 1):
            head = version.to_bytes(2, "big")
            yield Record(key=key, value=head + encode(filled(values[kind], version), version), timestamp_ms=TIME_MS)
            yield Record(key=key, value=head + encode(values[kind](), version), timestamp_ms=TIME_MS)
        yield Record(key=key, value=b"\x00\x63later", timestamp_ms=TIME_MS)
    yield Record(key=b"\x03\xe7new", value=b"x", timestamp_ms=TIME_MS)
    yield Record(key=b"\x00", value=b"x", timestamp_ms=TIME_MS)


def consumer_group_record(protocol_type: str = "consumer") -> Record:
    """A classic group of consumers, with what they subscribe and are assigned; and one that cannot be read."""
    subscription = filled(ConsumerProtocolSubscription, 3)
    assignment = filled(ConsumerProtocolAssignment, 3)
    members = [
        MemberMetadata(
            member_id="m",
            subscription=b"\x00\x03" + encode(subscription, 3),
            assignment=b"\x00\x03" + encode(assignment, 3),
        ),
        MemberMetadata(member_id="n", subscription=b"\x00", assignment=b"\x00\x00nonsense"),
    ]
    value = GroupMetadataValue(protocol_type=protocol_type, protocol="range", leader="m", members=members)
    key = b"\x00\x02" + encode(GroupMetadataKey(group="g"), 0)
    return Record(key=key, value=b"\x00\x03" + encode(value, 3), timestamp_ms=TIME_MS)


def framed(cls: type[Message], version: int, message: Message) -> bytes:
    """A record behind frame version, type and version."""
    return write_uvarint(1) + write_uvarint(cls.API_KEY) + write_uvarint(version) + encode(message, version)


def framed_records(module: Any, leave_out: Iterable[str] = ()) -> Iterator[Record]:
    """All record types of a module, with all in them and with nothing, in all versions; and what cannot be read."""
    for cls in _classes(module, MetadataRecord):
        first, last = cls.VALID_VERSIONS
        for version in range(first, last + 1) if cls.__name__ not in leave_out else ():
            yield Record(value=framed(cls, version, filled(cls, version)), timestamp_ms=TIME_MS)
            if module is not remote_log_records:
                yield Record(value=framed(cls, version, cls()), timestamp_ms=TIME_MS)
    if module is remote_log_records:
        for remote in _classes(module, MetadataRecord):
            message: Any = filled(remote, 0)
            for name in ("remote_log_segment_state", "remote_partition_delete_state"):
                if hasattr(message, name):
                    setattr(message, name, 77)
            yield Record(value=framed(remote, 0, message), timestamp_ms=TIME_MS)
    for value in (b"\x00\x02\x00", b"\x07\x02\x00", b"\x01\x63\x00", b"\x01\x02\x00\x01"):
        yield Record(value=value, timestamp_ms=TIME_MS)


def plain_batches() -> bytes:
    """Batches of an application: all codecs, headers, keys and values or none, transactions, gaps in offsets."""
    records = [
        Record(key=b"k", value=b"v", timestamp_ms=TIME_MS),
        Record(key=None, value="grüße".encode(), timestamp_ms=TIME_MS + 1, headers=(("a", b"1"), ("b", None))),
        Record(key=b"k", value=None, timestamp_ms=TIME_MS + 2),
        Record(key=b"\x00\x00\x00\x07", value=b"\x00\x00\x00\x00\x00\x00\x00\x09", timestamp_ms=TIME_MS),
    ]
    log = bytearray()
    offset = 0
    for codec in Codec:
        log += build_batch(records, base_offset=offset, compression=codec, leader_epoch=3)
        offset += len(records) + 1
    log += build_batch(records, base_offset=offset, log_append_time_ms=TIME_MS + 9)
    offset += len(records)
    producer = {"producer_id": 7, "producer_epoch": 2}
    log += build_batch(records, base_offset=offset, base_sequence=2147483646, transactional=True, **producer)
    offset += len(records)
    for is_commit in (True, False):
        log += end_transaction_marker(
            is_commit=is_commit, coordinator_epoch=5, timestamp_ms=TIME_MS, base_offset=offset, **producer
        )
        offset += 1
    return bytes(log)


def raft_batches() -> bytes:
    """A control batch with each kind of record of the metadata quorum."""
    kinds = (
        raft_data.LeaderChangeMessage,
        raft_data.SnapshotHeaderRecord,
        raft_data.SnapshotFooterRecord,
        raft_data.KRaftVersionRecord,
        raft_data.VotersRecord,
    )
    messages = []
    for cls in kinds:
        message: Any = filled(cls, 0)
        message.version = 0  # Kafka's tool cannot read the only later one, a LeaderChangeMessage of version 1
        messages.append(message)
    return bytes(control_batch(messages, timestamp_ms=TIME_MS, leader_epoch=1))


def legacy_batches() -> bytes:
    """Messages of the formats before 0.11, plain and compressed."""
    log = b""
    for magic in (0, 1):
        log += legacy(magic, len(log) // 40, b"key", b"value") + legacy(magic, 9, None, b"value")
        inner = legacy(magic, 0, b"a", b"1") + legacy(magic, 1, b"b", None)
        compressor = zlib.compressobj(wbits=31)
        log += legacy(magic, 11, None, compressor.compress(inner) + compressor.flush(), attributes=1)
    return log


def legacy(magic: int, offset: int, key: bytes | None, value: bytes | None, attributes: int = 0) -> bytes:
    """A message of magic 0 or 1."""
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", TIME_MS) if magic else b"")
    for content in (key, value):
        body += struct.pack(">i", -1 if content is None else len(content)) + (content or b"")
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body


def batch_of(records: Iterable[Record]) -> bytes:
    """One batch."""
    return bytes(build_batch(list(records)))


def write_all(directory: Path) -> None:
    """All samples, each a log of its own directory (its name has to be its first offset)."""
    group_records = [
        *coordinator_records(
            "share_records", "group_records", "streams_records", types=[*range(9), *range(10, 18), *range(19, 24)]
        ),
        consumer_group_record(),
        consumer_group_record("connect"),
    ]
    logs = {
        "plain": plain_batches(),
        "raft": raft_batches(),
        "legacy": legacy_batches(),
        "groups": batch_of(group_records),
        "transactions": batch_of(coordinator_records("transaction_records")),
        "share": batch_of(coordinator_records("share_records", types=(0, 1))),
        # UnregisterControllerRecord is not in every Kafka that this is compared with.
        "metadata": batch_of(framed_records(metadata_records, leave_out=("UnregisterControllerRecord",))),
        "remote": batch_of(framed_records(remote_log_records)),
        "no-keys": batch_of([Record(value=b"x", timestamp_ms=TIME_MS)]),
        "empty": b"",
        "torn": plain_batches()[:-20],
        "wrong-crc": plain_batches()[:100] + b"?" + plain_batches()[101:],
        "zeros": plain_batches() + bytes(200),
    }
    for name, data in logs.items():
        (directory / name).mkdir(exist_ok=True)
        (directory / name / f"{BASE_NAME}.log").write_bytes(data)
    snapshot = directory / "raft" / "00000000000000000042-0000000003.checkpoint"
    snapshot.write_bytes(raft_batches() + batch_of(framed_records(metadata_records, ("UnregisterControllerRecord",))))
    (directory / "raft" / "bootstrap.checkpoint").write_bytes(raft_batches())
    _write_indexes(directory / "plain")


def _write_indexes(directory: Path) -> None:
    """Indexes that are right, and some that are not; a snapshot of producers, aborted transactions."""
    from ottla.records.batch import batches
    from ottla.server.log.producer_snapshot import SnapshotEntry, encode_snapshot

    log = (directory / f"{BASE_NAME}.log").read_bytes()
    found = list(batches(log))
    offsets = b"".join(struct.pack(">ii", header.last_offset, position) for position, header in found[1:])
    times = b"".join(struct.pack(">qi", header.max_timestamp, header.last_offset) for _, header in found[1:2])
    (directory / f"{BASE_NAME}.index").write_bytes(offsets)
    (directory / f"{BASE_NAME}.timeindex").write_bytes(times)
    entries = [
        SnapshotEntry(7, 2, 5, 30, 3, TIME_MS, 5, -1),
        SnapshotEntry(8, 0, -1, -1, 0, TIME_MS, -1, 12),
        SnapshotEntry(9, 0, 1, 40, 3, TIME_MS, -1, -1),
    ]
    (directory / f"{BASE_NAME}.snapshot").write_bytes(encode_snapshot(entries))
    (directory / "00000000000000000001.snapshot").write_bytes(b"nonsense that is no snapshot")
    (directory / f"{BASE_NAME}.txnindex").write_bytes(struct.pack(">hqqqq", 0, 7, 30, 40, 41) * 2 + b"torn")
    (directory / f"{BASE_NAME}.unknown").write_bytes(b"")
    (directory / "noextension").write_bytes(b"")
    for name, index, time_index in (
        (
            "wrong",
            struct.pack(">iiii", 8, 0, 9, found[1][0]),
            struct.pack(">qiqiqi", TIME_MS, 8, TIME_MS - 5, 13, TIME_MS, 14),
        ),
        ("zero", offsets + bytes(80), times + bytes(120)),
        ("uneven", offsets + b"123", times + b"12345"),
        ("none", b"", b""),
        ("down", struct.pack(">ii", -5, 0), struct.pack(">qiqi", TIME_MS, 9, TIME_MS - 5, -14)),
    ):
        other = directory.parent / f"index-{name}"
        other.mkdir(exist_ok=True)
        (other / f"{BASE_NAME}.log").write_bytes(log)
        (other / f"{BASE_NAME}.index").write_bytes(index)
        (other / f"{BASE_NAME}.timeindex").write_bytes(time_index)

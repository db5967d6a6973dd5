"""`kafka-dump-log`: what is in the files of a log, read from disk without a broker."""

from __future__ import annotations

import os
import re
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from struct import pack

from ottla.cli.kafka import log_decoders
from ottla.cli.kafka.common import ToolError, ToolParser
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.jopt import INTEGER
from ottla.cli.kafka.log_decoders import Decoder
from ottla.cli.kafka.log_files import (
    NO_TIMESTAMP,
    LogSlice,
    OffsetIndexFile,
    TimeIndexFile,
    aborted_transactions,
)
from ottla.cli.kafka.message_json import compact_json, message_json
from ottla.core.checksum import crc32c
from ottla.records.batch import BatchHeader, CorruptRecordError, crc_matches
from ottla.records.compression import Codec
from ottla.records.control import ControlType, control_type, read_control_message, read_end_transaction_marker
from ottla.records.record import Record, read_batch_records

_WHOLE = 0x7FFFFFFF
_INDENT = "|"
_CONTROL_NAMES = {
    ControlType.LEADER_CHANGE: " LeaderChange: ",
    ControlType.SNAPSHOT_HEADER: " SnapshotHeader ",
    ControlType.SNAPSHOT_FOOTER: " SnapshotFooter ",
    ControlType.KRAFT_VERSION: " KRaftVersion ",
    ControlType.KRAFT_VOTERS: " KRaftVoters ",
}


class Dump:
    """Prints files, and collects what is wrong with them for the end. `decoder` None: no contents."""

    def __init__(
        self,
        *,
        decoder: Decoder | None = None,
        deep: bool = False,
        skip_record_metadata: bool = False,
        max_bytes: int = _WHOLE,
        max_message_size: int = 5 * 1024 * 1024,
        index_sanity_only: bool = False,
        verify_only: bool = False,
    ) -> None:
        self._decoder = decoder
        self._deep = deep
        self._skip_record_metadata = skip_record_metadata
        self._max_bytes = max_bytes
        self._max_message_size = max_message_size
        self._index_sanity_only = index_sanity_only
        self._verify_only = verify_only
        self._index_mismatches: dict[str, dict[int, int]] = {}
        self._time_mismatches: dict[str, list[tuple[int, int]]] = {}
        self._out_of_order: dict[str, list[tuple[int, int]]] = {}
        self._not_found: dict[str, list[tuple[int, int]]] = {}
        self._gaps: dict[str, dict[int, int]] = {}

    def file(self, path: str) -> None:
        """Print one file, by what its name ends in. Raises `ToolError`."""
        name = os.path.basename(path)
        kinds: dict[str, Callable[[str], None]] = {
            ".log": self._log,
            ".checkpoint": self._log,
            ".index": self._offset_index,
            ".timeindex": self._time_index,
            ".snapshot": _producer_snapshot,
            ".txnindex": _transaction_index,
        }
        kind = kinds.get(name[name.rfind(".") :]) if "." in name else None
        if kind is None:
            print(f"Ignoring unknown file {path}", file=sys.stderr)
            return
        try:
            kind(path)
        except CorruptRecordError as error:
            raise ToolError(str(error), "org.apache.kafka.common.InvalidRecordException") from None

    def report(self) -> None:
        """What was wrong, on standard error."""
        _report("Mismatches in :", "  Index offset: {}, log offset: {}", _pairs(self._index_mismatches, reverse=True))
        _report("Found timestamp mismatch in :", "  Index timestamp: {}, log timestamp: {}", self._time_mismatches)
        _report(
            "Found out of order timestamp in :",
            "  Index timestamp: {}, Previously indexed timestamp: {}",
            self._out_of_order,
        )
        _report(
            "The following indexed offsets are not found in :",
            "Indexed offset: {}, found log offset: {}",
            self._not_found,
        )
        _report("Non-consecutive offsets in ", "  {} is followed by {}", _pairs(self._gaps))

    # Batches and records

    def _log(self, path: str) -> None:
        name = os.path.basename(path)
        if name.endswith(".log"):
            print(f"Log starting offset: {_base_offset(path)}")
        elif name == "bootstrap.checkpoint":
            print("KRaft bootstrap snapshot")
        else:
            snapshot = re.fullmatch(r"(\d{20})-(\d{10})\.checkpoint", name)
            if snapshot is None:
                raise ToolError("No value present", "java.util.NoSuchElementException")
            print(f"Snapshot end offset: {int(snapshot[1])}, epoch: {int(snapshot[2])}")
        log = LogSlice(path, 0, self._max_bytes)
        valid_bytes = 0
        last_offset = -1
        for position, header in log.batches():
            print(_batch_line(log, position, header))
            if self._deep:
                last_offset = self._records(log, position, header, last_offset)
            valid_bytes += header.size_in_bytes
        trailing = log.end - valid_bytes
        if trailing > 0 and self._max_bytes == _WHOLE:
            print(f"Found {trailing} invalid bytes at the end of {name}")

    def _records(self, log: LogSlice, position: int, header: BatchHeader, last_offset: int) -> int:
        for record in read_batch_records(log.data, position, header):
            if record.offset != last_offset + 1:
                self._gaps.setdefault(os.path.abspath(log.path), {})[last_offset] = record.offset
            last_offset = record.offset
            if not self._skip_record_metadata:
                print(_record_text(header, record), end="")
            if self._decoder is not None and not header.is_control:
                # A decoder may give up: what is known of the record is printed by then.
                key, value = self._decoder(record)
                texts = [] if key is None else [f"key: {key}"]
                texts += [] if value is None else [f"payload: {value}"]
                if texts:
                    print(f"{_INDENT if self._skip_record_metadata else ''} {' '.join(texts)}", end="")
            print()
        return last_offset

    # Indexes

    def _offset_index(self, path: str) -> None:
        base_offset = _base_offset(path)
        log = LogSlice(_sibling(path, ".log"))
        index = OffsetIndexFile(path, base_offset)
        if not index.entries:
            print(f"{path} is empty.")
            return
        if self._index_sanity_only:
            index.check()
            print(f"{path} passed sanity check.")
            return
        for entry in index.used():
            for _, header in log.slice(entry.position, self._max_message_size).batches():
                if header.last_offset != entry.offset:
                    found = self._index_mismatches.setdefault(os.path.abspath(path), {})
                    found[entry.offset] = header.last_offset
                break
            else:
                raise ToolError("", "java.util.NoSuchElementException")
            if not self._verify_only:
                print(f"offset: {entry.offset} position: {entry.position}")

    def _time_index(self, path: str) -> None:
        base_offset = _base_offset(path)
        log = LogSlice(_sibling(path, ".log"))
        offsets = OffsetIndexFile(_sibling(path, ".index"), base_offset)
        index = TimeIndexFile(path, base_offset)
        if self._index_sanity_only:
            index.check()
            print(f"{path} passed sanity check.")
            return
        name = os.path.abspath(path)
        previous = NO_TIMESTAMP
        for offset, timestamp in index.used():
            self._check_time(log, name, offsets.position_of(offset), offset, timestamp, previous)
            if not self._verify_only:
                print(f"timestamp: {timestamp} offset: {offset}")
            previous = timestamp

    def _check_time(self, log: LogSlice, name: str, position: int, offset: int, timestamp: int, previous: int) -> None:
        """The batch that an entry of the time index speaks of ends at its offset, and has its timestamp."""
        found = next((one for one in log.slice(position).batches() if one[1].last_offset >= offset), None)
        if found is None or found[1].last_offset != offset:
            self._not_found.setdefault(name, []).append((offset, -1 if found is None else found[1].last_offset))
            return
        start, header = found
        times = [record.timestamp_ms for record in read_batch_records(log.data, start, header)]
        largest = max(times, default=NO_TIMESTAMP)
        if largest != timestamp:
            self._time_mismatches.setdefault(name, []).append((timestamp, largest))
        if previous >= timestamp:
            self._out_of_order.setdefault(name, []).append((timestamp, previous))


def _batch_line(log: LogSlice, position: int, header: BatchHeader) -> str:
    if header.magic >= 2:
        horizon = header.delete_horizon_ms
        start = (
            f"baseOffset: {header.base_offset} lastOffset: {header.last_offset} count: {header.records_count} "
            f"baseSequence: {header.base_sequence} lastSequence: {header.last_sequence} "
            f"producerId: {header.producer_id} producerEpoch: {header.producer_epoch} "
            f"partitionLeaderEpoch: {header.partition_leader_epoch} "
            f"isTransactional: {_truth(header.is_transactional)} isControl: {_truth(header.is_control)} "
            f"deleteHorizonMs: {'OptionalLong.empty' if horizon is None else f'OptionalLong[{horizon}]'}"
        )
    else:
        start = f"offset: {header.last_offset}"
    return (
        f"{start} position: {position} {_timestamp_type(header)}: {header.max_timestamp} "
        f"size: {header.size_in_bytes} magic: {header.magic} compresscodec: {_codec_name(header)} crc: {header.crc} "
        f"isvalid: {_truth(crc_matches(log.data, position, header))}"
    )


def _record_text(header: BatchHeader, record: Record) -> str:
    text = (
        f"{_INDENT} offset: {record.offset} {_timestamp_type(header)}: {record.timestamp_ms} "
        f"keySize: {_size(record.key)} valueSize: {_size(record.value)}"
    )
    if header.magic < 2:
        return f"{text} isValid: true crc: {_legacy_crc(header, record)}"
    sequence = header.base_sequence
    if sequence >= 0:
        sequence = (sequence + record.offset - header.base_offset) & 0x7FFFFFFF
    text += f" sequence: {sequence} headerKeys: [{','.join(name for name, _ in record.headers)}]"
    return text + _control_text(record) if header.is_control else text


def _control_text(record: Record) -> str:
    kind = control_type(record)
    if kind is None:
        return f" controlType: UNKNOWN({int.from_bytes((record.key or b'')[2:4], 'big', signed=True)})"
    marker = read_end_transaction_marker(record)
    if marker is not None:
        return f" endTxnMarker: {kind.name} coordinatorEpoch: {marker.coordinator_epoch}"
    message = read_control_message(record)
    assert message is not None  # the other kinds all have one
    return f"{_CONTROL_NAMES[kind]}{compact_json(message_json(message, message.version))}"


def _legacy_crc(header: BatchHeader, record: Record) -> int:
    """The checksum of a message of magic 0 or 1; what was in a compressed one had one of its own."""
    if header.compression == Codec.NONE:
        return header.crc
    data = pack(">bb", header.magic, 0)
    if header.magic == 1:
        data += pack(">q", record.timestamp_ms)
    for content in (record.key, record.value):
        data += pack(">i", _size(content)) + (content or b"")
    return zlib.crc32(data)


def _timestamp_type(header: BatchHeader) -> str:
    if header.magic == 0:
        return "NoTimestampType"
    return "LogAppendTime" if header.uses_log_append_time else "CreateTime"


def _codec_name(header: BatchHeader) -> str:
    try:
        return Codec(header.compression).name.lower()
    except ValueError:
        raise ToolError(f"Unknown compression type id: {header.compression}") from None


def _size(content: bytes | None) -> int:
    return -1 if content is None else len(content)


def _truth(value: bool) -> str:
    return "true" if value else "false"


# Other files


def _producer_snapshot(path: str) -> None:
    from ottla.schema.definition import SettingError
    from ottla.server.log.errors import CorruptSnapshotError
    from ottla.server.log.producer_snapshot import decode_snapshot
    from ottla.server.security.encryption.offline import content

    try:
        data = bytes(content(path))
        entries = decode_snapshot(data)
    except FileNotFoundError:
        raise ToolError(path, "java.nio.file.NoSuchFileException") from None
    except SettingError as error:
        raise ToolError(str(error), "org.apache.kafka.common.config.ConfigException") from None
    except CorruptSnapshotError as error:
        print(_snapshot_problem(data, error), file=sys.stderr)
        return
    for entry in entries:
        line = (
            f"producerId: {entry.producer_id} producerEpoch: {entry.producer_epoch} "
            f"coordinatorEpoch: {entry.coordinator_epoch} "
            f"currentTxnFirstOffset: {_optional_long(entry.current_transaction_first_offset)} "
            f"lastTimestamp: {entry.timestamp_ms}"
        )
        if entry.last_offset >= 0:
            first = (entry.last_sequence - entry.offset_delta) & 0x7FFFFFFF
            line += (
                f" firstSequence: {first} lastSequence: {entry.last_sequence} lastOffset: {entry.last_offset} "
                f"offsetDelta: {entry.offset_delta} timestamp: {entry.timestamp_ms}"
            )
        print(line)


def _snapshot_problem(data: bytes, error: Exception) -> str:
    version = int.from_bytes(data[:2], "big", signed=True)
    if len(data) >= 2 and version != 1:
        return f"Snapshot failed schema validation: Snapshot contained an unknown file version {version}"
    stored, computed = int.from_bytes(data[2:6], "big"), crc32c(data[6:])
    if len(data) > 6 and stored != computed:
        return f"Snapshot is corrupt (CRC is no longer valid). Stored crc: {stored}. Computed crc: {computed}"
    return f"Snapshot failed schema validation: {error}"


def _optional_long(value: int) -> str:
    return f"OptionalLong[{value}]" if value >= 0 else "OptionalLong.empty"


def _transaction_index(path: str) -> None:
    for entry in aborted_transactions(path):
        print(
            f"version: {entry.version} producerId: {entry.producer_id} firstOffset: {entry.first_offset} "
            f"lastOffset: {entry.last_offset} lastStableOffset: {entry.last_stable_offset}"
        )


def _base_offset(path: str) -> int:
    name = os.path.basename(path).split(".")[0]
    with suppress(ValueError):
        if name.isascii() and "_" not in name:
            return int(name)
    raise ToolError(f'For input string: "{name}"', "java.lang.NumberFormatException")


def _sibling(path: str, suffix: str) -> str:
    directory = os.path.dirname(os.path.abspath(path))
    return os.path.join(directory, os.path.basename(path).split(".")[0] + suffix)


def _pairs(found: dict[str, dict[int, int]], *, reverse: bool = False) -> dict[str, list[tuple[int, int]]]:
    return {path: sorted(pairs.items(), reverse=reverse) for path, pairs in found.items()}


def _report(title: str, line: str, found: dict[str, list[tuple[int, int]]]) -> None:
    for path in hash_ordered(found):
        print(f"{title}{path}", file=sys.stderr)
        for pair in found[path]:
            print(line.format(*pair), file=sys.stderr)


# The command line


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    parser = ToolParser()
    print_option = parser.accepts("print-data-log", "Print keys and values too. Any option about decoders includes it.")
    verify = parser.accepts("verify-index-only", "Check indexes against the log, and print only what is wrong.")
    sanity = parser.accepts("index-sanity-check", "Check of indexes only what a broker checks when it starts.")
    files = parser.accepts("files", "REQUIRED: The files, separated by commas.", described_as="file1, file2, ...")
    max_message_size = parser.accepts(
        "max-message-size",
        "How large a message may be.",
        type=INTEGER,
        described_as="size",
        defaults=[5 * 1024 * 1024],
    )
    max_bytes = parser.accepts(
        "max-bytes", "Read only this much of a log.", type=INTEGER, described_as="size", defaults=[_WHOLE]
    )
    deep = parser.accepts("deep-iteration", "Show records, not only batches. Printing contents includes it.")
    decoder_help = "How {} are shown: a decoder of org.apache.kafka.tools.api, or module:function in Python."
    value_decoder, key_decoder = (
        parser.accepts(
            f"{what}-decoder-class",
            decoder_help.format(f"{what}s"),
            takes="optional",
            defaults=["org.apache.kafka.tools.api.StringDecoder"],
        )
        for what in ("value", "key")
    )
    topics = {
        parser.accepts(f"{name}-decoder", f"The log is one of {topic}."): decoder
        for name, topic, decoder in (
            ("offsets", "__consumer_offsets", log_decoders.offsets_decoder),
            ("transaction-log", "__transaction_state", log_decoders.transaction_log_decoder),
            ("cluster-metadata", "__cluster_metadata", log_decoders.cluster_metadata_decoder),
            ("remote-log-metadata", "__remote_log_metadata", log_decoders.remote_log_metadata_decoder),
            ("share-group-state", "__share_group_state", log_decoders.share_group_state_decoder),
        )
    }
    skip = parser.accepts("skip-record-metadata", "Show only the contents of records, and nothing of control records.")
    options = parser.parse(arguments)
    parser.help_or_version(
        arguments,
        options,
        "This tool helps to parse a log file and dump its contents to the console, useful for debugging a seemingly "
        "corrupt log segment.",
    )
    parser.require(options, files)
    paths = [re.sub("/+", "/", name).rstrip("/") or name for name in options.value(files).split(",")]
    print(f"Dumping {paths[0]}")  # before the other options are looked at, which may be wrong
    contents = options.has_any([print_option, value_decoder, key_decoder, *topics])
    decoder = None
    if contents:
        chosen = next((make for option, make in topics.items() if options.has(option)), None)
        decoder = (
            chosen() if chosen else log_decoders.plain_decoder(options.value(key_decoder), options.value(value_decoder))
        )
    dump = Dump(
        decoder=decoder,
        deep=contents or options.has(deep),
        skip_record_metadata=options.has(skip),
        max_bytes=options.value(max_bytes),
        max_message_size=options.value(max_message_size),
        index_sanity_only=options.has(sanity),
        verify_only=options.has(verify),
    )
    for number, path in enumerate(paths):
        if number:
            print(f"Dumping {path}")
        dump.file(path)
    dump.report()
    return 0

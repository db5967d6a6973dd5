"""Metadata records as they stand in the log: `uvarint frame version · uvarint api key · uvarint version · body`.

The frame version is 1; key and version of today's records are below 128, so a frame starts with three bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ottla.core.binary import Buffer, read_uvarint, write_uvarint
from ottla.protocol.codec import Decoder, Encoder, ProtocolError, decoder, encoder
from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata.delta import (
    MetadataError,
    PackedChange,
    PackedPartition,
    PartitionChange,
    partition_image,
)
from ottla.server.metadata.image import METADATA_VERSION

FRAME_VERSION: Final = 1

RECORD_TYPES: Final[Mapping[int, type[Any]]] = {
    record_type.API_KEY: record_type
    for record_type in (
        messages.RegisterBrokerRecord,
        messages.UnregisterBrokerRecord,
        messages.TopicRecord,
        messages.PartitionRecord,
        messages.ConfigRecord,
        messages.PartitionChangeRecord,
        messages.FenceBrokerRecord,
        messages.UnfenceBrokerRecord,
        messages.RemoveTopicRecord,
        messages.DelegationTokenRecord,
        messages.UserScramCredentialRecord,
        messages.FeatureLevelRecord,
        messages.ClientQuotaRecord,
        messages.ProducerIdsRecord,
        messages.BrokerRegistrationChangeRecord,
        messages.AccessControlEntryRecord,
        messages.RemoveAccessControlEntryRecord,
        messages.NoOpRecord,
        messages.ZkMigrationStateRecord,
        messages.RemoveUserScramCredentialRecord,
        messages.BeginTransactionRecord,
        messages.EndTransactionRecord,
        messages.AbortTransactionRecord,
        messages.RemoveDelegationTokenRecord,
        messages.RegisterControllerRecord,
        messages.UnregisterControllerRecord,
        messages.ClearElrRecord,
    )
}
"""Every metadata record of Apache Kafka 4.4, by api key."""

# Levels of metadata.version from which a newer version of a record may be written.
_DIRECTORIES: Final = 17  # 3.7-IV2, KIP-858
_MIGRATION: Final = 8  # 3.4-IV0, KIP-866
_ELIGIBLE: Final = 23  # 4.0-IV1, KIP-966
_CORDONED: Final = 30  # 4.3-IV0, KIP-1066


class RecordWriter:
    """Frames records in the newest versions that the cluster's finalized features allow everybody to read."""

    __slots__ = ("_encoders", "features")

    def __init__(self, features: Mapping[str, int]) -> None:
        self.features = features
        self._encoders: dict[type[Any], tuple[bytes, Encoder[Any]]] = {}

    def frame(self, record: Any) -> bytes:
        """One framed record. Raises UnsupportedVersionError when a set field has no place in the allowed version."""
        kind = type(record)
        found = self._encoders.get(kind)
        if found is None:
            version = write_version(kind, self.features)
            prefix = b"".join(map(write_uvarint, (FRAME_VERSION, kind.API_KEY, version)))
            found = self._encoders[kind] = (prefix, encoder(kind, version))
        parts: list[Buffer] = [found[0]]
        found[1](record, parts)
        return b"".join(parts)


def write_version(record_type: type[Any], features: Mapping[str, int]) -> int:
    """The version to write a record in, by the finalized features of the cluster."""
    level = features.get(METADATA_VERSION, 0)
    if record_type is messages.RegisterBrokerRecord:
        return 4 if level >= _CORDONED else 3 if level >= _DIRECTORIES else 2 if level >= _MIGRATION else 1
    if record_type is messages.BrokerRegistrationChangeRecord:
        return 3 if level >= _CORDONED else 2 if level >= _DIRECTORIES else 1
    if record_type is messages.PartitionRecord or record_type is messages.PartitionChangeRecord:
        return 2 if level >= _ELIGIBLE else 1 if level >= _DIRECTORIES else 0
    return 0


_decoders: dict[bytes, tuple[Decoder[Any], int]] = {}
"""By the first three bytes of a frame (one byte each for frame version, key and version)."""


def read_frame(value: bytes) -> Any:
    """Decode one framed record; raises MetadataError for bytes that are none, or of a type we do not know."""
    try:
        found = _decoders.get(value[:3])
        if found is None:
            found = _frame_decoder(value)
        record, end = found[0](value, found[1], len(value))
    except (IndexError, ValueError, ProtocolError) as error:
        raise MetadataError(f"a metadata record is damaged: {error}") from error
    if end != len(value):
        raise MetadataError(f"a metadata record is damaged: {len(value) - end} bytes too many")
    return record


def read_for_replay(value: bytes) -> Any:
    """As `read_frame`, but a record of a partition comes as what a delta makes of it.

    After the partition's index and topic id nearly all such records are the same as one that was read before.
    """
    kind = value[1:2]
    if kind != _PARTITION and kind != _PARTITION_CHANGE:
        return read_frame(value)
    rest = value[:3] + value[_AFTER_TOPIC_ID:]
    known: Any = _rests.get(rest)
    if known is None:
        record = read_frame(value)
        if len(_rests) > _MOST_RESTS:
            _rests.clear()
        known = partition_image(record) if kind == _PARTITION else PartitionChange(record)
        _rests[rest] = known
    topic_id, partition_id = value[7:_AFTER_TOPIC_ID], int.from_bytes(value[3:7], "big", signed=True)
    if kind == _PARTITION:
        return PackedPartition(topic_id, partition_id, known)
    return PackedChange(topic_id, partition_id, known)


_PARTITION: Final = bytes([messages.PartitionRecord.API_KEY])
_PARTITION_CHANGE: Final = bytes([messages.PartitionChangeRecord.API_KEY])
_AFTER_TOPIC_ID: Final = 3 + 4 + 16
"""Where the rest begins behind version and kind, partition index and topic id; the same in all versions of both."""

_MOST_RESTS: Final = 65_536
_rests: dict[bytes, Any] = {}


def _frame_decoder(value: bytes) -> tuple[Decoder[Any], int]:
    frame_version, position = read_uvarint(value, 0)
    api_key, position = read_uvarint(value, position)
    version, position = read_uvarint(value, position)
    if frame_version != FRAME_VERSION:
        raise MetadataError(f"a metadata record has frame version {frame_version}, we know {FRAME_VERSION}")
    record_type = RECORD_TYPES.get(api_key)
    if record_type is None or not 0 <= version <= record_type.VALID_VERSIONS[1]:
        raise MetadataError(f"a metadata record of type {api_key} version {version} is unknown to this program")
    found: tuple[Decoder[Any], int] = (decoder(record_type, version), position)
    if position == 3:
        _decoders[value[:3]] = found
    return found

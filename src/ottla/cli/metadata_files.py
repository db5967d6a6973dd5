"""The metadata log and its snapshots as files, read without the node and without changing anything."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ottla.cli.errors import CommandError
from ottla.cli.kafka.message_json import message_json
from ottla.cli.profiles import HIDDEN, is_secret
from ottla.cli.secret_fields import without_secrets
from ottla.core.binary import read_uvarint
from ottla.core.ids import uuid_to_text
from ottla.protocol.message import Message
from ottla.records.batch import CorruptRecordError, batches, crc_matches
from ottla.records.control import read_control_message
from ottla.records.record import Record, read_batch_records
from ottla.schema.definition import SettingError
from ottla.server.metadata.delta import MetadataError
from ottla.server.metadata.image import EMPTY_IMAGE, BrokerImage, MetadataImage, PartitionImage
from ottla.server.metadata.loader import RecordLoader
from ottla.server.metadata.records import RECORD_TYPES, read_frame
from ottla.server.security.encryption.offline import content as read_file

DIRECTORY = "__cluster_metadata-0"

_RESOURCES = {2: "topic", 4: "broker", 8: "logger", 16: "client-metrics", 32: "group"}
_MECHANISMS = {1: "SCRAM-SHA-256", 2: "SCRAM-SHA-512"}


class Entry(NamedTuple):
    """A record with its place in the log."""

    offset: int
    epoch: int
    timestamp_ms: int
    message: Message
    version: int
    is_control: bool

    @property
    def type(self) -> str:
        """The record's name, `TopicRecord`."""
        return type(self.message).__name__

    def fields(self) -> dict[str, Any]:
        """What the record says, by Kafka's names of fields; secrets are hidden."""
        return without_secrets(self.type, message_json(self.message, self.version), HIDDEN)


def record_types() -> list[str]:
    """Names of all records that a metadata log may have, but for control records."""
    return sorted(kind.__name__ for kind in RECORD_TYPES.values())


class MetadataFiles:
    """The files of one node's metadata log; `path` is its directory, or the data directory around it."""

    def __init__(self, path: str) -> None:
        inner = os.path.join(path, DIRECTORY)
        self.directory = inner if os.path.isdir(inner) else path
        try:
            self._names = sorted(os.listdir(self.directory))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CommandError(f"cannot read {path}: {reason}; name the data directory of a node") from None
        if not any(name.endswith((".log", ".checkpoint")) for name in self._names) or "meta.properties" in self._names:
            raise CommandError(f"{path} has no metadata log; name the data directory of a node (metadata.log.dir)")

    def log(self) -> Iterator[Entry]:
        """The records of all segments. Raises `CommandError` where the log is damaged."""
        for name in self._names:
            if name.endswith(".log"):
                yield from self._entries(name)

    def snapshot(self) -> Iterator[Entry]:
        """The records of the newest snapshot; nothing when there is none."""
        snapshots = [name for name in self._names if name.endswith(".checkpoint") and name[:20].isdigit()]
        if snapshots:
            yield from self._entries(snapshots[-1])

    def image(self) -> MetadataImage:
        """What snapshot and log amount to. Raises `CommandError`."""
        loader = RecordLoader(EMPTY_IMAGE)
        snapshots = [name for name in self._names if name.endswith(".checkpoint") and name[:20].isdigit()]
        covered = int(snapshots[-1][:20]) if snapshots else 0
        try:
            for entry in self.snapshot():
                if not entry.is_control:
                    loader.add([entry.message], covered - 1, entry.epoch, entry.timestamp_ms)
            for entry in self.log():
                if entry.offset >= covered:
                    records = [] if entry.is_control else [entry.message]
                    loader.add(records, entry.offset, entry.epoch, entry.timestamp_ms)
            return loader.take()[1]
        except MetadataError as error:
            raise CommandError(f"{self.directory} is damaged: {error}") from None

    def picture(self) -> dict[str, Any]:
        """The image as dictionaries by name, secrets left out: what `ottla metadata show` walks through."""
        image = self.image()
        return {
            "offset": image.offset,
            "epoch": image.epoch,
            "features": dict(image.features),
            "brokers": {str(broker_id): _broker(one) for broker_id, one in image.brokers.items()},
            "controllers": {
                str(node_id): {"endpoints": _endpoints(one.endpoints.values())}
                for node_id, one in image.controllers.items()
            },
            "topics": {
                name: {
                    "id": uuid_to_text(topic.topic_id),
                    "partitions": {str(number): _partition(one) for number, one in topic.partitions.items()},
                }
                for name, topic in sorted(image.topics.by_name.items())
            },
            "configs": {
                f"{_RESOURCES.get(kind, str(kind))}{':' if name else ''}{name}": {
                    setting: HIDDEN if is_secret(setting) else value for setting, value in sorted(settings.items())
                }
                for (kind, name), settings in image.configs.items()
            },
            "quotas": {
                ",".join(f"{kind}={'(default)' if name is None else name}" for kind, name in entity): dict(quotas)
                for entity, quotas in image.client_quotas.items()
            },
            "acls": {uuid_to_text(key): acl for key, acl in image.acls.items()},
            "users": {
                f"{user}:{_MECHANISMS.get(mechanism, mechanism)}": {"iterations": one.iterations}
                for (mechanism, user), one in image.scram.items()
            },
            "delegation_tokens": {token: one._asdict() for token, one in image.delegation_tokens.items()},
            "next_producer_id": image.producer_ids.next_producer_id,
        }

    def _entries(self, name: str) -> Iterator[Entry]:
        path = os.path.join(self.directory, name)
        try:
            content = read_file(path)
        except SettingError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
        try:
            for position, header in batches(content):
                if not crc_matches(content, position, header):
                    raise CorruptRecordError(f"wrong CRC at offset {header.base_offset}")
                for record in read_batch_records(content, position, header):
                    found = _control(record) if header.is_control else _data(record)
                    if found is not None:
                        epoch = header.partition_leader_epoch
                        yield Entry(record.offset, epoch, record.timestamp_ms, *found, header.is_control)
        except (CorruptRecordError, MetadataError) as error:
            raise CommandError(f"{path} is damaged: {error}") from None


def _data(record: Record) -> tuple[Message, int] | None:
    if record.value is None:
        return None
    position = 0
    for _ in range(2):  # the version of the frame, and the kind of record
        _, position = read_uvarint(record.value, position)
    version, _ = read_uvarint(record.value, position)
    return read_frame(record.value), version


def _control(record: Record) -> tuple[Message, int] | None:
    message = read_control_message(record)
    return None if message is None else (message, 0)


def _broker(broker: BrokerImage) -> dict[str, Any]:
    return {
        "endpoints": _endpoints(broker.endpoints.values()),
        "rack": broker.rack,
        "fenced": broker.fenced,
        "epoch": broker.broker_epoch,
        "in_controlled_shutdown": broker.in_controlled_shutdown,
        "log_dirs": [uuid_to_text(directory) for directory in broker.log_dirs],
    }


def _endpoints(endpoints: Iterable[Any]) -> list[str]:
    return [f"{one.name}://{one.host}:{one.port}" for one in endpoints]


def _partition(partition: PartitionImage) -> dict[str, Any]:
    found: dict[str, Any] = {
        "leader": None if partition.leader < 0 else partition.leader,
        "leader_epoch": partition.leader_epoch,
        "replicas": list(partition.replicas),
        "in_sync_replicas": list(partition.isr),
    }
    for name in ("adding_replicas", "removing_replicas", "eligible_leader_replicas", "last_known_elr"):
        if replicas := getattr(partition, name):
            found[name] = list(replicas)
    return found

"""What `kafka-storage format` does: which features a cluster begins with, and what goes into each directory.

The checkpoints are written by the very code that formats a directory on the first start of a broker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.feature_versions import (
    FEATURES,
    KRAFT_VERSION,
    LATEST_LEVEL,
    LATEST_PRODUCTION,
    METADATA_VERSION,
    METADATA_VERSIONS,
    SCRAM_LEVEL,
    default_level,
)
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.scram_arguments import ScramArgumentError, ScramCredential, scram_credential
from ottla.core.ids import uuid_from_text, uuid_to_text

if TYPE_CHECKING:
    from ottla.runtime.disk import Disk
    from ottla.server.log.meta_properties import MetaProperties

META_PROPERTIES = "meta.properties"
_NOT_DYNAMIC = (
    " unless controller.quorum.voters is empty and one of the flags --standalone, --initial-controllers, or "
    "--no-initial-controllers is used. For dynamic controllers support, try using one of --standalone, "
    "--initial-controllers, or --no-initial-controllers and removing controller.quorum.voters."
)
_DYNAMIC = (
    "Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the flags --standalone, "
    "--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try removing the "
    "--feature flag for kraft.version."
)


class FormatError(Exception):
    """Formatting is refused; the text, which is Kafka's, is all that is printed."""


@dataclass(frozen=True)
class InitialVoter:
    """One of `--initial-controllers`."""

    node_id: int
    host: str
    port: int
    directory_id: bytes


@dataclass
class Format:
    """What to format, and with what."""

    node_id: int
    cluster_id: str
    directories: Iterable[str]
    metadata_log_directory: str
    controller_listener_name: str
    release_level: int | None = None
    features: dict[str, int] = field(default_factory=dict)
    unstable: bool = False
    ignore_formatted: bool = False
    scram: Iterable[str] = ()
    voters: tuple[InitialVoter, ...] = ()
    has_dynamic_quorum: bool = False

    def run(self, disk: Disk, say: Callable[[str], None]) -> None:
        """Do it. Raises `FormatError`, `ToolError` where Kafka's tool fails otherwise, and `DiskError`."""
        if self.node_id < 0:
            raise ToolError("You must specify a valid non-negative node ID.", "RuntimeException")
        level = self._level()
        levels = self._levels(level)
        credentials = self._credentials(level)
        formatted, broken, empty = self._look(disk)
        self._verify(formatted)
        if formatted and not self.ignore_formatted:
            first = hash_ordered(sorted(formatted))[0]
            raise FormatError(
                f"Log directory {first} is already formatted. Use --ignore-formatted to ignore this directory and "
                "format the others."
            )
        for directory in broken:
            say(f"I/O error trying to read log directory {directory}. Ignoring...")
        if broken and not empty and not formatted:
            raise FormatError("No available log directories to format.")
        if not empty:
            say("All of the log directories are already formatted.")
            return
        say(f"Bootstrap metadata: {_shown(level, levels, credentials)}")
        taken = {each.directory_id for each in formatted.values()}
        frames = _frames(levels, credentials)
        for directory in hash_ordered(sorted(empty)):
            self._write(disk, directory, METADATA_VERSIONS[level], frames, taken, say)

    def _level(self) -> int:
        level = self.features.get(METADATA_VERSION)
        if level is not None:
            if self.release_level is not None:
                raise FormatError("Use --release-version instead of --feature metadata.version=X to avoid ambiguity.")
            if level not in METADATA_VERSIONS:
                raise ToolError(
                    f"No MetadataVersion with feature level {level}. Valid feature levels are from "
                    f"{min(METADATA_VERSIONS)} to {LATEST_LEVEL}."
                )
        elif self.release_level is not None:
            level = self.release_level
        else:
            level = LATEST_LEVEL if self.unstable else LATEST_PRODUCTION
        if level > LATEST_PRODUCTION and not self.unstable:
            raise FormatError(f"metadata.version {METADATA_VERSIONS[level]} is not yet stable.")
        return level

    def _levels(self, metadata_version: int) -> dict[str, int]:
        """The level of every feature."""
        for name in sorted(self.features):
            if name != METADATA_VERSION and name not in FEATURES:
                raise FormatError(f"Unsupported feature: {name}. Supported features are: {', '.join(sorted(FEATURES))}")
        levels = {**self.features, METADATA_VERSION: metadata_version}
        for name in FEATURES:
            if name == KRAFT_VERSION:
                levels[name] = self._kraft_level(levels.get(name))
            else:
                levels.setdefault(name, default_level(name, metadata_version))
        for name, level in sorted(levels.items()):
            if name != METADATA_VERSION:
                _check_level(name, level, levels)
        return levels

    def _kraft_level(self, asked: int | None) -> int:
        if asked is None:
            return 1 if self.has_dynamic_quorum else 0
        if asked == 0 and self.has_dynamic_quorum:
            raise FormatError(_DYNAMIC)
        if asked != 0 and not self.has_dynamic_quorum:
            raise FormatError(f"Cannot set kraft.version to {asked}{_NOT_DYNAMIC}")
        return asked

    def _credentials(self, metadata_version: int) -> list[ScramCredential]:
        arguments = list(self.scram)
        if arguments and metadata_version < SCRAM_LEVEL:
            raise FormatError("SCRAM is only supported in metadata.version 3.5-IV2 or later.")
        try:
            return [scram_credential(argument) for argument in arguments]
        except ScramArgumentError as error:
            raise FormatError(str(error)) from None

    def _look(self, disk: Disk) -> tuple[dict[str, MetaProperties], list[str], list[str]]:
        """What is formatted, what cannot be read, and what is empty, each by directory."""
        from ottla.server.log.errors import LogError
        from ottla.server.log.meta_properties import read_meta_properties

        formatted, broken, empty = {}, [], []
        for directory in sorted(set(self.directories)):
            try:
                found = read_meta_properties(disk, f"{directory}/{META_PROPERTIES}")
            except (LogError, OSError):
                broken.append(directory)
                continue
            if found is None:
                empty.append(directory)
            else:
                formatted[directory] = found
        return formatted, broken, empty

    def _verify(self, formatted: Mapping[str, MetaProperties]) -> None:
        """That the directories which are formatted already belong to this node, and to one cluster."""
        seen: dict[bytes, str] = {}
        for directory, found in sorted(formatted.items()):
            path = f"{directory}/{META_PROPERTIES}"
            if found.cluster_id is not None and found.cluster_id != self.cluster_id:
                raise ToolError(
                    f"Invalid cluster.id in: {path}. Expected {self.cluster_id}, but read {found.cluster_id}",
                    "RuntimeException",
                )
            if found.node_id is not None and found.node_id != self.node_id:
                raise ToolError(
                    f"Stored node id {found.node_id} doesn't match previous node id {self.node_id} in {path}. If you "
                    "moved your data, make sure your configured node id matches. If you intend to create a new node, "
                    "you should remove all data in your data directories.",
                    "RuntimeException",
                )
            if found.directory_id is not None:
                other = seen.setdefault(found.directory_id, directory)
                if other != directory:
                    raise ToolError(
                        f"Duplicate directory ID Optional[{uuid_to_text(found.directory_id)}] found. It was the ID of "
                        f"{other}, but also of {directory}",
                        "RuntimeException",
                    )

    def _write(
        self,
        disk: Disk,
        directory: str,
        release: str,
        frames: list[bytes],
        taken: set[bytes | None],
        say: Callable[[str], None],
    ) -> None:
        from ottla.server.log.meta_properties import format_meta_properties
        from ottla.server.raft.formatting import format_directory, write_bootstrap
        from ottla.server.raft.voters import Voter

        own = next((voter for voter in self.voters if voter.node_id == self.node_id), None)
        is_metadata = directory == self.metadata_log_directory
        kind = "data directory"
        if is_metadata:
            kind = "metadata directory"
            if self.voters:
                kind = "dynamic metadata directory" if own is None else "dynamic metadata voter directory"
        say(f"Formatting {kind} {directory} with metadata.version {release}.")
        directory_id = own.directory_id if is_metadata and own is not None else random_id(taken)
        taken.add(directory_id)
        now_ms = time.time_ns() // 1_000_000
        disk.make_directories(directory)
        if is_metadata and self.voters:
            name = self.controller_listener_name
            voters = [Voter(each.node_id, each.directory_id, ((name, each.host, each.port),)) for each in self.voters]
            format_directory(disk, directory, voters, frames, now_ms)
        else:
            write_bootstrap(disk, directory, frames, now_ms)
        # Last, because it says that the directory is formatted.
        content = format_meta_properties(self.cluster_id, self.node_id, directory_id)
        disk.replace(os.path.join(directory, META_PROPERTIES), content)


def random_id(taken: Iterable[bytes | None] = ()) -> bytes:
    """An id that is none of `taken`, and whose text looks like no option."""
    while True:
        found = uuid4().bytes
        if found not in taken and not uuid_to_text(found).startswith("-"):
            return found


def parse_voters(text: str) -> tuple[InitialVoter, ...]:
    """`id@host:port:directory,…`; raises `ToolError` with Kafka's message."""
    voters = [_voter(each) for each in text.strip().split(",") if each]
    if not voters:
        raise ToolError("No voters given.")
    for number, voter in enumerate(voters):
        if any(voter.node_id == other.node_id for other in voters[:number]):
            raise ToolError(f"Node id {voter.node_id} was specified more than once.")
    return tuple(sorted(voters, key=lambda voter: voter.node_id))


def _voter(text: str) -> InitialVoter:
    text = text.strip()
    number, at, rest = text.partition("@")
    if not at:
        raise ToolError("No @ found in dynamic voter string.")
    if not number:
        raise ToolError("Invalid @ at beginning of dynamic voter string.")
    node_id = _int(number, "Failed to parse node id in dynamic voter string.")
    if node_id < 0:
        raise ToolError(f"Invalid negative node id {node_id} in dynamic voter string.")
    if not rest:
        raise ToolError("No hostname found after node id.")
    if rest.startswith("["):
        host, bracket, rest = rest[1:].partition("]")
        if not bracket:
            raise ToolError("Hostname began with left bracket, but no right bracket was found.")
    else:
        host, colon, rest = rest.partition(":")
        if not colon:
            raise ToolError("No colon following hostname could be found.")
        rest = f":{rest}"
    if not rest.startswith(":"):
        raise ToolError("Port section must start with a colon.")
    port_text, colon, directory = rest[1:].partition(":")
    if not colon:
        raise ToolError("No colon following port could be found.")
    port = _int(port_text, "Failed to parse port in dynamic voter string.")
    if not 0 <= port <= 65535:
        raise ToolError(f"Invalid port {port} in dynamic voter string.")
    try:
        directory_id = uuid_from_text(directory)
    except ValueError:
        raise ToolError("Failed to parse directory ID in dynamic voter string.") from None
    return InitialVoter(node_id, host, port, directory_id)


def _int(text: str, message: str) -> int:
    if not text.removeprefix("-").isdecimal():
        raise ToolError(message)
    return int(text)


def _check_level(name: str, level: int, levels: Mapping[str, int]) -> None:
    known = FEATURES[name]
    if not 0 <= level < len(known):
        raise ToolError(f"No feature:{name} with feature level {level}")
    for other, needed in known[level].dependencies.items():
        if levels.get(other, -1) < needed:
            raise ToolError(f"{name} could not be set to {level} because it depends on {other} level {needed}")


def _bootstrap_features(levels: Mapping[str, int]) -> dict[str, int]:
    """What becomes records: metadata.version first; kraft.version is kept by the quorum itself."""
    others = {name: level for name, level in sorted(levels.items()) if level > 0 and name != KRAFT_VERSION}
    return {METADATA_VERSION: others.pop(METADATA_VERSION), **others}


def _frames(levels: Mapping[str, int], credentials: Iterable[ScramCredential]) -> list[bytes]:
    from ottla.protocol.messages import metadata_records as messages
    from ottla.server.metadata.records import RecordWriter

    writer = RecordWriter(dict(levels))
    features = _bootstrap_features(levels)
    records = [messages.FeatureLevelRecord(name=name, feature_level=level) for name, level in features.items()]
    scram = [
        messages.UserScramCredentialRecord(
            name=each.name,
            mechanism=each.mechanism,
            salt=each.salt,
            stored_key=each.stored_key,
            server_key=each.server_key,
            iterations=each.iterations,
        )
        for each in credentials
    ]
    return [writer.frame(record) for record in (*records, *scram)]


def _shown(level: int, levels: Mapping[str, int], credentials: Iterable[ScramCredential]) -> str:
    records = [
        f"FeatureLevelRecord(name='{name}', featureLevel={number})"
        for name, number in _bootstrap_features(levels).items()
    ]
    records += [
        f"UserScramCredentialRecord(name='{each.name}', mechanism={each.mechanism}, salt={_signed(each.salt)}, "
        f"storedKey={_signed(each.stored_key)}, serverKey={_signed(each.server_key)}, iterations={each.iterations})"
        for each in credentials
    ]
    listed = ", ".join(f"ApiMessageAndVersion({record} at version 0)" for record in records)
    return f"BootstrapMetadata(records=[{listed}], metadataVersionLevel={level}, source=format command)"


def _signed(data: bytes) -> str:
    return str([each - 256 if each > 127 else each for each in data])

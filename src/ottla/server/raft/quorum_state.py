"""The `quorum-state` file: which epoch this replica has seen, whom it follows, for whom it voted.

JSON of QuorumStateData with the schema's version as `data_version`. Version 1 (KIP-853) keeps the voters in the log,
version 0 (a static quorum, `controller.quorum.voters`) names them here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ottla.core.ids import ZERO_UUID, uuid_from_text, uuid_to_text
from ottla.runtime.disk import Disk
from ottla.server.raft.metadata_log import MetadataLogError

FILE_NAME = "quorum-state"


@dataclass(frozen=True, slots=True)
class QuorumState:
    """`current_voters` is None with a dynamic quorum (data version 1)."""

    leader_id: int = -1
    leader_epoch: int = 0
    voted_id: int = -1
    voted_directory_id: bytes = ZERO_UUID
    current_voters: tuple[int, ...] | None = None
    cluster_id: str = ""


def encode_quorum_state(state: QuorumState) -> bytes:
    """The file's content."""
    fields: dict[str, Any]
    if state.current_voters is None:
        fields = {
            "leaderId": state.leader_id,
            "leaderEpoch": state.leader_epoch,
            "votedId": state.voted_id,
            "votedDirectoryId": uuid_to_text(state.voted_directory_id),
            "data_version": 1,
        }
    else:
        fields = {
            "clusterId": state.cluster_id,
            "leaderId": state.leader_id,
            "leaderEpoch": state.leader_epoch,
            "votedId": state.voted_id,
            "appliedOffset": 0,
            "currentVoters": [{"voterId": voter} for voter in state.current_voters],
            "data_version": 0,
        }
    return json.dumps(fields, separators=(",", ":")).encode()


def decode_quorum_state(content: bytes, path: str) -> QuorumState:
    """Parse the file's content; MetadataLogError names `path` when it is no quorum state."""
    try:
        fields: Mapping[str, Any] = json.loads(content)
        version = fields["data_version"]
        if version not in (0, 1):
            raise MetadataLogError(f"{path} has data_version {version}, which this version of Ottla does not know")
        voters = fields.get("currentVoters") if version == 0 else None
        return QuorumState(
            leader_id=int(fields["leaderId"]),
            leader_epoch=int(fields["leaderEpoch"]),
            voted_id=int(fields["votedId"]),
            voted_directory_id=uuid_from_text(fields["votedDirectoryId"]) if version == 1 else ZERO_UUID,
            current_voters=None if voters is None else tuple(int(voter["voterId"]) for voter in voters),
            cluster_id=fields.get("clusterId") or "",
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataLogError(f"{path} is damaged: {type(error).__name__} {error}") from error


def read_quorum_state(disk: Disk, directory: str) -> QuorumState:
    """What a directory's file says; the state of a replica that was never started when there is none."""
    path = f"{directory}/{FILE_NAME}"
    return decode_quorum_state(disk.read(path), path) if disk.exists(path) else QuorumState()


def write_quorum_state(disk: Disk, directory: str, state: QuorumState) -> None:
    """Replace the file; on the device when this returns."""
    disk.replace(f"{directory}/{FILE_NAME}", encode_quorum_state(state))

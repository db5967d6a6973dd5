"""Control records and the state file of the metadata quorum."""

from __future__ import annotations

from ottla.protocol.message import Data, Struct, array, int16, int32, int64, string, struct, uint16, uuid


class KRaftVersionRecord(Data, versions="0", flexible="0+"):
    """Control record with the version of the quorum protocol (KIP-853)."""

    version: int = int16("0+")
    kraft_version: int = int16("0+")


class LeaderChangeMessageVoter(Struct, versions="0+"):
    voter_id: int = int32("0+")
    voter_directory_id: bytes = uuid("1+")


class LeaderChangeMessage(Data, versions="0-1", flexible="0+"):
    """Control record that opens a leader's epoch in the metadata log (KIP-595)."""

    version: int = int16("0+")
    leader_id: int = int32("0+", entity="brokerId")
    voters: list[LeaderChangeMessageVoter] = array(LeaderChangeMessageVoter, "0+")
    granting_voters: list[LeaderChangeMessageVoter] = array(LeaderChangeMessageVoter, "0+")


class QuorumStateDataVoter(Struct):
    voter_id: int = int32("0")


class QuorumStateData(Data, versions="0-1", flexible="0+"):
    """Contents of the `quorum-state` file: what a voter must not forget."""

    cluster_id: str = string("0")
    leader_id: int = int32("0+", default=-1)
    leader_epoch: int = int32("0+", default=-1)
    voted_id: int = int32("0+", default=-1)
    voted_directory_id: bytes = uuid("1+")
    applied_offset: int = int64("0")
    current_voters: list[QuorumStateDataVoter] | None = array(QuorumStateDataVoter, "0", nullable="0")


class SnapshotFooterRecord(Data, versions="0", flexible="0+"):
    """Last control record of a snapshot (KIP-630)."""

    version: int = int16("0+")


class SnapshotHeaderRecord(Data, versions="0", flexible="0+"):
    """First control record of a snapshot (KIP-630)."""

    version: int = int16("0+")
    last_contained_log_timestamp: int = int64("0+")


class Endpoint(Struct):
    name: str = string("0+", key=True)
    host: str = string("0+")
    port: int = uint16("0+")


class KRaftVersionFeature(Struct):
    min_supported_version: int = int16("0+")
    max_supported_version: int = int16("0+")


class VotersRecordVoter(Struct):
    voter_id: int = int32("0+", entity="brokerId")
    voter_directory_id: bytes = uuid("0+")
    endpoints: list[Endpoint] = array(Endpoint, "0+")
    kraft_version_feature: KRaftVersionFeature = struct(KRaftVersionFeature, "0+")


class VotersRecord(Data, versions="0", flexible="0+"):
    """Control record with the voters of the quorum and their endpoints (KIP-853)."""

    version: int = int16("0+")
    voters: list[VotersRecordVoter] = array(VotersRecordVoter, "0+")

"""The quorum-state file, as Kafka writes it."""

from __future__ import annotations

import pytest

from ottla.server.raft.metadata_log import MetadataLogError
from ottla.server.raft.quorum_state import QuorumState, decode_quorum_state, encode_quorum_state

DYNAMIC = b'{"leaderId":1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}'
STATIC = (
    b'{"clusterId":"c","leaderId":1,"leaderEpoch":2,"votedId":-1,"appliedOffset":0,'
    b'"currentVoters":[{"voterId":1}],"data_version":0}'
)


@pytest.mark.parametrize(
    ("content", "state"),
    [
        (DYNAMIC, QuorumState(leader_id=1, leader_epoch=1)),
        (STATIC, QuorumState(leader_id=1, leader_epoch=2, current_voters=(1,), cluster_id="c")),
    ],
)
def test_both_versions_are_read_and_written_as_kafka_does(content: bytes, state: QuorumState) -> None:
    assert decode_quorum_state(content, "x") == state
    assert encode_quorum_state(state) == content


def test_no_cluster_id_in_an_old_file() -> None:
    content = STATIC.replace(b'"clusterId":"c"', b'"clusterId":null')
    assert decode_quorum_state(content, "x").cluster_id == ""


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", DYNAMIC[:-2], DYNAMIC.replace(b'version":1', b'version":7')])
def test_a_damaged_file_is_named(content: bytes) -> None:
    with pytest.raises(MetadataLogError, match="/data/quorum-state"):
        decode_quorum_state(content, "/data/quorum-state")

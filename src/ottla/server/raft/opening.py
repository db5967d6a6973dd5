"""From a data directory to its metadata log: format what was never formatted, recover, check."""

from __future__ import annotations

from dataclasses import replace
from socket import getfqdn
from typing import TYPE_CHECKING, Final

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import metadata_records as messages
from ottla.runtime.env import Env
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.features import BOOTSTRAP_FEATURES
from ottla.server.metadata.records import RecordWriter
from ottla.server.raft.alone import LocalVoter, LoneNode
from ottla.server.raft.formatting import METADATA_DIRECTORY, format_directory, is_formatted, read_bootstrap
from ottla.server.raft.replica_log import ReplicaLogSettings, open_replica_log
from ottla.server.raft.voters import Endpoints, Voter, VoterHistory, VoterSet

if TYPE_CHECKING:
    from ottla.server.peers.peers import Peers
    from ottla.server.raft.node import RaftNode

_UNOPENED_ENDPOINT: Final = ("CONTROLLER", "localhost", 9093)
"""For a node without a controller listener: a quorum of one has no use for it, but Kafka's format has a place."""


def open_metadata_log(
    config: BrokerConfig, env: Env, directory: str, voter: LocalVoter, peers: Peers | None = None
) -> tuple[LoneNode | RaftNode, list[bytes]]:
    """The log below `directory` (which holds `meta.properties`), and the framed first records of a log without any.

    `peers` are the connections of a node that is not alone. Waits for the disk. Raises MetadataLogError, LogError or
    DiskError, each with one line for the operator.
    """
    disk = env.disk
    path = f"{directory}/{METADATA_DIRECTORY}"
    endpoints = controller_endpoints(config)
    voter = replace(voter, endpoints=endpoints or (_UNOPENED_ENDPOINT,))
    if not is_formatted(disk, directory):
        if config.is_single and not config["controller.quorum.voters"]:
            _format(env, directory, voter)
        else:
            disk.make_directories(path)  # an observer, or a voter of a static quorum, begins with nothing
    history = VoterHistory(static_voters(config, voter))
    replica = open_replica_log(env, path, replica_log_settings(config, keeps_for_others=peers is not None), history)
    bootstrap = read_bootstrap(disk, directory) if replica.earliest_snapshot is None else []
    if peers is None:
        return LoneNode(env, replica, voter), bootstrap
    from ottla.server.raft.joining import open_raft_node

    return open_raft_node(config, env, replica, voter, endpoints, peers), bootstrap


def controller_endpoints(config: BrokerConfig) -> Endpoints:
    """Where this node's controller listeners are for others; nothing on a node without the role."""
    if not config.controller_listeners or not config.is_controller:
        return ()
    from ottla.schema.quorum import advertised_controller_listeners

    return tuple((one.name, one.host or getfqdn(), one.port) for one in advertised_controller_listeners(config))


def static_voters(config: BrokerConfig, own: LocalVoter) -> VoterSet | None:
    """The voters of kraft.version 0, which are settings; the log of a dynamic quorum has its own."""
    if not config["controller.quorum.voters"]:
        return VoterSet([Voter(own.node_id, ZERO_UUID, own.endpoints)]) if config.is_single else None
    from ottla.schema.quorum import parse_voters

    names = config.controller_listener_names
    return VoterSet(
        Voter(voter_id, ZERO_UUID, ((names[0] if names else "", address.host, address.port),))
        for voter_id, address in parse_voters(config["controller.quorum.voters"]).items()
    )


def replica_log_settings(config: BrokerConfig, *, keeps_for_others: bool) -> ReplicaLogSettings:
    """`metadata.log.segment.*` and `metadata.max.retention.*`."""
    return ReplicaLogSettings(
        segment_bytes=config["internal.metadata.log.segment.bytes"] or config["metadata.log.segment.bytes"],
        segment_ms=config["metadata.log.segment.ms"],
        retention_bytes=config["metadata.max.retention.bytes"],
        retention_ms=config["metadata.max.retention.ms"],
        keeps_for_others=keeps_for_others,
    )


def _format(env: Env, directory: str, voter: LocalVoter) -> None:
    writer = RecordWriter(BOOTSTRAP_FEATURES)
    frames = [
        writer.frame(messages.FeatureLevelRecord(name=name, feature_level=level))
        for name, level in BOOTSTRAP_FEATURES.items()
    ]
    quorum = [Voter(voter.node_id, voter.directory_id, voter.endpoints)]
    format_directory(env.disk, directory, quorum, frames, env.clock.now_ms())

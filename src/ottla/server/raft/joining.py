"""From a node's settings to its place in the quorum; loaded by nodes that are not alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ottla.schema.config import BrokerConfig
from ottla.schema.quorum import parse_bootstrap_servers
from ottla.server.raft.alone import LocalVoter, check_alone
from ottla.server.raft.core import LocalReplica, QuorumSettings
from ottla.server.raft.node import RaftNode
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.voters import Endpoints, ReplicaKey

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.peers.peers import Peers
    from ottla.server.raft.replica_log import DiskReplicaLog


def open_raft_node(
    config: BrokerConfig, env: Env, replica: DiskReplicaLog, own: LocalVoter, endpoints: Endpoints, peers: Peers
) -> RaftNode:
    """The node over its opened log."""
    names = config.controller_listener_names
    local = LocalReplica(
        key=ReplicaKey(own.node_id, own.directory_id),
        cluster_id=own.cluster_id,
        listener=names[0] if names else "",
        endpoints=endpoints,
        can_become_voter=config.is_controller,
        bootstrap_servers=tuple(
            (one.host, one.port) for one in parse_bootstrap_servers(config["controller.quorum.bootstrap.servers"])
        ),
    )
    check: Callable[[QuorumState], None] | None = partial(check_alone, replica, own) if config.is_single else None
    return RaftNode(env, replica, local, quorum_settings(config), peers, check)


def quorum_settings(config: BrokerConfig) -> QuorumSettings:
    """`controller.quorum.*`."""
    prefix = "controller.quorum"
    return QuorumSettings(
        election_timeout_ms=config[f"{prefix}.election.timeout.ms"],
        fetch_timeout_ms=config[f"{prefix}.fetch.timeout.ms"],
        election_backoff_max_ms=config[f"{prefix}.election.backoff.max.ms"],
        request_timeout_ms=config[f"{prefix}.request.timeout.ms"],
        retry_backoff_ms=config[f"{prefix}.retry.backoff.ms"],
        fetch_max_bytes=config[f"{prefix}.fetch.max.bytes"],
        fetch_snapshot_max_bytes=config[f"{prefix}.fetch.snapshot.max.bytes"],
        auto_join=config[f"{prefix}.auto.join.enable"],
    )

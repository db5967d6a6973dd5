"""The cluster itself: its nodes, features and metadata quorum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from ottla.client.admin.acls import AclOperation, operations
from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import at_least_zero, outcome, uuid_text
from ottla.client.admin.routing import AnyNode, Brokers, Controller, Route, Target
from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.client.model import Node
from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_from_text
from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse, Listener
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
    DescribeQuorumResponse,
    ReplicaState,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
from ottla.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse
from ottla.version import VERSION

_BROKERS, _CONTROLLERS = 1, 2
_METADATA_TOPIC = "__cluster_metadata"


class ClusterDescription(NamedTuple):
    """The cluster and its nodes; brokers, or controllers where the client was given `bootstrap.controllers`."""

    cluster_id: str | None
    controller: Node | None
    nodes: tuple[Node, ...]
    authorized_operations: frozenset[AclOperation] | None = None
    """None unless asked for."""


class VersionRange(NamedTuple):
    """Levels of a feature, both ends included."""

    min_version: int
    max_version: int


class FeatureMetadata(NamedTuple):
    """Which features the cluster uses, and which the node that answered could (KIP-584)."""

    finalized: dict[str, VersionRange]
    finalized_epoch: int | None
    supported: dict[str, VersionRange]


class UpgradeType(IntEnum):
    """Whether a feature may also go back, and lose metadata by that."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(NamedTuple):
    """The level a feature shall have; 0 switches it off."""

    max_version_level: int
    upgrade_type: UpgradeType = UpgradeType.UPGRADE


class RaftVoterEndpoint(NamedTuple):
    """Where a controller listens."""

    listener: str
    host: str
    port: int


class QuorumReplica(NamedTuple):
    """How far a controller or broker has come with the metadata log. Times are ms since 1970."""

    replica_id: int
    replica_directory_id: str | None
    log_end_offset: int
    last_fetch_timestamp_ms: int | None
    last_caught_up_timestamp_ms: int | None


class QuorumInfo(NamedTuple):
    """The metadata quorum (KIP-595)."""

    leader_id: int
    leader_epoch: int
    high_watermark: int
    voters: tuple[QuorumReplica, ...]
    observers: tuple[QuorumReplica, ...]
    nodes: dict[int, tuple[RaftVoterEndpoint, ...]]
    """Where the voters listen; empty from brokers before Kafka 3.9."""


class ClusterCalls(AdminCalls):
    """Calls about the cluster."""

    async def describe_cluster(
        self,
        *,
        include_authorized_operations: bool = False,
        include_fenced_brokers: bool = False,
        timeout_s: float | None = None,
    ) -> ClusterDescription:
        """Id, controller and nodes of the cluster; brokers that are down only with `include_fenced_brokers`."""
        controllers = self._uses_controllers
        if controllers and include_fenced_brokers:
            raise ValueError("include_fenced_brokers: controllers do not tell of brokers")

        async def ask(target: Target) -> ClusterDescription:
            request = DescribeClusterRequest(
                include_cluster_authorized_operations=include_authorized_operations,
                endpoint_type=_CONTROLLERS if controllers else _BROKERS,
                include_fenced_brokers=include_fenced_brokers,
            )
            oldest = 2 if include_fenced_brokers else 1 if controllers else None
            try:
                response = await target.request(request, DescribeClusterResponse, min_version=oldest)
            except UnsupportedVersionError:
                if oldest is not None:
                    raise
                return await _describe_by_metadata(target, include_authorized_operations)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            nodes = {
                node.broker_id: Node(node.broker_id, node.host, node.port, node.rack, node.is_fenced)
                for node in response.brokers
            }
            return ClusterDescription(
                response.cluster_id,
                nodes.get(response.controller_id),
                tuple(nodes.values()),
                operations(response.cluster_authorized_operations) if include_authorized_operations else None,
            )

        return await self._routing.run_one("describe_cluster", AnyNode(), ask, timeout_s)

    async def describe_api_versions(
        self, brokers: int | Iterable[int] | None = None, *, timeout_s: float | None = None
    ) -> dict[int, dict[int, VersionRange]]:
        """The versions of each API that brokers (all without `brokers`) serve, by the number of the API."""

        async def ask(target: Target, asked: list[int]) -> dict[int, dict[int, VersionRange] | KafkaError]:
            request = ApiVersionsRequest(client_software_name="ottla", client_software_version=VERSION)
            response = await target.request(request, ApiVersionsResponse, max_version=4)
            if response.error_code:
                raise error_for(response.error_code)
            ranges = {api.api_key: VersionRange(api.min_version, api.max_version) for api in response.api_keys}
            return {target.node_id: ranges}

        if brokers is None:
            return await self._routing.run_everywhere("describe_api_versions", ask, timeout_s)
        wanted = [brokers] if isinstance(brokers, int) else list(brokers)
        return await self._routing.run("describe_api_versions", wanted, Brokers(int), ask, timeout_s)

    async def describe_features(self, *, node_id: int | None = None, timeout_s: float | None = None) -> FeatureMetadata:
        """The features of the cluster, and those that this node (or any) supports."""

        async def ask(target: Target) -> FeatureMetadata:
            request = ApiVersionsRequest(client_software_name="ottla", client_software_version=VERSION)
            response = await target.request(request, ApiVersionsResponse, min_version=3)
            if response.error_code:
                raise error_for(response.error_code)
            return FeatureMetadata(
                {
                    feature.name: VersionRange(feature.min_version_level, feature.max_version_level)
                    for feature in response.finalized_features
                },
                at_least_zero(response.finalized_features_epoch),
                {
                    feature.name: VersionRange(feature.min_version, feature.max_version)
                    for feature in response.supported_features
                },
            )

        route: Route[None] = AnyNode() if node_id is None else Brokers(lambda _: node_id)
        return await self._routing.run_one("describe_features", route, ask, timeout_s)

    async def update_features(
        self,
        updates: Mapping[str, int | FeatureUpdate],
        *,
        validate_only: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        """Change the levels of features, `{"metadata.version": 30}`. Since Kafka 4.0 all of them or none."""
        wanted = {
            feature: FeatureUpdate(update) if isinstance(update, int) else update for feature, update in updates.items()
        }

        async def ask(target: Target, asked: list[str]) -> dict[str, KafkaError | None]:
            request = UpdateFeaturesRequest(
                timeout_ms=target.timeout_ms,
                feature_updates=[
                    FeatureUpdateKey(
                        feature=feature,
                        max_version_level=wanted[feature].max_version_level,
                        upgrade_type=int(wanted[feature].upgrade_type),
                    )
                    for feature in asked
                ],
                validate_only=validate_only,
            )
            response = await target.request(request, UpdateFeaturesResponse, min_version=1)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            if not response.results:
                return dict.fromkeys(asked)
            return {
                result.feature: outcome(result.error_code, result.error_message, None) for result in response.results
            }

        await self._routing.run("update_features", wanted, Controller(), ask, timeout_s)

    async def describe_metadata_quorum(self, *, timeout_s: float | None = None) -> QuorumInfo:
        """Leader, voters and observers of the metadata log."""

        async def ask(target: Target) -> QuorumInfo:
            partition = DescribeQuorumRequestPartitionData(partition_index=0)
            request = DescribeQuorumRequest(
                topics=[DescribeQuorumRequestTopicData(topic_name=_METADATA_TOPIC, partitions=[partition])]
            )
            response = await target.request(request, DescribeQuorumResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            partitions = [one for topic in response.topics for one in topic.partitions]
            if len(partitions) != 1:
                raise KafkaError(
                    f"The broker tells of {len(partitions)} metadata logs.", code=ErrorCode.UNKNOWN_SERVER_ERROR
                )
            found = partitions[0]
            if found.error_code:
                raise error_for(found.error_code, found.error_message)
            return QuorumInfo(
                found.leader_id,
                found.leader_epoch,
                found.high_watermark,
                tuple(map(_quorum_replica, found.current_voters)),
                tuple(map(_quorum_replica, found.observers)),
                {
                    node.node_id: tuple(RaftVoterEndpoint(one.name, one.host, one.port) for one in node.listeners)
                    for node in response.nodes
                },
            )

        return await self._routing.run_one("describe_metadata_quorum", AnyNode(), ask, timeout_s)

    async def add_raft_voter(
        self,
        voter_id: int,
        voter_directory_id: str,
        endpoints: Iterable[RaftVoterEndpoint],
        *,
        cluster_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Let a controller vote (KIP-853). With `cluster_id` only in the cluster of that id."""
        listeners = [Listener(name=one.listener, host=one.host, port=one.port) for one in endpoints]
        directory_id = uuid_from_text(voter_directory_id)

        async def ask(target: Target) -> None:
            request = AddRaftVoterRequest(
                cluster_id=cluster_id,
                timeout_ms=target.timeout_ms,
                voter_id=voter_id,
                voter_directory_id=directory_id,
                listeners=listeners,
            )
            response = await target.request(request, AddRaftVoterResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)

        await self._routing.run_one("add_raft_voter", AnyNode(), ask, timeout_s)

    async def remove_raft_voter(
        self,
        voter_id: int,
        voter_directory_id: str,
        *,
        cluster_id: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Let a controller vote no longer (KIP-853). With `cluster_id` only in the cluster of that id."""
        directory_id = uuid_from_text(voter_directory_id)

        async def ask(target: Target) -> None:
            request = RemoveRaftVoterRequest(cluster_id=cluster_id, voter_id=voter_id, voter_directory_id=directory_id)
            response = await target.request(request, RemoveRaftVoterResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)

        await self._routing.run_one("remove_raft_voter", AnyNode(), ask, timeout_s)

    async def unregister_broker(self, broker_id: int, *, timeout_s: float | None = None) -> None:
        """Forget a broker that is gone for good."""

        async def ask(target: Target) -> None:
            response = await target.request(UnregisterBrokerRequest(broker_id=broker_id), UnregisterBrokerResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)

        route: AnyNode[None] = AnyNode(ErrorCode.REQUEST_TIMED_OUT)
        await self._routing.run_one("unregister_broker", route, ask, timeout_s)


async def _describe_by_metadata(target: Target, include_authorized_operations: bool) -> ClusterDescription:
    """Brokers before Kafka 2.8 tell it with the metadata."""
    response = await target.request(
        MetadataRequest(topics=[], include_cluster_authorized_operations=include_authorized_operations),
        MetadataResponse,
        min_version=8 if include_authorized_operations else 1,
        max_version=10,
    )
    nodes = {node.node_id: Node(node.node_id, node.host, node.port, node.rack) for node in response.brokers}
    return ClusterDescription(
        response.cluster_id,
        nodes.get(response.controller_id),
        tuple(nodes.values()),
        operations(response.cluster_authorized_operations) if include_authorized_operations else None,
    )


def _quorum_replica(replica: ReplicaState) -> QuorumReplica:
    return QuorumReplica(
        replica.replica_id,
        uuid_text(replica.replica_directory_id),
        replica.log_end_offset,
        at_least_zero(replica.last_fetch_timestamp),
        at_least_zero(replica.last_caught_up_timestamp),
    )

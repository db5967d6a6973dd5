"""The APIs this broker serves: what stands here is advertised by ApiVersions, and nothing else is answered.

Version ranges are Apache Kafka's own (4.4 where it changed the messages).  Handlers and message modules are named, not imported:
`dispatch` loads them with the first request of that kind, so that an idle broker stays small.
"""

from __future__ import annotations

from typing import NamedTuple


class Api(NamedTuple):
    """One API key: versions are inclusive on both ends.

    `advertised_min` differs from `min_version` for Produce only: versions 0-2 are advertised though refused (KIP-896), because
    librdkafka judges a broker by them.
    """

    key: int
    name: str
    module: str
    min_version: int
    max_version: int
    advertised_min: int
    first_flexible: int | None

    @property
    def handler_module(self) -> str:
        """Full path of the module with `handle`."""
        return f"ottla.server.broker.handlers.{self.module}"

    @property
    def message_module(self) -> str:
        """Full path of the module with `<name>Request` and `<name>Response`."""
        return f"ottla.protocol.messages.{self.module}"


def _api(
    key: int, name: str, module: str, versions: tuple[int, int], flexible: int | None, advertised_min: int | None = None
) -> Api:
    low, high = versions
    return Api(key, name, module, low, high, low if advertised_min is None else advertised_min, flexible)


PRODUCE = 0
FETCH = 1
API_VERSIONS = 18

APIS: dict[int, Api] = {
    api.key: api
    for api in (
        _api(PRODUCE, "Produce", "produce", (3, 13), 9, advertised_min=0),
        _api(FETCH, "Fetch", "fetch", (4, 18), 12),
        _api(2, "ListOffsets", "list_offsets", (1, 11), 6),
        _api(3, "Metadata", "metadata", (0, 13), 9),
        _api(8, "OffsetCommit", "offset_commit", (2, 10), 8),
        _api(9, "OffsetFetch", "offset_fetch", (1, 10), 6),
        _api(10, "FindCoordinator", "find_coordinator", (0, 6), 3),
        _api(11, "JoinGroup", "join_group", (0, 9), 6),
        _api(12, "Heartbeat", "heartbeat", (0, 4), 4),
        _api(13, "LeaveGroup", "leave_group", (0, 5), 4),
        _api(14, "SyncGroup", "sync_group", (0, 5), 4),
        _api(15, "DescribeGroups", "describe_groups", (0, 6), 5),
        _api(16, "ListGroups", "list_groups", (0, 5), 3),
        _api(API_VERSIONS, "ApiVersions", "api_versions", (0, 5), 3),
        _api(19, "CreateTopics", "create_topics", (2, 7), 5),
        _api(20, "DeleteTopics", "delete_topics", (1, 6), 4),
        _api(21, "DeleteRecords", "delete_records", (0, 2), 2),
        # Version 6 (two-phase commit, KIP-939) is unstable and not advertised.
        _api(22, "InitProducerId", "init_producer_id", (0, 5), 2),
        _api(23, "OffsetForLeaderEpoch", "offset_for_leader_epoch", (2, 4), 4),
        _api(32, "DescribeConfigs", "describe_configs", (1, 4), 4),
        _api(33, "AlterConfigs", "alter_configs", (0, 2), 2),
        _api(35, "DescribeLogDirs", "describe_log_dirs", (1, 5), 2),
        _api(37, "CreatePartitions", "create_partitions", (0, 3), 2),
        _api(42, "DeleteGroups", "delete_groups", (0, 3), 2),
        _api(44, "IncrementalAlterConfigs", "incremental_alter_configs", (0, 1), 1),
        _api(47, "OffsetDelete", "offset_delete", (0, 0), None),
        _api(60, "DescribeCluster", "describe_cluster", (0, 2), 0),
        _api(61, "DescribeProducers", "describe_producers", (0, 0), 0),
        _api(75, "DescribeTopicPartitions", "describe_topic_partitions", (0, 0), 0),
    )
}

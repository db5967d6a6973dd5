"""The table of MBeans: every metric of a broker, under the name that Apache Kafka gives it, and how it is read.

What belongs to several brokers (followers that lag, fetchers, elections) is here with the value that it has for a
broker that is alone. Values that would have to be invented, since Ottla has nothing that they could be measured on (a
queue between network and request threads, the buffers of batched coordinator writes), are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ottla.server.metrics.beans import Bean, Kind, Read
from ottla.server.metrics.readings import controller, coordinators, network, quotas, security, topics

if TYPE_CHECKING:
    from ottla.server.broker.listener import Listener
    from ottla.server.metrics.scrape import Scrape

G, M, H, A = Kind.GAUGE, Kind.METER, Kind.HISTOGRAM, Kind.ATTRIBUTE


def _const(value: float) -> Read:
    """What is so by construction."""
    return lambda scrape: value


def _rows(domain: str, bean_type: str, *rows: tuple[str, Kind, Read]) -> tuple[Bean, ...]:
    return tuple(Bean(domain, bean_type, name, kind, read) for name, kind, read in rows)


def _rates(
    names: dict[str, Callable[[Scrape], int]], prefix: str, *, count: str = "-count"
) -> tuple[tuple[str, Kind, Read], ...]:
    """A counter of a `…-metrics` bean, and its rate."""
    found: list[tuple[str, Kind, Read]] = []
    for name, read in names.items():
        found += [(f"{name}{count}", A, read), (f"{name}-rate", A, coordinators.rate(f"{prefix} {name}", read))]
    return tuple(found)


def _logins(name: str, field: str) -> tuple[tuple[str, Kind, Read], ...]:
    """A count of logins on every listener, and its rate."""

    def read(listener: Listener) -> int:
        count: int = getattr(listener.logins, field)
        return count

    return (
        (f"{name}-total", A, network.of_listener(lambda scrape, one: read(one))),
        (f"{name}-rate", A, network.listener_rate(name, read)),
    )


_log_directories = topics.directories

BEANS: Final[tuple[Bean, ...]] = (
    *_rows(
        "kafka.server",
        "BrokerTopicMetrics",
        ("MessagesInPerSec", M, topics.by_topic("messages_in")),
        ("BytesInPerSec", M, topics.by_topic("bytes_in")),
        ("BytesOutPerSec", M, topics.by_topic("bytes_out")),
        ("BytesRejectedPerSec", M, topics.by_topic("bytes_rejected")),
        ("TotalProduceRequestsPerSec", M, topics.by_topic("append_count")),
        ("TotalFetchRequestsPerSec", M, topics.by_topic("fetch_count")),
        ("FailedProduceRequestsPerSec", M, topics.by_topic("failed_append_count")),
        ("FailedFetchRequestsPerSec", M, topics.by_topic("failed_fetch_count")),
        ("InvalidMessageCrcRecordsPerSec", M, topics.total("invalid_crc_count")),
        ("InvalidMagicNumberRecordsPerSec", M, topics.total("invalid_magic_count")),
        ("InvalidOffsetOrSequenceRecordsPerSec", M, topics.total("invalid_sequence_count")),
        ("NoKeyCompactedTopicRecordsPerSec", M, topics.total("keyless_count")),
        # Records are never converted: there is one message format.
        ("ProduceMessageConversionsPerSec", M, _const(0)),
        ("FetchMessageConversionsPerSec", M, _const(0)),
        ("ReplicationBytesInPerSec", M, lambda scrape: scrape.broker.replicas.replication_bytes_in),
        ("ReplicationBytesOutPerSec", M, lambda scrape: scrape.broker.replicas.replication_bytes_out),
        ("ReassignmentBytesInPerSec", M, _const(0)),
        ("ReassignmentBytesOutPerSec", M, _const(0)),
        ("TotalShareFetchRequestsPerSec", M, topics.of_api("ShareFetch")),
        ("FailedShareFetchRequestsPerSec", M, topics.failed_of_api("ShareFetch")),
        ("TotalShareAcknowledgementRequestsPerSec", M, topics.of_api("ShareAcknowledge")),
        ("FailedShareAcknowledgementRequestsPerSec", M, topics.failed_of_api("ShareAcknowledge")),
    ),
    *_rows(
        "kafka.server",
        "ReplicaManager",
        ("PartitionCount", G, lambda scrape: len(scrape.partitions)),
        ("LeaderCount", G, lambda scrape: scrape.led),
        ("UnderReplicatedPartitions", G, lambda scrape: scrape.under_replicated),
        ("UnderMinIsrPartitionCount", G, lambda scrape: scrape.under_min_isr),
        ("AtMinIsrPartitionCount", G, lambda scrape: scrape.at_min_isr),
        ("OfflineReplicaCount", G, lambda scrape: scrape.broker.replicas.offline_count),
        ("ReassigningPartitions", G, lambda scrape: scrape.cluster["reassigning"]),
        ("ProducerIdCount", G, lambda scrape: scrape.producer_ids),
        ("IsrShrinksPerSec", M, lambda scrape: scrape.broker.replicas.cluster.isr_shrinks),
        ("IsrExpandsPerSec", M, lambda scrape: scrape.broker.replicas.cluster.isr_expands),
        ("FailedIsrUpdatesPerSec", M, lambda scrape: scrape.broker.replicas.cluster.failed_isr_updates),
    ),
    *_rows(
        "kafka.server",
        "ReplicaFetcherManager",
        ("MaxLag", G, topics.replica_fetcher(lambda replicas: replicas.max_lag())),
        ("MinFetchRate", G, topics.replica_fetcher(lambda replicas: 0)),
        ("FailedPartitionsCount", G, topics.replica_fetcher(lambda replicas: replicas.failed_count())),
        ("DeadThreadCount", G, topics.replica_fetcher(lambda replicas: 0)),
    ),
    *_rows(
        "kafka.server",
        "DelayedOperationPurgatory",
        ("PurgatorySize", G, network.waiting),
        ("NumDelayedOperations", G, network.waiting),
    ),
    *_rows(
        "kafka.server",
        "KafkaRequestHandlerPool",
        # One event loop does the work of broker and controller.
        ("RequestHandlerAvgIdlePercent", Kind.PERCENT_METER, lambda scrape: scrape.idle_minute),
        ("BrokerRequestHandlerAvgIdlePercent", Kind.PERCENT_METER, lambda scrape: scrape.idle_minute),
        ("ControllerRequestHandlerAvgIdlePercent", Kind.PERCENT_METER, lambda scrape: scrape.idle_minute),
    ),
    *_rows(
        "kafka.server",
        "KafkaServer",
        ("BrokerState", G, lambda scrape: scrape.state),
        ("ClusterId", Kind.STATE, lambda scrape: scrape.broker.cluster_id),
        ("linux-disk-read-bytes", G, network.disk_bytes("read_bytes")),
        ("linux-disk-write-bytes", G, network.disk_bytes("write_bytes")),
        ("yammer-metrics-count", G, lambda scrape: len(BEANS)),
    ),
    *_rows(
        "kafka.server",
        "FetchSessionCache",
        ("NumIncrementalFetchSessions", G, lambda scrape: len(scrape.broker.fetch_sessions)),
        ("NumIncrementalFetchPartitionsCached", G, lambda scrape: scrape.broker.fetch_sessions.partition_count),
        ("IncrementalFetchSessionEvictionsPerSec", M, lambda scrape: scrape.broker.fetch_sessions.evictions),
    ),
    *_rows(
        "kafka.server",
        "Produce",
        ("byte-rate", A, quotas.used("produce")),
        ("throttle-time", A, quotas.throttled("produce")),
        ("queue-size", A, quotas.delayed),
    ),
    *_rows(
        "kafka.server",
        "Fetch",
        ("byte-rate", A, quotas.used("fetch")),
        ("throttle-time", A, quotas.throttled("fetch")),
        ("queue-size", A, quotas.delayed),
    ),
    *_rows(
        "kafka.server",
        "Request",
        ("request-time", A, quotas.used("request")),
        ("throttle-time", A, quotas.throttled("request")),
        ("queue-size", A, quotas.delayed),
    ),
    *_rows(
        "kafka.server",
        "socket-server-metrics",
        ("connection-count", A, network.of_listener(lambda scrape, one: len(one.connections))),
        ("connection-creation-total", A, network.of_listener(lambda scrape, one: one.accepted_count)),
        ("connection-creation-rate", A, network.listener_rate("creation", lambda one: one.accepted_count)),
        ("connection-close-total", A, network.of_listener(lambda scrape, one: network.closed(one))),
        ("connection-close-rate", A, network.listener_rate("close", network.closed)),
        ("expired-connections-killed-count", A, network.of_listener(lambda scrape, one: one.logins.expired)),
        ("incoming-byte-total", A, network.of_listener(lambda scrape, one: one.bytes_in)),
        ("incoming-byte-rate", A, network.listener_rate("bytes in", lambda one: one.bytes_in)),
        ("outgoing-byte-total", A, network.of_listener(lambda scrape, one: one.bytes_out)),
        ("outgoing-byte-rate", A, network.listener_rate("bytes out", lambda one: one.bytes_out)),
        ("request-total", A, network.of_listener(lambda scrape, one: one.requests)),
        ("request-rate", A, network.listener_rate("requests", lambda one: one.requests)),
        ("response-total", A, network.of_listener(lambda scrape, one: one.requests - _owed(one))),
        ("response-rate", A, network.listener_rate("responses", lambda one: one.requests - _owed(one))),
        ("io-wait-ratio", A, network.of_listener(lambda scrape, one: scrape.idle)),
        ("io-ratio", A, network.of_listener(lambda scrape, one: 1 - scrape.idle)),
        *_logins("successful-authentication", "succeeded"),
        *_logins("failed-authentication", "failed"),
        *_logins("successful-reauthentication", "reauthenticated"),
        *_logins("failed-reauthentication", "failed_again"),
        ("connections", A, network.software),
        (
            "connection-accept-rate",
            A,
            network.of_listener(
                lambda scrape, one: scrape.rates.record(f"accepted {one.name}", one.accepted_count, scrape.now_ms),
                with_processor=False,
            ),
        ),
    ),
    *_rows(
        "kafka.network",
        "RequestMetrics",
        ("RequestsPerSec", M, network.requests),
        ("ErrorsPerSec", M, network.errors),
        ("TotalTimeMs", H, network.times("total")),
        ("RequestQueueTimeMs", H, network.times("queue")),
        ("LocalTimeMs", H, network.times("local")),
        ("RemoteTimeMs", H, network.times("remote")),
        ("ResponseQueueTimeMs", H, network.times("response_queue")),
        ("ResponseSendTimeMs", H, network.times("send")),
        ("ThrottleTimeMs", H, network.times("throttle")),
        ("RequestBytes", H, network.times("request_bytes")),
    ),
    *_rows(
        "kafka.server",
        "plugins",
        (
            "authorization-request-rate-per-minute",
            A,
            security.decisions("all", lambda one: one.allowed_count + one.denied_count),
        ),
        ("authorization-allowed-rate-per-minute", A, security.decisions("allowed", lambda one: one.allowed_count)),
        ("authorization-denied-rate-per-minute", A, security.decisions("denied", lambda one: one.denied_count)),
        ("acls-total-count", A, security.acls),
    ),
    *_rows(
        "kafka.server",
        "AuditLog",
        # Ottla's own.
        ("EventsPerSec", M, security.audited(lambda audit: audit.events)),
        ("LinesPerSec", M, security.audited(lambda audit: audit.written)),
        ("DroppedEventsPerSec", M, security.audited(lambda audit: audit.dropped + audit.lost)),
    ),
    *_rows(
        "kafka.network",
        "RequestChannel",
        ("RequestQueueSize", G, lambda scrape: scrape.waiting["queued"]),
        ("ResponseQueueSize", G, lambda scrape: scrape.waiting["blocked"]),
    ),
    *_rows(
        "kafka.network",
        "SocketServer",
        ("NetworkProcessorAvgIdlePercent", G, lambda scrape: scrape.idle),
        ("ExpiredConnectionsKilledCount", G, lambda scrape: sum(one.logins.expired for one in scrape.listeners)),
        ("MemoryPoolUsed", G, security.request_memory_used),
        ("MemoryPoolAvailable", G, security.request_memory_available),
        # Kafka has none of these.
        ("MemoryPoolDepletedCount", G, security.request_memory_depleted),
        ("UnreadResponseBytes", G, security.of_answers("used_bytes")),
        ("UnreadResponseLimitBytes", G, security.of_answers("limit_bytes")),
        ("UnreadResponseClosedCount", G, security.of_answers("closed_count")),
        ("RefusedConnectionsCount", G, security.refused),
        ("FailedHandshakesCount", G, security.handshakes("failed_count")),
        ("PendingHandshakes", G, security.handshakes("pending_count")),
    ),
    *_rows("kafka.network", "Processor", ("IdlePercent", G, network.idle_by_processor)),
    *_rows(
        "kafka.network",
        "Acceptor",
        # Accepting never blocks: who has to wait is held, and asked again.
        ("AcceptorBlockedPercent", M, network.of_listener(lambda scrape, one: 0, with_processor=False)),
    ),
    *_rows(
        "kafka.log",
        "Log",
        ("Size", G, topics.of_partition(lambda partition: partition.log.size_in_bytes)),
        ("NumLogSegments", G, topics.of_partition(lambda partition: len(partition.log.segments))),
        ("LogStartOffset", G, topics.of_partition(lambda partition: partition.log.log_start_offset)),
        ("LogEndOffset", G, topics.of_partition(lambda partition: partition.log.log_end_offset)),
        ("RetentionSizeInPercent", G, topics.of_partition(topics.retention_size_percent)),
    ),
    *_rows(
        "kafka.log",
        "LogFlushStats",
        ("LogFlushRateAndTimeMs", H, lambda scrape: scrape.broker.log_directories.flush_times.snapshot()),
    ),
    *_rows(
        "kafka.log",
        "LogManager",
        ("OfflineLogDirectoryCount", G, lambda scrape: len(scrape.broker.log_directories.offline)),
        ("LogDirectoryOffline", G, _log_directories(lambda one: int(one.failure is not None))),
        ("CordonedLogDirectoryCount", G, lambda scrape: len(scrape.config["cordoned.log.dirs"])),
        ("LogDirectoryCordoned", G, topics.cordoned),
    ),
    *_rows(
        "kafka.log",
        "LogCleaner",
        ("cleaner-recopy-percent", G, lambda scrape: _percent(_cleaning(scrape).last_recopied_share)),
        ("max-clean-time-secs", G, lambda scrape: int(_cleaning(scrape).last_s)),
        ("max-buffer-utilization-percent", G, lambda scrape: _percent(_cleaning(scrape).last_buffer_share)),
        ("DeadThreadCount", G, _const(0)),
    ),
    *_rows(
        "kafka.log",
        "LogCleanerManager",
        ("time-since-last-run-ms", G, topics.since_cleaning_ms),
        ("max-dirty-percent", G, topics.max_dirty_percent),
        ("uncleanable-partitions-count", G, topics.uncleanable_partitions),
        ("uncleanable-bytes", G, topics.uncleanable_bytes),
    ),
    *_rows("kafka.utils", "Throttler", ("cleaner-io", M, lambda scrape: _cleaning(scrape).bytes_moved)),
    *_rows(
        "kafka.cluster",
        "Partition",
        ("UnderReplicated", G, topics.of_led_partition(lambda one: len(one.isr) < len(one.replicas))),
        ("UnderMinIsr", G, topics.of_led_partition(lambda one: len(one.isr) < one.needed_isr)),
        ("AtMinIsr", G, topics.of_led_partition(lambda one: len(one.isr) == one.needed_isr)),
        ("InSyncReplicasCount", G, topics.of_led_partition(lambda one: len(one.isr))),
        ("ReplicasCount", G, topics.of_led_partition(lambda one: len(one.replicas))),
        (
            "LastStableOffsetLag",
            G,
            topics.of_led_partition(lambda one: one.log.high_watermark - one.log.last_stable_offset),
        ),
    ),
    *_rows(
        "kafka.controller",
        "KafkaController",
        ("ActiveControllerCount", G, controller.active_controllers),
        ("OfflinePartitionsCount", G, lambda scrape: scrape.cluster["offline"]),
        ("GlobalTopicCount", G, lambda scrape: len(scrape.image.topics.by_name)),
        ("GlobalPartitionCount", G, lambda scrape: scrape.cluster["partitions"]),
        ("PreferredReplicaImbalanceCount", G, lambda scrape: scrape.cluster["not preferred"]),
        ("FencedBrokerCount", G, controller.fenced_brokers),
        ("ActiveBrokerCount", G, controller.active_brokers),
        ("ControlledShutdownBrokerCount", G, controller.stopping_brokers),
        ("BrokerRegistrationState", G, controller.registration_states),
        ("MetadataErrorCount", G, lambda scrape: int(scrape.broker.metadata.failure is not None)),
        ("LastAppliedRecordOffset", G, lambda scrape: scrape.image.offset),
        ("LastAppliedRecordTimestamp", G, lambda scrape: scrape.image.timestamp_ms),
        ("LastAppliedRecordLagMs", G, controller.applied_lag_ms),
        (
            "LastCommittedRecordOffset",
            G,
            lambda scrape: scrape.broker.metadata_log.committed_offset - 1,
        ),
        ("EventQueueOperationsStartedCount", G, lambda scrape: scrape.broker.controller.decision_times.count),
        ("EventQueueOperationsTimedOutCount", G, _const(0)),
        ("TimedOutBrokerHeartbeatCount", G, _const(0)),
        ("NewActiveControllersCount", G, _const(1)),
        ("IgnoredStaticVoters", G, _const(0)),
        ("TopicsToDeleteCount", G, _const(0)),
        ("ReplicasToDeleteCount", G, _const(0)),
        ("TopicsIneligibleToDeleteCount", G, _const(0)),
        ("ReplicasIneligibleToDeleteCount", G, _const(0)),
    ),
    *_rows(
        "kafka.controller",
        "ControllerStats",
        ("UncleanLeaderElectionsPerSec", M, _const(0)),
        ("ElectionFromEligibleLeaderReplicasPerSec", M, _const(0)),
    ),
    *_rows(
        "kafka.controller",
        "ControllerEventManager",
        # A decision is made where it is asked for: nothing queues.
        ("EventQueueTimeMs", H, lambda scrape: _no_time(scrape.broker.controller.decision_times.count)),
        ("EventQueueProcessingTimeMs", H, lambda scrape: scrape.broker.controller.decision_times.snapshot()),
        ("AvgIdleRatio", G, lambda scrape: scrape.idle),
    ),
    *_rows(
        "kafka.server",
        "raft-metrics",
        # This node leads, from when it has started.
        ("current-state", Kind.STATE, lambda scrape: "leader"),
        ("current-leader", A, lambda scrape: scrape.quorum.leader_id),
        ("current-vote", A, lambda scrape: scrape.quorum.leader_id),
        ("current-epoch", A, lambda scrape: scrape.quorum.leader_epoch),
        ("high-watermark", A, lambda scrape: scrape.quorum.high_watermark),
        ("log-end-offset", A, lambda scrape: scrape.broker.metadata_log.end_offset),
        ("log-end-epoch", A, lambda scrape: scrape.image.epoch),
        ("number-of-voters", A, lambda scrape: len(scrape.quorum.voters)),
        ("number-of-observers", A, _const(0)),
        ("number-unknown-voter-connections", A, _const(0)),
        ("commit-latency-avg", A, controller.commit_latency_average),
        ("commit-latency-max", A, lambda scrape: scrape.broker.controller.commit_times.snapshot().maximum),
        ("election-latency-avg", A, lambda scrape: scrape.broker.metadata_log.election_ns / 1e6),
        ("election-latency-max", A, lambda scrape: scrape.broker.metadata_log.election_ns / 1e6),
        (
            "append-records-rate",
            A,
            coordinators.rate("metadata records", lambda scrape: scrape.broker.metadata_log.end_offset),
        ),
        ("fetch-records-rate", A, _const(0)),
        ("poll-idle-ratio-avg", A, lambda scrape: scrape.idle),
        ("uncommitted-voter-change", A, _const(0)),
    ),
    *_rows(
        "kafka.server",
        "raft-channel-metrics",
        # There is nobody to talk to.
        ("incoming-byte-total", A, _const(0)),
        ("outgoing-byte-total", A, _const(0)),
        ("request-total", A, _const(0)),
        ("response-total", A, _const(0)),
    ),
    *_rows(
        "kafka.server",
        "MetadataLoader",
        ("CurrentMetadataVersion", G, controller.metadata_version),
        ("CurrentControllerId", G, lambda scrape: scrape.quorum.leader_id),
        ("FinalizedLevel", G, controller.finalized_levels),
        ("HandleLoadSnapshotCount", G, _const(1)),
        ("AvgIdleRatio", G, lambda scrape: scrape.idle),
    ),
    *_rows(
        "kafka.server",
        "SnapshotEmitter",
        ("LatestSnapshotGeneratedAgeMs", G, controller.snapshot_age_ms),
        ("LatestSnapshotGeneratedBytes", G, lambda scrape: scrape.broker.metadata.snapshot_bytes),
    ),
    *_rows(
        "kafka.server",
        "broker-metadata-metrics",
        ("last-applied-record-offset", A, lambda scrape: scrape.image.offset),
        ("last-applied-record-timestamp", A, lambda scrape: scrape.image.timestamp_ms),
        ("last-applied-record-lag-ms", A, controller.applied_lag_ms),
        ("metadata-load-error-count", A, _const(0)),
        ("metadata-apply-error-count", A, _const(0)),
    ),
    *_rows(
        "kafka.coordinator.group",
        "GroupMetadataManager",
        ("NumGroups", G, coordinators.classic_groups()),
        ("NumGroupsPreparingRebalance", G, coordinators.classic_groups("PreparingRebalance")),
        ("NumGroupsCompletingRebalance", G, coordinators.classic_groups("CompletingRebalance")),
        ("NumGroupsStable", G, coordinators.classic_groups("Stable")),
        ("NumGroupsDead", G, coordinators.classic_groups("Dead")),
        ("NumGroupsEmpty", G, coordinators.classic_groups("Empty")),
        ("NumOffsets", G, coordinators.offsets),
    ),
    *_rows(
        "kafka.server",
        "group-coordinator-metrics",
        ("group-count", A, coordinators.groups_by_protocol),
        ("classic-group-count", A, coordinators.groups_by_state("classic")),
        ("consumer-group-count", A, coordinators.groups_by_state("consumer")),
        ("share-group-count", A, coordinators.groups_by_state("share")),
        ("streams-group-count", A, coordinators.groups_by_state("streams")),
        ("offset-count", A, coordinators.offsets),
        ("num-partitions", A, coordinators.partitions_by_state("groups")),
        ("partition-load-time-max", A, coordinators.load_times("groups", longest=True)),
        ("partition-load-time-avg", A, coordinators.load_times("groups", longest=False)),
        ("thread-idle-ratio-avg", A, lambda scrape: scrape.idle),
        ("event-queue-size", A, _const(0)),
        *_rates(
            {
                "offset-commit": coordinators.of_offsets("commit_count"),
                "offset-deletion": coordinators.of_offsets("deletion_count"),
                "offset-expiration": coordinators.of_offsets("expiration_count"),
                "group-completed-rebalance": coordinators.classic_rebalances,
                "consumer-group-rebalance": coordinators.rebalances("consumer"),
                "share-group-rebalance": coordinators.rebalances("share"),
                "streams-group-rebalance": coordinators.rebalances("streams"),
            },
            "groups",
        ),
    ),
    *_rows(
        "kafka.server",
        "transaction-coordinator-metrics",
        ("partition-load-time-max", A, coordinators.load_times("transactions", longest=True)),
        ("partition-load-time-avg", A, coordinators.load_times("transactions", longest=False)),
    ),
    *_rows(
        "kafka.coordinator.transaction",
        "TransactionMarkerChannelManager",
        ("UnknownDestinationQueueSize", G, _const(0)),
        ("LogAppendRetryQueueSize", G, _const(0)),
    ),
    *_rows(
        "kafka.server",
        "share-coordinator-metrics",
        ("num-partitions", A, coordinators.partitions_by_state("share_state")),
        ("partition-load-time-max", A, coordinators.load_times("share_state", longest=True)),
        ("partition-load-time-avg", A, coordinators.load_times("share_state", longest=False)),
    ),
    *_rows(
        "kafka.server",
        "ShareGroupMetrics",
        ("RecordAcknowledgementsPerSec", M, coordinators.acknowledgements),
    ),
    *_rows(
        "kafka.server",
        "ShareSessionCache",
        ("ShareSessionsCount", G, coordinators.share_sessions),
        ("SharePartitionsCount", G, coordinators.share_session_partitions),
        # Nobody is evicted: who comes late is refused.
        ("ShareSessionEvictionsPerSec", M, _const(0)),
    ),
    *_rows(
        "kafka.server",
        "client-metrics",
        ("instance-count", A, coordinators.telemetry(lambda one: len(one.instances))),
        (
            "unknown-subscription-request-count",
            A,
            coordinators.telemetry(lambda one: one.instances.unknown_subscription_count),
        ),
    ),
)


def _owed(listener: Any) -> int:
    return sum(connection.is_busy for connection in listener.connections)


def _cleaning(scrape: Scrape) -> Any:
    return scrape.broker.log_directories.cleaning


def _percent(share: float) -> int:
    return int(100 * share)


def _no_time(count: int) -> Any:
    from ottla.core.histogram import QUANTILES, Snapshot

    return Snapshot(count, 0.0, (0.0,) * len(QUANTILES), 0.0)

"""Metrics of consumers: `consumer-metrics`, `consumer-fetch-manager-metrics`, `consumer-coordinator-metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ottla.client.metrics.fetching import FetchMetrics, PollMetrics, seconds_since
from ottla.client.metrics.registry import Metrics, Sensor, parse_specs
from ottla.core.ids import TopicPartition

GROUP = "consumer-metrics"
COORDINATOR_GROUP = "consumer-coordinator-metrics"

_LAG = parse_specs("""
records-lag-max lag max Records that a partition was behind the end of its log, at most.
records-lead-min lead min Records that a partition was ahead of the start of its log, at least.
""")
_PARTITION = parse_specs("""
records-lag lag value Records that the partition is behind the end of its log.
records-lag-avg lag avg Records that the partition was behind the end of its log, on average.
records-lag-max lag max Records that the partition was behind the end of its log, at most.
records-lead lead value Records that the partition is ahead of the start of its log.
records-lead-avg lead avg Records that the partition was ahead of the start of its log, on average.
records-lead-min lead min Records that the partition was ahead of the start of its log, at least.
""")
_TIMES = parse_specs("""
commit-sync-time-ns-total commit-sync total Nanoseconds spent in commits that were waited for.
committed-time-ns-total committed total Nanoseconds spent in asking for committed offsets.
""")
COORDINATOR = parse_specs("""
heartbeat-rate heartbeats rate Heartbeats a second.
heartbeat-total heartbeats total Heartbeats.
heartbeat-response-time-max heartbeat-latency max Milliseconds a heartbeat took, at most.
join-rate joins rate Group joins a second.
join-total joins total Group joins.
join-time-avg join-time avg Milliseconds a join took, on average.
join-time-max join-time max Milliseconds a join took, at most.
sync-rate syncs rate Group syncs a second.
sync-total syncs total Group syncs.
sync-time-avg sync-time avg Milliseconds a sync took, on average.
sync-time-max sync-time max Milliseconds a sync took, at most.
rebalance-latency-avg rebalance avg Milliseconds a rebalance took, on average.
rebalance-latency-max rebalance max Milliseconds a rebalance took, at most.
rebalance-latency-total rebalance total Milliseconds spent in rebalances.
rebalance-total rebalance count Rebalances.
rebalance-rate-per-hour rebalance rate-per-hour Rebalances an hour.
failed-rebalance-total rebalance-failed count Rebalances that failed.
failed-rebalance-rate-per-hour rebalance-failed rate-per-hour Rebalances that failed, an hour.
commit-latency-avg commit avg Milliseconds a commit took, on average.
commit-latency-max commit max Milliseconds a commit took, at most.
commit-rate commits rate Commits a second.
commit-total commits total Commits.
partition-revoked-latency-avg revoked avg Milliseconds the callback for revoked partitions took, on average.
partition-revoked-latency-max revoked max Milliseconds the callback for revoked partitions took, at most.
partition-assigned-latency-avg assigned avg Milliseconds the callback for assigned partitions took, on average.
partition-assigned-latency-max assigned max Milliseconds the callback for assigned partitions took, at most.
partition-lost-latency-avg lost avg Milliseconds the callback for lost partitions took, on average.
partition-lost-latency-max lost max Milliseconds the callback for lost partitions took, at most.
""")


class ConsumerMetrics:
    """What happens in a consumer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.poll = PollMetrics(metrics, GROUP)
        self.fetch = FetchMetrics(metrics, "consumer", _LAG)
        self.group = GroupMetrics(metrics, COORDINATOR_GROUP)
        self._times = metrics.sensors(GROUP, _TIMES)
        self._partitions: dict[TopicPartition, dict[str, Sensor]] = {}

    def took(self, what: Literal["commit-sync", "committed"], seconds: float) -> None:
        self._times[what].record(seconds * 1e9, self._metrics.now_ms())

    def lag(self, partition: TopicPartition, lag: int, lead: int) -> None:
        """How far the position is from both ends of the log after records were handed out."""
        now_ms = self._metrics.now_ms()
        sensors = self._partitions.get(partition)
        if sensors is None:
            sensors = self._partitions[partition] = self._metrics.sensors(
                self.fetch.group, _PARTITION, {"topic": partition.topic, "partition": str(partition.partition)}
            )
        for each in (self.fetch.sensors, sensors):
            each["lag"].record(lag, now_ms)
            each["lead"].record(lead, now_ms)

    def partition_assigned(self, partition: TopicPartition, preferred_replica: Callable[[], float]) -> None:
        tags = {"topic": partition.topic, "partition": str(partition.partition)}
        text = "Replica that is read from, -1 for the leader."
        self._metrics.gauge(self.fetch.group, "preferred-read-replica", text, preferred_replica, tags)

    def partition_gone(self, partition: TopicPartition) -> None:
        """Not assigned any more: nobody wants to see its last lag for ever."""
        self._partitions.pop(partition, None)
        self._metrics.drop({"topic": partition.topic, "partition": str(partition.partition)})


class GroupMetrics:
    """Membership of a group, of any protocol; also share groups have it, in their own group of metrics."""

    def __init__(self, metrics: Metrics, group: str) -> None:
        self._metrics = metrics
        self._group = group
        self._sensors = metrics.sensors(group, COORDINATOR)
        self._last_heartbeat_ms: int | None = None
        self._last_rebalance_ms: int | None = None
        text = "Seconds since the last heartbeat was answered."
        metrics.gauge(
            group, "last-heartbeat-seconds-ago", text, seconds_since(metrics, lambda: self._last_heartbeat_ms)
        )
        text = "Seconds since the last rebalance."
        metrics.gauge(
            group, "last-rebalance-seconds-ago", text, seconds_since(metrics, lambda: self._last_rebalance_ms)
        )

    def watch(self, assigned_partitions: Callable[[], float]) -> None:
        self._metrics.gauge(self._group, "assigned-partitions", "Partitions assigned now.", assigned_partitions)

    def heartbeat_answered(self, latency_ms: float) -> None:
        now_ms = self._last_heartbeat_ms = self._metrics.now_ms()
        self._sensors["heartbeats"].record(1, now_ms)
        self._sensors["heartbeat-latency"].record(latency_ms, now_ms)

    def joined(self, latency_ms: float) -> None:
        self._timed("joins", "join-time", latency_ms)

    def synced(self, latency_ms: float) -> None:
        self._timed("syncs", "sync-time", latency_ms)

    def committed(self, latency_ms: float) -> None:
        self._timed("commits", "commit", latency_ms)

    def rebalanced(self, latency_ms: float) -> None:
        now_ms = self._last_rebalance_ms = self._metrics.now_ms()
        self._sensors["rebalance"].record(latency_ms, now_ms)

    def rebalance_failed(self) -> None:
        self._sensors["rebalance-failed"].record(1, self._metrics.now_ms())

    def callback_returned(self, what: Literal["revoked", "assigned", "lost"], latency_ms: float) -> None:
        self._sensors[what].record(latency_ms, self._metrics.now_ms())

    def _timed(self, count: str, time: str, latency_ms: float) -> None:
        now_ms = self._metrics.now_ms()
        self._sensors[count].record(1, now_ms)
        self._sensors[time].record(latency_ms, now_ms)

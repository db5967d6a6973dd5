"""The clients have the metrics that Apache Kafka's have, by the same names."""

from __future__ import annotations

from ottla.client.metrics.consumer import ConsumerMetrics
from ottla.client.metrics.network import NetworkMetrics
from ottla.client.metrics.producer import ProducerMetrics
from ottla.client.metrics.registry import Metrics
from ottla.client.metrics.share import ShareMetrics
from ottla.core.ids import TopicPartition

# What people chart (the list of MBeans in Kafka's documentation), group by group.
CHARTED = {
    "producer-metrics": (
        "record-send-rate record-error-rate record-retry-rate request-latency-avg request-latency-max batch-size-avg"
        " compression-rate-avg record-queue-time-avg requests-in-flight outgoing-byte-rate buffer-available-bytes"
        " bufferpool-wait-ratio waiting-threads produce-throttle-time-avg metadata-age flush-time-ns-total"
        " txn-commit-time-ns-total connection-count request-rate response-rate incoming-byte-rate network-io-rate"
    ),
    "producer-topic-metrics": "byte-rate record-send-total record-error-total record-retry-total compression-rate",
    "producer-node-metrics": "request-latency-avg request-latency-max outgoing-byte-total incoming-byte-total",
    "consumer-fetch-manager-metrics": (
        "records-consumed-rate bytes-consumed-rate records-lag-max records-lag records-lag-avg records-lead-min"
        " fetch-rate fetch-latency-avg fetch-latency-max fetch-size-avg fetch-throttle-time-max records-lead"
        " records-per-request-avg preferred-read-replica"
    ),
    "consumer-coordinator-metrics": (
        "commit-latency-avg commit-rate heartbeat-rate last-heartbeat-seconds-ago rebalance-total join-time-max"
        " rebalance-latency-avg assigned-partitions failed-rebalance-total heartbeat-response-time-max sync-rate"
        " partition-revoked-latency-avg last-rebalance-seconds-ago rebalance-rate-per-hour"
    ),
    "consumer-metrics": (
        "time-between-poll-avg poll-idle-ratio-avg last-poll-seconds-ago commit-sync-time-ns-total"
        " committed-time-ns-total connection-count"
    ),
    "consumer-share-fetch-manager-metrics": (
        "acknowledgements-send-rate acknowledgements-error-total records-consumed-total fetch-latency-avg"
        " records-per-request-max"
    ),
    "consumer-share-metrics": "time-between-poll-max last-poll-seconds-ago",
    "consumer-share-coordinator-metrics": "heartbeat-total rebalance-total",
}


def test_what_people_chart_is_there() -> None:
    metrics = Metrics(lambda: 0)
    producer = ProducerMetrics(metrics)
    producer.watch(
        buffer_total_bytes=lambda: 0,
        buffer_available_bytes=lambda: 0,
        waiting=lambda: 0,
        requests_in_flight=lambda: 0,
        metadata_age_s=lambda: 0,
    )
    producer.batch_sent("t", 1, 10, uncompressed_bytes=20, queue_time_ms=1)
    for kind in ("producer", "consumer"):
        NetworkMetrics(metrics, kind).request_sent(1, 10)
    consumer = ConsumerMetrics(metrics)
    consumer.group.watch(lambda: 0)
    consumer.lag(TopicPartition("t", 0), 1, 1)
    consumer.partition_assigned(TopicPartition("t", 0), lambda: -1)
    ShareMetrics(metrics)
    there = {(name.group, name.name) for name in metrics.snapshot()}
    missing = [
        (group, name) for group, names in CHARTED.items() for name in names.split() if (group, name) not in there
    ]
    assert not missing
    assert all(metrics.describe(name).endswith(".") for name in metrics.snapshot())


def test_a_partition_that_went_leaves_no_metrics() -> None:
    metrics = Metrics(lambda: 0)
    consumer = ConsumerMetrics(metrics)
    before = set(metrics.snapshot())
    partition = TopicPartition("t", 3)
    consumer.lag(partition, 1, 1)
    consumer.partition_assigned(partition, lambda: 2)
    consumer.partition_gone(partition)
    assert set(metrics.snapshot()) == before


def test_ratio_of_time_in_poll() -> None:
    now = [0]
    metrics = Metrics(lambda: now[0])
    poll = ConsumerMetrics(metrics).poll
    poll.poll_started()
    now[0] = 25
    poll.poll_ended()
    now[0] = 100
    poll.poll_started()
    values = {name.name: value for name, value in metrics.snapshot().items() if name.group == "consumer-metrics"}
    assert values["poll-idle-ratio-avg"] == 0.25
    assert values["time-between-poll-avg"] == 100

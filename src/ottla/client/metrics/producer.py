"""Metrics of producers: groups `producer-metrics` and `producer-topic-metrics`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ottla.client.metrics.registry import Metrics, Sensor, parse_specs

GROUP = "producer-metrics"
TOPIC_GROUP = "producer-topic-metrics"

_PRODUCER = parse_specs("""
batch-size-avg batch-size avg Bytes of a batch as sent, on average.
batch-size-max batch-size max Bytes of the largest batch sent.
compression-rate-avg compression avg Compressed through uncompressed size of batches, on average.
record-queue-time-avg queue-time avg Milliseconds batches waited before they were sent, on average.
record-queue-time-max queue-time max Milliseconds a batch waited before it was sent, at most.
request-latency-avg latency avg Milliseconds from a produce request to its response, on average.
request-latency-max latency max Milliseconds from a produce request to its response, at most.
record-send-rate records rate Records sent a second.
record-send-total records total Records sent.
records-per-request-avg request-records avg Records in a produce request, on average.
record-retry-rate retries rate Records sent again a second.
record-retry-total retries total Records sent again.
record-error-rate errors rate Records that failed a second.
record-error-total errors total Records that failed.
record-size-avg record-size avg Bytes of the records of a batch, on average.
record-size-max record-size max Bytes of the largest average of a batch.
batch-split-rate splits rate Batches split because they were too large, a second.
batch-split-total splits total Batches split because they were too large.
produce-throttle-time-avg throttle avg Milliseconds that brokers throttled requests, on average.
produce-throttle-time-max throttle max Milliseconds that brokers throttled a request, at most.
bufferpool-wait-ratio wait rate Share of time in which callers waited for room in the buffer.
bufferpool-wait-time-ns-total wait-ns total Nanoseconds that callers waited for room in the buffer.
buffer-exhausted-rate exhausted rate Records refused a second because the buffer stayed full.
buffer-exhausted-total exhausted total Records refused because the buffer stayed full.
flush-time-ns-total flush total Nanoseconds spent in flush.
txn-init-time-ns-total txn-init total Nanoseconds spent in starting the transactional producer.
txn-begin-time-ns-total txn-begin total Nanoseconds spent in beginning transactions.
txn-send-offsets-time-ns-total txn-send-offsets total Nanoseconds spent in adding offsets to transactions.
txn-commit-time-ns-total txn-commit total Nanoseconds spent in committing transactions.
txn-abort-time-ns-total txn-abort total Nanoseconds spent in aborting transactions.
txn-prepare-time-ns-total txn-prepare total Nanoseconds spent in preparing transactions.
metadata-wait-time-ns-total metadata-wait total Nanoseconds that callers waited for the metadata of a topic.
""")
_TOPIC = parse_specs("""
record-send-rate records rate Records of the topic sent a second.
record-send-total records total Records of the topic sent.
byte-rate bytes rate Bytes of the topic sent a second.
byte-total bytes total Bytes of the topic sent.
compression-rate compression avg Compressed through uncompressed size of the topic's batches, on average.
record-retry-rate retries rate Records of the topic sent again a second.
record-retry-total retries total Records of the topic sent again.
record-error-rate errors rate Records of the topic that failed a second.
record-error-total errors total Records of the topic that failed.
""")

Timed = Literal[
    "flush", "txn-init", "txn-begin", "txn-send-offsets", "txn-commit", "txn-abort", "txn-prepare", "metadata-wait"
]
"""Calls whose time is counted."""


class ProducerMetrics:
    """What happens in a producer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._sensors = metrics.sensors(GROUP, _PRODUCER)
        self._topics: dict[str, dict[str, Sensor]] = {}

    def watch(
        self,
        *,
        buffer_total_bytes: Callable[[], float],
        buffer_available_bytes: Callable[[], float],
        waiting: Callable[[], float],
        requests_in_flight: Callable[[], float],
        metadata_age_s: Callable[[], float],
    ) -> None:
        """Register what is asked when somebody looks."""
        gauge = self._metrics.gauge
        gauge(GROUP, "buffer-total-bytes", "Bytes of records that may be buffered.", buffer_total_bytes)
        gauge(GROUP, "buffer-available-bytes", "Bytes of the buffer that are free.", buffer_available_bytes)
        gauge(GROUP, "waiting-threads", "Callers that wait for room in the buffer.", waiting)
        gauge(GROUP, "requests-in-flight", "Produce requests without a response yet.", requests_in_flight)
        gauge(GROUP, "metadata-age", "Seconds since the metadata was renewed.", metadata_age_s)

    def batch_sent(
        self, topic: str, records: int, size_bytes: int, *, uncompressed_bytes: int, queue_time_ms: float
    ) -> None:
        """A batch leaves for the first time; `size_bytes` as it is on the wire."""
        now_ms = self._metrics.now_ms()
        ratio = size_bytes / uncompressed_bytes if uncompressed_bytes else 1.0
        sensors = self._sensors
        sensors["batch-size"].record(size_bytes, now_ms)
        sensors["compression"].record(ratio, now_ms)
        sensors["queue-time"].record(queue_time_ms, now_ms)
        sensors["records"].record(records, now_ms)
        if records:
            sensors["record-size"].record(uncompressed_bytes / records, now_ms)
        of_topic = self._topic(topic)
        of_topic["records"].record(records, now_ms)
        of_topic["bytes"].record(size_bytes, now_ms)
        of_topic["compression"].record(ratio, now_ms)

    def request_answered(self, records: int, latency_ms: float, throttle_ms: int) -> None:
        now_ms = self._metrics.now_ms()
        self._sensors["request-records"].record(records, now_ms)
        self._sensors["latency"].record(latency_ms, now_ms)
        self._sensors["throttle"].record(throttle_ms, now_ms)

    def batch_retried(self, topic: str, records: int) -> None:
        self._count("retries", topic, records)

    def batch_failed(self, topic: str, records: int) -> None:
        self._count("errors", topic, records)

    def batch_split(self) -> None:
        self._sensors["splits"].record(1, self._metrics.now_ms())

    def waited_for_room(self, seconds: float) -> None:
        now_ms = self._metrics.now_ms()
        self._sensors["wait"].record(seconds, now_ms)
        self._sensors["wait-ns"].record(seconds * 1e9, now_ms)

    def buffer_exhausted(self) -> None:
        self._sensors["exhausted"].record(1, self._metrics.now_ms())

    def took(self, what: Timed, seconds: float) -> None:
        """A call returned after so long."""
        self._sensors[what].record(seconds * 1e9, self._metrics.now_ms())

    def _count(self, sensor: str, topic: str, records: int) -> None:
        now_ms = self._metrics.now_ms()
        self._sensors[sensor].record(records, now_ms)
        self._topic(topic)[sensor].record(records, now_ms)

    def _topic(self, topic: str) -> dict[str, Sensor]:
        sensors = self._topics.get(topic)
        if sensors is None:
            sensors = self._topics[topic] = self._metrics.sensors(TOPIC_GROUP, _TOPIC, {"topic": topic})
        return sensors

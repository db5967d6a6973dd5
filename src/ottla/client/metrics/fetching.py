"""Metrics of fetching, for consumers and share consumers."""

from __future__ import annotations

from collections.abc import Callable

from ottla.client.metrics.registry import Metrics, MetricSpec, Sensor, parse_specs

FETCH = parse_specs("""
fetch-size-avg fetch-size avg Bytes of records in a fetch, on average.
fetch-size-max fetch-size max Bytes of records in a fetch, at most.
bytes-consumed-rate bytes rate Bytes of records consumed a second.
bytes-consumed-total bytes total Bytes of records consumed.
records-per-request-avg request-records avg Records in a fetch, on average.
records-consumed-rate records rate Records consumed a second.
records-consumed-total records total Records consumed.
fetch-latency-avg latency avg Milliseconds a fetch took, on average.
fetch-latency-max latency max Milliseconds a fetch took, at most.
fetch-rate fetches rate Fetches a second.
fetch-total fetches total Fetches.
fetch-throttle-time-avg throttle avg Milliseconds that brokers throttled fetches, on average.
fetch-throttle-time-max throttle max Milliseconds that brokers throttled a fetch, at most.
""")
_TOPIC = parse_specs("""
fetch-size-avg fetch-size avg Bytes of the topic in a fetch, on average.
fetch-size-max fetch-size max Bytes of the topic in a fetch, at most.
bytes-consumed-rate bytes rate Bytes of the topic consumed a second.
bytes-consumed-total bytes total Bytes of the topic consumed.
records-per-request-avg request-records avg Records of the topic in a fetch, on average.
records-consumed-rate records rate Records of the topic consumed a second.
records-consumed-total records total Records of the topic consumed.
""")
POLL = parse_specs("""
time-between-poll-avg between-polls avg Milliseconds between two polls, on average.
time-between-poll-max between-polls max Milliseconds between two polls, at most.
poll-idle-ratio-avg idle avg Share of time that was spent in poll, on average.
""")


class FetchMetrics:
    """What fetches bring; `kind` is consumer or consumer-share."""

    def __init__(self, metrics: Metrics, kind: str, extra: tuple[MetricSpec, ...] = ()) -> None:
        self.metrics = metrics
        self.group = f"{kind}-fetch-manager-metrics"
        self.sensors = metrics.sensors(self.group, FETCH + extra)
        self._topics: dict[str, dict[str, Sensor]] = {}

    def fetch_answered(self, size_bytes: int, records: int, latency_ms: float, throttle_ms: int) -> None:
        now_ms = self.metrics.now_ms()
        self.sensors["fetches"].record(1, now_ms)
        self.sensors["latency"].record(latency_ms, now_ms)
        self.sensors["throttle"].record(throttle_ms, now_ms)
        self.sensors["fetch-size"].record(size_bytes, now_ms)
        self.sensors["request-records"].record(records, now_ms)

    def topic_fetched(self, topic: str, size_bytes: int, records: int) -> None:
        """A part of a fetch that is of one topic."""
        now_ms = self.metrics.now_ms()
        sensors = self._topic(topic)
        sensors["fetch-size"].record(size_bytes, now_ms)
        sensors["request-records"].record(records, now_ms)

    def records_consumed(self, topic: str, records: int, size_bytes: int) -> None:
        """Records were handed out."""
        now_ms = self.metrics.now_ms()
        for sensors in (self.sensors, self._topic(topic)):
            sensors["records"].record(records, now_ms)
            sensors["bytes"].record(size_bytes, now_ms)

    def _topic(self, topic: str) -> dict[str, Sensor]:
        sensors = self._topics.get(topic)
        if sensors is None:
            sensors = self._topics[topic] = self.metrics.sensors(self.group, _TOPIC, {"topic": topic})
        return sensors


class PollMetrics:
    """How often the application polls; `group` is consumer-metrics or consumer-share-metrics."""

    def __init__(self, metrics: Metrics, group: str) -> None:
        self._metrics = metrics
        self._sensors = metrics.sensors(group, POLL)
        self._started_ms: int | None = None
        self._ended_ms: int | None = None
        metrics.gauge(group, "last-poll-seconds-ago", "Seconds since the last poll.", self._seconds_ago)

    def poll_started(self) -> None:
        now_ms = self._metrics.now_ms()
        if self._started_ms is not None:
            between_ms = now_ms - self._started_ms
            self._sensors["between-polls"].record(between_ms, now_ms)
            if self._ended_ms is not None and between_ms > 0:
                self._sensors["idle"].record((self._ended_ms - self._started_ms) / between_ms, now_ms)
        self._started_ms = now_ms
        self._ended_ms = None

    def poll_ended(self) -> None:
        self._ended_ms = self._metrics.now_ms()

    def _seconds_ago(self) -> float:
        return -1.0 if self._started_ms is None else (self._metrics.now_ms() - self._started_ms) // 1000


SecondsAgo = Callable[[], float]


def seconds_since(metrics: Metrics, last_ms: Callable[[], int | None]) -> SecondsAgo:
    """A gauge that tells how long ago something happened, -1 while it never did."""

    def gauge() -> float:
        happened_ms = last_ms()
        return -1.0 if happened_ms is None else (metrics.now_ms() - happened_ms) // 1000

    return gauge

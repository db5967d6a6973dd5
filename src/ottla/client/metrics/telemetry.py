"""Pushing metrics to the cluster, when an operator has subscribed to them (KIP-714).

`TelemetrySession` decides when to ask for the subscription and when to push; `TelemetryReporter` carries it out. A
client that nobody wants metrics of asks every few minutes, and that is all it costs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from ottla.client.errors import KafkaError, KafkaTimeoutError, UnsupportedVersionError
from ottla.client.metrics.otlp import Point, write_metrics
from ottla.client.metrics.registry import MetricName, Metrics
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID, uuid_to_text
from ottla.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from ottla.protocol.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse
from ottla.records.compression import Codec, compress

if TYPE_CHECKING:
    from ottla.client.network.cluster import Cluster

PREFIX = "org.apache.kafka."
DEFAULT_INTERVAL_MS = 300_000
NEVER_MS = 2**62
FIRST_PUSH_JITTER = (0.5, 1.5)
"""The first push comes so many intervals after the subscription: clients that start together push apart."""
RETRY_MS = 5_000
CLOSE_TIMEOUT_MS = 1_000

_LOG = logging.getLogger("ottla.client")

_GIVE_UP = {ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_RECORD, ErrorCode.UNSUPPORTED_VERSION}
_AT_ONCE = {ErrorCode.UNKNOWN_SUBSCRIPTION_ID, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE}
_LATER = {ErrorCode.TELEMETRY_TOO_LARGE, ErrorCode.THROTTLING_QUOTA_EXCEEDED}


class Subscription(NamedTuple):
    """What the cluster wants. `prefixes` of metric names; an empty prefix wants all of them."""

    id: int
    push_interval_ms: int
    codecs: tuple[int, ...]
    delta_temporality: bool
    prefixes: tuple[str, ...]

    def wants(self, name: str) -> bool:
        return any(name.startswith(prefix) for prefix in self.prefixes)


class TelemetrySession:
    """When to ask and when to push. Times are milliseconds of a monotonic clock."""

    def __init__(self, random: Random) -> None:
        self.client_instance_id = ZERO_UUID
        self.subscription: Subscription | None = None
        self.due_ms = 0
        """When the next request is due; `NEVER_MS` when telemetry is off for good."""
        self._random = random

    @property
    def wants_push(self) -> bool:
        """Whether the next request is a push; otherwise it asks for the subscription."""
        return self.subscription is not None and bool(self.subscription.prefixes)

    def subscribed(self, response: GetTelemetrySubscriptionsResponse, now_ms: int) -> None:
        """The cluster has answered what it wants."""
        if response.error_code:
            self._refused(response.error_code, now_ms)
            return
        self.client_instance_id = bytes(response.client_instance_id)
        interval_ms = response.push_interval_ms if response.push_interval_ms > 0 else DEFAULT_INTERVAL_MS
        wanted = tuple("" if prefix == "*" else prefix for prefix in response.requested_metrics)
        self.subscription = Subscription(
            response.subscription_id,
            interval_ms,
            tuple(response.accepted_compression_types),
            response.delta_temporality,
            wanted,
        )
        share = self._random.uniform(*FIRST_PUSH_JITTER) if wanted else 1.0
        self.due_ms = now_ms + int(interval_ms * share)

    def pushed(self, error_code: int, now_ms: int) -> None:
        """The cluster has answered a push."""
        assert self.subscription is not None
        if error_code:
            self._refused(error_code, now_ms)
        else:
            self.due_ms = now_ms + self.subscription.push_interval_ms

    def failed(self, error: KafkaError, now_ms: int) -> None:
        """There was no answer: the metrics of the moment are lost, the next ones come in their time."""
        if isinstance(error, UnsupportedVersionError):
            self.due_ms = NEVER_MS  # the cluster has no telemetry
        else:
            interval_ms = self.subscription.push_interval_ms if self.wants_push and self.subscription else RETRY_MS
            self.due_ms = now_ms + interval_ms

    def _refused(self, error_code: int, now_ms: int) -> None:
        interval_ms = self.subscription.push_interval_ms if self.subscription else DEFAULT_INTERVAL_MS
        self.subscription = None
        if error_code in _AT_ONCE:
            self.due_ms = now_ms
        elif error_code in _LATER:
            self.due_ms = now_ms + interval_ms
        else:
            if error_code not in _GIVE_UP:
                _LOG.warning("telemetry ends: the cluster answered with error %d", error_code)
            self.due_ms = NEVER_MS


def telemetry_name(name: MetricName) -> str:
    """The name of a metric in a push: `org.apache.kafka.producer.record.send.rate`."""
    group = name.group.lower().replace("-", ".").replace(".metrics", "")
    return f"{PREFIX}{group}.{name.name.lower().replace('-', '.')}"


class Collector:
    """Makes the points of a push, and remembers the sums of the last one where differences are wanted."""

    def __init__(self, metrics: Metrics, started_ms: int) -> None:
        self._metrics = metrics
        self._started_ms = started_ms
        self._last: dict[MetricName, float] = {}
        self._last_ms = started_ms

    def points(self, subscription: Subscription, time_ms: int) -> list[Point]:
        """Every metric that is wanted and has a value. `time_ms` is wall-clock time."""
        points = []
        is_delta = subscription.delta_temporality
        for name, value in self._metrics.snapshot().items():
            wire_name = telemetry_name(name)
            if math.isnan(value) or not subscription.wants(wire_name):  # NaN: nothing was recorded
                continue
            # The broker knows the client id from the request.
            tags = tuple((key.replace("-", "_"), text) for key, text in name.tags if key != "client-id")
            if not self._metrics.is_cumulative(name):
                points.append(Point(wire_name, value, tags))
                continue
            started_ms = self._last_ms if is_delta else self._started_ms
            difference = value - self._last.get(name, 0.0) if is_delta else value
            self._last[name] = value
            points.append(Point(wire_name, difference, tags, is_sum=True, is_delta=is_delta, started_ms=started_ms))
        self._last_ms = time_ms
        return points


class TelemetryReporter:
    """Asks and pushes in the background from `start` to `close`. `resource` are the attributes of the client itself,
    such as group_id, transactional_id, client_rack."""

    def __init__(
        self,
        cluster: Cluster,
        metrics: Metrics,
        resource: Callable[[], Iterable[tuple[str, str]]],
        *,
        random: Random | None = None,
        wall_clock_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._resource = resource
        self._wall_clock_ms = wall_clock_ms
        self._session = TelemetrySession(random or Random())
        self._collector = Collector(metrics, wall_clock_ms())
        self._task: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        self._node: int | None = None

    def start(self) -> None:
        """Begin; on the client's event loop."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def client_instance_id(self, timeout_ms: int) -> str:
        """The id that the cluster has given this client, as Kafka writes ids; starts telemetry if need be."""
        self.start()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._answered.wait()
        except TimeoutError:
            raise KafkaTimeoutError(f"no broker has given this client an id within {timeout_ms} ms") from None
        if self._session.client_instance_id == ZERO_UUID:
            raise UnsupportedVersionError(
                "the cluster takes no metrics of clients (KIP-714).",
                hint="Have brokers of Kafka 3.7 or newer with a receiver among their metric.reporters.",
            )
        return uuid_to_text(self._session.client_instance_id)

    async def close(self) -> None:
        """Push a last time where pushes are wanted, and end."""
        if self._task is None:
            return
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait((task,))
        if self._session.wants_push and self._session.due_ms != NEVER_MS:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_MS / 1000):
                    await self._push(terminating=True)
            except (KafkaError, TimeoutError):
                pass  # the last numbers of a client are not worth waiting for

    async def _run(self) -> None:
        session = self._session
        while session.due_ms != NEVER_MS:
            await asyncio.sleep(max(0, session.due_ms - self._cluster.now_ms()) / 1000)
            try:
                if session.wants_push:
                    await self._push(terminating=False)
                else:
                    await self._subscribe()
            except KafkaError as error:
                self._node = None
                session.failed(error, self._cluster.now_ms())
            except Exception:
                _LOG.exception("Metrics could not be pushed, which should not happen")
                session.due_ms = NEVER_MS
        self._answered.set()

    async def _subscribe(self) -> None:
        request = GetTelemetrySubscriptionsRequest(client_instance_id=self._session.client_instance_id)
        # A push goes to the broker that knows the subscription's client: stay with one while it lasts.
        node = self._node = await self._cluster.any_node(DEFAULT_INTERVAL_MS)
        response = await self._cluster.request(node, request)
        assert isinstance(response, GetTelemetrySubscriptionsResponse)
        self._session.subscribed(response, self._cluster.now_ms())
        if not response.error_code:
            self._answered.set()

    async def _push(self, *, terminating: bool) -> None:
        subscription = self._session.subscription
        assert subscription is not None
        now_ms = self._wall_clock_ms()
        payload = write_metrics(self._resource(), self._collector.points(subscription, now_ms), now_ms)
        codec = next((codec for codec in subscription.codecs if codec in Codec.__members__.values()), Codec.NONE)
        request = PushTelemetryRequest(
            client_instance_id=self._session.client_instance_id,
            subscription_id=subscription.id,
            terminating=terminating,
            compression_type=codec,
            metrics=bytes(compress(codec, payload)) if codec else payload,
        )
        node = self._node if self._node is not None else await self._cluster.any_node(DEFAULT_INTERVAL_MS)
        response = await self._cluster.request(node, request)
        assert isinstance(response, PushTelemetryResponse)
        self._session.pushed(response.error_code, self._cluster.now_ms())

"""One line per request, or per slow request, with where its time went. Both can be switched while the broker runs.

The request log is Kafka's: set the logger `kafka.request.logger` to DEBUG (a BROKER_LOGGER resource, KIP-412) and back.
A request is slow when it took longer than `request.slow.threshold.ms`; what a long poll waited does not count, since
its client asked for it. While neither is wanted there is no `RequestLog`, and nothing is asked on a request's way.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import RequestContext
    from ottla.server.broker.dispatch import Router
    from ottla.server.broker.request_metrics import Timing

REQUEST_LOGGER: Final = "kafka.request.logger"
SLOW_LOGGER: Final = "ottla.server.broker.slow_requests"

LONG_POLLS: Final = frozenset(
    int(key) for key in (ApiKey.FETCH, ApiKey.SHARE_FETCH, ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP)
)
"""APIs whose clients ask to be kept waiting."""

_NS_PER_MS: Final = 1_000_000

_requests = logging.getLogger(REQUEST_LOGGER)
_slow = logging.getLogger(SLOW_LOGGER)


class RequestLog:
    """What is logged: every request, and those above a threshold (None: none)."""

    __slots__ = ("logs_all", "threshold_ns")

    def __init__(self, logs_all: bool, threshold_ns: int | None) -> None:
        self.logs_all = logs_all
        self.threshold_ns = threshold_ns

    def completed(self, timing: Timing, context: RequestContext) -> None:
        """A request was answered."""
        if self.logs_all:
            _requests.debug("request completed", extra=_fields(timing, context))
        if self.threshold_ns is not None:
            spent_ns = timing.total_ns
            if timing.route.api.key in LONG_POLLS:
                spent_ns -= timing.remote_ns
            if spent_ns > self.threshold_ns:
                _slow.warning("slow request", extra=_fields(timing, context))


def quiet_request_log() -> None:
    """The request log is off until somebody asks for it by its name, whatever the level of everything else."""
    if _requests.level == logging.NOTSET:
        _requests.setLevel(logging.WARNING)


def follow_settings(router: Router, config: BrokerConfig) -> None:
    """Log what the loggers' levels and the settings ask for, from now on."""
    threshold_ms: int = config["request.slow.threshold.ms"]
    logs_all = _requests.isEnabledFor(logging.DEBUG)
    if logs_all or threshold_ms >= 0:
        router.log = RequestLog(logs_all, threshold_ms * _NS_PER_MS if threshold_ms >= 0 else None)
    else:
        router.log = None
    for metrics in router.metrics.values():
        metrics.watch(router.log is not None)


def _fields(timing: Timing, context: RequestContext) -> dict[str, object]:
    route = timing.route
    software, version = context.client_software
    return {
        "api": route.api.name,
        "api_version": route.version,
        "correlation_id": timing.correlation_id,
        "client_id": timing.client_id or "",
        "client": f"{timing.client}:{context.client_port}",
        "software": f"{software}/{version}",
        "listener": context.listener_name,
        "principal": context.principal,
        "request_bytes": timing.request_bytes,
        "total_ms": _ms(timing.total_ns),
        "queue_ms": _ms(timing.started_ns - timing.arrived_ns),
        "local_ms": _ms(timing.local_ns),
        "remote_ms": _ms(timing.remote_ns),
        "response_queue_ms": _ms(timing.response_queue_ns),
        "send_ms": _ms(timing.send_ns),
    }


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / _NS_PER_MS, 3)

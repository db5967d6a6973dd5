"""Metrics of share consumers: `consumer-share-metrics`, `consumer-share-fetch-manager-metrics`, `…-coordinator-…`."""

from __future__ import annotations

from ottla.client.metrics.consumer import GroupMetrics
from ottla.client.metrics.fetching import FetchMetrics, PollMetrics
from ottla.client.metrics.registry import Metrics, parse_specs

_ACKNOWLEDGEMENTS = parse_specs("""
records-per-request-max request-records max Records in a fetch, at most.
acknowledgements-send-rate acknowledgements rate Acknowledgements of records sent a second.
acknowledgements-send-total acknowledgements total Acknowledgements of records sent.
acknowledgements-error-rate acknowledgements-failed rate Acknowledgements of records that failed, a second.
acknowledgements-error-total acknowledgements-failed total Acknowledgements of records that failed.
""")


class ShareMetrics:
    """What happens in a share consumer."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.poll = PollMetrics(metrics, "consumer-share-metrics")
        self.fetch = FetchMetrics(metrics, "consumer-share", _ACKNOWLEDGEMENTS)
        self.group = GroupMetrics(metrics, "consumer-share-coordinator-metrics")

    def acknowledged(self, records: int) -> None:
        self.fetch.sensors["acknowledgements"].record(records, self._metrics.now_ms())

    def acknowledgement_failed(self, records: int) -> None:
        self.fetch.sensors["acknowledgements-failed"].record(records, self._metrics.now_ms())

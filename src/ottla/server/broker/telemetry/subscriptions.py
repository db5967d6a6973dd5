"""What clients are asked to push: the CLIENT_METRICS resources of the metadata image, matched to a client."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ottla.core.regex import Regex, RegexError
from ottla.schema.client_metrics import ALL_METRICS, CLIENT_METRICS_SETTINGS, parse_match
from ottla.schema.definition import SettingError
from ottla.server.metadata.image import ConfigResource, ConfigResourceType

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL_MS: Final = 300_000
"""How often a client without a subscription asks whether there is one now."""


class Subscription(NamedTuple):
    """One client metrics resource."""

    name: str
    metrics: tuple[str, ...]
    interval_ms: int
    match: Mapping[str, Regex]

    def matches(self, client: Mapping[str, str]) -> bool:
        """Whether every selector matches the whole of what the client is; without any, every client does."""
        try:
            return all(
                selector in client and pattern.matches(client[selector]) for selector, pattern in self.match.items()
            )
        except RegexError:  # it takes too long
            return False


class Wanted(NamedTuple):
    """What one client is to push, and how often."""

    metrics: tuple[str, ...]
    interval_ms: int


def subscriptions_of(configs: Mapping[ConfigResource, Mapping[str, str]]) -> dict[str, Subscription]:
    """The subscriptions among all settings of the cluster, by name."""
    found = {}
    for (resource_type, name), overrides in configs.items():
        if resource_type == ConfigResourceType.CLIENT_METRICS:
            values = {setting.name: setting.default for setting in CLIENT_METRICS_SETTINGS.values()}
            values |= {key: CLIENT_METRICS_SETTINGS[key].parse(text) for key, text in overrides.items()}
            metrics, interval_ms, match = values["metrics"], values["interval.ms"], values["match"]
            assert isinstance(metrics, list)
            assert isinstance(interval_ms, int)
            assert isinstance(match, list)
            try:
                found[name] = Subscription(name, tuple(metrics), interval_ms, parse_match(match))
            except SettingError as error:  # of a Kafka that takes more than we do
                logger.warning("nobody is asked for the metrics of %s: %s", name, error.reason)
    return found


def wanted_of(subscriptions: Iterable[Subscription], client: Mapping[str, str]) -> Wanted:
    """All metrics of the subscriptions that match, at the shortest of their intervals."""
    metrics: set[str] = set()
    interval_ms = DEFAULT_INTERVAL_MS
    for subscription in subscriptions:
        if subscription.matches(client):
            metrics.update(subscription.metrics)
            interval_ms = min(interval_ms, subscription.interval_ms)
    return Wanted((ALL_METRICS,) if ALL_METRICS in metrics else tuple(sorted(metrics)), interval_ms)

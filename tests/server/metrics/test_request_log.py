"""The request log and the log of slow requests, switched while the broker runs."""

from __future__ import annotations

import time

import pytest

import ottla
from ottla.admin import ConfigResource
from ottla.server.broker.request_log import REQUEST_LOGGER, SLOW_LOGGER
from ottla.testing import Cluster

FIELDS = {
    "api",
    "api_version",
    "client_id",
    "correlation_id",
    "total_ms",
    "queue_ms",
    "local_ms",
    "remote_ms",
    "send_ms",
}


def eventually(caplog: pytest.LogCaptureFixture, logger: str, api: str) -> list[dict[str, object]]:
    """The lines, when one of this API is there: a line is written after the answer has left."""
    deadline = time.monotonic() + 10
    found = lines(caplog, logger)
    while not any(line["api"] == api for line in found):
        assert time.monotonic() < deadline, found
        time.sleep(0.005)
        found = lines(caplog, logger)
    return found


def lines(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, object]]:
    return [vars(record) for record in caplog.records if record.name == logger]


def test_the_request_log_is_switched_by_the_level_of_its_logger(caplog: pytest.LogCaptureFixture) -> None:
    with Cluster() as cluster, ottla.Admin(cluster.bootstrap_servers, client_id="me") as admin:
        loggers = ConfigResource.broker_logger(1)
        try:
            admin.list_topics()
            assert lines(caplog, REQUEST_LOGGER) == []
            assert REQUEST_LOGGER in admin.describe_configs([loggers])[loggers]
            admin.set_config(loggers, {REQUEST_LOGGER: "DEBUG"})
            admin.list_topics()
            found = eventually(caplog, REQUEST_LOGGER, "Metadata")
            assert all(set(line) >= FIELDS and line["client_id"] == "me" for line in found)
        finally:
            admin.set_config(loggers, {REQUEST_LOGGER: "WARN"})
        admin.list_topics()
        caplog.clear()
        admin.list_topics()
        assert lines(caplog, REQUEST_LOGGER) == []


def test_slow_requests_are_told_with_where_their_time_went(caplog: pytest.LogCaptureFixture) -> None:
    with Cluster(topics=["orders"]) as cluster, ottla.Admin(cluster.bootstrap_servers) as admin:
        admin.list_topics()
        assert lines(caplog, SLOW_LOGGER) == []
        everybody = ConfigResource.broker(None)
        admin.set_config(everybody, {"request.slow.threshold.ms": 0})
        admin.create_topics("another")
        slow = {line["api"]: line for line in eventually(caplog, SLOW_LOGGER, "CreateTopics")}
        assert slow["CreateTopics"]["total_ms"] > 0  # type: ignore[operator]
        admin.set_config(everybody, {"request.slow.threshold.ms": 60_000})
        admin.list_topics()
        caplog.clear()
        # A long poll that waits is not slow.
        with ottla.Consumer(cluster.bootstrap_servers) as consumer:
            consumer.assign([ottla.TopicPartition("orders", 0)])
            consumer.poll(timeout_s=0.2)
        assert lines(caplog, SLOW_LOGGER) == []

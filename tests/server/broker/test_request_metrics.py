"""Errors in answers are counted wherever they stand; the sample of timed requests keeps its weight."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.protocol.messages.find_coordinator import Coordinator, FindCoordinatorResponse
from ottla.protocol.messages.heartbeat import HeartbeatResponse
from ottla.protocol.messages.produce import PartitionProduceResponse, ProduceResponse, TopicProduceResponse
from ottla.server.broker.request_metrics import ENOUGH_SAMPLES, RequestMetrics, Timing, error_counter


def errors_in(response: Any) -> tuple[bool, dict[int, int]]:
    count = error_counter(type(response))
    assert count is not None
    errors: dict[int, int] = {}
    return count(response, errors), errors


def test_errors_are_found_at_every_depth() -> None:
    assert errors_in(HeartbeatResponse()) == (False, {})
    assert errors_in(HeartbeatResponse(error_code=27)) == (True, {27: 1})
    answers = [PartitionProduceResponse(index=index, error_code=code) for index, code in enumerate((0, 3, 3, 10))]
    topics = [TopicProduceResponse(name="a", partition_responses=answers), TopicProduceResponse(name="b")]
    assert errors_in(ProduceResponse(responses=topics)) == (True, {3: 2, 10: 1})
    partitions = [PartitionData(partition_index=0, error_code=1, records=None)]
    response = FetchResponse(error_code=70, responses=[FetchableTopicResponse(topic="a", partitions=partitions)])
    assert errors_in(response) == (True, {70: 1, 1: 1})
    assert errors_in(FindCoordinatorResponse(coordinators=[Coordinator(error_code=15)])) == (True, {15: 1})


def test_every_response_has_a_counter_or_no_error() -> None:
    from importlib import import_module

    from ottla.server.broker.api_table import APIS

    for api in APIS.values():
        response = getattr(import_module(api.message_module), f"{api.name}Response")
        count = error_counter(response)
        if count is not None:
            errors: dict[int, int] = {}
            assert count(response(), errors) is False
            assert errors == {}


def test_a_sample_stands_for_all_requests() -> None:
    metrics = RequestMetrics("Produce")
    route: Any = SimpleNamespace(requests=0, mask=0, metrics=metrics)
    metrics.add(route)
    context: Any = SimpleNamespace(client_id=None, client_host="", correlation_id=0)
    total = 100_000
    for _ in range(total):
        route.requests += 1
        if not route.requests & route.mask:
            timing = Timing(route, context, 0, 10, 100)
            timing.end(60)
            timing.sent(70, 90)
            metrics.record(timing)
    assert metrics.samples < 5 * ENOUGH_SAMPLES
    assert abs(metrics.total.count - total) < 300
    assert abs(metrics.local.snapshot().total * 1e6 / metrics.local.count - 50) < 1
    metrics.turn(10**6)
    assert route.mask > 0
    metrics.turn(10**6 + 1)
    metrics.watch(True)
    assert route.mask == 0
    metrics.watch(False)
    assert route.mask > 0


def test_a_quiet_api_is_timed_throughout() -> None:
    metrics = RequestMetrics("CreateTopics")
    route: Any = SimpleNamespace(requests=0, mask=0, metrics=metrics)
    metrics.add(route)
    context: Any = SimpleNamespace(client_id=None, client_host="", correlation_id=0)
    for period in range(1, 5):
        for _ in range(100):
            metrics.record(Timing(route, context, 0, 0, 0))
        metrics.turn(period * 10**6)
        assert route.mask == 0

"""`ottla bench`: what it measures and how it says so."""

import pytest

from ottla.cli.bench.loads import payloads
from ottla.cli.bench.measures import Latencies, Result, percentile


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (99.9, 100), (100, 100), (1, 1)])
def test_percentiles_are_values_that_were_measured(percent, value):
    assert percentile(list(range(1, 101)), percent) == value
    assert percentile([7.0], percent) == 7.0


def test_latencies_and_rates():
    latencies = Latencies.of([0.001, 0.003, 0.002])
    assert (latencies.samples, latencies.average, latencies.longest) == (3, pytest.approx(2), pytest.approx(3))
    assert Latencies.of([]) is None
    result = Result("produce", "t", 1000, 2**20, 0.5, 0, latencies)
    assert result.as_json()["records_per_second"] == 2000
    assert result.as_json()["mib_per_second"] == 2
    assert result.as_json()["latency_ms"]["p50"] == 2
    assert result.as_fields()["throughput"] == "2,000 records/s, 2.0 MiB/s"


def test_payloads_are_the_same_every_time():
    assert payloads(20, 3) == payloads(20, 3)
    assert {len(one) for one in payloads(20, 3)} == {20}


def test_produce(ottla):
    said = ottla("bench", "produce", "-n", "5000", "--partitions", "2", "--keys", "3", "-s", "50", "--json").json
    assert (said["records"], said["failed"], said["size_bytes"]) == (5000, 0, 250_000)
    assert said["latency_ms"]["samples"] == 3
    assert said["topic"] not in ottla("topics", "list").out


def test_produce_at_a_rate(ottla, name):
    ottla("topics", "create", name)
    said = ottla("bench", "produce", name, "-n", "100000", "--rate", "500", "--duration", "400ms", "--json").json
    assert 50 <= said["records"] <= 300
    assert ottla("consume", name, "--count").out == f"{said['records']}\n"


def test_consume(ottla):
    said = ottla("bench", "consume", "-n", "5000", "--json").json
    assert said["records"] == 5000
    assert said["size_bytes"] == 500_000
    assert said["first_record_ms"] > 0


def test_there_and_back(ottla):
    lines = ottla("bench", "round-trip", "-n", "20").lines
    assert lines[0].startswith("records     20 in ")
    assert "(20 samples)" in lines[2]

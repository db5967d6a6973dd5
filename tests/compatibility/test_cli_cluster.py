"""`ottla status`, `top` and `bench` with a cluster of either kind."""

from tests.compatibility.command_line import ottla as ottla


def test_status(ottla, name):
    ottla.topic(name, 3)
    told = ottla("status", "--json").json
    assert told["health"] == "healthy"
    assert told["node"] is None
    assert told["partitions"] >= 3
    [broker] = told["brokers"]
    assert broker["used_bytes"] is not None
    assert f"{broker['host']}:{broker['port']}" == ottla.bootstrap
    assert ottla("status").lines[0].split() == ["health", "healthy"]


def test_top(ottla, name):
    ottla.topic(name, 2)
    ottla("produce", name, "a", "b", "c")
    ottla("groups", "reset", f"{name}-group", "--to", "earliest", "-t", name, "-y")
    view = ottla("top", "--once", "--json", "-i", "0.1").json
    assert [(row["partitions"], row["records"]) for row in view["topics"] if row["topic"] == name] == [(2, 3)]
    assert [row["lag"] for row in view["groups"] if row["group_id"] == f"{name}-group"] == [3]
    assert view["brokers"][0]["leaders"] >= 2


def test_bench(ottla):
    assert ottla("bench", "produce", "-n", "3000", "--json").json["records"] == 3000
    assert ottla("bench", "consume", "-n", "3000", "--json").json["records"] == 3000
    assert ottla("bench", "round-trip", "-n", "10", "--json").json["latency_ms"]["samples"] == 10

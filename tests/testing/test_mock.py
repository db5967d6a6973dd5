"""Faults, time and topics over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import ottla
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.testing import Cluster
from ottla.testing.mock import ENDPOINTS, KINDS, serve
from tests.testing.raw_client import RawClient

HEARTBEAT = HeartbeatRequest(group_id="one", generation_id=1, member_id="m")


class Http:
    """The HTTP side of a cluster, on a thread of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(5)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await serve(self.cluster, "127.0.0.1", 0, self._told, self._stop)

    def _told(self, port: int) -> None:
        self._port = port
        self._ready.set()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                found, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            found, text = error.code, error.read()
            error.close()
        assert found == status, text
        return json.loads(text)


@pytest.fixture(scope="module")
def shared() -> Iterator[Http]:
    with Cluster(topics={"orders": 2}) as cluster:
        http = Http(cluster)
        yield http
        http.close()


@pytest.fixture
def http(shared: Http) -> Http:
    shared.ask("POST", "/reset")
    return shared


def test_it_tells_what_there_is(http: Http) -> None:
    told = http.ask("GET", "/")
    assert told["bootstrap_servers"] == http.cluster.bootstrap_servers
    assert {(one["method"], one["path"]) for one in told["endpoints"]} == {(one.method, one.path) for one in ENDPOINTS}
    assert all(one["about"] for one in told["endpoints"])
    assert set(told["faults"]) == set(KINDS)
    assert told["faults"]["fail"]["fields"]["api"] == "required"
    assert told["faults"]["fail"]["fields"]["times"] == 1


def test_health_follows_the_broker(http: Http) -> None:
    assert http.ask("GET", "/health")["status"] == "ok"
    http.ask("POST", "/brokers/0/kill")
    assert http.ask("GET", "/health", status=503)["brokers"] == [{"broker": 0, "running": False}]
    assert "restart" in http.ask("GET", "/topics", status=409)["error"]
    http.ask("POST", "/brokers/0/restart")
    assert http.ask("GET", "/health")["status"] == "ok"


def test_faults_are_made_looked_at_waited_for_and_cleared(http: Http) -> None:
    made = http.ask("POST", "/faults", {"fault": "fail", "api": "Heartbeat", "code": 27, "group": "one"}, 201)
    text = "fail Heartbeat with REBALANCE_IN_PROGRESS, group one, once"
    assert made == {"id": made["id"], "fault": text, "hits": 0, "active": True, "left": 1}
    path = f"/faults/{made['id']}"
    assert "0 of 1 hits within 0.05 s: fail Heartbeat" in http.ask("GET", f"{path}?wait_s=0.05", status=408)["error"]
    with RawClient(http.cluster.bootstrap_servers) as client:
        assert client.ask(HEARTBEAT, 3).error_code == 27
    over = {**made, "hits": 1, "active": False, "left": 0}
    assert http.ask("GET", f"{path}?wait_s=5&hits=1") == over
    other = http.ask("POST", "/faults", {"fault": "delay", "api": ["Fetch", 0], "seconds": 1, "times": None}, 201)
    http.ask("POST", "/faults", {"fault": "disk_full"}, 201)
    assert [one["active"] for one in http.ask("GET", "/faults")] == [False, True, True]
    assert http.ask("DELETE", f"/faults/{other['id']}")["active"] is False
    assert http.ask("DELETE", "/faults") == {"cleared": 1}
    http.ask("POST", "/reset")
    assert http.ask("GET", "/faults") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"fault": "fail", "api": "Produce", "code": "NOT_LEADER_OR_FOLLOWER", "topic": "orders", "partition": 0},
        {"fault": "delay", "api": None, "seconds": 0.5, "when": "response"},
        {"fault": "drop", "api": "Produce", "when": "response", "after": 2, "client_id": "shop"},
        {"fault": "stall", "seconds": 5},
        {"fault": "partition", "client_id": ["shop", "till"]},
        {"fault": "partition", "address": "127.0.0.1"},
        {"fault": "refuse_connections", "broker": 0},
        {"fault": "disk_full"},
        {"fault": "disk_slow", "seconds": 0.01, "operations": ["sync"]},
        {"fault": "disk_fail", "error": "EIO", "operations": ["lock"]},
    ],
    ids=lambda fields: fields["fault"],
)
def test_every_kind_of_fault_can_be_made(http: Http, fields: dict[str, Any]) -> None:
    assert http.ask("POST", "/faults", fields, 201)["active"]


def test_a_broker_stalls_and_resumes(http: Http) -> None:
    with RawClient(http.cluster.bootstrap_servers, timeout_s=0.1) as client:
        http.ask("POST", "/brokers/0/stall", status=201)
        with pytest.raises(TimeoutError):
            client.ask(HEARTBEAT, 3)
        http.ask("POST", "/brokers/0/resume")
        client.set_timeout(5)
        assert client.receive(HEARTBEAT, 3).error_code == 16


def test_time_is_skipped(http: Http) -> None:
    assert http.ask("GET", "/clock")["ahead_ms"] == 0
    assert http.ask("POST", "/clock/skip", {"seconds": 60.5})["ahead_ms"] == 60_500
    assert http.ask("GET", "/clock")["ahead_ms"] == 60_500


def test_topics_and_records_go_in_and_out(http: Http) -> None:
    assert http.ask("GET", "/topics") == [{"name": "orders", "partitions": 2}]
    http.ask("POST", "/topics", {"name": "news", "partitions": 1, "settings": {"retention.ms": 1000}}, 201)
    places = http.ask("POST", "/topics/news/records", {"values": ["a", {"b": 1}, None], "key": "k"})
    assert places == [{"partition": 0, "offset": offset} for offset in range(3)]
    with ottla.Producer(http.cluster.bootstrap_servers) as producer:
        producer.send("news", b"\xff", headers={"h": b"1"}).result(5)
    records = http.ask("GET", "/topics/news/records?count=4&partition=0")
    assert [(one["key"], one.get("value")) for one in records[:3]] == [("k", "a"), ("k", '{"b":1}'), ("k", None)]
    assert records[3]["value_base64"] == "/w=="
    assert records[3]["headers"] == [{"name": "h", "value": "1"}]
    assert len(http.ask("GET", "/topics/news/records?limit=2")) == 2
    assert (
        "should have 9 records" in http.ask("GET", "/topics/news/records?count=9&timeout_s=0.05", status=408)["error"]
    )
    assert http.ask("DELETE", "/topics/news") == {"deleted": "news"}
    assert http.ask("GET", "/topics") == [{"name": "orders", "partitions": 2}]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("GET", "/nowhere", None, 404, "GET / tells what there is"),
        ("PUT", "/faults", None, 405, "there is no PUT /faults"),
        ("GET", "/faults/99", None, 404, "no fault 99"),
        ("GET", "/faults/x", None, 400, "fault_id is no number"),
        ("POST", "/faults", b"{", 400, "the body is no JSON"),
        ("POST", "/faults", b"[]", 400, "no JSON object"),
        ("POST", "/faults", {}, 400, "POST /faults needs fault"),
        ("POST", "/faults", {"fault": "explode"}, 400, "There are fail, delay"),
        ("POST", "/faults", {"fault": "fail"}, 400, "needs api and code"),
        ("POST", "/faults", {"fault": "fail", "api": "Produce", "code": "X"}, 400, "no error code of Kafka: 'X'"),
        ("POST", "/faults", {"fault": "fail", "api": "Produce", "code": 6, "tims": 1}, 400, "has no tims"),
        ("POST", "/faults", {"fault": "fail", "api": "Produce", "code": 6, "times": "1"}, 400, 'cannot be "1"'),
        ("POST", "/faults", {"fault": "fail", "api": {"a": 1}, "code": 6}, 400, "cannot be"),
        ("POST", "/clock/skip", {"seconds": -1}, 400, "forward only"),
        ("POST", "/clock/skip", {"seconds": True}, 400, "cannot be true"),
        ("POST", "/brokers/7/kill", None, 404, "no broker 7"),
        ("POST", "/brokers/7/stall", None, 400, "no broker 7"),
        ("POST", "/topics", {"name": "a/b"}, 400, "INVALID_TOPIC_EXCEPTION"),
        ("POST", "/topics", {"name": "orders"}, 400, "TOPIC_ALREADY_EXISTS"),
        ("DELETE", "/topics/nothing", None, 404, "UNKNOWN_TOPIC_OR_PARTITION"),
        ("GET", "/topics/nothing/records", None, 404, "no topic 'nothing'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    http: Http, method: str, path: str, body: Any, status: int, message: str
) -> None:
    error = http.ask(method, path, body, status)["error"]
    assert message in error
    assert "\n" not in error

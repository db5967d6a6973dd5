"""The audit log's core: what becomes a line, what is counted, and that both are bounded."""

from __future__ import annotations

import json
from typing import Any

from ottla.core.acl import AclOperation, ResourceType
from ottla.server.security.audit import Audit, encode_lines
from ottla.server.security.session import Session

TOPIC = ResourceType.TOPIC


class Context:
    def __init__(self, principal: str = "User:alice", host: str = "10.0.0.1", client_id: str | None = "app") -> None:
        self.principal = principal
        self.client_host = host
        self.client_id = client_id
        self.listener_name = "CLIENTS"
        self.session: Session | None = None


class Clock:
    now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


def make_audit(**settings: Any) -> tuple[Audit, Clock]:
    clock = Clock()
    return Audit(clock, node_id=1, **settings), clock


def test_every_allowed_change_is_a_line() -> None:
    audit, clock = make_audit()
    for _ in range(3):
        audit.authorization(Context(), AclOperation.CREATE, TOPIC, "orders", True)
    events = audit.take(clock.now_ms)
    assert [event["operation"] for event in events] == ["CREATE"] * 3
    assert events[0] == {
        "time_ms": clock.now_ms,
        "node": 1,
        "event": "authorization",
        "result": "allowed",
        "principal": "User:alice",
        "host": "10.0.0.1",
        "listener": "CLIENTS",
        "client_id": "app",
        "operation": "CREATE",
        "resource_type": "TOPIC",
        "resource": "orders",
    }


def test_access_is_told_once_and_counted_per_interval() -> None:
    audit, clock = make_audit(interval_ms=1000)
    for _ in range(500):
        audit.authorization(Context(), AclOperation.WRITE, TOPIC, "orders", True)
    assert [event.get("count") for event in audit.take(clock.now_ms)] == [None]
    clock.now_ms += 1000
    assert [event["count"] for event in audit.take(clock.now_ms)] == [499]
    clock.now_ms += 1000
    assert audit.take(clock.now_ms) == []  # a quiet interval: forgotten
    audit.authorization(Context(), AclOperation.WRITE, TOPIC, "orders", True)
    assert [event.get("count") for event in audit.take(clock.now_ms)] == [None]


def test_refusals_of_different_kinds_are_told_apart() -> None:
    audit, _clock = make_audit()
    for _ in range(2):
        audit.authorization(Context(), AclOperation.WRITE, TOPIC, "orders", False)
        audit.authorization(Context(), AclOperation.READ, TOPIC, "orders", False)
        audit.authorization(Context("User:bob"), AclOperation.WRITE, TOPIC, "orders", False)
        audit.authorization(Context(host="10.0.0.2"), AclOperation.WRITE, TOPIC, "orders", False)
    events = audit.finish()
    assert len(events) == 8
    assert {event["result"] for event in events} == {"denied"}
    assert sum(event.get("count", 1) for event in events) == 8 == audit.events


def test_describing_is_an_event_only_when_denied() -> None:
    audit, clock = make_audit()
    audit.authorization(Context(), AclOperation.DESCRIBE, TOPIC, "orders", True)
    assert audit.take(clock.now_ms) == []
    audit.authorization(Context(), AclOperation.DESCRIBE, TOPIC, "orders", False)
    assert len(audit.take(clock.now_ms)) == 1


def test_what_is_told_of_allowed_requests_can_be_chosen() -> None:
    audit, clock = make_audit(allowed=["changes"])
    audit.authorization(Context(), AclOperation.READ, TOPIC, "orders", True)
    audit.authorization(Context(), AclOperation.ALTER, TOPIC, "orders", True)
    assert [event["operation"] for event in audit.take(clock.now_ms)] == ["ALTER"]
    audit, clock = make_audit(allowed=[])
    audit.authorization(Context(), AclOperation.ALTER, TOPIC, "orders", True)
    audit.authorization(Context(), AclOperation.ALTER, TOPIC, "orders", False)
    assert [event["result"] for event in audit.take(clock.now_ms)] == ["denied"]


def test_a_flood_of_failed_logins_are_a_handful_of_lines() -> None:
    audit, _clock = make_audit(interval_ms=60_000)
    for _ in range(200_000 // 50):
        for _ in range(50):
            audit.authentication("10.6.6.6", "CLIENTS", "PLAIN", "User:admin", False, "wrong password")
    events = audit.finish()
    assert [event.get("count", 1) for event in events] == [1, 199_999]


def test_memory_is_bounded_and_what_is_left_out_is_counted() -> None:
    audit, clock = make_audit(most_keys=100, most_queued=150)
    for number in range(1000):
        audit.authentication("10.6.6.6", "CLIENTS", "PLAIN", f"User:{number}", False, "unknown user")
    for _ in range(100):
        audit.authorization(Context(), AclOperation.CREATE, TOPIC, "orders", True)
    events = audit.take(clock.now_ms)
    assert len(events) == 151
    assert events[-1] == {
        "time_ms": clock.now_ms,
        "node": 1,
        "event": "audit",
        "reason": "events were left out",
        "count": 950,
        "authentication_failed": 925,
        "authorization_allowed": 25,
    }
    assert audit.dropped == 950


def test_a_line_stays_a_line_whatever_clients_call_themselves() -> None:
    audit, clock = make_audit()
    evil = 'x"\n{"event":"authentication","result":"ok"}\r\x1b[2J\u202e' + "y" * 40_000
    context = Context(f"User:{evil}", client_id=evil)
    context.session = Session(context.principal, groups=(evil,))
    audit.authorization(context, AclOperation.WRITE, TOPIC, evil, False)
    audit.authentication("::1", "CLIENTS", "PLAIN", evil, False, evil)
    lines = encode_lines(audit.take(clock.now_ms))
    assert lines.isascii()
    assert lines.count(b"\n") == 2
    assert not any(byte < 32 for byte in lines.replace(b"\n", b""))
    assert len(lines) < 20_000
    first, second = (json.loads(line) for line in lines.splitlines())
    assert first["client_id"].startswith('x"\n{')
    assert (first["time"], second["host"]) == ("2023-11-14T22:13:20.000Z", "::1")


def test_refusals_are_no_curtain_for_what_somebody_does_who_got_in() -> None:
    audit, clock = make_audit(most_keys=100, most_queued=80)
    for number in range(1000):
        audit.authentication("10.6.6.6", "CLIENTS", "PLAIN", f"User:{number}", False, "unknown user")
        audit.authorization(Context(), AclOperation.READ, TOPIC, f"{number}", False)
    audit.authentication("10.6.6.7", "CLIENTS", "PLAIN", "User:admin", True)
    audit.authorization(Context(), AclOperation.ALTER, ResourceType.CLUSTER, "kafka-cluster", True)
    told = [event for event in audit.take(clock.now_ms) if event.get("result") in ("ok", "allowed")]
    assert [event["event"] for event in told] == ["authentication", "authorization"]

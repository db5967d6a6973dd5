"""What the audit log of a secured node tells: exactly what happened, in a line each, and that is all."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ottla.admin import AclBinding, AclOperation, AclResourceType, NewTopic
from ottla.aio import Admin, Consumer, Producer
from ottla.client.errors import AuthenticationError, KafkaError
from ottla.client.model import TopicPartition
from ottla.core.errors import ApiError, ErrorCode
from ottla.runtime.env import real_env
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.server.node.node import Node
from ottla.server.security.audit import Audit
from ottla.server.security.audit_log import AuditLog
from ottla.testing.sim.env import START_MS, SimulatedEnv, simulate

ADDRESS = "127.0.0.1:9092"
LOG = "/log/audit.jsonl"
SETTINGS: dict[str, object] = {
    "listeners": f"CLIENTS://{ADDRESS}",
    "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT",
    "inter.broker.listener.name": "CLIENTS",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.clients.plain.sasl.jaas.config": (
        'PlainLoginModule required user_admin="of the admin" user_bob="of bob";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin",
    "audit.log.file": LOG,
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 1,
}


def as_user(user: str, password: str, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": ADDRESS,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": user,
        "sasl_password": password,
        "client_id": f"client of {user}\n\x1b[31m",
        "enable_metrics_push": False,
        **more,
    }


async def a_day(env: SimulatedEnv) -> None:
    """The administrator makes a topic and lets bob write to it; bob writes, reads, deletes; somebody guesses."""
    async with Admin(**as_user("admin", "of the admin")) as admin:
        await admin.create_topics(NewTopic("orders", 1))
        await admin.create_acls([AclBinding(AclResourceType.TOPIC, "orders", "User:bob", AclOperation.WRITE)])
    async with Producer(**as_user("bob", "of bob", enable_idempotence=False)) as producer:
        for _ in range(50):
            await (await producer.send("orders", b"x", timestamp_ms=START_MS))
            await asyncio.sleep(0.1)
    async with Admin(**as_user("bob", "of bob")) as admin:
        with pytest.raises(KafkaError):
            await admin.delete_topics("orders")
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            async with Admin(**as_user("bob", "of the admin")) as admin:
                await admin.list_topics()


def run(settings: dict[str, object], life: Any) -> list[dict[str, Any]]:
    """What the log says afterwards."""
    text = b""

    async def main(env: SimulatedEnv) -> None:
        nonlocal text
        env.disk.make_directories("/log")
        node = Node(BrokerConfig.of(SETTINGS | settings), env)
        try:
            await node.start()
            await life(env)
        finally:
            await node.stop()
        text = b"".join(
            env.disk.read(f"/log/{name}") for name in reversed(env.disk.list_directory("/log")) if "audit" in name
        )

    simulate(main, seed=1)
    assert text.isascii()
    return [json.loads(line) for line in text.splitlines()]


def brief(event: dict[str, Any]) -> tuple[Any, ...]:
    if event["event"] == "authentication":
        return event["result"], event.get("principal"), event["mechanism"]
    if event["event"] == "authorization":
        what = f"{event['operation']} {event['resource_type']} {event['resource']}"
        return event["result"], event["principal"], event["api"], what
    if event["event"] == "change":
        return event["result"], event["principal"], event["api"], event["what"]
    return (event["event"],)


def total(events: list[dict[str, Any]], *wanted: object) -> int:
    return sum(event.get("count", 1) for event in events if brief(event) == wanted)


def test_the_log_tells_exactly_what_happened() -> None:
    events = run({"audit.log.interval.ms": 1000}, a_day)
    firsts = list(dict.fromkeys(map(brief, events)))
    assert firsts == [
        ("started",),
        ("ok", "User:admin", "PLAIN"),
        ("allowed", "User:admin", "CreateTopics", "CREATE TOPIC orders"),
        ("allowed", "User:admin", "CreateAcls", "ALTER CLUSTER kafka-cluster"),
        ("ok", "User:admin", "CreateAcls", "added ALLOW User:bob from *: WRITE on TOPIC orders (LITERAL)"),
        ("ok", "User:bob", "PLAIN"),
        ("allowed", "User:bob", "Produce", "WRITE TOPIC orders"),
        ("denied", "User:bob", "DeleteTopics", "DELETE TOPIC orders"),
        ("failed", "User:bob", "PLAIN"),
        ("stopped",),
    ]
    assert 4 <= total(events, "allowed", "User:bob", "Produce", "WRITE TOPIC orders") <= 12, "in each interval"
    assert total(events, "failed", "User:bob", "PLAIN") >= 3
    assert len(events) < 25, "fifty requests are not fifty lines"
    text = json.dumps(events)
    assert "of the admin" not in text
    denied = next(event for event in events if event.get("result") == "denied")
    assert denied["listener"] == "CLIENTS"
    assert denied["host"] == "127.0.0.1"
    assert denied["node"] == 1
    assert denied["time"].startswith("2023-11-14T22:13")


def test_the_file_changes_when_it_has_grown() -> None:
    async def life(env: SimulatedEnv) -> None:
        async with Admin(**as_user("admin", "of the admin")) as admin:
            for number in range(300):
                await admin.create_topics(NewTopic(f"topic-{number}-{'x' * 200}", 1), validate_only=True)
                await asyncio.sleep(0.5)
        names = [name for name in env.disk.list_directory("/log") if "audit" in name]
        assert names == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
        assert all(env.disk.size(f"/log/{name}") <= 65536 for name in names)

    events = run({"audit.log.max.bytes": 65536, "audit.log.max.files": 3}, life)
    assert brief(events[-1]) == ("stopped",)


def test_a_disk_that_is_full_costs_lines_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def main(env: SimulatedEnv) -> None:
        from ottla.runtime.disk import DiskFullError
        from ottla.server.security.audit_log import AuditLog

        env.disk.make_directories("/log")
        log = AuditLog(BrokerConfig.of(SETTINGS), env)
        await log.open()
        opened = env.disk.open

        def full(path: str, **how: Any) -> Any:
            raise DiskFullError(28, "No space left on device", path)

        env.memory_disk.open = full  # type: ignore[method-assign]
        for number in range(7):
            log.audit.authentication("10.0.0.1", "CLIENTS", "PLAIN", f"User:{number}", False, "unknown")
            await asyncio.sleep(1)
        await asyncio.sleep(2)
        env.memory_disk.open = opened  # type: ignore[method-assign,assignment]
        log.audit.authentication("10.0.0.1", "CLIENTS", "PLAIN", "User:last", False, "unknown")
        await log.close()
        lines = [json.loads(line) for line in env.disk.read(LOG).splitlines()]
        lost = next(line for line in lines if line["event"] == "audit")
        assert (lost["reason"], lost["count"], log.lost) == ("events could not be written", 7, 7)
        assert [line.get("principal") for line in lines if line["event"] == "authentication"] == ["User:last"]

    simulate(main, seed=1)
    assert len([record for record in caplog.records if "audit events are lost" in record.getMessage()]) == 1


def test_a_file_that_cannot_be_written_stops_the_start() -> None:
    async def life(env: SimulatedEnv) -> None:
        raise AssertionError("it has started")

    with pytest.raises(SettingError, match=r"audit\.log\.file: /nowhere/audit\.jsonl cannot be written"):
        run({"audit.log.file": "/nowhere/audit.jsonl"}, life)


def test_a_topic_has_the_same_events_for_those_who_may_read_it() -> None:
    found: list[tuple[str | None, dict[str, Any]]] = []

    async def life(env: SimulatedEnv) -> None:
        await a_day(env)
        await asyncio.sleep(3)
        async with Consumer(**as_user("admin", "of the admin", auto_offset_reset="earliest")) as consumer:
            partition = TopicPartition("who-did-what", 0)
            await consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            while len(found) < end:
                for record in await consumer.poll(timeout_s=1.0):
                    assert record.value is not None
                    found.append((None if record.key is None else record.key.decode(), json.loads(record.value)))
        async with Admin(**as_user("bob", "of bob")) as admin:
            assert "who-did-what" not in await admin.list_topics()

    written = run({"audit.log.topic": "who-did-what", "audit.log.interval.ms": 1000}, life)
    events = [event for _, event in found]
    assert [event for event in written if event in events] == events, "in their order"
    assert {brief(event) for event in events} >= {
        ("allowed", "User:admin", "CreateTopics", "CREATE TOPIC orders"),
        ("denied", "User:bob", "DeleteTopics", "DELETE TOPIC orders"),
        ("failed", "User:bob", "PLAIN"),
    }
    assert all(key == event.get("principal") for key, event in found)


async def note_many(audit: Audit) -> None:
    for number in range(300):
        audit.note("something", number=number)
        if not number % 10:
            await asyncio.sleep(1)
    await asyncio.sleep(2)


def test_a_topic_alone_is_enough_and_one_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody takes is kept within bounds, and counted."""

    async def main(env: SimulatedEnv) -> None:
        settings = {**SETTINGS, "audit.log.topic": "audit", "audit.log.max.events.per.second": 10}
        del settings["audit.log.file"]
        node = Node(BrokerConfig.of(settings), env)
        await node.start()
        audit = node.broker.audit
        assert audit is not None
        await asyncio.sleep(5)
        assert (audit.written, audit.lost) == (1, 0)

        async def refuse(*_: object) -> None:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR)

        with monkeypatch.context() as patch:
            patch.setattr("ottla.server.broker.audit_topic.LocalTarget.append", refuse)
            await note_many(audit)
        assert audit.written == 1
        assert audit.lost + audit.dropped >= 190
        await asyncio.sleep(15)
        assert audit.written >= 100
        await node.stop()
        for name in ("a/b", "__consumer_offsets"):
            refused = Node(BrokerConfig.of({**settings, "audit.log.topic": name}), env)
            with pytest.raises(SettingError, match=r"audit\.log\.topic"):
                await refused.start()
            await refused.stop()

    simulate(main, seed=1)


def test_nobody_else_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    async def main() -> None:
        env = real_env()
        log = AuditLog(BrokerConfig.of({"audit.log.file": str(path)}), env)
        await log.open()
        await log.close()
        env.close()

    asyncio.run(main())
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text().splitlines()) == 2

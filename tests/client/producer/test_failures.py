"""What goes wrong in a producer is said, once, to somebody; and nobody waits for ever because of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ottla.client.errors import KafkaError, KafkaTimeoutError, RecordTooLargeError, SerializationError
from ottla.client.producer import sender
from ottla.client.producer.client import Producer
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from tests.client.network.fake_broker import SILENCE, FakeCluster
from tests.client.producer.fake_log import FakeLogs
from tests.client.producer.test_sender import play, send_all

Refused = (ErrorCode.TOPIC_AUTHORIZATION_FAILED,)


def test_flush_raises_what_nobody_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        logs.refusals.extend(Refused)
        await send_all(producer, 3, partition=0)
        with pytest.raises(KafkaError, match=r"3 records were not delivered \(the first for t-0\)") as raised:
            await producer.flush()
        assert raised.value.code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
        await producer.flush()

    play(scene, monkeypatch, enable_idempotence=False)


def test_what_was_looked_at_is_not_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        told = []
        logs.refusals.extend(Refused * 3)
        first, second, third = await send_all(producer, 3, partition=0)
        first.add_done_callback(lambda delivery: told.append(delivery.exception()))
        with pytest.raises(KafkaError):
            await second
        assert third.exception() is not None
        await producer.flush()
        assert len(told) == 1
        bulk = await producer.send_many("t", [b"a", b"b"], partition=1)
        with pytest.raises(KafkaError):
            await bulk
        await producer.flush()
        await send_all(producer, 1, partition=0)

    logs = play_raising(scene, monkeypatch, enable_idempotence=False)
    assert "a record for t-0 was not delivered" in logs, "close raises too"


def play_raising(scene: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    with pytest.raises(KafkaError) as raised:
        play(scene, monkeypatch, **settings)
    return str(raised.value)


def test_an_error_of_the_block_is_not_hidden_by_one_of_close(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        logs.refusals.extend(Refused)

        async def program() -> None:
            async with Producer[Any, Any](fake.bootstrap, enable_idempotence=False) as other:
                await other.send("t", b"0", partition=0)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await program()

    play(scene, monkeypatch)
    assert "closing a producer after ZeroDivisionError: TOPIC_AUTHORIZATION_FAILED: a record" in caplog.text


def test_who_never_looks_finds_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        caplog.set_level(logging.ERROR, "ottla.client")
        for _ in range(3):
            logs.refusals.extend(Refused)
            await send_all(producer, 1, partition=0)
            await asyncio.sleep(1)
        assert [record.message.partition(": ")[0] for record in caplog.records] == ["1 records for t-0 are not written"]
        with pytest.raises(KafkaError, match="3 records"):
            await producer.flush()

    play(scene, monkeypatch, enable_idempotence=False)


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit, ValueError])
def test_a_callback_that_raises_leaves_the_others_alone(
    raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        def callback(_: object) -> None:
            raise raised

        called = []
        deliveries = [await producer.send("t", b"0", partition=number % 3) for number in range(6)]
        deliveries[0].add_done_callback(callback)
        for delivery in deliveries:
            delivery.add_done_callback(called.append)
        await producer.flush(1)
        assert len(called) == 6

    play(scene, monkeypatch)


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_batch_that_cannot_be_closed_fails(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread, too, where large ones are compressed."""
    closed = sender._closed_data

    def broken(batch: Any, *more: Any) -> bytearray:
        if batch.tp.partition == 0:
            raise MemoryError("no memory")
        return closed(batch, *more)

    monkeypatch.setattr(sender, "_closed_data", broken)

    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        with pytest.raises(KafkaError, match="no memory"):
            await (await producer.send("t", b"a" * size, partition=0))
        await (await producer.send("t", b"a" * size, partition=1))

    play(scene, monkeypatch, compression_type="gzip", enable_idempotence=False)


def test_a_batch_that_waited_for_a_topic_that_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        fake.creates_topics = False
        del fake.topics["t"]
        await producer._engine.cluster.refresh_metadata()
        with pytest.raises(KafkaTimeoutError, match="the topic was deleted"):
            await (await producer.send("t", b"0", partition=0))

    play(scene, monkeypatch, delivery_timeout_ms=5000, request_timeout_ms=2000)


def test_a_send_that_is_cancelled_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"first", partition=0))
        accepted = 0

        async def work() -> None:
            nonlocal accepted
            while True:
                await producer.send("t", b"x" * 1000, partition=0)
                accepted += 1

        for _ in range(20):
            task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await producer.flush()
        assert accepted
        assert len(logs.logs["t", 0]) == accepted + 1

    play(scene, monkeypatch)


@pytest.mark.parametrize(
    "wrong",
    [
        {"value": "half \ud800"},
        {"key": "half \ud800"},
        {"headers": {"half \ud800": b""}},
        {"headers": {"name": "half \ud800"}},
        {"timestamp_ms": 1 << 61},
        {"timestamp_ms": -1},
    ],
)
def test_what_cannot_be_sent_leaves_nothing_behind(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await producer.partitions_for("t")
        with pytest.raises(SerializationError):
            await producer.send("t", **({"value": b"v"} | wrong), partition=0)
        many: dict[str, Any] = {"values": [wrong.get("value", b"v")]}
        if "key" in wrong:
            many["keys"] = [wrong["key"]]
        if "timestamp_ms" in wrong:
            many["timestamps_ms"] = [wrong["timestamp_ms"]]
        with pytest.raises(SerializationError):
            await producer.send_many("t", **many, headers=wrong.get("headers"), partition=0)
        assert not producer._accumulator.incomplete
        await producer.flush(1)

    play(scene, monkeypatch)


def test_what_serializers_raise_is_an_error_of_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        with pytest.raises(SerializationError, match="int is needed, not str"):
            await producer.send("t", "text")
        with pytest.raises(SerializationError, match="int is needed, not str"):
            await producer.send_many("t", ["text"])

    play(scene, monkeypatch, value_serializer=int)

    def broken(value: object) -> bytes:
        raise ZeroDivisionError("by zero")

    async def other(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        with pytest.raises(SerializationError, match="by zero"):
            await producer.send("t", b"")

    play(other, monkeypatch, value_serializer=broken)


def test_many_of_which_one_is_bad_tell_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        values = [b"v"] * 10_000 + [b"v" * 2_000_000]
        with pytest.raises(RecordTooLargeError) as raised:
            await producer.send_many("t", values, partition=0)
        sent = raised.value.delivery
        assert sent.count == raised.value.delivery.count >= 8192
        assert "records before were sent" in raised.value.__notes__[0]
        [written] = await sent
        assert written.end_offset == sent.count

    play(scene, monkeypatch)


def test_who_waits_for_room_while_the_producer_closes_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        fake[1].on(ApiKey.PRODUCE, SILENCE)
        delivery = await producer.send("t", b"x" * 40_000, partition=0)
        waiting = asyncio.ensure_future(producer.send("t", b"x" * 40_000, partition=0))
        await asyncio.sleep(1)
        assert not waiting.done()
        with pytest.raises(KafkaError):
            await producer.close(1)
        with pytest.raises(KafkaError, match="closed"):
            await asyncio.wait_for(waiting, 1)
        assert delivery.exception() is not None

    play(scene, monkeypatch, buffer_memory=60_000)

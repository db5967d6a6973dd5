"""The producer against brokers that misbehave on request, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from ottla.client.errors import (
    AuthorizationError,
    BufferFullError,
    ClientClosedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    RecordTooLargeError,
    SerializationError,
    UnknownTopicError,
)
from ottla.client.producer import client
from ottla.client.producer.client import Producer
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import CLOSE, SILENCE, Cut, Delay, FakeCluster
from tests.client.producer.fake_log import FakeLogs

Scene = Callable[[FakeCluster, FakeLogs, Producer[Any, Any]], Awaitable[None]]


def play(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, brokers: int = 1, seed: int = 0, **settings: Any
) -> FakeLogs:
    """Run a scene with a cluster, its logs and a producer; afterwards nothing may be left in the producer."""
    monkeypatch.setattr(client, "Random", lambda: Random(seed))

    async def main(env: object) -> FakeLogs:
        fake = FakeCluster(brokers)
        fake.add_topic("t", partitions=3)
        logs = FakeLogs(fake)
        async with fake:
            producer: Producer[Any, Any] = Producer(fake.bootstrap, **settings)
            try:
                await scene(fake, logs, producer)
            finally:
                await producer.close(30)
            accumulator = producer._accumulator
            accumulator.check_invariants()
            assert accumulator.used_bytes == 0
            assert not accumulator.incomplete
            assert not accumulator.pending
            if producer._engine.state is not None:
                producer._engine.state.check_invariants()
        return logs

    return simulate(main, seed=seed)


async def send_all(producer: Producer[Any, Any], count: int, **more: Any) -> list[Any]:
    return [await producer.send("t", b"%d" % number, **more) for number in range(count)]


def numbers(logs: FakeLogs, partition: int) -> list[int]:
    return [int(record.value or b"-1") for record in logs.logs["t", partition]]


def test_a_record_is_where_its_delivery_says(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        delivery = await producer.send("t", "käse", key=b"k", headers={"a": "1", "b": None}, timestamp_ms=1234)
        assert not delivery.done()
        with pytest.raises(IllegalStateError, match="Await"):
            delivery.result()
        metadata = await delivery
        record = logs.logs["t", metadata.partition][metadata.offset]
        assert (record.key, record.value, record.timestamp_ms) == (b"k", "käse".encode(), 1234)
        assert record.headers == (("a", b"1"), ("b", None))
        assert delivery.done()
        assert delivery.result() == metadata == (*metadata[:2], 0, 1234)

    play(scene, monkeypatch)


@pytest.mark.parametrize("acks", ["all", 1, 0])
@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_and_all_kinds_of_acks(acks: Any, compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        deliveries = await send_all(producer, 300, partition=1)
        await producer.flush()
        await asyncio.sleep(1)
        assert numbers(logs, 1) == list(range(300))
        expected = [-1] * 300 if acks == 0 else list(range(300))
        assert [delivery.result().offset for delivery in deliveries] == expected

    play(scene, monkeypatch, acks=acks, enable_idempotence=acks == "all", compression_type=compression)


def test_records_linger_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        sent = []
        for number in range(1, 11):
            sent.append(await producer.send("t", b"%d" % number, partition=0))
            await asyncio.sleep(0.01)
        assert logs.appended_batches == 1
        await sent[-1]
        assert logs.appended_batches == 2

    play(scene, monkeypatch, linger_ms=200)


RETRIABLE = [
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.KAFKA_STORAGE_ERROR,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.CORRUPT_MESSAGE,
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode.LEADER_NOT_AVAILABLE,
]


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("code", RETRIABLE, ids=lambda code: code.name)
def test_what_may_pass_is_tried_again_in_order(
    code: ErrorCode, idempotent: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"-1", partition=0))
        logs.refusals += [code] * 7
        deliveries = []
        for number in range(200):
            deliveries.append(await producer.send("t", b"%d" % number, partition=0))
            await asyncio.sleep(0.001)
        await producer.flush()
        assert numbers(logs, 0) == list(range(-1, 200))
        assert [delivery.result().offset for delivery in deliveries] == list(range(1, 201))

    with caplog.at_level(logging.INFO):
        in_flight = 5 if idempotent else 1
        play(
            scene,
            monkeypatch,
            linger_ms=0,
            enable_idempotence=idempotent,
            max_in_flight_requests_per_connection=in_flight,
        )
    told = [record for record in caplog.records if "t-0" in record.getMessage()]
    assert len(told) <= 4, "a line per change, not per attempt"


FINAL = [
    (ErrorCode.TOPIC_AUTHORIZATION_FAILED, AuthorizationError),
    (ErrorCode.INVALID_REQUIRED_ACKS, KafkaError),
    (ErrorCode.POLICY_VIOLATION, KafkaError),
    (ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, KafkaError),
    (ErrorCode.MESSAGE_TOO_LARGE, RecordTooLargeError),
]


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize(("code", "kind"), FINAL, ids=lambda value: getattr(value, "name", ""))
def test_what_will_not_pass_is_told_and_the_next_records_go_on(
    code: ErrorCode, kind: type[KafkaError], idempotent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        logs.refusals.append(code)
        failed = await producer.send("t", b"1", partition=0)
        with pytest.raises(kind) as caught:
            await failed
        assert caught.value.code is code
        assert failed.exception() is not None
        assert (await (await producer.send("t", b"2", partition=0))).offset == 1

    play(scene, monkeypatch, enable_idempotence=idempotent)


def test_bad_records_fail_alone_and_the_others_may_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        logs.bad_values = {b"1", b"3"}
        deliveries = await send_all(producer, 5, partition=0)
        with pytest.raises(KafkaError, match="5 records were not delivered"):
            await producer.flush()
        errors = [delivery.exception() for delivery in deliveries]
        assert [error.code for error in errors if error is not None and not error.retriable] == [
            ErrorCode.INVALID_RECORD,
            ErrorCode.INVALID_RECORD,
        ]
        assert [error is not None and error.retriable for error in errors] == [True, False, True, False, True]
        logs.bad_values = {b"x"}
        delivery = await producer.send("t", b"x", partition=0)
        with pytest.raises(KafkaError, match="a record for t-0 was not delivered: bad"):
            await producer.flush()
        error = delivery.exception()
        assert error is not None
        assert (error.code, error.message) == (ErrorCode.INVALID_TIMESTAMP, "bad")

    play(scene, monkeypatch)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_batch_that_is_too_large_is_split(
    idempotent: bool, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        random = Random(1)
        logs.max_message_bytes = 700
        seen: list[int] = []
        values = [random.randbytes(100) for _ in range(100)]
        deliveries = [await producer.send("t", value, partition=0) for value in values]
        for number, delivery in enumerate(deliveries):
            delivery.add_done_callback(lambda _, number=number: seen.append(number))  # type: ignore[misc]
        bulk = await producer.send_many("t", values, partition=1)
        await producer.flush()
        assert [record.value for record in logs.logs["t", 0]] == values
        assert [record.value for record in logs.logs["t", 1]] == values
        assert [delivery.result().offset for delivery in deliveries] == list(range(100))
        assert seen == list(range(100))
        assert bulk.result() == [("t", 1, 0, 100)]
        with pytest.raises(RecordTooLargeError):
            await (await producer.send("t", random.randbytes(800), partition=0))

    play(scene, monkeypatch, enable_idempotence=idempotent, compression_type=compression, batch_size=8000)


def test_a_moved_leader_is_followed_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        fake.topics["t"].partitions[0].leader = 1
        await (await producer.send("t", b"0", partition=0))
        fake.move("t", 0, 2)
        started = asyncio.get_running_loop().time()
        await (await producer.send("t", b"1", partition=0))
        assert asyncio.get_running_loop().time() - started < 0.09, "no backoff for another leader"
        assert numbers(logs, 0) == [0, 1]

    play(scene, monkeypatch, brokers=2, linger_ms=0)


def test_records_expire_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        logs.refusals += [ErrorCode.NOT_ENOUGH_REPLICAS] * 1000
        started = asyncio.get_running_loop().time()
        delivery = await producer.send("t", b"1", partition=0)
        with pytest.raises(KafkaTimeoutError, match=r"delivery\.timeout\.ms.*NOT_ENOUGH_REPLICAS"):
            await delivery
        assert 2.9 < asyncio.get_running_loop().time() - started < 4.5
        logs.refusals.clear()
        assert (await (await producer.send("t", b"2", partition=0))).offset == 1

    play(scene, monkeypatch, delivery_timeout_ms=3000, request_timeout_ms=1000, linger_ms=0)


def test_records_expire_while_no_broker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        fake[1].on(ApiKey.PRODUCE, SILENCE)
        deliveries = await send_all(producer, 10, partition=0)
        await asyncio.sleep(6)
        assert all(isinstance(delivery.exception(), KafkaTimeoutError) for delivery in deliveries)
        fake[1].on(ApiKey.PRODUCE, logs.produce)
        await (await producer.send("t", b"1", partition=0))
        assert numbers(logs, 0) == [0, 1]

    play(scene, monkeypatch, delivery_timeout_ms=3000, request_timeout_ms=1000, linger_ms=0)


def test_no_retries_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        logs.refusals.append(ErrorCode.NOT_ENOUGH_REPLICAS)
        with pytest.raises(KafkaError) as caught:
            await (await producer.send("t", b"0", partition=0))
        assert caught.value.code is ErrorCode.NOT_ENOUGH_REPLICAS
        assert caught.value.retriable

    play(scene, monkeypatch, retries=0, enable_idempotence=False)


def test_senders_wait_for_room_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        fake[1].on(ApiKey.PRODUCE, Delay(0.2, logs.produce))
        order: list[int] = []

        async def one(number: int) -> None:
            await producer.send("t", bytes(1000 + 400 * (number % 3)), key=b"%d" % number, partition=0)
            order.append(number)

        await asyncio.gather(*(one(number) for number in range(100)))
        assert order == list(range(100))
        await producer.flush()
        assert [int(record.key or b"") for record in logs.logs["t", 0][1:]] == order

    play(scene, monkeypatch, buffer_memory=8000, batch_size=2000)


def test_a_full_buffer_is_an_error_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        fake[1].on(ApiKey.PRODUCE, SILENCE)
        await producer.send("t", bytes(3000), partition=0)
        with pytest.raises(BufferFullError, match=r"max\.block\.ms"):
            await producer.send("t", bytes(3000), partition=0)
        waiting = asyncio.ensure_future(producer.send("t", bytes(3000), partition=0))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        producer._accumulator.check_invariants()
        with pytest.raises(RecordTooLargeError, match=r"buffer\.memory"):
            await producer.send("t", bytes(5000), partition=0)
        fake[1].on(ApiKey.PRODUCE, logs.produce)

    play(scene, monkeypatch, buffer_memory=5000, max_block_ms=500, request_timeout_ms=2000, delivery_timeout_ms=9000)


def test_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        with pytest.raises(SerializationError, match='value_serializer="json"'):
            await producer.send("t", {"a": 1})
        with pytest.raises(SerializationError, match="key_serializer"):
            await producer.send("t", b"", key=5)
        with pytest.raises(RecordTooLargeError, match=r"max\.request\.size"):
            await producer.send("t", bytes(1 << 20))
        with pytest.raises(UnknownTopicError, match="no partition 3 but 3 partitions"):
            await producer.send("t", b"", partition=3)
        with pytest.raises(UnknownTopicError, match="no partition -1"):
            await producer.send("t", b"", partition=-1)
        with pytest.raises(SerializationError, match="timestamp"):
            await producer.send("t", b"", timestamp_ms=-5)
        with pytest.raises(SerializationError, match="headers"):
            await producer.send("t", b"", headers=5)  # type: ignore[arg-type]
        with pytest.raises(SerializationError, match="Use send for one"):
            await producer.send_many("t", b"abc")
        fake.creates_topics = False
        with pytest.raises(UnknownTopicError):
            await producer.send("nowhere", b"")
        await producer.close()
        with pytest.raises(ClientClosedError):
            await producer.send("t", b"")
        with pytest.raises(ClientClosedError):
            await producer.flush()

    play(scene, monkeypatch, max_block_ms=1000)


def test_closing_delivers_and_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0", partition=0))
        deliveries = await send_all(producer, 100, partition=0)
        fake[1].on(ApiKey.PRODUCE, Delay(0.5, logs.produce))
        await producer.close()
        assert all(delivery.exception() is None for delivery in deliveries)

        late: Producer[Any, Any] = Producer(fake.bootstrap, linger_ms=60_000, enable_idempotence=False)
        fake[1].on(ApiKey.PRODUCE, SILENCE)
        delivery = await late.send("t", b"1", partition=0)
        with pytest.raises(ClientClosedError, match="before the record was delivered"):
            await late.close(1)
        assert isinstance(delivery.exception(), ClientClosedError)
        assert late._accumulator.used_bytes == 0

    play(scene, monkeypatch, linger_ms=60_000)


def test_flush_does_not_linger_and_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        started = asyncio.get_running_loop().time()
        await send_all(producer, 10)
        await producer.flush()
        assert asyncio.get_running_loop().time() - started < 1
        fake[1].on(ApiKey.PRODUCE, SILENCE)
        await send_all(producer, 7)
        with pytest.raises(KafkaTimeoutError, match="7 records"):
            await producer.flush(0.5)
        fake[1].on(ApiKey.PRODUCE, logs.produce)

    play(scene, monkeypatch, linger_ms=60_000, request_timeout_ms=1000)


def test_versions_of_old_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0"))
        assert fake[1].requests[-1].version == 3

    async def modern(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"0"))
        assert fake[1].requests[-1].version == 13

    async def main_old(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        fake.versions = {ApiKey.PRODUCE: (0, 3)}
        await scene(fake, logs, producer)

    play(main_old, monkeypatch)
    play(modern, monkeypatch)


def test_callbacks_see_the_result_and_may_fail(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        seen = []

        def broken(_: object) -> None:
            raise ValueError("mine")

        delivery = await producer.send("t", b"0", partition=2)
        delivery.add_done_callback(broken)
        delivery.add_done_callback(lambda done: seen.append(done.result().partition))
        await delivery
        delivery.add_done_callback(lambda done: seen.append(done.result().partition))
        assert seen == [2, 2]

    play(scene, monkeypatch)
    assert "a callback of a delivery failed" in caplog.text


def test_interceptors_change_records_and_hear_of_outcomes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stamp:
        def __init__(self) -> None:
            self.heard: list[Any] = []
            self.is_closed = False

        def on_send(self, record: Any) -> Any:
            return record._replace(value=record.value + b"!", partition=1)

        def on_acknowledgement(self, metadata: Any, error: Any) -> None:
            self.heard.append((metadata.partition, metadata.offset, error and error.code))

        def close(self) -> None:
            self.is_closed = True

    class Broken:
        def on_send(self, record: Any) -> Any:
            raise ValueError("broken")

    stamp = Stamp()

    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        await (await producer.send("t", b"a"))
        assert logs.values("t") == [b"a!"]
        with pytest.raises(RecordTooLargeError):
            await producer.send("t", bytes(1 << 20))
        bulk = await producer.send_many("t", [b"b", b"c"])
        assert await bulk == [("t", 1, 1, 3)]

    play(scene, monkeypatch, interceptors=[Broken(), stamp])
    assert stamp.heard == [(1, 0, None), (1, -1, ErrorCode.MESSAGE_TOO_LARGE), (1, 1, None), (1, 2, None)]
    assert stamp.is_closed
    assert "interceptor failed" in caplog.text


@pytest.mark.parametrize("seed", range(10))
def test_whatever_happens_each_record_is_there_once_and_in_order(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers stop, connections break before and after the append, leaders move, answers are late or cut off."""
    dice = Random(f"chaos {seed}")

    async def misbehave(fake: FakeCluster, logs: FakeLogs) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < 15:
            await asyncio.sleep(dice.expovariate(4))
            broker = fake[dice.randint(1, 3)]
            match dice.randrange(7):
                case 0:
                    broker.drop_connections()
                case 1:
                    fake.move("t", dice.randrange(3), dice.randint(1, 3))
                case 2:
                    broker.script(ApiKey.PRODUCE, CLOSE)
                case 3:
                    broker.script(ApiKey.PRODUCE, logs.produce_and_lose_the_answer)
                case 4:
                    broker.script(ApiKey.PRODUCE, Cut(dice.randrange(40)))
                case 5:
                    broker.script(ApiKey.PRODUCE, Delay(dice.random() * 2.5))
                case 6:
                    await broker.restart(dice.random())
            if dice.random() < 0.2:
                logs.refusals.append(dice.choice(RETRIABLE))

    async def scene(fake: FakeCluster, logs: FakeLogs, producer: Producer[Any, Any]) -> None:
        trouble = asyncio.ensure_future(misbehave(fake, logs))
        deliveries: list[tuple[int, Any]] = []
        number = 0
        while not trouble.done():
            for _ in range(dice.randint(1, 40)):
                partition = dice.randrange(3)
                deliveries.append((partition, await producer.send("t", b"%d" % number, partition=partition)))
                number += 1
            await asyncio.sleep(dice.expovariate(50))
            producer._accumulator.check_invariants()
        trouble.result()
        logs.refusals.clear()
        await producer.flush()
        written = [numbers(logs, partition) for partition in range(3)]
        for partition in range(3):
            assert written[partition] == [n for n, (p, _) in enumerate(deliveries) if p == partition]
        for n, (partition, delivery) in enumerate(deliveries):
            offset = delivery.result().offset
            if offset >= 0:
                assert written[partition][offset] == n

    logs = play(scene, monkeypatch, brokers=3, seed=seed, linger_ms=2, request_timeout_ms=2000, batch_size=2000)
    assert logs.appended_batches > 50

"""What newcomers do wrong is answered at once, in one line that says what to do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import ottla
from ottla import KafkaError, TopicPartition, aio
from ottla.client.errors import (
    AuthenticationError,
    BootstrapError,
    ConfigError,
    IllegalStateError,
    InvalidTopicError,
    UnknownTopicError,
)
from ottla.serde.base import SerdeError

NOBODY = "127.0.0.1:1"


def test_one_dictionary_has_all_settings() -> None:
    with ottla.Producer({"bootstrap.servers": "127.0.0.1:1,127.0.0.1:2", "linger.ms": 7}, client_id="me") as producer:
        assert repr(producer) == "<Producer me of 127.0.0.1:1,127.0.0.1:2>"
        assert producer._engine.settings.linger_ms == 7
    assert repr(producer).endswith("(closed)>")
    with pytest.raises(ConfigError, match="settings are given twice"):
        ottla.Consumer({"bootstrap.servers": NOBODY}, {"group.id": "g"})


def test_clients_say_which_they_are() -> None:
    with ottla.Consumer(NOBODY, group_id="readers", client_id="me") as consumer:
        assert repr(consumer) == "<Consumer me of 127.0.0.1:1 group_id='readers'>"
    with ottla.Admin(NOBODY, client_id="me") as admin:
        assert repr(admin) == "<Admin me of 127.0.0.1:1>"
    with ottla.ShareConsumer(NOBODY, group_id="workers", client_id="me") as worker:
        assert repr(worker) == "<ShareConsumer me of 127.0.0.1:1 group_id='workers'>"
    with ottla.Producer(NOBODY, transactional_id="bills", client_id="me") as producer:
        assert repr(producer) == "<Producer me of 127.0.0.1:1 transactional_id='bills'>"


@pytest.mark.parametrize(
    ("topic", "named", "error", "line"),
    [
        ("", {}, InvalidTopicError, "a topic's name cannot be empty. Names of topics have"),
        (None, {}, InvalidTopicError, "a topic's name is text, not NoneType."),
        ("no blanks", {}, InvalidTopicError, "Names of topics have 1 to 249 of"),
        ("mistakes", {"partition": "0"}, UnknownTopicError, "the number of a partition is an int, not str."),
        ("mistakes", {"partition": -1}, UnknownTopicError, "there is no partition -1. Leave the partition out"),
        ("mistakes", {"headers": {"a": 1}}, KafkaError, "a header of type int cannot be sent as it is. Give bytes"),
    ],
)
def test_records_that_cannot_be(
    bootstrap: str, topic: Any, named: dict[str, Any], error: type[KafkaError], line: str
) -> None:
    with ottla.Producer(bootstrap) as producer:
        for _ in range(2):  # before the topic is known, and after that
            with pytest.raises(error) as raised:
                producer.send(topic, "value", **named)
            assert line in str(raised.value)
            assert "\n" not in str(raised.value)
            producer.send("mistakes", "value")


def test_a_serializer_that_gives_text() -> None:
    with (
        ottla.Producer(NOBODY, value_serializer=ottla.serde.resolve_serializer(str.upper)) as producer,
        pytest.raises(SerdeError, match=r"returned str, not bytes or None; encode\(\) makes bytes of it"),
    ):
        producer._engine.accumulator.value_serializer.serialize("letters", "a", ())


PARTITION_CALLS: list[Callable[[ottla.Consumer[Any, Any]], object]] = [
    lambda consumer: consumer.assign(["letters"]),  # type: ignore[list-item]
    lambda consumer: consumer.assign([("letters", "0")]),  # type: ignore[list-item]
    lambda consumer: consumer.seek("letters", 3),  # type: ignore[arg-type]
    lambda consumer: consumer.position("letters"),  # type: ignore[arg-type]
    lambda consumer: consumer.pause("letters"),  # type: ignore[arg-type]
    lambda consumer: consumer.end_offsets("letters"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("call", PARTITION_CALLS)
def test_something_else_in_place_of_a_partition(call: Callable[[ottla.Consumer[Any, Any]], object]) -> None:
    with (
        ottla.Consumer(NOBODY) as consumer,
        pytest.raises(TypeError, match=r"a partition is TopicPartition\(topic, number\) or a pair of both, not "),
    ):
        call(consumer)


def test_pairs_are_partitions() -> None:
    with ottla.Consumer(NOBODY) as consumer:
        consumer.assign([("letters", 3)])  # type: ignore[list-item]
        assert consumer.assignment() == {TopicPartition("letters", 3)}


def test_tls_and_sasl_where_the_broker_speaks_neither(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ottla.client")
    with (
        ottla.Admin(bootstrap, security_protocol="SSL") as admin,
        pytest.raises(BootstrapError, match=r"If it does not speak TLS, security.protocol is to be PLAINTEXT"),
    ):
        admin.list_topics(timeout_s=0.3)
    with (
        ottla.Admin(
            bootstrap,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_username="me",
            sasl_password="secret",
        ) as admin,
        pytest.raises(AuthenticationError, match=r"may not ask for SASL: check security.protocol and the port"),
    ):
        admin.list_topics(timeout_s=5)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].endswith("Trying again.")
    assert "Trying again" not in told[1], "nobody does"


async def deliver(producer: aio.Producer[Any, Any]) -> None:
    await (await producer.send("letters", "value"))


ASYNC_CALLS: list[tuple[Callable[[str], Any], Callable[[Any], Awaitable[object]]]] = [
    (aio.Producer, lambda producer: deliver(producer)),
    (lambda bootstrap: aio.Consumer(bootstrap, group_id="loops", topics=["letters"]), lambda reader: reader.poll(0.1)),
    (lambda bootstrap: aio.ShareConsumer(bootstrap, group_id="l", topics=["letters"]), lambda each: each.poll(0.1)),
    (aio.Admin, lambda admin: admin.list_topics()),
]


@pytest.mark.parametrize(("make", "call"), ASYNC_CALLS, ids=["producer", "consumer", "share consumer", "admin"])
def test_a_client_of_another_event_loop(
    bootstrap: str, make: Callable[[str], Any], call: Callable[[Any], Awaitable[object]]
) -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def use() -> None:
        await call(client)

    async def made() -> Any:
        return make(bootstrap)

    client = first.run_until_complete(made())
    first.run_until_complete(use())
    with pytest.raises(IllegalStateError, match="another event loop"):
        second.run_until_complete(use())
    first.run_until_complete(client.close())
    first.close()
    second.close()


def test_interceptors_may_do_without_methods(bootstrap: str, caplog: pytest.LogCaptureFixture) -> None:
    class Idle:
        pass

    with ottla.Producer(bootstrap, interceptors=[Idle()]) as producer:
        producer.send("intercepted", "value").result(10)
    with ottla.Consumer(
        bootstrap,
        group_id="idle",
        group_protocol="consumer",
        topics=["intercepted"],
        auto_offset_reset="earliest",
        interceptors=[Idle()],
    ) as consumer:
        assert len(consumer.poll(30)) == 1
        consumer.commit()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

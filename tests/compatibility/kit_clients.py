"""A small shop in three client libraries, and Java, as code under test: it lets through what its library raises.

Timeouts are short where a library has them, so that a test of a fault takes about a second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from tests.compatibility.drivers import Java, Message, to_json

T = TypeVar("T")

GIVE_UP_MS = 1000
PATIENT_MS = 10_000
"""What a client may take for a record: one that gives up, one that tries again."""
REQUEST_MS = 500
SESSION_MS = 10_000
TRANSACTION_MS = 10_000
TOPIC = "orders"
GROUP = "shop"


class Sender(ABC):
    """A producer that is open."""

    @abstractmethod
    def send(self, value: bytes) -> int:
        """The offset of a record that is written; raises what the library raises."""

    @abstractmethod
    def close(self) -> None:
        """Without waiting for what cannot be sent."""

    def begin(self) -> None:
        """Begin a transaction."""
        raise AssertionError("no transactions")

    def commit(self) -> None:
        """Commit it."""
        raise AssertionError("no transactions")


class Receiver(ABC):
    """A consumer that is open."""

    @abstractmethod
    def receive(self, timeout_s: float) -> list[bytes]:
        """What has come; raises what the library raises."""

    @abstractmethod
    def commit(self) -> None:
        """Commit what was received."""

    @abstractmethod
    def close(self) -> None:
        """Leave."""


class ShopCode(ABC):
    """One library."""

    name: str

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    @abstractmethod
    def sender(self, *, retries: bool = False, transactional_id: str | None = None, client_id: str = "shop") -> Sender:
        """A producer that gives up at once, or (with `retries`, and in transactions) one as most services have it."""

    @abstractmethod
    def receiver(self, *, in_group: bool = True) -> Receiver:
        """A consumer of the topic, from its beginning: of the group, or one that has its offsets from elsewhere."""

    @abstractmethod
    def create_topic(self, name: str) -> None:
        """Make a topic."""

    def told(self, error: BaseException) -> str:
        """What a program can tell an error by."""
        return type(error).__name__

    def close(self) -> None:
        """Nothing stays behind."""
        return


# confluent-kafka


class ConfluentShop(ShopCode):
    name = "confluent-kafka"

    def _settings(self, **more: Any) -> dict[str, Any]:
        quick = {"socket.timeout.ms": REQUEST_MS, "reconnect.backoff.max.ms": 100, "log_level": 0}
        return {"bootstrap.servers": self.bootstrap_servers, **quick, **more}

    def sender(self, *, retries: bool = False, transactional_id: str | None = None, client_id: str = "shop") -> Sender:
        from confluent_kafka import Producer

        settings = {
            "client.id": client_id,
            "message.timeout.ms": PATIENT_MS if retries or transactional_id else GIVE_UP_MS,
            "retry.backoff.ms": 20,
            "linger.ms": 0,
        }
        settings |= {"enable.idempotence": True} if retries or transactional_id else {"retries": 0}
        if transactional_id:
            settings |= {"transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION_MS}
        producer = Producer(self._settings(**settings))
        if transactional_id:
            producer.init_transactions(10)
        return _ConfluentSender(producer)

    def receiver(self, *, in_group: bool = True) -> Receiver:
        from confluent_kafka import Consumer, TopicPartition

        settings = {"group.id": GROUP, "enable.auto.commit": False, "session.timeout.ms": SESSION_MS}
        reset = "earliest" if in_group else "error"
        consumer = Consumer(self._settings(**settings, **{"auto.offset.reset": reset, "fetch.wait.max.ms": 50}))
        if in_group:
            consumer.subscribe([TOPIC])
        else:
            consumer.assign([TopicPartition(TOPIC, 0, 0)])
        return _ConfluentReceiver(consumer)

    def create_topic(self, name: str) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient(self._settings())
        admin.create_topics([NewTopic(name, 1)])[name].result(10)

    def told(self, error: BaseException) -> str:
        code = error.args[0].name() if error.args and hasattr(error.args[0], "name") else ""
        return f"{type(error).__name__}({code})" if code else type(error).__name__


class _ConfluentSender(Sender):
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, value: bytes) -> int:
        from confluent_kafka import KafkaException

        reports: list[tuple[Any, Any]] = []
        self._producer.produce(TOPIC, value, partition=0, on_delivery=lambda *report: reports.append(report))
        self._producer.flush(10)
        ((error, message),) = reports
        if error is not None:
            raise KafkaException(error)
        return int(message.offset())

    def commit(self) -> None:
        self._producer.commit_transaction(10)

    def close(self) -> None:
        from confluent_kafka import KafkaException

        self._producer.purge()
        with suppress(KafkaException):  # it repeats what was fatal
            self._producer.flush(1)


class _ConfluentReceiver(Receiver):
    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def receive(self, timeout_s: float) -> list[bytes]:
        from confluent_kafka import KafkaException

        message = self._consumer.poll(timeout_s)
        if message is None:
            return []
        if message.error():
            raise KafkaException(message.error())
        return [message.value()]

    def commit(self) -> None:
        self._consumer.commit(asynchronous=False)

    def close(self) -> None:
        self._consumer.close()


# kafka-python


class KafkaPythonShop(ShopCode):
    name = "kafka-python"

    def _settings(self, **more: Any) -> dict[str, Any]:
        quick = {"retry_backoff_ms": 20, "reconnect_backoff_max_ms": 100, "bootstrap_timeout_ms": GIVE_UP_MS}
        return {"bootstrap_servers": self.bootstrap_servers, **quick, **more}

    def sender(self, *, retries: bool = False, transactional_id: str | None = None, client_id: str = "shop") -> Sender:
        from kafka import KafkaProducer

        settings: dict[str, Any] = {
            "delivery_timeout_ms": PATIENT_MS if retries or transactional_id else GIVE_UP_MS,
            "max_block_ms": GIVE_UP_MS,
        }
        if not (retries or transactional_id):
            settings |= {"retries": 0, "enable_idempotence": False}
        if transactional_id:
            settings |= {"transactional_id": transactional_id, "transaction_timeout_ms": TRANSACTION_MS}
            settings |= {"max_block_ms": 10_000}
        producer = KafkaProducer(**self._settings(client_id=client_id, request_timeout_ms=REQUEST_MS, **settings))
        if transactional_id:
            producer.init_transactions()
        return _KafkaPythonSender(producer)

    def receiver(self, *, in_group: bool = True) -> Receiver:
        from kafka import KafkaConsumer, TopicPartition

        settings = {"group_id": GROUP if in_group else None, "auto_offset_reset": "earliest" if in_group else "none"}
        consumer = KafkaConsumer(
            **self._settings(enable_auto_commit=False, session_timeout_ms=SESSION_MS, fetch_max_wait_ms=50, **settings)
        )
        if in_group:
            consumer.subscribe([TOPIC])
        else:
            consumer.assign([TopicPartition(TOPIC, 0)])
            consumer.seek(TopicPartition(TOPIC, 0), 0)
        return _KafkaPythonReceiver(consumer)

    def create_topic(self, name: str) -> None:
        from kafka.admin import KafkaAdminClient, NewTopic

        admin = KafkaAdminClient(**self._settings())
        try:
            admin.create_topics([NewTopic(name, 1, 1)])
        finally:
            admin.close()


class _KafkaPythonSender(Sender):
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def begin(self) -> None:
        self._producer.begin_transaction()

    def commit(self) -> None:
        self._producer.commit_transaction()

    def send(self, value: bytes) -> int:
        return int(self._producer.send(TOPIC, value, partition=0).get(10).offset)

    def close(self) -> None:
        self._producer.close(timeout=0.5)


class _KafkaPythonReceiver(Receiver):
    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def commit(self) -> None:
        self._consumer.commit()

    def receive(self, timeout_s: float) -> list[bytes]:
        found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=1)
        return [record.value for records in found.values() for record in records]

    def close(self) -> None:
        self._consumer.close()


# aiokafka


class AiokafkaShop(ShopCode):
    """Its event loop runs in a thread, as a service's would go on beside a test."""

    name = "aiokafka"

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(bootstrap_servers)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine of the service returns or raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def sender(self, *, retries: bool = False, transactional_id: str | None = None, client_id: str = "shop") -> Sender:
        from aiokafka import AIOKafkaProducer

        async def start() -> Any:
            # It has no number of retries: it tries until the time is up, and tells what was wrong at last.
            settings: dict[str, Any] = {
                "request_timeout_ms": PATIENT_MS if retries or transactional_id else GIVE_UP_MS,
                "retry_backoff_ms": 20,
            }
            settings |= {"enable_idempotence": retries or transactional_id is not None}
            if transactional_id:
                settings |= {"transactional_id": transactional_id, "transaction_timeout_ms": TRANSACTION_MS}
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap_servers, client_id=client_id, **settings)
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            return producer

        return _AiokafkaSender(self, self.run(start()))

    def receiver(self, *, in_group: bool = True) -> Receiver:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async def start() -> Any:
            reset = "earliest" if in_group else "none"
            settings = {"group_id": GROUP if in_group else None, "auto_offset_reset": reset, "retry_backoff_ms": 20}
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap_servers,
                enable_auto_commit=False,
                session_timeout_ms=SESSION_MS,
                fetch_max_wait_ms=50,
                **settings,
            )
            if in_group:
                consumer.subscribe([TOPIC])
            await consumer.start()
            if not in_group:
                consumer.assign([TopicPartition(TOPIC, 0)])
                consumer.seek(TopicPartition(TOPIC, 0), 0)
            return consumer

        return _AiokafkaReceiver(self, self.run(start()))

    def create_topic(self, name: str) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic
        from aiokafka.errors import for_code

        async def create() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
            await admin.start()
            try:
                response = await admin.create_topics([NewTopic(name, 1, 1)])
            finally:
                await admin.close()
            for _, code, message in response.topic_errors:
                if code:  # it leaves that to its user
                    raise for_code(code)(message)

        self.run(create())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class _AiokafkaSender(Sender):
    def __init__(self, shop: AiokafkaShop, producer: Any) -> None:
        self._shop, self._producer = shop, producer

    def send(self, value: bytes) -> int:
        async def send() -> int:
            delivery = await self._producer.send(TOPIC, value, partition=0)
            return int((await delivery).offset)

        return self._shop.run(send())

    def begin(self) -> None:
        self._shop.run(self._producer.begin_transaction())

    def commit(self) -> None:
        self._shop.run(self._producer.commit_transaction())

    def close(self) -> None:
        self._shop.run(self._producer.stop())


class _AiokafkaReceiver(Receiver):
    def __init__(self, shop: AiokafkaShop, consumer: Any) -> None:
        self._shop, self._consumer = shop, consumer

    def receive(self, timeout_s: float) -> list[bytes]:
        found = self._shop.run(self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=1))
        return [record.value for records in found.values() for record in records]

    def commit(self) -> None:
        self._shop.run(self._consumer.commit())

    def close(self) -> None:
        self._shop.run(self._consumer.stop())


# Java


class JavaShop(ShopCode):
    """Apache Kafka's client, in the driver's process; a producer for each record."""

    name = "java"

    def __init__(self, bootstrap_servers: str, java: Java) -> None:
        super().__init__(bootstrap_servers)
        self.java = java

    def sender(self, *, retries: bool = False, transactional_id: str | None = None, client_id: str = "shop") -> Sender:
        settings = {"client.id": client_id, "request.timeout.ms": REQUEST_MS}
        settings |= {"delivery.timeout.ms": PATIENT_MS if retries else GIVE_UP_MS}
        settings |= {"max.block.ms": GIVE_UP_MS, "retry.backoff.ms": 20, "retries": 1000 if retries else 0}
        return _JavaSender(self, settings, idempotent=retries)

    def receiver(self, *, in_group: bool = True) -> Receiver:
        raise AssertionError("only its producer is tested here")

    def create_topic(self, name: str) -> None:
        raise AssertionError("only its producer is tested here")

    def told(self, error: BaseException) -> str:
        return str(error).partition(":")[0]


class _JavaSender(Sender):
    def __init__(self, shop: JavaShop, settings: dict[str, Any], *, idempotent: bool) -> None:
        self._shop, self._settings, self._idempotent = shop, settings, idempotent

    def send(self, value: bytes) -> int:
        (offset,) = self._shop.java.process.call(
            do="produce",
            bootstrap=self._shop.bootstrap_servers,
            topic=TOPIC,
            codec="none",
            idempotent=self._idempotent,
            records=[to_json(Message(0, None, value))],
            settings=self._settings,
        )["offsets"]
        return int(offset)

    def close(self) -> None:
        return


SHOPS: dict[str, type[ShopCode]] = {shop.name: shop for shop in (ConfluentShop, KafkaPythonShop, AiokafkaShop)}


def receive_one(receiver: Receiver, timeout_s: float = 10) -> bytes:
    """The next record."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := receiver.receive(0.5):
            return found[0]
    raise AssertionError(f"nothing came in {timeout_s} s")


def until_raised(call: Callable[[], object], timeout_s: float = 10) -> BaseException:
    """The exception of a call that is repeated until it fails."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            call()
        except Exception as error:
            return error
    raise AssertionError(f"nothing was raised in {timeout_s} s")


def until_done(call: Callable[[], T], timeout_s: float = 10) -> T:
    """What a call returns that is repeated until it does not fail."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

"""A made-up shop that works over Kafka. It is written with confluent-kafka and knows nothing of who serves it.

orders ───────▶ Warehouse ──▶ reservations | rejections      a consumer group; the stock is a compacted table
reservations ─▶ Cashier ────▶ payments | declined            exactly once; retries, and dead letters
rows ─────────▶ Outbox ─────▶ events                         what a database has written, in transactions
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = {"orders": 3, "reservations": 3, "stock": 1}
COMPACTED = ("stock",)
TOPICS = ("orders", "stock", "reservations", "rejections", "payments", "declined", "retries", "dead-letters", "events")
ATTEMPTS = 3
QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 200, "fetch.wait.max.ms": 20, "log_level": 0}
"""Workers hear of each other quickly, and the end of a topic is told at once."""


@dataclass(frozen=True)
class Order:
    """What a customer wants."""

    id: str
    customer: str
    article: str
    count: int = 1

    def check(self) -> None:
        """Raises ValueError for what nobody can order."""
        if self.count < 1:
            raise ValueError(f"order {self.id}: {self.count} pieces")


class DeclinedError(Exception):
    """The payment provider will never accept it."""


class UnavailableError(Exception):
    """The payment provider does not answer: another time, perhaps."""


class Shop:
    """Where the shop's topics are, and what its parts share."""

    def __init__(self, bootstrap_servers: str, name: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.name = name

    def topic(self, name: str) -> str:
        """The topic's name in Kafka: several shops may share a cluster."""
        return f"{self.name}.{name}"

    def open(self) -> None:
        """Make the topics."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        wanted = [
            NewTopic(
                self.topic(name),
                PARTITIONS.get(name, 1),
                config={"cleanup.policy": "compact"} if name in COMPACTED else {},
            )
            for name in TOPICS
        ]
        for made in admin.create_topics(wanted).values():
            made.result(20)

    @cached_property
    def records(self) -> Producer:
        """The producer of whatever belongs to no transaction."""
        return self.producer()

    def producer(self, **settings: Any) -> Producer:
        """For records that must not get lost."""
        usual = {"acks": "all", "enable.idempotence": True, "linger.ms": 0, "log_level": 0}
        return Producer({"bootstrap.servers": self.bootstrap_servers, **usual, **settings})

    def consumer(self, group: str, **settings: Any) -> Consumer:
        """For one worker; it commits by itself."""
        usual = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
        return Consumer(
            {"bootstrap.servers": self.bootstrap_servers, "group.id": self.topic(group), **usual, **QUICK, **settings}
        )

    def place(self, *orders: Order) -> None:
        """Take orders; they are Kafka's when this returns. Raises ValueError, KafkaException."""
        for order in orders:
            order.check()
        for order in orders:
            send(self.records, self.topic("orders"), order.customer, asdict(order), {"source": "web"})
        deliver(self.records)

    def read(self, name: str) -> list[Message]:
        """Everything that is in a topic now, partition by partition."""
        topic = self.topic(name)
        reader = self.consumer("reader", **{"enable.partition.eof": True})
        reader.assign([TopicPartition(topic, index, 0) for index in range(PARTITIONS.get(name, 1))])
        left, found = PARTITIONS.get(name, 1), []
        try:
            while left:
                message = reader.poll(20)
                if message is None:
                    raise TimeoutError(f"{topic} cannot be read")
                if (error := message.error()) is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
                else:
                    raise KafkaException(error)
        finally:
            reader.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))


class Stock:
    """How many pieces there are: a table in a compacted topic."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def set(self, article: str, count: int | None) -> None:
        """How many there are now; None: the article is given up."""
        send(self._shop.records, self._shop.topic("stock"), article, count)
        deliver(self._shop.records)

    def load(self) -> dict[str, int]:
        """The table as it is."""
        table: dict[str, int | None] = {text(one.key()): json_of(one) for one in self._shop.read("stock")}
        return {article: count for article, count in table.items() if count is not None}


class Worker:
    """Takes messages of a consumer group, one at a time."""

    topics: tuple[str, ...]
    group: str

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.consumer = shop.consumer(self.group)
        self.consumer.subscribe([shop.topic(name) for name in self.topics])

    def work(self, count: int, timeout_s: float = 30) -> int:
        """Handle `count` messages; how many came in time."""
        handled, deadline = 0, time.monotonic() + timeout_s
        while handled < count and time.monotonic() < deadline:
            message = self.consumer.poll(min(0.1, timeout_s))
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            self.handle(message)
            handled += 1
        return handled

    def handle(self, message: Message) -> None:
        """What this worker does."""
        raise AssertionError(f"a {type(self).__name__} handles nothing")

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Warehouse(Worker):
    """Reserves what is ordered while there is some. At least once: it commits what it has done."""

    topics = ("orders",)
    group = "warehouse"

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop)
        self._stock = Stock(shop)

    def handle(self, message: Message) -> None:
        order = Order(**json_of(message))
        there = self._stock.load().get(order.article, 0)
        if there >= order.count:
            self._stock.set(order.article, there - order.count)
        answer = "reservations" if there >= order.count else "rejections"
        send(self.shop.records, self.shop.topic(answer), order.customer, asdict(order))
        deliver(self.shop.records)
        self.consumer.commit(message, asynchronous=False)


class Cashier(Worker):
    """Has reservations paid, each exactly once: what it read and what came of it are one transaction."""

    topics = ("reservations", "retries")
    group = "cashier"

    def __init__(self, shop: Shop, pay: Callable[[Order], str]) -> None:
        super().__init__(shop)
        self._pay = pay
        self._producer = shop.producer(**{"transactional.id": shop.topic("cashier")})
        self._producer.init_transactions(20)

    def handle(self, message: Message) -> None:
        order = Order(**json_of(message))
        attempt = int(headers_of(message).get("attempts", "0")) + 1
        self._producer.begin_transaction()
        try:
            self._settle(order, attempt)
            done = [TopicPartition(message.topic(), message.partition(), message.offset() + 1)]
            self._producer.send_offsets_to_transaction(done, self.consumer.consumer_group_metadata(), 20)
        except BaseException:
            self._producer.abort_transaction(20)
            raise
        self._producer.commit_transaction(20)

    def _settle(self, order: Order, attempt: int) -> None:
        try:
            receipt = self._pay(order)
        except DeclinedError as error:
            self._send("declined", order, {"reason": str(error)})
        except UnavailableError as error:
            name = "retries" if attempt < ATTEMPTS else "dead-letters"
            self._send(name, order, {"reason": str(error), "attempts": str(attempt)})
        else:
            self._send("payments", order, {"receipt": receipt, "attempts": str(attempt)})

    def _send(self, name: str, order: Order, headers: Mapping[str, str]) -> None:
        send(self._producer, self.shop.topic(name), order.customer, asdict(order), headers)


class Outbox:
    """Publishes rows that a database transaction left behind, all of a round or none."""

    def __init__(self, shop: Shop) -> None:
        self.rows: list[dict[str, Any]] = []
        self._shop = shop
        self._producer = shop.producer(**{"transactional.id": shop.topic("outbox")})
        self._producer.init_transactions(20)

    def publish(self) -> int:
        """Publish all rows and forget them; how many there were."""
        self._producer.begin_transaction()
        try:
            for row in self.rows:
                send(self._producer, self._shop.topic("events"), row["id"], {"event": row["event"]})
        except BaseException:
            self._producer.abort_transaction(20)
            raise
        self._producer.commit_transaction(20)
        count = len(self.rows)
        self.rows.clear()
        return count


def replay(shop: Shop, fix: Callable[[Order], Order] = replace) -> int:
    """Give dead letters to the cashier again; how many there were."""
    letters = shop.read("dead-letters")
    for letter in letters:
        order = fix(Order(**json_of(letter)))
        send(shop.records, shop.topic("reservations"), order.customer, asdict(order))
    deliver(shop.records)
    return len(letters)


# Records


def send(producer: Producer, topic: str, key: str, value: Any, headers: Mapping[str, str] | None = None) -> None:
    """Hand a record over; None is a tombstone. What becomes of it, `deliver` or the transaction tells."""
    producer.produce(
        topic,
        key=key.encode(),
        value=None if value is None else json.dumps(value).encode(),
        headers={name: one.encode() for name, one in (headers or {}).items()},
        on_delivery=_delivered,
    )


def deliver(producer: Producer) -> None:
    """Wait until everything is written. Raises KafkaException."""
    if left := producer.flush(20):
        raise TimeoutError(f"{left} records were not delivered")


def _delivered(error: Any, message: Message) -> None:
    if error is not None and error.code() != KafkaError._PURGE_QUEUE:  # its transaction was aborted
        raise KafkaException(error)


def json_of(message: Message) -> Any:
    """A record's value."""
    return None if message.value() is None else json.loads(message.value())


def headers_of(message: Message) -> dict[str, str]:
    """A record's headers."""
    return {name: text(value) for name, value in message.headers() or ()}


def text(data: Any) -> str:
    """As it was before it was bytes."""
    return bytes(data).decode()

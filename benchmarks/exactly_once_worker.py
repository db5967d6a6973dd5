"""One process of `exactly_once_loop`: consume numbers, write their results and the position in one transaction.

    python -m benchmarks.exactly_once_worker BOOTSTRAP NAME

It ends when its producer can not go on (fenced, say); whoever started it starts it again.
"""

from __future__ import annotations

import sys
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

INPUT, OUTPUT, GROUP = "numbers", "results", "workers"
MOST_RECORDS = 50


def work(bootstrap: str, name: str) -> None:
    """Until something is wrong that a new process would not have."""
    common = {
        "bootstrap.servers": bootstrap,
        "log_level": 0,
        "reconnect.backoff.max.ms": 200,
        # When librdkafka (2.16) bootstraps again, as it does when all brokers were away, the offsets of a transaction
        # go to the connection that it had before, and the transaction never ends.
        "metadata.recovery.strategy": "none",
    }
    producer = Producer({**common, "transactional.id": name, "transaction.timeout.ms": 10_000, "linger.ms": 0})
    consumer = Consumer(
        {
            **common,
            "group.id": GROUP,
            # Whoever comes back under its name gets its partitions back, without waiting for a session to end.
            "group.instance.id": name,
            "session.timeout.ms": 6_000,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    producer.init_transactions(60)
    consumer.subscribe([INPUT])
    while True:
        messages = [message for message in consumer.consume(MOST_RECORDS, 0.2) if message.error() is None]
        if messages:
            _transaction(producer, consumer, messages)


def _transaction(producer: Producer, consumer: Consumer, messages: list[Any]) -> None:
    producer.begin_transaction()
    try:
        for message in messages:
            producer.produce(OUTPUT, message.value(), partition=message.partition())
        positions = {message.partition(): message.offset() + 1 for message in messages}
        offsets = [TopicPartition(INPUT, partition, offset) for partition, offset in positions.items()]
        while not _tried(lambda: producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)):
            pass
        while not _tried(lambda: producer.commit_transaction(30)):
            pass
    except KafkaException as error:
        if error.args[0].fatal() or not error.args[0].txn_requires_abort():
            raise
        while not _tried(lambda: producer.abort_transaction(30)):
            pass
        # What was consumed is to be consumed again, from where the group stands.
        committed = consumer.committed(consumer.assignment(), 30)
        for position in committed:
            consumer.seek(TopicPartition(INPUT, position.partition, max(position.offset, 0)))


def _tried(call: Any) -> bool:
    """False when the same call may succeed next time."""
    try:
        call()
    except KafkaException as error:
        if not error.args[0].retriable():
            raise
        return False
    return True


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2])

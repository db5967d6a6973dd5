"""`ottla bench`: how fast a cluster is, with Ottla's own clients: produce, consume, there and back.

Every run is bounded by a number of records and by time. Without a topic it makes one and deletes it.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import client_settings, open_admin
from ottla.cli.errors import FAILURE, CommandError
from ottla.cli.numbers import positive, whole
from ottla.cli.output import Output
from ottla.cli.selection import complete_topics
from ottla.cli.units import parse_duration_ms, parse_size_bytes

if TYPE_CHECKING:
    import ottla
    from ottla.cli.bench.loads import Load
    from ottla.cli.bench.measures import Result

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    producing = actions.add("produce", _produce, "Send records as fast as it goes, or at a rate.")
    _add_load(producing, 500_000, "30s")
    _add_sending(producing)
    producing.add_argument("--keys", type=whole(), default=0, metavar="N", help="so many different keys (none)")
    consuming = actions.add("consume", _consume, "Read records as fast as it goes; without a topic, fills one first.")
    _add_load(consuming, 500_000, "30s")
    trips = actions.add("round-trip", _round_trip, "Send a record, wait until it is consumed, and so on.")
    _add_load(trips, 1000, "30s")
    _add_sending(trips)


def _add_load(parser: ArgumentParser, records: int, duration: str) -> None:
    topic = parser.add_argument(
        "topic", nargs="?", metavar="TOPIC", help="a topic that exists; without, one for this run only"
    )
    topic.completer = complete_topics  # type: ignore[attr-defined]
    parser.add_argument("-n", "--records", type=whole(1), default=records, metavar="N", help=f"so many ({records})")
    parser.add_argument("--duration", default=duration, metavar="DURATION", help=f"at the longest ({duration})")
    parser.add_argument("-s", "--size", default="100", metavar="BYTES", help="of a value (100); 1KiB, …")
    parser.add_argument("--partitions", type=whole(1), metavar="N", help="of the topic that is made (1)")
    parser.add_argument("--replicas", type=whole(1), metavar="N", help="the same")


def _add_sending(parser: ArgumentParser) -> None:
    parser.add_argument("-r", "--rate", type=positive(), metavar="N", help="at most so many records a second")
    parser.add_argument("-z", "--compression", metavar="TYPE", help="none, gzip, snappy, lz4 or zstd")
    parser.add_argument("-a", "--acks", choices=("0", "1", "all"), help="who has to have a record before it counts")


def _produce(options: Namespace) -> int:
    from ottla.cli.bench import loads

    output = Output(options)
    with _topic(options) as topic:
        load = _load(options, topic)
        with _producer(options) as producer, output.progress(load.records, "records sent") as bar:
            result = loads.produce(producer, load, bar.advance)
    return _report(output, result)


def _consume(options: Namespace) -> int:
    from ottla.cli.bench import loads

    output = Output(options)
    with _topic(options) as topic:
        load = _load(options, topic)
        if options.topic is None:
            with _producer(options) as producer, output.progress(load.records, "records sent first") as bar:
                loads.produce(producer, load, bar.advance)
        with _consumer(options) as consumer, output.progress(load.records, "records read") as bar:
            result = loads.consume(consumer, load, bar.advance)
    return _report(output, result)


def _round_trip(options: Namespace) -> int:
    from ottla.cli.bench import loads

    output = Output(options)
    with _topic(options) as topic:
        load = _load(options, topic)
        with (
            _producer(options, **{"linger.ms": "0"}) as producer,
            _consumer(options, **{"fetch.max.wait.ms": "500"}) as consumer,
            output.progress(load.records, "records there and back") as bar,
        ):
            result = loads.round_trip(producer, consumer, load, bar.advance)
    return _report(output, result)


def _report(output: Output, result: Result) -> int:
    output.fields(None, result.as_fields(), json=result.as_json())
    return FAILURE if result.failed else 0


def _load(options: Namespace, topic: str) -> Load:
    from ottla.cli.bench.loads import Load

    seconds = parse_duration_ms(options.duration) / 1000
    rate = getattr(options, "rate", None)
    return Load(topic, options.records, seconds, parse_size_bytes(options.size), getattr(options, "keys", 0), rate)


@contextmanager
def _topic(options: Namespace) -> Iterator[str]:
    """The topic that is named, or one for this run."""
    if options.topic is not None:
        if options.partitions is not None or options.replicas is not None:
            raise CommandError("--partitions and --replicas are for the topic that is made where none is named")
        with open_admin(options) as admin:  # a client would wait for it, or make it
            admin.describe_topics([options.topic])
        yield options.topic
        return
    import uuid

    from ottla.client.admin.topics import NewTopic

    topic = f"ottla-bench-{uuid.uuid4().hex[:8]}"
    with open_admin(options) as admin:
        admin.create_topics([NewTopic(topic, options.partitions or 1, options.replicas)])
        try:
            yield topic
        finally:
            admin.delete_topics([topic])


def _producer(options: Namespace, **defaults: str) -> ottla.Producer[Any, Any]:
    from ottla.client.producer.blocking import Producer
    from ottla.client.settings import ProducerSettings

    settings = defaults | client_settings(options, ProducerSettings)
    if getattr(options, "compression", None) is not None:
        settings["compression.type"] = options.compression
    if getattr(options, "acks", None) is not None:
        settings["acks"] = options.acks
        if options.acks != "all":
            settings.setdefault("enable.idempotence", "false")
    settings.pop("transactional.id", None)
    return Producer(settings.pop("bootstrap.servers", None), settings)


def _consumer(options: Namespace, **defaults: str) -> ottla.Consumer[Any, Any]:
    from ottla.client.consumer.blocking import Consumer
    from ottla.client.settings import ConsumerSettings

    settings = defaults | client_settings(options, ConsumerSettings)
    settings |= {"enable.auto.commit": "false", "auto.offset.reset": "earliest", "allow.auto.create.topics": "false"}
    settings.pop("group.id", None)
    return Consumer(settings.pop("bootstrap.servers", None), settings)

"""A broker with an HTTP endpoint, its exposition read by Prometheus' own parser, and a load that touches everything."""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

import ottla
from ottla.admin import ClientQuotaEntity, ConfigResource, NewTopic
from ottla.protocol.framing import encode_request
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.record import Record, build_batch
from ottla.testing import Cluster

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""Name → labels → value."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Observed:
    """A cluster in this process that serves HTTP."""

    def __init__(self, *, topics: Iterable[str] | Mapping[str, int] = (), **settings: object) -> None:
        self.port = free_port()
        self.settings = {
            "http.listeners": f"http://127.0.0.1:{self.port}",
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 2,
            "transaction.state.log.num.partitions": 2,
            **settings,
        }
        self.cluster = Cluster(settings=self.settings, topics=topics)

    def __enter__(self) -> Observed:
        self.cluster.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cluster.stop()

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap_servers

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])

    def scrape(self, query: str = "") -> Samples:
        status, text = self.get(f"/metrics{query}")
        assert status == 200, text
        return parsed(text)


def parsed(text: str) -> Samples:
    found: Samples = {}
    families = set()
    for family in text_string_to_metric_families(text):
        assert (family.name, family.type) not in families, f"{family.name} is there twice"
        families.add((family.name, family.type))
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            samples = found.setdefault(sample.name, {})
            assert labels not in samples, f"{sample.name}{labels} is there twice"
            samples[labels] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    """The one sample that has (at least) these labels."""
    fitting = [number for own, number in samples[name].items() if all(item in own for item in labels.items())]
    assert len(fitting) == 1, (name, labels, samples[name])
    return fitting[0]


def send_at_once(bootstrap: str, topic: str) -> None:
    """Three requests in one write: those behind the first wait in the broker."""
    batch = bytes(build_batch([Record(0, 1_700_000_000_000, None, b"one of three")]))
    data = PartitionProduceData(index=0, records=batch)
    request = ProduceRequest(acks=1, timeout_ms=1000, topic_data=[TopicProduceData(name=topic, partition_data=[data])])
    frames = b"".join(part for number in range(3) for part in encode_request(request, 9, number))
    host, _, port = bootstrap.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(frames)
        answered = connection.makefile("rb")
        for _ in range(3):
            answered.read(int.from_bytes(answered.read(4)))


@contextlib.contextmanager
def load(bootstrap: str) -> Iterator[Mapping[str, Any]]:
    """Produce, fetch, groups of all kinds, transactions, quotas, refusals; inside, consumers are in their groups."""
    with ottla.Admin(bootstrap) as admin:
        admin.create_topics(
            [
                NewTopic("orders", 3),
                NewTopic("small", 1, configs={"max.message.bytes": 1000}),
                NewTopic("keyed", 1, configs={"cleanup.policy": "compact"}),
            ]
        )
        quotas = {"producer_byte_rate": 20_000.0, "consumer_byte_rate": 20_000.0, "request_percentage": 50.0}
        strict = {"request_percentage": 0.001}
        admin.alter_client_quotas(
            {ClientQuotaEntity(client_id="limited"): quotas, ClientQuotaEntity(client_id="limited too"): strict}
        )
        with ottla.Admin(bootstrap, client_id="limited too") as slow:
            slow.describe_cluster()
        admin.set_config(ConfigResource.group("workers"), {"share.auto.offset.reset": "earliest"})
        with ottla.Producer(bootstrap) as producer:
            for number in range(300):
                producer.send("orders", f"order {number}", key=str(number % 7))
            producer.flush()
            for topic, record in (("small", b"x" * 5000), ("keyed", b"no key")):
                assert producer.send(topic, record).exception(timeout_s=10) is not None
        send_at_once(bootstrap, "small")
        with ottla.Producer(bootstrap, client_id="limited") as producer:
            for _ in range(3):
                producer.send("orders", b"y" * 100_000).result(timeout_s=30)
        with (
            ottla.Consumer(
                bootstrap, group_id="classic", topics=["orders"], auto_offset_reset="earliest", enable_auto_commit=False
            ) as consumer,
            ottla.Consumer(
                bootstrap,
                group_id="modern",
                group_protocol="consumer",
                topics=["orders"],
                client_id="limited",
                auto_offset_reset="earliest",
            ) as modern,
            ottla.Producer(bootstrap, transactional_id="tx") as transactional,
            ottla.ShareConsumer(bootstrap, group_id="workers", topics=["orders"]) as worker,
        ):
            assert consumer.poll(timeout_s=10)
            consumer.commit()
            with transactional.transaction() as transaction:
                transactional.send("orders", b"in a transaction")
                transaction.send_offsets(consumer)
            assert modern.poll(timeout_s=20)
            modern.commit()
            assert worker.poll(timeout_s=10)
            worker.commit()
            yield {"consumer": consumer}

"""The examples of README.md and of the guides in docs, as they stand there, against a broker."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, ShareConsumer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from tests.compatibility.conftest import clients, java
from tests.compatibility.drivers import Java
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker, require

__all__ = ["clients", "java"]

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
QUEUES = DOCS / "queues.md"
ADDRESS = "127.0.0.1:9092"


def blocks(language: str, page: Path) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def example(language: str, containing: str, page: Path = README) -> str:
    (found,) = (block for block in blocks(language, page) if containing in block)
    return found


def run(command: list[str], bootstrap: str, topic: str) -> str:
    text = command[-1].replace(ADDRESS, bootstrap).replace("greetings", topic)
    done = subprocess.run([*command[:-1], text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_shell_example_prints_what_it_wrote(bootstrap: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require(None if shutil.which("kcat") else "kcat")
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    printed = run(["bash", "-ec", example("sh", "kcat")], bootstrap, name).splitlines()
    assert printed == [f"1 record to {name}: partition 0: 1 from offset 0", "hello", "hello"]


def test_python_example_prints_what_it_wrote(bootstrap: str, name: str) -> None:
    code = example("python", "ottla.Producer").replace('"readers"', f'"readers-of-{name}"')
    assert run([sys.executable, "-W", "error", "-c", code], bootstrap, name) == "b'ottla' b'hello'\n"


def test_worker_of_the_queue_does_its_jobs(bootstrap: str, name: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    code = example("python", "ShareConsumer", QUEUES).replace('"workers"', f'"workers-of-{name}"')
    code = code.replace("while True:", "for _ in range(15):").replace('"jobs"', '"greetings"')
    command = [sys.executable, "-c", code.replace(ADDRESS, bootstrap).replace("greetings", name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        # A new group begins at the end: jobs are submitted until the worker is there.
        while worker.poll() is None:
            producer.produce(name, "a job")
            producer.flush(10)
            time.sleep(0.2)
        assert worker.stdout is not None
        printed = worker.stdout.read().splitlines()
    assert worker.returncode == 0
    assert set(printed) == {"a job"}


def test_consumer_of_the_new_protocol_prints_what_it_reads(bootstrap: str, name: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(name, "hello")
    producer.flush(10)
    code = example("python", "group.protocol", DOCS / "groups.md").replace('"readers"', f'"readers-of-{name}"')
    assert run([sys.executable, "-c", code], bootstrap, name) == "b'hello'\n"


def test_transactional_copy_takes_every_order_once(bootstrap: str, name: str) -> None:
    orders, invoices = f"orders-{name}", f"invoices-{name}"
    create_topic(bootstrap, invoices)
    producer = Producer({"bootstrap.servers": bootstrap})
    for number in range(250):
        producer.produce(orders, b"%d" % number)
    producer.flush(10)
    code = example("python", "transactional.id", DOCS / "transactions.md").replace("while True:", "for _ in range(10):")
    code = (
        code.replace('"orders-1"', f'"{name}"')
        .replace('"orders"', f'"{orders}"')
        .replace('"invoices"', f'"{invoices}"')
    )
    run([sys.executable, "-c", code], bootstrap, name)
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": name, "auto.offset.reset": "earliest"})
    reader.subscribe([invoices])
    copied: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(copied) < 250 and time.monotonic() < deadline:
        copied += [message.value() for message in reader.consume(250, timeout=1)]
    reader.close()
    assert sorted(copied, key=int) == [b"%d" % number for number in range(250)]


def test_table_is_a_compacted_topic(bootstrap: str, name: str) -> None:
    code = example("python", "cleanup.policy", DOCS / "compaction.md").replace('"prices"', f'"{name}"')
    run([sys.executable, "-c", code], bootstrap, name)
    topic = ConfigResource(ResourceType.TOPIC, name)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    settings = admin.describe_configs([topic])[topic].result(10)
    assert settings["cleanup.policy"].value == "compact"


TOOLS = {
    "kafka-client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
    "kafka-configs": "kafka.admin.ConfigCommand",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-features": "org.apache.kafka.tools.FeatureCommand",
    "kafka-groups": "org.apache.kafka.tools.GroupsCommand",
    "kafka-log-dirs": "org.apache.kafka.tools.LogDirsCommand",
    "kafka-reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka-share-groups": "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
    "kafka-streams-groups": "org.apache.kafka.tools.streams.StreamsGroupCommand",
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions": "org.apache.kafka.tools.TransactionsCommand",
}
#: These want what a guide's reader has, and this test has not: an application, a terminal, a transaction that hangs.
LEFT_OUT = re.compile(r"kafka-console|kafka-streams-groups.* --group |kafka-transactions.* (abort|forceTerminate)")


def commands(page: Path) -> list[str]:
    """The commands for Kafka's tools on a page, each as one line."""
    lines = "".join(blocks("sh", page)).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("kafka-") and not LEFT_OUT.match(line)]


def prepare(bootstrap: str) -> None:
    """What the guides speak of: topics with records, a group, a queue, a producer with a transaction."""
    for topic in ("greetings", "orders", "invoices", "jobs", "prices", "text"):
        create_topic(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "orders-1"})
    producer.init_transactions(20)
    producer.begin_transaction()
    for topic in ("greetings", "invoices", "jobs"):
        producer.produce(topic, "hello", partition=0)
    producer.commit_transaction(20)
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "readers", "auto.offset.reset": "earliest"})
    reader.subscribe(["greetings"])
    worker = ShareConsumer({"bootstrap.servers": bootstrap, "group.id": "workers", "log_level": 0})
    worker.subscribe(["jobs"])
    deadline = time.monotonic() + 30
    while (message := reader.poll(0.2)) is None or message.error():
        assert time.monotonic() < deadline
    reader.commit(message, asynchronous=False)
    reader.close()
    worker.poll(1)
    worker.close()


@pytest.mark.xdist_group("tools")
def test_kafkas_tools_take_the_commands_of_the_guides(java: Java, make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker()
    prepare(broker.bootstrap)
    move = example("json", "log_dirs", DOCS / "data-directories.md").replace("/disk2/ottla", "any")
    (tmp_path / "move.json").write_text(move)
    ran = 0
    for page in sorted(DOCS.glob("*.md")):
        for command in commands(page):
            line = command.replace(ADDRESS, broker.bootstrap).replace("move.json", str(tmp_path / "move.json"))
            tool, *arguments = shlex.split(line)
            java.tool(TOOLS[tool.removesuffix(".sh")], *arguments)
            ran += 1
    assert ran > 20


def test_every_guide_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *DOCS.glob("**/*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    assert [target for target in targets if not (page.parent / target).exists()] == []

"""The first minute that README.md promises, as it stands there, against a broker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import Producer

from tests.conftest import require

README = Path(__file__).resolve().parents[2] / "README.md"
QUEUES = README.parent / "docs" / "queues.md"
ADDRESS = "127.0.0.1:9092"


def example(language: str, containing: str, page: Path = README) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if containing in block)
    return found


def run(command: list[str], bootstrap: str, topic: str) -> str:
    text = command[-1].replace(ADDRESS, bootstrap).replace("greetings", topic)
    done = subprocess.run([*command[:-1], text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_kcat_example_prints_what_it_wrote(bootstrap: str, name: str) -> None:
    require(None if shutil.which("kcat") else "kcat")
    assert run(["bash", "-ec", example("sh", "kcat")], bootstrap, name) == "hello\n"


def test_python_example_prints_what_it_wrote(bootstrap: str, name: str) -> None:
    code = example("python", "confluent_kafka").replace('"readers"', f'"readers-of-{name}"')
    assert run([sys.executable, "-c", code], bootstrap, name) == "b'ottla' b'hello'\n"


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

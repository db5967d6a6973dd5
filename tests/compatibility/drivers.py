"""Foreign clients behind one interface, so that a test says what every client must do and not how each is told to.

A `Client` produces, consumes, and joins consumer groups; a `Member` is a group member that runs in the background.
Python, Java, Go and Node clients run in one long-lived driver process for each language, which takes a JSON command per
line and gives a JSON answer per line (bytes are base64):

    produce  topic, codec, idempotent, records        → offsets, in the order of the records
    consume  topic, count, committed, timeout_ms      → records, from the beginning of every partition
    join     member, group, topic, strategy, instance → a member polls in the background and commits what it got;
                                                        the strategy "consumer" is KIP-848
    member   member                                   → assignment, received (values), rebalances, problem
    leave    member
    tool     class, arguments, input                  → code, output, errors      (Java only: a command line tool)
    transaction  producer, step, …                    → one call of a transactional producer   (Java only)
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.brokers import KAFKA_HOME, ROOT, java

TOOLS = ROOT / ".tools"
ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class ClientError(Exception):
    """A foreign client refused or failed; the message is its own."""


@dataclass(frozen=True, order=True)
class Message:
    """A record as it is written or was read. Headers keep their order among equal names only."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None
    offset: int | None = field(default=None, compare=False)

    def sort_key(self) -> tuple[Any, ...]:
        return (self.partition, self.key or b"", self.value or b"", self.timestamp or 0)


class Member(ABC):
    """A member of a consumer group, polling in the background and committing what it got."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """assignment: sorted partitions; received: values; rebalances: how often assigned; problem: text or None."""

    @abstractmethod
    def leave(self) -> None: ...

    @property
    def assignment(self) -> list[int]:
        return list(self.describe()["assignment"])

    @property
    def received(self) -> list[bytes]:
        return list(self.describe()["received"])


class Client(ABC):
    """What a test may ask of any client. The class attributes say what this one cannot do."""

    name: str
    codecs: Sequence[str] = ALL_CODECS
    strategies: Sequence[str] = ("range", "roundrobin", "sticky", "cooperative-sticky")
    static_members = True
    sets_timestamps = True
    null_headers = True
    empty_fields = True  # tells an empty key or value from none
    idempotent = True
    joins_groups = True

    def missing(self) -> str | None:
        """What has to be installed before this client can run."""
        return None

    @abstractmethod
    def produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], *, codec: str = "none", idempotent: bool = False
    ) -> list[int]:
        """Write with acks=all; the offsets in the order of the messages, empty where the client does not tell."""

    @abstractmethod
    def consume(
        self, bootstrap: str, topic: str, count: int, *, committed: bool = False, timeout: float = 20
    ) -> list[Message]:
        """The first `count` records of all partitions; fewer when they do not come in time."""

    def join(
        self, bootstrap: str, group: str, topic: str, *, strategy: str = "range", instance: str | None = None
    ) -> Member:
        raise ClientError(f"{self.name} joins no groups")

    def close(self) -> None:
        """End what runs."""
        return


# Java, Go and Node: processes that speak JSON lines


class DriverProcess:
    """A driver program; started with the first command."""

    def __init__(
        self,
        command: Callable[[], list[str]],
        environment: dict[str, str] | None = None,
        directory: str | None = None,
    ) -> None:
        self._command = command
        self._directory = directory
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def call(self, **command: Any) -> dict[str, Any]:
        if self._process is None:
            environment = {**os.environ, **(self._environment or {})}
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
                cwd=self._directory,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ClientError(f"the driver ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if answer.get("error"):
            raise ClientError(answer["error"])
        return answer

    def has_ended(self) -> int | None:
        """The exit code of a driver that ended by itself, or is just about to; None while it runs."""
        try:
            return None if self._process is None else self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None


class ProcessClient(Client):
    """A client in a driver process; several clients may share one."""

    numbers = itertools.count()

    def __init__(self, process: DriverProcess, **extra: Any) -> None:
        self.process = process
        self.extra = extra

    def produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], *, codec: str = "none", idempotent: bool = False
    ) -> list[int]:
        answer = self.process.call(
            do="produce",
            bootstrap=bootstrap,
            topic=topic,
            codec=codec,
            idempotent=idempotent,
            records=[to_json(message) for message in messages],
            **self.extra,
        )
        return list(answer["offsets"])

    def consume(
        self, bootstrap: str, topic: str, count: int, *, committed: bool = False, timeout: float = 20
    ) -> list[Message]:
        answer = self.process.call(
            do="consume",
            bootstrap=bootstrap,
            topic=topic,
            count=count,
            committed=committed,
            timeout_ms=int(timeout * 1000),
            **self.extra,
        )
        return [from_json(record) for record in answer.get("records") or []]

    def join(
        self, bootstrap: str, group: str, topic: str, *, strategy: str = "range", instance: str | None = None
    ) -> Member:
        number = f"{self.name}-{next(self.numbers)}"
        self.process.call(
            do="join",
            member=number,
            bootstrap=bootstrap,
            group=group,
            topic=topic,
            strategy=strategy,
            instance=instance,
            **self.extra,
        )
        return ProcessMember(self, number)

    def close(self) -> None:
        self.process.close()


class ProcessMember(Member):
    def __init__(self, client: ProcessClient, number: str) -> None:
        self._client, self._number = client, number

    def describe(self) -> dict[str, Any]:
        answer = self._client.process.call(do="member", member=self._number, **self._client.extra)
        return {**answer, "received": [to_bytes(value) for value in answer["received"] or []]}

    def leave(self) -> None:
        self._client.process.call(do="leave", member=self._number, **self._client.extra)


class Java(ProcessClient):
    """Apache Kafka's own client, and its command line tools."""

    name = "java"

    def __init__(self) -> None:
        super().__init__(DriverProcess(self._command))

    @staticmethod
    def _command() -> list[str]:
        command = java("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", log_level="ERROR")
        command[-1] = f"{TOOLS / 'java' / 'classes'}:{command[-1]}"
        return [*command, "Driver"]

    def missing(self) -> str | None:
        if not shutil.which("java"):
            return "java"
        if not any((KAFKA_HOME / "libs").glob("kafka-tools-*.jar")):
            return "Apache Kafka's jars (scripts/install-tools kafka)"
        return None if (TOOLS / "java" / "classes" / "Driver.class").exists() else "scripts/install-tools java"

    def run_tool(
        self,
        class_name: str,
        arguments: Sequence[str],
        *,
        input: str = "",  # noqa: A002
        timeout_s: float = 120,
    ) -> tuple[int | None, str, str, str | None]:
        """Run a command line tool in the JVM that is already there: exit code (None: it did not end in time), output,
        errors, and the message that it ended with, which a user does not see."""
        answer = self.process.call(
            do="tool", **{"class": class_name}, arguments=list(arguments), input=input, timeout_ms=int(timeout_s * 1000)
        )
        code = answer["code"]
        if code is None and (ended := self.process.has_ended()) is not None:
            code = ended  # a tool that calls System.exit takes the driver with it
            self.process = DriverProcess(self._command)
        return code, answer["output"], answer["errors"], answer["message"]

    def tool(self, class_name: str, *arguments: object, input: str = "", expect_code: int = 0) -> str:  # noqa: A002
        """Run a command line tool; its output, or ClientError with its errors."""
        code, output, errors, message = self.run_tool(class_name, [str(one) for one in arguments], input=input)
        text = f"{output}{errors}{message or ''}"
        if code != expect_code:
            raise ClientError(f"{class_name} ended with {code}:\n{text}")
        return output if expect_code == 0 else text


class Go(ProcessClient):
    def __init__(self, process: DriverProcess, name: str) -> None:
        super().__init__(process, library=name)
        self.name = name
        if name == "sarama":
            self.strategies = ("range", "roundrobin", "sticky")

    @staticmethod
    def start() -> DriverProcess:
        return DriverProcess(lambda: [str(TOOLS / "go" / "driver")])

    def missing(self) -> str | None:
        return None if (TOOLS / "go" / "driver").exists() else "scripts/install-tools go"


class KafkaJS(ProcessClient):
    name = "kafkajs"
    strategies = ("roundrobin",)
    static_members = False
    null_headers = False

    def __init__(self) -> None:
        driver = ROOT / "tests" / "compatibility" / "node" / "driver.js"
        packages = str(TOOLS / "node" / "node_modules")
        super().__init__(DriverProcess(lambda: ["node", str(driver)], {"NODE_PATH": packages}))

    def missing(self) -> str | None:
        if not shutil.which("node"):
            return "node"
        packages = TOOLS / "node" / "node_modules" / "kafkajs"
        return None if packages.exists() else "scripts/install-tools node"


# kcat


class Kcat(Client):
    """The command line client on librdkafka. A run writes records of one partition with one set of headers."""

    name = "kcat"
    joins_groups = False  # it would, but does not tell its assignment
    sets_timestamps = False
    null_headers = False
    empty_fields = False

    def missing(self) -> str | None:
        return None if shutil.which("kcat") else "kcat"

    def run(self, *arguments: str, input: bytes = b"", timeout: float = 30) -> bytes:  # noqa: A002
        done = subprocess.run(["kcat", *arguments], input=input, capture_output=True, timeout=timeout, check=False)
        if done.returncode:
            raise ClientError(done.stderr.decode(errors="replace"))
        return done.stdout

    def produce(
        self, bootstrap: str, topic: str, messages: Sequence[Message], *, codec: str = "none", idempotent: bool = False
    ) -> list[int]:
        settings = ["-X", f"enable.idempotence={str(idempotent).lower()}", "-X", "acks=all", "-z", codec]
        for (partition, headers), group in itertools.groupby(messages, lambda one: (one.partition, one.headers)):
            arguments = ["-P", "-b", bootstrap, "-t", topic, "-p", str(partition), "-K", "\x01", "-D", "\x02", "-Z"]
            for name, value in headers:
                arguments += ["-H", f"{name}={(value or b'').decode()}"]
            lines = [(one.key or b"") + b"\x01" + (one.value or b"") for one in group]
            self.run(*arguments, *settings, input=b"\x02".join(lines))
        return []

    def consume(
        self, bootstrap: str, topic: str, count: int, *, committed: bool = False, timeout: float = 20
    ) -> list[Message]:
        isolation = "read_committed" if committed else "read_uncommitted"
        arguments = ["-C", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning", "-c", str(count), "-e"]
        text = "%p %o %T %K %S\n%k%s%h\n"
        output = self.run(*arguments, "-X", f"isolation.level={isolation}", "-f", text, timeout=timeout + 5)
        return list(self._read(output))

    @staticmethod
    def _read(output: bytes) -> Iterator[Message]:
        position = 0
        while position < len(output):
            end = output.index(b"\n", position)
            partition, offset, timestamp, key_size, value_size = map(int, output[position:end].split())
            position = end + 1
            key = None if key_size < 0 else output[position : position + key_size]
            position += max(key_size, 0)
            value = None if value_size < 0 else output[position : position + value_size]
            position += max(value_size, 0)
            end = output.index(b"\n", position)
            pairs = [pair.split(b"=", 1) for pair in output[position:end].split(b",") if pair]
            headers = tuple((name.decode(), None if text == b"NULL" else text) for name, text in pairs)
            position = end + 1
            yield Message(partition, key, value, headers, timestamp, offset)


def to_text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def to_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def to_json(message: Message) -> dict[str, Any]:
    return {
        "partition": message.partition,
        "offset": message.offset,
        "timestamp": message.timestamp,
        "key": to_text(message.key),
        "value": to_text(message.value),
        "headers": [[name, to_text(value)] for name, value in message.headers],
    }


def from_json(record: dict[str, Any]) -> Message:
    return Message(
        record["partition"],
        to_bytes(record["key"]),
        to_bytes(record["value"]),
        tuple((name, to_bytes(value)) for name, value in record["headers"] or []),
        record["timestamp"],
        record["offset"],
    )


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 60) -> Any:
    """Poll until the condition holds; AssertionError that says what did not happen."""
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)

"""Asks the cells of brokers, and compares what clients learn.

python -m tests.compatibility.authorization.matrix [--only NAME] [--cluster ottla|kafka]
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.brokers import ApacheKafka, Broker, OttlaBroker, free_port
from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.message import Message
from ottla.server.broker.api_table import APIS, CONTROLLER_APIS, Api
from tests.compatibility.authorization.cells import (
    PASSWORD,
    SHARED_GROUP,
    SHARED_TOPIC,
    Cell,
    Row,
    Values,
    cells,
    make,
    message,
)
from tests.compatibility.authorization.controller_rows import ALSO_ASKED_OF_BROKERS, ROWS
from tests.compatibility.authorization.rows import committed, produced

AUTHORIZATION_CODES = frozenset(
    code for code in ErrorCode if code.name.endswith("AUTHORIZATION_FAILED") or code.name == "SECURITY_DISABLED"
)
COME_AGAIN = (
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
)
"""What a coordinator says that has just been made; one has to ask again."""
NOT_THERE_YET = (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.LEADER_NOT_AVAILABLE)
"""What Apache Kafka's Metadata says of a topic that is being made."""


_KEYS = (
    "entity_name group_id index key name partition partition_id partition_index principal_name resource_name topic "
    "topic_name transactional_id user"
)
"""What elements of an answer are known by."""
KEYS = frozenset(_KEYS.split())


LEFT_OUT = frozenset(("assignment", "configs"))
"""What is not about permissions, and not the same: who has which partition already, which settings there are."""


NO_NEWS = {"topic_id": "an id"}
"""Of a topic that was asked for: there is nothing to say, or not yet."""


def learned(message: Any) -> Any:
    """What a client learns from an answer: codes, operations, which elements there are."""
    found: dict[str, Any] = {}
    for one in message.FIELDS:
        value = getattr(message, one.name)
        if one.name in LEFT_OUT:
            value = None
        elif isinstance(value, Message):
            value = learned(value)
        elif isinstance(value, list) and value and isinstance(value[0], Message):
            value = sorted(
                {repr(each): each for each in map(learned, value) if each not in ({}, NO_NEWS)}.values(), key=repr
            )
        elif one.name == "topic_id":
            value = "an id" if any(value) else None
        elif not (one.name in KEYS or one.name.endswith(("error_code", "authorized_operations"))):
            continue
        if value not in (None, "", 0, [], {}, -2147483648):
            found[one.name] = value
    return found


def codes(answer: Any) -> set[int]:
    """Every error code in what was learned."""
    if isinstance(answer, dict):
        own = {value for name, value in answer.items() if name.endswith("error_code")}
        return own.union(*(codes(value) for value in answer.values()))
    return set().union(*map(codes, answer)) if isinstance(answer, list) else set()


class Client:
    """One connection, logged in as `user`."""

    def __init__(self, port: int, user: str | None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")
        self._correlation_id = 0
        if user is not None:
            self.ask("SaslHandshake", 1, {"mechanism": "PLAIN"})
            answer = self.ask("SaslAuthenticate", 2, {"auth_bytes": f"\0{user}\0{PASSWORD}".encode()})
            assert not answer.error_code, answer

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, api: str, version: int, values: Values) -> Any:
        """The response. Raises ConnectionError when the connection is closed instead."""
        request: Any = make(message(api, "Request"), values)
        self._correlation_id += 1
        self._socket.sendall(b"".join(encode_request(request, version, self._correlation_id, "matrix")))
        size = self._file.read(4)
        if len(size) < 4:
            raise ConnectionError("closed")
        frame = self._file.read(int.from_bytes(size, "big"))
        start = 5 if response_header_version(request.API_KEY, version) else 4
        return decode(message(api, "Response"), version, frame, start)


# Clusters


def settings(port: int, controller_port: int, users: Sequence[str]) -> dict[str, str]:
    """The same for both: everybody logs in with PLAIN; root, and the node itself, are super users."""
    logins = " ".join(f'user_{user}="{PASSWORD}"' for user in ("root", *users))
    jaas = (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="root" password="{PASSWORD}" {logins};'
    )
    listeners = f"SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}"
    return {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "inter.broker.listener.name": "SASL_PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:SASL_PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": jaas,
        "listener.name.controller.plain.sasl.jaas.config": jaas,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:root",
        "delegation.token.secret.key": "for tests only",
        "group.coordinator.rebalance.protocols": "classic,consumer,streams,share",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # The records of the matrix are old.
        "log.retention.hours": "-1",
        "process.roles": "broker,controller",
        "node.id": "1",
    }


Versions = dict[tuple[int, bool], int]
"""API key, whether controllers are asked → version."""


def in_common(first: Versions, second: Versions) -> Versions:
    """The newest versions that both serve, of APIs that both serve."""
    return {key: min(version, second[key]) for key, version in first.items() if key in second}


class Asked:
    """A broker of one kind, with the users, topics and ACLs of the matrix."""

    def __init__(self, kind: str, directory: Path, asked: Sequence[Cell]) -> None:
        self.cells = asked
        self.port, self.controller_port = free_port(), free_port()
        given = settings(self.port, self.controller_port, [cell.user for cell in asked])
        self.broker: Broker
        if kind == "kafka":
            heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
            kafka = ApacheKafka(directory, port=self.port, settings=given, heap=heap)
            kafka.controller_port = self.controller_port
            self.broker = kafka
        else:
            self.broker = OttlaBroker(directory, port=self.port, settings=given)
        self.ids: dict[str, bytes] = {}

    def start(self) -> Asked:
        self.broker.spawn()
        deadline = time.monotonic() + 60
        while True:
            try:
                with Client(self.port, "root") as client:
                    if client.ask("Metadata", 12, {"topics": []}).brokers:
                        break
            except OSError:
                pass
            assert self.broker.process is not None
            if self.broker.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.broker.label} did not start:\n{self.broker.output[-3000:]}")
            time.sleep(0.1)
        self._prepare()
        return self

    def stop(self) -> None:
        self.broker.kill()

    def _prepare(self) -> None:
        topics = list(dict.fromkeys([SHARED_TOPIC, *(cell.topic for cell in self.cells if not cell.row.makes_topic)]))
        acls = dict.fromkeys(acl for cell in self.cells for acl in cell.acls())
        names = ("resource_type", "resource_name", "resource_pattern_type", "principal", "host", "operation")
        creations = [dict(zip((*names, "permission_type"), acl, strict=True)) for acl in acls]
        with Client(self.port, "root") as root:
            wanted = [{"name": name, "num_partitions": 1, "replication_factor": 1} for name in topics]
            made = root.ask("CreateTopics", 7, {"topics": wanted, "timeout_ms": 30_000})
            self.ids = {one.name: one.topic_id for one in made.topics}
            for start in range(0, len(creations), 500):
                results = root.ask("CreateAcls", 3, {"creations": creations[start : start + 500]}).results
                assert not any(one.error_code for one in results), results
            cell = Cell(Row("Produce", (), produced), "root", "", (), ids=self.ids)
            self._until_done(root, "Produce", 12, produced(cell))
            owner = {"owner_principal_type": "User", "owner_principal_name": "owner", "max_lifetime_ms": 600_000}
            root.ask("CreateDelegationToken", 3, owner)
            for kind, key in ((0, SHARED_GROUP), (1, "t"), (2, "g:AAAAAAAAAAAAAAAAAAAAAQ:0")):
                self._until_done(root, "FindCoordinator", 6, {"key_type": kind, "coordinator_keys": [key]})
            self._until_done(root, "OffsetCommit", 9, committed(cell) | {"group_id": SHARED_GROUP})

    @staticmethod
    def _until_done(client: Client, api: str, version: int, values: Values) -> None:
        deadline = time.monotonic() + 30
        while codes(learned(client.ask(api, version, values))):
            assert time.monotonic() < deadline, (api, learned(client.ask(api, version, values)))
            time.sleep(0.1)

    def versions(self) -> Versions:
        """The newest version of each API."""
        found: Versions = {}
        for on_controller, port in ((False, self.port), (True, self.controller_port)):
            with Client(port, "root") as client:
                for one in client.ask(
                    "ApiVersions", 3, {"client_software_name": "m", "client_software_version": "1"}
                ).api_keys:
                    found[one.api_key, on_controller] = one.max_version
        return found

    def answers(self, versions: Versions) -> dict[str, Any]:
        """What every cell learns, by user; each API is asked in these versions."""
        return {cell.user: self._answer(cell, versions) for cell in self.cells}

    def _answer(self, cell: Cell, versions: Versions) -> Any:
        row = cell.row
        api = served()[row.api, row.on_controller]
        version = row.version if row.version is not None else versions.get((api.key, row.on_controller))
        if version is None:
            return "not served"
        port = self.controller_port if row.on_controller else self.port
        cell = Cell(**{**vars(cell), "ids": self.ids})
        if row.before is not None:
            first, build = row.before
            with Client(port, "root") as root:
                self._until_done(
                    root, first, versions[served()[first, row.on_controller].key, row.on_controller], build(cell)
                )
        values = row.build(cell)
        for _ in range(60):
            with Client(port, cell.user) as client:
                try:
                    answer = client.ask(row.api, version, values)
                except ConnectionError:
                    return "closed"
            found = learned(answer)
            if row.api == "Envelope" and answer.response_data:
                inner = decode(message("AlterClientQuotas", "Response"), 1, bytes(answer.response_data), 5)
                found["inside"] = learned(inner)
            again = {*COME_AGAIN, *(NOT_THERE_YET if row.makes_topic else ())}
            if row.before is not None:
                again.add(ErrorCode.UNKNOWN_SERVER_ERROR)  # of Apache Kafka while the state of a share group begins
            if not codes(found) & again:
                break
            time.sleep(0.1)
        return found


def served() -> dict[tuple[str, bool], Api]:
    """Every API of the tables: name, whether controllers serve it."""
    return {(api.name, at): api for at, table in ((False, APIS), (True, CONTROLLER_APIS)) for api in table.values()}


def compare(directory: Path, asked: Sequence[Cell], kinds: Sequence[str] = ("ottla", "kafka")) -> list[dict[str, Any]]:
    """The answers of brokers of these kinds, each by user."""
    with contextlib.ExitStack() as stack:
        brokers = []
        for kind in kinds:
            broker = Asked(kind, directory / kind, asked)
            stack.callback(broker.stop)
            brokers.append(broker.start())
        versions = [broker.versions() for broker in brokers]
        return [broker.answers(in_common(versions[0], versions[-1])) for broker in brokers]


# For the documentation


def table(asked: Sequence[Cell], answers: dict[str, Any]) -> str:
    """What each row needs, and how it is answered without."""
    lines = ["| request | needs | without |", "| --- | --- | --- |"]
    for cell in asked:
        row = cell.row
        if cell.variant != "no ACL" or (row.on_controller and row.api in ALSO_ASKED_OF_BROKERS):
            continue
        needs = ", ".join(f"{operation.name} {kind.name.lower().replace('_', ' ')}" for operation, kind in row.needs)
        refused = sorted(codes(answers[cell.user]) & AUTHORIZATION_CODES)
        without = ", ".join(ErrorCode(code).name for code in refused) or ("shown less" if row.hides else "")
        lines.append(f"| {row.name} | {needs or 'nothing'} | {without} |")
    return "\n".join(lines)


DOCUMENT = Path(__file__).parents[3] / "docs" / "authorization.md"
BEGIN, END = "<!-- begin: the matrix -->", "<!-- end: the matrix -->"


def documented(text: str, lines: str) -> str:
    """The document with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}"


# From the command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose names have this in them")
    parser.add_argument("--cluster", choices=("ottla", "kafka"), help="ask one kind of broker, and show its answers")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/authorization.md")
    options = parser.parse_args()
    asked = cells([row for row in ROWS if options.only in row.name])
    kinds = [options.cluster] if options.cluster else ["ottla", "kafka"]
    with tempfile.TemporaryDirectory() as directory:
        found = compare(Path(directory), asked, kinds)
    shown = 0
    for cell in asked:
        answers = [of_kind[cell.user] for of_kind in found]
        if len(answers) == 1 or answers[0] != answers[1]:
            shown += 1
            print(f"{cell.row.name}: {cell.variant}")
            for kind, answer in zip(kinds, answers, strict=True):
                print(f"    {kind:6} {answer}")
    print(f"{len(asked)} cells, {shown} {'shown' if options.cluster else 'different'}")
    if options.docs:
        DOCUMENT.write_text(documented(DOCUMENT.read_text(), table(asked, found[-1])))


if __name__ == "__main__":
    main()

"""Whatever a client asks for, if it can be decoded at all: an answer with a code that says what is wrong with it.

Random requests of every served API in every version go to a whole node, from several clients at once. No answer says
UNKNOWN_SERVER_ERROR, nothing is logged as an error, everything is answered, and connections stay open. Values come from
a small pool of what exists or nearly does, so that requests get past the first checks, and meet each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Iterator
from importlib import import_module
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ONE_UUID, ZERO_UUID
from ottla.protocol.apis import ApiKey
from ottla.protocol.layout import Layout
from ottla.protocol.message import Field, Message, Request, field_default
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.records.record import Record, build_batch
from ottla.schema.config import BrokerConfig
from ottla.server.broker.api_table import APIS, Api
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 2,
    "transaction.state.log.num.partitions": 2,
    "share.coordinator.state.topic.num.partitions": 2,
}
CLIENTS = 3
REMEMBERED = ("_id", "_epoch")
ROUNDS = 2
"""Requests of each API in each version, from each client."""
ENDS_CONNECTION = ("DescribeAcls", "CreateAcls", "DeleteAcls")
"""With codes that stand for nothing, as in Kafka; with others they say that there is no authorizer."""
LONGEST_ANSWER_S = 86_400
"""A day of virtual time: among the requests are some that set quotas of a byte per second, for which clients wait."""

NAMES = ("jobs", "jobs", "orders", "workers", "1", "", "no such", "jobs:AAAAAAAAAAAAAAAAAAAAAQ:0")
TOPIC_NAMES = ("jobs", "orders", "jobs", "orders", "__consumer_offsets", "", ".", "x" * 250, "no such")
IDS = (b"\x00" * 15 + b"\x09", ZERO_UUID, ONE_UUID)
SETTING_NAMES = (
    "retention.ms", "cleanup.policy", "consumer.session.timeout.ms", "share.auto.offset.reset", "metrics", "match",
    "interval.ms", "log.retention.ms", "producer_byte_rate", "request_percentage", "connection_creation_rate",
)  # fmt: skip
SETTING_VALUES = ("1000", "-1", "compact", "earliest", "by_duration:PT1H", "*", "client_id=.*", "", "[", "2147483648")
INTEGERS = {"int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1)}
INTEGERS |= {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}
"""Wire type → its bounds."""
ANY_INTEGERS = (-2, -1, 0, 0, 0, 1, 1, 1, 2, 3, 4, 8, 16, 32, 100, 2**63, -(2**63))
LIKELY_INTEGERS = (
    ("_ms", (-1, 0, 1, 500, 10_000, 10_000, 30_000)),
    ("partition", (0, 0, 0, 0, 1, 2, -1)),
    ("count", (-1, 0, 1, 3)),
    ("acks", (-1, -1, -1, 1, 2)),
    ("epoch", (0, 0, -1, -1, 1, 2, -2, 32_767)),
    ("max_", (1, 10, 1_000, 1_000_000, 0, -1, 2**31 - 1)),
    ("offset", (0, 0, 1, 2, 5, -1, -2, 2**63 - 1)),
)
"""Part of a field's name → values that make sense, and some that do not."""


def batch(*values: bytes) -> bytes:
    return bytes(build_batch([Record(timestamp_ms=1_700_000_000_000, key=b"key", value=value) for value in values]))


RECORDS = (batch(b"one"), batch(b"one", b"two", b"three"), b"", b"\x00" * 61, batch(b"cut off")[:-1])


Memory = dict[tuple[str, str], deque[Any]]
"""What answers had in some fields, by type and name: ids and epochs that are good for something."""


class Requests:
    """Random requests, the same for the same seed and the same answers before."""

    def __init__(self, random: Random, memory: Memory) -> None:
        self._random = random
        self._memory = memory

    def remember(self, response: Any) -> None:
        """Use of an answer what a client would."""
        for field, value in fields_of(response):
            if field.name.endswith(REMEMBERED) and value is not None:
                self._memory[field.type, field.name].append(value)

    def request(self, api: Api, version: int) -> Request:
        cls = getattr(import_module(api.message_module), f"{api.name}Request")
        request: Request = self._struct(Layout(cls, version), cls)
        if api.key == ApiKey.PRODUCE and getattr(request, "acks", 1) == 0:
            request.acks = 1  # type: ignore[attr-defined]  # nobody would answer
        return request

    def _struct(self, layout: Layout, cls: type[Message]) -> Any:
        return cls(
            **{
                field.name: field_default(field)
                if layout.is_absent(field) or (layout.is_tagged(field) and self._random.random() < 0.3)
                else self._value(layout, field)
                for field in cls.FIELDS
            }
        )

    def _value(self, layout: Layout, field: Field) -> Any:
        random = self._random
        if layout.is_nullable(field) and random.random() < 0.15:
            return None
        if field.type == "array":
            count = random.choice((0, 1, 1, 2))
            if field.struct is not None:
                return [self._struct(layout, field.struct) for _ in range(count)]
            return [self._scalar(field.element or "", field.name) for _ in range(count)]
        if field.struct is not None:
            return self._struct(layout, field.struct)
        return self._scalar(field.type, field.name)

    def _scalar(self, wire_type: str, name: str) -> Any:
        random = self._random
        remembered = self._memory.get((wire_type, name))
        if remembered and random.random() < 0.5:
            return random.choice(remembered)
        if wire_type in INTEGERS:
            lowest, highest = INTEGERS[wire_type]
            values = next((values for part, values in LIKELY_INTEGERS if part in name), ANY_INTEGERS)
            return min(max(random.choice(values), lowest), highest)
        if wire_type == "bool":
            return random.random() < 0.5
        if wire_type == "float64":
            return random.choice((0.0, 1.0, 1e9, -1.0, float("nan"), float("inf")))
        if wire_type == "uuid":
            return random.choice(IDS)
        if wire_type == "string":
            return random.choice(self._strings(name))
        return random.choice(RECORDS)

    @staticmethod
    def _strings(name: str) -> tuple[str, ...]:
        if "topic" in name or name == "name":
            return TOPIC_NAMES
        if name in ("key", "config_name", "config_keys", "configuration_keys") or name.startswith("setting"):
            return SETTING_NAMES
        if name == "value":
            return SETTING_VALUES
        if name == "feature":
            return ("share.version", "group.version", "metadata.version", "kraft.version", "no such")
        if name in ("protocol_type", "server_assignor"):
            return ("consumer", "uniform", "range", "")
        if name == "entity_type":
            return ("user", "client-id", "ip", "")
        return NAMES


def fields_of(message: Any) -> Iterator[tuple[Field, Any]]:
    """The plain fields of a message and of the structs in it."""
    for field in message.FIELDS:
        value = getattr(message, field.name)
        if field.struct is None:
            yield field, value
        elif value is not None:
            for one in value if field.type == "array" else (value,):
                yield from fields_of(one)


async def ask_for_everything(memory: Memory, seed: str) -> list[str]:
    """Every API in every version, in random order; what is wrong with the answers."""
    problems = []
    random = Random(seed)
    requests = Requests(random, memory)
    everything = [
        (api, version)
        for api in APIS.values()
        if api.name not in ENDS_CONNECTION
        for version in range(api.min_version, api.max_version + 1)
    ]
    async with WireClient.connected(ADDRESS) as client:
        for api, version in random.sample(everything * ROUNDS, k=len(everything) * ROUNDS):
            request = requests.request(api, version)
            response_class = getattr(import_module(api.message_module), f"{api.name}Response")
            try:
                async with asyncio.timeout(LONGEST_ANSWER_S):
                    response = await client.ask(request, version, response_class)
            except (OSError, EOFError, TimeoutError) as error:
                problems.append(f"{type(error).__name__}: version {version} of {request}")
                break
            if any(
                field.name.endswith("error_code") and value == ErrorCode.UNKNOWN_SERVER_ERROR
                for field, value in fields_of(response)
            ):
                problems.append(f"version {version} of {request} is answered with {response}")
            requests.remember(response)
    return problems


@pytest.mark.parametrize("seed", range(3))
def test_every_request_that_can_be_decoded_is_answered(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main(env: SimulatedEnv) -> list[list[str]]:
        node = Node(BrokerConfig.of(SETTINGS), env)
        await node.start()
        memory: Memory = defaultdict(lambda: deque(maxlen=5))
        async with WireClient.connected(ADDRESS) as client:
            topics = [CreatableTopic(name=name, num_partitions=2, replication_factor=1) for name in ("jobs", "orders")]
            response = await client.ask(CreateTopicsRequest(topics=topics), 7, CreateTopicsResponse)
            memory["uuid", "topic_id"] += [topic.topic_id for topic in response.topics]
        env.memory_disk.is_cold = bool(seed % 2)
        clients = [ask_for_everything(memory, f"{seed} {number}") for number in range(CLIENTS)]
        problems = await asyncio.gather(*clients)
        await node.stop()
        return problems

    caplog.set_level(logging.WARNING)
    problems = [problem for found in simulate(main, seed=seed, shuffle=seed > 1) for problem in found]
    assert not problems, "\n".join(problems)
    worst = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert not worst, [record.getMessage() for record in worst]

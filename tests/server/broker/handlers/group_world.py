"""A group coordinator over memory logs, reached through the handlers and the codec, as a connection would."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.metadata_records import (
    BrokerEndpoint,
    PartitionRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from ottla.server.broker.api_table import APIS
from ottla.server.broker.broker import DelayedResponse, RequestContext
from ottla.server.coordinator.service import OFFSETS_TOPIC, GroupCoordinator
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.testing.sim.env import SimulatedEnv
from tests.server.coordinator.fake_log import FakeLog

NODE_ID = 1
MODULES = {api.name: api for api in APIS.values()}


def topic_id(name: str) -> bytes:
    return name.encode().ljust(16, b"\x07")


class GroupWorld:
    """Stands in for the broker: has ``groups`` and ``image``."""

    def __init__(self, env: SimulatedEnv, **settings: int) -> None:
        self.env = env
        self.authorizer = None
        self.image: MetadataImage = EMPTY_IMAGE
        self.logs: dict[int, FakeLog] = {}
        self.created = 0
        self.creation_error: ErrorCode | None = None
        self.settings = GroupSettings(
            **{"initial_rebalance_delay_ms": 0, "offsets_topic_partition_count": 4, **settings}
        )
        self.groups = self._new_groups()
        self.change(
            RegisterBrokerRecord(
                broker_id=NODE_ID,
                incarnation_id=topic_id("broker"),
                fenced=False,
                end_points=[BrokerEndpoint(name="PLAINTEXT", host="broker.test", port=9092, security_protocol=0)],
            )
        )

    def _new_groups(self) -> GroupCoordinator:
        return GroupCoordinator(
            self.settings,
            self.env,
            node_id=NODE_ID,
            open_log=lambda index: self.logs.setdefault(index, FakeLog()),
            create_topic=self._create_offsets_topic,
        )

    async def restart(self) -> None:
        """A new coordinator over the same logs."""
        self.groups.stop()
        self.groups = self._new_groups()
        self.groups.load(self.image)
        await self.groups.wait_until_loaded()

    def change(self, *records: Any) -> None:
        """Commit metadata records."""
        delta = MetadataDelta(self.image)
        for record in records:
            delta.replay(record)
        self.image = delta.apply(self.image.offset + len(records), 0, 0)
        self.groups.on_metadata_change(delta, self.image)

    def create_topic(self, name: str, partitions: int = 2, leader: int = NODE_ID) -> None:
        self.change(
            TopicRecord(name=name, topic_id=topic_id(name)),
            *(
                PartitionRecord(
                    topic_id=topic_id(name), partition_id=index, replicas=[leader], isr=[leader], leader=leader
                )
                for index in range(partitions)
            ),
        )

    def delete_topic(self, name: str) -> None:
        self.change(RemoveTopicRecord(topic_id=topic_id(name)))

    def with_offsets_topic(self) -> GroupWorld:
        self.create_topic(OFFSETS_TOPIC, self.settings.offsets_topic_partition_count)
        return self

    async def _create_offsets_topic(self) -> None:
        self.created += 1
        await asyncio.sleep(0.01)
        if self.creation_error is not None:
            raise ApiError(self.creation_error)
        self.with_offsets_topic()

    def send(self, api: str, version: int, client: str = "c", **fields: Any) -> Any:
        """Handle a request that went through its bytes; the response, or what it will come from."""
        entry = MODULES[api]
        messages = importlib.import_module(entry.message_module)
        request = getattr(messages, f"{api}Request")(**fields)
        received = decode(type(request), version, encode(request, version))
        context = RequestContext(client_host="127.0.0.1", api_version=version, client_id=client)
        return importlib.import_module(entry.handler_module).handle(self, received, context)

    def call(self, api: str, version: int, client: str = "c", **fields: Any) -> Any:
        """As ``send`` for a request that is answered at once; the response went through its bytes."""
        outcome = self.send(api, version, client, **fields)
        assert not isinstance(outcome, DelayedResponse), f"{api} waits"
        return through_bytes(outcome, version)

    async def wait(self, api: str, version: int, client: str = "c", **fields: Any) -> Any:
        """As ``call`` for a request that may wait."""
        return await arrive(self.send(api, version, client, **fields), version)


async def arrive(outcome: Any, version: int) -> Any:
    """The response behind what a handler returned."""
    if isinstance(outcome, DelayedResponse):
        if not outcome.done:
            arrived = asyncio.Event()
            outcome.on_done = lambda _: arrived.set()
            await arrived.wait()
        outcome = outcome.response
    elif asyncio.iscoroutine(outcome):
        outcome = await outcome
    return through_bytes(outcome, version)


def through_bytes(response: Any, version: int) -> Any:
    """What a client decodes at that version."""
    return decode(type(response), version, encode(response, version))

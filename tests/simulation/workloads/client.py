"""A client that connects when it has to, and whose connections break."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable
from typing import TypeVar

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)
from tests.simulation.workloads.cluster import ADDRESS, Cluster

R = TypeVar("R", bound=Response)

#: For the eyes: every request with its answer goes to the standard output.
TRACE = bool(os.environ.get("SIMULATION_TRACE"))
GROUP, TRANSACTION, SHARE = 0, 1, 2
"""Kinds of coordinators."""
TOPIC_RESOURCE, GROUP_RESOURCE = 2, 32
"""Kinds of resources that have settings."""
#: Longer than anything a broker may take, a join of a group included.
PATIENCE_S = 60.0

RETRIABLE = frozenset(
    {
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.LEADER_NOT_AVAILABLE,
    }
)


_DULL = re.compile(r"\b\w+=(None|-1|0|False|True|\[\]|''|b'(\\x00)+')(, )?|(Request|Response|TopicPartitions)\b")


class BrokenError(Exception):
    """The connection ended: the request was handled, or it was not."""


class Client:
    """One client id, one connection at a time, one request at a time.

    A cancelled client is one whose program was killed: its connection is gone, what it sent is on its way.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.random = cluster.random(f"client {name}")
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._correlation_id = 0

    async def ask(self, request: Request, version: int, response: type[R]) -> R:
        """Send a request and wait for its answer; BrokenError when the connection ends first, or none can be had."""
        cut_s = None
        if not self.cluster.is_calm and self.random.random() < self.cluster.cuts:
            # Some before the request arrives, some while it is handled, some when the answer is on its way.
            cut_s = self.random.choice((0.0, self.random.expovariate(1000), self.random.expovariate(10)))
            self.cluster.count("cut connections")
        try:
            reader, writer = self.streams or await self.connect()
            self._correlation_id += 1
            lives = self.cluster.lives
            writer.write(b"".join(encode_request(request, version, self._correlation_id, self.name)))
            async with asyncio.timeout(PATIENCE_S if cut_s is None else cut_s):
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = await reader.readexactly(size)
        except TimeoutError:
            self.close()
            if TRACE:
                self._tell(request, f"cut after {cut_s} s")
            if cut_s is None and lives == self.cluster.lives:
                self.cluster.fail(f"{self.name}: no answer within {PATIENCE_S} s to {request!r}")
            raise BrokenError("cut") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            if TRACE:
                self._tell(request, repr(error))
            self.close()
            raise BrokenError(str(error)) from None
        except asyncio.CancelledError:
            self.close()
            raise
        assert int.from_bytes(frame[:4], "big") == self._correlation_id
        answer = decode(response, version, frame, 5 if response_header_version(request.API_KEY, version) else 4)
        if TRACE:
            self._tell(request, answer)
        return answer

    async def insist(self, request: Request, version: int, response: type[R]) -> R:
        """Ask until there is an answer, for requests that may be repeated."""
        while True:
            try:
                return await self.ask(request, version, response)
            except BrokenError:
                await self.back_off()

    def _tell(self, request: Request, answer: object) -> None:
        text = f"{self.cluster.now():9.4f} {self.name}: {request} -> {answer}"
        print(_DULL.sub("", text)[:1000])

    async def back_off(self) -> None:
        """A moment before the next attempt."""
        await asyncio.sleep(self.random.uniform(0.01, 0.3))

    def close(self) -> None:
        """End the connection at once."""
        if self.streams is not None:
            self.cluster.connections.discard(self.streams[1])
            self.streams[1].transport.abort()
            self.streams = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = ADDRESS.rpartition(":")
        self.streams = await asyncio.open_connection(host, int(port))
        self.cluster.connections.add(self.streams[1])
        return self.streams

    # -- what an operator does

    async def create_topic(self, name: str, partitions: int, **settings: str) -> bytes:
        """A topic, created unless it is there; settings with underscores for dots. Its id."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=self.cluster.replication_factor,
            configs=[CreatableTopicConfig(name=key.replace("_", "."), value=value) for key, value in settings.items()],
        )
        while True:
            response = await self.insist(CreateTopicsRequest(topics=[topic]), 7, CreateTopicsResponse)
            code = response.topics[0].error_code
            if code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                break
            assert code in RETRIABLE or code == ErrorCode.THROTTLING_QUOTA_EXCEEDED, response
            await self.back_off()
        # Whoever is asked may hear of it a moment later than the controller.
        while name not in (found := await self.describe([name])):
            await self.back_off()
        return found[name].topic_id

    async def find_coordinator(self, key: str, key_type: int) -> None:
        """Ask who coordinates, which makes the internal topic when it is not there yet."""
        request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=[key])
        while True:
            response = await self.insist(request, 6, FindCoordinatorResponse)
            code = response.coordinators[0].error_code
            if code == ErrorCode.NONE:
                break
            assert code in RETRIABLE, response
            await self.back_off()
        # Small segments, so that there is something to clean.
        topic = ("__consumer_offsets", "__transaction_state", "__share_group_state")[key_type]
        await self.alter(
            TOPIC_RESOURCE, topic, internal_segment_bytes="20000", segment_ms="4000", delete_retention_ms="3000"
        )

    async def alter(self, resource_type: int, name: str, **settings: str) -> None:
        """Change settings of a topic or group, dots written as underscores."""
        resource = AlterConfigsResource(
            resource_type=resource_type,
            resource_name=name,
            configs=[
                AlterableConfig(name=key.replace("_", "."), config_operation=0, value=value)
                for key, value in settings.items()
            ],
        )
        request = IncrementalAlterConfigsRequest(resources=[resource])
        code = ErrorCode.REQUEST_TIMED_OUT
        while code == ErrorCode.REQUEST_TIMED_OUT:  # the broker asked was cut off from the controller; again is as good
            response = await self.insist(request, 1, IncrementalAlterConfigsResponse)
            code = response.responses[0].error_code
        assert code == ErrorCode.NONE, response

    async def describe(self, names: Iterable[str]) -> dict[str, MetadataResponseTopic]:
        """Metadata of the topics that exist."""
        wanted = [MetadataRequestTopic(name=name) for name in names]
        request = MetadataRequest(topics=wanted, allow_auto_topic_creation=False)
        response = await self.insist(request, 12, MetadataResponse)
        return {topic.name or "": topic for topic in response.topics if topic.error_code == ErrorCode.NONE}

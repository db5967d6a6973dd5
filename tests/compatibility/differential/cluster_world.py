"""A cluster behind raw requests: any of its brokers can be asked, paused and resumed; what was answered is recorded."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.clusters import Cluster
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest, TopicRequest
from ottla.records.record import Record, build_batch
from tests.compatibility.differential.comparison import readable
from tests.compatibility.differential.world import CLOSED, Step, Wire

WAIT_S = 30.0
SETS = ("isr_nodes", "offline_replicas", "eligible_leader_replicas")
"""Arrays of broker ids without an order that means anything."""


class ClusterWorld:
    """What `comparison` needs of a `World`, for a cluster of brokers 1, 2, 3 …"""

    def __init__(self, kind: str, cluster: Cluster, base_ms: int) -> None:
        self.kind, self.cluster, self.base_ms, self.run = kind, cluster, base_ms, ""
        self.steps: list[Step] = []
        self.names: dict[Any, str] = {}
        self.address = ("127.0.0.1", -1)
        self.common: Mapping[int, tuple[int, int]] = {}
        self.ports: dict[int, str] = {}
        for node_id, node in cluster.nodes.items():
            self.ports[node.port] = f"<port of {node_id}>"
            self.ports[node.place.controller_port] = f"<controller port of {node_id}>"
        self._wires: dict[int, Wire] = {}
        wire = self.wire(1)
        wire.send(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 3)
        answer: Any = wire.receive()
        self.supported = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}

    def wire(self, broker_id: int) -> Wire:
        """The connection to a broker."""
        wire = self._wires.get(broker_id)
        if wire is None:
            wire = self._wires[broker_id] = Wire(("127.0.0.1", self.cluster.nodes[broker_id].port), "differential")
        return wire

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()

    def quietly(self, broker_id: int, request: Request, version: int | None = None) -> Any:
        """Ask for something that is not compared."""
        wire = self.wire(broker_id)
        wire.send(request, self.common[request.API_KEY][1] if version is None else version)
        return wire.receive()

    def ask(
        self, label: str, broker_id: int, request: Request, version: int | None = None, *, hide: tuple[str, ...] = ()
    ) -> Any:
        """Ask a broker and write down the answer but for the fields `hide`."""
        answer = self.quietly(broker_id, request, version)
        self.note(f"{label} ({broker_id})", answer, hide)
        return answer

    def ask_all(
        self, label: str, request: Request, *, of: tuple[int, ...] = (1, 2, 3), hide: tuple[str, ...] = ()
    ) -> None:
        for broker_id in of:
            self.ask(label, broker_id, request, hide=hide)

    def note(self, label: str, answer: Any, hide: tuple[str, ...] = ()) -> None:
        shown = CLOSED if answer is None else self._shown(readable(self, answer), hide)  # type: ignore[arg-type]
        self.steps.append((label, shown))

    def _shown(self, value: Any, hide: tuple[str, ...], field: str = "") -> Any:
        if isinstance(value, dict):
            return {
                name: self.ports.get(content, content) if name == "port" else self._shown(content, hide, name)
                for name, content in value.items()
                if name not in hide
            }
        return sorted(value) if field in SETS else value

    # Brokers that come and go

    def pause(self, broker_id: int) -> None:
        """The broker stands still; wait until the others have it fenced."""
        self._wires.pop(broker_id, None)
        pid = self.cluster.nodes[broker_id].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        self.await_brokers(lambda fenced: broker_id in fenced)

    def resume(self, *broker_ids: int) -> None:
        """They go on; wait until they are unfenced."""
        for broker_id in broker_ids:
            pid = self.cluster.nodes[broker_id].pid
            assert pid is not None
            os.kill(pid, signal.SIGCONT)
        self.await_brokers(lambda fenced: fenced.isdisjoint(broker_ids))

    def await_brokers(self, holds: Callable[[set[int]], bool]) -> None:
        """Wait until this holds of the fenced brokers, as broker 1 knows them."""
        asked = DescribeClusterRequest(include_fenced_brokers=True)
        self._await(lambda: holds({one.broker_id for one in self.quietly(1, asked).brokers if one.is_fenced}))

    # Topics

    def create(self, topic: str, *replicas: list[int], **configs: str) -> bytes:
        """A topic with these replicas per partition; wait until all brokers know it."""
        request = CreateTopicsRequest(
            topics=[
                CreatableTopic(
                    name=topic,
                    num_partitions=-1,
                    replication_factor=-1,
                    assignments=[
                        CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
                        for index, ids in enumerate(replicas)
                    ],
                    configs=[CreatableTopicConfig(name=k.replace("_", "."), value=v) for k, v in configs.items()],
                )
            ],
            timeout_ms=10_000,
        )
        created = self.quietly(1, request).topics[0]
        assert created.error_code == 0, (self.kind, created)
        topic_id = bytes(created.topic_id)
        self.names[topic_id] = f"<id of {topic}>"
        for broker_id in (1, 2, 3):
            self._await(lambda broker_id=broker_id: self.partitions(topic, broker_id) is not None)  # type: ignore[misc]
        return topic_id

    def topic_id(self, topic: str) -> bytes:
        return next((key for key, name in self.names.items() if name == f"<id of {topic}>"), ZERO_UUID)

    def partitions(self, topic: str, broker_id: int = 1) -> dict[int, Any] | None:
        """The partitions as a broker knows them; None when it does not know the topic."""
        answer = self.quietly(broker_id, DescribeTopicPartitionsRequest(topics=[TopicRequest(name=topic)]))
        (found,) = answer.topics
        return None if found.error_code else {one.partition_index: one for one in found.partitions}

    def await_partition(self, topic: str, index: int, holds: Callable[[Any], bool], of: tuple[int, ...] = (1,)) -> None:
        """Wait until this holds of a partition as these brokers know it."""
        for broker_id in of:
            self._await(lambda broker_id=broker_id: holds((self.partitions(topic, broker_id) or {})[index]))  # type: ignore[misc]

    def await_answer(self, broker_id: int, request: Request, holds: Callable[[Any], bool]) -> None:
        """Wait until a broker answers like this."""
        self._await(lambda: holds(self.quietly(broker_id, request)))

    def _await(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.kind}: it does not come true; last: {self.steps[-1:]}")
            time.sleep(0.02)

    def batch(self, *values: bytes) -> bytes:
        return bytes(build_batch([Record(0, self.base_ms + n, None, value) for n, value in enumerate(values)]))

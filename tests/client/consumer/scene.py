"""A consumer before scripted brokers, in virtual time: real frames, logs of real batches, any faults a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from ottla.aio import Consumer
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)
from ottla.testing.sim.env import simulate
from tests.client.consumer.model_broker import Log, ModelCluster
from tests.client.network.fake_broker import Call, FakeCluster

LOOK_AGAIN_S = 0.01


class Scene:
    """Brokers with a topic "t"."""

    def __init__(self, brokers: int = 1, partitions: int = 1) -> None:
        self.fake = FakeCluster(brokers)
        self.model = ModelCluster(brokers)
        self.model.address = lambda node: (self.fake[node].host, self.fake[node].port)
        self.model.add_topic("t", partitions)
        self.model.topic_ids["t"] = self.fake.add_topic("t", partitions).id
        self.partitions = [TopicPartition("t", number) for number in range(partitions)]
        self.truncated: dict[TopicPartition, tuple[int, int]] = {}
        """(epoch, where it ends): what leaders say of every epoch."""
        for broker in self.fake:
            broker.on(ApiKey.FETCH, self.fetch)
            broker.on(ApiKey.LIST_OFFSETS, self.list_offsets)
            broker.on(ApiKey.OFFSET_FOR_LEADER_EPOCH, self.epoch_ends)

    def log(self, partition: int = 0) -> Log:
        return self.model.logs[self.partitions[partition]]

    def move_leader(self, partition: int, leader: int) -> None:
        self.fake.move("t", partition, leader)
        self.model.move_leader(self.partitions[partition], leader)

    def consumer(self, **settings: object) -> Consumer[bytes, bytes]:
        settings = {"auto_offset_reset": "earliest", "enable_metrics_push": False, **settings}
        return Consumer(self.fake.bootstrap, **settings)  # type: ignore[arg-type]

    async def fetch(self, request: Any, call: Call) -> Any:
        node, names_only = call.broker.id, call.version < 13
        self.model.hints = call.version >= 16
        response = self.model.fetch(node, request, names_only=names_only)
        epoch = request.session_epoch
        waited_s = 0.0
        while (
            not response.error_code
            and epoch > 0
            and not any(one.records or one.error_code for topic in response.responses for one in topic.partitions)
            and waited_s < request.max_wait_ms / 1000
        ):
            await asyncio.sleep(LOOK_AGAIN_S)
            waited_s += LOOK_AGAIN_S
            session = self.model.sessions[node].get(request.session_id)
            if session is None:
                break
            session.epoch = epoch  # the same request again
            request.topics, request.forgotten_topics_data = [], []
            response = self.model.fetch(node, request, names_only=names_only)
        return response

    def list_offsets(self, request: Any, call: Call) -> ListOffsetsResponse:
        topics = []
        for topic in request.topics:
            answers = []
            for wanted in topic.partitions:
                log = self.model.logs[TopicPartition(topic.name, wanted.partition_index)]
                answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
                if log.leader != call.broker.id:
                    answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
                else:
                    answer.offset = log.start if wanted.timestamp == -2 else log.end
                    answer.leader_epoch = log.leader_epoch
                answers.append(answer)
            topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
        return ListOffsetsResponse(topics=topics)

    def epoch_ends(self, request: Any, call: Call) -> OffsetForLeaderEpochResponse:
        topics = []
        for topic in request.topics:
            answers = []
            for wanted in topic.partitions:
                tp = TopicPartition(topic.topic, wanted.partition)
                log = self.model.logs[tp]
                epoch, end = self.truncated.get(tp, (wanted.leader_epoch, log.end))
                answer = EpochEndOffset(partition=wanted.partition, leader_epoch=epoch, end_offset=end)
                if log.leader != call.broker.id:
                    answer = EpochEndOffset(partition=wanted.partition, error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER)
                answers.append(answer)
            topics.append(OffsetForLeaderTopicResult(topic=topic.topic, partitions=answers))
        return OffsetForLeaderEpochResponse(topics=topics)


def play(story: Callable[[Scene, Random], Coroutine[Any, Any, None]], seed: int = 0, **shape: int) -> None:
    """Run a story with the brokers up."""

    async def main() -> None:
        scene = Scene(**shape)
        async with scene.fake:
            await story(scene, Random(seed))

    simulate(lambda env: main(), seed=seed)

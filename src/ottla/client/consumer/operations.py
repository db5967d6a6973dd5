"""What a consumer does on the loop when it is asked to, for both doors: each call as a coroutine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from ottla.client.consumer.committing import CommitCallback
from ottla.client.consumer.door import Committable, ConsumerDoor, Topics, listed, seek_target
from ottla.client.consumer.listener import Callbacks
from ottla.client.consumer.offsets import FoundOffset, list_offsets_round, until_found
from ottla.client.consumer.resets import EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, ResetStrategy
from ottla.client.errors import IllegalStateError, KafkaTimeoutError, error_for
from ottla.client.model import (
    Node,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    PartitionInfo,
    TopicPartition,
    topic_partition,
)
from ottla.serde.base import K, V

if TYPE_CHECKING:
    from ottla.client.consumer.offsets import Found


class ConsumerOperations(ConsumerDoor[K, V]):
    """All that is awaited. The caller has seen to it that nobody else uses the consumer meanwhile."""

    def _begin(self) -> None:
        """Every call connects when it is the first."""
        self._check_open()
        self._engine.start()

    # --- subscribing

    async def _subscribe(self, topics: Topics, callbacks: Callbacks | None) -> None:
        self._begin()
        if self._closing:
            raise IllegalStateError("The consumer is closing.", hint="Make a new one.")
        self._check_group(topics)
        engine = self._engine
        engine.subscription.subscribe(topics)
        if callbacks is not None:
            engine.rebalancing.callbacks = callbacks
        engine.subscription_changed()

    async def _unsubscribe(self) -> None:
        self._begin()
        self._give_back(None)
        self._engine.buffer.returned()
        await self._engine.unsubscribe()

    async def _assign(self, partitions: Iterable[TopicPartition]) -> None:
        self._begin()
        self._give_back(None)
        self._engine.buffer.returned()
        await self._engine.assign(listed(partitions))

    async def _pause(self, partitions: Iterable[TopicPartition] | TopicPartition | None, paused: bool) -> None:
        self._begin()
        some = self._some(partitions)
        if paused:
            self._give_back(some)
        self._engine.pause(some, paused)

    async def _enforce_rebalance(self) -> None:
        self._begin()
        if self._engine.member is None:
            raise IllegalStateError("enforce_rebalance() needs a group.", hint="Set group_id.")
        self._engine.member.enforce_rebalance()

    # --- positions

    async def _seek(self, tp: TopicPartition, offset: int | OffsetAndMetadata) -> None:
        self._begin()
        target, epoch = seek_target(offset)
        (tp,) = listed([tp])
        self._engine.subscription.state(tp)
        self._give_back([tp])
        self._engine.seek(tp, target, epoch)

    async def _seek_to(
        self, partitions: Iterable[TopicPartition] | TopicPartition | None, strategy: ResetStrategy
    ) -> None:
        self._begin()
        some = self._some(partitions)
        self._give_back(some)
        self._engine.seek_to(some, strategy)

    async def _position(self, tp: TopicPartition) -> int:
        self._begin()
        (tp,) = listed([tp])
        offset = await self._engine.position(tp)
        left = self._in_hand.left().get(tp)
        return offset if left is None else left.offset

    async def _find_offsets(
        self, targets: Mapping[TopicPartition, int], timeout_ms: int
    ) -> dict[TopicPartition, FoundOffset]:
        self._begin()
        if not targets:
            return {}
        cluster = self._engine.cluster
        deadline_ms = cluster.now_ms() + timeout_ms
        for topic in {tp.topic for tp in targets}:
            metadata = await cluster.wait_for_topic(topic, max(1, deadline_ms - cluster.now_ms()))
            for tp in targets:
                if tp.topic == topic and metadata.partition(tp.partition) is None:
                    raise error_for(
                        3, f"The topic {topic} has {len(metadata.partitions)} partitions, and none {tp.partition}."
                    )
        read_committed = self.settings.isolation_level == "read_committed"

        async def round_(rest: Mapping[TopicPartition, int], remaining_ms: int) -> Found[FoundOffset]:
            return await list_offsets_round(cluster, rest, read_committed=read_committed, timeout_ms=remaining_ms)

        return await until_found(cluster, targets, max(1, deadline_ms - cluster.now_ms()), round_)

    async def _ends(
        self, partitions: Iterable[TopicPartition], timestamp: int, timeout_ms: int
    ) -> dict[TopicPartition, int]:
        found = await self._find_offsets(dict.fromkeys(listed(partitions), timestamp), timeout_ms)
        return {tp: result.offset for tp, result in found.items()}

    async def _beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, int]:
        return await self._ends(partitions, EARLIEST_TIMESTAMP, timeout_ms)

    async def _end_offsets(self, partitions: Iterable[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        return await self._ends(partitions, LATEST_TIMESTAMP, timeout_ms)

    async def _offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        targets = {topic_partition(tp): timestamp for tp, timestamp in timestamps.items()}
        for tp, timestamp in targets.items():
            if timestamp < 0:
                raise ValueError(f"the time {timestamp} of {tp} is negative; see beginning_offsets and end_offsets")
        found = await self._find_offsets(targets, timeout_ms)
        return {
            tp: None
            if result.offset < 0
            else OffsetAndTimestamp(
                result.offset, result.timestamp_ms, result.leader_epoch if result.leader_epoch >= 0 else None
            )
            for tp, result in found.items()
        }

    # --- commits

    async def _commit(self, offsets: Committable | None, timeout_ms: int) -> None:
        self._begin()
        wanted = self._offsets(offsets)
        committing = self._engine.committing
        assert committing is not None
        began_ms = self._engine.cluster.now_ms()
        await committing.commit(wanted, timeout_ms)
        self._took("commit-sync", began_ms)

    async def _commit_soon(self, offsets: Committable | None, callback: CommitCallback | None) -> None:
        self._begin()
        wanted = self._offsets(offsets)
        committing = self._engine.committing
        assert committing is not None
        committing.commit_soon(wanted, callback)

    async def _committed(
        self, partitions: Iterable[TopicPartition] | TopicPartition | None, timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        self._begin()
        member = self._engine.member
        if member is None:
            raise IllegalStateError("committed() needs a group.", hint="Set group_id.")
        some = self._some(partitions)
        began_ms = self._engine.cluster.now_ms()
        found = dict(await member.committed(some, timeout_ms)) if some else {}
        self._took("committed", began_ms)
        return found

    def _took(self, what: Literal["commit-sync", "committed"], began_ms: int) -> None:
        engine = self._engine
        if engine.metrics is not None:
            engine.metrics.took(what, (engine.cluster.now_ms() - began_ms) / 1000)

    # --- the cluster

    async def _partitions_for(self, topic: str, timeout_ms: int) -> list[PartitionInfo]:
        self._begin()
        await self._engine.cluster.wait_for_topic(topic, timeout_ms)
        return self._engine.cluster.metadata.partition_infos(topic) or []

    async def _list_topics(self, timeout_ms: int) -> dict[str, list[PartitionInfo]]:
        from ottla.protocol.messages.metadata import MetadataRequest

        self._begin()
        request = MetadataRequest(topics=None, allow_auto_topic_creation=False)
        response = await self._engine.cluster.request_any(request, timeout_ms=timeout_ms)
        nodes = {one.node_id: Node(one.node_id, one.host, one.port, one.rack) for one in response.brokers}

        def named(ids: Iterable[int]) -> tuple[Node, ...]:
            return tuple(nodes.get(one, Node(one, "", -1)) for one in ids)

        return {
            topic.name: [
                PartitionInfo(
                    topic.name,
                    one.partition_index,
                    nodes.get(one.leader_id),
                    named(one.replica_nodes),
                    named(one.isr_nodes),
                    named(one.offline_replicas),
                )
                for one in sorted(topic.partitions, key=lambda one: int(one.partition_index))
            ]
            for topic in sorted(response.topics, key=lambda topic: str(topic.name))
            if topic.name is not None and not topic.error_code
        }

    # --- the end

    async def _shut(self, timeout_ms: int, leave_group: bool | None) -> None:
        await self._engine.close(timeout_ms, leave_group)

    def _loop_news(self) -> None:
        """The user polls."""
        if not self._closed:
            self._engine.start()
            self._engine.user_polled()


def position_timeout(tp: Any, timeout_ms: int) -> KafkaTimeoutError:
    """There was no position in time."""
    return KafkaTimeoutError(f"The position of {topic_partition(tp)} was not found within {timeout_ms} ms.")

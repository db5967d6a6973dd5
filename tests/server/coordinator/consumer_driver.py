"""Drives the consumer groups of one shard by hand; topics come, grow and go as the test says."""

from __future__ import annotations

from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)
from ottla.server.coordinator.consumer.checks import check_heartbeat
from ottla.server.coordinator.consumer.group import ConsumerGroup, durable_state
from ottla.server.coordinator.consumer.groups import ConsumerGroups
from ottla.server.coordinator.group import GroupType
from tests.server.coordinator.driver import Driver

#: Topic name → partitions.
Owned = dict[str, list[int]]


class ConsumerDriver(Driver):
    """A shard with a metadata image."""

    @property
    def machine(self) -> ConsumerGroups:
        machine: ConsumerGroups = self.shard.machine(GroupType.CONSUMER)
        return machine

    def group(self, group_id: str = "g") -> ConsumerGroup:
        group = self.shard.groups[group_id]
        assert isinstance(group, ConsumerGroup)
        return group

    def restart(self) -> None:
        before = self.durable()
        super().restart()
        assert self.durable() == before

    def restart_from_log(self) -> None:
        """A new shard out of a log that a test has put together."""
        super().restart()

    def durable(self) -> dict[str, object]:
        return {
            group_id: durable_state(group)
            for group_id, group in self.shard.groups.items()
            if isinstance(group, ConsumerGroup)
        }

    def apply(self, result: Any) -> tuple[Any, ErrorCode | None]:
        answer = super().apply(result)
        groups = {key: group for key, group in self.shard.groups.items() if isinstance(group, ConsumerGroup)}
        self.machine.topics.check_invariants({key: set(group.subscriptions) for key, group in groups.items()})
        for group in groups.values():
            assert all(self.machine.sessions.runs(group.group_id, member_id) for member_id in group.members)
        return answer

    # -- members

    def heartbeat(
        self,
        member_id: str,
        epoch: int = 0,
        topics: tuple[str, ...] | None = None,
        *,
        group: str = "g",
        regex: str | None = None,
        owned: Owned | None = None,
        instance: str | None = None,
        rack: str | None = None,
        assignor: str | None = None,
        rebalance_ms: int | None = None,
        version: int = 1,
        client_id: str = "c",
    ) -> ConsumerGroupHeartbeatResponse:
        """ApiError for a refusal, also of the append. A join gives what a join has to give, if nothing else is said."""
        joins = epoch == 0
        request = ConsumerGroupHeartbeatRequest(
            group_id=group,
            member_id=member_id,
            member_epoch=epoch,
            instance_id=instance,
            rack_id=rack,
            rebalance_timeout_ms=(60_000 if joins else -1) if rebalance_ms is None else rebalance_ms,
            subscribed_topic_names=None if topics is None else list(topics),
            subscribed_topic_regex=regex,
            server_assignor=assignor,
            topic_partitions=self.to_message({} if joins and owned is None else owned),
        )
        check_heartbeat(request, version, self.settings.consumer_assignors)
        result = self.machine.heartbeat(request, client_id, "/127.0.0.1", self.now())
        response, code = self.apply(result)
        if code is not None:
            raise ApiError(code)
        return response

    def code_of(self, *arguments: Any, **values: Any) -> ErrorCode:
        try:
            self.heartbeat(*arguments, **values)
        except ApiError as error:
            return error.code
        return ErrorCode.NONE

    def to_message(self, owned: Owned | None) -> list[ConsumerGroupHeartbeatRequestTopicPartitions] | None:
        if owned is None:
            return None
        found = ((self.image.topics.id_of(name), indexes) for name, indexes in owned.items())
        return [
            ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=list(indexes))
            for topic_id, indexes in found
            if topic_id is not None
        ]

    def assigned(self, response: ConsumerGroupHeartbeatResponse) -> Owned | None:
        """The response's assignment by topic name, without deleted topics; None when it says that nothing changed."""
        if response.assignment is None:
            return None
        return {
            name: list(item.partitions)
            for item in response.assignment.topic_partitions
            if (name := self.image.topics.name_of(item.topic_id)) is not None
        }

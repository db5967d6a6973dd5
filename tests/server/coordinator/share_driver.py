"""Drives the share groups of one shard by hand, with the share coordinator in the test's hand as well."""

from __future__ import annotations

from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.share.group import ShareGroup
from ottla.server.coordinator.share.groups import HeartbeatOutcome, Initialization, ShareGroups, durable_state
from tests.server.coordinator.driver import Driver

SESSION_MS = 45_000
ASSIGNMENT_INTERVAL_MS = 1_000


class ShareDriver(Driver):
    """``initializations`` are those the share coordinator has not answered yet."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.initializations: list[Initialization] = []

    @property
    def machine(self) -> ShareGroups:
        machine: ShareGroups = self.shard.machine(GroupType.SHARE)
        return machine

    def group(self, group_id: str = "g") -> ShareGroup:
        return self.machine.group(group_id)

    def restart(self) -> None:
        before = self.durable()
        self.initializations.clear()
        super().restart()
        assert self.durable() == before

    def durable(self) -> dict[str, object]:
        return {
            group_id: durable_state(group)
            for group_id, group in self.shard.groups.items()
            if isinstance(group, ShareGroup)
        }

    # -- members

    def heartbeat(
        self,
        member_id: str,
        epoch: int = 0,
        topics: tuple[str, ...] | None = None,
        *,
        group: str = "g",
        rack: str | None = None,
    ) -> ShareGroupHeartbeatResponse:
        request = ShareGroupHeartbeatRequest(
            group_id=group,
            member_id=member_id,
            member_epoch=epoch,
            rack_id=rack,
            subscribed_topic_names=None if topics is None else list(topics),
        )
        result = self.machine.heartbeat(request, "client", "/127.0.0.1", self.now())
        outcome: HeartbeatOutcome
        outcome, code = self.apply(result)
        assert code is None
        if outcome.initialization is not None:
            self.machine.begin_initialization(outcome.initialization, self.now())
            self.initializations.append(outcome.initialization)
        self.machine.check_invariants()
        return outcome.response

    def code_of(self, *arguments: Any, **values: Any) -> ErrorCode:
        try:
            self.heartbeat(*arguments, **values)
        except ApiError as error:
            return error.code
        return ErrorCode.NONE

    def assigned(self, member_id: str, group: str = "g") -> dict[str, list[int]]:
        """Topic names and partitions that the member has now."""
        member = self.group(group).members[member_id]
        return {
            self.image.topics.by_id[topic_id].name: list(partitions) for topic_id, partitions in member.assigned.items()
        }

    # -- the share coordinator

    def initialize(self, *, succeeds: bool = True) -> None:
        """It answers everything that it was asked."""
        asked, self.initializations = self.initializations, []
        for initialization in asked:
            if succeeds:
                self.apply(self.machine.initialized(initialization))
            self.machine.initialization_over(initialization)

"""One streams group (KIP-1071): topology, members, target assignment, and who holds which task.

Everything but what stands under "ephemeral" in `StreamsGroup.__init__` is durable and changed by replay alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.group import GroupType, PartitionCommitCheck
from ottla.server.coordinator.modern_group import EpochedGroup
from ottla.server.coordinator.result import CoordinatorRecord
from ottla.server.coordinator.streams import records as group_records
from ottla.server.coordinator.streams.member import Member, Progress
from ottla.server.coordinator.streams.tasks import NO_ROLES, TaskId, TaskRoles
from ottla.server.coordinator.streams.topics import ConfiguredTopology
from ottla.server.coordinator.streams.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.server.coordinator.modern_topics import SubscribedTopics

PROTOCOL_TYPE = "streams"

EMPTY = "Empty"
NOT_READY = "NotReady"
ASSIGNING = "Assigning"
RECONCILING = "Reconciling"
STABLE = "Stable"

#: No topology, or none that a description was stored for.
NO_EPOCH = -1

_FIRST_COMMIT_WITH_MEMBER_EPOCH = 9


class StreamsGroup(EpochedGroup):
    """State of one group. Its subscription is the topology's: all topics that the tasks read or write."""

    group_type = GroupType.STREAMS
    protocol_type = PROTOCOL_TYPE

    __slots__ = (
        "_active_holder",
        "_copy_holders",
        "assignment_configs",
        "configured",
        "endpoint_epoch",
        "failed_description_epoch",
        "members",
        "shutdown_member_id",
        "static_members",
        "stored_description_epoch",
        "target",
        "task_end_offsets",
        "task_offsets",
        "topology",
        "validated_topology_epoch",
    )

    def __init__(self, group_id: str, topics: SubscribedTopics) -> None:
        super().__init__(group_id, topics)
        self.topology: Topology | None = None
        #: Epoch of the topology that was found to fit the topics; -1 while none does.
        self.validated_topology_epoch = NO_EPOCH
        #: The assignment settings that the group epoch took into account.
        self.assignment_configs: dict[str, str] = {}
        self.members: dict[str, Member] = {}
        #: Group instance id → member id.
        self.static_members: dict[str, str] = {}
        self.target: dict[str, TaskRoles] = {}
        self.stored_description_epoch = NO_EPOCH
        self.failed_description_epoch = NO_EPOCH
        self._active_holder: dict[TaskId, str] = {}
        #: Who has a standby or warm-up copy.
        self._copy_holders: dict[TaskId, set[str]] = {}
        # Ephemeral:
        self.configured: ConfiguredTopology | None = None
        self.shutdown_member_id: str | None = None
        #: Raised whenever the answer to "which partitions are where" may be another one.
        self.endpoint_epoch = 0
        #: Changelog offsets that members reported of tasks whose state they have, and where these changelogs end.
        self.task_offsets: dict[str, Mapping[TaskId, int]] = {}
        self.task_end_offsets: dict[str, Mapping[TaskId, int]] = {}

    def replay(self, record: CoordinatorRecord) -> None:
        """Apply one of the group's records."""
        key, value = record.key, record.value
        key_type = record.key_type
        if key_type == group_records.CURRENT_ASSIGNMENT:
            member = self.members.get(key.member_id)
            if value is not None:
                self.put_member((member or Member(key.member_id))._replace(progress=group_records.progress_of(value)))
            elif member is not None:
                self.put_member(member._replace(progress=Progress()))
        elif key_type == group_records.MEMBER_METADATA:
            if value is None:
                self.remove_member(key.member_id)
            else:
                member = self.members.get(key.member_id) or Member(key.member_id)
                self.put_member(member._replace(profile=group_records.profile_of(value)))
        elif key_type == group_records.TARGET_MEMBER:
            if value is None:
                self.target.pop(key.member_id, None)
            else:
                lists = value.active_tasks, value.standby_tasks, value.warmup_tasks
                self.target[key.member_id] = group_records.roles_of(*lists)
        elif key_type == group_records.TARGET_METADATA:
            self.assignment_epoch = NO_EPOCH if value is None else value.assignment_epoch
            self.assignment_timestamp_ms = 0 if value is None else value.assignment_timestamp
        elif key_type == group_records.TOPOLOGY:
            self.set_topology(None if value is None else Topology.from_message(value))
        elif value is not None:
            self.group_epoch = value.epoch
            self.metadata_hash = value.metadata_hash
            self.validated_topology_epoch = value.validated_topology_epoch
            self.assignment_configs = {each.key: each.value for each in value.last_assignment_configs or ()}
            self.stored_description_epoch = value.stored_description_topology_epoch
            self.failed_description_epoch = value.failed_description_topology_epoch

    # -- members

    def member(self, member_id: str) -> Member:
        """The member, or ApiError UNKNOWN_MEMBER_ID."""
        member = self.members.get(member_id)
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {self.group_id}.")
        return member

    def static_member(self, instance_id: str) -> Member | None:
        """The holder of a group instance id."""
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members.get(member_id)

    def put_member(self, member: Member) -> None:
        """Take a member in, or in place of what it was before."""
        before = self.members.get(member.member_id)
        if before is not None:
            self._release(before)
        self.members[member.member_id] = member
        if member.profile.instance_id is not None:
            self.static_members[member.profile.instance_id] = member.member_id
        held = member.held()
        for task in held.active:
            self._active_holder[task] = member.member_id
        for task in held.standby | held.warmup:
            self._copy_holders.setdefault(task, set()).add(member.member_id)

    def remove_member(self, member_id: str) -> None:
        """Take a member out; its tasks are free."""
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self._release(member)
        self.task_offsets.pop(member_id, None)
        self.task_end_offsets.pop(member_id, None)
        if not self.members:
            self.shutdown_member_id = None

    def _release(self, member: Member) -> None:
        member_id, instance_id = member.member_id, member.profile.instance_id
        if instance_id is not None and self.static_members.get(instance_id) == member_id:
            del self.static_members[instance_id]
        held = member.held()
        for task in held.active:
            if self._active_holder.get(task) == member_id:
                del self._active_holder[task]
        for task in held.standby | held.warmup:
            holders = self._copy_holders[task]
            holders.discard(member_id)
            if not holders:
                del self._copy_holders[task]

    def is_unreleased(self, member: Member, task: TaskId, active: bool, replaced: Member | None = None) -> bool:
        """Whether the member must wait for the task.

        An active task has one owner in the group, and a process has a task once, in whatever role. What the member
        itself holds, or the static member whose place it takes, is no obstacle: it is given a task in another role
        only when it has reported to be without.
        """
        own = (member.member_id, None if replaced is None else replaced.member_id)
        process_id = member.process_id
        holder_id = self._active_holder.get(task)
        if (
            holder_id is not None
            and holder_id not in own
            and (active or self.members[holder_id].process_id == process_id)
        ):
            return True
        return any(
            copy_id not in own and self.members[copy_id].process_id == process_id
            for copy_id in self._copy_holders.get(task, ())
        )

    def target_of(self, member_id: str) -> TaskRoles:
        """The member's part of the target assignment."""
        return self.target.get(member_id, NO_ROLES)

    # -- topology

    def set_topology(self, topology: Topology | None) -> None:
        """Take over the topology of a record."""
        added = frozenset() if topology is None else topology.required_topics
        removed = frozenset() if self.topology is None else self.topology.required_topics
        self.subscribe(added)
        self.unsubscribe(removed)
        self.topology = topology
        self.configured = None

    @property
    def topology_epoch(self) -> int:
        """Epoch of the topology; -1 when there is none."""
        return NO_EPOCH if self.topology is None else self.topology.epoch

    # -- what any group is asked (coordinator.group.Group)

    @property
    def state_name(self) -> str:
        if not self.members:
            return EMPTY
        if self.topology is None or self.topology.epoch != self.validated_topology_epoch:
            return NOT_READY
        if self.group_epoch > self.assignment_epoch:
            return ASSIGNING
        if all(member.progress.is_reconciled_to(self.assignment_epoch) for member in self.members.values()):
            return STABLE
        return RECONCILING

    def check_commit(
        self, member_id: str, group_instance_id: str | None, generation_id: int, version: int, *, transactional: bool
    ) -> PartitionCommitCheck | None:
        """Members commit in their epoch; in an older one what they had by then and still have."""
        if generation_id < 0 and not self.members:
            return None
        if transactional and generation_id < 0 and not member_id and group_instance_id is None:
            return None
        member = self.member(member_id)
        if not transactional and version < _FIRST_COMMIT_WITH_MEMBER_EPOCH:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                "OffsetCommit version 9 or above must be used by members using the streams group protocol",
            )
        if generation_id == member.progress.member_epoch:
            return None
        if generation_id > member.progress.member_epoch:
            raise ApiError(
                ErrorCode.STALE_MEMBER_EPOCH,
                f"Received member epoch {generation_id} is newer than current member epoch "
                f"{member.progress.member_epoch}.",
            )
        return self._commit_in_older_epoch(member, generation_id)

    def _commit_in_older_epoch(self, member: Member, received_epoch: int) -> PartitionCommitCheck:
        """A member that did not learn of its new epoch yet may commit for tasks that it has had since its old one."""
        if self.topology is None:
            raise ApiError(ErrorCode.STALE_MEMBER_EPOCH, "Topology is not available for offset commit validation.")
        subtopology_of = self.topology.subtopology_of_input
        epochs = member.progress.active_epochs

        def check(topic: str, topic_id: bytes, partition: int) -> None:
            subtopology_id = subtopology_of.get(topic)
            if subtopology_id is None:
                raise ApiError(ErrorCode.STALE_MEMBER_EPOCH, f"Topic {topic} is not in the topology.")
            epoch = epochs.get(TaskId(subtopology_id, partition))
            if epoch is None or received_epoch < epoch:
                raise ApiError(
                    ErrorCode.STALE_MEMBER_EPOCH,
                    f"Task {subtopology_id}-{partition} was not the member's in epoch {received_epoch}.",
                )

        return check

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        """Members fetch in their epoch, administrators without one."""
        if member_id is None and member_epoch < 0:
            return
        expected = self.member(member_id or "").progress.member_epoch
        if member_epoch != expected:
            raise ApiError(
                ErrorCode.STALE_MEMBER_EPOCH,
                f"The received member epoch {member_epoch} does not match the expected member epoch {expected}.",
            )

    def check_offset_delete(self) -> None:
        """Offsets of topics that are not read any more may be removed at any time."""

    def check_delete(self) -> None:
        """Only an Empty group may be deleted."""
        if self.members:
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether the application reads the topic, while it runs."""
        return bool(self.members) and self.topology is not None and topic in self.topology.subtopology_of_input

    def retention_base_ms(self, topic: str, commit_timestamp_ms: int) -> int | None:
        """From the commit, once the topic is not read any more."""
        return None if self.is_subscribed_to(topic) else commit_timestamp_ms

    def may_expire(self) -> bool:
        return not self.members

    def tombstones(self) -> list[CoordinatorRecord]:
        """All records of the group, the members' first."""
        records = [
            record for member_id in self.members for record in group_records.member_tombstones(self.group_id, member_id)
        ]
        return records + group_records.group_tombstones(self.group_id)

    def check_invariants(self) -> None:
        """One active holder per task; a process has a task once; the index agrees with the members."""
        active: dict[TaskId, str] = {}
        by_process: dict[tuple[str, TaskId], str] = {}
        copies: dict[TaskId, set[str]] = {}
        for member_id, member in self.members.items():
            assert member.member_id == member_id
            held = member.held()
            assert set(member.progress.active_epochs) == held.active
            assert held.active.isdisjoint(held.standby | held.warmup)
            for task in held.active:
                assert task not in active, f"{task} is held by {active[task]} and {member_id}"
                active[task] = member_id
            for task in held.standby | held.warmup:
                copies.setdefault(task, set()).add(member_id)
            for task in held.active | held.standby | held.warmup:
                other = by_process.setdefault((member.process_id, task), member_id)
                assert other == member_id, f"{task} is in process {member.process_id} twice: {other}, {member_id}"
        assert active == self._active_holder
        assert copies == self._copy_holders
        assert self.assignment_epoch <= self.group_epoch
        assert self.target.keys() <= self.members.keys()
        assert self.static_members == {
            member.profile.instance_id: member_id
            for member_id, member in self.members.items()
            if member.profile.instance_id is not None
        }
        required = frozenset() if self.topology is None else self.topology.required_topics
        assert self.subscriptions.keys() == required

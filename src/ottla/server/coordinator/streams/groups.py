"""The streams groups of one shard (KIP-1071): heartbeats, timers and replay.

One heartbeat does everything: it takes over what the member says of itself and of the topology, looks whether the
topology fits the topics there are, raises the group epoch when any of it changed, makes a target assignment for the
epoch, and takes the member one step towards its part of it. Kafka's order of these steps is kept, since it decides
which refusal a client sees.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.streams_group_heartbeat import (
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
)
from ottla.protocol.messages.streams_group_topology_description_update import (
    StreamsGroupTopologyDescriptionUpdateResponse,
)
from ottla.server.coordinator.modern_group import JOIN_EPOCH, STATIC_LEAVE_EPOCH, MemberTimers
from ottla.server.coordinator.modern_topics import SubscribedTopics
from ottla.server.coordinator.result import CoordinatorRecord, Instant, Result
from ottla.server.coordinator.streams import heartbeat as heartbeats
from ottla.server.coordinator.streams import records as group_records
from ottla.server.coordinator.streams.admission import Heartbeat, Step, admit, held_by, streams_group
from ottla.server.coordinator.streams.describe import describe
from ottla.server.coordinator.streams.descriptions import AVAILABLE, NOT_STORED, TopologyDescriptions, converted
from ottla.server.coordinator.streams.group import NO_EPOCH, StreamsGroup
from ottla.server.coordinator.streams.member import Member, MemberState, reconcile
from ottla.server.coordinator.streams.target import assignment_configs, make_target, rack_aware_tags, target_records
from ottla.server.coordinator.streams.tasks import NO_ROLES, TaskId, TaskRoles
from ottla.server.coordinator.streams.topics import ConfiguredTopology, StatusCode, configure
from ottla.server.coordinator.streams.topology import InternalTopic, Topology

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.protocol.messages.streams_group_describe import DescribedGroup
    from ottla.protocol.messages.streams_group_topology_description_update import (
        StreamsGroupTopologyDescriptionUpdateRequest,
    )
    from ottla.server.coordinator.group_machine import GroupContext
    from ottla.server.coordinator.timers import Timer
    from ottla.server.metadata.delta import MetadataDelta

logger = logging.getLogger(__name__)

#: Whose members know of client tags and topology descriptions.
_FIRST_VERSION_OF_KAFKA_4_4 = 1


class StreamsGroups:
    """The machine of streams groups (`group_machine.GroupMachine`)."""

    def __init__(self, context: GroupContext) -> None:
        self.context = context
        self.settings = context.settings
        self.topics = SubscribedTopics(context)
        self.descriptions = TopologyDescriptions()
        self._sessions = MemberTimers(context.timers, self._session_expired)
        self._rebalances = MemberTimers(context.timers, self._rebalance_expired)
        #: Groups whose first assignment waits for more members to join.
        self._initial_delays: dict[str, Timer] = {}

    # -- heartbeat

    def heartbeat(
        self, call: Heartbeat, now: Instant
    ) -> tuple[Result[StreamsGroupHeartbeatResponse], tuple[InternalTopic, ...]]:
        """Answer a checked request (`heartbeat.check_request`), and name the internal topics to be created."""
        request = call.request
        if request.member_epoch < JOIN_EPOCH:
            return self._leave(request), ()
        owned = heartbeats.owned_tasks(request)
        step = admit(self.context, self.topics, call, owned)
        group = step.group
        is_changed = self._update_profile(step, call)
        topology = self._update_topology(step, request)
        configured, metadata_hash = self._configured(group, topology)
        is_changed |= metadata_hash != group.metadata_hash
        heartbeats.check_tasks(configured, owned)
        self._remember_offsets(step, request)
        validated_epoch = topology.epoch if configured.is_ready else NO_EPOCH
        configs = assignment_configs(self.context.config_of(group.group_id))
        is_changed |= validated_epoch != group.validated_topology_epoch or configs != group.assignment_configs
        group_epoch = group.group_epoch
        if is_changed:
            group_epoch += 1
            step.records.append(
                _group_record(
                    group,
                    group_epoch=group_epoch,
                    metadata_hash=metadata_hash,
                    validated_topology_epoch=validated_epoch,
                    assignment_configs=configs,
                )
            )
        group.metadata_refreshed(group_epoch)
        if not group.members:
            self._delay_first_assignment(group.group_id, now)
        target_epoch, target = self._target(step, group_epoch, configured, configs, now)
        self._bring_to_target(step, target_epoch, target, owned, now)
        session_ms = self._config(group.group_id, "streams.session.timeout.ms")
        self._sessions.restart(group.group_id, request.member_id, now.monotonic_ms + session_ms)
        if request.shutdown_application:
            group.shutdown_member_id = group.shutdown_member_id or request.member_id
        response = self._response(step, call, configured, now)
        if call.is_joining or step.has_new_tasks or (owned is not None and owned != step.member.progress.assigned):
            # Kafka leaves the last case out: who has lost the answer that told it of its tasks never learns of them.
            heartbeats.give_tasks(response, step.member.progress.assigned)
        return Result(response, step.records), configured.missing_topics

    def _update_profile(self, step: Step, call: Heartbeat) -> bool:
        """Take over what the member says of itself; whether the group has to be assigned anew."""
        before = step.before.profile
        profile = heartbeats.updated_profile(before, call.request, call.client_id, call.client_host)
        if profile == before:
            return False
        step.member = step.before._replace(profile=profile)
        step.records.append(group_records.member_metadata(step.group.group_id, step.member))
        return call.request.instance_id is None or heartbeats.matters_to_assignment(before, profile)

    # -- topology

    def _update_topology(self, step: Step, request: StreamsGroupHeartbeatRequest) -> Topology:
        """The group's topology; the first member to join brings it, later ones must have the same or an older one."""
        current = step.group.topology
        if request.topology is None:
            if current is None:
                raise ApiError(
                    ErrorCode.UNKNOWN_SERVER_ERROR, "The topology is null and the group topology is also null."
                )
        else:
            topology = Topology.from_message(request.topology)
            if current is None:
                step.records.append(group_records.topology(step.group.group_id, topology))
                return topology
            if topology.epoch >= current.epoch and topology != current:
                raise ApiError(ErrorCode.INVALID_REQUEST, "Topology updates are not supported yet.")
        member_epoch = step.member.profile.topology_epoch
        if member_epoch < current.epoch:
            step.say(
                StatusCode.STALE_TOPOLOGY,
                f"The member's topology epoch {member_epoch} is behind the group's topology epoch {current.epoch}.",
            )
        return current

    def _configured(self, group: StreamsGroup, topology: Topology) -> tuple[ConfiguredTopology, int]:
        """The topology on the topics of now, and their hash; looked at again only when topics changed."""
        configured, metadata_hash = group.configured, group.metadata_hash
        if configured is None or group.needs_metadata_refresh:
            metadata_hash = self.topics.metadata_hash(topology.required_topics)
            configured = group.configured = configure(topology, self.partition_count)
        return configured, metadata_hash

    def partition_count(self, topic: str) -> int | None:
        """How many partitions the topic has now; None when it does not exist."""
        image = self.context.image.topics.by_name.get(topic)
        return None if image is None else len(image.partitions)

    def _remember_offsets(self, step: Step, request: StreamsGroupHeartbeatRequest) -> None:
        """Offsets help to find who has a task's state; they are not stored, and members repeat them."""
        group, member_id = step.group, request.member_id
        if request.task_offsets is not None:
            group.task_offsets[member_id] = heartbeats.offsets_of(request.task_offsets)
        if request.task_end_offsets is not None:
            group.task_end_offsets[member_id] = heartbeats.offsets_of(request.task_end_offsets)

    # -- target assignment

    def _delay_first_assignment(self, group_id: str, now: Instant) -> None:
        delay_ms = self._config(group_id, "streams.initial.rebalance.delay.ms")
        if delay_ms > 0 and group_id not in self._initial_delays:
            self._initial_delays[group_id] = self.context.timers.schedule(
                now.monotonic_ms + delay_ms, partial(self._first_assignment, group_id)
            )

    def _first_assignment(self, group_id: str, now: Instant) -> Result[None]:
        """The initial delay is over: whoever joined by now takes part."""
        del self._initial_delays[group_id]
        group = self.context.groups.get(group_id)
        if not isinstance(group, StreamsGroup) or not group.members or group.topology is None:
            return Result(None)
        if group.group_epoch <= group.assignment_epoch:
            return Result(None)
        configured = group.configured or configure(group.topology, self.partition_count)
        target = make_target(group, configured, group.assignment_configs, group.members, group.target)
        return Result(None, target_records(group_id, group.group_epoch, now.wall_ms, target, group.target))

    def _target(
        self,
        step: Step,
        group_epoch: int,
        configured: ConfiguredTopology,
        configs: Mapping[str, str],
        now: Instant,
    ) -> tuple[int, TaskRoles]:
        """The target assignment's epoch and the member's part of it; made anew when the group epoch is ahead."""
        group, member_id = step.group, step.member.member_id
        if group.group_id in self._initial_delays:
            step.say(StatusCode.ASSIGNMENT_DELAYED, "Assignment delayed due to the configured initial rebalance delay.")
            return group.assignment_epoch, NO_ROLES
        before = step.target()
        if group.assignment_epoch < group_epoch:
            interval_ms = self._config(group.group_id, "streams.assignment.interval.ms")
            if group.may_assign(interval_ms, now.wall_ms):
                target = make_target(group, configured, configs, step.members(), before)
                step.records += target_records(group.group_id, group_epoch, now.wall_ms, target, before)
                return group_epoch, target[member_id]
            step.say(StatusCode.ASSIGNMENT_DELAYED, "Assignment delayed due to the configured assignment interval.")
        return group.assignment_epoch, before.get(member_id, NO_ROLES)

    def _bring_to_target(
        self, step: Step, target_epoch: int, target: TaskRoles, owned: TaskRoles | None, now: Instant
    ) -> None:
        """Take the member one step on."""
        group, member = step.group, step.member

        def is_unreleased(task: TaskId, active: bool) -> bool:
            return group.is_unreleased(member, task, active, step.replaced)

        progress = reconcile(member.progress, target_epoch, target, owned, is_unreleased)
        if progress == member.progress:
            return
        step.member = member._replace(progress=progress)
        step.records.append(group_records.current_assignment(group.group_id, step.member))
        self._watch_revocation(group.group_id, step.member, now)

    def _watch_revocation(self, group_id: str, member: Member, now: Instant) -> None:
        if member.progress.state is MemberState.UNREVOKED_TASKS:
            deadline_ms = now.monotonic_ms + member.profile.rebalance_timeout_ms
            self._rebalances.restart(group_id, member.member_id, deadline_ms)
        else:
            self._rebalances.cancel(group_id, member.member_id)

    # -- the answer

    def _response(
        self, step: Step, call: Heartbeat, configured: ConfiguredTopology, now: Instant
    ) -> StreamsGroupHeartbeatResponse:
        """The answer without the member's tasks."""
        group, member = step.group, step.member
        config = self.context.config_of(group.group_id)
        response = StreamsGroupHeartbeatResponse(
            member_id=member.member_id,
            member_epoch=member.progress.member_epoch,
            heartbeat_interval_ms=config["streams.heartbeat.interval.ms"],
            task_offset_interval_ms=config["streams.task.offset.interval.ms"],
            acceptable_recovery_lag=config["streams.acceptable.recovery.lag"],
            status=step.status,
        )
        endpoint = member.profile.user_endpoint
        if endpoint != step.before.profile.user_endpoint or (step.has_new_tasks and endpoint is not None):
            group.endpoint_epoch += 1
        if group.endpoint_epoch != call.request.endpoint_information_epoch:
            response.partitions_by_user_endpoint = heartbeats.partitions_by_endpoint(
                step.members().values(), configured, self.partition_count
            )
        if group.group_id in self.context.groups:
            response.endpoint_information_epoch = group.endpoint_epoch
        if configured.problem is not None:
            step.say(configured.problem.code, configured.problem.detail)
        if group.shutdown_member_id is not None:
            step.say(
                StatusCode.SHUTDOWN_APPLICATION,
                f"Streams group member {group.shutdown_member_id} encountered a fatal error and requested a shutdown "
                "for the entire application.",
            )
        if call.version >= _FIRST_VERSION_OF_KAFKA_4_4:
            self._say_missing_tags(step, config)
            if self.settings.streams_keep_descriptions:
                response.topology_description_required = self.descriptions.is_wanted(group, member, now.monotonic_ms)
        return response

    def _say_missing_tags(self, step: Step, config: Mapping[str, Any]) -> None:
        known = {key for key, _ in step.member.profile.client_tags}
        missing = [tag for tag in rack_aware_tags(assignment_configs(config)) if tag not in known]
        if missing:
            step.say(
                StatusCode.MISSING_CLIENT_TAGS,
                f"Missing required client tags for rack-aware standby assignment: [{', '.join(missing)}]. "
                "Configure them via 'client.tag.<tagKey>' in your Streams config.",
            )

    # -- leaving

    def _leave(self, request: StreamsGroupHeartbeatRequest) -> Result[StreamsGroupHeartbeatResponse]:
        group = self.group(request.group_id)
        if request.shutdown_application:
            group.shutdown_member_id = group.shutdown_member_id or request.member_id
        response = StreamsGroupHeartbeatResponse(
            member_id=request.member_id, member_epoch=request.member_epoch, status=[]
        )
        if request.instance_id is None:
            return Result(response, _removal(group, group.member(request.member_id)))
        member = held_by(group, request.instance_id, request.member_id)
        if request.member_epoch != STATIC_LEAVE_EPOCH:
            return Result(response, _removal(group, member))
        gone = member._replace(progress=member.progress.left_for_a_while())
        return Result(response, [group_records.current_assignment(group.group_id, gone)])

    def _session_expired(self, group_id: str, member_id: str, now: Instant) -> Result[None]:
        return self._fence(group_id, member_id, "its session expired")

    def _rebalance_expired(self, group_id: str, member_id: str, now: Instant) -> Result[None]:
        group = self.context.groups.get(group_id)
        member = group.members.get(member_id) if isinstance(group, StreamsGroup) else None
        if member is None or member.progress.state is not MemberState.UNREVOKED_TASKS:
            return Result(None)
        return self._fence(group_id, member_id, "it did not give its tasks up in time")

    def _fence(self, group_id: str, member_id: str, reason: str) -> Result[None]:
        group = self.context.groups.get(group_id)
        member = group.members.get(member_id) if isinstance(group, StreamsGroup) else None
        if not isinstance(group, StreamsGroup) or member is None:
            return Result(None)
        logger.info("streams group %s: member %s is removed because %s", group_id, member_id, reason)
        return Result(None, _removal(group, member))

    # -- describing

    def describe(self, group_id: str, *, with_topology_description: bool) -> DescribedGroup:
        """The group; ApiError GROUP_ID_NOT_FOUND when there is none of this kind."""
        group = self.group(group_id)
        if group.configured is None and group.topology is not None and group.members:
            group.configured = configure(group.topology, self.partition_count)
        described = describe(group)
        if with_topology_description:
            described.topology_description = self.descriptions.of(group)
            is_kept = described.topology_description is not None
            described.topology_description_status = AVAILABLE if is_kept else NOT_STORED
        return described

    def update_description(
        self, request: StreamsGroupTopologyDescriptionUpdateRequest
    ) -> Result[StreamsGroupTopologyDescriptionUpdateResponse]:
        """Keep what a member says of the topology; ApiError when it may not, or when it is of another topology."""
        group = self.group(request.group_id)
        group.member(request.member_id)
        if request.topology_epoch != group.topology_epoch:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"Topology epoch {request.topology_epoch} is not the group's topology epoch {group.topology_epoch}.",
            )
        self.descriptions.keep(group, converted(request.topology_description))
        records = []
        if group.stored_description_epoch != group.topology_epoch:
            records.append(_group_record(group, stored_description_epoch=group.topology_epoch))
        return Result(StreamsGroupTopologyDescriptionUpdateResponse(), records)

    def group(self, group_id: str) -> StreamsGroup:
        """The streams group, or ApiError GROUP_ID_NOT_FOUND."""
        return streams_group(self.context, group_id)

    def _config(self, group_id: str, name: str) -> Any:
        return self.context.config_of(group_id)[name]

    # -- the shard's port (group_machine.GroupMachine)

    def replay(self, record: CoordinatorRecord) -> None:
        """Apply one record of a streams group."""
        key, is_tombstone = record.key, record.value is None
        group = self._persisted(key.group_id, create=not is_tombstone)
        if group is None:
            return
        group.replay(record)
        if is_tombstone and record.key_type == group_records.GROUP_METADATA:
            group.dissolve()
            self.descriptions.forget(group.group_id)
            del self.context.groups[group.group_id]
        elif is_tombstone and record.key_type == group_records.MEMBER_METADATA:
            self._sessions.cancel(group.group_id, key.member_id)
            self._rebalances.cancel(group.group_id, key.member_id)

    def _persisted(self, group_id: str, *, create: bool) -> StreamsGroup | None:
        group = self.context.groups.get(group_id)
        if isinstance(group, StreamsGroup):
            return group
        if not create:
            return None
        if group is not None and group.protocol_type is not None:
            logger.warning("group %s is of another kind than its newest records say", group_id)
        # What stands there are offsets that were met before the group's own records, which compaction may have moved.
        made = self.context.groups[group_id] = StreamsGroup(group_id, self.topics)
        return made

    def loaded(self, now: Instant) -> None:
        """Sessions start to run, and the time in which members must give tasks up."""
        for group in self.context.groups.values():
            if isinstance(group, StreamsGroup):
                session_ms = self._config(group.group_id, "streams.session.timeout.ms")
                for member_id, member in group.members.items():
                    self._sessions.restart(group.group_id, member_id, now.monotonic_ms + session_ms)
                    self._watch_revocation(group.group_id, member, now)

    def metadata_changed(self, delta: MetadataDelta, now: Instant) -> list[CoordinatorRecord]:
        """Groups whose topics changed look at them again with their members' next heartbeats."""
        for group_id in self.topics.groups_of(delta):
            group = self.context.groups.get(group_id)
            if isinstance(group, StreamsGroup):
                group.request_metadata_refresh()
        return []

    def unload(self, code: ErrorCode) -> None:
        """Nothing is parked here."""


def _group_record(group: StreamsGroup, **changes: Any) -> CoordinatorRecord:
    """The group's epoch record, as it is but for the changes."""
    values: dict[str, Any] = {
        "group_epoch": group.group_epoch,
        "metadata_hash": group.metadata_hash,
        "validated_topology_epoch": group.validated_topology_epoch,
        "assignment_configs": group.assignment_configs,
        "stored_description_epoch": group.stored_description_epoch,
        "failed_description_epoch": group.failed_description_epoch,
    }
    return group_records.group_metadata(group.group_id, **{**values, **changes})


def _removal(group: StreamsGroup, member: Member) -> list[CoordinatorRecord]:
    """Take a member out; the others are assigned anew."""
    return [
        *group_records.member_tombstones(group.group_id, member.member_id),
        _group_record(group, group_epoch=group.group_epoch + 1),
    ]

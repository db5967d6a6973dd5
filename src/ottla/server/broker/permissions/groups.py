"""Groups: what their descriptions and offsets show of topics that the client may not describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import alter_share_group_offsets, offset_fetch
from ottla.protocol.messages.delete_share_group_offsets import DeleteShareGroupOffsetsResponseTopic
from ottla.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
)
from ottla.protocol.messages.offset_delete import OffsetDeleteResponsePartition, OffsetDeleteResponseTopic
from ottla.server.broker.authorization import (
    AclOperation,
    ResourceType,
    allowed_names,
    allows,
    allows_cluster,
    operations_of,
    require_cluster,
)
from ottla.server.broker.group_protocols import check_protocol
from ottla.server.broker.permissions.checks import DENIED, refusals, then, with_field, with_more
from ottla.server.broker.permissions.topics import streams_topics, topic_of_id
from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route
    from ottla.server.broker.permissions.checks import ResourceOf

_DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
_FIRST_VERSION_WITH_GROUPS = 8
_FIRST_VERSION_WITH_KEYS = 4
_FIRST_VERSION_WITH_PROTOCOL = 5
_KINDS_OF_KEYS = {0: ResourceType.GROUP, 1: ResourceType.TRANSACTIONAL_ID}
_SHARE_KEY, _FIRST_VERSION_WITH_SHARE = 2, 6


# What is wrong whoever asks


def uses_protocol(name: str) -> Callable[[Broker, Any, RequestContext], None]:
    """Groups of that protocol have to be enabled."""
    return lambda broker, request, context: check_protocol(broker, name)


def uses_share_groups(broker: Broker, request: Any, context: RequestContext) -> None:
    """Share groups have to be enabled, and a group id, where there is to be one, must not be null."""
    check_share_groups(broker.image)
    if getattr(request, "group_id", "") is None:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Invalid group id in the request.")


def names_protocol(broker: Broker, request: Any, context: RequestContext) -> None:
    """A SyncGroup that has to name a protocol does."""
    if context.api_version >= _FIRST_VERSION_WITH_PROTOCOL and None in (request.protocol_type, request.protocol_name):
        raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)


# Descriptions


def with_operations(broker: Broker, context: RequestContext, request: Any, response: Any) -> Any:
    """Say what the client may do with each group, if it wants to know."""
    if request.include_authorized_operations:
        for group in response.groups:
            if group.error_code == ErrorCode.NONE:
                group.authorized_operations = operations_of(broker, context, ResourceType.GROUP, group.group_id)
    return response


def consumed_topics(group: Any) -> list[str]:
    """The topics that members of a described group have, or are to have."""
    return [
        partitions.topic_name
        for member in group.members
        for assignment in (member.assignment, getattr(member, "target_assignment", None))
        if assignment is not None
        for partitions in assignment.topic_partitions
    ]


def topology_topics(group: Any) -> list[str]:
    """The topics of a described streams group."""
    return [] if group.topology is None else streams_topics(group.topology.subtopologies or ())


def without_hidden_topics(
    topics_of: Callable[[Any], Iterable[str]], text: str
) -> Callable[[Broker, RequestContext, Any, Any], Any]:
    """Describe no group that has to do with a topic which the client may not describe."""

    def change(broker: Broker, context: RequestContext, request: Any, response: Any) -> Any:
        names = {name for group in response.groups for name in topics_of(group)}
        visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, sorted(names))
        response.groups = [
            group
            if all(name in visible for name in topics_of(group))
            else type(group)(group_id=group.group_id, error_code=_DENIED, error_message=text)
            for group in response.groups
        ]
        return response

    return change


def listed_groups(broker: Broker, context: RequestContext, request: Any, response: Any) -> Any:
    """ListGroups: with DESCRIBE on the cluster all of them, else those that the client may describe."""
    if response.groups and not allows_cluster(broker, context, AclOperation.DESCRIBE, audited=False):
        ids = [group.group_id for group in response.groups]
        visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.GROUP, ids, audited=False)
        return with_field(response, "groups", [group for group in response.groups if group.group_id in visible])
    return response


# Offsets


@dataclass(frozen=True, slots=True)
class GroupOffsets:
    """DESCRIBE on each group, and on each of its topics: for requests of groups that have topics, null meaning all.

    Topics that were asked for are refused (`refuse` makes the answer), of all topics the hidden ones are left out.
    """

    resource_of: ResourceOf
    name: str
    """The field with the name of an answered topic."""
    refuse: Callable[[Any], Any]

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Have the rest of it handled."""
        if context.is_internal:
            return handle(broker, request, context)
        kept: list[Any] = []
        denied: list[Any] = []
        for group in request.groups:
            may = allows(broker, context, AclOperation.DESCRIBE, ResourceType.GROUP, group.group_id)
            (kept if may else denied).append(group)
        split = [split_topics(self.resource_of, broker, context, group) for group in kept]
        groups = [group for group, _ in split]

        def shape(response: Any) -> Any:
            for found, (group, hidden) in zip(response.groups, split, strict=True):
                if not found.error_code:
                    found.topics = self._topics(broker, context, group, found.topics, hidden)
            return with_more("groups", refused_groups, response)

        refused = with_field(request, "groups", denied)
        refused_groups = refusals(route, refused, context, DENIED[ResourceType.GROUP], "groups")
        if not kept and denied:
            return route.response_class(groups=refused_groups)
        return then(handle(broker, with_field(request, "groups", groups), context), shape)

    def _topics(
        self, broker: Broker, context: RequestContext, group: Any, found: list[Any], refused: list[Any]
    ) -> list[Any]:
        if group.topics is not None:
            return [*found, *map(self.refuse, refused)]
        return visible_topics(broker, context, found, self.name)


def split_topics(resource_of: ResourceOf, broker: Broker, context: RequestContext, group: Any) -> tuple[Any, list[Any]]:
    """The group (or request) without the topics that the client may not describe, and these."""
    kept: list[Any] = []
    denied: list[Any] = []
    for topic in group.topics or ():
        resource = resource_of(broker, topic)
        may = resource is None or allows(broker, context, AclOperation.DESCRIBE, *resource)
        (kept if may else denied).append(topic)
    return (with_field(group, "topics", kept) if denied else group), denied


def visible_topics(broker: Broker, context: RequestContext, topics: list[Any], field: str) -> list[Any]:
    """Those of the answered topics that the client may describe."""
    names = [getattr(topic, field) for topic in topics]
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, names, audited=False)
    return [topic for topic, name in zip(topics, names, strict=True) if name in visible]


def _refused_offsets(topic: Any) -> Any:
    return offset_fetch.OffsetFetchResponseTopics(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            offset_fetch.OffsetFetchResponsePartitions(
                partition_index=index, committed_offset=-1, metadata="", error_code=_DENIED
            )
            for index in topic.partition_indexes
        ],
    )


def _refused_single(topic: Any) -> Any:
    return offset_fetch.OffsetFetchResponseTopic(
        name=topic.name,
        partitions=[
            offset_fetch.OffsetFetchResponsePartition(
                partition_index=index, committed_offset=-1, metadata="", error_code=_DENIED
            )
            for index in topic.partition_indexes
        ],
    )


def _refused_share_offsets(topic: Any) -> Any:
    return DescribeShareGroupOffsetsResponseTopic(
        topic_name=topic.topic_name,
        topic_id=ZERO_UUID,
        partitions=[
            DescribeShareGroupOffsetsResponsePartition(
                partition_index=index, start_offset=-1, lag=-1, error_code=_DENIED, error_message=_DENIED.message
            )
            for index in topic.partitions
        ],
    )


def refused_deletion(topic: Any, code: ErrorCode) -> Any:
    """What OffsetDelete answers of a topic."""
    return OffsetDeleteResponseTopic(
        name=topic.name,
        partitions=[
            OffsetDeleteResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in topic.partitions
        ],
    )


def refused_change(topic: Any, code: ErrorCode) -> Any:
    """What AlterShareGroupOffsets answers of a topic."""
    return alter_share_group_offsets.AlterShareGroupOffsetsResponseTopic(
        topic_name=topic.topic_name,
        topic_id=ZERO_UUID,
        partitions=[
            alter_share_group_offsets.AlterShareGroupOffsetsResponsePartition(
                partition_index=partition.partition_index, error_code=code, error_message=code.message
            )
            for partition in topic.partitions
        ],
    )


def refused_forgetting(topic: Any, code: ErrorCode) -> Any:
    """What DeleteShareGroupOffsets answers of a topic."""
    return DeleteShareGroupOffsetsResponseTopic(
        topic_name=topic.topic_name, topic_id=ZERO_UUID, error_code=code, error_message=code.message
    )


_OFFSETS = GroupOffsets(topic_of_id, "name", _refused_offsets)
SHARE_OFFSETS = GroupOffsets(
    lambda broker, topic: (ResourceType.TOPIC, topic.topic_name), "topic_name", _refused_share_offsets
)


def fetch_offsets(route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
    """DESCRIBE on each group, and on each of its topics; of all topics, hidden ones are left out."""
    if context.is_internal or context.api_version >= _FIRST_VERSION_WITH_GROUPS:
        return _OFFSETS(route, handle, broker, request, context)
    if not allows(broker, context, AclOperation.DESCRIBE, ResourceType.GROUP, request.group_id):
        raise ApiError(DENIED[ResourceType.GROUP])

    def resource_of(broker: Broker, topic: Any) -> tuple[ResourceType, str]:
        return ResourceType.TOPIC, topic.name

    reduced, refused = split_topics(resource_of, broker, context, request)

    def shape(response: Any) -> Any:
        if response.error_code:
            return response
        if request.topics is None:
            return with_field(response, "topics", visible_topics(broker, context, response.topics, "name"))
        return with_more("topics", [*map(_refused_single, refused)], response)

    return then(handle(broker, reduced, context), shape)


# Coordinators


def find_coordinator(route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
    """DESCRIBE on each group or transactional id; CLUSTER_ACTION on the cluster for share partitions."""
    resource_type = _KINDS_OF_KEYS.get(request.key_type)
    if resource_type is None:
        if request.key_type == _SHARE_KEY and context.api_version >= _FIRST_VERSION_WITH_SHARE:
            require_cluster(broker, context, AclOperation.CLUSTER_ACTION)
        return handle(broker, request, context)
    code = DENIED[resource_type]
    if context.api_version < _FIRST_VERSION_WITH_KEYS:
        if not allows(broker, context, AclOperation.DESCRIBE, resource_type, request.key):
            raise ApiError(code)
        return handle(broker, request, context)
    keys = request.coordinator_keys
    allowed = allowed_names(broker, context, AclOperation.DESCRIBE, resource_type, keys)
    denied = [key for key in keys if key not in allowed]
    if not denied:
        return handle(broker, request, context)
    answers = refusals(route, with_field(request, "coordinator_keys", denied), context, code, "coordinators")
    kept = with_field(request, "coordinator_keys", [key for key in keys if key in allowed])
    return then(handle(broker, kept, context), partial(with_more, "coordinators", answers))

"""Creating and deleting topics: with permission for the cluster all of them, else one by one."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.delete_topics import DeletableTopicResult
from ottla.server.broker.authorization import (
    AclOperation,
    ResourceType,
    allowed_names,
    allows_cluster,
    tell_allowed,
)
from ottla.server.broker.permissions.checks import refusals, then, with_field, with_more

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ottla.protocol.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
    from ottla.protocol.messages.delete_topics import DeleteTopicsRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route

_METADATA_TOPIC: Final = "__cluster_metadata"
_DENIED: Final = ErrorCode.TOPIC_AUTHORIZATION_FAILED


def create_topics(
    route: Route, handle: Handle, broker: Broker, request: CreateTopicsRequest, context: RequestContext
) -> Any:
    """CREATE on the cluster, or on each topic; the answer tells settings to those with DESCRIBE_CONFIGS.

    A name that is given twice, or that nobody may create, is refused by the handler whoever asks.
    """
    times = Counter(topic.name for topic in request.topics)
    names = [name for name, count in times.items() if count == 1 and name != _METADATA_TOPIC]
    if allows_cluster(broker, context, AclOperation.CREATE, audited=False):
        allowed: Collection[str] = names
        tell_allowed(broker, context, AclOperation.CREATE, ResourceType.TOPIC, names)
    else:
        allowed = allowed_names(broker, context, AclOperation.CREATE, ResourceType.TOPIC, names)
    told = allowed_names(broker, context, AclOperation.DESCRIBE_CONFIGS, ResourceType.TOPIC, names, audited=False)
    denied = set(names).difference(allowed)
    if not denied:
        return then(handle(broker, request, context), partial(_without_settings, told))
    refused = with_field(request, "topics", [topic for topic in request.topics if topic.name in denied])
    answers = refusals(route, refused, context, _DENIED, "topics", "Authorization failed.")
    kept = with_field(request, "topics", [topic for topic in request.topics if topic.name not in denied])

    def merged(response: CreateTopicsResponse) -> Any:
        return with_more("topics", answers, _without_settings(told, response))

    return then(handle(broker, kept, context), merged)


def _without_settings(told: Collection[str], response: CreateTopicsResponse) -> CreateTopicsResponse:
    for topic in response.topics:
        if topic.error_code == ErrorCode.NONE and topic.name not in told:
            topic.topic_config_error_code = _DENIED
            topic.num_partitions = topic.replication_factor = -1
            topic.configs = []
    return response


def delete_topics(
    route: Route, handle: Handle, broker: Broker, request: DeleteTopicsRequest, context: RequestContext
) -> Any:
    """DELETE on the cluster, or on each topic; whether a topic exists is told to those who may describe it.

    What is wrong with the request itself, and ids of no topic, are the handler's to refuse.
    """
    if context.is_internal or not broker.config["delete.topic.enable"]:
        return handle(broker, request, context)
    topics = broker.image.topics
    if allows_cluster(broker, context, AclOperation.DELETE, audited=False):
        ids = [topic.name or topics.name_of(topic.topic_id) for topic in request.topics]
        tell_allowed(broker, context, AclOperation.DELETE, ResourceType.TOPIC, filter(None, request.topic_names + ids))
        return handle(broker, request, context)
    times = Counter([*request.topic_names, *((topic.name, topic.topic_id) for topic in request.topics)])
    names = {*request.topic_names, *(topic.name for topic in request.topics if topic.name is not None)}
    names.update(filter(None, (topics.name_of(topic.topic_id) for topic in request.topics)))
    wanted = sorted(names)
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, wanted)
    deletable = allowed_names(broker, context, AclOperation.DELETE, ResourceType.TOPIC, wanted)
    refused: list[DeletableTopicResult] = []

    def is_denied(name: str) -> bool:
        return name not in visible or (name in topics.by_name and name not in deletable)

    kept_names = []
    for name in request.topic_names:
        if times[name] == 1 and is_denied(name):
            refused.append(_refused(name, ZERO_UUID))
        else:
            kept_names.append(name)
    kept = []
    for topic in request.topics:
        is_plain = times[topic.name, topic.topic_id] == 1
        found = topics.name_of(topic.topic_id)
        if is_plain and topic.name is not None and topic.topic_id == ZERO_UUID and is_denied(topic.name):
            refused.append(_refused(topic.name, ZERO_UUID))
        elif is_plain and topic.name is None and found is not None and found not in deletable:
            refused.append(_refused(found if found in visible else None, topic.topic_id))
        else:
            kept.append(topic)
    if not refused:
        return handle(broker, request, context)
    allowed = with_field(with_field(request, "topics", kept), "topic_names", kept_names)
    return then(handle(broker, allowed, context), partial(with_more, "responses", refused))


def _refused(name: str | None, topic_id: bytes) -> DeletableTopicResult:
    return DeletableTopicResult(name=name, topic_id=topic_id, error_code=_DENIED, error_message=_DENIED.message)


def topic_of_id(broker: Broker, topic: Any) -> tuple[ResourceType, str] | None:
    """The topic that an item names, or means by its id."""
    name = topic.name if topic.topic_id == ZERO_UUID else broker.image.topics.name_of(topic.topic_id)
    return (ResourceType.TOPIC, name) if name else None


def streams_topics(subtopologies: Iterable[Any]) -> list[str]:
    """The topics that a streams application reads and writes, as its topology says."""
    return [
        name
        for subtopology in subtopologies
        for name in (
            *subtopology.source_topics,
            *subtopology.repartition_sink_topics,
            *(topic.name for topic in subtopology.repartition_source_topics),
            *(topic.name for topic in subtopology.state_changelog_topics),
        )
    ]

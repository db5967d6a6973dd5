"""Metadata (key 3), versions 0-13: brokers, topics, partitions and their leaders, as the last commit left them.

Version notes. 0: an empty list means all topics; unavailable replicas are left out of the lists and reported as an
error. 1: null means all, empty none. 4: the client may forbid auto-creation (before, it always happens). 5: offline
replicas. 6: LISTENER_NOT_FOUND where older versions get LEADER_NOT_AVAILABLE. 7: leader epochs. 8: authorized
operations (those of the cluster up to 10). 10: topic ids in the answer, 12: in the question. 13: a top-level error.

A topic that may be auto-created is created before the answer, which then has its leaders: one round trip less than
Kafka, whose client hears UNKNOWN_TOPIC_OR_PARTITION and asks again. The answer without a creation never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.core.topics import INTERNAL_TOPICS
from ottla.protocol.codec import decoder
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from ottla.server.broker.authorization import (
    CLUSTER_NAME,
    AclOperation,
    ResourceType,
    allowed_names,
    allows_cluster,
    operations_of,
)
from ottla.server.broker.encoded_topics import EncodedTopics
from ottla.server.broker.metadata_answers import (
    NOT_ASKED,
    TOPIC_OPERATIONS,
    controller_id,
    is_reachable,
    live_endpoints,
    offline_replicas,
)
from ottla.server.controller.result import is_valid_topic_name

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import MetadataImage, TopicImage

logger = logging.getLogger(__name__)

_FIRST_LISTENER_ERROR = 6
_FIRST_TOPIC_ID_QUESTION = 12
# Outcomes of a creation after which the topic is there, or may be there when the client asks again.
_NOT_TOLD = (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS, ErrorCode.THROTTLING_QUOTA_EXCEEDED)


def handle_quickly(broker: Broker, buffer: bytearray, offset: int, end: int, context: RequestContext) -> bytes | None:
    """The usual question, for topics that are there: answered with what was encoded for the last one who asked."""
    version = context.api_version
    request, _ = decoder(MetadataRequest, version)(buffer, offset, end)
    image = broker.image
    topics: Iterable[TopicImage] | None = None
    if request.topics is not None and (version > 0 or request.topics):
        by_name = image.topics.by_name
        found = {}
        for asked in request.topics:
            topic = by_name.get(asked.name or "")
            if topic is None or asked.topic_id != ZERO_UUID:
                return None
            found[topic.name] = topic
        topics = found.values()
    if broker.authorizer is not None:
        from ottla.server.broker.permissions.describing import as_asked

        permitted, topics = as_asked(broker, request, context, topics)
        if not permitted:
            return None
    operations = TOPIC_OPERATIONS if request.include_topic_authorized_operations else NOT_ASKED
    if broker.encoded_topics is None:
        broker.encoded_topics = EncodedTopics()
    return broker.encoded_topics.respond(
        _head(broker, request, context),
        image,
        topics,
        version,
        context.listener_name,
        operations,
        _describer(broker, context, lambda _: operations),
    )


def handle(
    broker: Broker, request: MetadataRequest, context: RequestContext
) -> MetadataResponse | Awaitable[MetadataResponse]:
    """Answer from the image; only a topic to be created makes it wait."""
    version = context.api_version
    image = broker.image
    topics = request.topics
    by_name = image.topics.by_name
    if topics is None or (version == 0 and not topics):
        visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, by_name, audited=False)
        return _respond(broker, request, context, [by_name[name] for name in visible], [], [])
    names, ids = _asked(request, version)
    denied: list[MetadataResponseTopic] = []
    if broker.authorizer is not None:
        names, ids, denied = _permitted(broker, request, context, names, ids)
    if request.allow_auto_topic_creation and broker.config["auto.create.topics.enable"] and not ids:
        missing = [name for name in names if name not in by_name and is_valid_topic_name(name)]
        if missing:
            return _create_and_respond(broker, request, context, names, missing, denied)
    found, failed = _look_up(image, names, ids)
    return _respond(broker, request, context, found, failed, denied)


def error_response(
    request: MetadataRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> MetadataResponse:
    """The code for each topic that was asked for, and at the top where the version has it."""
    # Names can be null in an answer from version 12 on only: an empty one stands for none, as in Kafka.
    failed = [_failed(topic.name or "", topic.topic_id, code) for topic in request.topics or ()]
    return MetadataResponse(topics=failed, error_code=code)


def _permitted(
    broker: Broker, request: MetadataRequest, context: RequestContext, names: list[str], ids: list[bytes]
) -> tuple[list[str], list[bytes], list[MetadataResponseTopic]]:
    """The names and ids that the client may know of, or have created, and the refusals of the others.

    Whether there is a topic of a refused name is not told; ids are no secret, and tell no name.
    """
    from ottla.server.broker.permissions.asking import not_creatable

    topics = broker.image.topics
    named = {topic_id: topics.name_of(topic_id) for topic_id in ids}
    asked = [*names, *filter(None, named.values())]
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, asked)
    code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
    denied = [_failed(name, ZERO_UUID, code) for name in names if name not in visible]
    for topic in denied:
        topic.is_internal = False
    denied += [_failed(None, topic_id, code) for topic_id, name in named.items() if name and name not in visible]
    names = [name for name in names if name in visible]
    if request.allow_auto_topic_creation and broker.config["auto.create.topics.enable"]:
        refused = not_creatable(broker, context, [name for name in names if name not in topics.by_name])
        denied += [_failed(name, ZERO_UUID, code) for name in refused]
        names = [name for name in names if name not in refused]
    return names, [topic_id for topic_id, name in named.items() if not name or name in visible], denied


async def _create_and_respond(
    broker: Broker,
    request: MetadataRequest,
    context: RequestContext,
    names: list[str],
    missing: list[str],
    denied: list[MetadataResponseTopic],
) -> MetadataResponse:
    # The context belongs to the connection, which waits for us: it stays valid.
    from ottla.server.broker.topic_creation import create_automatically

    try:
        outcome = await create_automatically(broker, missing, context)
    except ApiError as error:
        # The topics are what is not there yet; everything else that was asked for is.
        logger.warning("topics %s were not created: %s", ", ".join(missing), error)
        outcome = {}
    found, failed = _look_up(broker.image, names, [])
    for topic in failed:
        code = outcome.get(topic.name or "", ErrorCode.NONE)
        if code not in _NOT_TOLD:
            topic.error_code = code
    return _respond(broker, request, context, found, failed, denied)


def _asked(request: MetadataRequest, version: int) -> tuple[list[str], list[bytes]]:
    """Names, or ids: when any id is given, names are not looked at, as in Kafka."""
    topics = request.topics or []
    if version < _FIRST_TOPIC_ID_QUESTION:
        for topic in topics:
            if topic.name is None:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"Topic name can not be null for version {version}")
            if topic.topic_id != ZERO_UUID:
                raise ApiError(
                    ErrorCode.INVALID_REQUEST, f"Topic IDs are not supported in requests for version {version}"
                )
    ids = dict.fromkeys(topic.topic_id for topic in topics if topic.topic_id != ZERO_UUID)
    names = dict.fromkeys(topic.name for topic in topics if topic.name is not None)
    return ([], list(ids)) if ids else (list(names), [])


def _look_up(
    image: MetadataImage, names: list[str], ids: list[bytes]
) -> tuple[list[TopicImage], list[MetadataResponseTopic]]:
    found: list[TopicImage] = []
    failed: list[MetadataResponseTopic] = []
    for topic_id in ids:
        topic = image.topics.by_id.get(topic_id)
        if topic is not None:
            found.append(topic)
        else:
            failed.append(_failed(None, topic_id, ErrorCode.UNKNOWN_TOPIC_ID))
    for name in names:
        topic = image.topics.by_name.get(name)
        if topic is not None:
            found.append(topic)
        elif is_valid_topic_name(name):
            failed.append(_failed(name, ZERO_UUID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
        else:
            failed.append(_failed(name, ZERO_UUID, ErrorCode.INVALID_TOPIC_EXCEPTION))
    return found, failed


def _failed(name: str | None, topic_id: bytes, code: ErrorCode) -> MetadataResponseTopic:
    return MetadataResponseTopic(
        error_code=code, name=name, topic_id=topic_id, is_internal=name in INTERNAL_TOPICS, partitions=[]
    )


def _respond(
    broker: Broker,
    request: MetadataRequest,
    context: RequestContext,
    topics: list[TopicImage],
    failed: list[MetadataResponseTopic],
    denied: list[MetadataResponseTopic],
) -> MetadataResponse:
    response = _head(broker, request, context)

    def operations(name: str) -> int:
        if not request.include_topic_authorized_operations:
            return NOT_ASKED
        return operations_of(broker, context, ResourceType.TOPIC, name)

    for topic in failed:
        if topic.name is not None:
            topic.topic_authorized_operations = operations(topic.name)
    response.topics = [*map(_describer(broker, context, operations), topics), *failed, *denied]
    return response


def _head(broker: Broker, request: MetadataRequest, context: RequestContext) -> MetadataResponse:
    """The answer without its topics."""
    image = broker.image
    return MetadataResponse(
        brokers=[
            MetadataResponseBroker(node_id=one.broker_id, host=endpoint.host, port=endpoint.port, rack=one.rack)
            for one, endpoint in live_endpoints(image, context.listener_name)
        ],
        cluster_id=broker.cluster_id,
        controller_id=controller_id(broker, context.listener_name),
        cluster_authorized_operations=(
            _cluster_operations(broker, context) if request.include_cluster_authorized_operations else NOT_ASKED
        ),
    )


def _cluster_operations(broker: Broker, context: RequestContext) -> int:
    """None at all for those who may not describe the cluster."""
    if not allows_cluster(broker, context, AclOperation.DESCRIBE):
        return 0
    return operations_of(broker, context, ResourceType.CLUSTER, CLUSTER_NAME)


def _describer(
    broker: Broker, context: RequestContext, operations: Callable[[str], int]
) -> Callable[[TopicImage], MetadataResponseTopic]:
    """What describes a topic for this listener and version; `operations` are those on the topic of a name."""
    image, listener_name, version = broker.image, context.listener_name, context.api_version

    def describe(topic: TopicImage) -> MetadataResponseTopic:
        return MetadataResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id,
            is_internal=topic.name in INTERNAL_TOPICS,
            partitions=_partitions(image, topic, listener_name, version),
            topic_authorized_operations=operations(topic.name),
        )

    return describe


def _partitions(
    image: MetadataImage, topic: TopicImage, listener_name: str, version: int
) -> list[MetadataResponsePartition]:
    brokers = image.brokers
    answers = []
    for index, partition in topic.partitions.items():
        leader = brokers.get(partition.leader)
        code = ErrorCode.NONE
        leader_id = partition.leader
        if leader is None or listener_name not in leader.endpoints:
            leader_id = -1
            code = ErrorCode.LEADER_NOT_AVAILABLE
            if leader is not None and version >= _FIRST_LISTENER_ERROR:
                code = ErrorCode.LISTENER_NOT_FOUND
        offline = offline_replicas(brokers, partition, listener_name)
        replicas, isr = list(partition.replicas), list(partition.isr)
        if version == 0 and offline:
            replicas = [replica for replica in replicas if is_reachable(brokers, replica, listener_name)]
            isr = [replica for replica in isr if is_reachable(brokers, replica, listener_name)]
            if code == ErrorCode.NONE and (len(replicas) < len(partition.replicas) or len(isr) < len(partition.isr)):
                code = ErrorCode.REPLICA_NOT_AVAILABLE
        answers.append(
            MetadataResponsePartition(
                error_code=code,
                partition_index=index,
                leader_id=leader_id,
                leader_epoch=partition.leader_epoch,
                replica_nodes=replicas,
                isr_nodes=isr,
                offline_replicas=offline,
            )
        )
    return answers

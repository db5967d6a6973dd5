"""A request refused with an error code, in the place where its API carries one.

What a refusal looks like follows from the declarations of the messages: the *places* of a response are its structs with
an error code, from the top level down to a partition. `choose` takes the one that fits the code and what the refusal is
about; then there are three ways.

- At the top level the request is not handled at all.
- What only reads is handled, and the elements in question are replaced by ones with nothing but their names and the
  code. So a Metadata response still has its brokers.
- Of what changes something (`_MIRRORS`), the elements in question are taken out of the request; the rest is handled.

Fetch and ShareFetch ask for what their session remembers: see `_refuse_fetch` and `_refuse_share_fetch`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.core.errors import ErrorCode
from ottla.protocol.layout import Layout
from ottla.protocol.message import Field, Message
from ottla.protocol.messages.fetch import FetchTopic
from ottla.protocol.messages.share_fetch import PartitionData, ShareFetchableTopicResponse
from ottla.server.broker.broker import CloseConnectionError, DelayedResponse
from ottla.testing.subjects import (
    NOTHING,
    PARTITION_FIELDS,
    TOPIC_FIELDS,
    Names,
    Target,
    fetched_partitions,
    names_of,
    names_of_scalar,
    shared_partitions,
)

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route
    from ottla.server.metadata.image import TopicsImage

Path = tuple[str, ...]
"""Names of arrays, from the root of a message to the structs in the last of them; empty is the message itself."""

_ERROR_FIELDS = ("error_code", "partition_error_code")
_NAMES = frozenset(
    {
        *TOPIC_FIELDS,
        *PARTITION_FIELDS,
        *("topic_id", "group_id", "key", "transactional_id", "member_id", "group_instance_id", "producer_id"),
        *("resource_type", "resource_name", "log_dir", "user", "feature", "entity", "is_internal"),
    }
)
"""What is left of an element that is refused: what it is called."""
_UNKNOWN = frozenset(
    {
        *("base_offset", "high_watermark", "committed_offset", "low_watermark", "offset", "timestamp", "start_offset"),
        *("leader_id", "leader_epoch", "node_id", "port"),
    }
)
"""Numbers that are -1 where there is nothing to tell, as in Kafka's own refusals."""

_MIRRORS: dict[str, dict[Path, tuple[Path, ...]]] = {
    "Produce": {("responses", "partition_responses"): (("topic_data", "partition_data"),)},
    "OffsetCommit": {("topics", "partitions"): (("topics", "partitions"),)},
    "LeaveGroup": {("members",): (("members",),)},
    "CreateTopics": {("topics",): (("topics",),)},
    "DeleteTopics": {("responses",): (("topics",), ("topic_names",))},
    "DeleteRecords": {("topics", "partitions"): (("topics", "partitions"),)},
    "AddPartitionsToTxn": {
        ("results_by_topic_v3_and_below", "results_by_partition"): (("v3_and_below_topics", "partitions"),),
        ("results_by_transaction", "topic_results", "results_by_partition"): (
            ("transactions", "topics", "partitions"),
        ),
    },
    "WriteTxnMarkers": {("markers", "topics", "partitions"): (("markers", "topics", "partition_indexes"),)},
    "TxnOffsetCommit": {("topics", "partitions"): (("topics", "partitions"),)},
    "AlterConfigs": {("responses",): (("resources",),)},
    "IncrementalAlterConfigs": {("responses",): (("resources",),)},
    "AlterReplicaLogDirs": {("results", "partitions"): (("dirs", "topics", "partitions"),)},
    "CreatePartitions": {("results",): (("topics",),)},
    "DeleteGroups": {("results",): (("groups_names",),)},
    "ElectLeaders": {("replica_election_results", "partition_result"): (("topic_partitions", "partitions"),)},
    "AlterPartitionReassignments": {("responses", "partitions"): (("topics", "partitions"),)},
    "OffsetDelete": {("topics", "partitions"): (("topics", "partitions"),)},
    "AlterClientQuotas": {("entries",): (("entries",),)},
    "UpdateFeatures": {("results",): (("feature_updates",),)},
    "ShareAcknowledge": {("responses", "partitions"): (("topics", "partitions"),)},
    "InitializeShareGroupState": {("results", "partitions"): (("topics", "partitions"),)},
    "ReadShareGroupState": {("results", "partitions"): (("topics", "partitions"),)},
    "ReadShareGroupStateSummary": {("results", "partitions"): (("topics", "partitions"),)},
    "WriteShareGroupState": {("results", "partitions"): (("topics", "partitions"),)},
    "DeleteShareGroupState": {("results", "partitions"): (("topics", "partitions"),)},
    "AlterShareGroupOffsets": {("responses", "partitions"): (("topics", "partitions"),)},
    "DeleteShareGroupOffsets": {("responses",): (("topics",),)},
}
"""Of APIs that change something, or refuse as a whole what they read: arrays of the response, and those of the request
that name the same elements.
"""

_OF_ELEMENTS = frozenset(
    {
        ErrorCode.OFFSET_OUT_OF_RANGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        ErrorCode.TOPIC_ALREADY_EXISTS,
        ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.LOG_DIR_NOT_FOUND,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE,
        ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE,
        ErrorCode.ELECTION_NOT_NEEDED,
        ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
        ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC,
        ErrorCode.OPERATION_NOT_ATTEMPTED,
        ErrorCode.RESOURCE_NOT_FOUND,
        ErrorCode.DUPLICATE_RESOURCE,
        ErrorCode.FEATURE_UPDATE_FAILED,
        ErrorCode.INVALID_RECORD_STATE,
    }
)
"""Codes that are about a topic, a partition or another single thing; the others are about the whole request."""
_OF_MEMBERS = frozenset({ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID})


class Refusal(NamedTuple):
    """An error for requests."""

    code: ErrorCode
    message: str | None
    target: Target


# Where does the code go?


def places(response_class: type[Message], version: int) -> list[Path]:
    """Where a response of this version carries error codes, the top level first."""
    return sorted(_places(response_class, Layout(response_class, version), ()), key=len)


def _places(cls: type[Message], layout: Layout, path: Path) -> Iterator[Path]:
    for field in cls.FIELDS:
        if not layout.has(field.versions):
            continue
        if field.name in _ERROR_FIELDS:
            yield path
        elif field.struct is not None and field.type == "array":
            yield from _places(field.struct, layout, (*path, field.name))


def choose(route: Route, refusal: Refusal) -> Path | None:
    """The place for a refusal; None when the response has no error code at all."""
    response_class, target, code = route.response_class, refusal.target, refusal.code
    found = places(response_class, route.version)
    if route.api.name == "Metadata" and code is not ErrorCode.REBOOTSTRAP_REQUIRED:
        found = [path for path in found if path]  # clients look for nothing else at the top
    if not found:
        return None
    elements = [path for path in found if path]
    of_topics = [path for path in elements if _has_topic(response_class, path)]
    if target.partition is not None:
        return (of_topics or found)[-1]
    if target.topic is not None or code in _OF_ELEMENTS:
        return (of_topics or (elements if target.topic is None else []) or found)[0]
    if code in _OF_MEMBERS and ("members",) in found:
        return ("members",)
    return found[0]


def _has_topic(cls: type[Message], path: Path) -> bool:
    for name in path:
        field = next(field for field in cls.FIELDS if field.name == name)
        assert field.struct is not None
        cls = field.struct
        if any(one.name in (*TOPIC_FIELDS, "topic_id", "resource_name") for one in cls.FIELDS):
            return True
    return False


# The three ways


async def refuse(
    refusal: Refusal, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext
) -> tuple[Any, bool]:
    """The response to a request that is refused, and whether the code found its place in it."""
    place = choose(route, refusal)
    if place is None:
        return await outcome(handle(broker, request, context)), False
    if not place:
        return _top_level(route, request, refusal), True
    if route.api.name == "Fetch":
        return await _refuse_fetch(refusal, place, handle, broker, request, context)
    if route.api.name == "ShareFetch":
        return await _refuse_share_fetch(refusal, handle, broker, request, context)
    mirrors = _MIRRORS.get(route.api.name, {}).get(place)
    if mirrors is None:
        response = await outcome(handle(broker, request, context))
        response, count = _replaced(response, place, refusal, broker.image.topics, NOTHING)
        return response, count > 0
    return await _refuse_part(refusal, place, mirrors, route, handle, broker, request, context)


async def outcome(answer: Any | Awaitable[Any] | None) -> Any:
    """What a handler's answer becomes, whatever kind it is of."""
    if isinstance(answer, DelayedResponse):
        if not answer.done:
            future: asyncio.Future[DelayedResponse] = asyncio.get_running_loop().create_future()
            answer.on_done = future.set_result
            try:
                await future
            except asyncio.CancelledError:
                answer.cancel()
                raise
        if answer.error is not None:
            raise answer.error
        return answer.response
    return await answer if isinstance(answer, Awaitable) else answer


def _top_level(route: Route, request: Any, refusal: Refusal) -> Any:
    response = route.response_class()
    _copy_names(response, request)
    return _set_error(response, refusal)


def _replaced(
    message: Any, path: Sequence[str], refusal: Refusal, topics: TopicsImage, around: Names
) -> tuple[Any, int]:
    """The message with what is refused in the place of what was there; the message itself may be somebody's."""
    names = names_of(message, topics, around)
    if not path:
        if not refusal.target.fits(names):
            return message, 0
        refused = message.STRUCT()
        _copy_names(refused, message)
        return _set_error(refused, refusal), 1
    replaced = [_replaced(one, path[1:], refusal, topics, names) for one in getattr(message, path[0]) or ()]
    message = copy.copy(message)
    setattr(message, path[0], [one for one, _ in replaced])
    return message, sum(count for _, count in replaced)


async def _refuse_part(
    refusal: Refusal,
    place: Path,
    mirrors: Sequence[Path],
    route: Route,
    handle: Handle,
    broker: Broker,
    request: Any,
    context: RequestContext,
) -> tuple[Any, bool]:
    taken: list[Any] = []
    topics = broker.image.topics
    for mirror in mirrors:
        # A level that only the request has (directories) is left out.
        levels = (*(("",) * (len(mirror) - len(place))), *place)
        taken += _take_out(request, mirror, route.response_class, levels, refusal, topics, NOTHING)
    if not taken:
        return await outcome(handle(broker, request, context)), False
    if getattr(request, "acks", 1) == 0:
        raise CloseConnectionError(f"acks=0, and {refusal.code.name} was injected")
    if any(getattr(request, mirror[0]) for mirror in mirrors):
        response = await outcome(handle(broker, request, context))
    else:
        response = route.response_class()
        _copy_names(response, request)
    _merge(response, place, taken)
    return response, True


def _take_out(
    request: Any,
    mirror: Path,
    cls: type[Message],
    levels: Path,
    refusal: Refusal,
    topics: TopicsImage,
    around: Names,
) -> list[Any]:
    """Remove what is refused from a request: the elements of the response that say so."""
    request_field = _field(type(request), mirror[0])
    response_class = cls if not levels[0] else _field(cls, levels[0]).struct
    assert response_class is not None
    taken: list[Any] = []
    left: list[Any] = []
    for one in getattr(request, mirror[0]) or ():
        if request_field.struct is None:
            names = names_of_scalar(request_field, one, around)
        else:
            names = names_of(one, topics, around)
        if len(mirror) == 1:
            if not refusal.target.fits(names):
                left.append(one)
                continue
            element = response_class()
            _name(element, one) if request_field.struct is None else _copy_names(element, one)
            taken.append(_set_error(element, refusal))
            continue
        below = _take_out(one, mirror[1:], response_class, levels[1:], refusal, topics, names)
        if getattr(one, mirror[1]):
            left.append(one)
        if below and not levels[0]:
            taken += below
        elif below:
            element = response_class()
            _copy_names(element, one)
            setattr(element, levels[1], below)
            taken.append(element)
    setattr(request, mirror[0], left)
    return taken


def _merge(response: Any, place: Path, taken: list[Any]) -> None:
    """Put refused elements beside those that were handled, into the same topic where there is one."""
    present = getattr(response, place[0])
    for element in taken:
        same = next((one for one in present if _called(one) == _called(element)), None) if len(place) > 1 else None
        if same is None:
            present.append(element)
        else:
            _merge(same, place[1:], getattr(element, place[1]))


def _called(element: Any) -> tuple[Any, ...]:
    return tuple(getattr(element, name, None) for name in (*TOPIC_FIELDS, "topic_id", "transactional_id"))


def _field(cls: type[Message], name: str) -> Field:
    return next(field for field in cls.FIELDS if field.name == name)


def _copy_names(element: Message, source: Message) -> None:
    """Give an element what it is called, from another message about the same thing."""
    slots = source.STRUCT.__slots__
    for field in element.FIELDS:
        name = field.name
        if name not in _NAMES:
            continue
        if name in slots and (field.struct is None or _field(type(source), name).struct is field.struct):
            setattr(element, name, getattr(source, name))
        elif field.struct is not None:
            assert field.type == "array"
            setattr(element, name, [_same(one, field.struct) for one in getattr(source, name, ())])
        else:
            alike = next((kind for kind in (TOPIC_FIELDS, PARTITION_FIELDS) if name in kind), ())
            found = next((other for other in alike if other in slots), None)
            if found is not None:
                setattr(element, name, getattr(source, found))


def _same(source: Message, cls: type[Message]) -> Message:
    """A struct of another message with the same fields."""
    return cls(**{field.name: getattr(source, field.name) for field in cls.FIELDS})


def _name(element: Message, value: str | int) -> None:
    """Give an element the name or number that it has in a request."""
    fields = PARTITION_FIELDS if isinstance(value, int) else (*TOPIC_FIELDS, "group_id")
    for field in element.FIELDS:
        if field.name in fields:
            setattr(element, field.name, value)


def _set_error(element: Any, refusal: Refusal) -> Any:
    for field in element.FIELDS:
        if field.name in _ERROR_FIELDS:
            setattr(element, field.name, refusal.code)
        elif field.name == "error_message" and refusal.message is not None:
            element.error_message = refusal.message
        elif field.name in _UNKNOWN and not field.has_default:
            setattr(element, field.name, -1)
        elif field.type == "records":
            setattr(element, field.name, b"")
    return element


# Requests with a session


async def _refuse_fetch(
    refusal: Refusal, place: Path, handle: Handle, broker: Broker, request: Any, context: RequestContext
) -> tuple[Any, bool]:
    """The request becomes one that needs no session and does not wait. An answer without a session id has the client
    begin a new session with its next request.
    """
    if request.session_id and broker.fetch_sessions.get(request.session_id) is None:
        return await outcome(handle(broker, request, context)), False
    by_topic: dict[str | bytes, FetchTopic] = {}
    for (key, _), wanted in fetched_partitions(broker, request).items():
        if key not in by_topic:
            by_topic[key] = FetchTopic(topic=key) if isinstance(key, str) else FetchTopic(topic_id=key)
        by_topic[key].partitions.append(wanted)
    request.topics = list(by_topic.values())
    request.forgotten_topics_data = []
    request.session_epoch = -1
    request.max_wait_ms = 0
    response = await outcome(handle(broker, request, context))
    response, count = _replaced(response, place, refusal, broker.image.topics, NOTHING)
    return response, count > 0


async def _refuse_share_fetch(
    refusal: Refusal, handle: Handle, broker: Broker, request: Any, context: RequestContext
) -> tuple[Any, bool]:
    """Its acknowledgements are taken, but nothing is acquired."""
    topics = broker.image.topics
    refused = [
        key for key in shared_partitions(broker, request) if refusal.target.fits(Names(topics.name_of(key[0]), key[1]))
    ]
    if not refused:
        return await outcome(handle(broker, request, context)), False
    request.max_records = 0
    response = await outcome(handle(broker, request, context))
    if response.error_code:
        return response, False
    answered = {
        (topic.topic_id, data.partition_index): data for topic in response.responses for data in topic.partitions
    }
    by_topic = {topic.topic_id: topic for topic in response.responses}
    for topic_id, index in refused:
        data = answered.get((topic_id, index))
        if data is None:
            data = PartitionData(partition_index=index)
            if topic_id not in by_topic:
                by_topic[topic_id] = ShareFetchableTopicResponse(topic_id=topic_id)
                response.responses.append(by_topic[topic_id])
            by_topic[topic_id].partitions.append(data)
        _set_error(data, refusal)
    return response, True

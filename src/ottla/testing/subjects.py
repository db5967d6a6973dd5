"""What a request is about: its topics, partitions and groups, found by the names of its fields.

Kafka's messages name the same thing in a few ways (`topic`, `name`, `topic_id` …). What is known here is those ways, so
that nothing has to be written down for each of the APIs. Fetch and ShareFetch are also about what their session
remembers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.core.errors import ApiError
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Field, Message

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.dispatch import Route
    from ottla.server.metadata.image import TopicsImage

TOPIC_FIELDS = ("name", "topic", "topic_name")
_TOPIC_LISTS = frozenset({"topic_names", "subscribed_topic_names"})
PARTITION_FIELDS = ("partition_index", "index", "partition", "partition_id")
_PARTITION_LISTS = frozenset({"partitions", "partition_indexes"})
_GROUP_LISTS = frozenset({"groups_names", "group_ids", "groups"})
_TOPIC_RESOURCE = 2


class Target(NamedTuple):
    """What a refusal is about; None is everything."""

    topic: str | None = None
    partition: int | None = None
    group: str | None = None

    def fits(self, names: Names) -> bool:
        """Whether something of this name is meant."""
        return (
            (self.topic is None or names.topic == self.topic)
            and (self.partition is None or names.partition == self.partition)
            and (self.group is None or names.group is None or names.group == self.group)
        )


class Names(NamedTuple):
    """What an element of a message, with those around it, is called."""

    topic: str | None = None
    partition: int | None = None
    group: str | None = None


NOTHING = Names()


def is_meant(target: Target, broker: Broker, route: Route, request: Any) -> bool:
    """Whether a request is about the target."""
    if target.group is not None and target.group not in _groups(request):
        return False
    if target.topic is None and target.partition is None:
        return True
    topics = broker.image.topics
    wanted = target._replace(group=None)
    if any(wanted.fits(names) for names in _named(request, topics, NOTHING)):
        return True
    if route.api.name == "Fetch":
        fetched = fetched_partitions(broker, request)
        return any(wanted.fits(Names(topic_name(key, topics), index)) for key, index in fetched)
    if route.api.name == "ShareFetch":
        return any(
            wanted.fits(Names(topics.name_of(topic_id), index))
            for topic_id, index in shared_partitions(broker, request)
        )
    return False


def subjects(request_class: type[Message]) -> frozenset[str]:
    """What requests of this kind can be about: some of "topic", "partition", "group"."""
    found: set[str] = set()
    for field in request_class.FIELDS:
        name = field.name
        if name in ("group_id", "coordinator_keys") or (name in _GROUP_LISTS and field.struct is None):
            found.add("group")
        elif name in ("topic", "topic_name", "topic_id", "resource_name") or field.entity == "topicName":
            found.add("topic")
        elif field.struct is None and (name in _PARTITION_LISTS or name in PARTITION_FIELDS):
            found.add("partition")
        if field.struct is not None:
            found |= subjects(field.struct)
    return frozenset(found)


def _groups(message: Message) -> Iterator[str]:
    """Names of the groups that a request speaks of."""
    for field in message.FIELDS:
        value = getattr(message, field.name)
        if field.name == "group_id" or (field.name == "key" and getattr(message, "key_type", 1) == 0):
            yield value
        elif field.name == "coordinator_keys" and getattr(message, "key_type", 1) == 0:
            yield from value
        elif field.name in _GROUP_LISTS and field.struct is None:
            yield from value or ()
        elif field.struct is not None and field.type == "array":
            for one in value or ():
                yield from _groups(one)


def _named(message: Message, topics: TopicsImage, around: Names) -> Iterator[Names]:
    """Every topic and partition in a request."""
    names = names_of(message, topics, around)
    if names != around:
        yield names
    for field in message.FIELDS:
        value = getattr(message, field.name)
        if value and field.type == "array":
            for one in value:
                if field.struct is not None:
                    yield from _named(one, topics, names)
                elif (found := names_of_scalar(field, one, names)) is not names:
                    yield found


def names_of(message: Message, topics: TopicsImage, around: Names) -> Names:
    topic, partition, group = around
    slots = message.STRUCT.__slots__
    if "resource_name" in slots:
        if message.resource_type == _TOPIC_RESOURCE:  # type: ignore[attr-defined]
            topic = message.resource_name  # type: ignore[attr-defined]
    else:
        if (topic_id := getattr(message, "topic_id", ZERO_UUID)) != ZERO_UUID:
            topic = topics.name_of(topic_id) or topic
        topic = next((found for name in TOPIC_FIELDS if (found := getattr(message, name, None))), topic)
        partition = next((getattr(message, name) for name in PARTITION_FIELDS if name in slots), partition)
    group = getattr(message, "group_id", group)
    if "key" in slots and "node_id" in slots:  # a coordinator, and whose it is
        group = message.key  # type: ignore[attr-defined]
    return Names(topic, partition, group)


def names_of_scalar(field: Field, value: Any, around: Names) -> Names:
    """What an element stands for that is a mere name or number."""
    if field.name in _TOPIC_LISTS:
        return around._replace(topic=value)
    if field.name in _PARTITION_LISTS:
        return around._replace(partition=value)
    if field.name in _GROUP_LISTS:
        return around._replace(group=value)
    return around


def topic_name(key: str | bytes, topics: TopicsImage) -> str | None:
    return key if isinstance(key, str) else topics.name_of(key)


def fetched_partitions(broker: Broker, request: Any) -> dict[tuple[str | bytes, int], Any]:
    """All partitions a Fetch request is about, those its session remembers included."""
    fetched: dict[tuple[str | bytes, int], Any] = {}
    session = broker.fetch_sessions.get(request.session_id) if request.session_id else None
    if session is not None and request.session_epoch > 0:
        fetched = {key: entry.request for key, entry in session.partitions.items()}
    for topic in request.topics:
        for wanted in topic.partitions:
            fetched[_topic_key(topic), wanted.partition] = wanted
    for topic in request.forgotten_topics_data if fetched and request.session_epoch > 0 else ():
        for index in topic.partitions:
            fetched.pop((_topic_key(topic), index), None)
    return fetched


def _topic_key(topic: Any) -> str | bytes:
    key: str | bytes = topic.topic_id if topic.topic_id != ZERO_UUID else topic.topic
    return key


def shared_partitions(broker: Broker, request: Any) -> list[tuple[bytes, int]]:
    """All partitions a ShareFetch request is about."""
    wanted = [(topic.topic_id, data.partition_index) for topic in request.topics for data in topic.partitions]
    if request.share_session_epoch > 0:
        try:
            session = broker.share_partitions.sessions.get(request.group_id or "", request.member_id or "")
        except ApiError:
            return wanted
        wanted = list(dict.fromkeys((*wanted, *session.partitions)))
    return wanted

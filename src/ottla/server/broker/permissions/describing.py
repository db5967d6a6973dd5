"""Metadata answers that are made of encoded topics: which of them a client may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.authorization import AclOperation, ResourceType, allowed_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.protocol.messages.metadata import MetadataRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import TopicImage


def as_asked(
    broker: Broker, request: MetadataRequest, context: RequestContext, topics: Iterable[TopicImage] | None
) -> tuple[bool, Iterable[TopicImage] | None]:
    """Whether the request can be answered with topics that are encoded for everybody, and with which (None: all).

    That is so unless it wants to know what the client may do with them, or a topic is refused. What is encoded has
    nothing of a client, so one that may see a topic gets what was encoded for another; which topics these are is
    decided anew for each request, of all topics as of those that are named.
    """
    if request.include_topic_authorized_operations:
        return False, None
    by_name = broker.image.topics.by_name
    names = by_name if topics is None else [topic.name for topic in topics]
    audited = topics is not None
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, names, audited=audited)
    if len(visible) == len(names):
        return True, topics
    return topics is None, [by_name[name] for name in visible]

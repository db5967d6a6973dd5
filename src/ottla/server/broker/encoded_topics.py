"""Topics as they stand in Metadata responses, encoded once: clients ask for the same ones again and again.

What is kept of a topic is used as long as the image has the very same topic (images share what did not change) and the
very same brokers (which leaders can be reached is part of the answer). So nothing has to be told of changes, and a
change of one topic costs the encoding of one topic. When there is too much of it, everything is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from ottla.core.binary import write_uvarint
from ottla.protocol.codec import encode
from ottla.protocol.messages.metadata import MetadataResponse, MetadataResponseTopic
from ottla.server.metadata.image import MetadataImage, TopicImage

MAX_BYTES: Final = 8 * 1024 * 1024
"""What may be kept of all topics together; an entry counts for its overhead as well."""

_ENTRY_BYTES: Final = 200
_FIRST_FLEXIBLE: Final = 9
_ALL: Final = b"all"

Describe = Callable[[TopicImage], MetadataResponseTopic]


class EncodedTopics:
    """The cache of one broker."""

    __slots__ = ("_brokers", "_bytes", "_entries")

    def __init__(self) -> None:
        self._brokers: Any = None
        self._entries: dict[tuple[bytes, int, str, int], tuple[object, bytes]] = {}
        """(topic id, version, listener, operations) → what it was made from, and the encoded topic."""
        self._bytes = 0

    def respond(
        self,
        head: MetadataResponse,
        image: MetadataImage,
        topics: Iterable[TopicImage] | None,
        version: int,
        listener_name: str,
        operations: int,
        describe: Describe,
    ) -> bytes:
        """The body of the response `head`, which has no topics yet, with these topics (None: all) as `describe` makes
        them for this version, listener and authorized operations."""
        if image.brokers is not self._brokers:
            self._clear()
            self._brokers = image.brokers
        kind = (version, listener_name, operations)
        if topics is None:
            count = len(image.topics.by_name)
            content = self._all(image, kind, describe)
        else:
            pieces = [self._topic(topic, kind, describe) for topic in topics]
            count, content = len(pieces), pieces[0] if len(pieces) == 1 else b"".join(pieces)
        empty = encode(head, version)
        end = len(empty) - _bytes_after_topics(version)
        if version >= _FIRST_FLEXIBLE:
            return b"".join((empty[: end - 1], write_uvarint(count + 1), content, empty[end:]))
        return b"".join((empty[: end - 4], count.to_bytes(4, "big"), content, empty[end:]))

    def _all(self, image: MetadataImage, kind: tuple[int, str, int], describe: Describe) -> bytes:
        by_name = image.topics.by_name
        entry = self._entries.get((_ALL, *kind))
        if entry is not None and entry[0] is by_name:
            return entry[1]
        content = b"".join([self._topic(topic, kind, describe) for topic in by_name.values()])
        self._keep((_ALL, *kind), by_name, content)
        return content

    def _topic(self, topic: TopicImage, kind: tuple[int, str, int], describe: Describe) -> bytes:
        key = (topic.topic_id, *kind)
        entry = self._entries.get(key)
        if entry is not None and entry[0] is topic:
            return entry[1]
        version = kind[0]
        # The codec writes whole messages: of one with this topic and nothing else, what stands between the rest.
        start = len(encode(MetadataResponse(), version)) - _bytes_after_topics(version)
        encoded = encode(MetadataResponse(topics=[describe(topic)]), version)
        content = encoded[start : len(encoded) - _bytes_after_topics(version)]
        self._keep(key, topic, content)
        return content

    def _keep(self, key: tuple[bytes, int, str, int], made_from: object, content: bytes) -> None:
        size = len(content) + _ENTRY_BYTES
        if size > MAX_BYTES:
            return
        before = self._entries.pop(key, None)
        if before is not None:
            self._bytes -= len(before[1]) + _ENTRY_BYTES
        if self._bytes + size > MAX_BYTES:
            self._clear()
        self._entries[key] = (made_from, content)
        self._bytes += size

    def _clear(self) -> None:
        self._entries.clear()
        self._bytes = 0


def _bytes_after_topics(version: int) -> int:
    """What follows the topics: operations on the cluster (8-10), an error code (13), an empty tag section (9)."""
    return (4 if 8 <= version <= 10 else 0) + (2 if version >= 13 else 0) + (1 if version >= _FIRST_FLEXIBLE else 0)

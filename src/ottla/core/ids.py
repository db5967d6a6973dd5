"""Ids that many packages share: topic-partitions and 16-byte uuids.

Uuids are 16 raw `bytes` everywhere. Their text form is Kafka's: base64url without padding, 22 characters.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

ZERO_UUID = bytes(16)
"""No id: the topic has none, or the field is unset."""

ONE_UUID = bytes(15) + b"\x01"
"""Reserved by Kafka (the metadata topic's id)."""

RESERVED_UUIDS = frozenset((ZERO_UUID, ONE_UUID))
"""Never handed out as the id of a topic, a cluster or (with more of their kind) a log directory."""


class TopicPartition(NamedTuple):
    """A partition of a topic, by name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def uuid_to_text(uuid: bytes) -> str:
    """The 22 characters Kafka writes for a 16-byte id."""
    if len(uuid) != 16:
        raise ValueError(f"a uuid has 16 bytes, not {len(uuid)}")
    return urlsafe_b64encode(uuid)[:22].decode("ascii")


def uuid_from_text(text: str) -> bytes:
    """The 16 bytes of an id written as base64url, with or without padding; ValueError for anything else."""
    stripped = text.rstrip("=")
    try:
        uuid = urlsafe_b64decode(stripped.encode("ascii") + b"==")
    except (binascii.Error, UnicodeEncodeError):
        uuid = b""
    if len(uuid) != 16 or len(stripped) != 22 or uuid_to_text(uuid)[:21] != stripped[:21]:
        raise ValueError(f"not a base64url uuid of 22 characters: {text!r}")
    return uuid

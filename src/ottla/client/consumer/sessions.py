"""Incremental fetch sessions, the client's side (KIP-227).

A broker remembers which partitions a client fetches, and from where; after the first, full request only what changed
goes over the wire. One session per broker, one request at a time: epochs are consecutive. When either side loses track,
the next request is a full one again.

    (0, 0) full, asks for a session ──answer with an id──> (id, 1), (id, 2), … 2^31-1, (id, 1): changes only
    any error or lost answer: (id, 0) closes the session and asks for another; (id, -1) closes it for good

Topics go by name and by id; the codec writes what the version has (ids from v13 on).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
)

FULL_EPOCH = 0
CLOSE_EPOCH = -1
_LAST_EPOCH = 2**31 - 1


class Wanted(NamedTuple):
    """What a session holds of a partition."""

    topic_id: bytes
    fetch_offset: int
    leader_epoch: int
    max_bytes: int


class FetchSession:
    """The session with one broker."""

    def __init__(self) -> None:
        self.session_id = 0
        self.epoch = FULL_EPOCH
        self.partitions: dict[TopicPartition, Wanted] = {}
        """What the broker knows once it has the last request that was built."""
        self._names: dict[bytes, str] = {}

    def fill(self, request: FetchRequest, wanted: Mapping[TopicPartition, Wanted]) -> None:
        """Put into `request` what makes the broker fetch exactly `wanted`, in its order."""
        known = self.partitions
        changed = wanted
        forgotten: dict[tuple[str, bytes], list[int]] = {}
        if self.epoch != FULL_EPOCH:
            changed = {tp: want for tp, want in wanted.items() if known.get(tp) != want}
            for tp, had in known.items():
                want = wanted.get(tp)
                if want is None or want.topic_id != had.topic_id:  # also a topic that was made anew under its name
                    forgotten.setdefault((tp.topic, had.topic_id), []).append(tp.partition)
        self.partitions = dict(wanted)
        self._names = {want.topic_id: tp.topic for tp, want in wanted.items()}
        request.session_id = self.session_id
        request.session_epoch = self.epoch
        request.topics = _topics(changed)
        request.forgotten_topics_data = [
            ForgottenTopic(topic=name, topic_id=topic_id, partitions=partitions)
            for (name, topic_id), partitions in forgotten.items()
        ]

    def accept(self, response: FetchResponse) -> dict[TopicPartition, PartitionData] | None:
        """What the answer says of each partition that it speaks of; None when it can not be used, and the next request
        will be a full one.
        """
        if response.error_code:
            if response.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND:
                self.session_id = 0
            self.epoch = FULL_EPOCH
            return None
        found: dict[TopicPartition, PartitionData] = {}
        for topic in response.responses:
            by_id = topic.topic_id != ZERO_UUID
            name = self._names.get(topic.topic_id) if by_id else topic.topic
            for partition in topic.partitions:
                tp = TopicPartition(name or "", partition.partition_index)
                if tp not in self.partitions:
                    self.epoch = FULL_EPOCH  # one of us has lost track
                    return None
                found[tp] = partition
        if self.epoch != FULL_EPOCH:
            self._go_on(response.session_id, 1 if self.epoch == _LAST_EPOCH else self.epoch + 1)
            return found
        if len(found) != len(self.partitions):
            # An empty answer is how a broker throttles (KIP-219). Some brokers leave out what they had no room for:
            # what they say counts, but not that the session knows of the rest.
            self.session_id = response.session_id if found else 0
            return found or None
        self._go_on(response.session_id, 1)
        return found

    def failed(self) -> None:
        """The answer never came: nobody knows what the broker has got."""
        self.epoch = FULL_EPOCH

    def closing_request(self, request: FetchRequest) -> bool:
        """Make `request` the one that ends the session; False when there is none."""
        if not self.session_id:
            return False
        request.session_id = self.session_id
        request.session_epoch = CLOSE_EPOCH
        self.session_id = 0
        self.epoch = FULL_EPOCH
        self.partitions = {}
        return True

    def _go_on(self, session_id: int, epoch: int) -> None:
        """Without an id there is no session (any more): the broker is old, or has no room for one."""
        self.session_id = session_id
        self.epoch = epoch if session_id else FULL_EPOCH

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        assert 0 <= self.epoch <= _LAST_EPOCH
        assert self.session_id or self.epoch == FULL_EPOCH


def _topics(partitions: Mapping[TopicPartition, Wanted]) -> list[FetchTopic]:
    """Partitions as a request has them: neighbours of one topic together, the order as it is."""
    topics: list[FetchTopic] = []
    for (name, partition), (topic_id, fetch_offset, leader_epoch, max_bytes) in partitions.items():
        if not topics or topics[-1].topic != name:
            topics.append(FetchTopic(topic=name, topic_id=topic_id, partitions=[]))
        topics[-1].partitions.append(
            FetchPartition(
                partition=partition,
                current_leader_epoch=leader_epoch,
                fetch_offset=fetch_offset,
                partition_max_bytes=max_bytes,
            )
        )
    return topics

"""The share session with one broker (KIP-932): which partitions it has, and which epoch comes next.

Requests of a session are sent one at a time: each carries the epoch after that of the one before. A session that the
broker does not know, or that may have missed a request, is begun anew, and the locks of the old one are gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ottla.client.share.deliveries import Acknowledgements, AcknowledgeType, SharedPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages import share_acknowledge, share_fetch
from ottla.protocol.messages.share_acknowledge import ShareAcknowledgeRequest
from ottla.protocol.messages.share_fetch import ShareFetchRequest

INITIAL_EPOCH = 0
FINAL_EPOCH = -1
_LAST_EPOCH = 2**31 - 1
_BEGIN_ANEW = {
    ErrorCode.SHARE_SESSION_NOT_FOUND,
    ErrorCode.INVALID_SHARE_SESSION_EPOCH,
    ErrorCode.SHARE_SESSION_LIMIT_REACHED,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch may bring: fetch.max.wait.ms, fetch.min.bytes, fetch.max.bytes, max.poll.records."""

    max_wait_ms: int
    min_bytes: int
    max_bytes: int
    max_records: int
    acquire_mode: int = 0
    """0 whole batches where that is cheaper, 1 never more records than asked for (KIP-1206)."""


class ShareSession:
    """The session of a member with one node."""

    def __init__(self, node_id: int, group_id: str, member_id: str) -> None:
        self.node_id = node_id
        self.group_id = group_id
        self.member_id = member_id
        self.epoch = INITIAL_EPOCH
        self.partitions: dict[tuple[bytes, int], SharedPartition] = {}
        """What the broker knows that we want."""
        self.failures = 0
        """Requests in a row that nothing came of."""
        self.retry_at_ms = 0
        """No fetch before that."""

    @property
    def is_new(self) -> bool:
        return self.epoch == INITIAL_EPOCH

    def fetch_request(
        self, wanted: Collection[SharedPartition], acknowledgements: Acknowledgements, limits: Limits
    ) -> ShareFetchRequest:
        """Fetch from `wanted`, and tell what became of records. A new session can have no acknowledgements."""
        assert not (self.is_new and acknowledgements)
        next_partitions = {(partition.topic_id, partition.partition): partition for partition in wanted}
        added = [partition for key, partition in next_partitions.items() if self.is_new or key not in self.partitions]
        gone = [] if self.is_new else [part for key, part in self.partitions.items() if key not in next_partitions]
        self.partitions = next_partitions
        # A request that renews locks only does that: with records in it, it would have to wait for them.
        renews = _renews(acknowledgements)
        return ShareFetchRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            share_session_epoch=self.epoch,
            max_wait_ms=0 if renews else limits.max_wait_ms,
            min_bytes=0 if renews else limits.min_bytes,
            max_bytes=0 if renews else limits.max_bytes,
            max_records=0 if renews else limits.max_records,
            batch_size=0 if renews else limits.max_records,
            share_acquire_mode=limits.acquire_mode,
            is_renew_ack=renews,
            topics=_fetch_topics(added, acknowledgements),
            forgotten_topics_data=_forgotten(gone),
        )

    def acknowledge_request(self, acknowledgements: Acknowledgements) -> ShareAcknowledgeRequest:
        """Only tell what became of records."""
        assert not self.is_new
        return ShareAcknowledgeRequest(
            group_id=self.group_id,
            member_id=self.member_id,
            share_session_epoch=self.epoch,
            is_renew_ack=_renews(acknowledgements),
            topics=_acknowledge_topics(acknowledgements),
        )

    def close_request(self, acknowledgements: Acknowledgements) -> ShareAcknowledgeRequest:
        """End the session: the broker releases what is still locked."""
        request = self.acknowledge_request(acknowledgements)
        request.share_session_epoch = FINAL_EPOCH
        return request

    def answered(self, error_code: int) -> bool:
        """A request was answered, with this top-level error. False when the session, and its locks, are gone."""
        if error_code in _BEGIN_ANEW:
            self.lost()
            return False
        self.epoch = 1 if self.epoch == _LAST_EPOCH else self.epoch + 1
        return True

    def lost(self) -> None:
        """A request was not answered: nobody knows whether it arrived."""
        self.epoch = INITIAL_EPOCH
        self.partitions = {}


def _renews(acknowledgements: Acknowledgements) -> bool:
    return any(AcknowledgeType.RENEW in batch.types for batches in acknowledgements.values() for batch in batches)


def _fetch_topics(added: Iterable[SharedPartition], acknowledgements: Acknowledgements) -> list[share_fetch.FetchTopic]:
    topics: dict[bytes, dict[int, share_fetch.FetchPartition]] = {}
    for partition in added:
        topics.setdefault(partition.topic_id, {})[partition.partition] = share_fetch.FetchPartition(
            partition_index=partition.partition
        )
    for partition, batches in acknowledgements.items():
        of_topic = topics.setdefault(partition.topic_id, {})
        entry = of_topic.get(partition.partition)
        if entry is None:
            entry = of_topic[partition.partition] = share_fetch.FetchPartition(partition_index=partition.partition)
        entry.acknowledgement_batches = [
            share_fetch.AcknowledgementBatch(first_offset=first, last_offset=last, acknowledge_types=list(types))
            for first, last, types in batches
        ]
    return [
        share_fetch.FetchTopic(topic_id=topic_id, partitions=list(partitions.values()))
        for topic_id, partitions in topics.items()
    ]


def _acknowledge_topics(acknowledgements: Acknowledgements) -> list[share_acknowledge.AcknowledgeTopic]:
    topics: dict[bytes, list[share_acknowledge.AcknowledgePartition]] = {}
    for partition, batches in acknowledgements.items():
        entry = share_acknowledge.AcknowledgePartition(
            partition_index=partition.partition,
            acknowledgement_batches=[
                share_acknowledge.AcknowledgementBatch(
                    first_offset=first, last_offset=last, acknowledge_types=list(types)
                )
                for first, last, types in batches
            ],
        )
        topics.setdefault(partition.topic_id, []).append(entry)
    return [
        share_acknowledge.AcknowledgeTopic(topic_id=topic_id, partitions=partitions)
        for topic_id, partitions in topics.items()
    ]


def _forgotten(partitions: Iterable[SharedPartition]) -> list[share_fetch.ForgottenTopic]:
    topics: dict[bytes, list[int]] = {}
    for partition in partitions:
        topics.setdefault(partition.topic_id, []).append(partition.partition)
    return [share_fetch.ForgottenTopic(topic_id=topic_id, partitions=found) for topic_id, found in topics.items()]

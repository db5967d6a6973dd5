"""Changes of ISRs on their way to the controller: one request at a time, with all that has come up meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ERRORS, ErrorCode
from ottla.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionRequestTopicData,
    BrokerState,
)
from ottla.server.replication.cluster_view import UNKNOWN_BROKER_EPOCH

if TYPE_CHECKING:
    from ottla.protocol.messages.alter_partition import AlterPartitionResponse
    from ottla.server.replication.followers import PendingIsr
    from ottla.server.replication.partition import Partition

Key = tuple[bytes, int]


class IsrProposals:
    """What partitions have proposed and the controller has not decided, by topic id and index; a core without I/O."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._waiting: dict[Key, tuple[Partition, PendingIsr]] = {}
        self._sent: dict[Key, tuple[Partition, PendingIsr]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def add(self, partition: Partition, pending: PendingIsr) -> None:
        """Ask for this with the next request; an older proposal of the same partition is void."""
        self._waiting[partition.topic_id, partition.partition] = partition, pending

    def next_request(self, broker_epoch: int) -> AlterPartitionRequest | None:
        """All that waits, or None: there is nothing, or a request under way."""
        if self._sent:
            return None
        self._sent, self._waiting = self._waiting, {}
        topics: dict[bytes, AlterPartitionRequestTopicData] = {}
        for (topic_id, index), (partition, pending) in list(self._sent.items()):
            followers = partition.followers
            if followers is None or followers.pending is not pending:
                del self._sent[topic_id, index]  # overtaken by metadata
                continue
            states = []
            for replica in pending.isr:
                epoch: int | None = broker_epoch
                if replica != self._node_id:
                    progress = followers.progress.get(replica)
                    epoch = None if progress is None else progress.broker_epoch
                # Who has not fetched from this leader yet was in the ISR before: the controller knows its epoch.
                states.append(
                    BrokerState(broker_id=replica, broker_epoch=UNKNOWN_BROKER_EPOCH if epoch is None else epoch)
                )
            topics.setdefault(topic_id, AlterPartitionRequestTopicData(topic_id=topic_id)).partitions.append(
                AlterPartitionRequestPartitionData(
                    partition_index=index,
                    leader_epoch=pending.leader_epoch,
                    new_isr_with_epochs=states,
                    partition_epoch=pending.partition_epoch,
                )
            )
        if not topics:
            return None
        return AlterPartitionRequest(broker_id=self._node_id, broker_epoch=broker_epoch, topics=list(topics.values()))

    def failed(self) -> None:
        """There was no answer: ask for the same again, except where something newer is asked for."""
        self._waiting = {**self._sent, **self._waiting}
        self._sent = {}

    def answered(self, response: AlterPartitionResponse) -> bool:
        """Hand the answers over; whether all was well, otherwise the next request should wait a moment."""
        if response.error_code:
            self.failed()
            return False
        sent, self._sent = self._sent, {}
        again = False
        for topic in response.topics:
            for data in topic.partitions:
                key = topic.topic_id, data.partition_index
                proposed = sent.pop(key, None)
                if proposed is None:
                    continue
                partition, pending = proposed
                if not data.error_code:
                    partition.isr_decided(pending, tuple(data.isr), data.leader_epoch, data.partition_epoch)
                elif partition.isr_refused(pending, _code(data.error_code)) and key not in self._waiting:
                    self._waiting[key] = proposed
                    again = True
        for key, proposed in sent.items():
            self._waiting.setdefault(key, proposed)  # it was left out of the answer
            again = True
        return not again


def _code(number: int) -> ErrorCode:
    return ERRORS.get(number, ErrorCode.UNKNOWN_SERVER_ERROR)

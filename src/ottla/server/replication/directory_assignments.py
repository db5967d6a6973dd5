"""Telling the controller in which data directory each replica lies (KIP-858): a core without I/O.

The controller does not choose directories, brokers do; but it has to know them to tell which replicas are gone when a
directory fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsRequestDirectoryData,
    AssignReplicasToDirsRequestPartitionData,
    AssignReplicasToDirsRequestTopicData,
)

if TYPE_CHECKING:
    from ottla.protocol.messages.assign_replicas_to_dirs import AssignReplicasToDirsResponse

FIRST_METADATA_VERSION = 17
"""metadata.version 3.7-IV2, from which on the controller keeps directories."""
REPLICAS_PER_REQUEST = 2000

Key = tuple[bytes, int]
# The replica is no business of this broker any more, or will be told of again with the next metadata.
_SETTLED = frozenset(
    (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_ID, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.NOT_LEADER_OR_FOLLOWER)
)


class DirectoryAssignments:
    """What the controller has to hear, by topic id and partition index."""

    def __init__(self, node_id: int) -> None:
        self._node_id = node_id
        self._waiting: dict[Key, bytes] = {}
        self._sent: dict[Key, bytes] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def assign(self, key: Key, directory_id: bytes) -> bool:
        """The replica lies there; whether that is news."""
        if self._waiting.get(key, self._sent.get(key)) == directory_id:
            return False
        self._waiting[key] = directory_id
        return True

    def known(self, key: Key) -> None:
        """The metadata says the same, or the replica is gone: nothing has to be told."""
        self._waiting.pop(key, None)

    def next_request(self, broker_epoch: int) -> AssignReplicasToDirsRequest | None:
        """As much as one request takes; None when there is nothing, or one is under way."""
        if self._sent or not self._waiting:
            return None
        for key in list(self._waiting)[:REPLICAS_PER_REQUEST]:
            self._sent[key] = self._waiting.pop(key)
        directories: dict[bytes, dict[bytes, list[AssignReplicasToDirsRequestPartitionData]]] = {}
        for (topic_id, index), directory_id in self._sent.items():
            partition = AssignReplicasToDirsRequestPartitionData(partition_index=index)
            directories.setdefault(directory_id, {}).setdefault(topic_id, []).append(partition)
        return AssignReplicasToDirsRequest(
            broker_id=self._node_id,
            broker_epoch=broker_epoch,
            directories=[
                AssignReplicasToDirsRequestDirectoryData(
                    id=directory_id,
                    topics=[
                        AssignReplicasToDirsRequestTopicData(topic_id=topic_id, partitions=partitions)
                        for topic_id, partitions in topics.items()
                    ],
                )
                for directory_id, topics in directories.items()
            ],
        )

    def failed(self) -> None:
        """There was no answer: tell the same again, except where something newer is to be told."""
        self._waiting = {**self._sent, **self._waiting}
        self._sent = {}

    def answered(self, response: AssignReplicasToDirsResponse) -> bool:
        """Take the answer; False when something was refused and should be tried again after a while."""
        if response.error_code:
            self.failed()
            return False
        sent, self._sent = self._sent, {}
        for directory in response.directories:
            for topic in directory.topics:
                for partition in topic.partitions:
                    if partition.error_code in _SETTLED:
                        sent.pop((topic.topic_id, partition.partition_index), None)
        for key, directory_id in sent.items():
            self._waiting.setdefault(key, directory_id)
        return not sent

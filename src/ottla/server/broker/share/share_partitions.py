"""The share partitions of a broker, their sessions, and what joins them: the service that handlers work with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.share.delivery import ShareSettings
from ottla.server.broker.share.groups import ShareGroup
from ottla.server.broker.share.hosted import HostedSharePartition
from ottla.server.broker.share.persister import Persister
from ottla.server.broker.share.sessions import PartitionKey, SharedPartition, ShareSession, ShareSessions
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.share.dead_letters import DeadLetterQueue
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage


class SharePartitions:
    """Groups appear with their first session and go with their last one; their state stays with the coordinator."""

    def __init__(self, broker: Broker) -> None:
        self.sessions = ShareSessions(broker.config["group.share.max.share.sessions"])
        self._broker = broker
        # Records acknowledged, by type of acknowledgement; for metrics.
        self.acknowledged = [0] * 5
        self._groups: dict[str, ShareGroup] = {}
        self._by_connection: dict[RequestContext, list[ShareSession]] = {}
        self._dead_letter_queue: DeadLetterQueue | None = None

    # Finding

    def group(self, group_id: str) -> ShareGroup:
        """The group, made if need be."""
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = ShareGroup(group_id, self._broker.config, self._broker.image)
            group.acknowledged = self.acknowledged
        return group

    def group_settings(self, group_id: str) -> ShareSettings:
        """The settings of a group, whether somebody consumes for it or not."""
        group = self._groups.get(group_id)
        return (group or ShareGroup(group_id, self._broker.config, self._broker.image)).settings

    def existing(self, group_id: str, topic_id: bytes, index: int) -> HostedSharePartition | None:
        """The share partition when somebody consumes it."""
        group = self._groups.get(group_id)
        return None if group is None else group.partitions.get((topic_id, index))

    def find(self, group: ShareGroup, entry: SharedPartition) -> HostedSharePartition:
        """The share partition; the first to ask has its state loaded. ApiError when it cannot be consumed here."""
        key = (entry.topic_id, entry.index)
        hosted = group.partitions.get(key)
        if hosted is not None:
            return hosted
        replicas = self._broker.replicas
        partition = replicas.get_by_id(*key)
        if partition is None:
            image = self._broker.image
            name = image.topics.name_of(entry.topic_id)
            if name is None:
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID)
            raise ApiError(replicas.missing_partition_error(name, entry.index, image))
        if not partition.is_leader:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        broker = self._broker
        persister = Persister(
            lambda: broker.share_coordinators, group.group_id, entry.topic_id, entry.index, partition.leader_epoch
        )

        def closed(hosted: HostedSharePartition) -> None:
            if group.partitions.get(key) is hosted:
                del group.partitions[key]
                self._forget_if_unused(group)

        hosted = HostedSharePartition(group, partition, broker.env, persister, self._dead_letters, closed)
        group.partitions[key] = hosted
        hosted.load()
        if hosted.is_closed:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        return hosted

    def _dead_letters(self) -> DeadLetterQueue:
        if self._dead_letter_queue is None:
            from ottla.server.broker.share.dead_letters import DeadLetterQueue

            self._dead_letter_queue = DeadLetterQueue(self._broker)
        return self._dead_letter_queue

    # Sessions

    def open_session(
        self, group_id: str, member_id: str, partitions: Iterable[PartitionKey], connection: RequestContext
    ) -> ShareSession:
        """A new session in the place of the member's old one; it ends with its connection.

        Raises ApiError SHARE_SESSION_LIMIT_REACHED.
        """
        group = self.group(group_id)
        group.session_count += 1  # first, so that the group outlives the member's old session
        try:
            session = self.sessions.open(group_id, member_id, connection, self._left)
        except ApiError:
            self._count_down(group)
            raise
        session.add(partitions)
        for hosted in group.partitions.values():
            hosted.revive()
        known = self._by_connection.get(connection)
        if known is None:
            known = self._by_connection[connection] = []
            connection.when_closed("share sessions", partial(self._connection_lost, connection))
        known.append(session)
        return session

    def close_session(self, session: ShareSession) -> None:
        """The member goes: its records are for others now."""
        self.release_member(session.group_id, session.member_id)
        if self.sessions.close(session):
            self._left(session)

    def release_member(self, group_id: str, member_id: str) -> None:
        """Give back what a member has acquired."""
        group = self._groups.get(group_id)
        if group is None:
            return
        for hosted in group.partitions.values():
            if hosted.core is not None and hosted.core.release_member(member_id) is not None:
                hosted.schedule_write()

    def _left(self, session: ShareSession) -> None:
        """The session is closed, or another one has taken its place."""
        known = self._by_connection.get(session.connection)
        if known is not None:
            known.remove(session)
        self._count_down(self.group(session.group_id))

    def _count_down(self, group: ShareGroup) -> None:
        group.session_count -= 1
        if not group.session_count:
            for hosted in list(group.partitions.values()):
                hosted.retire()
            self._forget_if_unused(group)

    def _forget_if_unused(self, group: ShareGroup) -> None:
        if not group.session_count and not group.partitions:
            self._groups.pop(group.group_id, None)

    def _connection_lost(self, connection: RequestContext) -> None:
        for session in self._by_connection.pop(connection, ()):
            self.close_session(session)

    # Following the metadata (`server.node.coordinators.Part`)

    def load(self, image: MetadataImage) -> None:
        """Nothing is consumed yet."""

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over changed settings; partitions that moved or were deleted have told so themselves."""
        if not delta.changed_configs:
            return
        kinds = {kind for kind, _ in delta.changed_configs}
        for group in list(self._groups.values()):
            changed = (ConfigResourceType.GROUP, group.group_id) in delta.changed_configs
            if changed or ConfigResourceType.BROKER in kinds:
                group.update(self._broker.config, image)

    def stop(self) -> None:
        """Write what changed, and refuse those who wait."""
        if self._dead_letter_queue is not None:
            self._dead_letter_queue.stop()
        for group in list(self._groups.values()):
            for hosted in list(group.partitions.values()):
                hosted.write_now()
                hosted.close(ErrorCode.NOT_LEADER_OR_FOLLOWER)

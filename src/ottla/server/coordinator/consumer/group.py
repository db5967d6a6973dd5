"""A consumer group (KIP-848): members, who owns what, expressions, and what others ask of any group.

Everything here is changed by replay alone; ``ConsumerGroups`` (groups.py) decides what is written.

    Empty ──join──▶ Assigning ──target made──▶ Reconciling ──everybody got there──▶ Stable ──all left──▶ Empty
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.classic.group import CONSUMER_PROTOCOL_TYPE
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.member import ConsumerMember, PartitionEpochs
from ottla.server.coordinator.group import GroupType, PartitionCommitCheck
from ottla.server.coordinator.modern_group import ModernGroup
from ottla.server.coordinator.modern_topics import SubscribedTopics
from ottla.server.coordinator.result import CoordinatorRecord

#: From this version on OffsetCommit knows member epochs.
_FIRST_COMMIT_VERSION_WITH_EPOCH = 9


class ResolvedRegex(NamedTuple):
    """The topics that an expression matched: those of the metadata image at offset ``version``."""

    topics: frozenset[str]
    version: int
    timestamp_ms: int


class ConsumerGroup(ModernGroup[ConsumerMember]):
    """State of one consumer group."""

    group_type = GroupType.CONSUMER
    protocol_type = CONSUMER_PROTOCOL_TYPE

    __slots__ = (
        "assignor_votes",
        "classic_member_count",
        "classic_protocols",
        "has_partition_metadata_record",
        "owners",
        "regex_resolution_scheduled",
        "regex_subscriptions",
        "resolved_regexes",
        "static_members",
    )

    def __init__(self, group_id: str, topics: SubscribedTopics) -> None:
        super().__init__(group_id, topics)
        #: Instance id → member id.
        self.static_members: dict[str, str] = {}
        #: Topic id → partition → who has it, or did not give it up yet.
        self.owners: dict[bytes, dict[int, str]] = {}
        self.assignor_votes: Counter[str] = Counter()
        #: Members that speak the classic protocol, and how many of them speak which of its protocols.
        self.classic_member_count = 0
        self.classic_protocols: Counter[str] = Counter()
        #: Expression → how many members subscribe to it; and what it matched, once that was found out.
        self.regex_subscriptions: Counter[str] = Counter()
        self.resolved_regexes: dict[str, ResolvedRegex] = {}
        #: Kafka 4.0 wrote the partition counts down; its record is taken away with the next epoch.
        self.has_partition_metadata_record = False
        #: Ephemeral: the expressions are about to be resolved.
        self.regex_resolution_scheduled = False

    # -- members

    def put_member(self, member: ConsumerMember) -> None:
        """Take a member in, or in place of what it was before."""
        before = self.members.get(member.member_id)
        super().put_member(member)
        if before is not None:
            self._count(before, -1)
            self._disown(before)
        self._count(member, 1)
        for partitions in (member.assigned, member.pending_revocation):
            self._own(member.member_id, partitions)
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id

    def remove_member(self, member_id: str) -> ConsumerMember | None:
        """Take a member out; None when there is none."""
        member = super().remove_member(member_id)
        if member is not None:
            self._count(member, -1)
            self._disown(member)
            if member.instance_id is not None and self.static_members.get(member.instance_id) == member_id:
                del self.static_members[member.instance_id]
        return member

    def static_member(self, instance_id: str | None) -> ConsumerMember | None:
        """The member that has the seat of this instance; None when nobody has."""
        member_id = None if instance_id is None else self.static_members.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def member(self, member_id: str) -> ConsumerMember:
        """The member; ApiError UNKNOWN_MEMBER_ID."""
        member = self.members.get(member_id)
        if member is None:
            raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Group {self.group_id} does not have a member {member_id}.")
        return member

    def is_owned(self, topic_id: bytes, partition: int) -> bool:
        """Whether a member has the partition, or did not give it up yet."""
        owners = self.owners.get(topic_id)
        return owners is not None and partition in owners

    def waits_for_others(self, member: ConsumerMember) -> bool:
        """Whether a partition of the member's target is still with somebody else."""
        for topic_id, indexes in self.target_of(member.member_id).items():
            has = member.assigned.get(topic_id, {})
            if any(index not in has and self.is_owned(topic_id, index) for index in indexes):
                return True
        return False

    def _count(self, member: ConsumerMember, change: int) -> None:
        if member.server_assignor is not None:
            _add(self.assignor_votes, member.server_assignor, change)
        if member.subscribed_topic_regex:
            _add(self.regex_subscriptions, member.subscribed_topic_regex, change)
        if member.classic is not None:
            self.classic_member_count += change
            for name in {name for name, _ in member.classic.protocols}:
                _add(self.classic_protocols, name, change)

    def _own(self, member_id: str, partitions: PartitionEpochs) -> None:
        # In a compacted log the record by which the last owner gave up may come later: the newest owner counts.
        for topic_id, epochs in partitions.items():
            if epochs:
                self.owners.setdefault(topic_id, {}).update(dict.fromkeys(epochs, member_id))

    def _disown(self, member: ConsumerMember) -> None:
        for partitions in (member.assigned, member.pending_revocation):
            for topic_id, epochs in partitions.items():
                owners = self.owners.get(topic_id)
                if owners is None:
                    continue
                for index in epochs:
                    if owners.get(index) == member.member_id:
                        del owners[index]
                if not owners:
                    del self.owners[topic_id]

    # -- expressions

    def put_regex(self, regex: str, resolved: ResolvedRegex | None) -> None:
        """What an expression matches; None forgets it. Its topics count as one subscription."""
        before = self.resolved_regexes.pop(regex, None)
        if resolved is not None:
            self.resolved_regexes[regex] = resolved
            self.subscribe(resolved.topics)
        if before is not None:
            self.unsubscribe(before.topics)

    def subscribed_topics(self, member: ConsumerMember) -> frozenset[str]:
        """The topics that a member subscribes to by name or expression; an unresolved expression matches nothing."""
        resolved = self.resolved_regexes.get(member.subscribed_topic_regex or "")
        names = member.subscribed_topic_names
        if resolved is None:
            return names
        return names | resolved.topics if names else resolved.topics

    # -- assignors

    def assignor_name(
        self, default: str, before: ConsumerMember | None = None, after: ConsumerMember | None = None
    ) -> str:
        """The assignor that most members want, once ``before`` has become ``after``."""
        votes = self.assignor_votes.copy()
        if before is not None and before.server_assignor is not None:
            votes[before.server_assignor] -= 1
        if after is not None and after.server_assignor is not None:
            votes[after.server_assignor] += 1
        return max((name for name in votes if votes[name] > 0), key=lambda name: votes[name], default=default)

    # -- classic members

    def supports_protocols(self, protocol_type: str, names: Iterable[str]) -> bool:
        """May a classic member with these protocols join: consumers all, with a protocol that every one speaks."""
        if protocol_type != CONSUMER_PROTOCOL_TYPE:
            return False
        if not self.members:
            return any(True for _ in names)
        return any(self.classic_protocols[name] == self.classic_member_count for name in names)

    def all_classic_without(self, members: Iterable[ConsumerMember]) -> bool:
        """Whether nobody but classic members is left when these go."""
        gone = list(members)
        classic_gone = sum(member.classic is not None for member in gone)
        return self.classic_member_count - classic_gone == len(self.members) - len(gone)

    # -- what any group is asked (coordinator.group.Group)

    @property
    def state_name(self) -> str:
        """Found out when asked for: nothing on the way of a heartbeat needs it."""
        if not self.members:
            return "Empty"
        if self.group_epoch > self.assignment_epoch:
            return "Assigning"
        if all(member.is_reconciled_to(self.assignment_epoch) for member in self.members.values()):
            return "Stable"
        return "Reconciling"

    def check_commit(
        self, member_id: str, group_instance_id: str | None, generation_id: int, version: int, *, transactional: bool
    ) -> PartitionCommitCheck | None:
        """Members commit in their epoch; in an older one (KIP-1251) what they have had since then.

        A member that got a new epoch, and did not learn of it yet, may so still commit what it keeps.
        """
        if generation_id < 0 and not self.members:
            return None
        if transactional and generation_id == -1 and not member_id and group_instance_id is None:
            return None
        member = self.member(member_id)
        if not transactional and member.classic is None and version < _FIRST_COMMIT_VERSION_WITH_EPOCH:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"Members of consumer groups commit with version {_FIRST_COMMIT_VERSION_WITH_EPOCH} or above.",
            )
        if generation_id == member.member_epoch:
            return None
        stale = _stale_code(member)
        if generation_id > member.member_epoch:
            raise ApiError(stale, f"Epoch {generation_id} is ahead of the member's, {member.member_epoch}.")

        def check(topic: str, topic_id: bytes, partition: int) -> None:
            assigned_epoch = member.assignment_epoch(topic_id, partition)
            if assigned_epoch is None:
                raise ApiError(stale, f"The member does not have partition {topic}-{partition}.")
            if generation_id < assigned_epoch:
                raise ApiError(
                    stale,
                    f"The member got partition {topic}-{partition} in epoch {assigned_epoch}, after {generation_id}.",
                )

        return check

    def check_fetch(self, member_id: str | None, member_epoch: int) -> None:
        """Whoever names a member must know its epoch."""
        if member_id is None and member_epoch < 0:
            return
        member = self.member(member_id or "")
        if member.member_epoch != member_epoch:
            raise ApiError(_stale_code(member), f"The member is in epoch {member.member_epoch}, not {member_epoch}.")

    def check_offset_delete(self) -> None:
        """Always allowed, but for topics that are subscribed to."""

    def check_delete(self) -> None:
        """Only an Empty group may be deleted."""
        if self.members:
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)

    def retention_base_ms(self, topic: str, commit_timestamp_ms: int) -> int | None:
        """From the commit, for topics that nobody subscribes to."""
        return None if topic in self.subscriptions else commit_timestamp_ms

    def may_expire(self) -> bool:
        return not self.members

    def tombstones(self) -> list[CoordinatorRecord]:
        """All records of the group, those of its members first."""
        return consumer_records.group_tombstones(self.group_id, self.members, self.resolved_regexes)

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        super().check_invariants()
        owners: dict[bytes, dict[int, str]] = {}
        for member in self.members.values():
            for partitions in (member.assigned, member.pending_revocation):
                for topic_id, epochs in partitions.items():
                    for index in epochs:
                        assert owners.setdefault(topic_id, {}).setdefault(index, member.member_id) == member.member_id
        assert owners == self.owners
        instances = {
            member.instance_id: member_id
            for member_id, member in self.members.items()
            if member.instance_id is not None
        }
        assert instances == self.static_members
        regexes = Counter(
            member.subscribed_topic_regex for member in self.members.values() if member.subscribed_topic_regex
        )
        assert regexes == self.regex_subscriptions
        assert self.resolved_regexes.keys() <= regexes.keys()
        names = Counter(name for member in self.members.values() for name in member.subscribed_topic_names)
        names.update(name for resolved in self.resolved_regexes.values() for name in resolved.topics)
        assert names == Counter(self.subscriptions)
        assert self.classic_member_count == sum(member.classic is not None for member in self.members.values())


def _add(counts: Counter[str], key: str, change: int) -> None:
    count = counts[key] + change
    if count:
        counts[key] = count
    else:
        del counts[key]


def _stale_code(member: ConsumerMember) -> ErrorCode:
    return ErrorCode.STALE_MEMBER_EPOCH if member.classic is None else ErrorCode.ILLEGAL_GENERATION


def durable_state(group: ConsumerGroup) -> dict[str, object]:
    """What a restart must bring back; for tests and simulations."""
    return {
        "group_epoch": group.group_epoch,
        "metadata_hash": group.metadata_hash,
        "assignment_epoch": group.assignment_epoch,
        "assignment_timestamp_ms": group.assignment_timestamp_ms,
        "members": group.members,
        "target": group.target,
        "regexes": group.resolved_regexes,
    }

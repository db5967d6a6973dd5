"""What becomes of one partition: who leads it, who counts as in sync, who could still lead, when a move is over.

`changed` is the one place where that is decided, for fencing, AlterPartition, reassignments and elections alike. What
somebody wants of a partition (`Wanted`) goes through the same steps each time: a reassignment whose new replicas are
all in sync is completed; replicas that left a too small ISR stay eligible as leaders (KIP-966); a leader is elected.

Safety. The leader comes from the ISR. With eligible leader replicas on, the ISR may become empty, and then the leader
comes from the replicas that were in sync when the ISR was last smaller than `min.insync.replicas`: nothing was
acknowledged since that they do not have. Without either, only the last known leader (which may have lost what it had
not flushed), or, where the topic allows it, any replica: such a leader starts as RECOVERING.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from ottla.server.controller.placement import MIGRATING_DIRECTORY, directory_of
from ottla.server.metadata.image import NO_LEADER, UNASSIGNED_DIRECTORY, BrokerImage, PartitionImage

RECOVERED: Final = 0
RECOVERING: Final = 1
"""Leader recovery states: a leader that was elected uncleanly is RECOVERING until it says otherwise (KIP-704)."""

LOST_DIRECTORY: Final = bytes(15) + b"\x02"
"""Directory id of a replica that lies in a directory which is no more."""
RESERVED_DIRECTORIES: Final = 100
"""So many ids, from 0 on, mean something else than a directory."""

FIRST_WITH_DIRECTORIES: Final = 17  # 3.7-IV2, KIP-858
_FIRST_WITHOUT_BUMP: Final = 12  # 3.6-IV0, KAFKA-15021
_UNCHANGED: Final = -2


class Election(Enum):
    """ONLINE keeps a leader that may lead; PREFERRED takes the first replica when it may; UNCLEAN takes anybody alive
    when nobody may."""

    ONLINE = 0
    PREFERRED = 1
    UNCLEAN = 2


class Wanted(NamedTuple):
    """What a partition is to become; None leaves a part as it is.

    `directories` are for replicas that moved on their broker; `unclean_shutdown` names brokers that may have lost what
    they had not flushed.
    """

    isr: Sequence[int] | None = None
    replicas: Sequence[int] | None = None
    adding_replicas: Sequence[int] | None = None
    removing_replicas: Sequence[int] | None = None
    leader_recovery_state: int | None = None
    directories: tuple[tuple[int, bytes], ...] = ()
    unclean_shutdown: tuple[int, ...] = ()


NOTHING_WANTED: Final = Wanted()


class Rules(NamedTuple):
    """What a decision depends on besides the partition.

    `is_active` says which brokers may lead, now or after the change that is being decided. `min_isr` is effective: not
    more than there are replicas.
    """

    brokers: Mapping[int, BrokerImage]
    is_active: Callable[[int], bool]
    min_isr: int
    has_elr: bool
    metadata_version: int


def changed(
    partition: PartitionImage, rules: Rules, wanted: Wanted = NOTHING_WANTED, election: Election = Election.ONLINE
) -> dict[str, Any]:
    """The fields of the PartitionChangeRecord that leads there; an empty mapping when nothing changes."""
    state = _Target(partition, wanted)
    can_lead = _leaders(partition, rules)
    state.complete_reassignment(can_lead)
    if rules.has_elr:
        state.keep_eligible(partition, rules.min_isr, wanted.unclean_shutdown)
    else:
        state.elr = ()
    changes: dict[str, Any] = {}
    leader, is_unclean = _elected(partition, state, can_lead, election, has_elr=rules.has_elr)
    if leader != partition.leader:
        changes["leader"] = leader
        if is_unclean:
            state.isr, state.elr, state.leader_recovery_state = (leader,), (), RECOVERING
        elif leader in state.elr:
            state.isr = (leader,)
            # The minimum may be a smaller one by now, and what it acknowledges from now on the others do not have.
            state.elr = _without(state.elr, state.isr) if rules.min_isr > 1 else ()
    if not state.isr and not rules.has_elr:
        state.isr = partition.isr  # who was in sync last: the only ones that can be trusted later
    if "leader" not in changes and _needs_new_epoch(partition, state, rules):
        changes["leader"] = partition.leader
    last_known = _last_known(partition, state, changes.get("leader", _UNCHANGED), rules)
    after = {
        "isr": state.isr,
        "eligible_leader_replicas": state.elr,
        "last_known_elr": last_known,
        "replicas": state.replicas,
        "removing_replicas": state.removing,
        "adding_replicas": state.adding,
    }
    for field, value in after.items():
        if value != getattr(partition, field):
            changes[field] = list(value)
    directories = _directories(partition, state, rules, wanted.directories)
    if directories is not None:
        changes["directories"] = directories
    if state.leader_recovery_state != partition.leader_recovery_state:
        changes["leader_recovery_state"] = state.leader_recovery_state
    return changes


def is_reassigned(partition: PartitionImage) -> bool:
    """A move of the partition to other replicas is under way."""
    return bool(partition.adding_replicas or partition.removing_replicas)


def is_online(broker: BrokerImage | None, directory: bytes) -> bool:
    """Whether a replica of the broker in that directory can be used."""
    if broker is None or directory == LOST_DIRECTORY:
        return False
    if directory in (UNASSIGNED_DIRECTORY, MIGRATING_DIRECTORY):
        return True
    return not broker.log_dirs or directory in broker.log_dirs


def is_valid_isr(isr: Collection[int], replicas: Collection[int]) -> bool:
    """Replicas of the partition, each once."""
    return len(set(isr)) == len(isr) and set(isr) <= set(replicas)


class _Target:
    """The partition as it will be, while it is being decided."""

    __slots__ = ("adding", "elr", "isr", "leader_recovery_state", "removing", "replicas")

    def __init__(self, partition: PartitionImage, wanted: Wanted) -> None:
        def chosen(value: Sequence[int] | None, current: tuple[int, ...]) -> tuple[int, ...]:
            return current if value is None else tuple(value)

        self.isr = chosen(wanted.isr, partition.isr)
        self.replicas = chosen(wanted.replicas, partition.replicas)
        self.adding = chosen(wanted.adding_replicas, partition.adding_replicas)
        self.removing = chosen(wanted.removing_replicas, partition.removing_replicas)
        self.elr = partition.eligible_leader_replicas
        state = wanted.leader_recovery_state
        self.leader_recovery_state = partition.leader_recovery_state if state is None else state

    def complete_reassignment(self, can_lead: Callable[[int], bool]) -> None:
        """The old replicas go once all new ones are in sync and alive, and never the last one that is.

        Fewer replicas than before must not mean fewer in sync than could be: then all that remain are waited for.
        """
        adding, removing = self.adding, self.removing
        if not adding and not removing:
            return
        replicas = _without(self.replicas, removing)
        in_sync = tuple(replica for replica in _without(self.isr, removing) if can_lead(replica))
        needed = replicas if len(adding) < len(removing) else adding
        if not in_sync or not set(needed) <= set(in_sync):
            return
        self.replicas, self.adding, self.removing = replicas, (), ()
        if removing:
            self.isr = in_sync

    def keep_eligible(self, partition: PartitionImage, min_isr: int, unclean_shutdown: Iterable[int]) -> None:
        """With fewer than `min_isr` in sync nothing is acknowledged to acks=all, so that who leaves now misses none of
        it; who comes back from an unclean shutdown may."""
        if len(self.isr) >= min_isr:
            self.elr = ()
            return
        candidates = {*self.elr, *partition.isr}
        self.elr = tuple(sorted(candidates.difference(self.isr, unclean_shutdown) & set(self.replicas)))


def _leaders(partition: PartitionImage, rules: Rules) -> Callable[[int], bool]:
    """Who could lead, as far as brokers and directories are concerned."""
    directories = dict(zip(partition.replicas, partition.directories, strict=False))

    def can_lead(replica: int) -> bool:
        directory = directories.get(replica, UNASSIGNED_DIRECTORY)
        return rules.is_active(replica) and is_online(rules.brokers.get(replica), directory)

    return can_lead


def _elected(
    partition: PartitionImage,
    state: _Target,
    can_lead: Callable[[int], bool],
    election: Election,
    *,
    has_elr: bool,
) -> tuple[int, bool]:
    """The leader, and whether records may be lost by it."""
    candidates = state.isr or state.elr
    order = (partition.leader, *state.replicas)
    if election is Election.PREFERRED:
        order = (state.replicas[0], *order)
    for replica in order:
        if replica in candidates and can_lead(replica):
            return replica, False
    if has_elr and not candidates and len(partition.last_known_elr) == 1:
        (replica,) = partition.last_known_elr
        if replica in state.replicas and can_lead(replica):
            return replica, True
    if election is Election.UNCLEAN:
        for replica in state.replicas:
            if can_lead(replica):
                return replica, True
    return NO_LEADER, False


def _needs_new_epoch(partition: PartitionImage, state: _Target, rules: Rules) -> bool:
    """A replica that is taken away must not be counted by a leader that has not heard of it. Brokers before 3.6 also
    need a new epoch when the ISR shrinks."""
    if not set(partition.replicas) <= set(state.replicas):
        return True
    return rules.metadata_version < _FIRST_WITHOUT_BUMP and not set(partition.isr) <= set(state.isr)


def _last_known(partition: PartitionImage, state: _Target, leader: int, rules: Rules) -> tuple[int, ...]:
    """Who led last is remembered while nobody leads; `leader` is the new one, or `_UNCHANGED`."""
    if not rules.has_elr or leader >= 0:
        return ()
    if partition.last_known_elr:
        return partition.last_known_elr
    if leader == NO_LEADER and partition.leader != NO_LEADER:
        return (partition.leader,)
    if partition.leader == NO_LEADER and not state.isr and not state.elr:
        # Nobody led when the feature was finalized. Without the last one that was in sync, nobody ever would again.
        return (*partition.isr, *partition.eligible_leader_replicas)[:1]
    return ()


def _directories(
    partition: PartitionImage, state: _Target, rules: Rules, moved: Iterable[tuple[int, bytes]]
) -> list[bytes] | None:
    """The directories of all replicas when they differ from what is known; None when there is nothing to say."""
    if rules.metadata_version < FIRST_WITH_DIRECTORIES:
        return None
    reported = dict(moved)
    if not reported and state.replicas == partition.replicas:
        return None
    current = list(partition.directories) or [MIGRATING_DIRECTORY] * len(partition.replicas)
    known = {**dict(zip(partition.replicas, current, strict=False)), **reported}
    directories = []
    for replica in state.replicas:
        directory = known.get(replica)
        if directory is None:
            broker = rules.brokers.get(replica)
            directory = UNASSIGNED_DIRECTORY if broker is None else directory_of(broker)
        directories.append(directory)
    return None if directories == current else directories


def _without(replicas: tuple[int, ...], gone: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(replica for replica in replicas if replica not in gone) if gone else replicas

"""The `sticky` assignor of streams groups: who shall run which task, decided from scratch but close to what was.

What it wants, in this order:

1. every active task on exactly one member, standby copies never in a process that has the task already;
2. members equally loaded: an equal share of active tasks, and of all tasks, rounded up, is the most that a member keeps
   from before;
3. tasks where they were: an active task stays with its member, else goes to one that has a copy of its state, the most
   complete copy first;
4. where `rack.aware.assignment.tags` are set, the copies of a task in processes with different values of these client
   tags, the first tag being the most important.

What is left goes to the least loaded member of the least loaded process. Ties are broken by id: equal inputs give equal
assignments.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.server.coordinator.streams.tasks import NO_ROLES, TaskId, TaskRoles

logger = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """A member as the assignor sees it: what it was to have before, and what offsets it reported of its state."""

    process_id: str
    client_tags: Mapping[str, str] = {}
    previous: TaskRoles = NO_ROLES
    task_offsets: Mapping[TaskId, int] = {}


class SubtopologyTasks(NamedTuple):
    """How many tasks a subtopology has; only stateful ones get standby copies."""

    task_count: int
    is_stateful: bool


def assign(
    members: Mapping[str, Candidate],
    subtopologies: Mapping[str, SubtopologyTasks],
    *,
    standby_replicas: int = 0,
    rack_aware_tags: Sequence[str] = (),
) -> dict[str, TaskRoles]:
    """The tasks of every member; nothing for anybody where there are no members."""
    if not members:
        return {}
    return _Assignment(members, subtopologies, standby_replicas, rack_aware_tags).run()


#: A process's values of the rack-aware tags, in the order of the tags.
TagValues = tuple["str | None", ...]


class _Member:
    __slots__ = ("active", "member_id", "process", "standby")

    def __init__(self, member_id: str, process: _Process) -> None:
        self.member_id = member_id
        self.process = process
        self.active: set[TaskId] = set()
        self.standby: set[TaskId] = set()

    @property
    def load(self) -> int:
        return len(self.active) + len(self.standby)


class _Process:
    __slots__ = ("members", "process_id", "tag_values", "tasks")

    def __init__(self, process_id: str, tag_values: TagValues) -> None:
        self.process_id = process_id
        self.tag_values = tag_values
        self.members: list[_Member] = []
        self.tasks: set[TaskId] = set()

    @property
    def load(self) -> float:
        return len(self.tasks) / len(self.members)

    def least_loaded_member(self) -> _Member:
        return min(self.members, key=lambda member: (member.load, member.member_id))


class _Quota:
    """The equal share, rounded up: who has reached it counts no more, and the others share the rest."""

    __slots__ = ("_members", "_tasks", "share")

    def __init__(self, tasks: int, members: int) -> None:
        self._tasks = tasks
        self._members = members
        self.share = -(-tasks // members)

    def reached(self, load: int) -> None:
        """Somebody has `load` tasks now."""
        if load == self.share and self._members:
            self._members -= 1
            self._tasks -= load
            self.share = -(-self._tasks // self._members) if self._members else 0


class _Processes:
    """Processes by load. An entry of the heap whose load is out of date is corrected when it surfaces."""

    __slots__ = ("_heap",)

    def __init__(self, processes: Iterable[_Process]) -> None:
        self._heap = [(process.load, process.process_id, process) for process in processes]
        heapq.heapify(self._heap)

    def least_loaded(self, without: TaskId) -> _Process | None:
        """The least loaded process that does not have the task."""
        passed = []
        found = None
        heap = self._heap
        while heap and found is None:
            load, process_id, process = heap[0]
            if load != process.load:
                heapq.heapreplace(heap, (process.load, process_id, process))
            elif without in process.tasks:
                passed.append(heapq.heappop(heap))
            else:
                found = process
        for entry in passed:
            heapq.heappush(heap, entry)
        return found


class _Assignment:
    """One computation."""

    def __init__(
        self,
        members: Mapping[str, Candidate],
        subtopologies: Mapping[str, SubtopologyTasks],
        standby_replicas: int,
        rack_aware_tags: Sequence[str],
    ) -> None:
        self.standby_replicas = standby_replicas
        self.tags = tuple(rack_aware_tags)
        self.processes: dict[str, _Process] = {}
        self.members: dict[str, _Member] = {}
        self.tasks = [
            TaskId(subtopology_id, partition)
            for subtopology_id, each in sorted(subtopologies.items())
            for partition in range(each.task_count)
        ]
        self.stateful = [task for task in self.tasks if subtopologies[task.subtopology_id].is_stateful]
        self.active_quota = _Quota(len(self.tasks), len(members))
        self.total_quota = _Quota(len(self.tasks) + len(self.stateful) * standby_replicas, len(members))
        self.previous_active: dict[TaskId, _Member] = {}
        self.previous_copies: dict[TaskId, list[tuple[tuple[bool, int, str], _Member]]] = {}
        for member_id, candidate in sorted(members.items()):
            self._add(member_id, candidate)
        for copies in self.previous_copies.values():
            copies.sort(key=lambda copy: copy[0])
        by_tags: dict[TagValues, list[_Process]] = {}
        for process in self.processes.values():
            by_tags.setdefault(process.tag_values, []).append(process)
        #: Processes by the values of their tags; without tags all of them are one.
        self.racks = {tag_values: _Processes(processes) for tag_values, processes in by_tags.items()}

    def _add(self, member_id: str, candidate: Candidate) -> None:
        process = self.processes.get(candidate.process_id)
        if process is None:
            tag_values = tuple(candidate.client_tags.get(tag) for tag in self.tags)
            process = self.processes[candidate.process_id] = _Process(candidate.process_id, tag_values)
        member = self.members[member_id] = _Member(member_id, process)
        process.members.append(member)
        for task in candidate.previous.active:
            self.previous_active[task] = member
        copies = candidate.previous.standby | candidate.previous.warmup
        # Who reports offsets has state on its disk, though after a restart nothing was assigned to it.
        for task in {*copies, *candidate.task_offsets}:
            rank = (task not in copies, -candidate.task_offsets.get(task, 0), member_id)
            self.previous_copies.setdefault(task, []).append((rank, member))

    def run(self) -> dict[str, TaskRoles]:
        self._assign_active()
        if self.standby_replicas:
            self._assign_standby()
        return {
            member_id: TaskRoles(frozenset(member.active), frozenset(member.standby))
            for member_id, member in self.members.items()
        }

    # -- active tasks

    def _assign_active(self) -> None:
        by_partition = sorted(self.tasks, key=lambda task: (task.partition, task.subtopology_id))
        unassigned = []
        for task in by_partition:
            owner = self.previous_active.get(task)
            if owner is not None and owner.load < self.active_quota.share:
                self._give_active(owner, task)
            else:
                unassigned.append(task)
        rest = []
        for task in unassigned:
            copy = self._copy_with_room(task)
            if copy is not None:
                self._give_active(copy, task)
            else:
                rest.append(task)
        processes = _Processes(self.processes.values())
        for task in sorted(rest):
            process = processes.least_loaded(task)
            assert process is not None, "an active task has no other copy yet"
            self._give_active(process.least_loaded_member(), task)

    def _copy_with_room(self, task: TaskId) -> _Member | None:
        for _, member in self.previous_copies.get(task, ()):
            if member.load < self.active_quota.share:
                return member
        return None

    def _give_active(self, member: _Member, task: TaskId) -> None:
        member.active.add(task)
        member.process.tasks.add(task)
        self.active_quota.reached(member.load)
        self.total_quota.reached(member.load)

    # -- standby tasks

    def _assign_standby(self) -> None:
        """First the copies that can stay where state is, for all tasks; then the rest by load."""
        holders: dict[TaskId, list[_Process]] = {task: [] for task in self.stateful}
        for process in self.processes.values():
            for task in process.tasks:
                if task in holders:
                    holders[task].append(process)
        backwards = sorted(self.stateful, key=lambda task: (task.partition, task.subtopology_id), reverse=True)
        rest = []
        for task in backwards:
            for replica in range(self.standby_replicas):
                member = self._standby_from_before(task, holders[task])
                if member is None:
                    rest.append((task, self.standby_replicas - replica))
                    break
                self._give_standby(member, task, holders[task])
        for task, replicas in sorted(rest, reverse=True):
            for replica in range(replicas):
                room = self._least_loaded(task, holders[task])
                if room is None:
                    logger.debug("task %s has %d standby copies too few", task, replicas - replica)
                    break
                self._give_standby(room.least_loaded_member(), task, holders[task])

    def _standby_from_before(self, task: TaskId, holders: list[_Process]) -> _Member | None:
        """Who had the task, as active or as a copy, does not run it now, and has room."""
        candidates = [member for _, member in self.previous_copies.get(task, ())]
        owner = self.previous_active.get(task)
        if owner is not None:
            candidates.insert(0, owner)
        share = self.total_quota.share
        candidates = [each for each in candidates if task not in each.process.tasks and each.load < share]
        if candidates and (racks := self._most_diverse(task, holders)):
            candidates = [each for each in candidates if each.process.tag_values in racks]
        return candidates[0] if candidates else None

    def _least_loaded(self, task: TaskId, holders: list[_Process]) -> _Process | None:
        racks = self._most_diverse(task, holders) or self.racks
        found = [room for tag_values in racks if (room := self.racks[tag_values].least_loaded(task)) is not None]
        return min(found, key=lambda process: (process.load, process.process_id), default=None)

    def _give_standby(self, member: _Member, task: TaskId, holders: list[_Process]) -> None:
        member.standby.add(task)
        member.process.tasks.add(task)
        holders.append(member.process)
        self.total_quota.reached(member.load)

    def _most_diverse(self, task: TaskId, holders: list[_Process]) -> list[TagValues]:
        """The tag values that differ most from those of the processes that have the task, where another can take it.

        Decided by the first tag that any process can still add a new value of; the later tags break ties. Empty when
        no process adds anything.
        """
        used = [{holder.tag_values[index] for holder in holders} for index in range(len(self.tags))]
        gains: dict[tuple[bool, ...], list[TagValues]] = {}
        for tag_values in self.racks:
            gain = tuple(value is not None and value not in seen for value, seen in zip(tag_values, used, strict=True))
            if any(gain):
                gains.setdefault(gain, []).append(tag_values)
        for _, racks in sorted(gains.items(), reverse=True):
            open_racks = [tag_values for tag_values in racks if self.racks[tag_values].least_loaded(task) is not None]
            if open_racks:
                return open_racks
        return []

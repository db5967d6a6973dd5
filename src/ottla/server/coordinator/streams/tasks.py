"""Tasks of a streams group as sets: what the assignor, the members and the records have in common (KIP-1071).

A task is one partition number of one subtopology. A member runs it as *active* (it processes), as *standby* (it keeps a
copy of the state) or as *warm-up* (it builds a copy because the active task shall move there).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol


class TaskId(NamedTuple):
    """One task; ordered by subtopology, then partition."""

    subtopology_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.subtopology_id}_{self.partition}"


Tasks = frozenset[TaskId]

NO_TASKS: Tasks = frozenset()


class TaskIdsLike(Protocol):
    """How messages and records list tasks: the partitions of one subtopology."""

    subtopology_id: str
    partitions: list[int]


class TaskRoles(NamedTuple):
    """The tasks that a member has, shall have, or says it has."""

    active: Tasks = NO_TASKS
    standby: Tasks = NO_TASKS
    warmup: Tasks = NO_TASKS

    @property
    def is_empty(self) -> bool:
        return not (self.active or self.standby or self.warmup)

    def intersects(self, other: TaskRoles) -> bool:
        """Whether there is a task in the same role in both."""
        return not (
            self.active.isdisjoint(other.active)
            and self.standby.isdisjoint(other.standby)
            and self.warmup.isdisjoint(other.warmup)
        )

    def covers(self, other: TaskRoles) -> bool:
        """Whether every task of the other one is here, in the same role."""
        return self.active >= other.active and self.standby >= other.standby and self.warmup >= other.warmup

    def common(self, other: TaskRoles) -> TaskRoles:
        """Tasks in the same role in both."""
        return TaskRoles(self.active & other.active, self.standby & other.standby, self.warmup & other.warmup)

    def without(self, other: TaskRoles) -> TaskRoles:
        """Tasks that are not in the same role in the other one."""
        return TaskRoles(self.active - other.active, self.standby - other.standby, self.warmup - other.warmup)

    def plus(self, other: TaskRoles) -> TaskRoles:
        """All tasks of both."""
        return TaskRoles(self.active | other.active, self.standby | other.standby, self.warmup | other.warmup)


NO_ROLES = TaskRoles()

#: Active task → epoch of the target assignment that gave it to the member.
ActiveEpochs = Mapping[TaskId, int]


def tasks_of(lists: Iterable[TaskIdsLike]) -> Tasks:
    """The tasks that a message or a record lists."""
    return frozenset(TaskId(each.subtopology_id, partition) for each in lists for partition in each.partitions)


def by_subtopology(tasks: Iterable[TaskId]) -> dict[str, list[int]]:
    """Partitions by subtopology, both in ascending order, as Kafka writes them down."""
    grouped: dict[str, list[int]] = {}
    for subtopology_id, partition in sorted(tasks):
        grouped.setdefault(subtopology_id, []).append(partition)
    return grouped


def task_lists(tasks: Iterable[TaskId], make: Any) -> list[Any]:
    """The tasks as the `TaskIds` struct of some message or record."""
    return [
        make(subtopology_id=subtopology_id, partitions=partitions)
        for subtopology_id, partitions in by_subtopology(tasks).items()
    ]

"""One member of a streams group, and how it is brought from the tasks it has to those it shall have.

A member moves towards the target assignment one heartbeat at a time: first it gives up what is not its any more (it
stays in its epoch until it reports that), then it enters the target's epoch with the tasks that nobody else holds, and
gets the others when they are released. Members are immutable; a change is a new member and a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.modern_group import STATIC_LEAVE_EPOCH
from ottla.server.coordinator.streams.tasks import NO_ROLES, ActiveEpochs, TaskId, TaskRoles, Tasks


class MemberState(IntEnum):
    """Where a member stands on its way to the target assignment; the numbers are those of the records."""

    STABLE = 1
    UNREVOKED_TASKS = 2
    """It was told to give up tasks and has not reported that it did."""
    UNRELEASED_TASKS = 3
    """It waits for tasks that others still hold."""
    UNKNOWN = 127
    """A state that a newer broker wrote."""


class Endpoint(NamedTuple):
    """Where the application answers interactive queries."""

    host: str
    port: int


class Profile(NamedTuple):
    """What a member says of itself."""

    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topology_epoch: int = -1
    process_id: str = ""
    user_endpoint: Endpoint | None = None
    client_tags: tuple[tuple[str, str], ...] = ()


class Progress(NamedTuple):
    """What a member was given. `active_epochs` has every active task of `assigned` and of `revoking`."""

    member_epoch: int = 0
    previous_member_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: TaskRoles = NO_ROLES
    revoking: TaskRoles = NO_ROLES
    active_epochs: ActiveEpochs = {}

    def is_reconciled_to(self, assignment_epoch: int) -> bool:
        """Whether it has all that the target of this epoch gives it."""
        return self.state is MemberState.STABLE and self.member_epoch == assignment_epoch

    def left_for_a_while(self) -> Progress:
        """A static member went away and will come back: it keeps its tasks, in no epoch."""
        return self._replace(
            member_epoch=STATIC_LEAVE_EPOCH,
            revoking=NO_ROLES,
            active_epochs=dict.fromkeys(self.assigned.active, 0),
        )


class Member(NamedTuple):
    """A member with all that is durable of it."""

    member_id: str
    profile: Profile = Profile()
    progress: Progress = Progress()

    @property
    def process_id(self) -> str:
        """Members of one process share its state directory: no two of them may have the same task."""
        return self.profile.process_id

    def held(self) -> TaskRoles:
        """Everything it may still be running."""
        return self.progress.assigned.plus(self.progress.revoking)


#: Whether others hold a task so that the member cannot have it yet; the second is True for active tasks.
IsUnreleased = Callable[[TaskId, bool], bool]


def reconcile(
    progress: Progress, target_epoch: int, target: TaskRoles, owned: TaskRoles | None, is_unreleased: IsUnreleased
) -> Progress:
    """The next step towards the target; the same object when there is none to take.

    ``owned`` is what the member reports to have, None when it did not say. ApiError FENCED_MEMBER_EPOCH when the
    member is in a state that this broker does not know.
    """
    member_epoch = progress.member_epoch
    if progress.state is MemberState.STABLE:
        if member_epoch == target_epoch:
            return progress
    elif progress.state is MemberState.UNREVOKED_TASKS:
        if owned is None or owned.intersects(progress.revoking):
            return progress
        member_epoch += 1
    elif progress.state is MemberState.UNKNOWN:
        if owned is None or not owned.is_empty:
            raise ApiError(
                ErrorCode.FENCED_MEMBER_EPOCH,
                "The streams group member is in a unknown state. The member must abandon all its tasks and rejoin.",
            )
        member_epoch = target_epoch
    kept = progress.assigned.common(target)
    given_up = progress.assigned.without(target)
    if not given_up.is_empty and (owned is None or owned.intersects(given_up)):
        return progress._replace(
            member_epoch=member_epoch,
            previous_member_epoch=progress.member_epoch,
            state=MemberState.UNREVOKED_TASKS,
            assigned=kept,
            revoking=given_up,
            active_epochs=_epochs(progress.active_epochs, kept.active | given_up.active, target_epoch),
        )
    wanted = target.without(kept)
    free = TaskRoles(
        _released(wanted.active, is_unreleased, active=True),
        _released(wanted.standby, is_unreleased, active=False),
        _released(wanted.warmup, is_unreleased, active=False),
    )
    assigned = kept.plus(free)
    return Progress(
        member_epoch=target_epoch,
        previous_member_epoch=progress.member_epoch,
        state=MemberState.STABLE if free == wanted else MemberState.UNRELEASED_TASKS,
        assigned=assigned,
        active_epochs=_epochs(progress.active_epochs, assigned.active, target_epoch),
    )


def _released(tasks: Tasks, is_unreleased: IsUnreleased, *, active: bool) -> Tasks:
    return frozenset(task for task in tasks if not is_unreleased(task, active))


def _epochs(known: Mapping[TaskId, int], active: Tasks, epoch: int) -> dict[TaskId, int]:
    return {task: known.get(task, epoch) for task in active}

"""The sticky assignor: what it promises whatever the group looks like, and the cases that are worth a name."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.coordinator.streams.assignor import Candidate, SubtopologyTasks, assign
from ottla.server.coordinator.streams.tasks import NO_ROLES, TaskId, TaskRoles


class World(NamedTuple):
    processes: dict[str, str]
    subtopologies: dict[str, SubtopologyTasks]
    standby_replicas: int
    tags: dict[str, str]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    members = draw(st.integers(1, 6))
    processes = {f"m{index}": f"p{draw(st.integers(0, 3))}" for index in range(members)}
    subtopologies = {
        str(index): SubtopologyTasks(draw(st.integers(1, 5)), draw(st.booleans()))
        for index in range(draw(st.integers(1, 4)))
    }
    tags = {f"p{index}": draw(st.sampled_from("abc")) for index in range(4)}
    return World(processes, subtopologies, draw(st.integers(0, 2)), tags)


def run(world: World, previous: dict[str, TaskRoles], *, rack_aware: bool = False) -> dict[str, TaskRoles]:
    members = {
        member_id: Candidate(process_id, {"zone": world.tags[process_id]}, previous.get(member_id, NO_ROLES))
        for member_id, process_id in world.processes.items()
    }
    return assign(
        members,
        world.subtopologies,
        standby_replicas=world.standby_replicas,
        rack_aware_tags=["zone"] if rack_aware else [],
    )


def check(world: World, assignment: dict[str, TaskRoles]) -> None:
    tasks = {
        TaskId(subtopology_id, partition)
        for subtopology_id, each in world.subtopologies.items()
        for partition in range(each.task_count)
    }
    active = Counter(task for roles in assignment.values() for task in roles.active)
    assert active == dict.fromkeys(tasks, 1), "every active task exactly once"
    held = Counter(
        (world.processes[member_id], task)
        for member_id, roles in assignment.items()
        for task in roles.active | roles.standby
    )
    assert set(held.values()) <= {1}, "a process has a task once"
    standby = Counter(task for roles in assignment.values() for task in roles.standby)
    possible = min(world.standby_replicas, len(set(world.processes.values())) - 1)
    stateful = {task for task in tasks if world.subtopologies[task.subtopology_id].is_stateful}
    assert standby == Counter({task: possible for task in stateful if possible}), "as many copies as processes allow"


@given(worlds(), st.booleans())
@settings(max_examples=200, derandomize=True)
def test_fresh_group_is_complete_and_balanced(world: World, rack_aware: bool) -> None:
    assignment = run(world, {}, rack_aware=rack_aware)
    check(world, assignment)
    loads = Counter(dict.fromkeys(world.processes.values(), 0))
    for member_id, roles in assignment.items():
        loads[world.processes[member_id]] += len(roles.active)
    sizes = Counter(world.processes.values())
    # Work goes to processes by their number of members, so nobody is more than one task ahead.
    per_member = [loads[process_id] / sizes[process_id] for process_id in loads]
    assert max(per_member) - min(per_member) <= 1


@given(worlds(), st.booleans())
@settings(max_examples=200, derandomize=True)
def test_nothing_moves_without_a_reason(world: World, rack_aware: bool) -> None:
    first = run(world, {}, rack_aware=rack_aware)
    # Active tasks stay; copies may be placed better once, when they know where the others are.
    second = run(world, first, rack_aware=rack_aware)
    check(world, second)
    assert {member_id: roles.active for member_id, roles in second.items()} == {
        member_id: roles.active for member_id, roles in first.items()
    }


@given(worlds(), st.integers(0, 5))
@settings(max_examples=200, derandomize=True)
def test_who_stays_keeps_its_active_tasks_when_another_leaves(world: World, gone: int) -> None:
    before = run(world, {})
    gone_id = sorted(world.processes)[gone % len(world.processes)]
    rest = world._replace(processes={key: value for key, value in world.processes.items() if key != gone_id})
    if not rest.processes:
        return
    after = run(rest, {key: value for key, value in before.items() if key != gone_id})
    check(rest, after)
    for member_id, roles in after.items():
        assert roles.active >= before[member_id].active


@given(worlds())
@settings(max_examples=100, derandomize=True)
def test_new_member_takes_only_its_share(world: World) -> None:
    before = run(world, {})
    grown = world._replace(processes={**world.processes, "new": "p-new"}, tags={**world.tags, "p-new": "z"})
    after = run(grown, before)
    check(grown, after)
    share = -(-sum(each.task_count for each in world.subtopologies.values()) // len(grown.processes))
    assert len(after["new"].active) <= share
    for member_id, roles in before.items():
        kept = roles.active & after[member_id].active
        assert len(kept) >= min(len(roles.active), share - 1), "who is not above the share gives hardly anything up"


def tasks(*names: str) -> frozenset[TaskId]:
    return frozenset(TaskId(name[0], int(name[1:])) for name in names)


def test_active_task_goes_to_the_most_complete_copy() -> None:
    members = {
        "a": Candidate("pa"),
        "b": Candidate("pb", previous=TaskRoles(standby=tasks("x0")), task_offsets={TaskId("x", 0): 10}),
        "c": Candidate("pc", previous=TaskRoles(standby=tasks("x0")), task_offsets={TaskId("x", 0): 90}),
    }
    assert assign(members, {"x": SubtopologyTasks(1, True)})["c"].active == tasks("x0")


def test_state_on_disk_brings_a_restarted_member_its_task_back() -> None:
    members = {
        "a": Candidate("pa"),
        "b": Candidate("pb", task_offsets={TaskId("x", 0): 5, TaskId("y", 7): 5}),
    }
    assert assign(members, {"x": SubtopologyTasks(1, True)})["b"].active == tasks("x0")


def test_a_copy_counts_more_than_state_on_disk() -> None:
    members = {
        "a": Candidate("pa", task_offsets={TaskId("x", 0): 100}),
        "b": Candidate("pb", previous=TaskRoles(warmup=tasks("x0"))),
    }
    assert assign(members, {"x": SubtopologyTasks(1, True)})["b"].active == tasks("x0")


def test_stateless_tasks_have_no_copies() -> None:
    members = {"a": Candidate("pa"), "b": Candidate("pb")}
    assignment = assign(members, {"x": SubtopologyTasks(2, False)}, standby_replicas=1)
    assert all(not roles.standby for roles in assignment.values())


def test_one_process_has_no_copies() -> None:
    members = {"a": Candidate("p"), "b": Candidate("p")}
    assignment = assign(members, {"x": SubtopologyTasks(2, True)}, standby_replicas=1)
    assert all(not roles.standby for roles in assignment.values())


def zoned(zone: str, cluster: str = "") -> dict[str, str]:
    return {"zone": zone, "cluster": cluster} if cluster else {"zone": zone}


def test_copies_are_in_other_zones() -> None:
    members = {
        "a": Candidate("pa", zoned("1"), TaskRoles(active=tasks("x0"))),
        "b": Candidate("pb", zoned("1"), TaskRoles(standby=tasks("x0"))),
        "c": Candidate("pc", zoned("2")),
    }
    subtopologies = {"x": SubtopologyTasks(1, True)}
    assert assign(members, subtopologies, standby_replicas=1)["b"].standby == tasks("x0")
    diverse = assign(members, subtopologies, standby_replicas=1, rack_aware_tags=["zone"])
    assert diverse["c"].standby == tasks("x0")


def test_first_tag_counts_most_and_later_ones_break_ties() -> None:
    members = {
        "a": Candidate("pa", zoned("1", "k"), TaskRoles(active=tasks("x0"))),
        "b": Candidate("pb", zoned("1", "l")),
        "c": Candidate("pc", zoned("2", "k")),
        "d": Candidate("pd", zoned("2", "l")),
    }
    subtopologies = {"x": SubtopologyTasks(1, True)}
    assert assign(members, subtopologies, standby_replicas=1, rack_aware_tags=["zone", "cluster"])["d"].standby
    del members["d"]
    assert assign(members, subtopologies, standby_replicas=1, rack_aware_tags=["zone", "cluster"])["c"].standby
    assert assign(members, subtopologies, standby_replicas=1, rack_aware_tags=["cluster", "zone"])["b"].standby


def test_copies_are_made_even_where_no_zone_is_left() -> None:
    members = {"a": Candidate("pa", zoned("1"), TaskRoles(active=tasks("x0"))), "b": Candidate("pb")}
    assignment = assign(members, {"x": SubtopologyTasks(1, True)}, standby_replicas=1, rack_aware_tags=["zone"])
    assert assignment["b"].standby == tasks("x0")


def test_first_assignment_gives_neighbouring_partitions_of_all_subtopologies() -> None:
    members = {"a": Candidate("pa"), "b": Candidate("pb")}
    assignment = assign(members, {"x": SubtopologyTasks(2, True), "y": SubtopologyTasks(2, True)})
    assert assignment["a"].active == tasks("x0", "y0")
    assert assignment["b"].active == tasks("x1", "y1")


def test_nobody_is_there() -> None:
    assert assign({}, {"x": SubtopologyTasks(1, True)}) == {}

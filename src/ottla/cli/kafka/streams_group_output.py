"""What `kafka-streams-groups --describe` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ottla.cli.kafka.group_offsets import print_error
from ottla.cli.kafka.offset_resets import Offsets
from ottla.cli.kafka.tables import columns, widest
from ottla.client.admin.groups import GroupState
from ottla.client.model import OffsetAndMetadata, TopicPartition

if TYPE_CHECKING:
    from ottla.client.admin.modern_groups import StreamsAssignment, StreamsGroupDescription, StreamsTask

MISSING = "-"


def print_members(group: StreamsGroupDescription, verbose: bool) -> None:
    """The members and their tasks."""
    if not _has_members(group):
        return
    _say_state(group)
    name = widest(15, [group.group_id])
    member_id = widest(15, [member.member_id for member in group.members])
    process = widest(15, [member.process_id for member in group.members])
    client = widest(15, [member.client_id for member in group.members])
    if not verbose:
        widths = [name, member_id, process, client]
        print(columns(widths, ["GROUP", "MEMBER", "PROCESS", "CLIENT-ID", "ASSIGNMENTS"]))
        for member in group.members:
            tasks = _tasks("", member.assignment)
            print(columns(widths, [group.group_id, member.member_id, member.process_id, member.client_id, tasks]))
        return
    # The third and the fourth column stand side by side without a space, as in Kafka.
    left, right = [name, 25], [member_id, 15, 15, process, client]
    header = ["MEMBER", "MEMBER-PROTOCOL", "MEMBER-EPOCH", "PROCESS", "CLIENT-ID", "ASSIGNMENTS"]
    start = columns([*left, 15], ["GROUP", "TARGET-ASSIGNMENT-EPOCH", "TOPOLOGY-EPOCH"])
    print(start + columns(right, header))
    for member in group.members:
        tasks = _tasks("", member.assignment) + _tasks("TARGET-", member.target_assignment)
        kind = "classic" if member.is_classic else "streams"
        start = columns([*left, 15], [group.group_id, group.target_assignment_epoch, group.topology_epoch])
        cells = [member.member_id, kind, member.member_epoch, member.process_id, member.client_id, tasks]
        print(start + columns(right, cells))


def _tasks(prefix: str, assignment: StreamsAssignment) -> str:
    return "".join(
        _tasks_of(f"{prefix}{kind}", tasks)
        for kind, tasks in (
            ("ACTIVE", assignment.active_tasks),
            ("STANDBY", assignment.standby_tasks),
            ("WARMUP", assignment.warmup_tasks),
        )
    )


def _tasks_of(kind: str, tasks: Iterable[StreamsTask]) -> str:
    by_subtopology: dict[str, list[int]] = {}
    for subtopology_id, partition in sorted(tasks):
        by_subtopology.setdefault(subtopology_id, []).append(partition)
    shown = [f"{one}:[{','.join(map(str, numbers))}]; " for one, numbers in by_subtopology.items()]
    return f"{kind}: {''.join(shown)}" if shown else ""


def print_state(group: StreamsGroupDescription, verbose: bool) -> None:
    """Where a group stands."""
    _say_state(group)
    coordinator = f"{group.coordinator.host}:{group.coordinator.port} ({group.coordinator.id})"
    widths = [widest(15, [group.group_id]), widest(25, [coordinator]), 25, *([15, 25] if verbose else [])]
    epochs = ["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"] if verbose else []
    values = [group.group_epoch, group.target_assignment_epoch] if verbose else []
    print(columns(widths, ["GROUP", "COORDINATOR (ID)", "STATE", *epochs, "#MEMBERS"]))
    print(columns(widths, [group.group_id, coordinator, group.state.value, *values, len(group.members)]))


def print_offsets(
    group: StreamsGroupDescription,
    earliest: Offsets,
    latest: Offsets,
    committed: Mapping[TopicPartition, OffsetAndMetadata],
    verbose: bool,
) -> None:
    """The partitions that the group reads, and how far behind it is. Where nothing is committed, all is to be read."""
    if not _has_members(group):
        return
    _say_state(group)
    widths = [widest(15, [group.group_id]), widest(15, [one.topic for one in earliest]), 10]
    if verbose:
        widths += [15, 15, 15, 15]
        header = ["CURRENT-OFFSET", "LEADER-EPOCH", "LOG-END-OFFSET", "OFFSET-LAG"]
    else:
        header = ["OFFSET-LAG"]
    print(columns(widths, ["GROUP", "TOPIC", "PARTITION", *header]))
    for partition, start in earliest.items():
        found = committed.get(partition)
        end = latest[partition]
        lag = end - (start if found is None else found.offset)
        if not verbose:
            print(columns(widths, [group.group_id, *partition, lag]))
            continue
        offset = MISSING if found is None else found.offset
        epoch = MISSING if found is None or found.leader_epoch is None else found.leader_epoch
        print(columns(widths, [group.group_id, *partition, offset, epoch, end, lag]))


def _has_members(group: StreamsGroupDescription) -> bool:
    return group.state is not GroupState.DEAD and bool(group.members)


def _say_state(group: StreamsGroupDescription) -> None:
    if group.state is GroupState.DEAD:
        print_error(f"Streams group '{group.group_id}' does not exist.")
    elif group.state is GroupState.EMPTY:
        print_error(f"Streams group '{group.group_id}' has no active members.")

"""What `kafka-consumer-groups --describe` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.kafka.common import ToolError, java_text
from ottla.cli.kafka.tables import assignment_text, columns, widest
from ottla.client.model import OffsetAndMetadata, TopicPartition

if TYPE_CHECKING:
    from ottla.client.admin.groups import ConsumerGroupDescription, MemberDescription

MISSING = "-"
_REBALANCING = ("PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling")


class Row(NamedTuple):
    """A partition of a group, and who consumes it."""

    group: str
    partition: TopicPartition
    committed: OffsetAndMetadata | None
    end_offset: int | None
    consumer_id: str
    host: str
    client_id: str

    def cells(self, verbose: bool) -> list[object]:
        """In the order of the columns."""
        epoch = None if self.committed is None else self.committed.leader_epoch
        offset = None if self.committed is None else self.committed.offset
        lag = None if offset is None or self.end_offset is None else self.end_offset - offset
        numbers = [*([epoch] if verbose else []), offset, self.end_offset, lag]
        consumer = (self.consumer_id, self.host, self.client_id)
        return [self.group, *self.partition, *map(_or_missing, numbers), *consumer]


def print_offsets(group: ConsumerGroupDescription, rows: Sequence[Row], verbose: bool) -> None:
    """The partitions of a group."""
    if not _has_members(group, len(rows)):
        return
    numbers = [*(["LEADER-EPOCH"] if verbose else []), "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"]
    widths = [
        widest(15, [row.group for row in rows]),
        widest(15, [row.partition.topic for row in rows]),
        *(10, *(15 for _ in numbers)),
        widest(15, [row.consumer_id for row in rows]),
        widest(15, [row.host for row in rows]),
    ]
    header: list[object] = ["GROUP", "TOPIC", "PARTITION", *numbers, "CONSUMER-ID", "HOST", "CLIENT-ID"]
    for cells in (header, *(row.cells(verbose) for row in rows)):
        print(f"\n{columns(widths, cells)}", end="")
    print()


def print_members(group: ConsumerGroupDescription, verbose: bool) -> None:
    """The members of a group; the header also for a group without any."""
    members = group.members if _has_members(group, len(group.members)) else ()
    static = any(member.group_instance_id for member in members)
    upgraded = {member.upgraded for member in members}
    mixed = {True, False} <= upgraded
    widths = [
        widest(15, [group.group_id for _ in members]),
        widest(15, [member.member_id for member in members]),
        *([widest(17, [member.group_instance_id or "" for member in members])] if static else []),
        widest(15, [member.host for member in members]),
        widest(15, [member.client_id for member in members]),
        15,
    ]
    header = ["GROUP", "CONSUMER-ID", *(["GROUP-INSTANCE-ID"] if static else []), "HOST", "CLIENT-ID", "#PARTITIONS"]
    if verbose:
        widths += [
            15,
            widest(20, [_assignment(member.assignment) for member in members]),
            15,
            widest(20, [_assignment(member.target_assignment) for member in members]),
        ]
        header += ["CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"]
        header += ["UPGRADED"] if mixed else []
    end = "" if verbose else " "
    print(f"\n{columns(widths, header)}{end}")
    for member in group.members:
        print(columns(widths, _member_cells(group, member, static, verbose, mixed)) + end)


def _member_cells(
    group: ConsumerGroupDescription, member: MemberDescription, static: bool, verbose: bool, mixed: bool
) -> list[object]:
    cells: list[object] = [
        *(group.group_id, member.member_id),
        *([member.group_instance_id or ""] if static else []),
        *(member.host, member.client_id, len(member.assignment)),
    ]
    if verbose:
        cells += [_or_missing(member.member_epoch), _assignment(member.assignment)]
        cells += [_or_missing(group.target_assignment_epoch), _assignment(member.target_assignment)]
        cells += [MISSING if member.upgraded is None else java_text(member.upgraded)] if mixed else []
    return cells


def print_state(group: ConsumerGroupDescription, verbose: bool) -> None:
    """Where a group stands."""
    if not _has_members(group, 1):
        return
    node = group.coordinator
    coordinator = f"{node.host}:{node.port}  ({node.id})"
    epochs = ["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"] if verbose else []
    widths = [widest(15, [group.group_id]), widest(25, [coordinator]), 20, 20, *([15, 25] if verbose else [])]
    values = [_or_missing(group.group_epoch), _or_missing(group.target_assignment_epoch)] if verbose else []
    header = ["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", *epochs, "#MEMBERS"]
    state = [group.group_id, coordinator, group.partition_assignor or MISSING, group.state.value]
    print(f"\n{columns(widths, header)}", end="")
    print(f"\n{columns(widths, [*state, *values, len(group.members)])}")


def _has_members(group: ConsumerGroupDescription, rows: int) -> bool:
    """Says what is special about the group; whether there is something to print of it."""
    state = group.state.value
    if state == "Dead":
        print(f"\nError: Consumer group '{group.group_id}' does not exist.")
    elif state == "Empty":
        print(f"\nConsumer group '{group.group_id}' has no active members.", file=sys.stderr)
    elif state in _REBALANCING:
        print(f"\nWarning: Consumer group '{group.group_id}' is rebalancing.", file=sys.stderr)
    elif state != "Stable":
        raise ToolError(
            f"Expected a valid consumer group state, but found '{state}'.", "org.apache.kafka.common.KafkaException"
        )
    return state != "Dead" and rows > 0


def _assignment(partitions: frozenset[TopicPartition] | None) -> str:
    return assignment_text(partitions) if partitions else MISSING


def _or_missing(value: object) -> object:
    return MISSING if value is None else value

"""Groups in tables and as JSON: offsets with their lag, members with what they work on, streams topologies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ottla.cli.groups.kinds import Kind, Position, lag_of, listed_offsets
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    import ottla
    from ottla.cli.output import Output


class GroupDetails:
    """Everything that is shown of one group."""

    def __init__(
        self,
        description: Any,
        positions: Mapping[TopicPartition, Position],
        end_offsets: Mapping[TopicPartition, int | None],
    ) -> None:
        self.description = description
        self.owners = _owners(description)
        self.positions = positions
        self.end_offsets = end_offsets
        self.partitions = sorted({*positions, *self.owners})
        self.lags = {tp: lag_of(positions.get(tp), end_offsets.get(tp)) for tp in self.partitions}

    @property
    def lag(self) -> int | None:
        """Of all partitions together; None when there is no offset at all."""
        known = [lag for lag in self.lags.values() if lag is not None]
        return sum(known) if known else None

    def as_json(self) -> dict[str, Any]:
        """The group as an object; offsets beside who works on the partition."""
        described = self.description._asdict()
        described["members"] = [_member_json(member) for member in self.description.members]
        described["lag"] = self.lag
        described["offsets"] = [
            {
                "topic": tp.topic,
                "partition": tp.partition,
                "offset": self.positions[tp].offset if tp in self.positions else None,
                "end_offset": self.end_offsets.get(tp),
                "lag": self.lags[tp],
                "member_id": getattr(self.owners.get(tp), "member_id", None),
            }
            for tp in self.partitions
        ]
        return {name: _json_value(value) for name, value in described.items()}


def gather(admin: ottla.Admin, kind: Kind, groups: Sequence[str]) -> list[GroupDetails]:
    """The details of groups, in as few requests as it takes."""
    if not groups:
        return []
    described = kind.describe(admin, groups)
    positions = kind.positions(admin, groups)
    wanted = {tp for group in groups for tp in (*positions.get(group, {}), *_owners(described[group]))}
    ends = listed_offsets(admin, sorted(wanted), OffsetSpec.LATEST)
    return [GroupDetails(described[group], positions.get(group, {}), ends) for group in groups]


def show(output: Output, kind: Kind, details: Sequence[GroupDetails], *, members: bool, offsets: bool) -> None:
    """Print groups; without `members` or `offsets` both are shown."""
    if output.is_json:
        output.json([group.as_json() for group in details])
        return
    if output.is_quiet:
        output.table(None, ["group"], [[group.description.group_id] for group in details])
        return
    for number, group in enumerate(details):
        if number:
            output.line()
        output.line(f"{output.styled(group.description.group_id, 'bold')}: {', '.join(_facts(kind, group))}")
        if offsets or not members:
            _show_offsets(output, group)
        if members or not offsets:
            _show_members(output, group)
        _show_topology(output, group.description)


def _facts(kind: Kind, group: GroupDetails) -> list[str]:
    description = group.description
    count = len(description.members)
    facts = [str(description.state.value), kind.name]
    if getattr(description, "type", None) is not None:
        facts[1] = f"{kind.name} ({description.type.value} protocol)"
    if getattr(description, "partition_assignor", ""):
        facts.append(f"assignor {description.partition_assignor}")
    facts.append(f"{count} member{'' if count == 1 else 's'}")
    if group.lag is not None:
        facts.append(f"lag {group.lag}")
    if getattr(description, "group_epoch", None) is not None:
        facts.append(f"epoch {description.group_epoch}")
    facts.append(f"coordinator {description.coordinator}")
    return facts


def _show_offsets(output: Output, group: GroupDetails) -> None:
    if not group.partitions:
        output.line("no offsets")
        return
    rows = []
    for tp in group.partitions:
        owner = group.owners.get(tp)
        rows.append(
            [
                tp.topic,
                tp.partition,
                group.positions[tp].offset if tp in group.positions else None,
                group.end_offsets.get(tp),
                group.lags[tp],
                None if owner is None else owner.client_id or owner.member_id,
            ]
        )
    output.table(None, ["topic", "partition", "offset", "end", "lag", "client"], rows)


def _show_members(output: Output, group: GroupDetails) -> None:
    members = group.description.members
    if not members:
        return
    rows = [
        [member.member_id, getattr(member, "group_instance_id", None), member.client_id, member.host, _work(member)]
        for member in sorted(members, key=lambda one: (one.client_id, one.member_id))
    ]
    output.line()
    output.table(None, ["member", "instance", "client", "host", "works on"], rows)


def _show_topology(output: Output, description: Any) -> None:
    subtopologies = getattr(description, "subtopologies", ())
    if not subtopologies:
        return
    output.line()
    rows = [
        [
            one.subtopology_id,
            one.source_topics,
            [topic.name for topic in one.repartition_source_topics],
            one.repartition_sink_topics,
            [topic.name for topic in one.state_changelog_topics],
        ]
        for one in subtopologies
    ]
    output.table(None, ["subtopology", "sources", "repartitioned", "sinks", "changelogs"], rows)


def _work(member: Any) -> str:
    """Partitions (`orders:0,2`) or tasks of a member."""
    assignment = member.assignment
    if hasattr(assignment, "active_tasks"):
        parts = [
            f"{what} {', '.join(f'{task.subtopology_id}_{task.partition}' for task in sorted(tasks))}"
            for what, tasks in zip(("active", "standby", "warm-up"), assignment, strict=True)
            if tasks
        ]
        return "; ".join(parts) or "-"
    by_topic: dict[str, list[int]] = {}
    for tp in sorted(assignment):
        by_topic.setdefault(tp.topic, []).append(tp.partition)
    return " ".join(f"{topic}:{','.join(map(str, numbers))}" for topic, numbers in by_topic.items()) or "-"


def _owners(description: Any) -> dict[TopicPartition, Any]:
    """Who works on which partition. Of a share group that is several members, of which one is named."""
    owners: dict[TopicPartition, Any] = {}
    for member in description.members:
        if not hasattr(member.assignment, "active_tasks"):
            owners.update(dict.fromkeys(member.assignment, member))
    return owners


def _member_json(member: Any) -> dict[str, Any]:
    fields: dict[str, Any] = member._asdict()
    for name in ("task_offsets", "task_end_offsets"):
        if name in fields:
            fields[name] = [{**task._asdict(), "offset": offset} for task, offset in sorted(fields[name].items())]
    return fields


def _json_value(value: Any) -> Any:
    """States and types as Kafka writes them."""
    return value.value if isinstance(value, str) and hasattr(value, "value") else value

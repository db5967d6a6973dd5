"""The actions that all kinds of groups have: list, describe, reset, delete, delete-offsets."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.groups.kinds import Kind
from ottla.cli.output import Output
from ottla.cli.selection import complete_groups, is_pattern, matching, select_partitions

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.groups import GroupState
    from ottla.client.model import TopicPartition

MANY_GROUPS = 1000


class GroupActions:
    """Declares and does them for one kind."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def declare(self, parser: ArgumentParser) -> Actions:
        """Add the actions to a command."""
        name = self.kind.name
        actions = Actions(parser)
        listing = actions.add("list", self.show_all, f"Show which {name}s there are.", aliases=["ls"])
        _add_groups(listing, required=False)
        listing.add_argument(
            "--state", action="append", default=[], metavar="STATE", help="only those: stable, empty, …"
        )
        listing.add_argument("-l", "--long", action="store_true", help="with members and lag")
        describing = actions.add("describe", self.describe, f"Show {name}s with their offsets, lag and members.")
        _add_groups(describing, required=False)
        describing.add_argument("-m", "--members", action="store_true", help="members only")
        describing.add_argument("-o", "--offsets", action="store_true", help="offsets only")
        resetting = actions.add("reset", self.reset, f"Move the offsets of a {name} without members.", loses=True)
        self._add_reset(resetting)
        deleting = actions.add(
            "delete",
            self.delete,
            f"Delete {name}s without members, with all their offsets.",
            aliases=["rm"],
            loses=True,
        )
        _add_groups(deleting, required=True)
        forgetting = actions.add("delete-offsets", self.delete_offsets, "Forget the offsets of partitions.", loses=True)
        _add_group(forgetting)
        _add_topics(forgetting, required=True)
        return actions

    def _add_reset(self, parser: ArgumentParser) -> None:
        from ottla.cli.groups.resetting import add_where_arguments

        _add_group(parser)
        _add_topics(parser, required=False)
        add_where_arguments(parser)

    def show_all(self, options: Namespace) -> int:
        """Show which there are."""
        output = Output(options)
        with open_admin(options) as admin:
            listings = self.kind.list(admin, _states(options.state))
            chosen = set(matching(options.groups, [one.group_id for one in listings]))
            listings = [one for one in listings if one.group_id in chosen]
            details = {}
            if options.long:
                from ottla.cli.groups.describing import gather

                found = gather(admin, self.kind, [one.group_id for one in listings])
                details = {one.description.group_id: one for one in found}
        columns = ["group", "type", "state"]
        rows: list[list[object]] = [
            [
                one.group_id,
                None if one.type is None else one.type.value,
                None if one.state is None else one.state.value,
            ]
            for one in listings
        ]
        if options.long:
            columns += ["members", "partitions", "lag"]
            for row in rows:
                detail = details[str(row[0])]
                row += [len(detail.description.members), len(detail.partitions), detail.lag]
        names = ["group_id", *columns[1:]]
        output.table(None, columns, rows, json_rows=[dict(zip(names, row, strict=True)) for row in rows])
        return 0

    def describe(self, options: Namespace) -> int:
        """Show them in detail."""
        from ottla.cli.groups.describing import gather, show

        output = Output(options)
        with open_admin(options) as admin:
            details = gather(admin, self.kind, self._chosen(admin, options.groups))
        if not details:
            output.note(f"there are no {self.kind.name}s")
        show(output, self.kind, details, members=options.members, offsets=options.offsets)
        return 0

    def reset(self, options: Namespace) -> int:
        """Move offsets, once the plan was shown."""
        from ottla.cli.groups.resetting import plan

        output = Output(options)
        group: str = options.group
        with open_admin(options) as admin:
            members = self._members_count(admin, group)
            positions = self.kind.positions(admin, [group]).get(group, {}) if members is not None else {}
            partitions: Sequence[TopicPartition] = list(positions)
            if options.topic:
                partitions = select_partitions(admin, options.topic)
            elif not positions and options.from_file is None:
                raise CommandError(f"{self.kind.name} {group} has no offsets; say which with --topic")
            moves = plan(admin, options, partitions, positions, int(time.time() * 1000))
            rows = [
                [
                    move.partition.topic,
                    move.partition.partition,
                    move.before,
                    move.after,
                    (move.end_offset or 0) - move.after,
                ]
                for move in moves
            ]
            json_rows = [
                {
                    "topic": move.partition.topic,
                    "partition": move.partition.partition,
                    "before": move.before,
                    "after": move.after,
                }
                for move in moves
            ]
            if members:
                raise CommandError(
                    f"{self.kind.name} {group} has {members} member{'' if members == 1 else 's'}, "
                    "who would not notice; stop them first"
                )
            columns = ["topic", "partition", "before", "after", "lag"]
            if not output.is_json:
                output.table(None, columns, rows)
            if not options.dry_run:
                output.confirm(f"Move {len(moves)} offset{'' if len(moves) == 1 else 's'} of {group}?", options)
                self.kind.alter(admin, group, {move.partition: move.after for move in moves})
        if output.is_json:
            output.json(json_rows)
        elif options.dry_run:
            output.line("nothing was changed (--dry-run)")
        return 0

    def delete(self, options: Namespace) -> int:
        """Delete groups."""
        output = Output(options)
        with open_admin(options) as admin:
            groups = self._chosen(admin, options.groups)
            if options.dry_run:
                self.kind.describe(admin, groups)  # says which do not exist
                output.done(f"would delete {', '.join(groups)}", json=[{"group_id": group} for group in groups])
                return 0
            count = f"{self.kind.name} {groups[0]}" if len(groups) == 1 else f"{len(groups)} {self.kind.name}s"
            output.confirm(f"Delete {count} with all offsets?", options)
            self.kind.delete(admin, groups)
        output.done(f"deleted {', '.join(groups)}", json=[{"group_id": group} for group in groups])
        return 0

    def delete_offsets(self, options: Namespace) -> int:
        """Forget offsets."""
        output = Output(options)
        group: str = options.group
        with open_admin(options) as admin:
            positions = self.kind.positions(admin, [group]).get(group, {})
            wanted = [tp for tp in _named(admin, options.topic, positions) if tp in positions]
            if not wanted:
                raise CommandError(f"{self.kind.name} {group} has no offsets there")
            rows = [{"topic": tp.topic, "partition": tp.partition, "offset": positions[tp].offset} for tp in wanted]
            told = ", ".join(f"{tp} ({positions[tp].offset})" for tp in wanted)
            if options.dry_run:
                output.done(f"would forget {told}", json=rows)
                return 0
            output.confirm(f"Forget where {group} is in {len(wanted)} partitions?", options)
            self.kind.delete_offsets(admin, group, wanted)
        output.done(f"forgot {told}", json=rows)
        return 0

    def _chosen(self, admin: ottla.Admin, given: Sequence[str]) -> list[str]:
        """Groups as they are named, patterns looked up, all without a name."""
        if given and not any(map(is_pattern, given)):
            return list(dict.fromkeys(given))
        known = [one.group_id for one in self.kind.list(admin)]
        found: dict[str, None] = {}
        for one in given or ["*"]:
            matches = matching([one], known) if is_pattern(one) else [one]
            if not matches and given:
                raise CommandError(f"no {self.kind.name} matches {one!r}; `ottla {self.kind.command} list` shows them")
            found.update(dict.fromkeys(matches))
        return list(found)

    def _members_count(self, admin: ottla.Admin, group: str) -> int | None:
        """How many members it has; None when there is no such group."""
        from ottla.client.errors import KafkaError
        from ottla.core.errors import ErrorCode

        try:
            return len(self.kind.describe(admin, [group])[group].members)
        except KafkaError as error:
            if error.code is ErrorCode.GROUP_ID_NOT_FOUND:
                return None
            raise


def _named(admin: ottla.Admin, given: Sequence[str], positions: Collection[TopicPartition]) -> Sequence[TopicPartition]:
    """The partitions meant; a topic that is gone may still have offsets."""
    topics = {tp.topic for tp in positions}
    if all(one in topics for one in given):
        return sorted(tp for tp in positions if tp.topic in given)
    return select_partitions(admin, given)


def _states(given: Sequence[str]) -> list[GroupState]:
    from ottla.client.admin.groups import GroupState

    by_name = {state.value.lower(): state for state in GroupState}
    for name in given:
        if name.lower().replace("-", "") not in by_name:
            raise CommandError(f"groups have no state '{name}'; there are {', '.join(sorted(by_name))}")
    return [by_name[name.lower().replace("-", "")] for name in given]


def _add_groups(parser: ArgumentParser, *, required: bool) -> None:
    action = parser.add_argument(
        "groups",
        nargs="+" if required else "*",
        metavar="GROUP",
        help="names or patterns ('shop-*')" + ("" if required else "; all without"),
    )
    action.completer = complete_groups  # type: ignore[attr-defined]


def _add_group(parser: ArgumentParser) -> None:
    action = parser.add_argument("group", metavar="GROUP")
    action.completer = complete_groups  # type: ignore[attr-defined]


def _add_topics(parser: ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "-t",
        "--topic",
        action="append",
        default=[],
        required=required,
        metavar="TOPIC[:PARTITIONS]",
        help="orders, orders:0,2-4 or 'shop-*'; may be repeated"
        + ("" if required else "; without, all that the group has offsets for"),
    )

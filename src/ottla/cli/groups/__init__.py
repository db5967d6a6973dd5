"""`ottla groups`: consumer groups, of either protocol: who is in them, how far they are; move, delete, kick."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.cli.actions import run_action

if TYPE_CHECKING:
    from ottla.client.admin.groups import MemberDescription

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    from ottla.cli.groups.actions import GroupActions
    from ottla.cli.groups.kinds import Kind
    from ottla.cli.selection import complete_groups

    actions = GroupActions(Kind()).declare(parser)
    kicking = actions.add("kick", _kick, "Remove members from a group of the classic protocol.", changes=True)
    kicking.add_argument("group", metavar="GROUP").completer = complete_groups  # type: ignore[attr-defined]
    kicking.add_argument("members", nargs="*", metavar="MEMBER", help="member, instance or client ids")
    kicking.add_argument("--all", action="store_true", help="all members")
    kicking.add_argument("--reason", metavar="TEXT", help="what the coordinator's log says")


def _kick(options: Namespace) -> int:
    from ottla.cli.connection import open_admin
    from ottla.cli.errors import CommandError
    from ottla.cli.output import Output
    from ottla.client.admin.groups import MemberToRemove

    output = Output(options)
    if bool(options.members) == options.all:
        raise CommandError("say which members to remove, or --all")
    with open_admin(options) as admin:
        members = admin.describe_consumer_groups(options.group)[options.group].members
        chosen = list(members) if options.all else _chosen(members, options.members, options.group)
        rows = [{"member_id": one.member_id, "client_id": one.client_id, "host": one.host} for one in chosen]
        told = ", ".join(one.group_instance_id or one.member_id for one in chosen) or "nobody"
        if options.dry_run:
            output.done(f"would remove {told}", json=rows)
            return 0
        wanted = [
            MemberToRemove(one.group_instance_id) if one.group_instance_id else MemberToRemove(None, one.member_id)
            for one in chosen
        ]
        admin.remove_members_from_consumer_group(options.group, wanted, reason=options.reason)
    output.done(f"removed {told} from {options.group}", json=rows)
    return 0


def _chosen(members: Sequence[MemberDescription], given: Sequence[str], group: str) -> list[MemberDescription]:
    from ottla.cli.errors import CommandError

    found: dict[str, MemberDescription] = {}
    for name in given:
        matches = [one for one in members if name in (one.member_id, one.group_instance_id, one.client_id)]
        if not matches:
            raise CommandError(f"{group} has no member {name!r}; `ottla groups describe {group} -m` shows them")
        found.update({one.member_id: one for one in matches})
    return list(found.values())

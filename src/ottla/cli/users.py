"""`ottla users`: people and programs with a SCRAM credential, and what they may do, by roles (`ottla.cli.roles`).

All of it is Kafka's own: credentials and access rules through the Admin APIs, so it works on Apache Kafka as well.
`ottla acls` shows the same rules one by one.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ottla.cli.acls import principal_text
from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import connection_settings, open_admin
from ottla.cli.errors import CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Column, Output
from ottla.cli.passwords import add_password_arguments, password_of, read_password, write_private
from ottla.cli.roles import ROLES, find_role, roles_of, rules_of, shown_name, split_names

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.acls import AclBinding
    from ottla.client.admin.scram import (
        ScramCredentialInfo,
        ScramMechanism,
        UserScramCredentialDeletion,
        UserScramCredentialUpsertion,
    )
    from ottla.client.admin.tokens import DelegationToken

__all__ = ["add_arguments", "read_password", "run"]

run = run_action

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
DEFAULT_MECHANISM = "SCRAM-SHA-512"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show users, their credentials and roles.", aliases=["ls", "describe"])
    listing.add_argument("users", nargs="*", metavar="USER", help="all that have credentials without")
    showing = actions.add("show", _show, "Show all about a user: credentials, roles, rules, quotas.")
    showing.add_argument("user", metavar="USER")
    creating = actions.add("create", _create, "Make a user with a password and roles.", changes=True)
    creating.add_argument("user", metavar="USER")
    add_password_arguments(creating)
    _add_credential_arguments(creating)
    _add_role_arguments(creating, needed=False)
    creating.add_argument("-o", "--client-config", metavar="FILE", help="write the client's settings there (mode 0600)")
    password = actions.add("passwd", _passwd, "Give a user another password.", aliases=["set"], changes=True)
    password.add_argument("user", metavar="USER")
    add_password_arguments(password)
    _add_credential_arguments(password)
    for name, act, summary in (
        ("grant", _grant, "Give a user a role."),
        ("revoke", _revoke, "Take a role away from a user."),
    ):
        changing = actions.add(name, act, summary, changes=True)
        changing.add_argument("user", metavar="USER", help="alice, or another principal as Group:ops")
        _add_role_arguments(changing, needed=True)
    deleting = actions.add("delete", _delete, "Delete users: credentials and rules.", aliases=["rm"], loses=True)
    deleting.add_argument("users", nargs="+", metavar="USER")
    deleting.add_argument("-m", "--mechanism", action="append", choices=MECHANISMS, help="only this credential")
    deleting.add_argument("--keep-rules", action="store_true", help="leave the access rules as they are")
    actions.add("roles", _roles, "Show what roles there are, and what they mean.", connects=False)


def _add_credential_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-m", "--mechanism", action="append", choices=MECHANISMS, help=f"{DEFAULT_MECHANISM} without; may be repeated"
    )
    parser.add_argument("-i", "--iterations", type=whole(1), default=4096, metavar="N", help="4096 to 16384 (4096)")


def _add_role_arguments(parser: ArgumentParser, *, needed: bool) -> None:
    role = parser.add_argument(
        "-r", "--role", required=needed, metavar="ROLE", help=f"{', '.join(ROLES)}; see `ottla users roles`"
    )
    role.completer = lambda **_: list(ROLES)  # type: ignore[attr-defined]
    for option, what in (("topics", "topics"), ("groups", "groups"), ("transactional-ids", "transactional ids")):
        parser.add_argument(
            f"--{option}", action="append", default=[], metavar="NAME,…", help=f"{what} of the role; 'orders-*', '*'"
        )
    parser.add_argument("--host", default="*", metavar="ADDRESS", help="only from this address, or range 10.0.0.0/8")


# Looking


def _list(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        found = admin.describe_user_scram_credentials(options.users or None)
        rules = _all_rules(admin) if found else None
    roles = {
        user: None if rules is None else roles_of(one for one in rules if one.principal == principal_text(user))
        for user in found
    }
    credentials = [
        {"user": user, "mechanism": _mechanism_name(one.mechanism), "iterations": one.iterations, "roles": roles[user]}
        for user, infos in sorted(found.items())
        for one in infos
    ]
    columns: list[str | Column] = [Column("user", "cyan"), "mechanism", "iterations", "roles"]
    rows = [
        [one["user"], one["mechanism"], one["iterations"], _roles_text(roles[str(one["user"])])] for one in credentials
    ]
    output.table(None, columns, rows, json_rows=credentials)
    return 0


def _show(options: Namespace) -> int:
    output = Output(options)
    user, principal = options.user.removeprefix("User:"), principal_text(options.user)
    with open_admin(options) as admin:
        credentials = _credentials(admin, user) if principal.startswith("User:") else []
        everything = _all_rules(admin)
        rules = None if everything is None else [one for one in everything if one.principal == principal]
        quotas = admin.describe_client_quotas(user=user) if principal.startswith("User:") else {}
    if not credentials and not rules and not quotas:
        raise CommandError(f"nothing is known of {options.user}: no credential, no rule, no quota")
    roles = None if rules is None else roles_of(rules)
    fields = {
        "credentials": [f"{_mechanism_name(one.mechanism)} ({one.iterations} iterations)" for one in credentials],
        "roles": _roles_text(roles),
        "rules": None if rules is None else [_rule_text(one) for one in rules],
        "quotas": [f"{name}={value:g} ({entity})" for entity, own in quotas.items() for name, value in own.items()],
    }
    output.fields(
        principal,
        fields,
        json={
            "principal": principal,
            "credentials": [
                {"mechanism": _mechanism_name(one.mechanism), "iterations": one.iterations} for one in credentials
            ],
            "roles": roles,
            "rules": rules,
            "quotas": {str(entity): own for entity, own in quotas.items()},
        },
    )
    return 0


def _roles(options: Namespace) -> int:
    output = Output(options)
    rows, json_rows = [], []
    for name, role in ROLES.items():
        for at, grant in enumerate(role.grants):
            names = {None: "named", "": "if named"}.get(grant.by_default, grant.by_default)
            operations = ", ".join(one.lower().replace("_", "-") for one in grant.operations)
            rows.append(["" if at else name, "" if at else role.summary, f"{grant.resource} ({names})", operations])
        json_rows.append({"role": name, "summary": role.summary, "grants": role.grants})
    output.table(None, [Column("role", "cyan"), "who has it", "on", "may"], rows, json_rows=json_rows)
    return 0


# Changing


def _create(options: Namespace) -> int:
    from ottla.cli.client_properties import properties_text, scram_settings

    output = Output(options)
    user, mechanisms = options.user, _mechanisms(options)
    rules = _role_rules(options) if options.role is not None else []
    if options.role is None and _names(options):
        raise CommandError("names of topics or groups are for a --role; `ottla users roles` shows which there are")
    password = None if options.dry_run else password_of(options, user)
    with open_admin(options) as admin:
        if _credentials(admin, user):
            raise CommandError(f"{user} is there already; `ottla users passwd` and `ottla users grant` change users")
        if rules:
            admin.describe_acls()  # a cluster without an authorizer says so before anything is changed
        if password is not None:
            _set_password(admin, user, password, mechanisms, options.iterations)
            if rules:
                admin.create_acls(rules)
    shown = password if options.generate else None
    settings = scram_settings(connection_settings(options), user, shown, mechanisms[-1])
    if options.client_config and password is not None:
        written = scram_settings(connection_settings(options), user, password, mechanisms[-1])
        write_private(options.client_config, properties_text(written), replace=False)
    would = "would make" if options.dry_run else "made"
    lines = [f"{would} {user} ({', '.join(mechanisms)})", *(f"{user} may {_rule_text(one)}" for one in rules)]
    if options.client_config:
        lines.append(f"settings for its clients: {options.client_config}")
    elif not options.dry_run:
        lines += ["", "# client.properties: Java's clients, Kafka's tools, Ottla's", properties_text(settings).rstrip()]
    output.done(
        "\n".join(lines),
        json={
            "dry_run": options.dry_run,
            "user": user,
            "mechanisms": mechanisms,
            "rules": rules,
            "settings": settings,
            **({"password": shown} if shown is not None else {}),
        },
    )
    return 0


def _passwd(options: Namespace) -> int:
    output = Output(options)
    mechanisms = _mechanisms(options)
    what = f"{' and '.join(mechanisms)} credential{'s' if len(mechanisms) > 1 else ''} of {options.user}"
    json: dict[str, Any] = {"dry_run": options.dry_run, "user": options.user, "mechanisms": mechanisms}
    password = None if options.dry_run else password_of(options, options.user)
    with open_admin(options) as admin:
        if not _credentials(admin, options.user):  # a misspelled name would be another user who can log in
            raise CommandError(f"{options.user} has no password to change; `ottla users create` gives one")
        if password is not None:
            _set_password(admin, options.user, password, mechanisms, options.iterations)
    if options.generate and password is not None:
        json["password"] = password
        what += f": {password}"
    output.done(f"{'would set' if options.dry_run else 'set'} {what}", json=json)
    return 0


def _grant(options: Namespace) -> int:
    output = Output(options)
    rules = _role_rules(options)
    with open_admin(options) as admin:
        known = set(admin.describe_acls())
        added = [one for one in rules if one not in known]
        if added and not options.dry_run:
            admin.create_acls(added)
    would = "would be allowed to" if options.dry_run else "may now"
    lines = [f"{options.user} {would} {_rule_text(one)}" for one in added]
    output.done(
        "\n".join(lines) or f"{options.user} has the role {options.role} already",
        json={"dry_run": options.dry_run, "user": options.user, "role": options.role, "added": added},
    )
    return 0


def _revoke(options: Namespace) -> int:
    output = Output(options)
    wanted = set(_revoked_rules(options))
    with open_admin(options) as admin:
        own = [one for one in admin.describe_acls() if one.principal == principal_text(options.user)]
        had = roles_of(own).get(options.role, {})
        given = _names(options)
        if not given:
            wanted = {
                rule
                for rule in own
                if shown_name(rule) in had.get(rule.resource_type.name.lower().replace("_", "-"), ())
                and rule.operation.name in _operations(options.role, rule)
                and rule.permission.name == "ALLOW"
                and rule.host == options.host
            }
        removed = [one for one in own if one in wanted]
        kept = _needed_by_others(options.role, own, removed)
        removed = [one for one in removed if one not in kept]
        if not removed:
            raise CommandError(f"{options.user} has no such role; `ottla users show {options.user}` shows what it has")
        if not options.dry_run:
            _remove_rules(admin, removed)
    would = "would no longer be allowed to" if options.dry_run else "may no longer"
    output.done(
        "\n".join(f"{options.user} {would} {_rule_text(one)}" for one in removed),
        json={"dry_run": options.dry_run, "user": options.user, "role": options.role, "removed": removed},
    )
    return 0


def _delete(options: Namespace) -> int:
    from ottla.client.admin.scram import ScramMechanism, UserScramCredentialDeletion

    output = Output(options)
    chosen = {ScramMechanism[one.replace("-", "_")] for one in options.mechanism or MECHANISMS}
    with_rules = not options.keep_rules and options.mechanism is None
    with open_admin(options) as admin:
        known = admin.describe_user_scram_credentials()
        found = {user: known.get(user, []) for user in options.users}
        deletions = [
            UserScramCredentialDeletion(user, one.mechanism)
            for user, infos in found.items()
            for one in sorted(infos)
            if one.mechanism in chosen
        ]
        without = [user for user in options.users if user not in {one.user for one in deletions}]
        if without:
            raise CommandError(f"{without[0]} has no such credential; `ottla users list` shows them")
        principals = {principal_text(user) for user in options.users}
        rules = [one for one in (_all_rules(admin) or ()) if with_rules and one.principal in principals]
        names = [f"{_mechanism_name(one.mechanism)} of {one.user}" for one in deletions]
        if rules:
            names.append(f"{len(rules)} rule{'s' if len(rules) > 1 else ''}")
        if not options.dry_run:
            output.confirm(f"Delete {', '.join(names)}?", options)
            _alter(admin, deletions)
            _remove_rules(admin, rules)
        tokens = _tokens_of(admin, principals)
    would = "would delete" if options.dry_run else "deleted"
    output.done(f"{would} {', '.join(names)}", json={"dry_run": options.dry_run, "deleted": deletions, "rules": rules})
    if tokens:
        output.note(
            f"{len(tokens)} delegation token{'s' if len(tokens) > 1 else ''} of {' and '.join(sorted(principals))} can "
            "still be logged in with; `ottla tokens list` shows them, and their owner or renewers end them"
        )
    return 0


def _tokens_of(admin: ottla.Admin, principals: set[str]) -> list[DelegationToken]:
    """As far as one may see them; none where tokens are not in use."""
    from ottla.client.errors import KafkaError

    try:
        return admin.describe_delegation_token(sorted(principals))
    except KafkaError:
        return []


# Small things


def _mechanisms(options: Namespace) -> list[str]:
    return list(dict.fromkeys(options.mechanism or [DEFAULT_MECHANISM]))


def _mechanism_name(mechanism: ScramMechanism) -> str:
    return mechanism.name.replace("_", "-")


def _set_password(admin: ottla.Admin, user: str, password: str, mechanisms: Iterable[str], iterations: int) -> None:
    from ottla.client.admin.scram import ScramMechanism, UserScramCredentialUpsertion

    _alter(
        admin,
        [
            UserScramCredentialUpsertion(user, password, ScramMechanism[one.replace("-", "_")], iterations)
            for one in mechanisms
        ],
    )


def _alter(
    admin: ottla.Admin, alterations: Sequence[UserScramCredentialUpsertion | UserScramCredentialDeletion]
) -> None:
    """One request for each mechanism: Kafka takes a user once in a request."""
    for mechanism in dict.fromkeys(one.mechanism for one in alterations):
        admin.alter_user_scram_credentials([one for one in alterations if one.mechanism is mechanism])


def _credentials(admin: ottla.Admin, user: str) -> Sequence[ScramCredentialInfo]:
    """The user's credentials, none where there is no such user."""
    return admin.describe_user_scram_credentials().get(user, [])


def _all_rules(admin: ottla.Admin) -> list[AclBinding] | None:
    """The cluster's rules; None where it has none to speak of, or does not tell this client."""
    from ottla.client.errors import KafkaError
    from ottla.core.errors import ErrorCode

    try:
        return admin.describe_acls()
    except KafkaError as error:
        if error.code in (
            ErrorCode.SECURITY_DISABLED,
            ErrorCode.UNSUPPORTED_VERSION,
            ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ):
            return None
        raise


def _remove_rules(admin: ottla.Admin, rules: Iterable[AclBinding]) -> None:
    from ottla.client.admin.acls import AclFilter

    filters = [
        AclFilter(
            one.resource_type,
            one.resource_name,
            one.principal,
            one.operation,
            one.permission,
            one.pattern_type,
            one.host,
        )
        for one in rules
    ]
    if filters:
        admin.delete_acls(filters)


def _names(options: Namespace) -> dict[str, tuple[str, ...]]:
    given = {"topic": options.topics, "group": options.groups, "transactional-id": options.transactional_ids}
    return {kind: names for kind, texts in given.items() if (names := split_names(texts))}


def _role_rules(options: Namespace) -> list[AclBinding]:
    return rules_of(principal_text(options.user), options.role, _names(options), options.host)


def _revoked_rules(options: Namespace) -> list[AclBinding]:
    """The rules of the role for the names given; none without names, which means all of the role."""
    find_role(options.role)
    names = _names(options)
    if not names:
        return []
    named = {grant.resource: names.get(grant.resource, ()) for grant in ROLES[options.role].grants}
    unused = [kind for kind in names if kind not in named]
    if unused:
        raise CommandError(f"the role {options.role} has nothing to do with {unused[0]}s; leave --{unused[0]}s out")
    return rules_of(principal_text(options.user), options.role, named, options.host)


def _operations(role: str, rule: AclBinding) -> tuple[str, ...]:
    kind = rule.resource_type.name.lower().replace("_", "-")
    return next((grant.operations for grant in ROLES[role].grants if grant.resource == kind), ())


def _needed_by_others(role: str, own: Iterable[AclBinding], removed: Sequence[AclBinding]) -> set[AclBinding]:
    """Rules that other roles of the user are made of as well, on the same names: they stay."""
    kept: set[AclBinding] = set()
    for other, names in roles_of(own).items():
        if other == role or _includes(role, other):
            continue
        for rule in removed:
            kind = rule.resource_type.name.lower().replace("_", "-")
            if shown_name(rule) in names.get(kind, ()) and rule.operation.name in _operations(other, rule):
                kept.add(rule)
    return kept


def _includes(role: str, other: str) -> bool:
    """Whether whoever has the role has the other one on the way: a consumer is a reader."""
    mine = {grant.resource: set(grant.operations) for grant in ROLES[role].grants}
    return all(
        set(grant.operations) <= mine.get(grant.resource, set())
        for grant in ROLES[other].grants
        if grant.by_default != ""
    )


def _roles_text(roles: Mapping[str, Mapping[str, Sequence[str]]] | None) -> list[str] | None:
    """`writer (orders-*)`, one for each role."""
    if roles is None:
        return None
    found = []
    for name, resources in roles.items():
        on = "; ".join(
            f"{kind} {', '.join(names)}"
            for kind, names in resources.items()
            if kind != "cluster" and list(names) != ["*"]
        )
        found.append(f"{name} ({on})" if on else name)
    return found


def _rule_text(rule: AclBinding) -> str:
    from ottla.cli.acls import resource_text

    what = "do anything with" if rule.operation.name == "ALL" else rule.operation.name.lower().replace("_", "-")
    denied = "" if rule.permission.name == "ALLOW" else "not "
    host = "" if rule.host == "*" else f" from {rule.host}"
    return f"{denied}{what} {resource_text(rule)}{host}"

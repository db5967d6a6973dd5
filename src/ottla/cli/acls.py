"""`ottla acls`: access rules, written as `ottla acls allow alice read,write topic/orders`.

A resource is `topic/orders`, `topic/orders-*` (all that begin so), `topic/*` (all), `group/…`, `transactional-id/…`,
`delegation-token/…`, `user/…`, `cluster`.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError, suggestion
from ottla.cli.output import Column, Output

if TYPE_CHECKING:
    from ottla.client.admin.acls import AclBinding, AclFilter, AclOperation, AclPatternType, AclResourceType

run = run_action

_RESOURCES = ("topic", "group", "cluster", "transactional-id", "delegation-token", "user")
_ROLES = {
    "produce": (("topic", ("WRITE", "DESCRIBE", "CREATE")), ("transactional-id", ("WRITE", "DESCRIBE"))),
    "consume": (("topic", ("READ", "DESCRIBE")), ("group", ("READ", "DESCRIBE"))),
}
"""What producers and consumers need, so that nobody has to know it by heart."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show access rules.", aliases=["ls", "describe"])
    _add_filter(listing)
    for name, run_it, summary in (
        ("allow", _allow, "Allow a principal something."),
        ("deny", _deny, "Deny a principal something, whatever is allowed elsewhere."),
    ):
        adding = actions.add(name, run_it, summary, changes=True)
        adding.add_argument("principal", metavar="PRINCIPAL", help="alice, User:alice, or '*' for everybody")
        operations = adding.add_argument(
            "operations",
            metavar="OPERATIONS",
            help="read,write,describe,… or all; 'produce' and 'consume' are what producers and consumers need",
        )
        operations.completer = lambda **_: [*_operation_names(), *_ROLES]  # type: ignore[attr-defined]
        adding.add_argument(
            "resources", nargs="+", metavar="RESOURCE", help="topic/orders, topic/orders-*, group/*, cluster"
        )
        adding.add_argument("--host", default="*", metavar="ADDRESS", help="only from this address")
    removing = actions.add("remove", _remove, "Remove the rules that match.", aliases=["rm", "delete"], loses=True)
    _add_filter(removing)


def _add_filter(parser: ArgumentParser) -> None:
    parser.add_argument("resource", nargs="?", metavar="RESOURCE", help="rules of topic/orders, topic/orders-*, group")
    parser.add_argument("-p", "--principal", metavar="NAME", help="rules for alice, or User:alice")
    parser.add_argument("-o", "--operation", metavar="NAME", help="rules for read, write, …")
    parser.add_argument("--permission", choices=("allow", "deny"), help="only what is allowed, or denied")
    parser.add_argument("--host", metavar="ADDRESS", help="rules for an address")
    parser.add_argument("-m", "--match", action="store_true", help="all rules that apply to the resource's name")


def _list(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        _print(output, admin.describe_acls(_filter(options)))
    return 0


def _print(output: Output, acls: list[AclBinding]) -> None:
    found = sorted(acls, key=lambda acl: (acl.resource_type, acl.resource_name, acl.principal, acl.operation))
    rows = [
        [acl.principal, acl.permission, acl.operation, resource_text(acl), "any" if acl.host == "*" else acl.host]
        for acl in found
    ]
    output.table(
        None, [Column("principal", "cyan"), "may", "operation", "resource", "from host"], rows, json_rows=found
    )


def _allow(options: Namespace) -> int:
    return _add(options, allowed=True)


def _deny(options: Namespace) -> int:
    return _add(options, allowed=False)


def _add(options: Namespace, *, allowed: bool) -> int:
    output = Output(options)
    acls = bindings(options.principal, options.operations, options.resources, allowed=allowed, host=options.host)
    with open_admin(options) as admin:
        if options.dry_run:
            known = set(admin.describe_acls())  # also tells whether the cluster has rules at all
            acls = [acl for acl in acls if acl not in known]
        else:
            admin.create_acls(acls)
    would = "would add" if options.dry_run else "added"
    lines = [f"{would}: {_sentence(acl)}" for acl in acls] or ["nothing to add: the rules are there"]
    output.done("\n".join(lines), json={"dry_run": options.dry_run, "added": acls})
    return 0


def _remove(options: Namespace) -> int:
    output = Output(options)
    wanted = _filter(options)
    if not any((options.resource, options.principal, options.operation, options.permission, options.host)):
        raise CommandError("which rules? Name a RESOURCE, a --principal or an --operation; `*` is a principal too")
    with open_admin(options) as admin:
        found = admin.describe_acls(wanted)
        if found and not options.dry_run:
            listed = "; ".join(map(_sentence, found[:5])) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            output.confirm(f"Remove {listed}?", options)
            found = admin.delete_acls(wanted)[wanted]
    would = "would remove" if options.dry_run else "removed"
    lines = [f"{would}: {_sentence(acl)}" for acl in found] or ["no rule matches"]
    output.done("\n".join(lines), json={"dry_run": options.dry_run, "removed": found})
    return 0


def bindings(
    principal: str, operations: str, resources: list[str], *, allowed: bool, host: str = "*"
) -> list[AclBinding]:
    """The rules that the arguments of `allow` and `deny` stand for; raises `CommandError`."""
    from ottla.client.admin.acls import AclBinding, AclOperation, AclPermission

    permission = AclPermission.ALLOW if allowed else AclPermission.DENY
    found: dict[AclBinding, None] = {}
    for text in resources:
        kind, name, pattern = parse_resource(text)
        if name is None:
            raise CommandError(f"which {text}? Write {text}/NAME, or '{text}/*' for all")
        for word in operations.split(","):
            role = _ROLES.get(word.strip().lower())
            if role is None:
                chosen = [parse_operation(word)]
            else:
                names = dict(role).get(kind.name.lower().replace("_", "-"))
                if names is None:
                    kinds = " and ".join(one for one, _ in role)
                    raise CommandError(f"'{word}' is for {kinds}, not for {text}")
                chosen = [AclOperation[one] for one in names]
            for operation in chosen:
                found[AclBinding(kind, name, principal_text(principal), operation, permission, pattern, host)] = None
    return list(found)


def parse_resource(text: str) -> tuple[AclResourceType, str | None, AclPatternType]:
    """Kind, name (None: any) and pattern of `topic/orders-*`; raises `CommandError`."""
    from ottla.client.admin.acls import AclPatternType, AclResourceType

    kind, separator, name = text.partition("/")
    kind = kind.lower()
    if kind not in _RESOURCES:
        hint = suggestion(kind, _RESOURCES, "write topic/NAME, group/NAME, transactional-id/NAME, cluster")
        raise CommandError(f"{text!r} is no resource; {hint}")
    found = AclResourceType[kind.upper().replace("-", "_")]
    if kind == "cluster":
        return found, "kafka-cluster", AclPatternType.LITERAL
    if not separator:
        return found, None, AclPatternType.LITERAL
    if not name:
        raise CommandError(f"which {kind}? Write {kind}/NAME, or '{kind}/*' for all")
    if name.endswith("*") and name != "*":
        return found, name[:-1], AclPatternType.PREFIXED
    return found, name, AclPatternType.LITERAL


def parse_operation(text: str) -> AclOperation:
    """The operation of a word, `describe-configs`; raises `CommandError`."""
    from ottla.client.admin.acls import AclOperation

    name = text.strip().lower().replace("_", "-")
    names = _operation_names()
    if name not in names:
        words = [*names, *_ROLES]
        raise CommandError(
            f"there is no operation {text!r}; {suggestion(name, words, 'there are ' + ', '.join(words))}"
        )
    return AclOperation[name.upper().replace("-", "_")]


def principal_text(text: str) -> str:
    """`alice` is `User:alice`."""
    return text if ":" in text else f"User:{text}"


def resource_text(acl: AclBinding) -> str:
    """The resource as it is written on the command line."""
    kind = acl.resource_type.name.lower().replace("_", "-")
    if kind == "cluster":
        return kind
    return f"{kind}/{acl.resource_name}{'*' if acl.pattern_type.name == 'PREFIXED' else ''}"


def _filter(options: Namespace) -> AclFilter:
    from ottla.client.admin.acls import AclFilter, AclOperation, AclPatternType, AclPermission, AclResourceType

    kind, name, pattern = (
        (AclResourceType.ANY, None, AclPatternType.ANY)
        if options.resource is None
        else parse_resource(options.resource)
    )
    if name is None:
        pattern = AclPatternType.ANY
    elif options.match:
        pattern = AclPatternType.MATCH
    return AclFilter(
        kind,
        name,
        None if options.principal is None else principal_text(options.principal),
        AclOperation.ANY if options.operation is None else parse_operation(options.operation),
        AclPermission.ANY if options.permission is None else AclPermission[options.permission.upper()],
        pattern,
        options.host,
    )


def _operation_names() -> list[str]:
    from ottla.client.admin.acls import AclOperation

    return [one.name.lower().replace("_", "-") for one in AclOperation if one > AclOperation.ANY]


def _sentence(acl: AclBinding) -> str:
    host = "" if acl.host == "*" else f" from {acl.host}"
    may = "may" if acl.permission.name == "ALLOW" else "may not"
    operation = "do anything with" if acl.operation.name == "ALL" else acl.operation.name.lower().replace("_", "-")
    return f"{acl.principal} {may} {operation} {resource_text(acl)}{host}"

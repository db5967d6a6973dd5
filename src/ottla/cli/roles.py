"""What a role of `ottla users` means: the access rules behind it, in one table. The cluster knows rules only.

A role is a word for rules that belong together, so a user's roles are read off the rules there are: whoever has all
rules of a role for a name has the role, however it came by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.cli.errors import CommandError, suggestion

if TYPE_CHECKING:
    from ottla.client.admin.acls import AclBinding

EVERYTHING: Final = "*"
CLUSTER_NAME: Final = "kafka-cluster"
RESOURCES: Final = ("topic", "group", "transactional-id", "delegation-token", "user", "cluster")


class Grant(NamedTuple):
    """Operations on one kind of resource. `by_default` are the names it is for when nobody says any: "" is none, the
    grant is left out then; None: somebody has to."""

    resource: str
    operations: tuple[str, ...]
    by_default: str | None = None


class Role(NamedTuple):
    """`summary` ends the sentence "Who has the role …"."""

    summary: str
    grants: tuple[Grant, ...]


ROLES: Final[Mapping[str, Role]] = {
    "reader": Role(
        "reads topics, without a group unless --groups names some",
        (Grant("topic", ("READ", "DESCRIBE")), Grant("group", ("READ", "DESCRIBE"), "")),
    ),
    "consumer": Role(
        "reads topics as a member of groups",
        (Grant("topic", ("READ", "DESCRIBE")), Grant("group", ("READ", "DESCRIBE"))),
    ),
    "writer": Role(
        "writes to topics and makes them; also in transactions that --transactional-ids names",
        (
            Grant("topic", ("WRITE", "DESCRIBE", "CREATE")),
            Grant("transactional-id", ("WRITE", "DESCRIBE"), ""),
        ),
    ),
    "owner": Role(
        "does anything with topics, groups and transactions of these names",
        (Grant("topic", ("ALL",)), Grant("group", ("ALL",), ""), Grant("transactional-id", ("ALL",), "")),
    ),
    "monitor": Role(
        "sees what there is and how it is set up, but no record",
        (
            Grant("topic", ("DESCRIBE", "DESCRIBE_CONFIGS"), EVERYTHING),
            Grant("group", ("DESCRIBE", "DESCRIBE_CONFIGS"), EVERYTHING),
            Grant("transactional-id", ("DESCRIBE",), EVERYTHING),
            Grant("cluster", ("DESCRIBE", "DESCRIBE_CONFIGS"), CLUSTER_NAME),
        ),
    ),
    "operator": Role(
        "runs the cluster: topics, groups, settings; reads and writes no record, gives nobody rights",
        (
            Grant("topic", ("DESCRIBE", "CREATE", "DELETE", "ALTER", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"), EVERYTHING),
            Grant("group", ("DESCRIBE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"), EVERYTHING),
            Grant("transactional-id", ("DESCRIBE",), EVERYTHING),
            Grant("cluster", ("DESCRIBE", "CREATE", "DESCRIBE_CONFIGS"), CLUSTER_NAME),
        ),
    ),
    "admin": Role(
        "does anything, and gives rights to others",
        (
            Grant("topic", ("ALL",), EVERYTHING),
            Grant("group", ("ALL",), EVERYTHING),
            Grant("transactional-id", ("ALL",), EVERYTHING),
            Grant("delegation-token", ("ALL",), EVERYTHING),
            Grant("user", ("ALL",), EVERYTHING),
            Grant("cluster", ("ALL",), CLUSTER_NAME),
        ),
    ),
}
"""The roles there are. Settings of brokers and quotas, reassignments and elections take Alter on the cluster, which is
also what gives rights: they are for `admin`."""

Names = Mapping[str, tuple[str, ...]]
"""Names by kind of resource; `orders-*` is all that begin so, `*` all."""


def find_role(name: str) -> Role:
    """The role of that name. Raises `CommandError`."""
    role = ROLES.get(name)
    if role is None:
        raise CommandError(f"there is no role {name!r}; {suggestion(name, ROLES, 'there are ' + ', '.join(ROLES))}")
    return role


def rules_of(principal: str, role_name: str, names: Names, host: str = "*") -> list[AclBinding]:
    """The rules that give somebody a role. Raises `CommandError` for names that are missing, or that the role has no
    use for."""
    role = find_role(role_name)
    unused = [kind for kind in names if kind not in {grant.resource for grant in role.grants}]
    if unused:
        raise CommandError(f"the role {role_name} has nothing to do with {unused[0]}s; leave --{unused[0]}s out")
    found: dict[AclBinding, None] = {}
    for grant in role.grants:
        given = names.get(grant.resource)
        if given is None:
            if grant.by_default is None:
                raise CommandError(
                    f"a {role_name} of which {grant.resource}s? Say --{grant.resource}s NAME, 'NAME-*' or '*'"
                )
            given = (grant.by_default,) if grant.by_default else ()
        for name in given:
            for rule in _rules(principal, grant, name, host):
                found[rule] = None
    return list(found)


def roles_of(rules: Iterable[AclBinding]) -> dict[str, dict[str, list[str]]]:
    """The roles that the allowing rules of one principal come to: role → kind of resource → names.

    Roles that a greater one on the same names includes are left out.
    """
    allowed: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        if rule.permission.name == "ALLOW" and rule.host == "*":
            kind = rule.resource_type.name.lower().replace("_", "-")
            allowed.setdefault((kind, shown_name(rule)), set()).add(rule.operation.name)
    found: dict[str, dict[str, list[str]]] = {}
    for role_name, role in ROLES.items():
        names: dict[str, list[str]] = {}
        for grant in role.grants:
            having = [
                name
                for (kind, name), operations in sorted(allowed.items())
                if kind == grant.resource and operations.issuperset(grant.operations)
            ]
            if having:
                names[grant.resource] = having
            elif grant.by_default != "":
                break
        else:
            found[role_name] = names
    for lesser, greater in (("reader", "consumer"), ("owner", "admin"), ("monitor", "operator")):
        if lesser in found and greater in found and _covers(found[greater], found[lesser]):
            del found[lesser]
    return found


def shown_name(rule: AclBinding) -> str:
    """The name of the rule's resource as one writes it: `orders-*` for a prefix."""
    return f"{rule.resource_name}*" if rule.pattern_type.name == "PREFIXED" else rule.resource_name


def split_names(given: Iterable[str]) -> tuple[str, ...]:
    """`["a,b", "c"]` as names, each once."""
    return tuple(dict.fromkeys(name.strip() for text in given for name in text.split(",") if name.strip()))


def _rules(principal: str, grant: Grant, name: str, host: str) -> Iterable[AclBinding]:
    from ottla.client.admin.acls import AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType

    is_prefix = name.endswith("*") and name != "*"
    for operation in grant.operations:
        yield AclBinding(
            AclResourceType[grant.resource.upper().replace("-", "_")],
            name[:-1] if is_prefix else name,
            principal,
            AclOperation[operation],
            AclPermission.ALLOW,
            AclPatternType.PREFIXED if is_prefix else AclPatternType.LITERAL,
            host,
        )


def _covers(greater: Mapping[str, list[str]], lesser: Mapping[str, list[str]]) -> bool:
    return all(set(names) <= set(greater.get(kind, ())) for kind, names in lesser.items())

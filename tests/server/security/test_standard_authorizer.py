"""Who may do what: the order of Kafka's evaluation, and the index against an evaluation that goes through all ACLs."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from random import Random

import pytest

from ottla.core.acl import CLUSTER_NAME, AclOperation, AclPermissionType, PatternType, ResourceType
from ottla.core.errors import ErrorCode
from ottla.security.errors import SecurityConfigError
from ottla.server.security import standard_authorizer
from ottla.server.security.authorizer import Acl, AuthorizerNotReadyError
from ottla.server.security.standard_authorizer import StandardAuthorizer

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
READ, WRITE, DESCRIBE, ALL = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE, AclOperation.ALL
ALLOW, DENY = AclPermissionType.ALLOW, AclPermissionType.DENY
LITERAL, PREFIXED = PatternType.LITERAL, PatternType.PREFIXED


def acl(
    name: str,
    operation: AclOperation = READ,
    *,
    principal: str = "User:alice",
    host: str = "*",
    permission: AclPermissionType = ALLOW,
    pattern: PatternType = LITERAL,
    kind: ResourceType = TOPIC,
) -> Acl:
    return (kind, name, pattern, principal, host, operation, permission)


def authorizer(*acls: Acl, **settings: str) -> StandardAuthorizer:
    made = StandardAuthorizer({name.replace("_", "."): text for name, text in settings.items()})
    made.load({number.to_bytes(16, "big"): one for number, one in enumerate(acls)})
    return made


def may(
    asked: StandardAuthorizer,
    name: str,
    operation: AclOperation = READ,
    *,
    principal: str = "User:alice",
    groups: tuple[str, ...] = (),
    host: str = "10.1.2.3",
    kind: ResourceType = TOPIC,
) -> bool:
    return asked.authorize(principal, groups, host, operation, kind, name)


def test_nobody_may_anything_without_an_acl() -> None:
    assert not may(authorizer(), "orders")


def test_everybody_may_what_no_acl_is_about_when_the_settings_say_so() -> None:
    asked = authorizer(acl("orders", principal="User:bob"), allow_everyone_if_no_acl_found="TRUE")
    assert may(asked, "payments")
    assert not may(asked, "orders")
    assert not may(authorizer(acl("*", principal="User:bob"), allow_everyone_if_no_acl_found="true"), "payments")


def test_acls_for_a_name_a_prefix_and_all_names() -> None:
    asked = authorizer(
        acl("orders"), acl("pay", pattern=PREFIXED), acl("*", WRITE), acl("*", principal="User:bob", pattern=PREFIXED)
    )
    assert may(asked, "orders")
    assert not may(asked, "orders2")
    assert may(asked, "payments")
    assert may(asked, "pay")
    assert not may(asked, "pa")
    assert may(asked, "anything", WRITE)
    assert not may(asked, "payments", principal="User:bob")  # a prefix * is a star, not everything
    assert not may(asked, "orders", kind=GROUP)


def test_a_denial_goes_before_all_that_is_allowed() -> None:
    asked = authorizer(
        acl("*", ALL),
        acl("secret-", ALL, pattern=PREFIXED, permission=DENY),
        acl("orders", WRITE, permission=DENY),
        acl("nobody", principal="User:*", permission=DENY),
    )
    assert may(asked, "orders")
    assert not may(asked, "orders", WRITE)
    assert not may(asked, "secret-plans")
    assert not may(asked, "nobody")


def test_what_is_allowed_implies_describe_and_what_is_denied_implies_nothing() -> None:
    alter_configs, describe_configs = AclOperation.ALTER_CONFIGS, AclOperation.DESCRIBE_CONFIGS
    for operation in (READ, WRITE, AclOperation.DELETE, AclOperation.ALTER, ALL):
        assert may(authorizer(acl("orders", operation)), "orders", DESCRIBE)
    for operation in (AclOperation.CREATE, alter_configs, describe_configs):
        assert not may(authorizer(acl("orders", operation)), "orders", DESCRIBE)
    assert may(authorizer(acl("orders", alter_configs)), "orders", describe_configs)
    assert not may(authorizer(acl("orders", describe_configs)), "orders", alter_configs)
    assert not may(authorizer(acl("orders", DESCRIBE)), "orders")
    assert may(authorizer(acl("orders", ALL), acl("orders", READ, permission=DENY)), "orders", DESCRIBE)


@pytest.mark.parametrize(
    ("host", "client", "matches"),
    [
        ("*", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.4", "10.1.2.3", False),
        ("10.1.0.0/16", "10.1.2.3", True),
        ("10.1.2.3/16", "10.1.9.9", True),
        ("10.2.0.0/16", "10.1.2.3", False),
        ("0.0.0.0/0", "10.1.2.3", True),
        ("0.0.0.0/0", "::1", False),
        ("2001:db8::/32", "2001:db8:0:0:0:0:0:7", True),
        ("2001:db8:0:0:0:0:0:7", "2001:db8::7", True),  # Kafka's own way to write it
        ("10.1.2.3", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:0:0/96", "192.168.1.1", True),
        ("0.0.0.0/0", "::ffff:10.1.2.3", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "10.1.2.3", False),
        ("fe80::1", "fe80::1%eth0", True),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("client", "client", True),
        ("10.0.0.0/8", "client", False),
    ],
)
def test_hosts(host: str, client: str, matches: bool) -> None:
    assert may(authorizer(acl("orders", host=host)), "orders", host=client) is matches
    denied = authorizer(acl("*", ALL), acl("orders", host=host, permission=DENY))
    assert may(denied, "orders", host=client) is not matches


def test_super_users_may_everything_even_what_is_denied() -> None:
    asked = authorizer(
        acl("orders", ALL, principal="User:*", permission=DENY),
        super_users="User:admin; User:CN=broker-1,OU=Kafka,O=Example ;Service:backup;Group:operators;",
    )
    for principal in ("User:admin", "User:CN=broker-1,OU=Kafka,O=Example", "Service:backup"):
        assert may(asked, "orders", principal=principal)
    assert may(asked, "orders", principal="User:bob", groups=("people", "operators"))
    for principal in ("User:backup", "User:Admin", "User:operators", "Group:people"):
        assert not may(asked, "orders", principal=principal)


@pytest.mark.parametrize("text", ["admin", "User:admin;broker", ":admin"])
def test_super_users_without_a_type_are_refused(text: str) -> None:
    with pytest.raises(SecurityConfigError, match="Type:name") as caught:
        StandardAuthorizer({"super.users": text})
    assert caught.value.setting == "super.users"


def test_groups_of_a_login_are_principals() -> None:
    asked = authorizer(
        acl("orders", principal="Group:sales"), acl("orders", principal="Group:interns", permission=DENY)
    )
    assert may(asked, "orders", groups=("sales",))
    assert not may(asked, "orders")
    assert not may(asked, "orders", groups=("sales", "interns"))
    assert not may(asked, "orders", principal="User:sales")


def test_only_super_users_are_answered_before_the_acls_are_there() -> None:
    asked = StandardAuthorizer({"super.users": "User:admin", "allow.everyone.if.no.acl.found": "true"})
    assert may(asked, "orders", principal="User:admin")
    with pytest.raises(AuthorizerNotReadyError) as caught:
        may(asked, "orders")
    assert caught.value.code == ErrorCode.UNKNOWN_SERVER_ERROR
    asked.load({})
    assert may(asked, "orders")


def test_a_change_of_acls_changes_decisions_that_were_kept() -> None:
    asked = authorizer()
    assert not may(asked, "orders")
    asked.change({b"1": acl("orders"), b"2": acl("orders")}, [])
    assert may(asked, "orders")
    asked.change({}, [b"1"])
    assert may(asked, "orders")  # there was another one like it
    asked.change({b"3": acl("ord", pattern=PREFIXED)}, [b"2"])
    assert may(asked, "orders")
    asked.change({}, [b"3", b"never there"])
    assert not may(asked, "orders")
    asked.load({b"4": acl("*")})
    assert may(asked, "orders")
    assert asked.describe()["acls"] == 1


def test_decisions_are_forgotten_before_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_authorizer, "MOST_DECISIONS", 10)
    asked = authorizer(acl("topic-", pattern=PREFIXED))
    assert all(may(asked, f"topic-{number}") for number in range(35))
    assert asked.describe()["decisions"] <= 10


def test_operations_are_a_bit_field() -> None:
    asked = authorizer(acl("orders", READ), acl(CLUSTER_NAME, AclOperation.IDEMPOTENT_WRITE, kind=CLUSTER))
    assert asked.operations("User:alice", (), "h", TOPIC, "orders") == 1 << READ | 1 << DESCRIBE
    assert asked.operations("User:alice", (), "h", CLUSTER, CLUSTER_NAME) == 1 << AclOperation.IDEMPOTENT_WRITE
    assert asked.operations("User:bob", (), "h", TOPIC, "orders") == 0


@pytest.mark.parametrize(
    ("acls", "allowed"),
    [
        ([], False),
        ([acl("orders", WRITE)], True),
        ([acl("ord", WRITE, pattern=PREFIXED)], True),
        ([acl("*", WRITE)], True),
        ([acl("orders", READ)], False),
        ([acl("orders", WRITE, principal="User:bob")], False),
        ([acl("orders", WRITE, host="10.9.9.9")], False),
        ([acl("orders", WRITE), acl("*", WRITE, permission=DENY)], False),
        ([acl("orders", WRITE), acl("orders", WRITE, permission=DENY)], False),
        ([acl("orders", WRITE), acl("ord", ALL, permission=DENY, pattern=PREFIXED)], False),
        ([acl("ord", WRITE, pattern=PREFIXED), acl("o", WRITE, permission=DENY, pattern=PREFIXED)], False),
        ([acl("ord", WRITE, pattern=PREFIXED), acl("orders", WRITE, permission=DENY, pattern=PREFIXED)], True),
        ([acl("ord", WRITE, pattern=PREFIXED), acl("ord", WRITE, permission=DENY)], True),
        ([acl("orders", WRITE), acl("payments", WRITE), acl("orders", WRITE, permission=DENY)], True),
    ],
)
def test_whether_anything_of_a_type_is_allowed(acls: list[Acl], allowed: bool) -> None:
    asked = authorizer(*acls)
    for _ in range(2):  # the second time from what was kept
        assert asked.authorize_by_resource_type("User:alice", (), "10.1.2.3", WRITE, TOPIC) is allowed


# The index against the obvious evaluation


def naive(
    acls: list[Acl],
    everyone: bool,
    principal: str,
    groups: tuple[str, ...],
    host: str,
    operation: int,
    kind: int,
    name: str,
) -> bool:
    """Kafka's documented order, one ACL after the other."""
    principals = {principal, "User:*", *(f"Group:{group}" for group in groups)}
    implied_by = {
        DESCRIBE: {READ, WRITE, AclOperation.DELETE, AclOperation.ALTER},
        AclOperation.DESCRIBE_CONFIGS: {AclOperation.ALTER_CONFIGS},
    }
    found = []
    for one in acls:
        resource_type, pattern_name, pattern, *_ = one
        names = pattern_name in (name, "*") if pattern == LITERAL else name.startswith(pattern_name)
        if resource_type == kind and names:
            found.append(one)
    if not found:
        return everyone
    verdicts = set()
    for _, _, _, who, where, what, permission in found:
        if "/" in where:
            from_there = ip_address(host) in ip_network(where)
        else:
            from_there = where in ("*", host)
        covered = {operation, ALL} | (implied_by.get(AclOperation(operation), set()) if permission == ALLOW else set())
        if who in principals and from_there and what in covered:
            verdicts.add(permission)
    return DENY not in verdicts and ALLOW in verdicts


NAMES = ("a", "ab", "abc", "abcd", "b", "ba", "*")
PRINCIPALS = ("User:alice", "User:bob", "User:*", "Group:staff")
HOSTS = ("*", "10.0.0.1", "10.0.0.2", "10.0.0.0/30", "10.0.0.2/31")
OPERATIONS = [operation for operation in AclOperation if operation >= ALL]


def random_acl(random: Random) -> Acl:
    return (
        random.choice((TOPIC, GROUP)),
        random.choice(NAMES),
        random.choice((LITERAL, PREFIXED)),
        random.choice(PRINCIPALS),
        random.choice(HOSTS),
        random.choice(OPERATIONS),
        random.choice((ALLOW, ALLOW, DENY)),
    )


@pytest.mark.parametrize("seed", range(40))
def test_the_index_decides_as_going_through_all_acls_does(seed: int) -> None:
    random = Random(seed)
    everyone = random.random() < 0.3
    asked = authorizer(allow_everyone_if_no_acl_found=str(everyone).lower())
    known: dict[bytes, Acl] = {}
    for step in range(30):
        added = {f"{step}-{number}".encode(): random_acl(random) for number in range(random.randrange(4))}
        removed = random.sample(list(known), min(len(known), random.randrange(4)))
        asked.change(added, removed)
        known.update(added)
        for acl_id in removed:
            del known[acl_id]
        if random.random() < 0.1:
            asked.load(known)
        for _ in range(20):
            question = (
                random.choice(("User:alice", "User:bob", "User:carol")),
                random.choice(((), ("staff",), ("guests", "staff"))),
                random.choice(("10.0.0.1", "10.0.0.2", "10.0.0.9")),
                random.choice(OPERATIONS[1:]),
                random.choice((TOPIC, GROUP)),
                random.choice((*NAMES[:-1], "abcde", "c", "*b")),
            )
            assert asked.authorize(*question) is naive(list(known.values()), everyone, *question), question
    assert asked.describe()["acls"] == len(known)


def naive_any(acls: list[Acl], principal: str, host: str, operation: int, kind: int) -> bool:
    """KIP-679: something is allowed that no denial covers; only ACLs for the very operation, or for all, count."""
    allowed: list[tuple[int, str]] = []
    denied: list[tuple[int, str]] = []
    for resource_type, name, pattern, who, where, what, permission in acls:
        from_there = ip_address(host) in ip_network(where) if "/" in where else where in ("*", host)
        if resource_type == kind and who in (principal, "User:*") and from_there and what in (operation, ALL):
            (allowed if permission == ALLOW else denied).append((pattern, name))
    if (LITERAL, "*") in denied:
        return False
    for pattern, name in allowed:
        covered = any(
            name.startswith(other) if kind_of == PREFIXED else (pattern, name) == (LITERAL, other)
            for kind_of, other in denied
        )
        if (pattern, name) == (LITERAL, "*") or not covered:
            return True
    return False


@pytest.mark.parametrize("seed", range(20))
def test_whether_anything_is_allowed_agrees_with_going_through_all_acls(seed: int) -> None:
    random = Random(seed)
    for _ in range(30):
        acls = [random_acl(random) for _ in range(random.randrange(8))]
        asked = authorizer(*acls)
        for operation in (READ, WRITE, DESCRIBE):
            question = ("User:alice", random.choice(("10.0.0.1", "10.0.0.9")), operation, TOPIC)
            principal, host, *rest = question
            sample = naive(acls, False, principal, (), host, operation, TOPIC, "hardcode")
            expected = sample or naive_any(acls, *question)
            assert asked.authorize_by_resource_type(principal, (), host, *rest) is expected, (acls, question)

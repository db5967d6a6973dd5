"""What a broker of Apache Kafka and one of Ottla do together where only those get in who belong: SCRAM over TLS for
brokers and clients, certificates at the controller, rules, and Ottla's disk encrypted.

    python -m tests.compatibility.mixed_secure LAYOUT

One JVM: the controller is beside one of the two brokers.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.brokers import BrokerError
from benchmarks.clusters import KAFKA, OTTLA
from ottla import Admin, Producer
from ottla.admin import (
    AclBinding,
    AclFilter,
    AclOperation,
    AclPatternType,
    AclPermission,
    AclResourceType,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from ottla.errors import AuthenticationError, AuthorizationError, KafkaError
from tests.cluster.secured import CLIENT, NODE, scram_jaas
from tests.compatibility.mixed import Mixed, running

LAYOUTS = ("one Kafka, with the controller", "one Ottla, with the controller")
KINDS = (KAFKA, OTTLA)
RECORDS = 100


def each_follows_the_other(mixed: Mixed) -> None:
    """Each broker follows the other with a login of its own, acks=all; replicas are equal, one on an encrypted disk."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("both", [[kafka, ottla], [ottla, kafka]], min_insync_replicas="2")
    mixed.produce("both", RECORDS)
    assert mixed.read("both") == {p: [f"record-{p}-{n}" for n in range(RECORDS)] for p in (0, 1)}
    mixed.wait_in_sync("both")
    mixed.assert_replicas_equal("both")
    assert mixed.secured is not None
    (node,) = mixed.brokers(OTTLA)
    assert not mixed.secured.leaks(node.log_directory)


def topics_move(mixed: Mixed) -> None:
    """A topic moves from one broker to the other, and back."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("moving", [[kafka], [kafka]])
    mixed.produce("moving", RECORDS, "first")
    mixed.move("moving", {0: [ottla], 1: [ottla]})
    mixed.produce("moving", RECORDS, "second")
    mixed.move("moving", {0: [kafka], 1: [kafka]})
    expected = [f"{when}-{{}}-{n}" for when in ("first", "second") for n in range(RECORDS)]
    assert mixed.read("moving") == {p: [one.format(p) for one in expected] for p in (0, 1)}


def rules_hold_on_both(mixed: Mixed) -> None:
    """ACLs that are made at one broker hold on both, until they are removed at the other."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("ruled-here", [[kafka], [ottla]])
    mixed.create("ruled-there", [[kafka], [ottla]])
    for here, there in (KINDS, KINDS[::-1]):
        _rules_hold(mixed, here, there)


def _rules_hold(mixed: Mixed, here: str, there: str) -> None:
    rules = [_allows("ruled-", operation) for operation in (AclOperation.WRITE, AclOperation.DESCRIBE)]
    for topic in ("ruled-here", "ruled-there"):
        assert not any(_may_write(mixed, topic, partition) for partition in (0, 1))
    with _at(mixed, here) as admin:
        admin.create_acls(rules)
    mixed.wait(lambda: _is_known_to_all(mixed, rules), "both brokers know the rules")
    mixed.wait(lambda: all(_may_write(mixed, "ruled-here", p) for p in (0, 1)), f"a rule made at {here} holds")
    with _at(mixed, there) as admin:
        admin.delete_acls(AclFilter(principal=f"User:{CLIENT}"))
    mixed.wait(lambda: _is_known_to_all(mixed, []), "no broker knows the rules")
    mixed.wait(lambda: not any(_may_write(mixed, "ruled-there", p) for p in (0, 1)), f"removed at {there}")


def users_get_in_on_both(mixed: Mixed) -> None:
    """SCRAM users that are made at one broker get in at both, until they have another password, or are gone."""
    for here, there in (KINDS, KINDS[::-1]):
        _users_get_in(mixed, here, there)


def _users_get_in(mixed: Mixed, here: str, there: str) -> None:
    user = f"made-at-{here}"
    with _at(mixed, here) as admin:
        admin.alter_user_scram_credentials(UserScramCredentialUpsertion(user, "first"))
    mixed.wait(lambda: all(_gets_in(mixed, kind, user, "first") for kind in KINDS), f"{user} gets in")
    with _at(mixed, there) as admin:
        admin.alter_user_scram_credentials(UserScramCredentialUpsertion(user, "second"))
    mixed.wait(lambda: all(_gets_in(mixed, kind, user, "second") for kind in KINDS), f"{user} has a new password")
    assert not any(_gets_in(mixed, kind, user, "first") for kind in KINDS)
    with _at(mixed, here) as admin:
        assert user in admin.describe_user_scram_credentials()
        admin.alter_user_scram_credentials(UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512))
    mixed.wait(lambda: not any(_gets_in(mixed, kind, user, "second") for kind in KINDS), f"{user} is gone")


def each_comes_back(mixed: Mixed) -> None:
    """The broker without the controller is killed, comes back, and catches up; nobody was refused who belongs."""
    kafka, ottla = mixed.ids(KAFKA)[0], mixed.ids(OTTLA)[0]
    mixed.create("killed", [[kafka, ottla], [ottla, kafka]], min_insync_replicas="1")
    (node,) = [one for one in mixed.cluster.brokers if not one.place.is_controller]
    node.kill()
    other = kafka if node.place.node_id == ottla else ottla
    mixed.wait(lambda: {p.leader for p in mixed.partitions("killed").values()} == {other}, "the other broker leads")
    mixed.produce("killed", RECORDS)
    node.spawn()
    mixed.wait_in_sync("killed")
    mixed.elect("killed")
    mixed.produce("killed", RECORDS, "again")
    mixed.assert_replicas_equal("killed")
    assert mixed.secured is not None
    refused = [one for one in mixed.secured.refusals() if f'"User:{NODE}' in one]
    assert not refused, refused[:3]


CHECKS: tuple[Callable[[Mixed], None], ...] = (
    each_follows_the_other,
    topics_move,
    rules_hold_on_both,
    each_comes_back,
    users_get_in_on_both,
)
"""Users are the last: when one was removed, Apache Kafka 4.3.1 may know none of a mechanism after its next start,
whoever its controller is: `ScramDelta.apply` forgets a mechanism that is empty for a moment, as a hash has it."""


def _settings(mixed: Mixed, user: str, password: str) -> dict[str, str]:
    assert mixed.secured is not None
    return mixed.secured.java(NODE) | {"sasl.jaas.config": scram_jaas(user, password)}


@contextmanager
def _at(mixed: Mixed, kind: str) -> Iterator[Admin]:
    """An administrator who asks the broker of this kind, and no other: the controller hears it from there."""
    assert mixed.secured is not None
    (node,) = mixed.brokers(kind)
    with Admin(node.bootstrap, mixed.secured.java(NODE)) as admin:
        yield admin


def _allows(prefix: str, operation: AclOperation) -> AclBinding:
    return AclBinding(
        AclResourceType.TOPIC, prefix, f"User:{CLIENT}", operation, AclPermission.ALLOW, AclPatternType.PREFIXED
    )


def _is_known_to_all(mixed: Mixed, rules: list[AclBinding]) -> bool:
    found = []
    for kind in KINDS:
        with _at(mixed, kind) as admin:
            found.append(set(admin.describe_acls(AclFilter(principal=f"User:{CLIENT}"))))
    return all(one == set(rules) for one in found)


def _may_write(mixed: Mixed, topic: str, partition: int) -> bool:
    assert mixed.secured is not None
    try:
        with Producer(mixed.bootstrap, mixed.secured.java(), enable_idempotence=False) as producer:
            producer.send(topic, b"x", partition=partition).result(20)
    except AuthorizationError:
        return False
    return True


def _gets_in(mixed: Mixed, kind: str, user: str, password: str) -> bool:
    (node,) = mixed.brokers(kind)
    try:
        with Admin(node.bootstrap, _settings(mixed, user, password)) as admin:
            admin.list_topics()
    except AuthenticationError:
        return False
    return True


def main() -> int:
    for layout in sys.argv[1:] or LAYOUTS:
        with tempfile.TemporaryDirectory() as directory, running(layout, Path(directory), is_secure=True) as mixed:
            for check in CHECKS:
                check(mixed)
                print(f"{layout}: {check.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (AssertionError, BrokerError, KafkaError) as error:
        sys.exit(f"{type(error).__name__}: {error}")

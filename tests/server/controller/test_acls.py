"""ACLs are added and removed: every refusal with Kafka's code and words, and what acceptance comes to."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.metadata_records import AccessControlEntryRecord, RemoveAccessControlEntryRecord
from ottla.server.controller import acls as acl_commands
from ottla.server.controller.configs import ACCEPTED
from ottla.server.metadata.difference import difference
from ottla.server.metadata.image import AclImage
from ottla.server.security.acl_filter import AclFilter
from tests.server.controller.worlds import World

ALICE_READS = AclImage(2, "orders", 3, "User:alice", "*", 3, 3)
ALL = AclFilter(1, None, 1, None, None, 1, 1)


def create(world: World, *acls: AclImage) -> Any:
    return world.do(world.core.create_acls(acls))


def delete(world: World, *filters: AclFilter) -> Any:
    return world.do(world.core.delete_acls(filters))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"resource_type": 1}, "Invalid resourceType ANY"),
        ({"resource_type": 0}, "Invalid resourceType UNKNOWN"),
        ({"resource_type": 99}, "Invalid resourceType UNKNOWN"),
        ({"pattern_type": 1}, "Invalid patternType ANY"),
        ({"pattern_type": 2}, "Invalid patternType MATCH"),
        ({"pattern_type": 9}, "Invalid patternType UNKNOWN"),
        ({"operation": 1}, "Invalid operation ANY"),
        ({"operation": 77}, "Invalid operation UNKNOWN"),
        ({"permission_type": 1}, "Invalid permissionType ANY"),
        ({"permission_type": 4}, "Invalid permissionType UNKNOWN"),
        ({"resource_name": ""}, "Resource name should not be empty"),
        ({"principal": "alice"}, "Could not parse principal from `alice` (no colon is present"),
        ({"host": "10.0.0.0/99"}, "Invalid host `10.0.0.0/99`: not a network such as 10.0.0.0/8"),
    ],
)
def test_what_cannot_be_an_acl_is_refused(changes: dict[str, Any], text: str) -> None:
    world = World()
    [refusal, accepted] = create(world, ALICE_READS._replace(**changes), ALICE_READS)
    assert refusal.code == ErrorCode.INVALID_REQUEST
    assert text in refusal.text
    assert accepted == ACCEPTED
    assert list(world.core.image.acls.values()) == [ALICE_READS]


def test_an_acl_is_there_once() -> None:
    world = World()
    network = ALICE_READS._replace(host="10.0.0.0/8")
    before = len(world.records)
    assert create(world, ALICE_READS, ALICE_READS, network) == [ACCEPTED] * 3
    assert create(world, ALICE_READS) == [ACCEPTED]
    written = world.records[before:]
    assert [type(record) for record in written] == [AccessControlEntryRecord] * 2
    assert list(world.core.image.acls.values()) == [ALICE_READS, network]
    assert len(world.core.image.acls) == len({record.id for record in written}) == 2
    # Again after it was removed.
    assert [len(one.acls) for one in delete(world, ALL)] == [2]
    assert create(world, ALICE_READS) == [ACCEPTED]
    assert list(world.core.image.acls.values()) == [ALICE_READS]


def test_filters_remove_what_they_match() -> None:
    world = World()
    prefixed = AclImage(2, "ord", 4, "User:bob", "10.0.0.1", 2, 2)
    every = AclImage(2, "*", 3, "User:alice", "*", 8, 3)
    group = AclImage(3, "orders", 3, "User:alice", "*", 3, 3)
    create(world, ALICE_READS, prefixed, every, group)

    def found(**changes: Any) -> list[AclImage]:
        return list(ALL._replace(**changes).matching(world.core.image.acls).values())

    assert found() == [ALICE_READS, prefixed, every, group]
    assert found(resource_type=3) == [group]
    assert found(resource_name="orders") == [ALICE_READS, group]
    assert found(resource_name="orders", pattern_type=2) == [ALICE_READS, prefixed, every, group]
    assert found(resource_name="order", pattern_type=2) == [prefixed, every]
    assert found(resource_name="payments", pattern_type=2) == [every]
    assert found(resource_name="*") == [every]
    assert found(resource_name="ord", pattern_type=3) == []
    assert found(resource_name="ord", pattern_type=4) == [prefixed]
    assert found(principal="User:bob") == found(host="10.0.0.1") == found(operation=2) == found(permission_type=2)
    before = len(world.records)
    twice = delete(world, ALL._replace(resource_type=3), ALL._replace(principal="User:alice"))
    assert [list(removal.acls) for removal in twice] == [[group], [ALICE_READS, every, group]]
    assert [type(record) for record in world.records[before:]] == [RemoveAccessControlEntryRecord] * 3
    assert list(world.core.image.acls.values()) == [prefixed]
    assert [removal.acls for removal in delete(world, ALL._replace(resource_type=3))] == [[]]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"resource_type": 99}, "Unknown patternFilter."),
        ({"pattern_type": 99}, "Unknown patternFilter."),
        ({"operation": 99}, "Unknown entryFilter."),
        ({"permission_type": 99}, "Unknown entryFilter."),
    ],
)
def test_filters_that_cannot_be_are_refused_one_by_one(changes: dict[str, int], text: str) -> None:
    world = World()
    create(world, ALICE_READS)
    refused, done = delete(world, ALL._replace(**changes), ALL)
    assert (refused.refusal.code, refused.refusal.text) == (ErrorCode.INVALID_REQUEST, text)
    assert not refused.acls
    assert list(done.acls) == [ALICE_READS]


def test_a_request_that_is_too_large_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl_commands, "MOST_RECORDS", 3)
    world = World()
    many = [ALICE_READS._replace(resource_name=f"topic-{number}") for number in range(4)]
    with pytest.raises(ApiError, match="excessively large") as refused:
        world.core.create_acls(many)
    assert refused.value.code == ErrorCode.POLICY_VIOLATION
    create(world, *many[:3])
    create(world, many[3])
    with pytest.raises(ApiError, match="Cannot remove more than 3 acls") as refused:
        world.core.delete_acls([ALL])
    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert len(world.core.image.acls) == 4


def test_who_missed_the_records_hears_of_the_difference() -> None:
    world = World()
    create(world, ALICE_READS, ALICE_READS._replace(operation=4))
    before = world.core.image
    delete(world, ALL._replace(operation=4))
    create(world, ALICE_READS._replace(operation=5))
    delta = difference(before, world.core.image)
    changed = sorted((acl_id in before.acls, acl and acl.operation) for acl_id, acl in delta.changed_acls.items())
    assert changed == [(False, 5), (True, None)]
    assert not difference(before, before).changed_acls

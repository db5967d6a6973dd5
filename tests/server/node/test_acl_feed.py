"""When the authorizer of a node hears of ACLs: all at once when they are complete, then what changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ottla.protocol.messages.metadata_records import AccessControlEntryRecord, RemoveAccessControlEntryRecord
from ottla.server.metadata.commits import LeaderAndEpoch
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage
from ottla.server.node.authorization import AclFeed
from ottla.server.security.authorizer import AclOperation, AuthorizerNotReadyError, ResourceType
from ottla.server.security.standard_authorizer import StandardAuthorizer

FIRST, SECOND = b"1" * 16, b"2" * 16


class World:
    """As much of the metadata and of its log as the feed sees."""

    def __init__(self) -> None:
        self.image: MetadataImage = EMPTY_IMAGE
        self.leader = LeaderAndEpoch(-1, 0)
        self.listeners: list[Any] = []
        self.progress: list[Any] = []
        self.log = SimpleNamespace(committed_offset=0)
        self.authorizer = StandardAuthorizer({})
        self.feed = AclFeed(self.authorizer, self, self.log)  # type: ignore[arg-type]

    def subscribe(self, listener: Any) -> None:
        self.listeners.append(listener)

    def subscribe_progress(self, listener: Any) -> None:
        self.progress.append(listener)

    def commit(self, offset: int, *records: Any) -> None:
        delta = MetadataDelta(self.image)
        for record in records:
            delta.replay(record)
        self.image = delta.apply(offset, 1, 0)
        for listener in self.listeners:
            listener(delta, self.image)
        for listener in self.progress:
            listener(offset)

    def may_read(self, name: str) -> bool:
        return self.authorizer.authorize("User:a", (), "h", AclOperation.READ, ResourceType.TOPIC, name)


def allowed(acl_id: bytes, name: str) -> AccessControlEntryRecord:
    values = {"principal": "User:a", "host": "*", "operation": 3, "permission_type": 3}
    return AccessControlEntryRecord(id=acl_id, resource_type=2, resource_name=name, pattern_type=3, **values)


def test_the_authorizer_is_ready_when_all_that_is_committed_was_read() -> None:
    world = World()
    world.log.committed_offset = 3
    world.commit(0, allowed(FIRST, "orders"))
    with pytest.raises(AuthorizerNotReadyError):
        world.may_read("orders")
    world.leader = LeaderAndEpoch(3, 7)
    world.commit(1, RemoveAccessControlEntryRecord(id=FIRST))
    with pytest.raises(AuthorizerNotReadyError):
        world.may_read("orders")
    world.commit(2, allowed(SECOND, "payments"))
    assert not world.may_read("orders")
    assert world.may_read("payments")


def test_changes_are_known_with_the_commit() -> None:
    world = World()
    world.commit(0, allowed(FIRST, "orders"))
    world.feed.load()
    assert world.may_read("orders")
    assert not world.may_read("payments")
    world.commit(1, RemoveAccessControlEntryRecord(id=FIRST), allowed(SECOND, "payments"))
    assert not world.may_read("orders")
    assert world.may_read("payments")
    world.feed.load()  # a second time it is no news
    assert world.authorizer.describe()["acls"] == 1

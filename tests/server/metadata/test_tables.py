"""Large tables that change a little: the same as a dict, whatever is done."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from ottla.protocol.messages.metadata_records import AccessControlEntryRecord, RemoveAccessControlEntryRecord
from ottla.server.metadata import tables
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE
from ottla.server.metadata.records import MetadataError
from ottla.server.metadata.tables import Layered, changed


@pytest.mark.parametrize("seed", range(10))
def test_a_table_is_what_a_dict_would_be(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SMALL", 24)
    random = Random(seed)
    table: Mapping[int, str] = {}
    model: dict[int, str] = {}
    layered = 0
    for step in range(400):
        removed = tuple(random.sample(sorted(model), min(len(model), random.choice([0, 0, 0, 1, 5]))))
        changes = {random.randrange(200): f"value {step}" for _ in range(random.choice([0, 1, 2, 10]))}
        before, was = table, dict(model)
        table = changed(table, changes, removed)
        for key in removed:
            del model[key]
        model.update(changes)
        assert dict(table) == model
        assert table == model
        assert len(table) == len(model)
        assert sorted(table.items()) == sorted(model.items())
        assert list(table.items()) == [(key, table[key]) for key in table]
        assert list(table.values()) == [table[key] for key in table]
        for key in range(0, 200, 7):
            assert (key in table) == (key in model)
            assert table.get(key) == model.get(key)
            assert table.get(key, "nothing") == model.get(key, "nothing")
            if key in model:
                assert table[key] == model[key]
            else:
                with pytest.raises(KeyError):
                    table[key]
        assert dict(before) == was, "the one before stays as it is"
        layered += isinstance(table, Layered)
    assert layered > 100


def test_what_replaces_an_entry_stands_in_its_place() -> None:
    table: Mapping[int, str] = dict.fromkeys(range(tables.SMALL + 1), "old")
    table = changed(table, {7: "new", -1: "added"})
    assert isinstance(table, Layered)
    assert list(table) == [*range(tables.SMALL + 1), -1]
    assert table[7] == "new"


def test_a_change_of_one_acl_among_many_does_not_copy_them() -> None:
    """Nor does it forget one: what a commit adds and removes is what is different afterwards."""
    delta = MetadataDelta(EMPTY_IMAGE)
    for number in range(5000):
        delta.replay(_acl(number))
    image = delta.apply(1, 1, 1)
    model = dict(image.acls)
    for step in range(300):
        delta = MetadataDelta(image)
        removed = step.to_bytes(16)
        delta.replay(_acl(10_000 + step))
        delta.replay(RemoveAccessControlEntryRecord(id=removed))
        delta.replay(_acl(20_000))
        delta.replay(RemoveAccessControlEntryRecord(id=(20_000).to_bytes(16)))
        with pytest.raises(MetadataError, match="does not exist"):
            delta.replay(RemoveAccessControlEntryRecord(id=removed))
        assert delta.changed == {"acls"}
        before, image = image, delta.apply(step, 1, 1)
        added = (10_000 + step).to_bytes(16)
        assert added not in before.acls
        model[added] = image.acls[added]
        del model[removed]
        assert isinstance(image.acls, Layered) or len(image.acls) == len(model)
    assert image.acls == model


def _acl(number: int) -> AccessControlEntryRecord:
    return AccessControlEntryRecord(
        id=number.to_bytes(16),
        resource_type=2,
        resource_name=f"topic-{number}",
        pattern_type=3,
        principal="User:alice",
        host="*",
        operation=3,
        permission_type=3,
    )

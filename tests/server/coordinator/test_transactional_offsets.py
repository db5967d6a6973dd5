"""Offsets committed inside a transaction: pending until the marker, whatever order the log has."""

from __future__ import annotations

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.offset_fetch import OffsetFetchRequestTopics
from ottla.server.coordinator import group_records
from ottla.server.coordinator.group_records import CommittedOffset
from tests.server.coordinator.driver import Driver

PRODUCER = 9


def replay(driver: Driver, offset: int, record_offset: int, producer_id: int = -1) -> None:
    committed = CommittedOffset(offset, -1, "", 1, None, ZERO_UUID)
    driver.shard.replay(group_records.offset_commit("g", "t", 0, committed), record_offset, producer_id)


def fetch(driver: Driver, *, require_stable: bool = False) -> int | str:
    asked = [OffsetFetchRequestTopics(name="t", partition_indexes=[0])]
    found = driver.shard.offsets.fetch("g", asked, require_stable=require_stable)[0].partitions[0]
    return found.committed_offset if not found.error_code else ErrorCode(found.error_code).name


def test_committed_transaction() -> None:
    driver = Driver()
    replay(driver, 1, 0)
    replay(driver, 5, 1, PRODUCER)
    assert fetch(driver) == 1
    assert fetch(driver, require_stable=True) == "UNSTABLE_OFFSET_COMMIT"
    driver.shard.replay_end_of_transaction(PRODUCER + 1, committed=True)
    assert fetch(driver) == 1
    driver.shard.replay_end_of_transaction(PRODUCER, committed=True)
    assert fetch(driver) == fetch(driver, require_stable=True) == 5


def test_aborted_transaction() -> None:
    driver = Driver()
    replay(driver, 5, 1, PRODUCER)
    driver.shard.replay_end_of_transaction(PRODUCER, committed=False)
    assert fetch(driver, require_stable=True) == -1


def test_a_later_plain_commit_wins_over_the_transaction() -> None:
    driver = Driver()
    replay(driver, 5, 1, PRODUCER)
    replay(driver, 7, 2)
    driver.shard.replay_end_of_transaction(PRODUCER, committed=True)
    assert fetch(driver) == 7


def test_a_deleted_offset_does_not_come_back_with_the_marker() -> None:
    driver = Driver()
    replay(driver, 5, 1, PRODUCER)
    records = driver.shard.delete_group("g").records
    assert records is not None
    for number, record in enumerate(records):
        driver.shard.replay(record, 2 + number, -1)
    driver.shard.replay_end_of_transaction(PRODUCER, committed=True)
    assert fetch(driver) == -1
    driver.shard.check_invariants()


def test_open_transactions_keep_offsets_and_group_from_expiring() -> None:
    driver = Driver()
    replay(driver, 1, 0)
    replay(driver, 5, 1, PRODUCER)
    driver.elapsed_ms = driver.settings.offsets_retention_ms + 1
    assert driver.shard.expire(driver.now()).records == []
    driver.shard.replay_end_of_transaction(PRODUCER, committed=False)
    assert len(driver.shard.expire(driver.now()).records or ()) == 2

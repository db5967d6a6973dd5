"""Transactional ids, command by command: what follows what, who is fenced, what a repeated request gets."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode as E
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.coordinator.transactions.shard import NoProducerIdError, durable_state
from ottla.server.coordinator.transactions.state import HIGHEST_EPOCH, LAST_CLIENT_EPOCH, NEVER_MS
from tests.server.coordinator.transaction_driver import NO_PRODUCER, Driver, partitions

VERSIONS = (0, 1, 2)


def test_a_transaction_of_version_1_keeps_its_epoch() -> None:
    driver = Driver(1)
    producer = driver.init()
    assert producer == (1001, 0)
    assert driver.state() == "Empty"
    assert driver.add(producer, "t-0", version=0) is E.NONE
    assert driver.add(producer, "t-1", version=0) is E.NONE
    assert driver.transaction().partitions == partitions("t-0", "t-1")
    assert driver.end(producer, version=0) == NO_PRODUCER
    assert driver.state() == "PrepareCommit"
    assert driver.complete() == [("x", producer)]
    assert driver.state() == "CompleteCommit"
    assert driver.add(producer, "t-0", version=0) is E.NONE
    assert driver.end(producer, commit=False, version=0) == NO_PRODUCER
    assert driver.complete() == [("x", producer)]
    assert driver.state() == "CompleteAbort"


def test_a_transaction_of_version_2_bumps_its_epoch_with_the_markers() -> None:
    driver = Driver()
    producer = driver.init()
    driver.add(producer, "t-0")
    assert driver.end(producer) == (1001, 1)
    assert driver.complete() == [("x", (1001, 1))], "the markers have the new epoch"
    assert driver.transaction().producer_epoch == 1
    assert driver.add(producer, "t-0") is E.PRODUCER_FENCED
    assert driver.add((1001, 1), "t-0") is E.NONE


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_happens_to_a_prepared_transaction_before_its_markers_are_written(version: int) -> None:
    driver = Driver(version)
    producer = driver.init()
    driver.add(producer, "t-0", version=version)
    driver.end(producer, version=version)
    before = driver.transaction()
    following = (before.producer_id, before.producer_epoch)
    assert driver.init() is E.CONCURRENT_TRANSACTIONS
    assert driver.init(expected=(7, 7)) is E.CONCURRENT_TRANSACTIONS
    assert driver.add(following, "t-0") is E.CONCURRENT_TRANSACTIONS
    assert driver.verify(following, "t-0") is E.CONCURRENT_TRANSACTIONS
    assert driver.end(following, version=version) is E.CONCURRENT_TRANSACTIONS
    assert driver.end(following, commit=False, version=version) is E.CONCURRENT_TRANSACTIONS
    assert driver.transaction() is before


def test_unknown_ids_and_foreign_producers() -> None:
    driver = Driver()
    assert driver.add((5, 0), "t-0") is E.INVALID_PRODUCER_ID_MAPPING
    assert driver.verify((5, 0), "t-0") is E.INVALID_PRODUCER_ID_MAPPING
    assert driver.end((5, 0)) is E.INVALID_PRODUCER_ID_MAPPING
    producer_id, epoch = driver.init()
    for add in (driver.add, driver.verify):
        assert add((5, 0), "t-0") is E.INVALID_PRODUCER_ID_MAPPING
        assert add((producer_id, epoch + 1), "t-0") is E.PRODUCER_FENCED
    for version in (0, 2):
        assert driver.end((5, 0), version=version) is E.INVALID_PRODUCER_ID_MAPPING
        assert driver.end((producer_id, epoch + 1), version=version) is E.PRODUCER_FENCED


def test_verification_tells_which_partitions_belong_to_the_transaction() -> None:
    driver = Driver(1)
    producer = driver.init()
    driver.add(producer, "t-0", version=0)
    found = driver.verify(producer, "t-0", "t-1")
    assert found == dict.fromkeys(partitions("t-0"), E.NONE) | dict.fromkeys(partitions("t-1"), E.TRANSACTION_ABORTABLE)
    driver.end(producer, version=0)
    driver.complete()
    assert set(driver.verify(producer, "t-0").values()) == {E.TRANSACTION_ABORTABLE}


def test_partitions_that_are_there_already_are_not_written_again() -> None:
    driver = Driver()
    producer = driver.init()
    driver.add(producer, "t-0", "t-1")
    written = len(driver.log)
    assert driver.add(producer, "t-1") is E.NONE
    assert len(driver.log) == written


# EndTxn in every state, against Kafka's table


@pytest.mark.parametrize(
    ("state", "commit", "epoch", "expected"),
    [
        ("Empty", False, "current", "bumped"),
        ("Empty", True, "current", E.INVALID_TXN_STATE),
        ("Empty", False, "repeated", E.PRODUCER_FENCED),
        ("Empty", True, "repeated", E.PRODUCER_FENCED),
        ("CompleteAbort", False, "current", "bumped"),
        ("CompleteAbort", True, "current", E.INVALID_TXN_STATE),
        ("CompleteAbort", False, "repeated", "same"),
        ("CompleteAbort", True, "repeated", E.INVALID_TXN_STATE),
        ("CompleteCommit", False, "current", "bumped"),
        ("CompleteCommit", True, "current", E.INVALID_TXN_STATE),
        ("CompleteCommit", False, "repeated", E.INVALID_TXN_STATE),
        ("CompleteCommit", True, "repeated", "same"),
    ],
)
def test_end_of_a_version_2_transaction_where_none_is_open(
    state: str, commit: bool, epoch: str, expected: str | E
) -> None:
    driver = Driver()
    driver.init()
    producer = driver.init()
    if state != "Empty":
        driver.add(producer, "t-0")
        producer = driver.end(producer, commit=state == "CompleteCommit")
        driver.complete()
    assert driver.state() == state
    producer_id, current = producer
    answer = driver.end((producer_id, current - (epoch == "repeated")), commit=commit)
    if expected == "bumped":
        assert answer == (producer_id, current + 1)
        assert driver.complete() == [("x", (producer_id, current + 1))]
        assert driver.state() == "CompleteAbort"
        assert driver.transaction().start_ms > 0
    elif expected == "same":
        assert answer == producer
    else:
        assert answer is expected
    assert not driver.prepared


@pytest.mark.parametrize(
    ("state", "commit", "expected"),
    [
        ("Empty", False, E.INVALID_TXN_STATE),
        ("Empty", True, E.INVALID_TXN_STATE),
        ("CompleteAbort", False, NO_PRODUCER),
        ("CompleteAbort", True, E.INVALID_TXN_STATE),
        ("CompleteCommit", False, E.INVALID_TXN_STATE),
        ("CompleteCommit", True, NO_PRODUCER),
    ],
)
def test_end_of_a_version_1_transaction_where_none_is_open(state: str, commit: bool, expected: object) -> None:
    driver = Driver(1)
    producer = driver.init()
    if state != "Empty":
        driver.add(producer, "t-0", version=0)
        driver.end(producer, commit=state == "CompleteCommit", version=0)
        driver.complete()
    assert driver.end(producer, commit=commit, version=0) == expected
    assert not driver.prepared


# InitProducerId


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_producer_fences_the_one_before(version: int) -> None:
    driver = Driver(version)
    old = driver.init()
    new = driver.init()
    assert new == (old[0], old[1] + 1)
    assert driver.add(old, "t-0", version=version) is E.PRODUCER_FENCED
    assert driver.init(expected=old) is E.PRODUCER_FENCED
    assert driver.add(new, "t-0", version=version) is E.NONE


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_producer_aborts_what_is_open_and_asks_again(version: int) -> None:
    driver = Driver(version)
    old = driver.init()
    driver.add(old, "t-0", version=version)
    assert driver.init() == NO_PRODUCER
    assert driver.state() == "PrepareAbort"
    assert driver.end(old, version=version) is E.CONCURRENT_TRANSACTIONS or version < 2
    assert driver.complete() == [("x", (old[0], old[1] + 1))]
    assert driver.init() == (old[0], old[1] + 2)
    assert driver.end(old, version=version) is E.PRODUCER_FENCED


def test_recovery_bumps_the_epoch_and_may_be_asked_for_again() -> None:
    driver = Driver(1)
    producer = driver.init()
    recovered = driver.init(expected=producer)
    assert recovered == (producer[0], producer[1] + 1)
    assert driver.init(expected=producer) == recovered, "the answer was lost"
    assert driver.init(expected=(producer[0], 17)) is E.PRODUCER_FENCED
    assert driver.init(expected=(999, 0)) is E.PRODUCER_FENCED
    other = driver.init()
    assert driver.init(expected=recovered) is E.PRODUCER_FENCED, "somebody else came meanwhile"
    assert driver.init(expected=other) == (other[0], other[1] + 1)


def test_recovery_of_an_id_that_was_forgotten_begins_anew() -> None:
    driver = Driver()
    assert driver.init(expected=(5, 3)) == (1001, 0)


@pytest.mark.parametrize("recovers", [False, True])
def test_used_up_epochs_get_a_new_producer_id(recovers: bool) -> None:
    driver = Driver(1)
    driver.init()
    last = driver.set_epoch(LAST_CLIENT_EPOCH)
    new = driver.init(expected=last if recovers else NO_PRODUCER)
    assert new == (1002, 0)
    assert driver.transaction().previous_producer_id == 1001
    if recovers:
        assert driver.init(expected=last) == new, "the answer was lost"
    else:
        assert driver.init(expected=last) is E.PRODUCER_FENCED


def test_the_last_epoch_is_for_fencing() -> None:
    driver = Driver(1)
    driver.init()
    last = driver.set_epoch(LAST_CLIENT_EPOCH)
    driver.add(last, "t-0", version=0)
    assert driver.init() == NO_PRODUCER
    assert driver.complete() == [("x", (1001, HIGHEST_EPOCH))]
    assert driver.init() == (1002, 0)


@pytest.mark.parametrize("commit", [False, True])
def test_a_version_2_transaction_that_uses_up_the_epochs_goes_on_with_a_new_producer_id(commit: bool) -> None:
    driver = Driver()
    driver.init()
    last = driver.set_epoch(LAST_CLIENT_EPOCH)
    driver.add(last, "t-0")
    assert driver.end(last, commit=commit) == (1002, 0)
    assert driver.add((1002, 0), "t-0") is E.CONCURRENT_TRANSACTIONS
    assert driver.complete() == [("x", (1001, HIGHEST_EPOCH))]
    assert driver.end(last, commit=commit) == (1002, 0), "the answer was lost"
    assert driver.end(last, commit=not commit) is E.INVALID_TXN_STATE
    assert driver.transaction().next_producer_id == -1
    assert driver.add((1002, 0), "t-0") is E.NONE
    assert driver.end(last, commit=commit) is E.INVALID_PRODUCER_ID_MAPPING


def test_a_fenced_version_2_producer_at_the_last_epoch_gets_a_new_producer_id() -> None:
    driver = Driver()
    driver.init()
    last = driver.set_epoch(LAST_CLIENT_EPOCH)
    driver.add(last, "t-0")
    assert driver.init() == NO_PRODUCER
    assert driver.complete() == [("x", (1001, HIGHEST_EPOCH))]
    assert driver.init() == (1002, 1)


def test_nothing_is_decided_while_there_is_no_producer_id() -> None:
    driver = Driver()
    driver.has_producer_ids = False
    with pytest.raises(NoProducerIdError):
        driver.init()
    assert not driver.log
    driver.has_producer_ids = True
    driver.init()
    last = driver.set_epoch(LAST_CLIENT_EPOCH)
    driver.add(last, "t-0")
    driver.has_producer_ids = False
    with pytest.raises(NoProducerIdError):
        driver.end(last)
    driver.wait(100_000)
    assert driver.state() == "Ongoing"
    driver.has_producer_ids = True
    driver.wait(10_000)
    assert driver.state() == "PrepareAbort", "the timeout tries again"


@pytest.mark.parametrize(
    ("timeout_ms", "two_phase", "code"),
    [
        (0, False, E.INVALID_TRANSACTION_TIMEOUT),
        (-1, False, E.INVALID_TRANSACTION_TIMEOUT),
        (900_001, False, E.INVALID_TRANSACTION_TIMEOUT),
        (1000, True, E.TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    ],
)
def test_refused_timeouts(timeout_ms: int, two_phase: bool, code: E) -> None:
    assert Driver().init(timeout_ms=timeout_ms, two_phase=two_phase) is code


def test_a_two_phase_commit_has_no_timeout() -> None:
    driver = Driver(settings=TransactionSettings(two_phase_commit=True))
    producer = driver.init(timeout_ms=5, two_phase=True)
    assert driver.transaction().timeout_ms == NEVER_MS
    driver.add(producer, "t-0")
    driver.wait(10 * 86_400_000)
    assert driver.state() == "Ongoing"
    assert driver.end(producer) == (producer[0], 1)


# Time


@pytest.mark.parametrize("version", VERSIONS)
def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(version: int) -> None:
    driver = Driver(version)
    producer = driver.init(timeout_ms=25_000)
    driver.wait(5_000)
    driver.add(producer, "t-0", version=version)
    driver.wait(24_000)
    driver.add(producer, "t-1", version=version)
    assert driver.state() == "Ongoing"
    driver.wait(12_000)
    assert driver.state() == "PrepareAbort"
    assert driver.complete() == [("x", (producer[0], producer[1] + 1))]
    assert driver.add(producer, "t-0", version=version) is E.PRODUCER_FENCED
    assert driver.end(producer, version=version) in (
        E.PRODUCER_FENCED,
        E.INVALID_TXN_STATE,
    ), "with version 2 it looks like a repeated end, of another outcome"


def test_a_transaction_begun_by_a_clock_that_was_far_ahead_is_aborted_by_who_has_watched_it_long_enough() -> None:
    driver = Driver()
    driver.ahead_ms = 1_800_000
    producer = driver.init(timeout_ms=25_000)
    driver.add(producer, "t-0")
    driver.ahead_ms = 0
    driver.wait(20_000)
    driver.add(producer, "t-1")
    assert driver.state() == "Ongoing"
    driver.wait(30_000)
    assert driver.state() == "PrepareAbort"


def test_open_transactions_are_watched_after_a_restart() -> None:
    driver = Driver()
    producer = driver.init(timeout_ms=1_000)
    driver.add(producer, "t-0")
    driver.restart()
    driver.wait(20_000)
    assert driver.state() == "PrepareAbort"


def test_nothing_wakes_an_idle_shard_but_the_expiry() -> None:
    driver = Driver()
    assert driver.shard.next_deadline_ms() is not None
    driver.wait(3_600_000)
    assert driver.shard.next_deadline_ms() is None
    producer = driver.init()
    driver.add(producer, "t-0")
    driver.end(producer)
    driver.complete()
    driver.wait(10_000)
    deadline_ms = driver.shard.next_deadline_ms()
    assert deadline_ms is not None
    assert deadline_ms - driver.now().monotonic_ms > 3_000_000


def test_ids_that_are_not_used_any_more_are_forgotten() -> None:
    driver = Driver()
    driver.init("a")
    busy = driver.init("b", timeout_ms=1)
    driver.add(busy, "t-0", key="b")
    driver.wait(86_400_000)
    done = driver.init("c")
    driver.add(done, "t-0", key="c")
    driver.end(done, key="c")
    driver.complete()
    driver.wait(6 * 86_400_000)
    assert sorted(driver.shard.transactions) == ["b", "c"]
    driver.wait(2 * 86_400_000)
    assert not driver.shard.transactions
    assert driver.shard.next_deadline_ms() is None
    driver.restart()
    assert not driver.shard.transactions


# Restarts


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("commit", [False, True])
def test_what_was_decided_goes_on_after_a_restart(version: int, commit: bool) -> None:
    driver = Driver(version)
    producer = driver.init()
    driver.add(producer, "t-0", "u-3", version=version)
    driver.end(producer, commit=commit, version=version)
    before = durable_state(driver.shard)
    driver.restart()
    if version > 0:
        assert durable_state(driver.shard) == before
    assert driver.prepared == ["x"]
    assert driver.transaction().partitions == partitions("t-0", "u-3")
    driver.complete()
    assert driver.state() == ("CompleteCommit" if commit else "CompleteAbort")


def test_markers_of_an_earlier_decision_complete_nothing() -> None:
    driver = Driver()
    producer = driver.init()
    driver.add(producer, "t-0")
    producer = driver.end(producer)
    [first] = driver.complete()
    driver.add(producer, "t-0")
    assert driver.apply(driver.shard.complete(*first, driver.now())) is None
    assert driver.state() == "Ongoing"
    driver.end(producer)
    driver.apply(driver.shard.complete(*first, driver.now()))
    assert driver.state() == "PrepareCommit"
    driver.apply(driver.shard.complete("nobody", (1, 1), driver.now()))

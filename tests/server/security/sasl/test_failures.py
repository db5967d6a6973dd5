"""How guessing is made slow, and that it costs no more memory than allowed."""

from ottla.server.security.sasl.failures import FORGOTTEN_MS, FREE_FAILURES, HELD_FAILURES, Failures


def test_the_first_failures_cost_the_plain_delay_and_later_ones_double_it():
    failures = Failures(100, 10_000)
    delays = [failures.failed("10.0.0.1", "alice", now_ms) for now_ms in range(20)]
    assert delays[:FREE_FAILURES] == [100] * FREE_FAILURES
    assert all(150 < delays[FREE_FAILURES + step] / 2**step < 250 for step in range(5))
    assert delays[-1] == 10_000


def test_a_user_is_guarded_from_all_addresses_together():
    failures = Failures(100, 10_000)
    delays = [failures.failed(f"10.0.0.{number}", "alice", 0) for number in range(20)]
    assert delays[-1] == 10_000
    assert failures.failed("10.0.1.1", "bob", 0) == 100


def test_who_gets_in_is_forgiven():
    failures = Failures(100, 10_000)
    for _ in range(50):
        failures.failed("10.0.0.1", "alice", 0)
    assert failures.hold_ms("10.0.0.1", 0) > 0
    failures.succeeded("10.0.0.1", "alice", 0)
    assert failures.hold_ms("10.0.0.1", 0) == 0
    assert failures.failed("10.0.0.1", "alice", 0) == 100
    assert len(failures) == 2


def test_an_address_that_fails_on_and_on_waits_its_turn():
    failures = Failures(100, 10_000)
    for _ in range(HELD_FAILURES):
        assert failures.hold_ms("10.0.0.1", 0) == 0
        failures.failed("10.0.0.1", None, 0)
    waits = [failures.hold_ms("10.0.0.1", 0) for _ in range(5)]
    assert waits == [100, 200, 300, 400, 500]
    assert failures.hold_ms("10.0.0.2", 0) == 0


def test_an_account_of_ones_own_is_no_help_in_guessing_at_others():
    """Only what is waited for slows a guesser down: a right password is answered at once, so no answer is one."""
    failures = Failures(100, 10_000)
    guesses, now_ms = 0, 0
    while now_ms < 3_600_000:
        failures.succeeded("10.0.0.1", "mallory", now_ms)
        held_ms = failures.hold_ms("10.0.0.1", now_ms)
        if not held_ms:
            failures.failed("10.0.0.1", "alice", now_ms)
            guesses += 1
        now_ms += max(held_ms, 10)
    assert guesses <= 60 * (HELD_FAILURES + 5), "in an hour"


def test_failures_are_forgotten():
    failures = Failures(100, 10_000)
    for _ in range(10):
        failures.failed("10.0.0.1", "alice", 0)
    assert failures.failed("10.0.0.1", "alice", 10 * FORGOTTEN_MS) == 100


def test_memory_is_bounded():
    failures = Failures(100, 10_000, most=100)
    for number in range(1000):
        failures.failed(f"10.0.{number // 250}.{number % 250}", f"user{number}" * 100, number)
    assert len(failures) == 200


def test_one_subscriber_is_one_address():
    failures = Failures(100, 10_000)
    for number in range(20):
        last = failures.failed(f"2001:db8:1:2::{number:x}", None, 0)
    assert last == 10_000
    assert failures.failed("2001:db8:1:3::1", None, 0) == 100


def test_it_can_be_switched_off():
    failures = Failures(0, 10_000)
    assert [failures.failed("10.0.0.1", "alice", 0) for _ in range(50)] == [0] * 50
    assert failures.hold_ms("10.0.0.1", 0) == 0
    assert len(failures) == 0

"""Accounts are kept while they matter, and never too many."""

from __future__ import annotations

from ottla.server.broker.quotas.ledger import EXPIRY_MS, Ledger


def test_an_account_is_the_same_until_it_was_not_used_for_an_hour() -> None:
    ledger: Ledger[str, list[int]] = Ledger(list)
    account = ledger.account("a", 0)
    assert ledger.account("a", EXPIRY_MS) is account
    assert ledger.account("a", 2 * EXPIRY_MS) is account
    ledger.account("b", 2 * EXPIRY_MS)
    ledger.account("b", 3 * EXPIRY_MS + 1)
    assert len(ledger) == 1
    assert ledger.account("a", 3 * EXPIRY_MS + 2) is not account


def test_of_too_many_the_longest_unseen_are_forgotten() -> None:
    ledger: Ledger[int, list[int]] = Ledger(list, most_entities=3)
    kept = ledger.account(0, 0)
    for number in range(1, 100):
        ledger.account(number, number)
        assert ledger.account(0, number) is kept
        assert len(ledger) <= 3

"""What each entity has used, for as long as it matters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

EXPIRY_MS: Final = 3_600_000
"""An entity is forgotten when it was not seen for this time."""
MOST_ENTITIES: Final = 100_000
"""So many are kept at most: client ids cost a client nothing, memory does."""

Key = TypeVar("Key")
Account = TypeVar("Account")


class Ledger(Generic[Key, Account]):
    """One account per entity, made when first asked for. Sans-I/O: time is an argument (milliseconds, steady)."""

    __slots__ = ("_accounts", "_new", "most_entities")

    def __init__(self, new: Callable[[], Account], most_entities: int = MOST_ENTITIES) -> None:
        self._new = new
        # Least recently used first, each with the time of its last use.
        self._accounts: OrderedDict[Key, tuple[int, Account]] = OrderedDict()
        self.most_entities = most_entities

    def __len__(self) -> int:
        return len(self._accounts)

    def account(self, key: Key, now_ms: int) -> Account:
        """The entity's account, which is in use now."""
        accounts = self._accounts
        found = accounts.get(key)
        account = self._new() if found is None else found[1]
        accounts[key] = (now_ms, account)
        accounts.move_to_end(key)
        self.expire(now_ms)
        return account

    def latest(self, most: int) -> list[tuple[Key, Account]]:
        """The entities seen last, with their accounts; for metrics."""
        found = [(key, account) for key, (_, account) in self._accounts.items()]
        return found[-most:]

    def expire(self, now_ms: int) -> None:
        """Forget who was not seen for `EXPIRY_MS`, and the longest unseen of too many."""
        accounts = self._accounts
        while accounts:
            key, (used_ms, _) = next(iter(accounts.items()))
            if now_ms - used_ms <= EXPIRY_MS and len(accounts) <= self.most_entities:
                return
            del accounts[key]

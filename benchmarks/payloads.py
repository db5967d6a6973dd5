"""Values of records: JSON-like text, about half of it random."""

from __future__ import annotations

import random
from functools import cache


@cache
def payloads(size: int, count: int = 2000) -> tuple[bytes, ...]:
    """Values that compress two- to threefold, like typical event records."""
    chance = random.Random(7)
    found = []
    for _ in range(count):
        text = ""
        while len(text) < size:
            text += (
                f'{{"user_id":"{chance.getrandbits(32):08x}","event":"{chance.choice(["click", "view", "purchase"])}",'
                f'"ts":{1_700_000_000_000 + chance.getrandbits(30)},"session":"{chance.getrandbits(64):016x}",'
                f'"amount":{chance.random() * 1000:.2f},"page":"/products/item"}},'
            )
        found.append(text[:size].encode())
    return tuple(found)

"""Guessing passwords is made slow: how long a refusal is held back, and when an address may try again.

Kafka holds every refusal back for the same time (`connection.failed.authentication.delay.ms`). Here that is the first
step of a ladder: what an address, or a user, fails again and again doubles the time, up to `longest_ms`. And an address
that has failed often has to wait before it is listened to at all, however many connections it opens: the wait is that
of all its failures together. What succeeds is never held back for the user's failures, so nobody can be locked out by
others who guess at his name; a success forgives the user, and the address, but an address not again for
`FORGIVEN_AGAIN_MS`: who has an account of his own must not use it to guess at others.

A core: times (any monotonic milliseconds) are handed in. Memory is bounded: of `most` addresses and as many users, who
failed longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

FREE_FAILURES: Final = 5
"""So many cost the plain delay: people mistype, and a client with an old password tries a few times."""
HELD_FAILURES: Final = 20
"""From so many on an address waits before it is listened to."""
FORGOTTEN_MS: Final = 300_000
"""A failure counts half after this time, a quarter after twice the time, and so on."""
FORGIVEN_AGAIN_MS: Final = 60_000
"""No address is forgiven twice in this time."""


class Failures:
    """`delay_ms` is the first step of the ladder; 0 switches all of it off."""

    def __init__(self, delay_ms: int, longest_ms: int, most: int = 10_000) -> None:
        self._delay_ms = delay_ms
        self._longest_ms = max(longest_ms, delay_ms)
        self._most = most
        self._addresses: OrderedDict[str, _Count] = OrderedDict()
        self._users: OrderedDict[str, _Count] = OrderedDict()

    def __len__(self) -> int:
        """How many addresses and users are remembered."""
        return len(self._addresses) + len(self._users)

    def hold_ms(self, host: str, now_ms: float) -> int:
        """For how long not to listen to a login from this address yet; each call takes the next turn."""
        count = self._addresses.get(_network(host))
        if count is None or not self._delay_ms:
            return 0
        failures = count.at(now_ms)
        if failures < HELD_FAILURES:
            return 0
        step_ms = self._step_ms(failures - HELD_FAILURES)
        count.free_ms = min(max(count.free_ms, now_ms) + step_ms, now_ms + self._longest_ms)
        return int(count.free_ms - now_ms)

    def failed(self, host: str, user: str | None, now_ms: float) -> int:
        """Somebody was refused; for how long to hold that back."""
        if not self._delay_ms:
            return 0
        most = self._add(self._addresses, _network(host), now_ms)
        if user is not None:
            most = max(most, self._add(self._users, user[:100], now_ms))
        return self._step_ms(most - FREE_FAILURES)

    def succeeded(self, host: str, user: str, now_ms: float) -> None:
        """Somebody was believed."""
        if self._addresses or self._users:
            count = self._addresses.get(_network(host))
            if count is not None:
                count.forgive(now_ms)
            self._users.pop(user[:100], None)

    def _step_ms(self, above: float) -> int:
        if above <= 0:
            return self._delay_ms
        return int(min(self._delay_ms * 2 ** min(above, 32), self._longest_ms))

    def _add(self, counts: OrderedDict[str, _Count], key: str, now_ms: float) -> float:
        count = counts.pop(key, None) or _Count(now_ms)
        counts[key] = count  # the newest is last
        if len(counts) > self._most:
            counts.popitem(last=False)
        return count.add(now_ms)


class _Count:
    """Failures, of which old ones count less."""

    __slots__ = ("_failures", "_forgiven_ms", "_time_ms", "free_ms")

    def __init__(self, now_ms: float) -> None:
        self._failures = 0.0
        self._time_ms = now_ms
        self._forgiven_ms = now_ms - FORGIVEN_AGAIN_MS
        self.free_ms = now_ms
        """When the next one in line has its turn."""

    def at(self, now_ms: float) -> float:
        return float(self._failures * 0.5 ** ((now_ms - self._time_ms) / FORGOTTEN_MS))

    def forgive(self, now_ms: float) -> None:
        if now_ms - self._forgiven_ms >= FORGIVEN_AGAIN_MS:
            self._failures = 0.0
            self.free_ms = self._forgiven_ms = now_ms

    def add(self, now_ms: float) -> float:
        self._failures = self.at(now_ms) + 1
        self._time_ms = now_ms
        return self._failures


def _network(host: str) -> str:
    """The address; of IPv6 the half that is one subscriber's."""
    if ":" not in host or host.startswith("::ffff:"):
        return host
    head, _, tail = host.partition("::")
    groups = head.split(":") if head else []
    if _ and tail:
        groups += ["0"] * max(0, 8 - len(groups) - len(tail.split(":"))) + tail.split(":")
    return ":".join((groups + ["0"] * 4)[:4]) + "::"

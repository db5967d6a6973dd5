"""The rate and the token bucket against a plain model of what Apache Kafka computes."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.broker.quotas.rate import Rate, TokenBucket


class KafkaRate:
    """Kafka's way: a ring of one sample more than the window has, of which old ones are emptied in their place."""

    def __init__(self, samples: int, sample_ms: int) -> None:
        self.count = samples
        self.sample_ms = sample_ms
        self.ring: list[dict[str, Any]] = []
        self.current = 0

    def record(self, value: float, now: int) -> None:
        if not self.ring:
            self.ring.append({"start": now, "last": now, "value": 0.0})
        if now - self.ring[self.current]["start"] >= self.sample_ms:
            self.current = (self.current + 1) % (self.count + 1)
            fresh = {"start": now, "last": now, "value": 0.0}
            if self.current == len(self.ring):
                self.ring.append(fresh)
            else:
                self.ring[self.current] = fresh
        sample = self.ring[self.current]
        sample["value"] += value
        sample["last"] = now

    def purge(self, now: int) -> None:
        for sample in self.ring:
            if now - sample["last"] >= self.count * self.sample_ms:
                sample.update(start=now, last=now, value=0.0)

    def window(self, now: int) -> int:
        self.purge(now)
        elapsed = now - min((sample["start"] for sample in self.ring), default=now)
        full = elapsed // self.sample_ms
        if full < self.count - 1:
            elapsed += (self.count - 1 - full) * self.sample_ms
        return int(max(elapsed, 1))

    def throttle(self, limit: float, now: int) -> int:
        self.purge(now)
        window = self.window(now)
        rate = sum(sample["value"] for sample in self.ring) / (window / 1000)
        if rate <= limit:
            return 0
        return math.floor((rate - limit) / limit * window + 0.5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    samples=st.integers(1, 12),
    sample_ms=st.sampled_from([1000, 2000]),
    limit=st.sampled_from([0.5, 10.0, 1024.0, 1e6]),
    steps=st.lists(
        st.tuples(
            st.one_of(st.integers(0, 50), st.integers(0, 3000), st.integers(5_000, 40_000)),
            st.floats(0, 5e6, allow_nan=False),
            st.booleans(),
        ),
        max_size=60,
    ),
)
def test_the_throttle_times_are_those_of_kafka(
    samples: int, sample_ms: int, limit: float, steps: list[tuple[int, float, bool]]
) -> None:
    ours, theirs = Rate(samples, sample_ms), KafkaRate(samples, sample_ms)
    now = 1_000
    for pause, amount, is_taken_back in steps:
        now += pause
        ours.record(amount, now)
        theirs.record(amount, now)
        found, expected = ours.throttle_ms(limit, now), theirs.throttle(limit, now)
        # Kafka adds in the order of its ring, so the last bit of a sum may differ.
        assert abs(found - min(expected, 2**31 - 1)) <= max(1, expected // 10**9)
        if is_taken_back and found:
            ours.record(-amount, now)
            theirs.record(-amount, now)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200_000)), min_size=200, max_size=400))
def test_who_waits_as_told_stays_within_the_quota(requests: list[tuple[int, int]]) -> None:
    rate, limit, now, total = Rate(), 100_000.0, 0, 0
    for pause, amount in requests:
        now += pause
        rate.record(amount, now)
        total += amount
        now += rate.throttle_ms(limit, now)
        # What a new rate gives in advance, one request, and the resolution of a sample.
        assert total <= limit * (now / 1000 + 11) + 200_000


def test_a_rate_forgets_what_left_its_window() -> None:
    rate = Rate()
    rate.record(1000, 0)
    assert rate.value(0) == 100
    assert rate.value(10_999) == 1000 / 10.999
    assert rate.value(11_000) == 0
    assert rate.throttle_ms(1, 11_000) == 0


def test_without_any_rate_allowed_the_wait_is_the_longest_there_is() -> None:
    rate = Rate()
    assert rate.throttle_ms(0, 0) == 0
    rate.record(1, 0)
    assert rate.throttle_ms(0, 0) == 2**31 - 1
    rate.record(1e300, 0)
    assert rate.throttle_ms(1e-9, 0) == 2**31 - 1


def test_a_token_bucket_starts_full_and_lets_one_make_debts() -> None:
    bucket = TokenBucket(burst_s=11)
    assert bucket.throttle_ms(5, 0) == 0
    bucket.take(55, 5, 0)
    assert bucket.throttle_ms(5, 0) == 0, "an empty bucket is no debt"
    bucket.take(60, 5, 0)
    assert bucket.throttle_ms(5, 0) == 12_000
    assert bucket.throttle_ms(5, 5_000) == 7_000
    assert bucket.throttle_ms(5, 12_000) == 0
    bucket.take(1, 5, 12_000)
    assert bucket.throttle_ms(5, 12_000) == 200
    bucket.take(56, 5, 10**9)
    assert bucket.throttle_ms(5, 10**9) == 200, "it never holds more than its burst"


def test_a_token_bucket_follows_its_limit() -> None:
    bucket = TokenBucket(burst_s=10)
    bucket.take(20, 1, 0)
    assert bucket.throttle_ms(1, 0) == 10_000
    assert bucket.throttle_ms(10, 0) == 1_000
    bucket.take(0, 10, 100_000)
    assert bucket.throttle_ms(1, 100_000) == 0
    bucket.take(11, 1, 100_000)
    assert bucket.throttle_ms(1, 100_000) == 1_000, "what a higher limit had saved up is gone with it"

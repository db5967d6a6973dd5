"""Backoff, the phases of a connection, and who is known not to answer."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client.network.backoff import ExponentialBackoff
from ottla.client.network.node_state import NodeState, Phase, Reachability


@settings(derandomize=True, max_examples=200, deadline=None)
@given(initial=st.integers(0, 10_000), most=st.integers(0, 100_000), attempt=st.integers(0, 10**9), seed=st.integers())
def test_backoff_doubles_within_its_bounds(initial, most, attempt, seed):
    backoff = ExponentialBackoff(initial, most, Random(seed))
    exact = min(initial * 2 ** min(attempt, 40), most)
    delay = backoff.delay_ms(attempt)
    assert 0 <= delay <= most
    assert min(0.8 * exact, most) - 1 <= delay <= 1.2 * exact + 1


def state(random=None):
    random = random or Random(1)
    return NodeState(ExponentialBackoff(50, 1000, random), ExponentialBackoff(10_000, 30_000, random))


def test_failures_make_pauses_and_patience_longer_and_success_resets_them():
    node = state()
    pauses, patience, now_ms = [], [], 0
    for _ in range(8):
        assert node.may_connect(now_ms)
        node.connecting(now_ms)
        assert not node.may_connect(now_ms)
        patience.append(node.setup_timeout_ms())
        node.failed(now_ms)
        pauses.append(node.delay_ms(now_ms))
        assert not node.may_connect(now_ms + pauses[-1] - 1)
        now_ms += pauses[-1]
    assert pauses[0] < 61
    assert pauses[1] < pauses[2] < pauses[3]
    assert pauses[-1] >= 800
    assert patience[0] < 12_001
    assert patience[-1] >= 24_000
    node.connecting(now_ms)
    node.connected()
    node.ready()
    assert node.is_ready
    assert node.delay_ms(now_ms) == 0
    node.check_invariants()
    node.failed(now_ms)
    assert node.delay_ms(now_ms) < 61


def test_being_closed_by_us_is_no_failure():
    node = state()
    node.connecting(0)
    node.connected()
    node.ready()
    node.throttle(5, 1000)
    assert node.delay_ms(5) == 1000
    node.throttle(6, 10)
    assert node.delay_ms(6) == 999, "a shorter pause does not end a longer one"
    node.closed()
    assert node.phase is Phase.DISCONNECTED
    assert node.may_connect(6)


def test_each_change_is_news_once():
    reachability = Reachability()
    assert not reachability.reached("a")
    assert [reachability.lost("a", "x"), reachability.lost("a", "y"), reachability.lost("b", "z")] == [
        True,
        False,
        True,
    ]
    assert reachability.reason("a") == "y"
    assert [reachability.reached("a"), reachability.reached("a"), reachability.reason("a")] == [True, False, None]


def test_phases_are_gone_through_in_order():
    node = state()
    with pytest.raises(AssertionError):
        node.ready()
    node.connecting(0)
    with pytest.raises(AssertionError):
        node.connecting(0)

"""Who gets in: totals, addresses, rate."""

from __future__ import annotations

from ottla.schema.config import BrokerConfig
from ottla.server.broker.connection_limits import Admission, ConnectionLimits

NO_LIMIT = 2**31 - 1


def limits(
    total: int = NO_LIMIT, per_address: int = NO_LIMIT, rate: int = NO_LIMIT, hold: int = 2, overrides: str = ""
) -> ConnectionLimits:
    return ConnectionLimits(
        BrokerConfig.of(
            {
                "max.connections": total,
                "max.connections.per.ip": per_address,
                "max.connections.per.ip.overrides": overrides,
                "max.connection.creation.rate": rate,
                "socket.listen.backlog.size": hold,
            }
        )
    )


def test_connections_above_the_total_are_held_and_then_refused() -> None:
    some = limits(total=1, hold=1)
    assert some.admit("a", 0) is Admission.ACCEPT
    assert some.admit("b", 0) is Admission.HOLD
    assert some.admit("c", 0) is Admission.REFUSE
    assert not some.promote(0)
    some.release("a", held=False)
    assert some.promote(0)
    assert (some.total, some.held) == (1, 0)


def test_an_address_has_its_own_limit_and_overrides_go_before_it() -> None:
    some = limits(per_address=1, overrides="special:3")
    assert some.admit("a", 0) is Admission.ACCEPT
    assert some.admit("a", 0) is Admission.REFUSE
    assert [some.admit("special", 0) for _ in range(4)] == [Admission.ACCEPT] * 3 + [Admission.REFUSE]
    some.release("a", held=False)
    assert some.admit("a", 0) is Admission.ACCEPT


def test_the_rate_holds_connections_back_until_a_second_has_passed() -> None:
    some = limits(rate=2)
    assert some.admit("a", 10.0) is Admission.ACCEPT
    assert some.admit("a", 10.5) is Admission.ACCEPT
    assert some.admit("a", 10.6) is Admission.HOLD
    assert some.next_slot_at(10.6) == 11.0
    assert not some.promote(10.9)
    assert some.promote(11.0)
    assert some.total == 3


def test_a_released_held_connection_counts_no_more() -> None:
    some = limits(total=1, hold=1)
    some.admit("b", 0)
    assert some.admit("a", 0) is Admission.HOLD
    some.release("a", held=True)
    assert (some.total, some.held) == (1, 0)
    assert some.admit("a", 0) is Admission.HOLD

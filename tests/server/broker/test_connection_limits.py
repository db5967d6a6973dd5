"""Who gets in: totals, listeners, addresses, rates."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.schema.config import BrokerConfig
from ottla.server.broker.connection_limits import Admission, ConnectionLimits, Decision, ListenerLimits

ACCEPT, WAIT_FOR_ROOM = Decision(Admission.ACCEPT), Decision(Admission.HOLD)
REFUSE = Decision(Admission.REFUSE)
TWO_LISTENERS = {
    "listeners": "CLIENTS://:9092,BROKERS://:9093",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT",
    "inter.broker.listener.name": "BROKERS",
    "advertised.listeners": "CLIENTS://localhost:9092,BROKERS://localhost:9093",
}


def limits(settings: Mapping[str, object] | None = None, name: str = "PLAINTEXT") -> ListenerLimits:
    return ListenerLimits(ConnectionLimits(BrokerConfig.of(settings or {})), name)


def test_a_connection_above_the_total_waits_until_another_leaves() -> None:
    some = limits({"max.connections": 1})
    assert some.decide("a", 0) == ACCEPT
    assert some.decide("b", 0) == WAIT_FOR_ROOM
    assert some.decide("b", 5) == WAIT_FOR_ROOM
    some.release("a")
    assert some.decide("b", 9) == ACCEPT
    assert some.shared.total == some.count == 1


def test_an_address_has_its_own_limit_and_overrides_go_before_it() -> None:
    some = limits({"max.connections.per.ip": 1, "max.connections.per.ip.overrides": "special:3"})
    assert [some.decide("a", 0) for _ in range(2)] == [ACCEPT, REFUSE]
    assert [some.decide("special", 0) for _ in range(4)] == [ACCEPT] * 3 + [REFUSE]
    some.release("a")
    assert some.decide("a", 0) == ACCEPT


def test_the_rate_holds_connections_back_for_a_sample_at_most() -> None:
    some = limits({"max.connection.creation.rate": 2})
    # Two a second over a window that counts as ten seconds even when it is new.
    assert [some.decide("a", 10_000) for _ in range(20)] == [ACCEPT] * 20
    assert some.decide("a", 10_000) == Decision(Admission.HOLD, 500)
    assert some.decide("a", 10_400) == Decision(Admission.HOLD, 100)
    assert some.decide("a", 10_500) == ACCEPT
    for _ in range(20):
        decision = some.decide("a", 10_600)
        if decision.wait_ms:
            assert decision.wait_ms <= 1000
            assert some.decide("a", 11_600) == ACCEPT
    assert some.count == 41


def test_a_rate_of_zero_lets_one_in_per_sample() -> None:
    some = limits({"max.connection.creation.rate": 0})
    assert some.decide("a", 0) == Decision(Admission.HOLD, 1000)
    assert some.decide("a", 1000) == ACCEPT
    assert some.decide("a", 1000) == Decision(Admission.HOLD, 1000)


def test_an_address_above_its_rate_is_closed_later_and_not_counted() -> None:
    some = limits({"max.connection.creation.rate": 1000})
    some.shared.set_address_rates({"a": 1, None: 2})
    assert [some.decide("a", 0) for _ in range(10)] == [ACCEPT] * 10
    for _ in range(3):
        assert some.decide("a", 0) == Decision(Admission.CLOSE_LATER, 1000)
    assert [some.decide("b", 0) for _ in range(21)] == [ACCEPT] * 20 + [Decision(Admission.CLOSE_LATER, 500)]
    assert some.count == some.shared.total == 30
    some.shared.set_address_rates({"b": 100})
    assert some.decide("a", 0) == ACCEPT, "it has no quota any more"
    assert some.decide("b", 0) == ACCEPT
    assert some.decide("a", 20_000) == ACCEPT


def test_a_waiting_connection_that_gives_up_leaves_no_wait_behind() -> None:
    some = limits({"max.connection.creation.rate": 1})
    for _ in range(10):
        assert some.decide("a", 0) == ACCEPT
    assert some.decide("a", 0).admission is Admission.HOLD
    some.give_up()
    assert some.decide("b", 30_000) == ACCEPT


def test_settings_that_change_hold_for_the_next_connection() -> None:
    some = limits({"max.connections": 1})
    assert some.decide("a", 0) == ACCEPT
    assert some.decide("b", 0) == WAIT_FOR_ROOM
    assert some.shared.follow(BrokerConfig.of({"max.connections": 2, "max.connections.per.ip": 1}))
    assert some.decide("b", 0) == ACCEPT
    assert not some.shared.has_too_many
    assert not some.shared.follow(some.shared.config)
    some.shared.follow(BrokerConfig.of({"max.connections": 1}))
    assert some.shared.has_too_many
    some.shared.closing += 1
    assert not some.shared.has_too_many


def test_a_listener_has_limits_of_its_own_and_the_brokers_one_is_not_held_up() -> None:
    config = BrokerConfig.of(
        {
            **TWO_LISTENERS,
            "max.connections": 3,
            "listener.name.clients.max.connections": 1,
            "listener.name.clients.max.connection.creation.rate": 10,
        }
    )
    shared = ConnectionLimits(config)
    clients, brokers = ListenerLimits(shared, "CLIENTS"), ListenerLimits(shared, "BROKERS")
    assert (clients.is_protected, brokers.is_protected) == (False, True)
    assert (clients.max_rate, brokers.max_rate) == (10, 2**31 - 1)
    assert clients.decide("a", 0) == ACCEPT
    assert clients.decide("a", 0) == WAIT_FOR_ROOM
    assert [brokers.decide("b", 0) for _ in range(4)] == [ACCEPT] * 3 + [WAIT_FOR_ROOM], "its own limit is the general"
    assert shared.has_too_many

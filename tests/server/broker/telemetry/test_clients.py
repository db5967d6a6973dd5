"""Client instances: what each is asked for, when it may push, which error it gets when not (KIP-714)."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ONE_UUID, ZERO_UUID
from ottla.protocol.messages.push_telemetry import PushTelemetryRequest
from ottla.server.broker.telemetry import clients
from ottla.server.broker.telemetry.clients import ClientInstance, ClientInstances

E = ErrorCode
CLIENT_METRICS = 16
MINUTE = 60_000
JAVA = {
    "client_id": "orders-7",
    "client_software_name": "apache-kafka-java",
    "client_software_version": "4.3.1",
    "client_source_address": "10.0.0.7",
    "client_source_port": "50123",
}


class Broker:
    """The core with a clock; `configure` is what the image says from then on."""

    def __init__(self, **subscriptions: dict[str, str]) -> None:
        numbers = count(100)
        self.core = ClientInstances(1000, lambda: next(numbers).to_bytes(16, "big"))
        self.now_ms = 1_700_000_000_000
        self.configure(**subscriptions)

    def configure(self, **subscriptions: dict[str, str]) -> None:
        self.core.update({(CLIENT_METRICS, name): settings for name, settings in subscriptions.items()})

    def ask(self, instance_id: bytes = ZERO_UUID, client: dict[str, str] = JAVA) -> ClientInstance:
        return self.core.ask(instance_id, client, self.now_ms)

    def push(self, instance: ClientInstance, **fields: Any) -> ErrorCode:
        fields = {"subscription_id": instance.subscription_id, "metrics": b"x", **fields}
        request = PushTelemetryRequest(client_instance_id=instance.instance_id, **fields)
        return self.outcome(lambda: self.core.check_push(request, JAVA, self.now_ms))

    def outcome(self, action: Any) -> ErrorCode:
        try:
            action()
        except ApiError as error:
            return error.code
        return E.NONE


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ("", True),
        ("client_id=orders-.*", True),
        ("client_id=orders", False),
        ("client_id=orders-7,client_software_name=librdkafka", False),
        ("client_id=orders-7,client_software_name=apache.*", True),
        ("client_software_version=4\\..*", True),
        ("client_source_address=10\\.0\\.0\\..*,client_source_port=50123", True),
        ("client_source_port=1", False),
        ("client_instance_id=AAAAAAAAAAAAAAAAAAAAZA", True),
        ("client_instance_id=AAAAAAAAAAAAAAAAAAAAZB", False),
    ],
)
def test_a_subscription_is_for_the_clients_it_matches(match: str, matches: bool) -> None:
    settings = {"metrics": "a.,b.", "interval.ms": "1000"} | ({"match": match} if match else {})
    wanted = Broker(one=settings).ask().wanted
    assert wanted == ((("a.", "b."), 1000) if matches else ((), 300_000))


def test_subscriptions_add_up() -> None:
    broker = Broker(
        one={"metrics": "a.", "interval.ms": "5000"},
        two={"metrics": "b.,a.", "interval.ms": "700"},
        three={"metrics": "*", "match": "client_id=other"},
        four={"interval.ms": "100"},
    )
    assert broker.ask().wanted == (("a.", "b."), 100)
    assert broker.ask(client={**JAVA, "client_id": "other"}).wanted == (("*",), 100)


def test_an_id_is_given_once_and_the_subscription_id_tells_what_is_wanted() -> None:
    broker = Broker(one={"metrics": "a."})
    first, second = broker.ask(), broker.ask()
    assert first.instance_id != second.instance_id
    assert first.subscription_id != second.subscription_id
    again = Broker(one={"metrics": "a."}).ask(first.instance_id)
    assert again.subscription_id == first.subscription_id, "another broker says the same"
    assert Broker(one={"metrics": "b."}).ask(first.instance_id).subscription_id != first.subscription_id


def test_asking_again_has_to_wait_for_the_interval() -> None:
    broker = Broker(one={"interval.ms": "1000"})
    instance = broker.ask()
    broker.now_ms += 999
    assert broker.outcome(lambda: broker.ask(instance.instance_id)) == E.THROTTLING_QUOTA_EXCEEDED
    broker.now_ms += 1
    assert broker.outcome(lambda: broker.ask(instance.instance_id)) == E.NONE


def test_pushes_come_at_once_after_asking_and_then_in_intervals() -> None:
    broker = Broker(one={"interval.ms": "1000"})
    instance = broker.ask()
    broker.now_ms += 1
    assert broker.push(instance) == E.NONE
    broker.now_ms += 999
    assert broker.push(instance) == E.THROTTLING_QUOTA_EXCEEDED
    broker.now_ms += 1
    assert broker.push(instance) == E.NONE


def test_the_last_push_may_come_early_and_is_the_last() -> None:
    broker = Broker(one={"interval.ms": "1000"})
    instance = broker.ask()
    assert broker.push(instance) == E.NONE
    assert broker.push(instance, terminating=True) == E.NONE
    broker.now_ms += 10_000
    assert broker.push(instance) == E.INVALID_REQUEST


def test_changed_subscriptions_send_a_client_back_to_asking() -> None:
    broker = Broker(one={"metrics": "a.", "interval.ms": "1000"})
    instance = broker.ask()
    broker.configure(one={"metrics": "b.", "interval.ms": "1000"})
    broker.now_ms += 100
    assert broker.push(instance) == E.UNKNOWN_SUBSCRIPTION_ID
    fresh = broker.ask(instance.instance_id)
    assert fresh.wanted == (("b.",), 1000)
    assert broker.push(fresh) == E.NONE
    broker.core.update({(CLIENT_METRICS, "one"): {"metrics": "b.", "interval.ms": "1000"}, (2, "t"): {"a": "b"}})
    broker.now_ms += 1000
    assert broker.push(fresh) == E.NONE, "other settings are of no concern"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"subscription_id": 5}, E.UNKNOWN_SUBSCRIPTION_ID),
        ({"compression_type": 5}, E.UNSUPPORTED_COMPRESSION_TYPE),
        ({"compression_type": -1}, E.UNSUPPORTED_COMPRESSION_TYPE),
        ({"metrics": bytes(1001)}, E.TELEMETRY_TOO_LARGE),
        ({"metrics": bytes(1000)}, E.NONE),
        ({"metrics": b""}, E.NONE),
    ],
)
def test_refused_pushes(fields: dict[str, Any], code: ErrorCode) -> None:
    broker = Broker(one={"interval.ms": "1000"})
    instance = broker.ask()
    assert broker.push(instance, **fields) == code
    # Two errors are for the client to mend at once.
    at_once = code in (E.UNKNOWN_SUBSCRIPTION_ID, E.UNSUPPORTED_COMPRESSION_TYPE)
    again = broker.outcome(lambda: broker.ask(instance.instance_id))
    assert again == (E.NONE if at_once else E.THROTTLING_QUOTA_EXCEEDED)


def test_a_push_needs_an_id_but_not_a_question_before() -> None:
    broker = Broker(one={"metrics": "a."})
    known = Broker(one={"metrics": "a."}).ask()
    assert broker.push(known) == E.NONE, "the client had asked another broker"
    for instance_id in (ZERO_UUID, ONE_UUID):
        known.instance_id = instance_id
        assert broker.push(known) == E.INVALID_REQUEST


def test_silent_clients_are_forgotten() -> None:
    broker = Broker(one={"interval.ms": "30000"})
    instance = broker.ask()
    assert broker.push(instance, terminating=True) == E.NONE
    broker.now_ms += 90_000
    assert broker.push(instance) == E.NONE, "who was forgotten starts afresh"
    broker.core.forget(instance.instance_id)
    assert len(broker.core) == 0
    assert broker.push(instance) == E.NONE


def test_who_comes_back_late_starts_afresh_beside_those_who_stayed() -> None:
    broker = Broker(one={"interval.ms": "30000"})
    late, other = broker.ask(), broker.ask()
    broker.now_ms += 80_000
    assert broker.push(other) == E.NONE
    broker.now_ms += 20_000
    assert broker.push(late) == E.NONE
    assert len(broker.core) == 2


def test_no_more_clients_are_kept_than_there_is_room_for(monkeypatch) -> None:
    monkeypatch.setattr(clients, "MAX_INSTANCES", 3)
    broker = Broker()
    first = broker.ask()
    others = [broker.ask() for _ in range(2)]
    assert broker.push(first) == E.NONE
    broker.ask()
    assert len(broker.core) == 3
    assert broker.push(first) == E.THROTTLING_QUOTA_EXCEEDED, "heard of lately"
    assert broker.outcome(lambda: broker.ask(others[0].instance_id)) == E.NONE, "forgotten, so it may ask again"
    broker.now_ms += 16 * MINUTE
    broker.ask()
    assert len(broker.core) == 1, "room is made by dropping what has expired"

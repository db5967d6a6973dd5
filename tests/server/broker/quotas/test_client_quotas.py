"""What is metered, and what a request is charged, with the clocks in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.create_topics import CreateTopicsResponse
from ottla.protocol.messages.fetch import FetchRequest, FetchResponse
from ottla.protocol.messages.produce import ProduceResponse
from ottla.schema.config import BrokerConfig
from ottla.server.broker.broker import RequestContext
from ottla.server.broker.quotas.client_quotas import ClientQuotas, connection_rates, has_client_quotas
from ottla.server.broker.quotas.usage import Usage
from ottla.server.metadata.image import QuotaEntity

PRODUCE, FETCH, METADATA, CREATE_TOPICS = ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA, ApiKey.CREATE_TOPICS
APP: QuotaEntity = (("client-id", "app"),)
ANYBODY: QuotaEntity = (("user", None),)
MS = 1_000_000


class World:
    """`now_ms` and `now_ns` are moved by the test."""

    def __init__(self, quotas: Mapping[QuotaEntity, Mapping[str, float]], **settings: object) -> None:
        self.now_ms = 50_000
        self.now_ns = 0
        given = {name.replace("_", "."): value for name, value in settings.items()}
        self.quotas = ClientQuotas(BrokerConfig.of(given), lambda: self.now_ms, lambda: self.now_ns)
        self.quotas.update(quotas)

    def begin(self, api_key: int, size: int = 0, client_id: str | None = "app") -> Usage | None:
        return self.quotas.begin(api_key, size, RequestContext(client_id=client_id))

    def charge(self, api_key: int, response: Any, *, request: int = 0, size: int = 0, client_id: str = "app") -> int:
        usage = self.begin(api_key, request, client_id)
        return 0 if usage is None else usage.settle(response, size)


def test_only_requests_that_a_quota_is_about_are_metered() -> None:
    def metered(**values: float) -> set[int]:
        world = World({APP: values})
        return {key for key in ApiKey if world.begin(key) is not None}

    assert metered(producer_byte_rate=1) == {PRODUCE}
    assert metered(consumer_byte_rate=1) == {FETCH, ApiKey.SHARE_FETCH}
    assert metered(controller_mutation_rate=1) == {
        CREATE_TOPICS,
        ApiKey.DELETE_TOPICS,
        ApiKey.CREATE_PARTITIONS,
    }
    assert metered(request_percentage=1) == set(ApiKey) - {ApiKey.WRITE_TXN_MARKERS}


def test_produce_is_charged_for_the_bytes_of_the_request() -> None:
    world = World({APP: {"producer_byte_rate": 1000.0}})
    assert world.charge(PRODUCE, ProduceResponse(), request=10_000) == 0
    assert world.charge(PRODUCE, ProduceResponse(), request=1_000) == 1_000
    assert world.charge(PRODUCE, ProduceResponse(), request=10**6, client_id="other") == 0
    assert world.charge(PRODUCE, None, request=500) == 1_500, "also where there is no response"


def test_a_throttled_fetch_is_not_charged() -> None:
    world = World({APP: {"consumer_byte_rate": 1000.0}})
    assert world.charge(FETCH, FetchResponse(), size=9_996) == 0
    for _ in range(5):
        assert world.charge(FETCH, FetchResponse(), size=1_996) == 2_000
    world.now_ms += 11_000
    assert world.charge(FETCH, FetchResponse(), size=1_996) == 0


def test_a_fetch_asks_for_no_more_than_could_be_sent() -> None:
    world = World({APP: {"consumer_byte_rate": 1000.0}}, quota_window_num=5, quota_window_size_seconds=2)
    for client_id, expected in (("app", 8_000), ("other", 50_000_000)):
        request = FetchRequest(max_bytes=50_000_000)
        usage = world.begin(FETCH, client_id=client_id)
        assert usage is not None
        usage.prepare(request)
        assert request.max_bytes == expected
    assert World({APP: {"consumer_byte_rate": 1e15}}).quotas.fetch_limit("", "app") == 2**31 - 1


def test_all_clients_of_a_user_share_its_quota_and_changes_keep_what_was_used() -> None:
    world = World({ANYBODY: {"producer_byte_rate": 1000.0}})
    assert world.charge(PRODUCE, ProduceResponse(), request=10_000, client_id="one") == 0
    assert world.charge(PRODUCE, ProduceResponse(), request=2_000, client_id="two") == 2_000
    world.quotas.update({ANYBODY: {"producer_byte_rate": 600.0}})
    assert world.charge(PRODUCE, ProduceResponse(), request=0, client_id="three") == 10_000
    world.quotas.update({ANYBODY: {"producer_byte_rate": 5000.0}})
    assert world.charge(PRODUCE, ProduceResponse(), request=0, client_id="three") == 0
    world.quotas.update({})
    assert world.begin(PRODUCE) is None


def test_time_on_the_event_loop_is_charged_and_waits_are_not() -> None:
    world = World({APP: {"request_percentage": 10.0}})
    usage = world.begin(METADATA)
    assert usage is not None
    world.now_ns += 600 * MS
    usage.pause()
    world.now_ns += 60_000 * MS
    usage.resume()
    world.now_ns += 500 * MS
    # 1.1 s of 10 s are 11 %.
    assert usage.settle(ProduceResponse(), 0) == 1_000, "10 % too much of ten seconds, and at most one sample"
    usage.resume()
    world.now_ns += 50 * MS
    usage.sent()
    assert world.quotas.request.ledger.account(("", "app"), world.now_ms).value(world.now_ms) == pytest.approx(11.5)


def test_a_request_without_a_response_is_not_charged_for_time() -> None:
    world = World({APP: {"request_percentage": 1.0, "producer_byte_rate": 1000.0}})
    usage = world.begin(PRODUCE, 11_000)
    assert usage is not None
    world.now_ns += 5_000 * MS
    assert usage.settle(None, 0) == 1_000


def test_the_longer_of_two_waits_counts_and_a_fetch_throttled_for_its_time_is_not_charged_for_bytes() -> None:
    world = World({APP: {"request_percentage": 1.0, "consumer_byte_rate": 1e9}})
    usage = world.begin(FETCH)
    assert usage is not None
    world.now_ns += 105 * MS
    assert usage.settle(FetchResponse(), 5_000_000) == 500
    assert world.quotas.fetch.ledger.account(("", "app"), world.now_ms).value(world.now_ms) == 0


def test_a_coroutine_is_charged_for_its_steps() -> None:
    world = World({APP: {"request_percentage": 1.0}})

    async def handler() -> str:
        world.now_ns += 30 * MS
        await asyncio.sleep(0)
        world.now_ns += 20 * MS
        try:
            await failing()
        except ValueError:
            world.now_ns += 10 * MS
        return "done"

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def main() -> None:
        usage = world.begin(METADATA)
        assert usage is not None
        usage.pause()
        future = asyncio.ensure_future(usage.timed(handler()))
        while not future.done():
            world.now_ns += 1_000_000 * MS
            await asyncio.sleep(0)
        assert future.result() == "done"
        usage.resume()
        assert usage.settle(ProduceResponse(), 0) == 0
        assert world.quotas.request.ledger.account(("", "app"), world.now_ms).value(world.now_ms) == pytest.approx(0.6)
        future = asyncio.ensure_future(usage.timed(asyncio.get_running_loop().create_future()))
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(main())


def test_strict_mutations_are_refused_while_there_is_a_debt() -> None:
    world = World({APP: {"controller_mutation_rate": 2.0}}, controller_quota_window_num=5)

    def quota(*, strict: bool) -> Any:
        return world.quotas.mutations(RequestContext(client_id="app"), strict=strict)

    assert world.quotas.mutations(RequestContext(client_id="other"), strict=True) is None
    first = quota(strict=True)
    first.charge(14)
    assert first.throttle_ms() == 0, "whoever makes the debt is let through"
    with pytest.raises(ApiError) as refusal:
        first.charge(1)
    assert refusal.value.code == ErrorCode.THROTTLING_QUOTA_EXCEEDED
    world.now_ms += 500
    assert first.throttle_ms() == 1_500
    lenient = quota(strict=False)
    lenient.charge(1)
    assert lenient.throttle_ms() == 2_000
    assert world.charge(CREATE_TOPICS, CreateTopicsResponse(throttle_time_ms=lenient.throttle_ms())) == 2_000
    world.now_ms += 2_000
    quota(strict=True).charge(1)


def test_quotas_of_addresses_are_the_listeners_business() -> None:
    quotas: dict[QuotaEntity, dict[str, float]] = {
        (("ip", "10.0.0.1"),): {"connection_creation_rate": 5.0},
        (("ip", None),): {"connection_creation_rate": 10.0},
    }
    assert not has_client_quotas(quotas)
    assert connection_rates(quotas) == {"10.0.0.1": 5, None: 10}
    assert has_client_quotas({**quotas, APP: {"producer_byte_rate": 1.0}})

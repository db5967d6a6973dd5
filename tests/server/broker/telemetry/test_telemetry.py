"""Pushed metrics from the request to the file: compressed or not, bounded, and what is no metrics is refused."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from ottla.protocol.messages.push_telemetry import PushTelemetryRequest
from ottla.records.compression import compress
from ottla.server.broker.broker import Broker, RequestContext
from ottla.server.broker.handlers import api_versions, get_telemetry_subscriptions, push_telemetry
from ottla.server.broker.telemetry import metrics_file, telemetry
from ottla.server.controller.configs import SET, Change
from tests.server.broker.handlers import metadata_world
from tests.server.broker.telemetry.protobuf import metric, metrics_data, number_point

CLIENT_METRICS = 16
FILE = "/data/client-metrics.jsonl"


class World:
    """A broker with one subscription, and a client on one connection."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.context = RequestContext(client_host="10.0.0.7", client_id="orders", api_version=3)
        self.context.client_port = 50123
        name = ApiVersionsRequest(client_software_name="some-client", client_software_version="1.2")
        api_versions.handle(broker, name, self.context)
        self.clock: Any = broker.env.clock

    async def subscribe(self, **settings: str) -> None:
        changes = [Change(name.replace("_", "."), SET, value) for name, value in settings.items()]
        (answer,) = await self.broker.controller.alter_configs([((CLIENT_METRICS, "one"), changes)])
        assert answer.code == 0, answer

    def ask(self, instance_id: bytes = ZERO_UUID) -> Any:
        request = GetTelemetrySubscriptionsRequest(client_instance_id=instance_id)
        return get_telemetry_subscriptions.handle(self.broker, request, self.context)

    async def push(self, asked: Any, metrics: bytes, **fields: Any) -> ErrorCode:
        request = PushTelemetryRequest(
            client_instance_id=asked.client_instance_id,
            subscription_id=asked.subscription_id,
            metrics=memoryview(metrics),
            **fields,
        )
        try:
            response = await push_telemetry.handle(self.broker, request, self.context)
        except ApiError as error:
            return error.code
        return ErrorCode(response.error_code)

    async def lines(self, path: str = FILE) -> list[dict[str, Any]]:
        await self.broker.close()
        disk = self.broker.env.disk
        return [json.loads(line) for line in disk.read(path).splitlines()] if disk.exists(path) else []


def run(test: Callable[[World], Awaitable[None]], **settings: object) -> None:
    async def with_world(world: metadata_world.World) -> None:
        await test(World(world.broker))

    metadata_world.run(with_world, settings)


def some(value: float = 1.0, **resource: Any) -> bytes:
    return metrics_data([metric("a.total", 7, number_point(value, {"node": "1"}), unit="ms")], resource)


def test_a_push_becomes_a_line_and_the_last_one_is_kept() -> None:
    async def test(world: World) -> None:
        await world.subscribe(metrics="a.", interval_ms="1000")
        asked = world.ask()
        assert (asked.push_interval_ms, asked.requested_metrics) == (1000, ["a."])
        assert (asked.accepted_compression_types, asked.telemetry_max_bytes) == ([4, 3, 1, 2], 1_048_576)
        assert not asked.delta_temporality
        assert await world.push(asked, some(1.0, client_rack="r")) == 0
        world.clock.time_ms += 1000
        assert await world.push(asked, some(2.0), terminating=True) == 0
        first, second = await world.lines()
        assert first == {
            "time_ms": world.clock.time_ms - 1000,
            "client_instance_id": second["client_instance_id"],
            "client_id": "orders",
            "client_software_name": "some-client",
            "client_software_version": "1.2",
            "client_source_address": "10.0.0.7",
            "client_source_port": "50123",
            "terminating": False,
            "resource": {"client_rack": "r"},
            "metrics": [{"name": "a.total", "kind": "sum", "value": 1.0, "unit": "ms", "attributes": {"node": "1"}}],
        }
        assert (second["terminating"], second["metrics"][0]["value"]) == (True, 2.0)
        assert world.broker.telemetry.snapshot() == [second]

    run(test)


@pytest.mark.parametrize("codec", range(5))
def test_every_codec(codec: int) -> None:
    async def test(world: World) -> None:
        asked = world.ask()
        data = bytes(compress(codec, some(3.5))) if codec else some(3.5)
        assert await world.push(asked, data, compression_type=codec) == 0
        assert [line["metrics"][0]["value"] for line in await world.lines()] == [3.5]

    run(test)


def test_what_is_no_metrics_is_refused() -> None:
    async def test(world: World) -> None:
        bomb = bytes(compress(4, bytes(5_000_000)))
        for data, codec in ((b"\xff\xff", 0), (b"no gzip", 1), (bomb, 4)):
            assert await world.push(world.ask(), data, compression_type=codec) == ErrorCode.INVALID_RECORD
        assert await world.push(world.ask(), b"") == 0, "nothing to say is fine"
        assert await world.lines() == []

    run(test, telemetry_max_bytes=100_000)


def test_numbers_that_json_does_not_have_are_null() -> None:
    async def test(world: World) -> None:
        points = [number_point(float(text)) for text in ("nan", "inf", "1.5")]
        await world.push(world.ask(), metrics_data([metric("a", 5, *points)]))
        assert [one["value"] for one in (await world.lines())[0]["metrics"]] == [None, None, 1.5]

    run(test)


def test_a_closed_connection_forgets_its_client() -> None:
    async def test(world: World) -> None:
        asked = world.ask()
        instances = world.broker.telemetry.instances
        assert len(instances) == 1
        with pytest.raises(ApiError, match="push interval"):
            world.ask(asked.client_instance_id)
        (forget,) = (world.context.on_close or {}).values()
        forget()
        assert len(instances) == 0
        assert world.ask(asked.client_instance_id).subscription_id == asked.subscription_id

    run(test)


def test_the_documentation_knows_every_field() -> None:
    documentation = (Path(__file__).resolve().parents[4] / "docs" / "client-metrics.md").read_text()

    async def test(world: World) -> None:
        await world.push(world.ask(), some(client_rack="r"))
        (line,) = await world.lines()
        for field in (*line, *line["metrics"][0]):
            assert f"`{field}`" in documentation

    run(test)


def test_file_and_memory_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(metrics_file, "MAX_FILE_BYTES", 2000)
    monkeypatch.setattr(telemetry, "MAX_KEPT_BYTES", 1000)

    async def test(world: World) -> None:
        for number in range(20):
            assert await world.push(world.ask(), some(float(number))) == 0
            await world.broker.close()
        kept = await world.lines(FILE + ".1") + await world.lines()
        values = [line["metrics"][0]["value"] for line in kept]
        assert values == [float(number) for number in range(20 - len(values), 20)], "the newest, in order"
        assert 4 <= len(values) < 14
        disk = world.broker.env.disk
        assert disk.size(FILE) <= 2000
        assert 1 <= len(world.broker.telemetry.snapshot()) <= 3

    run(test)


def test_a_failing_disk_costs_lines_and_not_the_client(caplog) -> None:
    async def test(world: World) -> None:
        disk: Any = world.broker.env.disk
        disk.make_directories(FILE)  # nothing can be written under that name
        for _ in range(3):
            assert await world.push(world.ask(), some()) == 0
            await world.broker.close()
        assert len(world.broker.telemetry.snapshot()) == 3
        disk.remove_tree(FILE)
        await world.push(world.ask(), some(7.0))
        assert [line["metrics"][0]["value"] for line in await world.lines()] == [7.0]

    run(test)
    assert len([record for record in caplog.records if "client metrics are lost" in record.message]) == 1

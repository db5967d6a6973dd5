"""HTTP: health, lag, what is wrong said in one line, and scrapes that let the broker go on."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

import ottla
from ottla.cli.errors import explain
from ottla.runtime.http import HttpListenError
from ottla.schema.config import BrokerConfig, Given
from ottla.schema.definition import SettingError
from ottla.server.metrics.endpoint import HttpEndpoint, parse_addresses
from ottla.testing import Cluster
from tests.server.metrics.scraping import Observed, free_port, load


class Starting:
    """A node that is starting."""

    def not_ready(self) -> str | None:
        return "the node is starting"

    def metrics(self) -> None:
        return None


def test_addresses() -> None:
    assert parse_addresses(["http://127.0.0.1:8080", "http://[::1]:0", "http://:9/"]) == [
        ("127.0.0.1", 8080),
        ("::1", 0),
        ("", 9),
    ]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8080", "https://127.0.0.1:8080", "http://host", "http://host:x", "http://h:99999"]
)
def test_an_address_that_is_none_is_told(text: str) -> None:
    with pytest.raises(SettingError, match="must look like http://"):
        parse_addresses([text])


def test_health_and_lag() -> None:
    with Observed() as observed:
        assert observed.get("/health/live") == (200, '{"status":"alive"}')
        assert observed.get("/health/ready") == (200, '{"status":"ready"}')
        assert observed.get("/")[0] == 200
        assert observed.get("/nothing")[0] == 404
        with load(observed.bootstrap) as parts:
            consumer: ottla.Consumer[bytes, bytes] = parts["consumer"]
            consumer.commit()
            groups = {one["group"]: one for one in observed.json("/lag")["groups"]}
            assert {"classic", "modern"} <= set(groups)
            assert groups["classic"]["status"] == "OK"
            report = observed.json("/lag/classic")["status"]
            assert report["partition_count"] == len(report["partitions"]) == 3
            assert report["totallag"] == sum(one["current_lag"] for one in report["partitions"])
        assert observed.get("/lag/nobody")[0] == 404


def test_a_node_that_starts_is_alive_and_not_ready() -> None:
    port = free_port()

    async def main() -> None:
        endpoint = HttpEndpoint(BrokerConfig.of({"http.listeners": f"http://127.0.0.1:{port}"}), Starting())
        await endpoint.open()
        try:
            for path, status in (("/health/live", b"200"), ("/health/ready", b"503"), ("/metrics", b"503")):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read()
                writer.close()
                assert answer.split()[1] == status, answer
        finally:
            await endpoint.close()

    asyncio.run(main())


def test_a_default_port_that_is_taken_is_a_warning_and_a_chosen_one_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def opened(config: BrokerConfig) -> list[int]:
        endpoint = HttpEndpoint(config, Starting())
        await endpoint.open()
        ports = endpoint.ports
        await endpoint.close()
        return ports

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert asyncio.run(opened(BrokerConfig({"http.listeners": Given(address, "default")}))) == []
        (record,) = caplog.records
        assert "already in use" in record.message
        with pytest.raises(HttpListenError, match="already in use"):
            asyncio.run(opened(BrokerConfig.of({"http.listeners": address})))


def test_a_chosen_port_that_is_taken_is_one_line_for_the_user() -> None:
    error = HttpListenError("127.0.0.1", 8080, OSError(errno.EADDRINUSE, "in use"))
    assert explain(error) == (
        "cannot listen on http://127.0.0.1:8080: the port is already in use; "
        "choose another address with --set http.listeners=http://HOST:PORT, or none"
    )


def test_nothing_is_served_unless_it_is_asked_for() -> None:
    with Cluster() as cluster:
        thread = cluster.threads[0]
        assert thread is not None
        assert thread.node.http_ports == []


def test_a_scrape_lets_the_broker_go_on() -> None:
    """The text of many partitions comes in pieces, between which others have their turn."""
    with Observed(topics={"many": 600}) as observed:
        thread = observed.cluster.threads[0]
        assert thread is not None

        async def turns() -> int:
            observation = thread.node._observation
            assert observation is not None
            metrics = observation.metrics()
            assert metrics is not None
            from ottla.server.metrics.exposition import LINES_PER_PIECE, pieces

            found = list(pieces(metrics.families()))
            assert max(piece.count("\n") for piece in found) <= 2 * LINES_PER_PIECE
            return len(found)

        assert thread.run(turns()) > 20

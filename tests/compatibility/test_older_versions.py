"""Our clients on a broker that serves no newer versions of the protocol than Kafka 2.1, the oldest that ours go with.

It is Ottla behind a proxy that answers ApiVersions in its place; what older brokers do is tried by
`python -m tests.compatibility.old_brokers`.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator

import pytest

from benchmarks.brokers import OttlaBroker, free_port
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.framing import encode_response
from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse
from tests.compatibility.admin_sweep import ADMIN_CALLS
from tests.compatibility.broker_sweep import FEATURES, Sweep, outcome_of
from tests.conftest import SETTINGS

NEWEST = {
    ApiKey.PRODUCE: 7, ApiKey.FETCH: 10, ApiKey.LIST_OFFSETS: 4, ApiKey.METADATA: 7, ApiKey.OFFSET_COMMIT: 6,
    ApiKey.OFFSET_FETCH: 5, ApiKey.FIND_COORDINATOR: 2, ApiKey.JOIN_GROUP: 3, ApiKey.HEARTBEAT: 2,
    ApiKey.LEAVE_GROUP: 2, ApiKey.SYNC_GROUP: 2, ApiKey.DESCRIBE_GROUPS: 2, ApiKey.LIST_GROUPS: 2,
    ApiKey.API_VERSIONS: 2, ApiKey.CREATE_TOPICS: 3, ApiKey.DELETE_TOPICS: 3, ApiKey.DELETE_RECORDS: 1,
    ApiKey.INIT_PRODUCER_ID: 1, ApiKey.OFFSET_FOR_LEADER_EPOCH: 2, ApiKey.ADD_PARTITIONS_TO_TXN: 1,
    ApiKey.ADD_OFFSETS_TO_TXN: 1, ApiKey.END_TXN: 1, ApiKey.WRITE_TXN_MARKERS: 0, ApiKey.TXN_OFFSET_COMMIT: 2,
    ApiKey.DESCRIBE_CONFIGS: 2, ApiKey.ALTER_CONFIGS: 1,
    ApiKey.ALTER_REPLICA_LOG_DIRS: 1, ApiKey.DESCRIBE_LOG_DIRS: 1,
    ApiKey.CREATE_PARTITIONS: 1, ApiKey.DELETE_GROUPS: 1,
}  # fmt: skip
"""The newest version of each API that Kafka 2.1 serves, where Ottla serves it too."""

REFUSED = {
    "transactions with offsets of a consumer (KIP-447)",
    "static membership (KIP-345)",
    '`group_protocol="consumer"` (KIP-848)',
    "server-side regex (KIP-848)",
    "`ShareConsumer` (KIP-932)",
    "metrics pushed to the broker (KIP-714)",
}
FORMATS = {"records in formats before 0.11", "idempotence on formats before 0.11"}
"""Ottla writes none of them."""


class OldFront:
    """Passes everything on to a broker, but answers ApiVersions as Kafka 2.1 does."""

    def __init__(self, port: int, broker_port: int) -> None:
        self.port, self.broker_port = port, broker_port
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(10)

    async def _listen(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        broker, to_broker = await asyncio.open_connection("127.0.0.1", self.broker_port)
        back = asyncio.ensure_future(self._pass_back(broker, to_client))
        try:
            while True:
                head = await client.readexactly(4)
                frame = await client.readexactly(int.from_bytes(head, "big"))
                api_key, version, correlation_id = struct.unpack(">hhi", frame[:8])
                if api_key == ApiKey.API_VERSIONS:
                    to_client.write(api_versions(version, correlation_id))
                else:
                    to_broker.write(head + frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            back.cancel()
            to_broker.close()
            to_client.close()

    async def _pass_back(self, broker: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while data := await broker.read(1 << 16):
            to_client.write(data)

    async def _shut(self) -> None:
        self.server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close a moment later

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def api_versions(version: int, correlation_id: int) -> bytes:
    answer = ApiVersionsResponse(
        api_keys=[ApiVersion(api_key=key, min_version=0, max_version=newest) for key, newest in NEWEST.items()]
    )
    if version > NEWEST[ApiKey.API_VERSIONS]:
        answer = ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
        version = 0
    return b"".join(encode_response(answer, version, correlation_id))


@pytest.fixture(scope="module")
def old_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    broker = OttlaBroker(tmp_path_factory.mktemp("old"), settings=SETTINGS)
    broker.settings["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{port}"
    broker.start()
    front = OldFront(port, broker.port)
    yield f"127.0.0.1:{port}"
    front.close()
    broker.stop()


@pytest.fixture(scope="module")
def sweep(old_cluster: str) -> Iterator[Sweep]:
    with_sweep = Sweep(old_cluster)
    yield with_sweep
    with_sweep.admin.close()


@pytest.mark.xdist_group("older versions")
@pytest.mark.parametrize("feature", FEATURES)
def test_features(sweep: Sweep, feature: str) -> None:
    status, message = outcome_of(sweep, FEATURES[feature])
    assert (status, message if status == "FAILED" else "") == (
        "no" if feature in REFUSED else "" if feature in FORMATS else "yes",
        "",
    )


@pytest.mark.xdist_group("older versions")
@pytest.mark.parametrize("call", ADMIN_CALLS)
def test_admin_calls_work_or_say_what_the_broker_lacks(sweep: Sweep, call: str) -> None:
    status, message = outcome_of(sweep, ADMIN_CALLS[call])
    assert status in ("yes", "no"), message

"""Connections under TLS, on the loops that clients really run on."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import uvloop

from ottla.client.errors import AuthenticationError, BootstrapError
from ottla.client.network.cluster import Cluster
from ottla.client.settings import ConsumerSettings
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from tests.client.network.fake_broker import FakeCluster
from tests.client.security.certificates import Certificate

LARGE = bytes(range(256)) * 8000


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(coroutine):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, 30))

    return run


@pytest.fixture
def authority():
    return Certificate("authority")


@pytest.fixture
def server_context(authority, tmp_path):
    certificate = Certificate("broker", authority, names=("127.0.0.1", "localhost"))
    path = tmp_path / "broker.pem"
    path.write_text(certificate.pem + certificate.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def cluster_of(fake, tmp_path, authority=None, **names):
    if authority is not None:
        (tmp_path / "authority.pem").write_text(authority.pem)
        names |= {
            "security_protocol": "SSL",
            "ssl_truststore_type": "PEM",
            "ssl_truststore_location": str(tmp_path / "authority.pem"),
        }
    return Cluster(ConsumerSettings.of(fake.bootstrap, None, names))


def test_responses_large_and_small(run, server_context, authority, tmp_path):
    async def main():
        async with FakeCluster(1, tls=server_context) as fake:
            partition = PartitionData(partition_index=0, records=LARGE)
            body = FetchResponse(responses=[FetchableTopicResponse(topic_id=bytes(16), partitions=[partition])])
            fake[1].on(ApiKey.FETCH, body)
            cluster = cluster_of(fake, tmp_path, authority)
            await cluster.start()
            fetched = await asyncio.gather(*(cluster.request(1, FetchRequest()) for _ in range(3)))
            assert all(one == body for one in fetched)
            await cluster.close()

    run(main())


def test_a_broker_that_is_not_trusted(run, server_context, tmp_path):
    async def main():
        async with FakeCluster(1, tls=server_context) as fake:
            cluster = cluster_of(fake, tmp_path, Certificate("other authority"))
            with pytest.raises(AuthenticationError, match="is not trusted"):
                await cluster.start()
            await cluster.close()

    run(main())


def test_plain_text_to_a_tls_port_is_told(run, server_context, tmp_path):
    async def main():
        async with FakeCluster(1, tls=server_context) as fake:
            cluster = cluster_of(fake, tmp_path, request_timeout_ms=300)
            with pytest.raises(BootstrapError, match=r"security\.protocol"):
                await cluster.start()
            await cluster.close()

    run(main())


def test_tls_to_a_plain_text_port_fails_in_time(run, authority, tmp_path):
    async def main():
        async with FakeCluster(1) as fake:
            cluster = cluster_of(
                fake, tmp_path, authority, socket_connection_setup_timeout_ms=100, request_timeout_ms=300
            )
            with pytest.raises(BootstrapError, match=r"security\.protocol"):
                await cluster.start()
            await cluster.close()

    run(main())

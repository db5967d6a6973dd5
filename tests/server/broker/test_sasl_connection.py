"""A listener that asks who one is, on a real socket: what is let through, refused, and how soon."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.protocol.messages.produce import ProduceRequest, ProduceResponse
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from ottla.schema.definition import SettingError
from ottla.schema.listeners import Listener as ListenerAddress
from ottla.security.scram import Scram
from ottla.security.scram_keys import salted_password, stored_keys
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.dispatch import Router
from ottla.server.broker.listener import Listener
from ottla.server.metadata.image import EMPTY_IMAGE, ScramCredentialImage
from tests.server.broker.support import FixedMetadata, make_broker, run

JAAS = 'PlainLoginModule required user_alice="secret" user_bob="secret";'
SETTINGS = {
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
    "listener.name.clients.plain.sasl.jaas.config": JAAS,
    "connection.failed.authentication.delay.ms": 20,
    "listeners": "CLIENTS://127.0.0.1:0",
    "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT",
    "inter.broker.listener.name": "CLIENTS",
}


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.correlation_id = 0

    def send(self, request, version):
        self.correlation_id += 1
        self.writer.write(b"".join(encode_request(request, version, self.correlation_id, "test")))

    async def frame(self):
        """The next frame; None when the connection has ended."""
        try:
            return await self.reader.readexactly(int.from_bytes(await self.reader.readexactly(4), "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def read(self, response, version):
        frame = await self.frame()
        assert frame is not None, "closed"
        return decode(response, version, frame, 5 if response_header_version(response.API_KEY, version) else 4)

    async def ask(self, request, version, response):
        self.send(request, version)
        return await self.read(response, version)

    async def handshake(self, mechanism="PLAIN", version=1):
        return await self.ask(SaslHandshakeRequest(mechanism=mechanism), version, SaslHandshakeResponse)

    async def token(self, message, version=2):
        return await self.ask(SaslAuthenticateRequest(auth_bytes=message), version, SaslAuthenticateResponse)

    async def login(self, user="alice", password="secret"):
        assert (await self.handshake()).error_code == 0
        return await self.token(f"\0{user}\0{password}".encode())

    async def works(self):
        answer = await self.ask(
            ApiVersionsRequest(client_software_name="t", client_software_version="1"), 3, ApiVersionsResponse
        )
        return answer.error_code == 0


@asynccontextmanager
async def secured(image=EMPTY_IMAGE, **settings):
    more = {name.replace("__", ".").replace("_", "."): value for name, value in settings.items()}
    broker = make_broker(SETTINGS | more, metadata=FixedMetadata(image))
    listener = Listener(
        broker,
        ListenerAddress("CLIENTS", "SASL_PLAINTEXT", "127.0.0.1", 0),
        Router(),
        ConnectionLimits.from_config(broker.config),
    )
    await listener.start()
    clients = []

    async def connect():
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", listener.port)))
        return clients[-1]

    try:
        yield listener, connect
    finally:
        for client in clients:
            client.writer.close()
        await listener.close()


def context_of(listener):
    return next(iter(listener.connections)).context


def test_a_login_and_what_is_known_then():
    async def main():
        async with secured() as (listener, connect):
            client = await connect()
            assert await client.works()
            assert context_of(listener).principal == "User:ANONYMOUS"
            answer = await client.login()
            assert (answer.error_code, answer.session_lifetime_ms) == (0, 0)
            context = context_of(listener)
            assert context.principal == "User:alice"
            assert (context.session.principal, context.session.mechanism) == ("User:alice", "PLAIN")
            assert await client.works()
            assert listener.logins.succeeded == 1

    run(main())


def test_what_comes_behind_a_login_in_the_same_packet_is_handled():
    async def main():
        async with secured() as (_, connect):
            client = await connect()
            client.send(SaslHandshakeRequest(mechanism="PLAIN"), 1)
            client.send(SaslAuthenticateRequest(auth_bytes=b"\0alice\0secret"), 1)
            for _ in range(3):
                client.send(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 3)
            assert (await client.read(SaslHandshakeResponse, 1)).error_code == 0
            assert (await client.read(SaslAuthenticateResponse, 1)).error_code == 0
            for _ in range(3):
                assert (await client.read(ApiVersionsResponse, 3)).error_code == 0

    run(main())


def test_a_login_where_the_memory_of_requests_is_limited():
    async def main():
        async with secured(queued_max_request_bytes=200_000_000) as (listener, connect):
            client = await connect()
            assert (await client.login()).error_code == 0
            assert await client.works()
            assert {type(one).__name__ for one in listener.connections} == {"BoundedSaslConnection"}

    run(main())


def test_a_refusal_comes_late_and_ends_the_connection():
    async def main():
        async with secured(connection_failed_authentication_delay_ms=80) as (listener, connect):
            client = await connect()
            loop = asyncio.get_running_loop()
            begin = loop.time()
            answer = await client.login(password="wrong")
            assert loop.time() - begin >= 0.07
            assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
            assert answer.error_message == "Authentication failed: Invalid username or password"
            assert await client.frame() is None
            assert (listener.logins.failed, listener.logins.succeeded) == (1, 0)

    run(main())


def test_nothing_is_served_before_a_login():
    async def main():
        async with secured() as (listener, connect):
            client = await connect()
            client.send(MetadataRequest(), 12)
            assert await client.frame() is None
            client = await connect()
            await client.handshake()
            answer = await client.ask(MetadataRequest(), 13, MetadataResponse)
            assert answer.error_code == ErrorCode.ILLEGAL_SASL_STATE
            assert await client.frame() is None
            assert listener.requests == 0

    run(main())


def test_messages_that_are_too_large_are_not_received():
    async def main():
        async with secured(sasl_server_max_receive_size=1000) as (listener, connect):
            client = await connect()
            client.writer.write((1001).to_bytes(4, "big") + b"x")
            assert await client.frame() is None
            assert listener.logins.failed == 1
            client = await connect()
            await client.login()
            client.send(ApiVersionsRequest(client_software_name="t" * 1000, client_software_version="1"), 3)
            assert (await client.read(ApiVersionsResponse, 3)).error_code == 0

    run(main())


def test_old_clients_speak_without_frames_of_kafka():
    async def main():
        async with secured() as (listener, connect):
            client = await connect()
            assert (await client.handshake(version=0)).error_code == 0
            client.writer.write(b"\0\0\0\x0d\0alice\0secret")
            assert await client.frame() == b""
            assert await client.works()
            client = await connect()
            await client.handshake(version=0)
            client.writer.write(b"\0\0\0\x0c\0alice\0wrong")
            client.writer.write(b"x")
            assert await client.frame() is None
            assert listener.logins.failed == 1

    run(main())


def test_a_session_is_renewed_or_ends():
    async def main():
        async with secured(connections_max_reauth_ms=300) as (listener, connect):
            client = await connect()
            late = await connect()
            assert (await late.login()).session_lifetime_ms == 300
            assert (await client.login()).session_lifetime_ms == 300
            assert (await client.login()).session_lifetime_ms == 300
            assert (await client.handshake()).error_code == ErrorCode.ILLEGAL_SASL_STATE, "twice within a second"
            assert await client.works()
            await asyncio.sleep(0.4)
            assert (await late.login()).error_code == 0, "nothing else came before"
            assert await late.works()
            client.send(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 3)
            assert await client.frame() is None
            assert (listener.logins.reauthenticated, listener.logins.expired) == (2, 1)

    run(main())


def test_nobody_becomes_somebody_else():
    async def main():
        async with secured(connections_max_reauth_ms=60_000) as (listener, connect):
            client = await connect()
            await client.login()
            answer = await client.login("bob")
            assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
            assert answer.error_message == (
                "Cannot change principals during re-authentication from User.alice: User.bob"
            )
            assert await client.frame() is None
            client = await connect()
            await client.login()
            assert (await client.handshake("SCRAM-SHA-256")).error_code == 0
            client.send(SaslAuthenticateRequest(auth_bytes=b"n,,n=alice,r=abc"), 1)
            assert await client.frame() is None
            assert listener.logins.failed_again == 2

    run(main())


def test_a_session_without_end_is_not_renewed():
    async def main():
        async with secured() as (_, connect):
            client = await connect()
            await client.login()
            assert (await client.handshake()).error_code == ErrorCode.ILLEGAL_SASL_STATE
            answer = await client.token(b"\0alice\0secret")
            assert answer.error_code == ErrorCode.ILLEGAL_SASL_STATE
            assert answer.error_message == "SaslAuthenticate request received after successful authentication"
            assert await client.works()

    run(main())


def scram_image(user="carol", password="geheim", iterations=4096):
    keys = stored_keys("SCRAM-SHA-256", salted_password("SCRAM-SHA-256", password, b"salt", iterations))
    return EMPTY_IMAGE._replace(scram={(1, user): ScramCredentialImage(b"salt", *keys, iterations)})


def test_credentials_are_those_of_the_newest_metadata():
    async def login(client):
        await client.handshake("SCRAM-SHA-256")
        mechanism = Scram("SCRAM-SHA-256", "carol", "geheim", "abc")
        first = await client.token(mechanism.first_message())
        answer = await client.token(mechanism.respond(first.auth_bytes))
        if not answer.error_code:
            assert mechanism.respond(answer.auth_bytes) is None
        return answer.error_code

    async def main():
        async with secured(scram_image()) as (listener, connect):
            old = await connect()
            assert await login(old) == 0
            listener.broker.metadata.image = EMPTY_IMAGE
            assert await login(await connect()) == ErrorCode.SASL_AUTHENTICATION_FAILED
            assert await old.works(), "who is in stays in, as in Kafka"
            listener.broker.metadata.image = scram_image(iterations=8192)
            assert await login(await connect()) == 0

    run(main())


def test_a_flood_of_refusals_does_not_fill_the_log(caplog):
    async def main():
        async with secured(connection_failed_authentication_delay_ms=0) as (listener, connect):
            for _ in range(30):
                client = await connect()
                await client.login("al\nice", "geheim")
            assert listener.logins.failed == 30

    with caplog.at_level("INFO", "ottla"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if "refusing" in record.getMessage()]
    assert 0 < len(lines) <= 20
    assert "user 'al\\nice' by PLAIN: unknown user or wrong password" in lines[0]
    assert not any("geheim" in line or "\n" in line for line in lines)


def test_guessing_becomes_slower():
    async def main():
        async with secured(connection_failed_authentication_delay_ms=4) as (listener, connect):
            loop = asyncio.get_running_loop()
            begin = loop.time()
            for _ in range(10):
                assert (await (await connect()).login(password="wrong")).error_code != 0
            assert loop.time() - begin > 0.15, "4 ms each would be 40"
            begin = loop.time()
            assert (await (await connect()).login()).error_code == 0
            assert len(listener.sasl.failures) == 1, "it is remembered that the address was forgiven"
            assert listener.sasl.failures.failed("127.0.0.1", "alice", loop.time() * 1000) == 4

    run(main())


def test_a_broker_that_stops_waits_for_nobody_who_is_refused():
    async def main():
        async with secured(connection_failed_authentication_delay_ms=60_000) as (listener, connect):
            client = await connect()
            await client.handshake()
            client.send(SaslAuthenticateRequest(auth_bytes=b"\0alice\0wrong"), 1)
            while not listener.logins.failed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            client.writer.close()
            await asyncio.sleep(0.05)
            assert not listener.connections

    run(main())


def test_users_change_while_the_broker_runs():
    async def main():
        async with secured() as (listener, connect):
            broker = listener.broker
            key = "listener.name.clients.plain.sasl.jaas.config"
            broker.config = broker.config.with_dynamic({key: JAAS.replace("secret", "other")}, {})
            assert (await (await connect()).login()).error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
            assert (await (await connect()).login(password="other")).error_code == 0
            broker.config = broker.config.with_dynamic({key: "nonsense"}, {})
            assert (await (await connect()).login(password="other")).error_code == 0

    run(main())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sasl.enabled.mechanisms": "PLAIN,NTLM"}, "there is no mechanism NTLM"),
        ({"listener.name.clients.plain.sasl.jaas.config": "x y"}, "cannot be read"),
        ({"sasl.enabled.mechanisms": ""}, "name at least one mechanism"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_a_line(settings, text):
    broker = make_broker(SETTINGS | settings)
    with pytest.raises(SettingError) as caught:
        Listener(
            broker,
            ListenerAddress("CLIENTS", "SASL_PLAINTEXT", "127.0.0.1", 0),
            Router(),
            ConnectionLimits.from_config(broker.config),
        )
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_answers_that_are_owed_do_not_prolong_a_session():
    """Who always has a produce under way would stay for ever, long after his password is gone."""

    class Replicating(DelayedResponse):
        lets_next_in = True

    async def main():
        async with secured(connections_max_reauth_ms=300) as (listener, connect):
            waiting = []

            def replicate(route, handle, broker, request, context):
                waiting.append(Replicating())
                return waiting[-1]

            client = await connect()
            await client.login()
            listener.router.intercept(replicate)
            produce = ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[])
            client.send(produce, 11)
            client.send(produce, 11)
            await asyncio.sleep(0.35)
            assert len(waiting) == 2
            client.send(produce, 11)
            await asyncio.sleep(0.05)
            assert len(waiting) == 2, "it came when the session was over"
            for one in waiting:
                one.respond(ProduceResponse())
            assert await client.frame() is not None
            assert await client.frame() is not None
            assert await client.frame() is None
            assert listener.logins.expired == 1

    run(main())


def test_a_session_that_is_over_is_renewed_in_time_also_behind_answers_that_are_owed():
    class Replicating(DelayedResponse):
        lets_next_in = True

    async def main():
        async with secured(connections_max_reauth_ms=300) as (listener, connect):
            waiting = []

            def replicate(route, handle, broker, request, context):
                if route.api.name != "Produce":
                    return handle(broker, request, context)
                waiting.append(Replicating())
                return waiting[-1]

            client = await connect()
            await client.login()
            listener.router.intercept(replicate)
            client.send(ProduceRequest(acks=-1, timeout_ms=1000, topic_data=[]), 11)
            await asyncio.sleep(0.35)
            client.send(SaslHandshakeRequest(mechanism="PLAIN"), 1)
            await asyncio.sleep(0.05)
            waiting[0].respond(ProduceResponse())
            assert (await client.read(ProduceResponse, 11)).responses == []
            assert (await client.read(SaslHandshakeResponse, 1)).error_code == 0
            assert (await client.token(b"\0alice\0secret")).error_code == 0
            assert await client.works()

    run(main())


@pytest.mark.parametrize("size", [-1, 2**31 - 1])
def test_nothing_comes_in_behind_a_login_that_is_refused_after_a_session(size, caplog):
    """The handshake is too soon after the last one; what follows it in the same packet is not for a session either."""

    async def main():
        async with secured(connections_max_reauth_ms=200) as (listener, connect):
            client = await connect()
            await client.login()
            assert (await client.login()).error_code == 0
            await asyncio.sleep(0.25)
            client.send(SaslHandshakeRequest(mechanism="PLAIN"), 1)
            client.send(ApiVersionsRequest(client_software_name="t", client_software_version="1"), 3)
            assert await client.frame() is None
            assert (listener.logins.expired, listener.requests) == (1, 1), "the first re-authentication, and no more"
            other = await connect()
            await other.login()
            await asyncio.sleep(0.25)
            other.writer.write(size.to_bytes(4, "big", signed=True))
            assert await other.frame() is None
            assert not [record for record in caplog.records if record.name == "asyncio"]

    run(main())

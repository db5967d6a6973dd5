"""The exchange over a connection: what is asked, what is believed, and what an error says."""

import asyncio

import pytest

from ottla.client.errors import AuthenticationError, ConfigError, KafkaError
from ottla.client.security import connection_security
from ottla.client.settings import AdminSettings
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from tests.security.test_mechanisms import ScramServer


def sasl(mechanism="PLAIN", **names):
    credentials = {} if mechanism in ("OAUTHBEARER", "GSSAPI") else {"sasl_username": "me", "sasl_password": "geheim"}
    names = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism, **credentials, **names}
    return connection_security(AdminSettings.of("a", None, names))


class Broker:
    """Answers the exchange; `authenticate` makes the answer to each step."""

    def __init__(self, authenticate, mechanisms=("PLAIN", "SCRAM-SHA-256"), lifetime_ms=0):
        self.authenticate = authenticate
        self.mechanisms = mechanisms
        self.lifetime_ms = lifetime_ms
        self.requests = []

    async def __call__(self, request):
        self.requests.append(request)
        if isinstance(request, SaslHandshakeRequest):
            code = 0 if request.mechanism in self.mechanisms else 33
            return SaslHandshakeResponse(error_code=code, mechanisms=list(self.mechanisms))
        assert isinstance(request, SaslAuthenticateRequest)
        answer = self.authenticate(request.auth_bytes)
        if isinstance(answer, bytes):
            return SaslAuthenticateResponse(
                error_code=0, error_message=None, auth_bytes=answer, session_lifetime_ms=self.lifetime_ms
            )
        code, message = answer
        return SaslAuthenticateResponse(error_code=code, error_message=message, auth_bytes=b"")


def authenticate(security, broker):
    return asyncio.run(security.authenticate(broker, "broker1"))


def failure(security, broker, kind=AuthenticationError):
    with pytest.raises(kind) as caught:
        authenticate(security, broker)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_plaintext_needs_nothing():
    assert connection_security(AdminSettings.of("a")) is None


def test_tls_alone_authenticates_nobody():
    security = connection_security(AdminSettings.of("a", {"security.protocol": "SSL"}))
    assert asyncio.run(security.authenticate(None, "broker1")) is None
    context, name = security.ssl_context("broker1.example.")
    assert name == "broker1.example"
    assert security.ssl_context("other") == (context, "other")
    assert sasl().ssl_context("broker1") is None
    assert sasl(security_protocol="SASL_SSL").ssl_context("broker1")[1] == "broker1"


def test_plain():
    broker = Broker(lambda data: b"" if data == b"\0me\0geheim" else (58, "wrong"), lifetime_ms=5000)
    assert authenticate(sasl(), broker) == 5000
    assert [type(request) for request in broker.requests] == [SaslHandshakeRequest, SaslAuthenticateRequest]


def test_a_session_without_end():
    assert authenticate(sasl(), Broker(lambda data: b"")) is None


def test_scram():
    server = ScramServer("SCRAM-SHA-256", "geheim")
    assert authenticate(sasl("SCRAM-SHA-256"), Broker(scram_steps(server))) is None


def scram_steps(server):
    steps = iter([lambda data: server.first(data.decode()), lambda data: server.final(data)])
    return lambda data: next(steps)(data)


def test_every_exchange_has_its_own_nonce():
    security, seen = sasl("SCRAM-SHA-256"), set()
    for _ in range(3):
        failure(security, Broker(lambda data: seen.add(data) or (58, None)))
    assert len(seen) == 3


def test_a_password_that_is_wrong():
    error = failure(sasl(), Broker(lambda data: (58, "Authentication failed: Invalid username or password.")))
    assert str(error) == (
        "SASL_AUTHENTICATION_FAILED: broker1 refused PLAIN: Authentication failed: Invalid username or password. "
        "Check sasl.username and sasl.password."
    )
    assert not error.retriable


def test_a_broker_that_only_pretends():
    server = ScramServer("SCRAM-SHA-256", "something else")
    steps = iter([lambda data: server.first(data.decode()), lambda data: b"v=AAAA"])
    error = failure(sasl("SCRAM-SHA-256"), Broker(lambda data: next(steps)(data)))
    assert "could not prove that it knows the password" in str(error)


def test_a_mechanism_that_is_not_enabled():
    error = failure(sasl("SCRAM-SHA-512"), Broker(None, mechanisms=["PLAIN"]))
    assert str(error) == (
        "UNSUPPORTED_SASL_MECHANISM: broker1 does not take SCRAM-SHA-512; it takes PLAIN. Set sasl.mechanism to PLAIN."
    )
    assert "no mechanism at all" in str(failure(sasl(), Broker(None, mechanisms=[])))


def test_other_errors_of_a_broker_keep_their_code():
    async def refuse(request):
        return SaslHandshakeResponse(error_code=34, mechanisms=[])

    assert failure(sasl(), refuse).number == 34
    assert failure(sasl(), Broker(lambda data: (7, None)), KafkaError).retriable


def test_a_token_that_is_refused():
    steps = iter([b'{"status":"invalid_token"}', (58, "Authentication failed")])
    broker = Broker(lambda data: next(steps), mechanisms=["OAUTHBEARER"])
    error = failure(sasl("OAUTHBEARER", sasl_oauth_token_provider=lambda: "abc"), broker)
    assert "refused OAUTHBEARER: Authentication failed" in str(error)
    assert "invalid_token" in str(error)
    assert broker.requests[-1].auth_bytes == b"\x01"


def test_a_reason_that_is_given_twice_is_told_once():
    refusal = '{"status":"invalid_token"}'
    steps = iter([refusal.encode(), (58, refusal)])
    broker = Broker(lambda data: next(steps), mechanisms=["OAUTHBEARER"])
    error = failure(sasl("OAUTHBEARER", sasl_oauth_token_provider=lambda: "abc"), broker)
    assert str(error).count("invalid_token") == 1


def test_without_a_token_the_broker_is_not_bothered():
    def provide():
        raise OSError("no network")

    broker = Broker(None)
    assert "OSError: no network" in str(failure(sasl("OAUTHBEARER", sasl_oauth_token_provider=provide), broker))
    assert broker.requests == []


def test_a_broker_that_never_ends():
    class Endless:
        is_slow = False

        def first_message(self):
            return b""

        def respond(self, challenge):
            return b""

    security = sasl()

    async def make(host):
        return Endless()

    security._make = make
    assert "does not come to an end" in str(failure(security, Broker(lambda data: b"")))


def test_a_missing_package_is_named_at_once(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ConfigError, match=r"pip install 'ottla\[gssapi\]'"):
        sasl("GSSAPI")


def test_missing_credentials_are_named_at_once():
    with pytest.raises(ConfigError, match=r"set sasl\.username and sasl\.password"):
        connection_security(AdminSettings.of("a", {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}))

"""OAUTHBEARER between a client and a listener."""

from __future__ import annotations

import asyncio
import http.server
import logging
import ssl
import threading

import pytest

from ottla.client.security.token_sources import unsecured_token
from ottla.security.errors import SecurityConfigError
from ottla.security.oauthbearer import OAuthBearer
from ottla.server.security.sasl.mechanism import AuthenticationError, BackendUnavailableError
from ottla.server.security.sasl.oauthbearer import open_service, parse_message
from tests.client.security.certificates import Certificate
from tests.server.security.identities import AUDIENCE, ISSUER, NOW_MS, Issuer, base64, surroundings

ISSUED = Issuer()
UNSECURED = (
    "org.apache.kafka.common.security.oauthbearer.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler"
)
EXPECTED = {
    "sasl_oauthbearer_expected_issuer": ISSUER,
    "sasl_oauthbearer_expected_audience": f"other,{AUDIENCE}",
    "sasl_oauthbearer_groups_claim_name": "groups",
}


def service(path, **settings):
    return open_service(
        surroundings("OAUTHBEARER", sasl_oauthbearer_jwks_endpoint_url=path.as_uri(), **EXPECTED, **settings)
    )


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "keys.json"
    path.write_bytes(ISSUED.document())
    return path


def log_in(service, token, extensions=None):
    return asyncio.run(service.begin("127.0.0.1").respond(OAuthBearer(token, extensions).first_message()))


def test_a_token_opens_a_session_that_ends_with_it(document):
    step = log_in(service(document), ISSUED.token(groups=["operators"]), {"traceId": "x y"})
    assert step.answer == b""
    assert step.session == (
        "User:alice",
        ("operators",),
        "OAUTHBEARER",
        NOW_MS + 3_600_000,
        None,
        None,
    )


def test_a_refused_client_hears_why_and_then_that_it_is_refused(document):
    async def run():
        exchange = service(document).begin("127.0.0.1")
        step = await exchange.respond(OAuthBearer(ISSUED.token(aud="other than that")).first_message())
        assert step[:2] == (b'{"status":"invalid_token"}', None)
        assert step.refusal.reason == "the token is refused: the token is not for other or kafka"
        with pytest.raises(AuthenticationError) as caught:
            await exchange.respond(b"\x01")
        assert str(caught.value) == '{"status":"invalid_token"}'
        assert caught.value.reason == "the token is refused: the token is not for other or kafka"

    asyncio.run(run())


def test_another_token_after_a_refusal_is_not_heard(document):
    async def run():
        exchange = service(document).begin("127.0.0.1")
        await exchange.respond(OAuthBearer("not.a.token").first_message())
        with pytest.raises(AuthenticationError):
            await exchange.respond(OAuthBearer(ISSUED.token()).first_message())

    asyncio.run(run())


def test_keys_in_a_file_count_as_long_as_they_are_there(document):
    signed_in = service(document)
    assert log_in(signed_in, ISSUED.token()).session is not None
    document.write_bytes(ISSUED.document("rsa"))
    assert log_in(signed_in, ISSUED.token()).session is None
    assert log_in(signed_in, ISSUED.token("rsa", "RS256")).session is not None


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer x\x01",
        b"y,,\x01auth=Bearer x\x01\x01",
        b"n,,\x01auth=Basic x\x01\x01",
        b"n,,\x01auth=Bearer \x01\x01",
        b"n,,\x01auth=Bearer x y\x01\x01",
        b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
        b"n,,\x01auth=Bearer x\x01na-me=y\x01\x01",
        b"n,,\x01auth=Bearer x\x01name=\xc3\xa9\x01\x01",
        b"n,a=\xff,\x01auth=Bearer x\x01\x01",
        b"n,,\x01auth=Bearer x\x01\x01 ",
        b"n,a=a,b,\x01auth=Bearer x\x01\x01",
    ],
)
def test_what_is_no_message_is_refused_without_a_word(document, message):
    with pytest.raises(AuthenticationError) as caught:
        asyncio.run(service(document).begin("127.0.0.1").respond(message))
    assert str(caught.value) == ""


def test_messages_of_other_clients():
    found = parse_message(b"n,a=a=2Cb=3D,\x01host=h\x01port=1\x01auth=bearer   x.y-z_~+/==\x01\x01")
    assert found == ("x.y-z_~+/==", "a,b=", {"host": "h", "port": "1"})


def test_an_authorization_id_must_be_who_the_token_is_for(document):
    def message(name):
        return b"n,a=%s,\x01auth=Bearer %s\x01\x01" % (name, ISSUED.token().encode())

    assert asyncio.run(service(document).begin("h").respond(message(b"alice"))).session is not None
    with pytest.raises(AuthenticationError, match="authorization id"):
        asyncio.run(service(document).begin("h").respond(message(b"admin")))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "needs sasl.oauthbearer.jwks.endpoint.url"),
        ({"sasl_oauthbearer_jwks_endpoint_url": "keys.json"}, "must be a URL"),
        ({"sasl_oauthbearer_jwks_endpoint_url": "ftp://host/keys"}, "must be a URL"),
        ({"sasl_oauthbearer_jwks_endpoint_url": "file:///no/such/file"}, "No such file"),
        ({"sasl_server_callback_handler_class": "com.example.Own"}, "there is no Own"),
        ({"sasl_oauthbearer_jwt_validator_class": "com.example.Own"}, "there is no Own"),
        (
            {
                "sasl_oauthbearer_jwks_endpoint_url": "https://localhost/keys",
                "sasl_jaas_config": "PlainLoginModule required;",
            },
            "has a PlainLoginModule",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_told(settings, text):
    with pytest.raises(SecurityConfigError, match=text) as caught:
        open_service(surroundings("OAUTHBEARER", **settings))
    assert "\n" not in str(caught.value)


def test_a_missing_expectation_is_told_when_the_listener_starts(document, caplog):
    open_service(surroundings("OAUTHBEARER", sasl_oauthbearer_jwks_endpoint_url=document.as_uri()))
    assert [record.getMessage().rpartition("set ")[2] for record in caplog.records] == [
        "sasl.oauthbearer.expected.issuer",
        "sasl.oauthbearer.expected.audience",
    ]


# Tokens that nobody has signed


def unsecured(**settings):
    return open_service(surroundings("OAUTHBEARER", sasl_server_callback_handler_class=UNSECURED, **settings))


def test_unsigned_tokens_are_believed_only_when_it_is_asked_for(document, caplog):
    token = unsecured_token({"sub": "alice", "exp": NOW_MS / 1000 + 60, "scope": ["a", "b"], "aud": "any"})
    assert log_in(service(document), token).session is None
    with caplog.at_level(logging.WARNING):
        signed_in = unsecured()
    assert "that nobody has signed" in caplog.text
    assert log_in(signed_in, token).session.principal == "User:alice"
    jaas = (
        'OAuthBearerLoginModule required unsecuredValidatorRequiredScope="a c" unsecuredValidatorPrincipalClaimName=x;'
    )
    asked = unsecured(sasl_jaas_config=jaas)
    assert log_in(asked, token).session is None
    token = unsecured_token({"x": "bob", "exp": NOW_MS / 1000 + 60, "scope": ["a", "c"]})
    assert log_in(asked, token).session.principal == "User:bob"


@pytest.mark.parametrize(
    "token",
    [
        ISSUED.token(),
        unsecured_token({"sub": "alice", "exp": NOW_MS / 1000}),
        unsecured_token({"sub": "alice"}),
        unsecured_token({"exp": NOW_MS / 1000 + 60}),
        unsecured_token({"sub": "a", "exp": NOW_MS / 1000 + 60}) + "x",
        f"{base64({'alg': 'RS256'})}.{base64({'sub': 'a', 'exp': 1e11})}.",
        "x.y.",
    ],
)
def test_unsigned_tokens_have_rules_too(token):
    assert log_in(unsecured(), token).session is None


# An issuer on the network


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        if self.path == "/broken":
            self.wfile.write(b"nonsense\r\n\r\n")
            return
        body = {"/keys": ISSUED.document(), "/large": b" " * 2_000_000, "/text": b"<html>"}.get(self.path)
        self.send_response(200 if body else 503)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def endpoint():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_keys_come_over_http(endpoint):
    signed_in = open_service(
        surroundings("OAUTHBEARER", sasl_oauthbearer_jwks_endpoint_url=f"{endpoint}/keys", **EXPECTED)
    )
    assert log_in(signed_in, ISSUED.token("p384", "ES384")).session is not None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("moved", "it answers 302"),
        ("large", "larger than"),
        ("text", "no JSON"),
        ("none", "it answers 503"),
        ("broken", "its answer is not HTTP"),
    ],
)
def test_an_endpoint_without_keys(endpoint, path, reason):
    signed_in = open_service(
        surroundings("OAUTHBEARER", sasl_oauthbearer_jwks_endpoint_url=f"{endpoint}/{path}", **EXPECTED)
    )
    with pytest.raises(BackendUnavailableError, match=reason):
        log_in(signed_in, ISSUED.token())


def test_keys_come_over_https_from_who_is_trusted(tmp_path):
    authority = Certificate("authority")
    own = Certificate("issuer", authority, names=["localhost"])
    (tmp_path / "authority.pem").write_text(authority.pem)
    (tmp_path / "own.pem").write_text(own.key_pem() + own.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *arguments: None
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            names = {"sasl_oauthbearer_jwks_endpoint_url": f"https://localhost:{server.server_port}/keys", **EXPECTED}
            jaas = f'OAuthBearerLoginModule required ssl.truststore.location="{tmp_path}/authority.pem";'
            trusting = open_service(surroundings("OAUTHBEARER", sasl_jaas_config=jaas, **names))
            assert log_in(trusting, ISSUED.token()).session is not None
            with pytest.raises(BackendUnavailableError, match="certificate is not trusted"):
                log_in(open_service(surroundings("OAUTHBEARER", **names)), ISSUED.token())
        finally:
            server.shutdown()
            thread.join()

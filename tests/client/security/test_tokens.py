"""OAuth tokens: where they come from, how long they are kept, and what is said when there is none."""

import asyncio
import json
import threading
import time
from base64 import b64decode, urlsafe_b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from ottla.client.errors import AuthenticationError, ConfigError, ConnectionFailedError
from ottla.client.security.token_sources import token_source, unsecured_token
from ottla.client.security.tokens import OAuthToken, RefreshRule, TokenKeeper, jwt_claims, token_from
from ottla.client.settings import AdminSettings
from tests.client.security.certificates import make_key

MODULE = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"
RULE = RefreshRule(0.8, 0.05, 60_000, 300_000)


def oauth(settings=None, **names):
    common = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"}
    return AdminSettings.of("a", {**common, **(settings or {})}, names)


def fetch(settings):
    return asyncio.run(token_source(settings)())


# How long a token is kept


@pytest.mark.parametrize(
    ("lifetime_s", "chance", "refresh_after_s"),
    [
        (3600, 0, 2880),
        (3600, 1, 3060),
        (1000, 0, 700),  # 300 s are left over
        (400, 0, 100),
        (361, 0, 61),
        (360, 0, 288),  # too short for both: a share of its life
        (10, 0, 8),
        (0, 0, 0),
        (-5, 0, -5),
    ],
)
def test_a_token_is_replaced_in_time(lifetime_s, chance, refresh_after_s):
    token = OAuthToken("x", 1_000_000 + lifetime_s * 1000)
    assert RULE.refresh_at_ms(token, 1_000_000, chance) == 1_000_000 + refresh_after_s * 1000


def test_a_token_of_unknown_life_is_asked_for_again():
    assert RULE.refresh_at_ms(OAuthToken("x"), 5, 0) == 5


class Clock:
    now_ms = 0


def keeper(provider):
    clock = Clock()
    settings = oauth(sasl_oauth_token_provider=provider)
    return TokenKeeper(settings, now_ms=lambda: clock.now_ms, chance=lambda: 0), clock


def test_all_connections_share_a_token():
    calls = []

    async def provide():
        calls.append(1)
        await asyncio.sleep(0)
        return (f"token{len(calls)}", 3600)

    async def run():
        kept, clock = keeper(provide)
        tokens = await asyncio.gather(*(kept.token() for _ in range(5)))
        assert {token.value for token in tokens} == {"token1"}
        clock.now_ms = 2_879_999
        assert (await kept.token()).value == "token1"
        clock.now_ms = 2_880_000
        assert (await kept.token()).value == "token2"
        assert len(calls) == 2

    asyncio.run(run())


def test_an_old_token_is_used_to_its_end_when_there_is_no_new_one(caplog):
    answers = [("old", 3600)]

    def provide():
        return answers.pop()

    async def run():
        kept, clock = keeper(provide)
        await kept.token()
        clock.now_ms = 3_000_000
        assert (await kept.token()).value == "old"
        assert (await kept.token()).value == "old"
        assert len(caplog.records) == 1  # and not again for a while
        clock.now_ms = 3_600_000
        with pytest.raises(AuthenticationError, match="the OAuth token provider failed: IndexError: pop from empty"):
            await kept.token()

    asyncio.run(run())


# The user's own


class Provider:
    """As kafka-python and aiokafka have it."""

    def __init__(self, is_coroutine):
        self.is_coroutine = is_coroutine

    def token(self):
        async def later():
            return "abc"

        return later() if self.is_coroutine else "abc"

    def extensions(self):
        return {"traceId": "1"}


JWT = unsecured_token({"sub": "me", "exp": 2_000_000_000, "iat": 1_999_996_400})


@pytest.mark.parametrize(
    ("provider", "token"),
    [
        (lambda: "abc\n", OAuthToken("abc")),
        (lambda: b"abc", OAuthToken("abc")),
        (lambda: JWT, OAuthToken(JWT, 2_000_000_000_000, {}, 1_999_996_400_000)),
        (lambda: ("abc", 7.5), OAuthToken("abc", 7500)),
        (lambda config: ("abc", 7, "me", {"traceId": "1"}), OAuthToken("abc", 7000, {"traceId": "1"})),
        (lambda: OAuthToken("abc", 5), OAuthToken("abc", 5)),
        (Provider(False), OAuthToken("abc", None, {"traceId": "1"})),
        (Provider(True), OAuthToken("abc", None, {"traceId": "1"})),
    ],
)
def test_what_a_provider_may_be(provider, token):
    for name in ("sasl.oauth.token.provider", "oauth_cb", "sasl.login.callback.handler.class"):
        assert fetch(oauth({name: provider})) == token


def test_a_provider_that_is_a_coroutine_runs_on_the_loop():
    async def provide():
        return threading.current_thread().name

    async def run():
        source = token_source(oauth(sasl_oauth_token_provider=provide))
        assert (await source()).value == threading.current_thread().name

    asyncio.run(run())


def test_librdkafkas_configuration_goes_to_its_callback():
    seen = []
    settings = oauth({"oauth_cb": lambda config: seen.append(config) or "abc", "sasl.oauthbearer.config": "any text"})
    assert fetch(settings).value == "abc"
    assert seen == ["any text"]


@pytest.mark.parametrize("answer", [None, 5, ("abc",), (5, 5)])
def test_what_a_provider_may_not_return(answer):
    with pytest.raises(AuthenticationError, match="It must return the token, or a tuple"):
        fetch(oauth(sasl_oauth_token_provider=lambda: answer))


def test_what_is_no_provider():
    with pytest.raises(ConfigError, match="must be a function, or an object with a method token"):
        token_source(oauth(sasl_oauth_token_provider=5))
    with pytest.raises(ConfigError, match="say where tokens come from"):
        token_source(oauth())


def test_a_token_never_shows():
    assert "geheim" not in repr(OAuthToken("geheim"))


# Files and unsecured tokens


def test_a_token_from_a_file_is_read_anew(tmp_path):
    path = tmp_path / "to ken"
    path.write_text(f"{JWT}\n")
    settings = oauth({"sasl.oauthbearer.token.endpoint.url": path.as_uri(), "sasl.oauthbearer.extensions": "a=b, c=d"})
    source = token_source(settings)
    assert asyncio.run(source()) == OAuthToken(JWT, 2_000_000_000_000, {"a": "b", "c": "d"}, 1_999_996_400_000)
    path.write_text("other")
    assert asyncio.run(source()).value == "other"
    path.write_text(" ")
    with pytest.raises(AuthenticationError, match="is empty"):
        asyncio.run(source())
    path.unlink()
    with pytest.raises(AuthenticationError, match=r"cannot read .*: No such file"):
        asyncio.run(source())


@pytest.mark.parametrize(
    "settings",
    [
        {
            "sasl.jaas.config": f'{MODULE} required unsecuredLoginStringClaim_sub="me" unsecuredLoginNumberClaim_n=5'
            ' unsecuredLoginListClaim_scope="|a|b" unsecuredLoginLifetimeSeconds=60 unsecuredLoginExtension_x=y;'
        },
        {
            "sasl.oauthbearer.config": "principal=me scope=a,b lifeSeconds=60 extension_x=y",
            "sasl.login.callback.handler.class": (
                "org.apache.kafka.common.security.oauthbearer.internals.unsecured"
                ".OAuthBearerUnsecuredLoginCallbackHandler"
            ),
        },
    ],
)
def test_unsecured_tokens_for_development(settings):
    token = fetch(oauth(settings))
    header, _, signature = token.value.split(".")
    assert json.loads(urlsafe_b64decode(header + "==")) == {"alg": "none"}
    assert signature == ""
    claims = jwt_claims(token.value)
    assert (claims["sub"], claims["scope"], claims.get("n", 5)) == ("me", ["a", "b"], 5)
    assert round(claims["exp"] - claims["iat"]) == 60
    assert abs(claims["iat"] - time.time()) < 60
    assert dict(token.extensions) == {"x": "y"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sasl.oauthbearer.config": "me"}, "cannot be read at 'me'"),
        ({"sasl.oauthbearer.config": "scope=a"}, "needs principal"),
        ({"sasl.oauthbearer.config": "principal=a lifeSeconds=x"}, "a number is needed"),
        ({"sasl.jaas.config": f"{MODULE} required unsecuredLoginNumberClaim_n=5;"}, "unsecuredLoginStringClaim_sub"),
        ({"sasl.jaas.config": f"{MODULE} required unsecuredLoginStringClaim_exp=5;"}, "is set by itself"),
        ({"sasl.oauthbearer.extensions": "x"}, "write name=value"),
        ({"sasl.oauthbearer.extensions": "auth=x"}, "the SASL extension 'auth' is not allowed"),
        ({"sasl.oauthbearer.jwt.retriever.class": "jwt_bearer"}, "token.endpoint.url is needed"),
        ({"sasl.oauthbearer.token.endpoint.url": "ftp://x"}, "it takes https://"),
        ({"sasl.oauthbearer.token.endpoint.url": "https://x"}, "client.credentials.client.id and"),
        (
            {"sasl.oauthbearer.token.endpoint.url": "https://x", "sasl.oauthbearer.grant.type": "jwt-bearer"},
            "set sasl.oauthbearer.assertion.file, or",
        ),
    ],
)
def test_what_is_no_source(settings, reason):
    with pytest.raises(ConfigError) as caught:
        token_source(oauth(settings))
    assert reason in str(caught.value)


@pytest.mark.parametrize("token", ["abc", "a.b.c", "a.YQ.c", "a.W10.c", "..."])
def test_a_token_of_another_kind_has_no_claims(token):
    assert jwt_claims(token) == {}
    assert token_from(token) == OAuthToken(token)


# A token endpoint


@pytest.fixture
def endpoint():
    """A server that answers what `answers` says, and keeps what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            server.requests.append((dict(self.headers), {name: value[0] for name, value in parse_qs(body).items()}))
            status, answer = server.answers.pop(0)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", server.url.replace("token", "elsewhere"))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            server.requests.append((dict(self.headers), {}))
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/token"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def at(endpoint, **more):
    return oauth(
        {
            "sasl.oauthbearer.token.endpoint.url": endpoint.url,
            "sasl.login.retry.backoff.ms": 1,
            "sasl.login.retry.backoff.max.ms": 2000,
            **more,
        }
    )


SECRET = {
    "sasl.oauthbearer.client.credentials.client.id": "me",
    "sasl.oauthbearer.client.credentials.client.secret": "a b:c",
}


def test_client_credentials(endpoint):
    endpoint.answers = [(200, {"access_token": "abc", "expires_in": 60})]
    token = fetch(at(endpoint, **SECRET, **{"sasl.oauthbearer.scope": "read write"}))
    assert token.value == "abc"
    assert abs(token.expires_at_ms - (time.time() + 60) * 1000) < 30_000
    headers, fields = endpoint.requests[0]
    assert fields == {"grant_type": "client_credentials", "scope": "read write"}
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:a b:c"


def test_client_credentials_from_jaas_url_encoded(endpoint):
    endpoint.answers = [(201, {"id_token": JWT})]
    jaas = f'{MODULE} required clientId="me" clientSecret="a b:c" scope="s" extension_x="y";'
    token = fetch(at(endpoint, **{"sasl.jaas.config": jaas, "sasl.oauthbearer.header.urlencode": True}))
    assert token == OAuthToken(JWT, 2_000_000_000_000, {"x": "y"}, 1_999_996_400_000)
    headers, fields = endpoint.requests[0]
    assert fields["scope"] == "s"
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"me:a+b%3Ac"


def test_an_endpoint_in_trouble_is_asked_again(endpoint):
    endpoint.answers = [(503, {}), (429, b"<html>"), (200, {"access_token": "abc"})]
    assert fetch(at(endpoint, **SECRET)).value == "abc"
    assert len(endpoint.requests) == 3


def test_an_endpoint_that_refuses_is_not(endpoint):
    endpoint.answers = [(401, {"error": "invalid_client", "error_description": "no such\nclient."})]
    with pytest.raises(AuthenticationError) as caught:
        fetch(at(endpoint, **SECRET))
    assert f"{endpoint.url} answered 401 (invalid_client: no such client). Check the URL" in str(caught.value)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_secret_follows_no_redirect(endpoint, status):
    endpoint.answers = [(status, {})]
    with pytest.raises(AuthenticationError, match=f"answered {status}"):
        fetch(at(endpoint, **SECRET))
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", {}, {"access_token": 5}, {"access_token": ""}])
def test_an_answer_without_a_token(endpoint, answer):
    endpoint.answers = [(200, answer)]
    with pytest.raises(AuthenticationError, match="has no access_token"):
        fetch(at(endpoint, **SECRET))


def test_an_endpoint_that_cannot_be_reached():
    settings = oauth(
        {"sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1:1/", "sasl.login.retry.backoff.max.ms": 5, **SECRET}
    )
    with pytest.raises(ConnectionFailedError, match=r"cannot be reached: .*refused"):
        fetch(settings)


ASSERTION = {
    "sasl.oauthbearer.assertion.claim.aud": "endpoint",
    "sasl.oauthbearer.assertion.claim.iss": "me",
    "sasl.oauthbearer.assertion.claim.jti.include": True,
}


@pytest.mark.parametrize(("algorithm", "is_bearer"), [("ES256", True), ("RS256", False)])
def test_a_signed_assertion_instead_of_a_secret(endpoint, tmp_path, algorithm, is_bearer):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    key = make_key(is_rsa=algorithm == "RS256")
    path, template = tmp_path / "key.pem", tmp_path / "template.json"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"geheim")))
    template.write_text(json.dumps({"header": {"kid": "7"}, "payload": {"iss": "other", "exp": 1}}))
    more = {"sasl.oauthbearer.grant.type": "jwt-bearer"} if is_bearer else {"sasl.oauthbearer.client.id": "me"}
    settings = at(
        endpoint,
        **ASSERTION,
        **more,
        **{
            "sasl.oauthbearer.assertion.algorithm": algorithm.lower(),
            "sasl.oauthbearer.assertion.private.key.file": str(path),
            "sasl.oauthbearer.assertion.private.key.passphrase": "geheim",
            "sasl.oauthbearer.assertion.template.file": str(template),
        },
    )
    endpoint.answers = [(200, {"access_token": "abc"})]
    assert fetch(settings).value == "abc"
    _, fields = endpoint.requests[0]
    if is_bearer:
        assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assertion = fields["assertion"]
    else:
        assert fields["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert fields["client_id"] == "me"
        assertion = fields["client_assertion"]
    header, payload, signature = (urlsafe_b64decode(part + "==") for part in assertion.split("."))
    assert json.loads(header) == {"kid": "7", "alg": algorithm, "typ": "JWT"}
    claims = json.loads(payload)
    assert (claims["aud"], claims["iss"], len(claims["jti"])) == ("endpoint", "other", 36)
    assert (claims["exp"] - claims["iat"], claims["iat"] - claims["nbf"]) == (300, 60)
    content = assertion.rpartition(".")[0].encode()
    if algorithm == "ES256":
        numbers = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        key.public_key().verify(encode_dss_signature(*numbers), content, ec.ECDSA(hashes.SHA256()))
    else:
        key.public_key().verify(signature, content, padding.PKCS1v15(), hashes.SHA256())


def test_an_assertion_from_a_file(endpoint, tmp_path):
    path = tmp_path / "assertion"
    path.write_text("a.b.c\n")
    endpoint.answers = [(200, {"access_token": "abc"})]
    assert fetch(at(endpoint, **{"sasl.oauthbearer.assertion.file": str(path)})).value == "abc"
    assert endpoint.requests[0][1]["client_assertion"] == "a.b.c"


@pytest.mark.parametrize(
    ("contents", "algorithm", "reason"),
    [
        (None, "RS256", "cannot read"),
        ("junk", "RS256", "holds no private key in PEM"),
        ("ec", "RS256", "does not fit RS256. RS256 takes an RSA key"),
    ],
)
def test_a_key_that_cannot_sign(endpoint, tmp_path, contents, algorithm, reason):
    from tests.client.security.certificates import Certificate

    path = tmp_path / "key.pem"
    if contents is not None:
        path.write_text(Certificate("x").key_pem() if contents == "ec" else contents)
    names = {"sasl.oauthbearer.assertion.private.key.file": str(path)}
    with pytest.raises(AuthenticationError) as caught:
        fetch(at(endpoint, **ASSERTION, **names))
    assert reason in str(caught.value)


def test_a_provider_that_never_returns_is_given_up():
    async def never():
        await asyncio.Event().wait()

    async def main():
        fetch = token_source(oauth(sasl_oauth_token_provider=never, request_timeout_ms=50))
        with pytest.raises(AuthenticationError, match="the OAuth token provider gave nothing for 50 ms") as caught:
            await fetch()
        assert caught.value.retriable

    asyncio.run(main())


def test_trouble_of_a_provider_with_its_network_may_pass():
    def offline():
        raise ConnectionResetError("gone")

    with pytest.raises(AuthenticationError, match="ConnectionResetError: gone") as caught:
        fetch(oauth(sasl_oauth_token_provider=offline))
    assert caught.value.retriable

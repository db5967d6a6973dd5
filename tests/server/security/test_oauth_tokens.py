"""Which tokens are believed, and who they are said to be from."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json

import pytest

from ottla.server.security.oauth.claims import ClaimRules, TokenRefusedError
from ottla.server.security.oauth.keys import IssuerKeys, RefreshRule
from ottla.server.security.oauth.signatures import PublicKeys, SignedToken
from ottla.server.security.sasl.mechanism import BackendUnavailableError
from tests.server.security.identities import AUDIENCE, ISSUER, NOW_MS, Issuer, base64

ISSUED = Issuer()
RULES = ClaimRules(issuer=ISSUER, audiences=(AUDIENCE, "other"), groups_claim="groups")
NOW_S = NOW_MS // 1000


def claims(**changed):
    given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": NOW_S, "exp": NOW_S + 60, **changed}
    return {name: value for name, value in given.items() if value is not None}


# Claims


def test_a_token_says_who_the_client_is_and_until_when():
    token = RULES.judge(claims(sub=" alice ", groups=["b", "a", "b"], scope="read write"), NOW_MS)
    assert token == ("alice", NOW_MS + 60_000, ("b", "a"), ("read", "write"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": None}, "no exp"),
        ({"exp": "soon"}, "exp is no time"),
        ({"exp": True}, "exp is no time"),
        ({"exp": float("inf")}, "exp is no time"),
        ({"exp": -1}, "exp is no time"),
        ({"exp": NOW_S - 30}, "ended 30 s ago"),
        ({"iat": None}, "no iat"),
        ({"nbf": NOW_S + 31}, "begins only in 31 s"),
        ({"iat": NOW_S + 61}, "ends before it begins"),
        ({"iss": None}, f"not from {ISSUER}"),
        ({"iss": ISSUER + "/"}, f"not from {ISSUER}"),
        ({"iss": [ISSUER]}, f"not from {ISSUER}"),
        ({"aud": None}, "not for kafka or other"),
        ({"aud": ["somebody", "else"]}, "not for kafka or other"),
        ({"aud": {"kafka": 1}}, "aud is neither a text nor a list"),
        ({"sub": None}, "sub does not say who"),
        ({"sub": "  "}, "sub does not say who"),
        ({"sub": ["alice"]}, "sub does not say who"),
        ({"sub": "alice\nUser:admin"}, "not printable"),
        ({"sub": "a" * 513}, "too long"),
        ({"scope": ["read", "read"]}, "names a scope twice"),
        ({"scope": [1]}, "scope is neither"),
        ({"groups": [["a"]]}, "groups is neither"),
        ({"groups": [str(number) for number in range(1001)]}, "more than 1000 groups"),
    ],
)
def test_a_token_that_says_something_else_is_refused(changed, reason):
    with pytest.raises(TokenRefusedError, match=reason):
        RULES.judge(claims(**changed), NOW_MS)


def test_clocks_may_differ():
    assert RULES.judge(claims(exp=NOW_S - 29, iat=NOW_S - 99), NOW_MS).expires_ms == NOW_MS - 29_000
    assert RULES.judge(claims(nbf=NOW_S + 30), NOW_MS)


def test_without_an_expected_audience_a_token_for_somebody_is_refused():
    rules = ClaimRules()
    assert rules.judge(claims(aud=None), NOW_MS).name == "alice"
    with pytest.raises(TokenRefusedError, match=r"expected\.audience is not set"):
        rules.judge(claims(), NOW_MS)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/realm_access/roles", ("operator",)),
        ("/resource_access/kafka~1one/roles", ("reader",)),
        ("/realm_access/none/deeper", ()),
        ("/sub/x", ()),
        ("https://example.com/groups", ("url",)),
        ("missing", ()),
    ],
)
def test_groups_are_found_by_name_or_by_path(path, expected):
    token = claims(
        realm_access={"roles": ["operator"]},
        resource_access={"kafka/one": {"roles": "reader"}},
        **{"https://example.com/groups": ["url"]},
    )
    rules = ClaimRules(audiences=(AUDIENCE,), groups_claim=path)
    assert rules.judge(token, NOW_MS).groups == expected


# Signatures


ALGORITHMS = [
    *((name, "rsa") for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("ES512", "p521"),
]


@pytest.mark.parametrize(("algorithm", "key"), ALGORITHMS)
@pytest.mark.parametrize("names_the_key", [True, False])
def test_signatures_of_the_issuer_are_believed(algorithm, key, names_the_key):
    token = ISSUED.token(key, algorithm, header=None if names_the_key else {"kid": None})
    keys = PublicKeys(ISSUED.document())
    assert SignedToken.parse(token).claims(keys)["sub"] == "alice"
    head, _, signature = token.split(".")
    forged = f"{head}.{base64({**claims(), 'sub': 'admin'})}.{signature}"
    with pytest.raises(TokenRefusedError, match="signature"):
        SignedToken.parse(forged).claims(keys)


def test_a_signature_with_the_public_key_as_a_secret_is_refused():
    document = ISSUED.document("rsa")
    pem = ISSUED.keys["rsa"].as_pem(private=False)
    content = f"{base64({'alg': 'HS256', 'kid': 'rsa'})}.{base64(claims())}"
    for secret in (document, pem):
        signature = base64(hmac.digest(secret, content.encode(), hashlib.sha256))
        with pytest.raises(TokenRefusedError, match="signed with HS256"):
            SignedToken.parse(f"{content}.{signature}")


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 5, "RS256 ", "EdDSA"])
def test_other_signatures_are_refused(algorithm):
    for signature in ("", base64(b"x" * 64)):
        with pytest.raises(TokenRefusedError):
            SignedToken.parse(f"{base64({'alg': algorithm})}.{base64(claims())}.{signature}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "a.b.c.d",
        f"{base64([])}.{base64(claims())}.x",
        f"{base64({'alg': 'ES256', 'kid': 'x' * 5000})}.e30.x",
        f"{base64({'alg': 'ES256', 'kid': 7})}.e30.x",
        f"{base64({'alg': 'ES256', 'crit': ['exp'], 'exp': 1})}.e30.x",
        f"{base64({'alg': 'ES256', 'b64': False, 'crit': ['b64']})}.e30.x",
        f"{base64(b'[' * 3000)}.e30.x",
        "é.é.é",
    ],
)
def test_what_is_no_token_is_refused(text):
    with pytest.raises(TokenRefusedError):
        SignedToken.parse(text)


def test_the_header_says_nothing_of_where_keys_are():
    own = Issuer()
    header = {"jwk": own.keys["p256"].as_dict(private=False), "jku": "https://attacker.example", "kid": "p256"}
    token = SignedToken.parse(own.token(header=header))
    with pytest.raises(TokenRefusedError):
        token.claims(PublicKeys(ISSUED.document()))


def test_keys_of_other_kinds_are_left_out():
    rsa = ISSUED.keys["rsa"].as_dict(private=True)
    document = {
        "keys": [
            {"kty": "oct", "k": base64(b"secret"), "kid": "oct"},
            {"kty": "OKP", "crv": "Ed25519", "x": base64(bytes(32))},
            {**rsa, "use": "enc"},
            {**rsa, "key_ops": ["encrypt"]},
            {"kty": "RSA", "n": base64(b"\xff" * 128), "e": "AQAB"},
            {"kty": "RSA"},
            "no key",
            {**rsa, "x5c": ["not read"], "kid": "good"},
        ]
    }
    keys = PublicKeys(json.dumps(document).encode())
    assert len(keys) == 1
    assert not keys._keys[0].is_private
    for text in (b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "eA"}]}'):
        with pytest.raises(ValueError, match="it "):
            PublicKeys(text)


def test_a_key_is_used_for_its_own_algorithm_only():
    key = {**ISSUED.keys["rsa"].as_dict(private=False), "alg": "RS512"}
    keys = PublicKeys(json.dumps({"keys": [key]}).encode())
    assert SignedToken.parse(ISSUED.token("rsa", "RS512")).claims(keys)
    with pytest.raises(TokenRefusedError):
        SignedToken.parse(ISSUED.token("rsa", "RS256")).claims(keys)


# Keys over time


class Endpoint:
    """Answers with what it has, or not at all."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = 0
        self.now_ms = NOW_MS

    async def fetch(self):
        self.calls += 1
        await asyncio.sleep(0)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def keys(self, **rule):
        return IssuerKeys("https://issuer.example/keys", self.fetch, RefreshRule(**rule), lambda: self.now_ms)


async def subject(keys, key="p256"):
    algorithm = {"p256": "ES256", "p384": "ES384", "rsa": "RS256"}[key]
    return (await keys.claims(SignedToken.parse(ISSUED.token(key, algorithm))))["sub"]


def test_keys_are_fetched_once_for_all_who_wait():
    async def run():
        endpoint = Endpoint(ISSUED.document())
        keys = endpoint.keys()
        assert endpoint.calls == 0
        assert await asyncio.gather(*(subject(keys) for _ in range(5))) == ["alice"] * 5
        assert endpoint.calls == 1

    asyncio.run(run())


def test_a_new_key_is_believed_at_once_and_an_old_one_until_the_keys_are_fetched_again():
    async def run():
        endpoint = Endpoint(ISSUED.document("p256"), ISSUED.document("p384"))
        keys = endpoint.keys()
        assert await subject(keys) == "alice"
        assert await subject(keys, "p384") == "alice"
        with pytest.raises(TokenRefusedError, match="has not published"):
            await subject(keys)

    asyncio.run(run())


def test_made_up_keys_do_not_flood_the_issuer():
    async def run():
        endpoint = Endpoint(ISSUED.document("p256"))
        keys = endpoint.keys(retry_backoff_max_ms=10_000)
        assert await subject(keys) == "alice"
        for number in range(50):
            with pytest.raises(TokenRefusedError):
                await keys.claims(SignedToken.parse(ISSUED.token(header={"kid": f"made up {number}"})))
        assert endpoint.calls == 4
        endpoint.now_ms += 10_000
        endpoint.answers = [ISSUED.document("p384")]
        assert await subject(keys, "p384") == "alice"

    asyncio.run(run())


def test_keys_are_renewed_in_the_background_and_kept_when_the_issuer_is_down():
    async def run():
        endpoint = Endpoint(ISSUED.document("p256"), OSError(111, "Connection refused"), ISSUED.document("p384"))
        keys = endpoint.keys(refresh_ms=1000, retry_backoff_ms=100)
        assert await subject(keys) == "alice"
        endpoint.now_ms += 1000
        for _ in range(3):
            assert await subject(keys) == "alice"
            await asyncio.sleep(0.01)
        assert endpoint.calls == 2, "it is not asked again at once"
        endpoint.now_ms += 100
        assert await subject(keys) == "alice"
        await asyncio.sleep(0.01)
        assert endpoint.calls == 3
        with pytest.raises(TokenRefusedError):
            await subject(keys)

    asyncio.run(run())


def test_without_keys_nobody_is_refused_or_believed(caplog):
    async def run():
        endpoint = Endpoint(OSError(111, "Connection refused"), ValueError("it answers 503"), ISSUED.document())
        keys = endpoint.keys(retry_backoff_ms=100)
        for _ in range(3):
            with pytest.raises(BackendUnavailableError, match="gives no keys: Connection refused"):
                await subject(keys)
        assert endpoint.calls == 1
        endpoint.now_ms += 100
        with pytest.raises(BackendUnavailableError, match="it answers 503"):
            await subject(keys)
        endpoint.now_ms += 199
        with pytest.raises(BackendUnavailableError):
            await subject(keys)
        endpoint.now_ms += 1
        assert await subject(keys) == "alice"
        assert endpoint.calls == 3

    asyncio.run(run())
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2

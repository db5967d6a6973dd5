"""Whatever clients, issuers and directories say is read, or refused with the error that is meant for it."""

from __future__ import annotations

import contextlib
import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.security.ldap import wire
from ottla.server.security.ldap.settings import escape_dn, escape_filter
from ottla.server.security.oauth.claims import ClaimRules, TokenRefusedError
from ottla.server.security.oauth.signatures import PublicKeys, SignedToken
from ottla.server.security.sasl.kerberos_names import NoRuleError, ShortNames
from ottla.server.security.sasl.mechanism import AuthenticationError
from ottla.server.security.sasl.oauthbearer import parse_message, unsigned_claims
from tests.server.security.identities import NOW_MS, Issuer, base64

ISSUED = Issuer()
KEYS = PublicKeys(ISSUED.document())
TOKEN = ISSUED.token()
RULES = ClaimRules(groups_claim="/a/b")
MANY = settings(
    max_examples=int(os.environ.get("OTTLA_FUZZ_EXAMPLES", "60")), deadline=None, derandomize=True, database=None
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
CLAIMS = st.dictionaries(st.sampled_from(["exp", "iat", "nbf", "iss", "aud", "sub", "scope", "a"]), JSON, max_size=8)


def changed(data):
    """The data with some bytes replaced, left out or put in."""
    change = st.tuples(st.integers(0, len(data)), st.integers(0, 3), st.binary(max_size=3))

    def apply(changes):
        found = bytearray(data)
        for position, length, put in changes:
            found[position : position + length] = put
        return bytes(found)

    return st.lists(change, min_size=1, max_size=4).map(apply)


@MANY
@given(st.binary(max_size=60) | changed(b"n,a=a=2Cb,\x01auth=Bearer a.b.c\x01name=value\x01\x01"))
def test_messages(message):
    with contextlib.suppress(AuthenticationError):
        assert parse_message(message).token


@MANY
@given(st.text(max_size=60) | changed(TOKEN.encode()).map(lambda data: data.decode("latin-1")))
def test_tokens(text):
    with contextlib.suppress(TokenRefusedError):
        claims = SignedToken.parse(text).claims(KEYS)
        # What carries a signature of the issuer is what the issuer has written, whatever else was changed.
        assert claims == json.loads(json.dumps(claims))
        assert claims["sub"] == "alice"
    with contextlib.suppress(TokenRefusedError):
        unsigned_claims(text)


@MANY
@given(JSON, JSON)
def test_headers(header, claims):
    for signature in ("", "AAAA"):
        text = f"{base64(header)}.{base64(claims)}.{signature}"
        with contextlib.suppress(TokenRefusedError):
            SignedToken.parse(text).claims(KEYS)
            raise AssertionError(f"believed: {header}")


@MANY
@given(CLAIMS)
def test_claims(claims):
    with contextlib.suppress(TokenRefusedError):
        token = RULES.judge(claims, NOW_MS)
        assert token.name.isprintable()
        assert token.expires_ms > NOW_MS - RULES.clock_skew_ms


@MANY
@given(JSON.map(lambda value: json.dumps(value).encode()) | changed(ISSUED.document("p256")) | st.binary(max_size=40))
def test_key_documents(document):
    with contextlib.suppress(ValueError):
        assert len(PublicKeys(document))


ANSWER = wire._tagged(
    0x30, wire._integer(1), wire._tagged(0x61, wire._integer(0, 0x0A), wire._octets("cn=a"), wire._octets("said"))
)


@MANY
@given(st.binary(max_size=60) | changed(ANSWER))
def test_answers_of_a_directory(data):
    with contextlib.suppress(wire.WireError):
        length = wire.frame_length(data)
        assert length is None or length <= wire.LARGEST_MESSAGE
        wire.parse_answer(data)


@MANY
@given(st.text(max_size=40), st.text(max_size=40))
def test_filters(text, value):
    with contextlib.suppress(ValueError):
        wire.parse_filter(text)
    value = value.encode(errors="ignore").decode()
    assert wire.parse_filter(f"(&(a=b)(uid={escape_filter(value)}))").endswith(wire._octets(value))
    assert escape_dn(value).isascii()


@MANY
@given(st.text(max_size=40) | st.from_regex(r"[a-z]{0,3}(/[a-z]{0,3})?@[A-Z]{0,3}", fullmatch=True))
def test_principals(principal):
    with contextlib.suppress(NoRuleError):
        name = ShortNames(["RULE:[1:$1@$0](.*@OTHER)s/@.*//", "RULE:[2:$1.$2]", "DEFAULT"], "X").of(principal)
        assert name
        assert not set(name) & set("/@")

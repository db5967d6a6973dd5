"""SASL mechanisms against the examples of their RFCs, and against brokers that do not know the password."""

import hashlib
import hmac
from base64 import b64decode, b64encode

import pytest

from ottla.security.errors import MechanismError, SecurityConfigError
from ottla.security.gssapi import Gssapi
from ottla.security.oauthbearer import OAuthBearer
from ottla.security.plain import Plain
from ottla.security.scram import SaltedPasswords, Scram


def test_plain_is_one_message():
    mechanism = Plain("tim", "tanstaaftanstaaf")
    assert mechanism.first_message() == b"\0tim\0tanstaaftanstaaf"
    assert mechanism.respond(b"") is None
    with pytest.raises(MechanismError, match="not PLAIN"):
        mechanism.respond(b"x")


# RFC 7677, section 3
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram(**more):
    return Scram("SCRAM-SHA-256", "user", "pencil", NONCE, **more)


def test_scram_as_in_its_rfc():
    mechanism = scram()
    assert mechanism.first_message() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert mechanism.respond(SERVER_FIRST) == CLIENT_FINAL
    assert mechanism.respond(SERVER_FINAL) is None


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_scram_against_a_server_of_its_own(name):
    mechanism = Scram(name, "a,b=c", "päss", "abc", extensions={"tokenauth": "true"})
    first = mechanism.first_message().decode()
    assert first == "n,,n=a=2Cb=3Dc,r=abc,tokenauth=true"
    server = ScramServer(name, "päss")
    server_first = server.first(first)
    final = mechanism.respond(server_first)
    assert mechanism.respond(server.final(final)) is None


class ScramServer:
    """The other side, straight from RFC 5802."""

    def __init__(self, name, password, iterations=4096):
        self.hash = "sha256" if name.endswith("256") else "sha512"
        self.salt, self.iterations = b"salt of the server", iterations
        salted = hashlib.pbkdf2_hmac(self.hash, password.encode(), self.salt, iterations)
        self.stored_key = hashlib.new(self.hash, hmac.digest(salted, b"Client Key", self.hash)).digest()
        self.server_key = hmac.digest(salted, b"Server Key", self.hash)

    def first(self, client_first):
        self.client_first = client_first.removeprefix("n,,")
        nonce = dict(field.split("=", 1) for field in self.client_first.split(","))["r"]
        self.server_first = f"r={nonce}server,s={b64encode(self.salt).decode()},i={self.iterations}"
        return self.server_first.encode()

    def final(self, client_final):
        without_proof, _, proof = client_final.decode().rpartition(",p=")
        signed = f"{self.client_first},{self.server_first},{without_proof}".encode()
        signature = hmac.digest(self.stored_key, signed, self.hash)
        client_key = bytes(a ^ b for a, b in zip(b64decode(proof), signature, strict=True))
        if hashlib.new(self.hash, client_key).digest() != self.stored_key:
            return b"e=invalid-proof"
        return b"v=" + b64encode(hmac.digest(self.server_key, signed, self.hash))


def test_scram_does_not_believe_a_server_without_the_password():
    mechanism = scram()
    mechanism.respond(SERVER_FIRST)
    with pytest.raises(MechanismError, match="could not prove that it knows the password"):
        mechanism.respond(b"v=" + b64encode(bytes(32)))


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"\xff",
        b"hello",
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=?,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many",
        b"m=ext," + SERVER_FIRST,
    ],
)
def test_scram_refuses_what_is_not_scram(challenge):
    with pytest.raises(MechanismError, match="not SCRAM"):
        scram().respond(challenge)


@pytest.mark.parametrize("iterations", [1, 4095, 10_000_001])
def test_scram_refuses_iterations_that_are_too_few_or_endless(iterations):
    with pytest.raises(MechanismError, match=f"{iterations} SCRAM iterations"):
        scram().respond(SERVER_FIRST.replace(b"4096", str(iterations).encode()))


def test_scram_says_what_the_server_says():
    mechanism = scram()
    mechanism.respond(SERVER_FIRST)
    with pytest.raises(MechanismError, match="the broker refused: invalid-proof"):
        mechanism.respond(b"e=invalid-proof")


def test_a_salted_password_is_computed_once(monkeypatch):
    calls = []
    real = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", lambda *arguments: calls.append(1) or real(*arguments))
    salted = SaltedPasswords()
    for _ in range(3):
        assert scram(salted_passwords=salted).respond(SERVER_FIRST) == CLIENT_FINAL
    assert len(calls) == 1


def test_oauthbearer_is_one_message():
    mechanism = OAuthBearer("abc.def.ghi", {"traceId": "1 2"})
    assert mechanism.first_message() == b"n,,\x01auth=Bearer abc.def.ghi\x01traceId=1 2\x01\x01"
    assert mechanism.respond(b"") is None


def test_oauthbearer_hears_why_it_was_refused():
    mechanism = OAuthBearer("abc")
    assert mechanism.respond(b'{"status":"invalid_token"}') == b"\x01"
    assert mechanism.refusal == '{"status":"invalid_token"}'
    with pytest.raises(MechanismError, match="invalid_token"):
        mechanism.respond(b"again")


@pytest.mark.parametrize("token", ["", "a b", "a\x01b", "tökén"])
def test_what_is_no_token(token):
    with pytest.raises(MechanismError, match="characters that a token cannot have"):
        OAuthBearer(token)


@pytest.mark.parametrize("extensions", [{"auth": "x"}, {"a b": "x"}, {"a": ""}, {"a": "\x01"}, {"": "x"}])
def test_what_is_no_extension(extensions):
    with pytest.raises(SecurityConfigError, match="SASL extension"):
        OAuthBearer("abc", extensions)


class FakeGssapi:
    """The `gssapi` package, as far as it is used, with a server that answers at once."""

    class exceptions:  # noqa: N801
        class GSSError(Exception):
            pass

    class NameType:
        hostbased_service = "hostbased"
        kerberos_principal = "principal"

    def __init__(self, *, offered=bytes([7, 0, 1, 0]), error=None):
        self.calls = []
        self.offered = offered
        self.error = error

    def Name(self, name, kind):  # noqa: N802
        self.calls.append(("name", name, kind))
        return name

    def Credentials(self, name, usage, store):  # noqa: N802
        self.calls.append(("credentials", name, usage, store))
        return "credentials"

    def SecurityContext(self, name, creds, usage):  # noqa: N802
        self.calls.append(("context", name, creds, usage))
        return FakeContext(self)


class FakeContext:
    def __init__(self, gssapi):
        self.gssapi = gssapi
        self.complete = False

    def step(self, token):
        if self.gssapi.error is not None:
            raise self.gssapi.exceptions.GSSError(self.gssapi.error)
        self.complete = token is not None
        return b"ticket" if token is None else None

    def unwrap(self, data):
        assert data == b"wrapped"
        return Message(self.gssapi.offered)

    def wrap(self, data, encrypt):
        assert not encrypt
        return Message(b"wrapped:" + data)


class Message:
    def __init__(self, message):
        self.message = message


def test_gssapi_asks_for_authentication_only():
    gssapi = FakeGssapi()
    mechanism = Gssapi("kafka", "broker1", gssapi=gssapi)
    assert mechanism.first_message() == b"ticket"
    assert mechanism.respond(b"mutual") == b""
    assert mechanism.respond(b"wrapped") == b"wrapped:\x01\x00\x00\x00"
    assert mechanism.respond(b"") is None
    assert gssapi.calls == [("name", "kafka@broker1", "hostbased"), ("context", "kafka@broker1", None, "initiate")]


def test_gssapi_takes_a_principal_from_a_keytab():
    gssapi = FakeGssapi()
    Gssapi("kafka", "broker1", principal="me@REALM", keytab="/me.keytab", cache="MEMORY:mine", gssapi=gssapi)
    store = {"client_keytab": "FILE:/me.keytab", "ccache": "MEMORY:mine"}
    assert ("credentials", "me@REALM", "initiate", store) in gssapi.calls
    assert gssapi.calls[-1][2] == "credentials"


def test_gssapi_leaves_the_cache_of_kinit_alone_with_a_keytab():
    gssapi = FakeGssapi()
    for _ in range(2):
        Gssapi("kafka", "broker1", principal="me@REALM", keytab="/me.keytab", gssapi=gssapi)
    caches = {call[3]["ccache"] for call in gssapi.calls if call[0] == "credentials"}
    assert len(caches) == 2
    assert all(name.startswith("MEMORY:") for name in caches)


def test_gssapi_says_what_to_do_without_a_ticket():
    mechanism = Gssapi("kafka", "broker1", principal="me", gssapi=FakeGssapi(error="No credentials\n found"))
    with pytest.raises(MechanismError, match=r"as me: No credentials found\.") as caught:
        mechanism.first_message()
    assert caught.value.hint.startswith("Run kinit or set")


@pytest.mark.parametrize("offered", [b"\x06\0\0\0", b"\x01"])
def test_gssapi_wants_no_security_layer(offered):
    mechanism = Gssapi("kafka", "broker1", gssapi=FakeGssapi(offered=offered))
    mechanism.first_message()
    mechanism.respond(b"mutual")
    with pytest.raises(MechanismError, match="insists on a GSSAPI security layer"):
        mechanism.respond(b"wrapped")

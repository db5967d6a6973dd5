"""SCRAM as the server speaks it: the RFCs' examples, our client's side, and who is not believed."""

import asyncio
from base64 import b64decode, b64encode

import pytest

from ottla.security.errors import MechanismError
from ottla.security.scram import Scram
from ottla.security.scram_keys import salted_password, stored_keys
from ottla.server.security.sasl.mechanism import AuthenticationError, CredentialForm, Surroundings, TokenCredential
from ottla.server.security.sasl.scram import form_of, open_service


class Credential:
    def __init__(self, mechanism, password, salt, iterations=4096):
        keys = stored_keys(mechanism, salted_password(mechanism, password, salt, iterations))
        self.salt, self.iterations = salt, iterations
        self.stored_key, self.server_key = keys


def nobody(mechanism, user):
    return None


def service(mechanism="SCRAM-SHA-256", users=None, tokens=None, random=None, form=None):
    users, tokens = users or {}, tokens or {}
    return open_service(
        Surroundings(
            mechanism=mechanism,
            listener_name="CLIENTS",
            settings={},
            run_blocking=asyncio.to_thread,
            now_ms=lambda: 0,
            random_bytes=random or (lambda count: bytes(range(count))),
            secret=b"of this process",
            scram_credential=lambda mechanism, user: users.get(user),
            credential_form=lambda mechanism: form or CredentialForm(),
            token_credential=lambda mechanism, token: tokens.get(token),
        )
    )


def step(exchange, message):
    return asyncio.run(exchange.respond(message))


# RFC 7677, section 3
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SALT = b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)


def test_the_example_of_rfc_7677(monkeypatch):
    monkeypatch.setattr("ottla.server.security.sasl.scram._printable", lambda data: SERVER_NONCE)
    exchange = service(users={"user": Credential("SCRAM-SHA-256", "pencil", SALT)}).begin("host")
    first = step(exchange, f"n,,n=user,r={CLIENT_NONCE}".encode())
    assert first.answer == f"r={CLIENT_NONCE}{SERVER_NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".encode()
    assert first.session is None
    final = step(exchange, CLIENT_FINAL)
    assert final.answer == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert (final.session.principal, final.session.mechanism) == ("User:user", "SCRAM-SHA-256")


def login(exchange, mechanism, user, password, **more):
    client = Scram(mechanism, user, password, "abc", **more)
    message = client.first_message()
    while True:
        answer = step(exchange, message)
        message = client.respond(answer.answer)
        if message is None:
            return answer.session


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("user", ["alice", "a,b=c", "Zoë", "=2C"])
def test_our_clients_are_believed(mechanism, user):
    users = {user: Credential(mechanism, "pässword, =", b"salt", 5000)}
    session = login(service(mechanism, users).begin("host"), mechanism, user, "pässword, =")
    assert session.principal == f"User:{user}"
    assert session.expires_ms is None


def test_a_delegation_token_is_its_owner():
    tokens = {"id": TokenCredential("User:alice", 99, Credential("SCRAM-SHA-256", "hmac", b"salt"), ("staff",))}
    session = login(
        service(tokens=tokens).begin("host"), "SCRAM-SHA-256", "id", "hmac", extensions={"tokenauth": "true"}
    )
    assert (session.principal, session.token_id, session.expires_ms) == ("User:alice", "id", 99)
    assert session.groups == ("staff",)
    with pytest.raises(AuthenticationError):
        login(service(tokens=tokens).begin("host"), "SCRAM-SHA-256", "id", "hmac")


@pytest.mark.parametrize("user", ["alice", "nobody", "too-few"])
def test_unknown_users_and_wrong_passwords_look_the_same(user):
    users = {
        "alice": Credential("SCRAM-SHA-256", "secret", b"1234567890abcdefghijklmnop"),
        "too-few": Credential("SCRAM-SHA-256", "wrong", b"salt", 100),
    }
    exchange = service(users=users).begin("host")
    client = Scram("SCRAM-SHA-256", user, "wrong", "abc")
    challenge = step(exchange, client.first_message()).answer
    fields = dict(field.split(b"=", 1) for field in challenge.split(b","))
    assert fields[b"i"] == b"4096"
    assert len(b64decode(fields[b"s"])) == 26
    with pytest.raises(AuthenticationError) as caught:
        step(exchange, client.respond(challenge))
    assert (str(caught.value), caught.value.user) == ("", user)
    assert caught.value.reason == "unknown user or wrong password"


def test_a_made_up_salt_stays_the_same_and_has_the_usual_form():
    def salt(user, form):
        exchange = service(form=form, random=lambda count: b"x" * count).begin("host")
        answer = step(exchange, f"n,,n={user},r=abc".encode()).answer
        fields = dict(field.split(b"=", 1) for field in answer.split(b","))
        return b64decode(fields[b"s"]), int(fields[b"i"])

    text, binary = CredentialForm(26, 4096, True), CredentialForm(100, 8192, False)
    assert salt("x", text) == salt("x", text) != salt("y", text)
    assert salt("x", text)[0].isalnum()
    assert (len(salt("x", binary)[0]), salt("x", binary)[1]) == (100, 8192)


def test_the_usual_form_is_that_of_most():
    several = [Credential("SCRAM-SHA-256", "x", salt, 4096) for salt in (b"\xff" * 32, b"\xfe" * 32, b"abc")]
    assert form_of(several) == CredentialForm(32, 4096, False)
    assert form_of([]) == CredentialForm()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"hello",
        b"n,,n=,r=abc",
        b"n,,n=a=b,r=abc",
        b"n,,n=a",
        b"n,,n=a,r=",
        b"n,,n=a,r=ab\x00c",
        b"p=tls-unique,,n=a,r=abc",
        b"y,,n=a,r=abc",
        b"n,,m=ext,n=a,r=abc",
        b"n,,n=a,r=abc,1=x",
        "n,,n=a,r=\u00e9".encode(),
    ],
)
def test_what_is_no_first_message(message):
    with pytest.raises(AuthenticationError):
        step(service().begin("host"), message)


def test_another_authorization_id():
    users = {"alice": Credential("SCRAM-SHA-256", "secret", b"salt")}
    with pytest.raises(AuthenticationError, match="authorization id that is different from username"):
        step(service(users=users).begin("host"), b"n,a=bob,n=alice,r=abc")
    assert step(service(users=users).begin("host"), b"n,a=alice,n=alice,r=abc").answer.startswith(b"r=abc")


@pytest.mark.parametrize(
    "change",
    [
        lambda final: final.replace(b"c=biws", b"c=eSws"),
        lambda final: final.replace(b",r=", b",r=x"),
        lambda final: final[:-8] + b"AAAAAAA=",
        lambda final: final.partition(b",p=")[0],
        lambda final: final.partition(b",p=")[0] + b",p=" + b64encode(b"short"),
        lambda final: final + b"\n",
        lambda final: b"",
    ],
)
def test_a_final_message_that_does_not_prove_anything(change):
    users = {"alice": Credential("SCRAM-SHA-256", "secret", b"salt")}
    exchange = service(users=users).begin("host")
    client = Scram("SCRAM-SHA-256", "alice", "secret", "abc")
    final = client.respond(step(exchange, client.first_message()).answer)
    with pytest.raises(AuthenticationError):
        step(exchange, change(final))


def test_a_client_that_repeats_its_nonce_is_told_what_it_is():
    """librdkafka before 2.6.1; Kafka refuses it too since 3.8.1."""
    exchange = service(users={"alice": Credential("SCRAM-SHA-256", "secret", b"salt")}).begin("host")
    client = Scram("SCRAM-SHA-256", "alice", "secret", "abc")
    final = client.respond(step(exchange, client.first_message()).answer)
    with pytest.raises(AuthenticationError, match=r"librdkafka before 2\.6\.1"):
        step(exchange, final.replace(b",r=", b",r=abc"))


def test_a_client_notices_a_server_that_does_not_know_its_password():
    users = {"alice": Credential("SCRAM-SHA-256", "secret", b"salt")}
    users["alice"].server_key = bytes(32)
    with pytest.raises(MechanismError, match="could not prove"):
        login(service(users=users).begin("host"), "SCRAM-SHA-256", "alice", "secret")


@pytest.mark.parametrize("change", ["deleted", "another password"])
@pytest.mark.parametrize("kind", ["user", "token"])
def test_a_challenge_is_no_store_for_an_old_password(change, kind):
    """Who is about to lose his password could ask for challenges, and answer them later, one by one."""
    known = {"alice": Credential("SCRAM-SHA-256", "old", b"salt")}
    tokens = {"alice": TokenCredential("User:alice", 99, known["alice"])}
    extensions = {"tokenauth": "true"} if kind == "token" else None
    exchanges = []
    offered = service(users=known, tokens=tokens)
    for _ in range(2):
        exchange = offered.begin("host")
        client = Scram("SCRAM-SHA-256", "alice", "old", "abc", extensions=extensions)
        exchanges.append((exchange, client.respond(step(exchange, client.first_message()).answer)))
    (first, proof), (second, parked) = exchanges
    assert step(first, proof).session.principal == "User:alice"
    if change == "deleted":
        known.clear()
        tokens.clear()
    else:
        known["alice"] = Credential("SCRAM-SHA-256", "new", b"salt")
        tokens["alice"] = TokenCredential("User:alice", 99, known["alice"])
    with pytest.raises(AuthenticationError):
        step(second, parked)


def test_a_token_that_was_renewed_meanwhile_lasts_as_long_as_it_does_now():
    tokens = {"id": TokenCredential("User:alice", 99, Credential("SCRAM-SHA-256", "hmac", b"salt"))}
    exchange = service(tokens=tokens).begin("host")
    client = Scram("SCRAM-SHA-256", "id", "hmac", "abc", extensions={"tokenauth": "true"})
    answer = client.respond(step(exchange, client.first_message()).answer)
    tokens["id"] = tokens["id"]._replace(expires_ms=500)
    assert step(exchange, answer).session.expires_ms == 500

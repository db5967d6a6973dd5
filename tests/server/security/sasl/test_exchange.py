"""The conversation of SASL: against a model that is a table, and against bytes that mean nothing."""

from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from ottla.server.security.sasl.exchange import MOST_STEPS, Close, Done, Evaluate, Exchange, Refuse, Send
from ottla.server.security.sasl.mechanism import AuthenticationError, Step
from ottla.server.security.session import Session

ALICE = Session("User:alice", mechanism="PLAIN")
MECHANISMS = ["PLAIN", "SCRAM-SHA-256"]
NOW_MS = 1_700_000_000_000


def answer_api_versions(body, version, client_id):
    if not 0 <= version <= 4:
        return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION), 0, False
    request = decode(ApiVersionsRequest, version, body)
    if version >= 3 and not request.client_software_name:
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST), version, False
    return ApiVersionsResponse(), version, True


def refuse_request(api_key, version, body, code, text):
    if api_key == ApiKey.PRODUCE:
        return None
    return MetadataResponse(error_code=code) if version >= 13 else MetadataResponse()


def exchange(**more):
    return Exchange(MECHANISMS, answer_api_versions=answer_api_versions, refuse_request=refuse_request, **more)


def frame(request, version, correlation_id=7):
    return b"".join(encode_request(request, version, correlation_id, "test"))[4:]


def body(effect, response, version, header=4):
    data = effect.data
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    assert data[4:8] == (7).to_bytes(4, "big")
    return decode(response, version, data, 4 + header)


def authenticate(message, version=1):
    return frame(SaslAuthenticateRequest(auth_bytes=message), version)


def handshake(mechanism="PLAIN", version=1):
    return frame(SaslHandshakeRequest(mechanism=mechanism), version)


def ready(version=1, **more):
    one = exchange(**more)
    assert body(one.receive(handshake(version=version)), SaslHandshakeResponse, version).error_code == 0
    return one


def test_a_login():
    one = exchange()
    answer = one.receive(frame(ApiVersionsRequest(client_software_name="a", client_software_version="1"), 3))
    assert body(answer, ApiVersionsResponse, 3).error_code == 0
    offered = body(one.receive(handshake()), SaslHandshakeResponse, 1)
    assert (offered.error_code, offered.mechanisms) == (0, MECHANISMS)
    assert one.receive(authenticate(b"one", 2)) == Evaluate("PLAIN", b"one", begins=True)
    answer = one.proceed(Step(b"go on"), NOW_MS)
    assert body(answer, SaslAuthenticateResponse, 2, 5).auth_bytes == b"go on"
    assert one.receive(authenticate(b"two")) == Evaluate("PLAIN", b"two", begins=False)
    done = one.proceed(Step(b"", ALICE), NOW_MS)
    assert (done.session, done.lifetime_ms) == (ALICE, None)
    assert body(done, SaslAuthenticateResponse, 1).session_lifetime_ms == 0
    assert one.is_over


def test_messages_of_old_clients_are_frames():
    one = ready(version=0)
    assert one.receive(b"") == Evaluate("PLAIN", b"", begins=True)
    assert one.proceed(Step(b"go on"), NOW_MS) == Send(b"\0\0\0\5go on")
    assert one.receive(b"\0a\0b") == Evaluate("PLAIN", b"\0a\0b", begins=False)
    assert one.proceed(Step(b"", ALICE), NOW_MS).data == b"\0\0\0\0"


def test_a_refusal_of_an_old_client_is_silent():
    one = ready(version=0)
    one.receive(b"x")
    assert one.refuse(AuthenticationError("no", user="a")) == Refuse(None, "PLAIN", "no", "a")


@pytest.mark.parametrize(
    ("max_reauth_ms", "expires_ms", "lifetime_ms"),
    [
        (0, None, None),
        (5000, None, 5000),
        (0, NOW_MS + 300, 300),
        (5000, NOW_MS + 300, 300),
        (200, NOW_MS + 300, 200),
        (0, NOW_MS - 1, 0),
    ],
)
def test_how_long_a_session_lasts(max_reauth_ms, expires_ms, lifetime_ms):
    one = ready(max_reauth_ms={"PLAIN": max_reauth_ms})
    one.receive(authenticate(b""))
    done = one.proceed(Step(b"", ALICE._replace(expires_ms=expires_ms)), NOW_MS)
    assert done.lifetime_ms == lifetime_ms
    assert body(done, SaslAuthenticateResponse, 1).session_lifetime_ms == (lifetime_ms or 0)


def test_an_unknown_mechanism_hears_which_there_are():
    refusal = exchange().receive(handshake("X" * 1000))
    answer = body(refusal, SaslHandshakeResponse, 1)
    assert (answer.error_code, answer.mechanisms) == (ErrorCode.UNSUPPORTED_SASL_MECHANISM, MECHANISMS)
    assert len(refusal.mechanism) <= 40
    assert exchange().receive(handshake("a\nb\x1b[0m")).mechanism == "a?b??0m"


def test_wrong_credentials():
    one = ready()
    one.receive(authenticate(b"x"))
    refusal = one.refuse(AuthenticationError(reason="wrong password", user="alice"))
    assert (refusal.reason, refusal.user) == ("wrong password", "alice")
    answer = body(refusal, SaslAuthenticateResponse, 1)
    assert answer.error_code == ErrorCode.SASL_AUTHENTICATION_FAILED
    assert answer.error_message == (
        "Authentication failed during authentication due to invalid credentials with SASL mechanism PLAIN"
    )
    assert isinstance(one.receive(authenticate(b"x")), Close)


def test_another_request_in_the_middle_of_a_login():
    answer = body(ready().receive(frame(MetadataRequest(), 13)), MetadataResponse, 13, 5)
    assert answer.error_code == ErrorCode.ILLEGAL_SASL_STATE


def test_requests_before_a_login_are_not_answered():
    for early in (frame(MetadataRequest(), 13), authenticate(b"x"), b"", b"GET / HTTP/1.1\r\n\r\n", b"\x60\x82"):
        assert isinstance(exchange().receive(early), Close)


def test_a_mechanism_without_end_is_ended():
    one = ready()
    for _ in range(MOST_STEPS):
        assert isinstance(one.receive(authenticate(b"more")), Evaluate)
        one.proceed(Step(b"more"), NOW_MS)
    assert isinstance(one.receive(authenticate(b"more")), Refuse)


def test_who_logs_in_again_stays_who_he_is():
    one = ready(previous=ALICE)
    one.receive(authenticate(b"x"))
    assert isinstance(one.proceed(Step(b"", ALICE._replace(expires_ms=NOW_MS + 9)), NOW_MS), Done)
    one = ready(previous=ALICE)
    one.receive(authenticate(b"x"))
    refusal = one.proceed(Step(b"", Session("User:bob", mechanism="PLAIN")), NOW_MS)
    assert body(refusal, SaslAuthenticateResponse, 1).error_message == (
        "Cannot change principals during re-authentication from User.alice: User.bob"
    )
    one = ready(previous=ALICE)
    one.receive(authenticate(b"x"))
    assert (
        "during re-authentication due"
        in body(one.refuse(AuthenticationError()), SaslAuthenticateResponse, 1).error_message
    )


def test_who_logs_in_again_uses_the_same_mechanism():
    one = exchange(previous=ALICE)
    assert body(one.receive(handshake("SCRAM-SHA-256")), SaslHandshakeResponse, 1).error_code == 0
    refusal = one.receive(authenticate(b"x"))
    assert isinstance(refusal, Refuse)
    assert refusal.data is None


def test_an_unknown_mechanism_ends_a_session_without_a_word():
    refusal = exchange(previous=ALICE).receive(handshake("NTLM"))
    assert (refusal.data, refusal.mechanism) == (None, "NTLM")


def test_secrets_are_in_no_repr():
    assert "geheim" not in repr(Evaluate("PLAIN", b"geheim", begins=True))


# What may come when, as a table: (state, input) -> (state, effect); what is not here is a Close.
TABLE = {
    ("greeting", "versions"): ("handshake", Send),
    ("greeting", "bad versions"): ("greeting", Send),
    ("greeting", "handshake 0"): ("raw", Send),
    ("greeting", "handshake 1"): ("tokens", Send),
    ("greeting", "unknown"): ("over", Refuse),
    ("handshake", "handshake 0"): ("raw", Send),
    ("handshake", "handshake 1"): ("tokens", Send),
    ("handshake", "unknown"): ("over", Refuse),
    ("tokens", "authenticate"): ("evaluating", Evaluate),
    **{
        ("tokens", name): ("over", Refuse)
        for name in ("versions", "bad versions", "handshake 0", "handshake 1", "unknown", "metadata")
    },
}
INPUTS = {
    "versions": lambda random: frame(
        ApiVersionsRequest(client_software_name="a", client_software_version="1"), random.randrange(5)
    ),
    "bad versions": lambda random: random.choice(
        (frame(ApiVersionsRequest(), 3), frame(ApiVersionsRequest(), 4), frame(ApiVersionsRequest(), 5))
    ),
    "handshake 0": lambda random: handshake(random.choice(MECHANISMS), 0),
    "handshake 1": lambda random: handshake(random.choice(MECHANISMS), 1),
    "unknown": lambda random: handshake(random.choice(("", "plain", "DIGEST-MD5", "ü" * 50)), random.randrange(2)),
    "authenticate": lambda random: authenticate(random.randbytes(random.choice((0, 1, 300))), random.randrange(3)),
    "metadata": lambda random: frame(MetadataRequest(), 12),
    "garbage": lambda random: b"\xff\xff" + random.randbytes(random.randrange(40)),
}


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_the_table_says(seed):
    random = Random(seed)
    for _ in range(400):
        one, state = exchange(), "greeting"
        for _ in range(12):
            name = random.choice(list(INPUTS))
            sent = INPUTS[name](random)
            effect = one.receive(sent)
            if state == "raw":
                expected = ("evaluating", Evaluate)
                assert effect.message == sent
            else:
                expected = TABLE.get((state, name), ("over", Close))
            state = expected[0]
            assert type(effect) is expected[1], (state, name)
            if state == "evaluating":
                raw = one.proceed.__self__._uses_requests is False
                outcome = random.randrange(4)
                if outcome < 2:
                    assert isinstance(one.proceed(Step(random.randbytes(3)), NOW_MS), Send)
                    state = "raw" if raw else "tokens"
                elif outcome == 2:
                    assert isinstance(one.proceed(Step(b"", ALICE), NOW_MS), Done)
                    state = "over"
                else:
                    assert isinstance(one.refuse(AuthenticationError()), Refuse)
                    state = "over"
            assert one.is_over == (state == "over")
            if state == "over":
                assert isinstance(one.receive(sent), Close)
                break


@pytest.mark.parametrize("seed", range(4))
def test_no_bytes_are_too_strange(seed):
    """Frames that are cut, changed and made up end in one of the effects, whatever has come before."""
    random = Random(seed)
    for _ in range(1500):
        one = exchange(previous=random.choice((None, ALICE)))
        for _ in range(random.randrange(1, 4)):
            sent = bytearray(INPUTS[random.choice(list(INPUTS))](random))
            for _ in range(random.choice((0, 1, 1, 3))):
                if sent:
                    sent[random.randrange(len(sent))] = random.choice((0, 1, 127, 128, 255))
            if random.random() < 0.2:
                del sent[random.randrange(len(sent) + 1) :]
            effect = one.receive(bytes(sent))
            assert isinstance(effect, Send | Evaluate | Refuse | Close)
            if isinstance(effect, Evaluate):
                one.proceed(Step(b""), NOW_MS)

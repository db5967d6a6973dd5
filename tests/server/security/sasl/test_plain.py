"""PLAIN as the server speaks it: users of JAAS, texts of refusals, classes of one's own."""

import asyncio

import pytest

from ottla.security.errors import SecurityConfigError
from ottla.server.security.sasl.mechanism import AuthenticationError, Surroundings
from ottla.server.security.sasl.registry import open_service
from ottla.server.security.session import Session

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="broker" password="geheim" user_alice="secret" user_Zoë="pässword";'
)


def surroundings(mechanism="PLAIN", **settings):
    return Surroundings(
        mechanism=mechanism,
        listener_name="CLIENTS",
        settings={key.replace("_", "."): value for key, value in settings.items()},
        run_blocking=asyncio.to_thread,
        now_ms=lambda: 0,
        random_bytes=bytes,
        secret=b"of this process",
    )


def login(message, service=None):
    service = service or open_service(surroundings(sasl_jaas_config=JAAS))
    return asyncio.run(service.begin("host").respond(message))


@pytest.mark.parametrize("message", ["\0alice\0secret", "alice\0alice\0secret", "\0Zoë\0pässword"])
def test_users_of_jaas(message):
    step = login(message.encode())
    assert step.answer == b""
    assert step.session == Session(f"User:{message.split(chr(0))[1]}", mechanism="PLAIN")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"\0alice\0wrong", "Authentication failed: Invalid username or password"),
        (b"\0nobody\0secret", "Authentication failed: Invalid username or password"),
        (b"\0broker\0geheim", "Authentication failed: Invalid username or password"),
        (b"\0alice\0", "Authentication failed: password not specified"),
        (b"\0\0secret", "Authentication failed: username not specified"),
        (b"alice\0secret", "Invalid SASL/PLAIN response: expected 3 tokens, got 2"),
        (b"a\0b\0c\0d", "Invalid SASL/PLAIN response: expected 3 tokens, got 4"),
        (b"", "Invalid SASL/PLAIN response: expected 3 tokens, got 1"),
        (
            b"bob\0alice\0secret",
            "Authentication failed: Client requested an authorization id that is different from username",
        ),
        (b"\0\xff\0secret", "Authentication failed: Invalid username or password"),
    ],
)
def test_refusals_have_the_texts_that_clients_know(message, text):
    with pytest.raises(AuthenticationError) as caught:
        login(message)
    assert str(caught.value) == text
    assert "secret" not in caught.value.reason


class OwnPasswords:
    """What a user may write."""

    def __init__(self, surroundings):
        assert surroundings.listener_name == "CLIENTS"

    async def authenticate(self, username, password):
        return Session(f"User:{username}", ("staff",)) if password == username[::-1] else None

    async def close(self):
        pass


def test_a_class_of_ones_own():
    service = open_service(surroundings(sasl_server_callback_handler_class=f"{__name__}:OwnPasswords"))
    assert login(b"\0ab\0ba", service).session.groups == ("staff",)
    with pytest.raises(AuthenticationError, match="Invalid username or password"):
        login(b"\0ab\0ab", service)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "listener.name.clients.plain.sasl.jaas.config is missing"),
        ({"sasl_jaas_config": "x"}, "listener.name.clients.plain.sasl.jaas.config cannot be read"),
        ({"sasl_jaas_config": JAAS.replace("Plain", "Scram")}, "is for ScramLoginModule; PLAIN needs a Plain"),
        ({"sasl_server_callback_handler_class": "com.example.Handler"}, "name a Python class as module:Class"),
        ({"sasl_server_callback_handler_class": "no_such_module:Handler"}, "cannot be loaded"),
    ],
)
def test_settings_that_cannot_be_used(settings, text):
    with pytest.raises(SecurityConfigError) as caught:
        open_service(surroundings(**settings))
    assert text in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_mechanism_that_there_is_not():
    with pytest.raises(SecurityConfigError, match="there is no mechanism DIGEST-MD5; there are PLAIN, SCRAM-SHA-256"):
        open_service(surroundings("DIGEST-MD5"))

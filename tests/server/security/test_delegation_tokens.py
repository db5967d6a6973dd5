"""What is secret about delegation tokens: HMACs, credentials, and that neither shows."""

from __future__ import annotations

from base64 import b64encode
from hashlib import pbkdf2_hmac
from hmac import digest

import pytest

from ottla.server.metadata.image import DelegationTokenImage
from ottla.server.security.delegation_tokens import TokenCredentials, TokenIndex, token_hmac

TOKEN = DelegationTokenImage("User:alice", "User:alice", (), 1000, 9000, 5000)


def test_the_hmac_is_kafkas() -> None:
    """HmacSHA512 of the id with the secret key, computed with OpenSSL."""
    assert token_hmac("secret", "id").hex() == (
        "2aab23f380f61ef9a7111a7ca97f6f02b0771b16c0ba10cc108af5b54985f86d"
        "8b0dcd8cbd03ac474c33b27985362edd3ffa0518ae7c9e453e1ceedd535176b5"
    )


@pytest.mark.parametrize(("mechanism", "name"), [("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-512", "sha512")])
def test_a_credential_is_that_of_the_hmac_in_base64(mechanism: str, name: str) -> None:
    found = TokenCredentials("secret").find({"id": TOKEN}, mechanism, "id", 4999)
    assert found is not None
    assert (found.owner, found.expires_ms) == ("User:alice", 5000)
    credential = found.credential
    assert credential.iterations == 4096
    salted = pbkdf2_hmac(name, b64encode(token_hmac("secret", "id")), credential.salt, 4096)
    assert credential.server_key == digest(salted, b"Server Key", name)
    assert len(credential.stored_key) == len(credential.server_key)
    assert repr(credential) == "Credential([hidden])"


def test_nobody_logs_in_with_a_token_that_is_unknown_over_or_of_another_mechanism() -> None:
    credentials = TokenCredentials("secret")
    assert credentials.find({}, "SCRAM-SHA-256", "id", 0) is None
    assert credentials.find({"id": TOKEN}, "SCRAM-SHA-256", "id", 5000) is None
    assert credentials.find({"id": TOKEN}, "PLAIN", "id", 0) is None
    assert TokenCredentials("").find({"id": TOKEN}, "SCRAM-SHA-256", "id", 0) is None


def test_a_credential_is_computed_once_and_forgotten_with_its_token() -> None:
    credentials = TokenCredentials("secret")
    tokens = {str(number): TOKEN for number in range(70)}
    first = credentials.find(tokens, "SCRAM-SHA-256", "0", 0)
    again = credentials.find(tokens, "SCRAM-SHA-256", "0", 0)
    assert first is not None
    assert again is not None
    assert first.credential is again.credential
    for token_id in tokens:
        credentials.find(tokens, "SCRAM-SHA-256", token_id, 0)
    credentials.find({"new": TOKEN}, "SCRAM-SHA-256", "new", 0)
    assert len(credentials._known) == 1


def test_an_index_follows_the_tokens() -> None:
    index = TokenIndex("secret")
    tokens = {"a": TOKEN}
    assert index.find(tokens, token_hmac("secret", "a")) == "a"
    assert index.find(tokens, token_hmac("other", "a")) is None
    more = {"b": TOKEN}
    assert index.find(more, token_hmac("secret", "a")) is None
    assert index.find(more, token_hmac("secret", "b")) == "b"

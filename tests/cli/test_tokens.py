"""`ottla tokens`: made, renewed and ended by their ids; HMACs are shown where one has to log in, and nowhere else."""

from __future__ import annotations

import base64
import os
import stat

import pytest

from ottla.cli.client_properties import properties_text
from ottla.testing import Cluster


@pytest.fixture
def tokens(ottla, tmp_path):
    """Runs `ottla tokens` as alice."""
    settings = {"delegation.token.secret.key": "a secret of the cluster"}
    with Cluster(security="SASL_PLAINTEXT", users=["alice"], settings=settings) as cluster:
        config = tmp_path / "alice.properties"
        config.write_text(properties_text(cluster.client_settings("alice", "SCRAM-SHA-256")))

        def run(*arguments, code=0, config=config, command="tokens"):
            return ottla(command, *arguments, "--command-config", str(config), code=code)

        yield run


def test_a_token_from_its_beginning_to_its_end(tokens, tmp_path):
    config = tmp_path / "token.properties"
    made = tokens("create", "--renewer", "bob,User:carol", "--max-lifetime", "2d", "-o", str(config), "--json").json
    assert (made["owner"], made["renewers"]) == ("User:alice", ["User:bob", "User:carol"])
    assert made["max_timestamp_ms"] - made["issue_timestamp_ms"] == 2 * 86_400_000
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o600
    assert 'tokenauth="true"' in config.read_text()
    assert "SCRAM-SHA-256" in config.read_text()
    token = made["token"]
    assert tokens("list", "-q").lines == [token]
    assert tokens("list", "--json").json[0]["expiry_timestamp_ms"] == made["expiry_timestamp_ms"]
    assert "hmac" not in tokens("list", "--json").out
    assert tokens("list", "--owner", "nobody", "--json").json == []
    tokens("list", config=config, command="topics")
    assert "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" in tokens("create", config=config, code=1).err

    assert tokens("renew", token, "--for", "12h", "--dry-run").out == f"would renew {token} of User:alice\n"
    renewed = tokens("renew", token, "--for", "12h", "--json").json["expiry_timestamp_ms"]
    assert renewed < made["expiry_timestamp_ms"]
    assert "Say --yes" in tokens("expire", token, code=1).err
    assert tokens("expire", token, "--in", "1h", "-y").out.startswith(f"{token} of User:alice ends ")
    assert tokens("expire", token, "-y").out == f"ended {token} of User:alice\n"
    assert tokens("list", "-q").lines == []
    assert tokens("renew", token, code=1).err.startswith(f"ottla: error: there is no token {token} that you may see")


def test_the_settings_are_shown_where_no_file_is_named(tokens):
    said = tokens("create")
    assert said.lines[0].startswith("made token ")
    (line,) = (line for line in said.lines if line.startswith("sasl.jaas.config="))
    assert len(base64.b64decode(line.partition('password="')[2].partition('"')[0])) == 64
    assert tokens("create", "--dry-run").out == "would make a token of yours\n"


def test_a_broker_without_authentication_says_so_in_one_line(ottla):
    said = ottla("tokens", "create", code=1)
    assert said.err.startswith("ottla: error: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED")
    assert said.err.count("\n") == 1
    assert "is no duration" in ottla("tokens", "create", "--max-lifetime", "5", code=1).err

"""A small certificate authority: OpenSSL (behind `ssl`) believes what it signs, and nobody else does."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest

from ottla.security.authority import (
    Identity,
    is_issued_by,
    issue,
    make_authority,
    matches,
    summary,
    truststore,
)
from ottla.security.errors import SecurityConfigError

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
AUTHORITY = make_authority("Test authority", now=NOW, days=100)


def handshake(node: Identity, trusted: str, host: str, directory: Path) -> None:
    """Both ends of TLS in memory. Raises ssl.SSLError."""
    (directory / "node.pem").write_text(node.key + node.certificate)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(directory / "node.pem")
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.load_verify_locations(cadata=trusted)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    client.do_handshake()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "kafka.example.org"])
def test_nodes_are_believed_under_their_names_only(host: str, tmp_path: Path) -> None:
    node = issue(AUTHORITY, "node-1", ["localhost", "127.0.0.1", "::1", "kafka.example.org"], now=NOW, days=10)
    handshake(node, AUTHORITY.certificate, host, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="ostname"):
        handshake(node, AUTHORITY.certificate, "other.example.org", tmp_path)
    stranger = make_authority("Test authority", now=NOW, days=100)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(node, stranger.certificate, host, tmp_path)


def test_a_certificate_says_what_it_is_and_never_outlives_its_authority() -> None:
    node = issue(AUTHORITY, "node-1", ["localhost", "10.0.0.1"], now=NOW, days=1000)
    found = summary(node.key + node.certificate)
    assert (found.name, found.hosts) == ("node-1", ("localhost", "10.0.0.1"))
    assert found.not_after == NOW + datetime.timedelta(days=100)
    assert is_issued_by(node.certificate, AUTHORITY.certificate)
    assert not is_issued_by(AUTHORITY.certificate, node.certificate)
    assert matches(node)
    assert not matches(Identity(node.certificate, AUTHORITY.key))
    assert "PRIVATE" not in repr(node)


def test_a_client_is_no_server(tmp_path: Path) -> None:
    client = issue(AUTHORITY, "alice", now=NOW, days=10)
    assert summary(client.certificate).hosts == ()
    with pytest.raises(ssl.SSLError):
        handshake(client, AUTHORITY.certificate, "localhost", tmp_path)


def test_a_truststore_has_the_authority_alone() -> None:
    from cryptography.hazmat.primitives.serialization import pkcs12

    store = pkcs12.load_pkcs12(truststore(AUTHORITY.certificate, "changeit"), b"changeit")
    assert store.key is None
    assert [one.friendly_name for one in store.additional_certs] == [b"ottla-authority"]


def test_what_cannot_be_used_is_told_in_one_line() -> None:
    node = issue(AUTHORITY, "node-1", now=NOW, days=1)
    for call in (
        lambda: issue(Identity(AUTHORITY.certificate, "no key"), "x", now=NOW, days=1),
        lambda: issue(Identity("no certificate", AUTHORITY.key), "x", now=NOW, days=1),
        lambda: summary("nothing"),
        lambda: issue(AUTHORITY, "x", ["a" * 64 + ".ä"], now=NOW, days=1),
    ):
        with pytest.raises(SecurityConfigError) as refused:
            call()
        assert "\n" not in str(refused.value)
        assert node.key not in str(refused.value)

"""TLS on a node's listeners: stores, versions, client certificates, and what else arrives on the port."""

import asyncio
import logging
import ssl

import pytest

from ottla.schema.definition import SettingError
from tests.client.security.certificates import Certificate
from tests.server.transport.support import (
    ALICE,
    AUTHORITY,
    BROKER,
    ask,
    client_context,
    listener,
    node,
    own,
    principal,
    run,
    trusting,
    until,
)

FAILURES = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


def stored(kind, tmp_path):
    path = tmp_path / "store"
    if kind == "texts":
        return own()
    if kind == "encrypted text":
        key = BROKER.key_pem("geheim")
        return {"ssl.keystore.key": key, "ssl.keystore.certificate.chain": BROKER.pem, "ssl.key.password": "geheim"}
    if kind == "pem":
        path.write_text(BROKER.key_pem() + BROKER.pem + AUTHORITY.pem)
        return {"ssl.keystore.location": str(path), "ssl.keystore.type": "PEM"}
    if kind == "encrypted pem":
        path.write_text(BROKER.key_pem("geheim") + BROKER.pem)
        return {"ssl.keystore.location": str(path), "ssl.key.password": "geheim"}
    if kind == "pkcs12":
        path.write_bytes(BROKER.pkcs12(b"geheim", AUTHORITY))
    else:
        path.write_bytes(BROKER.jks("geheim", AUTHORITY, key_password="anders"))
    names = {"ssl.keystore.location": str(path), "ssl.keystore.password": "geheim"}
    return names if kind == "pkcs12" else names | {"ssl.key.password": "anders", "ssl.keystore.type": "JKS"}


@pytest.mark.parametrize("kind", ["texts", "encrypted text", "pem", "encrypted pem", "pkcs12", "jks"])
def test_keystores_of_all_kinds(kind, tmp_path):
    async def main():
        async with node(tmp_path / "data", stored(kind, tmp_path)) as one:
            _, writer = await ask(listener(one).port, client_context())
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.transport.abort()
            _, plain = await ask(listener(one, "PLAINTEXT").port)  # both kinds side by side
            plain.close()

    run(main())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "TLS needs a key and a certificate. Set ssl.keystore.location, or"),
        ({"ssl.keystore.location": "/no/such/file"}, "cannot read /no/such/file: No such file"),
        ({"ssl.keystore.location": "store.p12", "ssl.keystore.password": "falsch"}, "Check ssl.keystore.password"),
        ({"ssl.keystore.location": "store.jks", "ssl.keystore.password": "falsch"}, "Check ssl.keystore.password"),
        (
            {"ssl.keystore.location": "store.p12", "ssl.keystore.type": "PKCS21"},
            "there is no PKCS21, but JKS, PKCS12, PEM",
        ),
        ({**own(), "ssl.truststore.location": "/no/such/file"}, "ssl.truststore.location: cannot read /no/such/file"),
        ({"ssl.keystore.location": "store.pem"}, "the key is encrypted. Set ssl.key.password"),
        ({"ssl.keystore.location": "store.pem", "ssl.key.password": "falsch"}, "cannot be used"),
        ({"ssl.keystore.location": "mixed.pem"}, "the key does not belong to the certificate"),
        ({"ssl.keystore.location": "empty"}, "holds no keystores"),
        ({**own(), "ssl.client.auth": "required", "ssl.truststore.location": "store.pem2"}, "cannot read store.pem2"),
        ({**own(), "ssl.protocol": "SSLv3"}, "ssl.protocol: there is no SSLv3"),
        ({**own(), "ssl.enabled.protocols": "TLSv1"}, "there is no TLSv1, but TLSv1.2 and TLSv1.3"),
        ({**own(), "ssl.cipher.suites": "NOTHING"}, "ssl.cipher.suites has none that OpenSSL knows: NOTHING"),
        ({**own(), "ssl.principal.mapping.rules": "RULE:x"}, "'RULE:x' is neither DEFAULT nor"),
        ({"listener.name.ssl.ssl.keystore.location": "/no/such"}, "listener.name.ssl.ssl.keystore.location"),
    ],
)
def test_what_cannot_be_used_stops_the_start_with_one_line(settings, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store.p12").write_bytes(BROKER.pkcs12(b"geheim"))
    (tmp_path / "store.jks").write_bytes(BROKER.jks("geheim"))
    (tmp_path / "store.pem").write_text(BROKER.key_pem("geheim") + BROKER.pem)
    (tmp_path / "mixed.pem").write_text(BROKER.key_pem() + AUTHORITY.pem)
    (tmp_path / "empty").mkdir()

    async def main():
        with pytest.raises(SettingError) as caught:
            async with node(tmp_path / "data", settings):
                pass
        return str(caught.value)

    line = run(main())
    assert reason in line
    assert "\n" not in line
    assert "falsch" not in line
    assert "geheim" not in line


@pytest.mark.parametrize(
    ("settings", "limits", "version"),
    [
        ({}, {}, "TLSv1.3"),
        ({"ssl.enabled.protocols": "TLSv1.2"}, {}, "TLSv1.2"),
        ({"ssl.enabled.protocols": "TLSv1.3"}, {}, "TLSv1.3"),
        ({}, {"maximum_version": ssl.TLSVersion.TLSv1_2}, "TLSv1.2"),
        ({"ssl.enabled.protocols": "TLSv1.3"}, {"maximum_version": ssl.TLSVersion.TLSv1_2}, None),
        ({"ssl.enabled.protocols": "TLSv1.2"}, {"minimum_version": ssl.TLSVersion.TLSv1_3}, None),
        ({"ssl.cipher.suites": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, {}, "TLSv1.2"),
        ({"listener.name.ssl.ssl.enabled.protocols": "TLSv1.2"}, {}, "TLSv1.2"),
        ({"listener.name.other.ssl.enabled.protocols": "TLSv1.2"}, {}, "TLSv1.3"),
    ],
)
def test_versions(settings, limits, version, tmp_path):
    async def main():
        async with node(tmp_path, own() | settings) as one:
            if version is None:
                with pytest.raises(FAILURES):
                    await ask(listener(one).port, client_context(**limits))
                await until(lambda: listener(one).logins.failed == 1)
                return
            _, writer = await ask(listener(one).port, client_context(**limits))
            assert writer.get_extra_info("ssl_object").version() == version
            writer.transport.abort()

    run(main())


def test_who_is_trusted_and_as_whom(tmp_path):
    """ssl.client.auth in its three forms; the certificates are one that is good, and four that are not."""
    stranger = Certificate("alice", Certificate("authority"))
    old = Certificate("alice", AUTHORITY, days=-1)

    async def main(client_auth):
        found = []
        settings = own() | trusting() | {"ssl.client.auth": client_auth}
        async with node(tmp_path / client_auth, settings) as one:
            for certificate in (ALICE, None, stranger, old):
                try:
                    found.append(await principal(one, client_context(certificate=certificate)))
                except FAILURES:
                    found.append(None)
            await until(lambda: not listener(one).handshakes.pending_count)
            return found, listener(one).logins.failed

    assert run(main("none")) == (["User:ANONYMOUS"] * 4, 0)
    assert run(main("requested")) == (["User:CN=alice", "User:ANONYMOUS", None, None], 2)
    assert run(main("required")) == (["User:CN=alice", None, None, None], 3)


def test_principals_by_mapping_rules(tmp_path):
    rules = "RULE:^CN=(a.*)$/$1/U,RULE:^CN=(b.*)$/$1/"

    async def main():
        settings = own() | trusting() | {"ssl.client.auth": "required"}
        async with node(tmp_path, settings | {"listener.name.ssl.ssl.principal.mapping.rules": rules}) as one:
            assert await principal(one, client_context(certificate=ALICE)) == "User:ALICE"
            assert await principal(one, client_context(certificate=BROKER)) == "User:broker"
            with pytest.raises(FAILURES):  # a good certificate, but not for anybody here
                await principal(one, client_context(certificate=Certificate("carol", AUTHORITY)))
            assert listener(one).logins.failed == 1
            assert listener(one).logins.succeeded == 2

    run(main())


def test_clients_see_what_is_wrong_with_the_broker(tmp_path):
    async def main(certificate, *, name="localhost", trusted=AUTHORITY):
        async with node(tmp_path / str(certificate.certificate.serial_number), own(certificate)) as one:
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                await ask(listener(one).port, client_context(trusted=trusted), name=name)
            return caught.value.verify_message

    assert "expired" in run(main(Certificate("broker", AUTHORITY, names=["localhost"], days=-1)))
    assert "Hostname mismatch" in run(main(Certificate("broker", AUTHORITY, names=["localhost"]), name="other"))
    assert "unable to get" in run(main(Certificate("broker", AUTHORITY), trusted=ALICE))


def test_certificates_are_chosen_by_the_name_that_is_asked_for(tmp_path):
    home = tmp_path / "stores"
    home.mkdir()
    for store, names in {"default": ["localhost"], "a": ["a.example.org"], "b": ["*.b.example.org", "b.org"]}.items():
        one = Certificate(store, AUTHORITY, names=names)
        (home / f"{store}.pem").write_text(one.key_pem() + one.pem)
    (home / "c.p12").write_bytes(Certificate("c", AUTHORITY, names=["c.example.org"]).pkcs12(b"geheim"))

    async def main():
        settings = {"ssl.keystore.location": str(home), "ssl.keystore.password": "geheim"}
        async with node(tmp_path / "data", settings) as one:
            context = client_context(check_hostname=False)
            found = []
            for name in (
                "a.example.org",
                "x.b.example.org",
                "B.ORG",
                "c.example.org",
                "localhost",
                "else",
                "127.0.0.1",
            ):
                _, writer = await ask(listener(one).port, context, name=name)
                found.append(writer.get_extra_info("peercert")["subject"][0][0][1])
                writer.transport.abort()
            return found

    assert run(main()) == ["a", "b", "b", "c", "default", "default", "default"]


@pytest.mark.parametrize(
    ("name", "sent", "reason"),
    [
        ("SSL", b"\0\0\0\x10\0\x12\0\0\0\0\0\1", "this looks like Kafka's protocol in plain text on a TLS listener"),
        ("SSL", b"GET / HTTP/1.1\r\n\r\n", "this looks like plain HTTP on a TLS listener"),
        ("SSL", b"\x80junk", "this is no TLS hello"),
        ("SSL", b"\x16\x03\x01\x00\x05junk!", "no TLS handshake with 127.0.0.1 on SSL: "),
        (
            "PLAINTEXT",
            b"\x16\x03\x01\x02\x00\x01\x00",
            "looks like a TLS hello, where Kafka's protocol is spoken in plain",
        ),
        ("PLAINTEXT", b"GET / HTTP/1.1\r\n\r\n", "looks like HTTP, where Kafka's protocol is spoken in plain text"),
    ],
)
def test_what_does_not_belong_on_a_port_is_named_in_one_line(name, sent, reason, tmp_path, caplog):
    async def main():
        async with node(tmp_path, own()) as one:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener(one, name).port)
            writer.write(sent)
            try:
                answer = await reader.read()
            except ConnectionError:
                answer = b""
            assert answer[:1] in (b"", b"\x15")  # nothing, or TLS's own alert
            writer.close()
            await until(lambda: not listener(one, name).connections)

    with caplog.at_level(logging.INFO):
        run(main())
    lines = [record for record in caplog.records if "127.0.0.1 on" in record.getMessage()]
    assert len(lines) == 1
    assert reason in lines[0].getMessage()
    assert lines[0].exc_info is None


def test_half_open_handshakes_end(tmp_path, caplog):
    async def main():
        settings = own() | {"ssl.handshake.timeout.ms": "100", "ssl.handshake.max.pending": "3"}
        async with node(tmp_path, settings) as one:
            port = listener(one).port
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            silent[-1][1].write(b"\x16\x03\x01\x02\x00\x01")  # one that began
            await until(lambda: listener(one).handshakes.pending_count <= 3)
            _, writer = await ask(port, client_context())  # who speaks is not held up
            for reader, _ in silent:
                assert not await reader.read()
            assert not listener(one).handshakes.pending_count
            writer.transport.abort()
            for _, other in silent:
                other.close()

    with caplog.at_level(logging.INFO):
        run(main())
    assert "has not finished within 0.1 s" in caplog.text


def test_handshakes_wait_while_there_is_no_room(tmp_path):
    """Limits on connections protect from the cost of handshakes."""

    async def main():
        async with node(tmp_path, own() | {"listener.name.ssl.max.connections": "1"}) as one:
            _, first = await ask(listener(one).port, client_context())
            second = asyncio.ensure_future(ask(listener(one).port, client_context()))
            await until(lambda: len(listener(one).connections) == 2)
            await asyncio.sleep(0.05)
            assert not second.done()
            first.close()
            _, writer = await second
            writer.transport.abort()

    run(main())


@pytest.mark.parametrize(("name", "is_encrypted"), [("SSL", False), ("SSL", True), ("PLAINTEXT", True)])
def test_large_records_come_back_as_they_were_sent(name, is_encrypted, tmp_path):
    """Past every buffer there is, to a client that reads slowly."""
    from benchmarks import wire
    from benchmarks.tls import TlsConnection

    batch = wire.record_batch([bytes(range(256)) * 3000])

    def client(port):
        context = client_context() if name == "SSL" else None
        with TlsConnection(f"127.0.0.1:{port}", context) as connection:
            connection.metadata(["t"], auto_create=True)
            while not connection.metadata(["t"]).topics["t"][1]:
                pass
            for _ in range(12):
                connection.produce("t", 0, batch)
            for size in (100_000, 3_000_000, 20_000_000):
                body = wire.fetch_body("t", {0: 0}, partition_max_bytes=size)
                for _ in range(2):
                    connection.send(wire.FETCH, 4, body)
                for _ in range(2):
                    for _, error, records in wire.read_fetch(connection.receive()):
                        assert not error
                        found = list(wire.batches(records))
                        assert all(each.crc_matches for each in found)
                        assert len(found) == max(1, min(12, size // len(batch)))

    async def main():
        settings = own()
        if is_encrypted:
            (tmp_path / "key").write_bytes(bytes(range(32)))
            settings["encryption.key"] = f"file:{tmp_path}/key"
        async with node(tmp_path / "data", settings) as one:
            await asyncio.to_thread(client, listener(one, name).port)

    run(main())

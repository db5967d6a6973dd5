"""Certificates that change while a node runs."""

import asyncio
import logging
import os
import ssl

import pytest

from ottla.core.errors import ErrorCode
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
    run,
    trusting,
    until,
)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr("ottla.server.node.certificates.INTERVAL_S", 0.02)


def write(path, certificate):
    path.with_suffix(".new").write_text(certificate.key_pem() + certificate.pem)
    os.replace(path.with_suffix(".new"), path)


async def serial(one):
    """Which certificate a new client is shown."""
    _, writer = await ask(listener(one).port, client_context())
    found = writer.get_extra_info("peercert")["serialNumber"]
    writer.transport.abort()
    return int(found, 16)


def of(certificate):
    return certificate.certificate.serial_number


def test_a_new_file_is_taken_for_new_connections(tmp_path, caplog):
    path = tmp_path / "broker.pem"
    write(path, BROKER)
    new = Certificate("broker", AUTHORITY, names=["localhost", "127.0.0.1", "more"])

    async def main():
        async with node(tmp_path / "data", {"ssl.keystore.location": str(path)}) as one:
            assert await serial(one) == of(BROKER)
            _, writer = await ask(listener(one).port, client_context())
            (before,) = listener(one).connections
            write(path, new)
            await until(lambda: "new certificates" in caplog.text)
            assert await serial(one) == of(new)
            assert before in listener(one).connections  # who is here stays
            writer.transport.abort()

    with caplog.at_level(logging.INFO):
        run(main())
    assert caplog.text.count("SSL has new certificates for new connections") == 1


def test_a_bad_new_file_keeps_the_old_certificate_and_says_so_once(tmp_path, caplog):
    path = tmp_path / "broker.pem"
    write(path, BROKER)
    bad = [
        ("-----BEGIN nothing", "it must hold a private key and certificates in PEM"),
        (BROKER.key_pem() + AUTHORITY.pem, "the key does not belong to the certificate"),
        (ALICE.key_pem() + ALICE.pem, "for another subject than before. If that is right, set ssl.allow.dn.changes"),
        (None, "cannot read"),
    ]
    fewer = Certificate("broker", AUTHORITY, names=["localhost"])
    bad.append((fewer.key_pem() + fewer.pem, "lacks names that the one before had"))

    async def main():
        async with node(tmp_path / "data", {"ssl.keystore.location": str(path)}) as one:
            for text, reason in bad:
                caplog.clear()
                if text is None:
                    path.unlink()
                else:
                    path.write_text(text)
                await until(lambda reason=reason: reason in caplog.text)
                await asyncio.sleep(0.06)
                lines = [each for each in caplog.records if "keeps its certificates" in each.getMessage()]
                assert 1 <= len(lines) <= 2  # a file may be seen half written
                assert lines[-1].exc_info is None
                assert await serial(one) == of(BROKER)
            new = Certificate("broker", AUTHORITY, names=["localhost", "127.0.0.1"])
            write(path, new)
            await until(lambda: "new certificates" in caplog.text)
            assert await serial(one) == of(new)

    with caplog.at_level(logging.INFO):
        run(main())


def test_names_may_change_where_the_settings_say_so(tmp_path, caplog):
    path = tmp_path / "broker.pem"
    write(path, BROKER)
    other = Certificate("other", AUTHORITY, names=["localhost"])

    async def main():
        settings = {"ssl.allow.dn.changes": "true", "ssl.allow.san.changes": "true"}
        async with node(tmp_path / "data", {"ssl.keystore.location": str(path), **settings}) as one:
            write(path, other)
            await until(lambda: "new certificates" in caplog.text)
            assert await serial(one) == of(other)

    with caplog.at_level(logging.INFO):
        run(main())


def test_a_truststore_is_renewed_as_well(tmp_path, caplog):
    path = tmp_path / "trust.pem"
    path.write_text(AUTHORITY.pem)
    partner = Certificate("partners")
    bob = Certificate("bob", partner)

    async def main():
        settings = own() | {"ssl.client.auth": "required", "ssl.truststore.location": str(path)}
        async with node(tmp_path / "data", settings) as one:
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await ask(listener(one).port, client_context(certificate=bob))
            path.write_text(AUTHORITY.pem + partner.pem)
            await until(lambda: "new certificates" in caplog.text)
            _, writer = await ask(listener(one).port, client_context(certificate=bob))
            writer.transport.abort()

    with caplog.at_level(logging.INFO):
        run(main())


def test_settings_are_checked_before_the_cluster_hears_of_them(tmp_path, caplog):
    """kafka-configs --alter --entity-type brokers, with a keystore that is good, and with some that are not."""
    from ottla.admin import AlterConfigOp, ConfigResource
    from ottla.aio import Admin
    from ottla.client.errors import KafkaError

    new = Certificate("broker", AUTHORITY, names=["localhost", "127.0.0.1"])
    (tmp_path / "new.p12").write_bytes(new.pkcs12(b"neu"))
    key = "listener.name.ssl.ssl.keystore"

    async def main():
        path = tmp_path / "old.pem"
        write(path, BROKER)
        async with (
            node(tmp_path / "data", {"ssl.keystore.location": str(path)}) as one,
            Admin(f"127.0.0.1:{listener(one, 'PLAINTEXT').port}") as admin,
        ):

            async def alter(**values):
                changes = [AlterConfigOp.set(f"{key}.{name}", value) for name, value in values.items()]
                await admin.incremental_alter_configs({ConfigResource.broker(1): changes})

            for values, reason in (
                ({"location": "/no/such/file"}, "cannot read /no/such/file"),
                ({"location": str(tmp_path / "new.p12"), "password": "falsch"}, "has another password"),
            ):
                with pytest.raises(KafkaError) as caught:
                    await alter(**values)
                assert caught.value.code == ErrorCode.INVALID_REQUEST
                assert reason in str(caught.value)
                assert "falsch" not in str(caught.value)
            assert await serial(one) == of(BROKER)
            await alter(location=str(tmp_path / "new.p12"), password="neu")
            await until(lambda: "new certificates" in caplog.text)
            assert await serial(one) == of(new)

    with caplog.at_level(logging.INFO):
        run(main())
    assert "neu" not in caplog.text.replace("neue", "")


def test_a_certificate_that_ends_soon_is_told(tmp_path, caplog):
    soon = Certificate("broker", AUTHORITY, names=["localhost"], days=3)

    async def main():
        async with node(tmp_path, own(soon) | trusting()):
            pass

    with caplog.at_level(logging.INFO):
        run(main())
    assert "the certificate of SSL (CN=broker) ends on 20" in caplog.text

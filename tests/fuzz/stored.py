"""More that is fed: key stores, what lies on an encrypted disk, Kerberos, filters of ACLs, opened batches."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from random import Random
from types import SimpleNamespace
from typing import Any

from ottla.core.acl import AclOperation
from ottla.core.errors import ApiError
from ottla.records.batch import HEADER_SIZE, update_crc
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch
from ottla.records.validation import Allowance, AppendRules, LaboriousBatchError, open_batch, validate_and_assign
from ottla.runtime.disk import DiskError
from ottla.runtime.encryption.disk import EncryptedDisk
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.definition import SettingError
from ottla.security import stores
from ottla.security.errors import SecurityConfigError
from ottla.server.security.acl_filter import AclFilter
from ottla.server.security.acl_index import AclIndex
from ottla.server.security.encryption.ring import RING, Ring
from ottla.server.security.encryption.sources import LocalKey, parse_key
from ottla.server.security.sasl.kerberos_names import NoRuleError, ShortNames
from ottla.server.security.sasl.mechanism import AuthenticationError

NOW_MS = 1_700_000_000_000
LIMIT_BYTES = 1024 * 1024


# Key stores


@cache
def _certified() -> tuple[Any, Any]:
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    name = x509.Name.from_rfc4514_string("CN=broker")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    return key, builder.not_valid_after(datetime(2036, 1, 1, tzinfo=UTC)).sign(key, None)


@cache
def _pkcs12() -> bytes:
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    key, certificate = _certified()
    return pkcs12.serialize_key_and_certificates(b"name", key, certificate, [certificate], NoEncryption())


@cache
def _pem() -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key, certificate = _certified()
    key_pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate_pem: bytes = certificate.public_bytes(Encoding.PEM)
    return key_pem + certificate_pem


def _read_store(data: bytes) -> None:
    kind = stores._kind(data, None, "ssl.keystore.location", "ssl.keystore.type", "store")
    if kind == "PEM":
        stores._checked_pem("ssl.keystore.location", "store", data.decode("utf-8", "replace"))
    else:
        stores._read_store(data, None, None, "store", "ssl.keystore.password")


def _load_pem(data: bytes) -> None:
    """What OpenSSL makes of it."""
    import ssl

    _read_store(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError, ValueError):
        context.load_verify_locations(cadata=data.decode("ascii", "ignore"))


# Encrypted files


class _Keys:
    def __init__(self) -> None:
        self.key_id, self.key = b"1" * 16, b"one " * 8

    def current(self, path: str) -> tuple[bytes, bytes] | None:
        return self.key_id, self.key

    def find(self, key_id: bytes) -> bytes | None:
        return self.key if key_id == self.key_id else None


def _encrypted_file(random: Random) -> bytes:
    disk = MemoryDisk()
    disk.make_directories("/d")
    encrypted = EncryptedDisk(disk, _Keys(), plain_names=[], random_bytes=random.randbytes)
    file = encrypted.open("/d/f", create=True)
    for _ in range(random.randrange(1, 4)):
        file.append(random.randbytes(random.randrange(3000)))
        file.truncate(random.randrange(file.size() + 1))
    file.append(b"end")
    file.close()
    return disk.read("/d/f")


def _read_encrypted(data: bytes) -> None:
    disk = MemoryDisk()
    disk.make_directories("/d")
    disk.replace("/d/f", data)
    encrypted = EncryptedDisk(disk, _Keys(), plain_names=[], random_bytes=Random(1).randbytes)
    with suppress(DiskError):
        encrypted.read("/d/f")
    file = encrypted.open("/d/f")
    try:
        file.read_at(0, 10_000)
        file.append(b"more")
        file.truncate(2)
    finally:
        file.close()


def _ring(random: Random) -> bytes:
    disk = MemoryDisk()
    disk.make_directories("/d")
    ring = Ring("/d", [])
    ring.rotate(LocalKey(bytes(32)), NOW_MS)
    ring.write(disk)
    return disk.read(f"/d/{RING}")


def _read_ring(data: bytes) -> None:
    disk = MemoryDisk()
    disk.make_directories("/d")
    disk.replace(f"/d/{RING}", data)
    ring = Ring.read(disk, "/d")
    assert ring is not None
    ring.open([LocalKey(bytes(32))])
    ring.write(disk)


# Kerberos

_TOKEN = bytes.fromhex("6081a006092a864886f71201020201006e81903081")


@cache
def _kerberos() -> Any:
    import gssapi

    from ottla.server.security.sasl.gssapi import GssapiService

    async def run_blocking(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    surroundings: Any = SimpleNamespace(run_blocking=run_blocking, now_ms=lambda: NOW_MS)
    return GssapiService(surroundings, gssapi, None, ShortNames(["DEFAULT"], "EXAMPLE.COM"))


class _Agreed:
    """A context that the client has completed, and what it chooses then."""

    complete = True
    initiator_name = "alice@EXAMPLE.COM"
    lifetime = 60

    def unwrap(self, message: bytes) -> Any:
        return SimpleNamespace(message=message)


def _negotiate(data: bytes) -> None:
    exchange = _kerberos().begin("host")
    _run(exchange.respond(data))
    raise AssertionError("nobody has shown a ticket")


def _choose_layer(data: bytes) -> None:
    exchange = _kerberos().begin("host")
    exchange._context, exchange._has_offered = _Agreed(), True
    assert data[:1] == b"\x01" if _run(exchange.respond(data)).session else True


def _run(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def _short_name(data: bytes) -> None:
    names = ShortNames(["RULE:[1:$1@$0](.*@OTHER.COM)s/@.*//", "RULE:[2:$1;$2](^.*;admin$)s/;admin$//", "DEFAULT"], "R")
    names.of(data.decode("utf-8", "replace"))


# ACLs


def _acls(random: Random) -> bytes:
    return b"\xff".join((
        bytes(random.randrange(8) for _ in range(4)), b"orders-", b"User:alice", random.choice((b"*", b"10.0.0.0/8")),
        b"orders-1", random.choice((b"10.1.2.3", b"::1")),
    ))  # fmt: skip


def _match_acls(data: bytes) -> None:
    codes, *texts = data.split(b"\xff")
    resource_type, pattern_type, operation, permission = (codes + bytes(4))[:4]
    name, principal, host, asked, address, *_ = [*(text.decode("utf-8", "replace") for text in texts), *[""] * 5]
    acl = (resource_type, name, pattern_type, principal, host, operation, permission)
    wanted = AclFilter(resource_type, asked or None, pattern_type, principal or None, None, operation, permission)
    wanted.matching({b"1" * 16: acl})
    index = AclIndex()
    index.add(b"1" * 16, acl)
    question = list(AclOperation)[operation % len(AclOperation)]
    index.find((principal, "User:*"), address, question, resource_type, asked)
    index.allows_any((principal,), address, question, resource_type)
    index.remove(b"1" * 16)
    assert not len(index)


# Batches that are opened


def _many_alike(random: Random) -> bytes:
    codec = Codec(random.randrange(1, 5))
    records = [Record(timestamp_ms=NOW_MS, key=b"k", value=bytes(random.choice((0, 1000))))] * random.randrange(1, 300)
    return bytes(build_batch(records, compression=codec))


def _open(data: bytes) -> None:
    """As a broker does it: what takes long is opened first, and then appended."""
    batch = bytearray(data)
    if len(batch) >= HEADER_SIZE:
        update_crc(batch, 0, len(batch))
    rules = AppendRules(compacted=True, compression=Codec.LZ4, before_max_ms=1, max_decompressed_bytes=LIMIT_BYTES)
    try:
        validate_and_assign(batch, base_offset=0, leader_epoch=0, now_ms=NOW_MS, rules=rules)
    except LaboriousBatchError:
        allowance = Allowance(LIMIT_BYTES)
        opened = open_batch(batch, NOW_MS, rules, allowance)
        assert 0 <= allowance.size <= LIMIT_BYTES
        validate_and_assign(opened, base_offset=0, leader_epoch=0, now_ms=NOW_MS, rules=rules)


Row = tuple[str, Callable[[Random], bytes], Callable[[bytes], object], tuple[type[BaseException], ...]]


def rows() -> list[Row]:
    """The fields of `targets.Target`."""
    found: list[Row] = [
        ("PKCS12", lambda random: _pkcs12(), _read_store, (SecurityConfigError,)),
        ("PEM", lambda random: _pem(), _load_pem, (SecurityConfigError,)),
        ("encrypted files", _encrypted_file, _read_encrypted, (DiskError,)),
        ("rings of keys", _ring, _read_ring, (SettingError,)),
        ("keys", lambda random: b64encode(random.randbytes(32)), lambda data: parse_key(data, "x"), (SettingError,)),
        ("Kerberos names", lambda random: b"kafka/host@OTHER.COM", _short_name, (NoRuleError,)),
        ("ACLs", _acls, _match_acls, ()),
        ("opened batches", _many_alike, _open, (ApiError,)),
    ]
    if find_spec("gssapi") is not None:
        found += [
            ("Kerberos tokens", lambda random: _TOKEN + random.randbytes(150), _negotiate, (AuthenticationError,)),
            ("Kerberos layers", lambda random: b"\1\0\0\0alice", _choose_layer, (AuthenticationError,)),
        ]
    return found

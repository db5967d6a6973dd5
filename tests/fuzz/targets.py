"""What is fed: every decoder that sees bytes of others, with valid inputs to begin with, and what it may raise."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from random import Random
from typing import Any, NamedTuple

from ottla.core.errors import ApiError
from ottla.core.regex import Regex, RegexError
from ottla.protocol.catalog import messages_and_versions
from ottla.protocol.codec import decode, encode
from ottla.protocol.connection import NEED_DATA, ServerConnection
from ottla.protocol.errors import ProtocolError
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import parse_request_header
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest
from ottla.records.batch import CorruptRecordError, update_crc
from ottla.records.compression import Codec, compress, decompress
from ottla.records.record import Record, build_batch, read_records
from ottla.records.validation import AppendRules, LaboriousBatchError, validate_and_assign
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.definition import SettingError
from ottla.schema.properties import parse_properties
from ottla.security.distinguished_name import subject_name
from ottla.security.errors import MechanismError, SecurityConfigError
from ottla.security.jaas import parse_jaas
from ottla.security.jks import JksError, read_jks
from ottla.security.principal_rules import NoMatchingRuleError, PrincipalRules
from ottla.security.scram import SaltedPasswords, Scram
from ottla.server.broker.principals import principal_bytes, principal_of
from ottla.server.broker.telemetry.otlp import OtlpError, read_metrics
from ottla.server.metadata.image import EMPTY_IMAGE
from ottla.server.metadata.records import read_frame
from ottla.server.raft.metadata_log import MetadataLogError
from ottla.server.raft.snapshot import read_snapshot_file, snapshot_pieces, write_snapshot_file
from ottla.server.security.ldap.wire import WireError, frame_length, parse_answer, parse_filter
from ottla.server.security.sasl.exchange import Close, Done, Evaluate, Refuse, Send
from ottla.server.security.sasl.mechanism import AuthenticationError
from tests.fuzz.stored import rows
from tests.protocol.conftest import random_message
from tests.server.security.sasl import test_exchange as sasl
from tests.server.security.sasl.test_scram import service as scram_service

LIMIT_BYTES = 8 * 1024 * 1024
"""What decompression may make of an input here."""


class Target(NamedTuple):
    """`make(random)` gives a valid input, `feed(data)` hands one over; what it raises beside `refusals` is a bug."""

    name: str
    make: Callable[[Random], bytes]
    feed: Callable[[bytes], object]
    refusals: tuple[type[BaseException], ...]


# Messages


def _message(random: Random) -> bytes:
    """Two bytes that say which message at which version, then its bytes."""
    number = random.randrange(len(messages_and_versions()))
    cls, version = messages_and_versions()[number]
    return number.to_bytes(2, "big") + encode(random_message(cls, version, random), version)


def _decode_message(data: bytes) -> None:
    pairs = messages_and_versions()
    cls, version = pairs[int.from_bytes(data[:2], "big") % len(pairs)]
    decode(cls, version, data[2:])


def _requests(random: Random) -> bytes:
    """Some requests as they come on a connection."""
    requests = [pair for pair in messages_and_versions() if pair[0].__name__.endswith("Request")]
    frames = []
    for _ in range(random.randrange(1, 4)):
        cls, version = random.choice(requests)
        frames.append(b"".join(encode_request(random_message(cls, version, random), version, 7, "client")))
    return b"".join(frames)


def _connection(data: bytes) -> None:
    connection = ServerConnection(1024 * 1024)
    for start in range(0, len(data), 1000):
        connection.receive_data(data[start : start + 1000])
        while connection.next_request() is not NEED_DATA:
            pass


# Records


def _records(random: Random) -> list[Record]:
    return [
        Record(
            timestamp_ms=1_700_000_000_000 + number,
            key=random.choice((None, b"", random.randbytes(8))),
            value=random.choice((None, b"", random.randbytes(random.randrange(200)))),
            headers=tuple((f"h{index}", random.choice((None, b"x"))) for index in range(random.randrange(3))),
        )
        for number in range(random.randrange(1, 6))
    ]


def _batch(random: Random) -> bytes:
    return bytes(build_batch(_records(random), compression=Codec(random.randrange(5))))


def _with_crc(data: bytes) -> bytearray:
    """A wrong checksum is found first, and hides all that comes behind it: it is made right."""
    batch = bytearray(data)
    if len(batch) >= 61:
        update_crc(batch, 0, len(batch))
    return batch


def _read_batch(data: bytes) -> None:
    for batch in (data, bytes(_with_crc(data))):
        with suppress(CorruptRecordError):
            list(read_records(batch, limit_bytes=LIMIT_BYTES))


def _validate(data: bytes) -> None:
    for rules in (AppendRules(), AppendRules(compression=Codec.LZ4, compacted=True), AppendRules(log_append_time=True)):
        with suppress(ApiError, LaboriousBatchError):
            validate_and_assign(_with_crc(data), base_offset=0, leader_epoch=0, now_ms=1_700_000_000_000, rules=rules)


def _compressed(random: Random) -> bytes:
    codec = random.randrange(1, 5)
    return bytes((codec,)) + bytes(compress(codec, random.randbytes(100) * random.randrange(1, 400)))


def _decompress(data: bytes) -> None:
    if data:
        assert len(decompress(data[0] % 6, data[1:], LIMIT_BYTES)) <= LIMIT_BYTES


# Logging in


def _login(random: Random) -> bytes:
    """Frames of a conversation, each behind its length in two bytes."""
    mechanism = random.choice(("PLAIN", "SCRAM-SHA-256", "NONE"))
    old = random.randrange(2)
    frames = [sasl.frame(SaslHandshakeRequest(mechanism=mechanism), old)]
    message = random.choice((b"\0alice\0secret", b"n,,n=alice,r=nonce", b""))
    frames += [message if not old else sasl.frame(SaslAuthenticateRequest(auth_bytes=message), 1)] * 2
    return b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)


def _converse(data: bytes) -> None:
    exchange = sasl.exchange()
    position = 0
    while position < len(data):
        end = position + 2 + int.from_bytes(data[position : position + 2], "big")
        effect = exchange.receive(data[position + 2 : end])
        position = end
        assert not isinstance(effect, Done), "nobody has looked at the credentials"
        if isinstance(effect, Evaluate):
            effect = exchange.refuse(AuthenticationError())
            assert isinstance(effect, Refuse)
        if isinstance(effect, Refuse | Close):
            return
        assert isinstance(effect, Send)


def _scram_messages(random: Random) -> bytes:
    return random.choice(
        (
            b"n,,n=alice,r=abcdef",
            b"n,a=alice,n=alice,r=abc,tokenauth=true",
            b"c=biws,r=abcdef,p=" + b64encode(bytes(32)),
        )
    )


@cache
def _scram() -> Any:
    return scram_service()


def _scram_server(data: bytes) -> None:
    exchange = _scram().begin("host")
    message, _, proof = data.partition(b"\xff")
    for each in (message, proof or data):
        step = _run(exchange.respond(each))
        assert step.session is None, "nobody has proved anything"


def _run(coroutine: Any) -> Any:
    """A coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


class _Salted(SaltedPasswords):
    """Salting takes as long as the broker asks for, within limits; here it takes no time."""

    def find(self, *_: object) -> bytes:
        return bytes(32)


def _scram_client(data: bytes) -> None:
    client = Scram("SCRAM-SHA-256", "alice", "secret", "abc", salted_passwords=_Salted())
    client.first_message()
    client.respond(data)
    with suppress(MechanismError):
        assert client.respond(data) is not None, "the broker has proved nothing"


def _ldap_answer(random: Random) -> bytes:
    return bytes.fromhex(random.choice((
        "300c02010161070a010004000400",
        "302c02010264270411636e3d616c6963652c64633d6578616d706c65301230100402636e310a0405616c6963650401",
        "300c02010265070a010004000400",
    )))  # fmt: skip


def _read_ldap(data: bytes) -> None:
    frame_length(data)
    parse_answer(data)


def _token(random: Random) -> bytes:
    header, claims = b'{"alg":"RS256","kid":"1"}', b'{"sub":"alice","exp":1700000000,"groups":["a"]}'
    return b".".join(b64encode(part).rstrip(b"=") for part in (header, claims, random.randbytes(64)))


def _read_token(data: bytes) -> None:
    from ottla.server.security.oauth.signatures import SignedToken

    SignedToken.parse(data.decode("utf-8", "replace"))


# Configuration


@cache
def _certificate() -> tuple[bytes, bytes]:
    """A certificate, and a truststore with it in Java's own format."""
    import hashlib
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    name = x509.Name.from_rfc4514_string("CN=broker\\, one,OU=a+L=b,O=Ottla,C=AT")
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2036, 1, 1, tzinfo=UTC)
    )
    assert isinstance(hashes.SHA256(), hashes.HashAlgorithm)
    encoded = builder.sign(key, None).public_bytes(serialization.Encoding.DER)
    store = b"\xfe\xed\xfe\xed" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + (2).to_bytes(4, "big")
    store += b"\0\2ca" + bytes(8) + b"\0\5X.509" + len(encoded).to_bytes(4, "big") + encoded
    digest = hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + store).digest()
    return encoded, store + digest


def _jaas(random: Random) -> bytes:
    return random.choice((
        b'org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b" user_c="d";',
        b"a.B required /* why */ x='y' # end\n ;",
    ))  # fmt: skip


def _rules(random: Random) -> bytes:
    return random.choice((b"DEFAULT", b"RULE:^CN=(.*?),OU=(.*?)$/$1@$2/L,RULE:^.*[Cc]$/x/U, DEFAULT"))


def _read_rules(data: bytes) -> None:
    rules = PrincipalRules.parse(data.decode("utf-8", "replace")[:200])
    rules.name("CN=alice,OU=eng,O=x")


def _properties(random: Random) -> bytes:
    return b"a=b\\u0041\n# c\nlisteners : PLAINTEXT://:9092\nlong=x\\\n  y\n"


def _regex(random: Random) -> bytes:
    return random.choice((b"(orders|jobs)-[0-9]{1,3}", rb"^\Qa.b\E.*$", b"(?i)[[:alpha:]]+(a|b)*?", b"a{2,5}{2}"))


def _match(data: bytes) -> None:
    regex = Regex(data.decode("utf-8", "replace")[:300])
    for name in ("orders-1", "a" * 50, ""):
        regex.matches(name)


def _metrics(random: Random) -> bytes:
    point = bytes.fromhex("19") + (10**18).to_bytes(8, "little") + bytes.fromhex("21") + bytes(8)
    metric = (
        b"\x0a\x04name" + b"\x1a\x02ms" + b"\x2a" + bytes((len(point) + 2,)) + b"\x0a" + bytes((len(point),)) + point
    )
    scope = b"\x12" + bytes((len(metric),)) + metric
    resource = b"\x12" + bytes((len(scope),)) + scope
    return b"\x0a" + bytes((len(resource),)) + resource


# State on disk


@cache
def _snapshot_seed() -> bytes:
    disk = MemoryDisk()
    disk.make_directories("/d")
    from ottla.server.metadata.writer import image_records

    frames = list(image_records(EMPTY_IMAGE)) if callable(image_records) else []
    frames = [frame for frame in frames if isinstance(frame, bytes)] or [b"\x01\x0c\x00"]
    write_snapshot_file(
        disk, "/d/s", snapshot_pieces(frames, kraft_version=1, voters=(), timestamp_ms=1, now_ms=2), "part"
    )
    return disk.read("/d/s")


def _read_snapshot(data: bytes) -> None:
    for content in (data, bytes(_with_crc(data))):
        disk = MemoryDisk()
        disk.make_directories("/d")
        disk.replace("/d/s", content)
        with suppress(MetadataLogError):
            read_snapshot_file(disk, "/d/s")


def _metadata_frame(random: Random) -> bytes:
    from ottla.protocol.messages import metadata_records

    kinds = [kind for kind in vars(metadata_records).values() if isinstance(kind, type)]
    kind = random.choice([kind for kind in kinds if 0 <= getattr(kind, "API_KEY", -1) < 128])
    version = kind.VALID_VERSIONS[1]
    return bytes((1, kind.API_KEY, version)) + encode(random_message(kind, version, random), version)


def _client_metrics_match(data: bytes) -> None:
    from ottla.schema.client_metrics import parse_match

    for pattern in parse_match([data.decode("utf-8", "replace")[:300]]).values():
        pattern.matches("producer-1-of-somebody" * 5)


def targets() -> list[Target]:
    """All of them."""
    from ottla.server.metadata.records import MetadataError
    from ottla.server.security.oauth.claims import TokenRefusedError

    return [
        Target("messages", _message, _decode_message, (ProtocolError,)),
        Target("request headers", _requests, lambda data: parse_request_header(data, 0, len(data)), (ProtocolError,)),
        Target("connections", _requests, _connection, (ProtocolError,)),
        Target("record batches", _batch, _read_batch, ()),
        Target("produced batches", _batch, _validate, ()),
        Target("compressed data", _compressed, _decompress, (CorruptRecordError,)),
        Target("metadata records", _metadata_frame, read_frame, (MetadataError,)),
        Target("snapshots", lambda random: _snapshot_seed(), _read_snapshot, ()),
        Target("envelope principals", lambda random: principal_bytes("User:alice"), principal_of, (ApiError,)),
        Target("telemetry", _metrics, read_metrics, (OtlpError,)),
        Target("topic expressions", _regex, _match, (RegexError,)),
        Target(
            "client metrics expressions",
            lambda random: b"client_id=.*",
            _client_metrics_match,
            (SettingError, RegexError),
        ),
        Target("SASL conversation", _login, _converse, ()),
        Target("SCRAM, server", _scram_messages, _scram_server, (AuthenticationError,)),
        Target("SCRAM, client", lambda random: b"r=abcdef,s=c2FsdA==,i=4096", _scram_client, (MechanismError,)),
        Target("LDAP answers", _ldap_answer, _read_ldap, (WireError,)),
        Target(
            "LDAP filters",
            lambda random: b"(&(uid=a\\2a)(|(x=*y*)(!(z>=1))))",
            lambda data: parse_filter(data.decode("utf-8", "replace")),
            (ValueError, WireError),
        ),
        Target("bearer tokens", _token, _read_token, (TokenRefusedError,)),
        Target("certificates", lambda random: _certificate()[0], subject_name, (ValueError,)),
        Target("JKS", lambda random: _certificate()[1], lambda data: read_jks(data, None, None), (JksError,)),
        Target("JAAS", _jaas, lambda data: parse_jaas(data.decode("utf-8", "replace")), (SecurityConfigError,)),
        Target("principal rules", _rules, _read_rules, (ValueError, NoMatchingRuleError)),
        Target(
            "properties", _properties, lambda data: parse_properties(data.decode("utf-8", "replace")), (SettingError,)
        ),
        *(Target(*row) for row in rows()),
    ]

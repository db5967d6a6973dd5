"""Logging in: real clients at our listeners, and every refusal beside Apache Kafka's, byte by byte."""

from __future__ import annotations

import asyncio
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka, OttlaBroker, java
from ottla.admin import ScramMechanism, UserScramCredentialUpsertion
from ottla.protocol.framing import encode_request
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.metadata import MetadataRequest
from ottla.protocol.messages.produce import ProduceRequest
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest
from tests.compatibility.sasl_world import SECURITY, Line, Signed
from tests.conftest import require

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(240)]


def add_users(signed):
    with ottla.Admin(signed.broker.bootstrap) as admin:
        admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion("carol", "geheim", mechanism=ScramMechanism.SCRAM_SHA_256, salt=b"salt"),
            ]
        )
        admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("carol", "geheim", mechanism=ScramMechanism.SCRAM_SHA_512, salt=b"salt")]
        )


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    signed = Signed(OttlaBroker, tmp_path_factory.mktemp("ours"))
    signed.broker.start()
    add_users(signed)
    yield signed
    signed.broker.stop()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    signed = Signed(ApacheKafka, tmp_path_factory.mktemp("theirs"))
    signed.broker.start()
    add_users(signed)
    yield signed
    signed.broker.stop()


# The same bytes to both


def frame(request, version, correlation_id=7):
    return b"".join(encode_request(request, version, correlation_id, "test"))[4:]


def handshake(mechanism="PLAIN", version=1):
    return frame(SaslHandshakeRequest(mechanism=mechanism), version)


def token(message, version=2):
    return frame(SaslAuthenticateRequest(auth_bytes=message), version)


GOOD = b"\0alice\0secret"
VERSIONS = frame(ApiVersionsRequest(client_software_name="a", client_software_version="1"), 3)
METADATA = frame(MetadataRequest(topics=[]), 12)
NOT_SEEN = object()

SCENARIOS = {
    "unknown mechanism": [handshake("DIGEST-MD5")],
    "unknown mechanism, v0": [handshake("DIGEST-MD5", 0)],
    "mechanism in small letters": [handshake("plain")],
    "handshake of an unknown version": [handshake()[:3] + b"\x09" + handshake()[4:]],
    "wrong password": [handshake(), token(b"\0alice\0wrong")],
    "wrong password, v0 and v1 of the message": [handshake(), token(b"\0alice\0wrong", 0)],
    "wrong password, old client": [handshake(version=0), b"\0alice\0wrong"],
    "unknown user": [handshake(), token(b"\0nobody\0secret")],
    "no password": [handshake(), token(b"\0alice\0")],
    "no user": [handshake(), token(b"\0\0secret")],
    "no NUL": [handshake(), token(b"alice")],
    "four parts": [handshake(), token(b"a\0b\0c\0d")],
    "empty message": [handshake(), token(b"")],
    "another authorization id": [handshake(), token(b"bob\0alice\0secret")],
    "own authorization id": [handshake(), token(b"alice\0alice\0secret")],
    "good, then requests of SASL": [handshake(), token(GOOD), handshake(), token(GOOD)],
    "good, v0": [handshake(), token(GOOD, 0)],
    "good, old client": [handshake(version=0), GOOD],
    "Metadata first": [METADATA],
    "Produce first": [frame(ProduceRequest(transactional_id=None, acks=1, timeout_ms=1), 9)],
    "SaslAuthenticate first": [token(GOOD)],
    "Metadata behind the handshake": [handshake(), METADATA],
    "newest Metadata behind the handshake": [handshake(), frame(MetadataRequest(topics=[]), 13)],
    "ApiVersions behind the handshake": [handshake(), VERSIONS],
    "handshake behind the handshake": [handshake(), handshake()],
    "ApiVersions of an unknown version": [
        frame(ApiVersionsRequest(), 3)[:3] + b"\x63" + frame(ApiVersionsRequest(), 3)[4:]
    ],
    "nonsense": [b"\xff\xff\xff\xff"],
    "empty frame": [b""],
    "ticket without a handshake": [b"\x60\x82\x01\x02" + bytes(40)],
    "HTTP": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
    "SCRAM without sense": [handshake("SCRAM-SHA-256"), token(b"hello")],
    "SCRAM with channel binding": [handshake("SCRAM-SHA-256"), token(b"p=tls-unique,,n=carol,r=abc")],
    "SCRAM, another authorization id": [handshake("SCRAM-SHA-256"), token(b"n,a=bob,n=carol,r=abc")],
    "PLAIN where SCRAM was chosen": [handshake("SCRAM-SHA-512"), token(GOOD)],
    "SaslAuthenticate of an unknown version": [handshake(), token(GOOD)[:3] + b"\x09" + token(GOOD)[4:]],
}
AGAIN = {
    "with the same user": [handshake(), token(GOOD), handshake(), token(GOOD, 1)],
    "with another user": [handshake(), token(GOOD), handshake(), token(b"\0bob\0secret")],
    "with a wrong password": [handshake(), token(GOOD), handshake(), token(b"\0alice\0wrong")],
    "with another mechanism": [handshake(), token(GOOD), handshake("SCRAM-SHA-256"), token(b"n,,n=carol,r=abc")],
    "with an unknown mechanism": [handshake(), token(GOOD), handshake("NTLM")],
    "twice": [handshake(), token(GOOD), handshake(), token(GOOD), handshake()],
    "with another request in between": [handshake(), token(GOOD), handshake(), METADATA],
}


def answers(address, frames):
    with Line(address) as line:
        return [line.say(each) for each in frames]


def same(ours, theirs, listener, frames):
    with ThreadPoolExecutor(2) as threads:
        mine, kafkas = threads.map(lambda signed: answers(signed.at(listener), frames), (ours, theirs))
    # Kafka offers mechanisms in the order of a hash table.
    assert [None if each is None else bytes(sorted(each)) for each in mine] == [
        None if each is None else bytes(sorted(each)) for each in kafkas
    ], (mine, kafkas)


@pytest.mark.parametrize("name", SCENARIOS)
def test_refusals_are_those_of_kafka(ours, theirs, name):
    frames = SCENARIOS[name]
    if "ApiVersions" in name:
        # What is served differs; whether it is answered at all must not.
        mine, kafkas = answers(ours.at("SIGNIN"), frames), answers(theirs.at("SIGNIN"), frames)
        assert [each is None for each in mine] == [each is None for each in kafkas]
    else:
        same(ours, theirs, "SIGNIN", frames)


@pytest.mark.parametrize("name", AGAIN)
def test_logging_in_again(ours, theirs, name):
    same(ours, theirs, "SHORT", AGAIN[name])


def test_frames_that_are_too_large(ours, theirs):
    for signed in (ours, theirs):
        for size in (b"\x00\x00\x07\xd1", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"):
            with Line(signed.at("SIGNIN")) as line:
                assert line.say_raw(size + b"x") is None


def test_a_plain_listener_knows_no_login(ours, theirs):
    for frames in ([handshake()], [token(GOOD)]):
        assert answers(ours.broker.bootstrap, frames) == answers(theirs.broker.bootstrap, frames)


def test_an_unknown_scram_user_is_not_told_apart(ours):
    """Where Kafka refuses at once; what is said in the end is the same."""
    known, unknown = (
        answers(ours.at("SIGNIN"), [handshake("SCRAM-SHA-256"), token(b"n,,n=%b,r=abc" % user)])
        for user in (b"carol", b"nobody")
    )
    assert known[1] is not None
    assert len(known[1]) <= len(unknown[1]) + 40
    assert b"i=4096" in unknown[1]


# Real clients


def confluent(address, mechanism, user, password):
    from confluent_kafka import Producer

    problems, delivered = [], []
    producer = Producer(
        {
            "bootstrap.servers": address,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
            "error_cb": lambda error: problems.append(str(error)),
            "message.timeout.ms": 5000,
            "log_level": 0,
        }
    )
    producer.produce("records", b"x", on_delivery=lambda error, _: delivered.append(error))
    deadline = time.monotonic() + 10
    while not delivered and time.monotonic() < deadline and not any("SASL" in each for each in problems):
        producer.poll(0.05)
    if not delivered or delivered[0] is not None:  # comparing would fail: its errors do not compare with None
        raise RefusedError("; ".join(problems))


def kafka_python(address, mechanism, user, password):
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(
            bootstrap_servers=address,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism,
            sasl_plain_username=user,
            sasl_plain_password=password,
            max_block_ms=5000,
            bootstrap_timeout_ms=5000,
        )
    except KafkaError as error:
        raise RefusedError(repr(error)) from None
    try:
        producer.send("records", b"x").get(5)
    except KafkaError as error:
        raise RefusedError(repr(error)) from None
    finally:
        producer.close(timeout=1)


def aiokafka_(address, mechanism, user, password):
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    async def produce():
        producer = AIOKafkaProducer(
            bootstrap_servers=address,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism=mechanism,
            sasl_plain_username=user,
            sasl_plain_password=password,
            request_timeout_ms=5000,
        )
        try:
            await producer.start()
            await producer.send_and_wait("records", b"x")
        finally:
            await producer.stop()

    try:
        asyncio.run(produce())
    except KafkaError as error:
        raise RefusedError(repr(error)) from None


def own(address, mechanism, user, password):
    names = {"sasl_mechanism": mechanism, "sasl_username": user, "sasl_password": password}
    try:
        with ottla.Producer(address, security_protocol="SASL_PLAINTEXT", **names) as producer:
            producer.send("records", b"x").result(10)
    except ottla.KafkaError as error:
        raise RefusedError(str(error)) from None


class RefusedError(Exception):
    """The client did not get in."""


USERS = {"PLAIN": ("alice", "secret"), "SCRAM-SHA-256": ("carol", "geheim"), "SCRAM-SHA-512": ("carol", "geheim")}


@pytest.mark.parametrize("client", [own, confluent, kafka_python, aiokafka_])
@pytest.mark.parametrize("mechanism", USERS)
def test_clients_log_in(ours, client, mechanism):
    user, password = USERS[mechanism]
    client(ours.at("SIGNIN"), mechanism, user, password)
    with pytest.raises(RefusedError):
        client(ours.at("SIGNIN"), mechanism, user, "wrong")


def java_tool(directory, address, password, tool, *options, data=b""):
    """A tool of Apache Kafka's, at a listener that asks."""
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    jaas = f'{SECURITY}.scram.ScramLoginModule required username="carol" password="{password}";'
    path = directory / "client.properties"
    path.write_text(f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={jaas}\n")
    command = [*java("-Xmx128m", "-XX:TieredStopAtLevel=1"), f"org.apache.kafka.tools.{tool}"]
    command += ["--bootstrap-server", address, *options, "--command-config", str(path)]
    return subprocess.run(command, input=data, capture_output=True, timeout=60, check=False)


def test_tools_of_kafka_log_in(ours, tmp_path):
    done = java_tool(tmp_path, ours.at("SHORT"), "geheim", "BrokerApiVersionsCommand")
    assert b"SaslHandshake(17): 0 to 1" in done.stdout
    done = java_tool(tmp_path, ours.at("SIGNIN"), "geheim", "ConsoleProducer", "--topic", "lines", data=b"a\nb\n")
    assert done.returncode == 0
    names = {"sasl_mechanism": "PLAIN", "sasl_username": "alice", "sasl_password": "secret", "group_id": "lines"}
    with ottla.Consumer(
        ours.at("SIGNIN"), topics=["lines"], security_protocol="SASL_PLAINTEXT", auto_offset_reset="earliest", **names
    ) as consumer:
        seen = []
        while len(seen) < 2:
            seen += [record.value for record in consumer.poll(timeout_s=5)]
    assert seen == [b"a", b"b"]
    # Not where other tests were refused: who has failed so often from one address has to wait.
    done = java_tool(tmp_path, ours.at("SHORT"), "wrong", "BrokerApiVersionsCommand")
    assert done.returncode != 0
    assert b"due to invalid credentials with SASL mechanism SCRAM-SHA-512" in done.stderr + done.stdout


def produce_by_confluent(signed, tmp_path):
    from confluent_kafka import Producer

    errors = []
    producer = Producer(
        {
            "bootstrap.servers": signed.at("BRIEF"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "carol",
            "sasl.password": "geheim",
            "error_cb": errors.append,
            "log_level": 0,
        }
    )
    for number in range(50):
        producer.produce("renewed", b"%d" % number, on_delivery=lambda error, _: error and errors.append(error))
        producer.poll(0)
        time.sleep(0.1)
    assert producer.flush(10) == 0
    assert errors == []


def produce_by_java(signed, tmp_path):
    jaas = f'{SECURITY}.plain.PlainLoginModule required username="alice" password="secret";'
    path = tmp_path / "client.properties"
    path.write_text(f"security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={jaas}\n")
    command = [*java("-Xmx128m", "-XX:TieredStopAtLevel=1"), "org.apache.kafka.tools.ProducerPerformance"]
    command += ["--topic", "renewed", "--num-records", "100", "--throughput", "20", "--record-size", "10"]
    command += ["--bootstrap-server", signed.at("BRIEF"), "--command-config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "100 records sent" in done.stdout
    assert "WARN" not in done.stdout + done.stderr


@pytest.mark.parametrize("produce", [produce_by_confluent, produce_by_java])
def test_clients_renew_their_sessions(ours, produce, tmp_path):
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    before = ours.logins("BRIEF", "successful-reauthentication-total")
    produce(ours, tmp_path)
    assert ours.logins("BRIEF", "successful-reauthentication-total") >= before + 2
    assert ours.logins("BRIEF", "failed-reauthentication-total") == 0

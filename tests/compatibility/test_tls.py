"""mTLS with real clients: librdkafka, ours, and Apache Kafka's console tools with Java's own key stores."""

from __future__ import annotations

import subprocess

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

import ottla
from benchmarks.brokers import KAFKA_HOME, OttlaBroker, free_port, java
from tests.client.security.certificates import Certificate
from tests.conftest import require

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(120)]

AUTHORITY = Certificate("authority", is_rsa=True)
BROKER = Certificate("broker", AUTHORITY, names=["localhost", "127.0.0.1"], is_rsa=True)
ALICE = Certificate("alice", AUTHORITY, is_rsa=True)
STRANGER = Certificate("alice", Certificate("authority"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker with a JKS keystore and a PKCS12 truststore, as many a Kafka has them."""
    home = tmp_path_factory.mktemp("tls")
    (home / "broker.jks").write_bytes(BROKER.jks("geheim", AUTHORITY))
    (home / "trust.p12").write_bytes(AUTHORITY.pkcs12_trust(b"geheim"))
    one = OttlaBroker(home)
    one.tls = f"localhost:{free_port()}"
    one.settings = {
        "listeners": f"PLAINTEXT://{one.bootstrap},SSL://{one.tls}",
        "inter.broker.listener.name": "PLAINTEXT",
        "ssl.keystore.location": str(home / "broker.jks"),
        "ssl.keystore.password": "geheim",
        "ssl.truststore.location": str(home / "trust.p12"),
        "ssl.truststore.password": "geheim",
        "ssl.client.auth": "required",
    }
    one.start()
    yield one
    one.stop()


def librdkafka(broker, certificate, **more):
    return {
        "bootstrap.servers": broker.tls,
        "security.protocol": "SSL",
        "ssl.ca.pem": AUTHORITY.pem,
        "ssl.key.pem": certificate.key_pem(),
        "ssl.certificate.pem": certificate.pem,
        **more,
    }


def test_librdkafka(broker):
    producer = Producer(librdkafka(broker, ALICE, acks="all"))
    for number in range(500):
        producer.produce("rdkafka", b"%d" % number * 1000)
        producer.poll(0)
    assert producer.flush(30) == 0
    consumer = Consumer(librdkafka(broker, ALICE, **{"group.id": "g", "auto.offset.reset": "earliest"}))
    consumer.subscribe(["rdkafka"])
    found = [message.value() for message in consumer.consume(500, 30)]
    consumer.close()
    assert found == [b"%d" % number * 1000 for number in range(500)]


def test_librdkafka_with_a_certificate_that_is_not_trusted(broker):
    with pytest.raises(KafkaException):
        AdminClient(librdkafka(broker, STRANGER)).list_topics(timeout=3)


def test_our_client(broker):
    names = {
        "security_protocol": "SSL",
        "ssl_truststore_certificates": AUTHORITY.pem,
        "ssl_keystore_key": ALICE.key_pem(),
        "ssl_keystore_certificate_chain": ALICE.pem,
    }
    with ottla.Producer(broker.tls, **names) as producer:
        for number in range(100):
            producer.send("ours", b"%d" % number)
        producer.flush()
    with ottla.Admin(broker.tls, **names) as admin:
        assert "ours" in admin.list_topics()
    bare = {name: value for name, value in names.items() if "keystore" not in name}
    with pytest.raises(ottla.errors.KafkaError) as caught, ottla.Admin(broker.tls, **bare) as admin:
        admin.list_topics()
    assert "set ssl.keystore.location" in str(caught.value)


def test_javas_console_producer(broker, tmp_path):
    """With stores that keytool would make; what it has written is read back in plain text."""
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    (tmp_path / "alice.p12").write_bytes(ALICE.pkcs12(b"geheim", AUTHORITY))
    (tmp_path / "trust.jks").write_bytes(AUTHORITY.jks_trust("geheim"))
    config = tmp_path / "client.properties"
    config.write_text(
        "security.protocol=SSL\n"
        f"ssl.keystore.location={tmp_path / 'alice.p12'}\nssl.keystore.type=PKCS12\nssl.keystore.password=geheim\n"
        f"ssl.truststore.location={tmp_path / 'trust.jks'}\nssl.truststore.password=geheim\n"
    )
    done = subprocess.run(
        [
            *java("-Xmx256m"),
            "org.apache.kafka.tools.ConsoleProducer",
            *("--bootstrap-server", broker.tls, "--topic", "java", "--command-config", str(config)),
        ],
        input="eins\nzwei\ndrei\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with ottla.Consumer(broker.bootstrap) as consumer:
        consumer.assign([("java", 0)])
        consumer.seek_to_beginning()
        found = []
        while len(found) < 3:
            found += [record.value for record in consumer.poll(5)]
    assert found == [b"eins", b"zwei", b"drei"]

"""What users write becomes typed settings, or one line that says what would be right."""

import logging
import ssl

import pytest

from ottla.client.errors import ConfigError
from ottla.client.settings import (
    AdminSettings,
    ConsumerSettings,
    Password,
    ProducerSettings,
    ShareConsumerSettings,
    reading,
)


def producer(**names):
    return ProducerSettings.of("localhost:9092", None, names)


def consumer(settings=None, **names):
    return ConsumerSettings.of("localhost:9092", settings, names)


def refused(kind, settings=None, /, servers="localhost:9092", **names):
    with pytest.raises(ConfigError) as caught:
        kind.of(servers, settings, names)
    text = str(caught.value)
    assert "\n" not in text
    return text


# Reading


def test_defaults_are_there_without_a_word():
    settings = producer()
    assert settings.bootstrap_servers == ["localhost:9092"]
    assert (settings.linger_ms, settings.batch_size, settings.acks, settings.enable_idempotence) == (5, 16384, -1, True)
    assert settings.compression_type == "none"
    assert settings.sasl_jaas_config is None
    assert not settings.is_given("linger.ms")


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("linger.ms", "7", 7),
        ("linger.ms", 7, 7),
        ("linger_ms", 7, 7),
        ("enable.idempotence", "True", True),
        ("enable.idempotence", True, True),
        ("acks", 1, 1),
        ("acks", "all", -1),
        ("acks", -1, -1),
        ("compression.type", "ZSTD", "zstd"),
        ("security.protocol", "ssl", "SSL"),
        ("client.id", 5, "5"),
        ("sasl.login.refresh.window.factor", "0.5", 0.5),
        ("sasl.login.refresh.window.factor", 1, 1.0),
        ("ssl.enabled.protocols", "TLSv1.3", ["TLSv1.3"]),
        ("ssl.enabled.protocols", ("TLSv1.3", "TLSv1.2"), ["TLSv1.3", "TLSv1.2"]),
        ("ssl.key.password", "geheim", Password("geheim")),
        ("ssl.key.password", b"geheim", Password("geheim")),
        ("metadata.recovery.strategy", "None", "none"),
        ("metric.reporters", "org.apache.kafka.common.metrics.JmxReporter", []),
        ("ssl.endpoint.identification.algorithm", "none", ""),
        ("ssl.endpoint.identification.algorithm", "HTTPS", "https"),
        ("partitioner.class", "org.apache.kafka.clients.producer.RoundRobinPartitioner", "round_robin"),
        ("partitioner.class", "math:floor", __import__("math").floor),
        ("key.serializer", "string", "string"),
    ],
)
def test_values_are_read_as_what_they_mean(name, given, value):
    settings = ProducerSettings.of("localhost:9092", {name: given})
    dotted = name.replace("_", ".")
    assert settings.value(dotted) == value
    assert type(settings.value(dotted)) is type(value)
    assert settings.is_given(dotted)


def test_none_means_not_given():
    settings = producer(linger_ms=None, ssl_endpoint_identification_algorithm=None)
    assert (settings.linger_ms, settings.ssl_endpoint_identification_algorithm) == (5, "https")


def test_keywords_win_over_the_mapping():
    settings = ProducerSettings.of(
        "a:1", {"linger.ms": 1, "batch.size": 2, "bootstrap.servers": "b:2"}, {"linger_ms": 3}
    )
    assert (settings.linger_ms, settings.batch_size, settings.bootstrap_servers) == (3, 2, ["a:1"])


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("a", ["a:9092"]),
        ("a:1, b:2", ["a:1", "b:2"]),
        (["a:1", "a:1", "b"], ["a:1", "b:9092"]),
        ("[::1]:9093,::1", ["[::1]:9093", "[::1]:9092"]),
        ("PLAINTEXT://a:1", ["a:1"]),
    ],
)
def test_addresses(given, addresses):
    assert ProducerSettings.of(given).bootstrap_servers == addresses
    assert ProducerSettings.of(None, {"metadata.broker.list": given}).bootstrap_servers == addresses


@pytest.mark.parametrize("given", ["", "a:0", "a:70000", "a:b", "a b:1", ":9092", ["a:1", 5], 5, b"a:1", []])
def test_what_is_no_address(given):
    assert "bootstrap.servers" in refused(ProducerSettings, servers=given)


def test_a_scheme_must_agree_with_the_protocol():
    assert "set security.protocol=SSL" in refused(ProducerSettings, servers="SSL://a:1")
    assert ProducerSettings.of("ssl://a:1", {"security.protocol": "SSL"}).bootstrap_servers == ["a:1"]


def test_settings_never_change_and_hide_secrets():
    settings = AdminSettings.of("a", {"ssl.key.password": "geheim"})
    with pytest.raises(AttributeError, match="never change"):
        settings.linger_ms = 5
    with pytest.raises(AttributeError, match="never change"):
        del settings.client_id
    with pytest.raises(AttributeError, match=r"no setting linger\.ms"):
        settings.linger_ms  # noqa: B018
    with pytest.raises(KeyError):
        settings.value("linger.ms")
    assert "geheim" not in repr(settings)
    assert "ssl.key.password=[hidden]" in repr(settings)
    settings.ssl_cipher_suites.append("x")
    assert AdminSettings.of("a").ssl_cipher_suites == []


def test_client_ids_are_made_up_as_kafka_does():
    assert producer(client_id="mine").client_id == "mine"
    assert producer(transactional_id="t").client_id == "producer-t"
    assert consumer(group_id="g", group_instance_id="i").client_id == "consumer-g-i"
    first, second = producer().client_id, producer().client_id
    assert first.startswith("producer-")
    assert first != second
    assert AdminSettings.of("a").client_id.startswith("adminclient-")


# What is wrong is said in one line


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"linger.ms": "x"}, "linger.ms cannot be 'x': it takes a whole number, 0 or more."),
        ({"linger.ms": -1}, "linger.ms cannot be -1: it takes a whole number, 0 or more."),
        ({"linger.ms": 1.5}, "linger.ms cannot be 1.5: it takes a whole number, 0 or more."),
        ({"linger.ms": True}, "linger.ms cannot be True: it takes a whole number, 0 or more."),
        ({"batch.size": 2**31}, "batch.size cannot be 2147483648: it takes a whole number, 0 or more."),
        ({"compression.lz4.level": 18}, "compression.lz4.level cannot be 18: it takes a whole number, 1 to 17."),
        ({"enable.idempotence": "yes"}, "enable.idempotence cannot be 'yes': it takes true or false"),
        ({"acks": 2}, "acks cannot be '2': it takes one of all, -1, 0, 1."),
        ({"acks": True}, "acks cannot be True: it takes one of all, -1, 0, 1."),
        ({"compression.codec": "lzo"}, "compression.codec (Kafka's compression.type) cannot be 'lzo': it takes one of"),
        ({"ssl.key.password": 5}, "ssl.key.password cannot be [hidden]: it takes text (not int)."),
        ({"ssl.enabled.protocols": "TLSv1"}, "ssl.enabled.protocols cannot have TLSv1: it is not safe."),
        ({"ssl.enabled.protocols": ["TLSv1.2", ""]}, "ssl.enabled.protocols cannot be"),
        ({"ssl.enabled.protocols": 5}, "it takes some of TLSv1.2, TLSv1.3."),
        ({"ssl.endpoint.identification.algorithm": "htps"}, "cannot be 'htps': write https, or nothing"),
        ({"partitioner.class": "com.example.Mine"}, "partitioner.class cannot be 'com.example.Mine': give a function"),
        ({"partitioner.class": "math:nothing"}, "math:nothing cannot be imported: module 'math' has no attribute"),
        ({"interceptor.classes": "com.example.Mine"}, "Java classes do not run here"),
        ({"sasl.login.callback.handler.class": "com.example.Mine"}, "Java classes do not run here"),
        ({"ssl.engine.factory.class": "com.example.Mine"}, "give an ssl.SSLContext"),
        ({"sasl.oauthbearer.jwt.validator.class": "com.example.Mine"}, "Java classes do not run here"),
        ({5: 5}, "names of settings are text, not 5."),
    ],
)
def test_a_value_that_cannot_be(settings, text):
    assert text in refused(ProducerSettings, settings)


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (ProducerSettings, "lingerms", "lingerms is not a setting of a producer; did you mean linger.ms?"),
        (ProducerSettings, "linger_mss", "linger_mss is not a setting of a producer; did you mean linger_ms?"),
        (ProducerSettings, "queue.buffering.max", "did you mean queue.buffering.max."),
        (ProducerSettings, "xyz", "xyz is not a setting of a producer. docs/client-settings.md lists them."),
        (ProducerSettings, "group.id", "group.id is a setting of consumers; a producer does not have it."),
        (AdminSettings, "linger.ms", "linger.ms is a setting of producers; an admin does not have it."),
        (ConsumerSettings, "compression.level", "compression.level is a setting of producers"),
        (ConsumerSettings, "queue.buffering.max.ms", "queue.buffering.max.ms is a setting of producers"),
        (ConsumerSettings, "ssl_cafile", "ssl_cafile is not a setting: the name is ssl.truststore.location."),
        (ConsumerSettings, "dr_cb", "dr_cb cannot be set: use delivery.add_done_callback()."),
        (ConsumerSettings, "enable.partition.eof", "compare consumer.position() with consumer.end_offsets()"),
        (ConsumerSettings, "metric.reporters", "metrics() has the figures at any time"),
        (ConsumerSettings, "ssl.provider", "ssl.provider cannot be set: TLS providers exist in a JVM only"),
        (ShareConsumerSettings, "isolation.level", "the group has it, as share.isolation.level"),
    ],
)
def test_a_name_that_cannot_be(kind, name, text):
    value = {"isolation.level": "read_committed", "metric.reporters": object()}.get(name, "x")
    assert text in refused(kind, {name: value, "group.id": "g"} if kind is ShareConsumerSettings else {name: value})


def test_servers_are_needed():
    assert "bootstrap.servers is needed" in refused(ProducerSettings, servers=None)
    assert "both missing" in refused(AdminSettings, servers=None)
    assert "both set" in refused(AdminSettings, {"bootstrap.controllers": "a:1"})
    assert AdminSettings.of(None, {"bootstrap.controllers": "a:1"}).bootstrap_controllers == ["a:1"]
    assert "given twice" in refused(ProducerSettings, bootstrap_servers="other:1")


def test_settings_must_be_a_mapping():
    assert "settings must be a mapping" in refused(ProducerSettings, "linger.ms=5")


# librdkafka's spellings


@pytest.mark.parametrize(
    ("kind", "spelling", "given", "name", "value"),
    [
        (ProducerSettings, "queue.buffering.max.ms", "0.5", "linger.ms", 1),
        (ProducerSettings, "queue.buffering.max.kbytes", 1024, "buffer.memory", 1048576),
        (ProducerSettings, "message.send.max.retries", 3, "retries", 3),
        (ProducerSettings, "message.timeout.ms", 0, "delivery.timeout.ms", 2**31 - 1),
        (ProducerSettings, "message.max.bytes", 5, "max.request.size", 5),
        (ProducerSettings, "request.required.acks", "-1", "acks", -1),
        (ProducerSettings, "max.in.flight", 1, "max.in.flight.requests.per.connection", 1),
        (ProducerSettings, "compression.codec", "lz4", "compression.type", "lz4"),
        (ProducerSettings, "partitioner", "murmur2_random", "partitioner.class", "murmur2_random"),
        (ProducerSettings, "topic.metadata.refresh.interval.ms", -1, "metadata.max.age.ms", 2**63 - 1),
        (ProducerSettings, "socket.send.buffer.bytes", 0, "send.buffer.bytes", -1),
        (ProducerSettings, "socket.timeout.ms", 100, "request.timeout.ms", 100),
        (ConsumerSettings, "fetch.wait.max.ms", 100, "fetch.max.wait.ms", 100),
        (ConsumerSettings, "fetch.message.max.bytes", 100, "max.partition.fetch.bytes", 100),
        (ConsumerSettings, "queued.max.messages.kbytes", 2, "prefetch.max.bytes", 2048),
        (ConsumerSettings, "auto.offset.reset", "smallest", "auto.offset.reset", "earliest"),
        (ConsumerSettings, "auto.offset.reset", "end", "auto.offset.reset", "latest"),
        (ConsumerSettings, "auto.offset.reset", "error", "auto.offset.reset", "none"),
        (ConsumerSettings, "broker.address.family", "v4", "broker.address.family", "v4"),
        (ConsumerSettings, "sasl.mechanisms", "plain", "sasl.mechanism", "PLAIN"),
    ],
)
def test_librdkafkas_spellings_are_understood(kind, spelling, given, name, value):
    assert kind.of("a", {spelling: given}).value(name) == value


@pytest.mark.parametrize(
    ("codec", "level", "name", "value"),
    [
        ("gzip", 5, "compression.gzip.level", 5),
        ("zstd", "7", "compression.zstd.level", 7),
        ("lz4", 0, "compression.lz4.level", 1),
        ("lz4", 12, "compression.lz4.level", 12),
        ("zstd", -1, "compression.zstd.level", 3),
    ],
)
def test_one_level_for_whichever_codec(codec, level, name, value):
    settings = ProducerSettings.of("a", {"compression.level": level, "compression.type": codec})
    assert settings.value(name) == value
    settings = ProducerSettings.of("a", {"compression.type": codec}, {"compression_level": level})
    assert settings.value(name) == value
    assert ProducerSettings.of("a", {"compression.level": level}).compression_type == "none"


def test_two_spellings_must_agree():
    assert producer(linger_ms=5, queue_buffering_max_ms="5").linger_ms == 5
    text = refused(ProducerSettings, {"linger.ms": 1, "queue.buffering.max.ms": 2})
    assert text.startswith("linger.ms and queue.buffering.max.ms are the same setting and have different values (1 and")
    text = refused(ProducerSettings, {"ssl.key.pem": "a", "ssl.keystore.key": "b", "security.protocol": "SSL"})
    assert "([hidden] and [hidden])" in text


def test_what_has_no_effect_is_said_once(caplog):
    reading._told.clear()
    with caplog.at_level(logging.INFO, "ottla.client"):
        for _ in range(2):
            ProducerSettings.of("a", {"debug": "all", "enable.partition.eof": False, "ssl.keymanager.algorithm": "x"})
    assert [record.message for record in caplog.records] == [
        "debug has no effect: set logging.getLogger('ottla.client') to DEBUG",
        "ssl.keymanager.algorithm has no effect: keys are handled by OpenSSL",
    ]


# What goes together


def test_idempotence_needs_acks_and_retries():
    assert producer(acks=1).enable_idempotence is False
    assert producer(retries=0).enable_idempotence is False
    assert "then acks must be all" in refused(ProducerSettings, acks=1, enable_idempotence=True)
    assert "then retries must not be 0" in refused(ProducerSettings, retries=0, enable_idempotence=True)
    assert "at most 5" in refused(ProducerSettings, max_in_flight_requests_per_connection=6)
    assert producer(max_in_flight_requests_per_connection=6, enable_idempotence=False)
    assert "transactional.id is set: then acks must be all" in refused(ProducerSettings, transactional_id="t", acks=1)
    assert "must not be false" in refused(ProducerSettings, transactional_id="t", enable_idempotence=False)


def test_two_phase_commit_never_times_out():
    assert "nothing times out" in refused(
        ProducerSettings, transactional_id="t", transaction_two_phase_commit_enable=True, transaction_timeout_ms=1
    )
    assert "needs a transactional.id" in refused(ProducerSettings, transaction_two_phase_commit_enable=True)


def test_delivery_takes_at_least_linger_and_a_request():
    assert producer(request_timeout_ms=200_000).delivery_timeout_ms == 200_005
    assert "must be at least" in refused(ProducerSettings, delivery_timeout_ms=30_004)
    assert producer(delivery_timeout_ms=30_005).delivery_timeout_ms == 30_005


@pytest.mark.parametrize("name", ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"])
def test_the_broker_decides_in_the_consumer_protocol(name):
    value = "range" if name.startswith("partition") else 5
    assert f"{name} cannot be set with group.protocol=consumer" in refused(
        ConsumerSettings, {name: value, "group.protocol": "CONSUMER", "group.id": "g"}
    )
    assert consumer({"group.protocol": "CONSUMER"}).group_protocol == "consumer"


def test_each_protocol_has_its_own_settings():
    assert "set group.protocol=consumer" in refused(ConsumerSettings, group_remote_assignor="uniform")
    assert "share consumer's" in refused(ConsumerSettings, share_acquire_mode="record_limit")
    share = ShareConsumerSettings.of("a", {"group.id": "g", "share.acquire.mode": "RECORD_LIMIT"})
    assert (share.share_acquire_mode, share.share_acknowledgement_mode) == ("record_limit", "implicit")
    assert "group.id is needed" in refused(ShareConsumerSettings)


def test_a_consumer_without_a_group_commits_nothing():
    assert consumer().enable_auto_commit is False
    assert consumer(group_id="g").enable_auto_commit is True
    assert "there is no group" in refused(ConsumerSettings, enable_auto_commit=True)
    assert "group.id is not" in refused(ConsumerSettings, group_instance_id="i")
    assert "group.id is empty" in refused(ConsumerSettings, group_id="")
    assert "a third of it" in refused(ConsumerSettings, session_timeout_ms=3000)


def test_assignors_have_their_short_names():
    settings = consumer(partition_assignment_strategy="org.apache.kafka.clients.consumer.StickyAssignor, roundrobin")
    assert settings.partition_assignment_strategy == ["sticky", "roundrobin"]
    own = object()
    assert consumer(partition_assignment_strategy=[own]).partition_assignment_strategy == [own]
    assert consumer(partition_assignment_strategy=own).partition_assignment_strategy == [own]
    assert "cannot contain 'rage'" in refused(ConsumerSettings, partition_assignment_strategy="rage")
    assert "is empty" in refused(ConsumerSettings, partition_assignment_strategy=[])


@pytest.mark.parametrize(
    ("duration", "milliseconds"),
    [("PT0S", 0), ("P1D", 86_400_000), ("PT1H30M", 5_400_000), ("pt2.5s", 2500), ("PT0.0019S", 1)],
)
def test_durations(duration, milliseconds):
    assert consumer(auto_offset_reset=f"by_duration:{duration}").auto_offset_reset_duration_ms == milliseconds


def test_what_is_no_duration():
    assert consumer().auto_offset_reset_duration_ms is None
    for text in ("by_duration:", "by_duration:P", "by_duration:-PT1S", "by_duration:1h", "first"):
        assert "it takes one of latest, earliest, none, by_duration" in refused(
            ConsumerSettings, auto_offset_reset=text
        )


def test_backoffs_stay_in_order():
    assert producer(reconnect_backoff_ms=5000).reconnect_backoff_max_ms == 5000
    assert producer(reconnect_backoff_ms=10).reconnect_backoff_max_ms == 1000
    assert "is larger than" in refused(ProducerSettings, retry_backoff_ms=10, retry_backoff_max_ms=5)


def test_credentials_are_not_passed_over():
    assert "nobody would sign in" in refused(AdminSettings, sasl_username="u", sasl_password="p")
    both = {"sasl_username": "u", "sasl_password": "p", "security_protocol": "SASL_SSL"}
    assert "but sasl.mechanism is GSSAPI" in refused(AdminSettings, **both)
    assert "sasl.password is not" in refused(
        AdminSettings, sasl_username="u", sasl_mechanism="PLAIN", security_protocol="SASL_SSL"
    )
    assert "Leave one out" in refused(AdminSettings, sasl_jaas_config="x", sasl_mechanism="PLAIN", **both)
    settings = AdminSettings.of("a", None, {"sasl_mechanism": "PLAIN", **both})
    assert (settings.sasl_username, settings.sasl_password) == ("u", Password("p"))
    assert "sasl.mechanism is needed" in refused(AdminSettings, security_protocol="SASL_SSL", sasl_mechanism="")


def test_certificates_are_not_passed_over():
    assert "nothing would be encrypted. Set SSL." in refused(AdminSettings, ssl_truststore_location="x")
    assert "Set both" in refused(AdminSettings, security_protocol="SSL", ssl_key_location="x")
    assert "Leave one out" in refused(
        AdminSettings, security_protocol="SSL", ssl_certificate_location="x", ssl_keystore_location="y"
    )


def test_objects_are_taken_as_they_are():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert AdminSettings.of("a", {"ssl.engine.factory.class": context}).ssl_engine_factory_class is context
    interceptor = object()
    assert producer(interceptor_classes=interceptor).interceptor_classes == [interceptor]
    assert producer(interceptor_classes=[interceptor]).interceptor_classes == [interceptor]
    assert producer(interceptor_classes="math:floor").interceptor_classes == [__import__("math").floor]
    assert producer(oauth_cb=len, security_protocol="SASL_SSL").sasl_oauth_token_provider is len


# Variables in values


def test_config_providers_fill_in_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("OTTLA_TEST_NAME", "from-the-environment")
    secrets = tmp_path / "secrets.properties"
    secrets.write_text("password=geheim\n")
    settings = AdminSettings.of(
        "a",
        {
            "config.providers": "env,file",
            "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
            "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
            "client.id": "${env:OTTLA_TEST_NAME}",
            "ssl.key.password": f"${{file:{secrets}:password}}",
        },
    )
    assert settings.client_id == "from-the-environment"
    assert settings.ssl_key_password == Password("geheim")


def test_without_providers_a_variable_is_text():
    assert producer(client_id="${env:HOME}").client_id == "${env:HOME}"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"config.providers": "env"}, "config.providers.env.class is not set"),
        ({"config.providers": "env", "config.providers.env.class": "X"}, "not one of Kafka's own"),
        ({"config.providers.env.class": "EnvVarConfigProvider"}, "config.providers does not name env"),
        (
            {
                "config.providers": ["env"],
                "config.providers.env.class": "EnvVarConfigProvider",
                "client.id": "${env:OTTLA_NO_SUCH_VARIABLE}",
            },
            "there is no environment variable OTTLA_NO_SUCH_VARIABLE",
        ),
    ],
)
def test_a_provider_that_cannot_be(settings, text):
    assert text in refused(AdminSettings, settings)

import pytest

from ottla.schema.config import BrokerConfig, Given
from ottla.schema.definition import Password, SettingError
from ottla.schema.listeners import Listener

STOCK_PROPERTIES = """
# What Apache Kafka 4 ships as config/server.properties
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""

IMAGE_ENVIRONMENT = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:9092",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_HEAP_OPTS": "-Xmx512m",
    "CLUSTER_ID": "MkU3OEVBNTcwNTJENDM2Qk",
}


def refused(settings):
    with pytest.raises(SettingError) as error:
        BrokerConfig.of(settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_settings_at_all_give_a_single_node():
    config = BrokerConfig.of()
    assert config.node_id == config["broker.id"] == 1
    assert config["process.roles"] == ["broker", "controller"]
    assert config.listeners == config.advertised_listeners == [Listener("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092)]
    assert config.controller_listeners == []
    assert config.log_dirs == ["./ottla-data"]
    assert config.metadata_log_dir == "./ottla-data"
    assert config.cluster_id is None
    assert config.inter_broker_listener_name == "PLAINTEXT"
    assert config.without_effect() == []


def test_kafkas_own_server_properties_are_taken():
    config = BrokerConfig.load(properties=STOCK_PROPERTIES)
    assert config.listeners == [Listener("PLAINTEXT", "PLAINTEXT", "", 9092)]
    assert config.controller_listeners == [Listener("CONTROLLER", "PLAINTEXT", "", 9093)]
    assert config.advertised_listeners == [Listener("PLAINTEXT", "PLAINTEXT", "localhost", 9092)]
    assert config.log_dirs == ["/tmp/kraft-combined-logs"]
    assert config.source("num.partitions") == "server.properties:17"
    assert "num.io.threads" in config.without_effect()
    assert "listeners" not in config.without_effect()


def test_the_environment_of_kafkas_image_is_taken():
    config = BrokerConfig.load(environment=IMAGE_ENVIRONMENT)
    assert config.listeners == [Listener("PLAINTEXT", "PLAINTEXT", "0.0.0.0", 9092)]
    assert config.advertised_listeners == [Listener("PLAINTEXT", "PLAINTEXT", "kafka", 9092)]
    assert config.cluster_id == "MkU3OEVBNTcwNTJENDM2Qk"
    assert config["group.initial.rebalance.delay.ms"] == 0


def test_sources_come_in_rising_order_of_precedence():
    layers = {
        "properties": "num.partitions=2\n",
        "assignments": ["num.partitions=3"],
        "environment": {"KAFKA_NUM_PARTITIONS": "4", "OTTLA_NUM_PARTITIONS": "5"},
        "options": {"num.partitions": Given("6", "--partitions")},
    }
    config = BrokerConfig.load()
    assert (config["num.partitions"], config.source("num.partitions")) == (1, "default")
    config = BrokerConfig.load(properties=layers["properties"])
    assert (config["num.partitions"], config.source("num.partitions")) == (2, "server.properties:1")
    config = BrokerConfig.load(properties=layers["properties"], assignments=layers["assignments"])
    assert (config["num.partitions"], config.source("num.partitions")) == (3, "--set")
    layers_without_options = {key: value for key, value in layers.items() if key != "options"}
    config = BrokerConfig.load(**layers_without_options)
    assert (config["num.partitions"], config.source("num.partitions")) == (5, "OTTLA_NUM_PARTITIONS")
    config = BrokerConfig.load(**layers)
    assert (config["num.partitions"], config.source("num.partitions")) == (6, "--partitions")


def test_the_last_of_several_equal_names_counts():
    config = BrokerConfig.load(properties="num.partitions=2\nnum.partitions=3", properties_name="my.properties")
    assert (config["num.partitions"], config.source("num.partitions")) == (3, "my.properties:2")


def test_values_are_typed():
    config = BrokerConfig.of(
        {"log.dirs": ["/a", "/b", "/a"], "auto.create.topics.enable": False, "ssl.key.password": "secret"}
    )
    assert config.log_dirs == ["/a", "/b"]
    assert config["auto.create.topics.enable"] is False
    assert config["ssl.key.password"] == Password("secret")
    assert config["log.cleaner.min.cleanable.ratio"] == 0.5
    assert config["broker.rack"] is None
    with pytest.raises(KeyError):
        config["no.such.setting"]
    with pytest.raises(KeyError):
        config.default("no.such.setting")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log.retention.hour", "unknown setting log.retention.hour; did you mean log.retention.hours?"),
        ("LOG_DIRS", "unknown setting LOG_DIRS; did you mean log.dirs?"),
        ("retention.ms", "unknown setting retention.ms; did you mean log.retention.ms?"),
        ("logging.levle", "unknown setting logging.levle; did you mean logging.level?"),
        ("entirely.different", "unknown setting entirely.different"),
        ("listener.name.internal.ssl.keystore.typo", "unknown setting listener.name.internal.ssl.keystore.typo"),
        ("zookeeper.connect", "zookeeper.connect was removed from Kafka: there is no ZooKeeper any more"),
        ("log.message.format.version", "log.message.format.version was removed from Kafka: the message format"),
        ("inter.broker.protocol.version", "inter.broker.protocol.version was removed from Kafka: versions are"),
        ("offsets.commit.required.acks", "offsets.commit.required.acks was removed from Kafka: commits always"),
        ("leader.replication.throttled.rate", "leader.replication.throttled.rate can only be set at run time"),
    ],
)
def test_unknown_settings_are_named_with_the_nearest_right_one(name, expected):
    assert refused({name: "1"}).startswith(f"settings: {expected}")


def test_an_error_names_the_place():
    with pytest.raises(SettingError, match=r"^/etc/my\.properties:2: unknown setting nun\.partitions"):
        BrokerConfig.load(properties="\nnun.partitions=1", properties_name="/etc/my.properties")
    with pytest.raises(SettingError, match=r"^KAFKA_NUM_PARTITIONS: Invalid value x for configuration num\.partitions"):
        BrokerConfig.load(environment={"KAFKA_NUM_PARTITIONS": "x"})
    with pytest.raises(SettingError, match=r"^--set: 'num\.partitions' must look like key=value"):
        BrokerConfig.load(assignments=["num.partitions"])
    with pytest.raises(SettingError, match=r"^--set: log\.roll\.ms: must be at least 1"):
        BrokerConfig.load(assignments=["log.roll.ms=0"])


def test_settings_of_a_listener_are_known_by_their_last_part():
    config = BrokerConfig.of(
        {
            "listener.name.internal.socket.receive.buffer.bytes": "5",
            "listener.name.internal.scram-sha-256.sasl.jaas.config": "x",
            "max.connections": "7",
            "listener.name.internal.max.connections": "3",
        }
    )
    assert config.listener_setting("INTERNAL", "max.connections") == 3
    assert config.listener_setting("EXTERNAL", "max.connections") == 7
    assert config["listener.name.internal.max.connections"] == 3
    assert config["listener.name.internal.scram-sha-256.sasl.jaas.config"] == Password("x")
    assert "Not a number" in refused({"listener.name.internal.max.connections": "x"})
    again = config.with_dynamic({}, {"listener.name.internal.max.connections": "4"})
    assert again.listener_setting("INTERNAL", "max.connections") == 4


def test_settings_of_a_listener_stand_above_those_of_all():
    config = BrokerConfig.of(
        {
            "ssl.client.auth": "required",
            "listener.name.internal.ssl.client.auth": "requested",
            "listener.name.internal.sasl.jaas.config": "x",
            "listener.name.internal.scram-sha-256.sasl.jaas.config": "y",
        }
    )
    internal, external = config.for_listener("INTERNAL"), config.for_listener("EXTERNAL")
    assert (internal["ssl.client.auth"], external["ssl.client.auth"]) == ("requested", "required")
    assert internal.key("ssl.client.auth") == "listener.name.internal.ssl.client.auth"
    assert external.key("ssl.client.auth") == "ssl.client.auth"
    assert (internal.is_own("ssl.client.auth"), external.is_own("ssl.client.auth")) == (True, False)
    assert internal.is_default("ssl.protocol")
    assert not internal.is_default("sasl.jaas.config")
    assert external.is_default("sasl.jaas.config")
    assert internal["sasl.jaas.config"] == Password("x")
    assert config.for_listener("INTERNAL", "SCRAM-SHA-256")["sasl.jaas.config"] == Password("y")
    assert config.for_listener("INTERNAL", "PLAIN")["sasl.jaas.config"] == Password("x")
    dynamic = config.with_dynamic({}, {"listener.name.internal.ssl.client.auth": "none"})
    assert dynamic.for_listener("INTERNAL")["ssl.client.auth"] == "none"
    assert "ssl.client.auth" in internal
    assert "nothing" not in internal
    assert dict(internal)["ssl.client.auth"] == "requested"


def test_broker_id_stands_in_for_node_id():
    config = BrokerConfig.of({"broker.id": "7"})
    assert config.node_id == config["broker.id"] == 7
    assert BrokerConfig.of({"node.id": "7"})["broker.id"] == 7
    assert BrokerConfig.of({"node.id": "7", "broker.id": "7"}).node_id == 7


def test_log_dir_stands_in_for_log_dirs():
    assert BrokerConfig.of({"log.dir": "/a"}).log_dirs == ["/a"]
    assert BrokerConfig.of({"log.dir": "/a", "log.dirs": "/b,/c"}).log_dirs == ["/b", "/c"]
    assert BrokerConfig.of({"log.dirs": "/b,/c", "metadata.log.dir": "/m"}).metadata_log_dir == "/m"


def test_advertised_listeners_alone_listen_on_their_ports():
    config = BrokerConfig.of({"advertised.listeners": "PLAINTEXT://kafka:19092"})
    assert config.listeners == [Listener("PLAINTEXT", "PLAINTEXT", "0.0.0.0", 19092)]
    assert config.advertised_listeners == [Listener("PLAINTEXT", "PLAINTEXT", "kafka", 19092)]


def test_clients_are_told_the_bound_port_and_the_hostname():
    config = BrokerConfig.of({"listeners": "PLAINTEXT://:0,INTERNAL://127.0.0.1:0"} | MAP)
    assert config.advertise("here", {"PLAINTEXT": 4001, "INTERNAL": 4002}) == [
        Listener("PLAINTEXT", "PLAINTEXT", "here", 4001),
        Listener("INTERNAL", "PLAINTEXT", "127.0.0.1", 4002),
    ]


def test_a_controller_listener_outside_of_the_default_map_speaks_plaintext():
    config = BrokerConfig.of(
        {"listeners": "PLAINTEXT://:9092,CONTROLLER://:9093", "controller.listener.names": "CONTROLLER"}
    )
    assert [listener.protocol for listener in config.controller_listeners] == ["PLAINTEXT"]


MAP = {"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,SECURE:SASL_SSL"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"node.id": "1", "broker.id": "2"}, "broker.id: 2 differs from node.id 1"),
        ({"node.id": "-1"}, "Value must be at least 0"),
        ({"broker.id": "-5"}, "broker.id: the id of a node is at least 0"),
        ({"process.roles": ""}, "process.roles: must name"),
        ({"process.roles": "broker"}, "node.id: every node of a cluster needs one of its own"),
        ({"process.roles": "zoo"}, "String must be one of: broker, controller"),
        ({"cluster.id": "short"}, "'short' is not a cluster id"),
        ({"listeners": ""}, "listeners: must name at least one"),
        ({"listeners": "PLAINTEXT://:9092,FOO://:9093"}, "no security protocol defined for listener FOO"),
        ({"listeners": "PLAINTEXT://:9092,INTERNAL://:9092"} | MAP, "each listener must have a different port"),
        ({"listeners": "PLAINTEXT://:1", "controller.listener.names": "PLAINTEXT"}, "leaves no listener for clients"),
        ({"listeners": "PLAINTEXT://0.0.0.0:9092"}, "clients cannot connect to 0.0.0.0; set advertised.listeners"),
        ({"advertised.listeners": "PLAINTEXT://0.0.0.0:9092"}, "advertised.listeners: clients cannot connect"),
        (
            {"listeners": "PLAINTEXT://:1", "advertised.listeners": "INTERNAL://a:2"} | MAP,
            "INTERNAL is not among the listeners (PLAINTEXT)",
        ),
        ({"inter.broker.listener.name": "OTHER"}, "OTHER must be one of the advertised listeners (PLAINTEXT)"),
        (
            {"inter.broker.listener.name": "PLAINTEXT", "security.inter.broker.protocol": "PLAINTEXT"},
            "only one of it and security.inter.broker.protocol",
        ),
        (
            {"listeners": "INTERNAL://:1,SECURE://:2"} | MAP,
            "PLAINTEXT must be one of the advertised listeners (INTERNAL, SECURE)",
        ),
        ({"ssl.engine.factory.class": "org.example.Engines"}, "Ottla cannot load Java classes"),
        ({"log.dirs": "", "log.dir": ""}, "log.dirs: at least one data directory"),
        ({"log.dirs": ""}, "log.dirs: at least one data directory"),
        ({"log.dirs": "/a,,/b"}, "values must not be empty"),
        ({"log.retention.ms": "0"}, "log.retention.ms: must be unlimited (-1) or at least 1"),
        ({"log.retention.hours": "0"}, "log.retention.hours: must be unlimited"),
        ({"log.roll.ms": "0"}, "log.roll.ms: must be at least 1"),
        ({"log.roll.jitter.ms": "-1"}, "log.roll.jitter.ms: must be at least 0"),
        ({"log.segment.bytes": "100"}, "Value must be at least 1048576"),
        ({"log.cleaner.dedupe.buffer.size": "1048576"}, "must be more than 1 MiB per cleaner thread"),
        ({"log.cleaner.min.compaction.lag.ms": "9", "log.cleaner.max.compaction.lag.ms": "8"}, "(9) must be at most"),
        ({"offsets.topic.compression.codec": "5"}, "5 is not a codec"),
        ({"queued.max.request.bytes": "1000"}, "must be at least socket.request.max.bytes"),
        ({"connections.max.idle.ms": "100"}, "must be less than connections.max.idle.ms"),
        ({"max.connections.per.ip": "0"}, "can be 0 only if"),
        ({"max.connections.per.ip.overrides": "host"}, "'host' must look like host:count"),
        ({"replica.fetch.wait.max.ms": "30001"}, "must be at most replica.socket.timeout.ms"),
        ({"replica.lag.time.max.ms": "100"}, "must be at most replica.lag.time.max.ms"),
        ({"default.replication.factor": "0"}, "0 is not a number of replicas"),
        ({"offsets.topic.replication.factor": "3"}, "3 replicas need as many brokers"),
        ({"transaction.state.log.replication.factor": "2"}, "set it to 1"),
        (
            {"group.consumer.min.session.timeout.ms": "50000"},
            "group.consumer.min.session.timeout.ms (50000) must be at most group.consumer.session.timeout.ms (45000)",
        ),
        ({"group.share.max.heartbeat.interval.ms": "1"}, "must be at most group.share.max.heartbeat.interval.ms"),
        ({"group.streams.num.standby.replicas": "3"}, "must be at most group.streams.max.standby.replicas"),
        ({"group.streams.topology.description.plugin.class": "com.example.Plugin"}, "there is one plugin"),
        (
            {
                "group.consumer.min.session.timeout.ms": "1000",
                "group.consumer.session.timeout.ms": "5000",
            },
            "group.consumer.heartbeat.interval.ms must be less than group.consumer.session.timeout.ms",
        ),
        ({"create.topic.policy.class.name": "org.example.Policy"}, "Ottla cannot load Java classes"),
        ({"remote.log.storage.system.enable": "true"}, "tiered storage is not supported"),
    ],
)
def test_impossible_combinations_are_refused_in_one_line(settings, expected):
    assert expected in refused(settings)


def test_a_lone_listener_of_any_name_serves_brokers_too():
    assert BrokerConfig.of({"listeners": "INTERNAL://:1"} | MAP).inter_broker_listener_name == "INTERNAL"
    both = {"listeners": "INTERNAL://:1,PLAINTEXT://:2", "inter.broker.listener.name": "internal"} | MAP
    assert BrokerConfig.of(both).inter_broker_listener_name == "INTERNAL"


def test_replication_of_internal_topics_adapts_unless_it_was_chosen():
    config = BrokerConfig.of()
    name = "offsets.topic.replication.factor"
    assert [config.adapted(name, brokers) for brokers in (0, 1, 2, 3, 9)] == [1, 1, 2, 3, 3]
    assert config.adapted("transaction.state.log.min.isr", 1) == 1
    chosen = config.with_dynamic({}, {name: "3"})
    assert chosen.adapted(name, 1) == 3
    assert BrokerConfig.of({name: "1"}).adapted(name, 5) == 1


def test_dynamic_settings_win_per_broker_first():
    config = BrokerConfig.of({"log.retention.ms": "1000", "message.max.bytes": "1"})
    dynamic = config.with_dynamic({"log.retention.ms": "2000", "message.max.bytes": "2"}, {"log.retention.ms": "3000"})
    assert (dynamic["log.retention.ms"], dynamic["message.max.bytes"]) == (3000, 2)
    assert dynamic.source("log.retention.ms") == "dynamic"
    assert config["log.retention.ms"] == 1000
    back = dynamic.with_dynamic({}, {})
    assert (back["log.retention.ms"], back["message.max.bytes"]) == (1000, 1)


def test_a_dynamic_value_that_no_longer_parses_is_passed_over():
    config = BrokerConfig.of().with_dynamic({"log.retention.ms": "5"}, {"log.retention.ms": "nonsense"})
    assert config["log.retention.ms"] == 5
    assert [error.name for error in config.invalid_dynamic] == ["log.retention.ms"]


def test_plugin_settings_are_taken_as_text():
    config = BrokerConfig.of({"super.users": "User:admin", "rsm.config.bucket": "b"})
    assert config["super.users"] == "User:admin"
    assert config["rsm.config.bucket"] == "b"
    assert config.without_effect() == ["rsm.config.bucket"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("group.consumer.assignors", "unifrom"),
        ("group.consumer.assignors", "uniform,com.example.OwnAssignor"),
        ("group.consumer.assignors", ""),
        ("group.share.assignors", "uniform"),
        ("group.streams.assignors", "simple"),
    ],
)
def test_assignors_that_are_not_there_are_refused(name, value):
    assert refused({name: value}).startswith(f"settings: {name}: ")


def test_assignors_are_named_as_in_kafka():
    names = "org.apache.kafka.coordinator.group.assignor.RangeAssignor,uniform"
    assert len(BrokerConfig.of({"group.consumer.assignors": names})["group.consumer.assignors"]) == 2

import pytest

from ottla.schema.environment import setting_name, settings_from_environment


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("KAFKA_LOG_DIRS", "log.dirs"),
        ("OTTLA_NODE_ID", "node.id"),
        ("KAFKA_LISTENER_NAME_A_SCRAM___SHA___256_SASL_JAAS_CONFIG", "listener.name.a.scram-sha-256.sasl.jaas.config"),
        ("KAFKA_SOME__THING_ELSE", "some_thing.else"),
        ("KAFKA_A_B_C", "a.b.c"),
    ],
)
def test_variables_name_settings_as_in_kafkas_image(variable, name):
    assert setting_name(variable) == name


def test_ottla_variables_come_after_kafkas():
    environment = {"OTTLA_NUM_PARTITIONS": "2", "KAFKA_NUM_PARTITIONS": "1", "PATH": "/bin", "KAFKA": "x"}
    assert [(found.name, found.value) for found in settings_from_environment(environment)] == [
        ("num.partitions", "1"),
        ("num.partitions", "2"),
    ]


@pytest.mark.parametrize(
    "variable",
    ["KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_LOG4J_OPTS", "KAFKA_JMX_PORT", "KAFKA_HOME", "KAFKA_VERSION"]
    + ["KAFKA_PORT", "KAFKA_SERVICE_HOST", "KAFKA_SERVICE_PORT_CLIENT", "KAFKA_PORT_9092_TCP_ADDR"]
    + ["OTTLA_SERVICE_HOST", "OTTLA_PORT_9092_TCP", "OTTLA_TEST_BROKER", "OTTLA_REQUIRE_TOOLS"],
)
def test_variables_of_other_purposes_are_left_alone(variable):
    assert settings_from_environment({variable: "x"}) == []


def test_the_images_cluster_id_is_a_setting():
    [found] = settings_from_environment({"CLUSTER_ID": "abc"})
    assert found == ("cluster.id", "abc", "CLUSTER_ID")

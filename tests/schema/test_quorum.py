"""Settings of a node that belongs to a cluster, and what Kafka checks about them."""

import pytest

from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.schema.quorum import Address, advertised_controller_listeners, parse_bootstrap_servers, parse_voters

COMBINED = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
    "controller.listener.names": "CONTROLLER",
}
BROKER = {
    "node.id": "4",
    "process.roles": "broker",
    "listeners": "PLAINTEXT://:9092",
    "controller.listener.names": "CONTROLLER",
    "controller.quorum.bootstrap.servers": "one:9093,two:9093",
}
CONTROLLER = {
    "node.id": "2",
    "process.roles": "controller",
    "listeners": "CONTROLLER://:9093",
    "controller.listener.names": "CONTROLLER",
    "controller.quorum.voters": "1@one:9093,2@two:9093",
}
THREE = {"controller.quorum.voters": "1@one:9093,2@two:9093,3@[::1]:9093"}


def refused(settings):
    with pytest.raises(SettingError) as refusal:
        BrokerConfig.of(settings)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_voters_and_bootstrap_servers_are_addresses():
    assert parse_voters(["1@one:9093", "3@[::1]:19093"]) == {1: Address("one", 9093), 3: Address("::1", 19093)}
    assert parse_bootstrap_servers(["one:9093", "[::1]:1"]) == [Address("one", 9093), Address("::1", 1)]
    assert str(Address("::1", 1)) == "[::1]:1"


def test_controllers_do_not_log_in_by_what_they_need_each_other_to_read():
    secured = {
        "listener.security.protocol.map": "CONTROLLER:SASL_SSL,PLAINTEXT:PLAINTEXT",
        "sasl.mechanism.controller.protocol": "SCRAM-SHA-512",
    }
    assert "several controllers cannot log in at each other by SCRAM-SHA-512" in refused(CONTROLLER | secured)
    assert "several controllers" in refused(COMBINED | THREE | secured)
    BrokerConfig.of(COMBINED | secured)
    BrokerConfig.of(COMBINED | THREE | secured | {"sasl.mechanism.controller.protocol": "PLAIN"})


@pytest.mark.parametrize("settings", [COMBINED | THREE, BROKER, CONTROLLER, COMBINED])
def test_nodes_of_all_roles_are_taken(settings):
    config = BrokerConfig.of(settings)
    assert config.is_broker == ("broker" in settings["process.roles"])
    assert config.is_controller == ("controller" in settings["process.roles"])
    assert bool(config.listeners) == config.is_broker
    assert bool(config.controller_listeners) == config.is_controller


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        (COMBINED, True),
        (COMBINED | {"controller.quorum.voters": "1@one:9093"}, True),
        (COMBINED | {"controller.quorum.bootstrap.servers": "localhost:9093"}, True),
        ({"controller.quorum.bootstrap.servers": "localhost:9093"}, True),
        (COMBINED | {"controller.quorum.bootstrap.servers": "other:9093"}, False),
        (COMBINED | {"controller.quorum.bootstrap.servers": "localhost:9193"}, False),
        (COMBINED | {"controller.quorum.bootstrap.servers": "localhost:9093,other:9093"}, False),
        (COMBINED | THREE, False),
        (BROKER, False),
        (CONTROLLER, False),
    ],
)
def test_a_node_is_single_when_its_settings_name_no_other(settings, expected):
    assert BrokerConfig.of(settings).is_single == expected


def test_replication_of_internal_topics_does_not_bend_in_a_cluster():
    name = "offsets.topic.replication.factor"
    assert BrokerConfig.of(COMBINED | THREE).adapted(name, 1) == 3
    assert BrokerConfig.of(COMBINED).adapted(name, 1) == 1
    assert BrokerConfig.of(COMBINED | {name: "3"}).adapted(name, 1) == 3  # others may join it


def test_controller_listeners_are_advertised_as_said_as_voted_or_as_they_are():
    def advertised(**settings):
        given = {name.replace("_", "."): value for name, value in settings.items()}
        return [one.address for one in advertised_controller_listeners(BrokerConfig.of(COMBINED | given))]

    assert advertised() == [":9093"]
    assert advertised(controller_quorum_voters="1@one:9193,2@two:9093") == ["one:9193"]
    both = "PLAINTEXT://me:9092,CONTROLLER://me:9493"
    assert advertised(advertised_listeners=both) == ["me:9493"]
    assert advertised(listeners="PLAINTEXT://h:9092,CONTROLLER://h:9093") == ["h:9093"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"node.id": "1", "controller.quorum.voters": "2@a:9093"}, "must contain this node (1)"),
        ({"controller.quorum.voters": "a:9093"}, "'a:9093' must look like id@host:port"),
        ({"controller.quorum.voters": "1@a"}, "'1@a' must look like"),
        ({"controller.quorum.bootstrap.servers": "a"}, "'a' must look like host:port"),
        ({"controller.quorum.bootstrap.servers": "a:99999"}, "'a:99999' must look like host:port"),
        (COMBINED | THREE | {"listeners": "PLAINTEXT://:9092"}, "a controller needs a listener of its own"),
        (COMBINED | THREE | {"controller.listener.names": ""}, "no security protocol defined for listener CONTROLLER"),
        (
            COMBINED | THREE | {"controller.listener.names": "CONTROLLER,OTHER"},
            "OTHER is not among the listeners (PLAINTEXT, CONTROLLER)",
        ),
        (COMBINED | THREE | {"advertised.listeners": "PLAINTEXT://a:1,CONTROLLER://0.0.0.0:2"}, "nodes cannot connect"),
        (COMBINED | {"listeners": "PLAINTEXT://:1,CONTROLLER://0.0.0.0:2"}, "nodes cannot connect to CONTROLLER://0"),
        ({"process.roles": "controller", "node.id": "1"}, "must know the controllers"),
        ({"process.roles": "broker"}, "node.id: every node of a cluster needs one of its own"),
        (BROKER | {"controller.quorum.bootstrap.servers": ""}, "must know the controllers: set it to host:port"),
        (BROKER | {"controller.quorum.voters": "4@a:9093"}, "must not contain this node (4), which is only a broker"),
        (BROKER | {"controller.listener.names": ""}, "must say what the controllers' listener is called"),
        (
            BROKER | {"listeners": "PLAINTEXT://:9092,CONTROLLER://:9093"},
            "CONTROLLER is among the listeners of a node without it",
        ),
        (
            BROKER | {"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT"},
            "no security protocol defined for CONTROLLER",
        ),
        (BROKER | {"controller.quorum.auto.join.enable": "true"}, "only a node with the role controller can join"),
        (
            CONTROLLER | {"listeners": "CONTROLLER://:9093,PLAINTEXT://:9092"},
            "PLAINTEXT is no controller listener, and process.roles is controller alone",
        ),
        (CONTROLLER | {"controller.quorum.voters": "1@one:9093"}, "must contain this node (2)"),
        (CONTROLLER | {"inter.broker.listener.name": "CONTROLLER"}, "must not contain the inter-broker listener"),
    ],
)
def test_nodes_that_could_not_be_are_refused_in_one_line(settings, expected):
    assert expected in refused(settings)

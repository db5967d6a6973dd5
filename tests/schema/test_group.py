import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.schema.client_metrics import validate_client_metrics_overrides
from ottla.schema.config import BrokerConfig
from ottla.schema.group import group_settings, validate_group_overrides


def test_the_broker_gives_a_group_its_defaults():
    config = BrokerConfig.of({"group.consumer.session.timeout.ms": "50000"})
    assert group_settings(config, {})["consumer.session.timeout.ms"] == 50_000
    assert group_settings(config, {"consumer.session.timeout.ms": "46000"})["consumer.session.timeout.ms"] == 46_000
    assert group_settings(config, {})["share.auto.offset.reset"] == "latest"


def test_a_groups_settings_are_kept_within_the_brokers_bounds():
    settings = group_settings(BrokerConfig.of(), {"consumer.session.timeout.ms": "99000"})
    assert settings["consumer.session.timeout.ms"] == 60_000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"consumer.session.timeout.ms": "1"},
            "must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        ({"consumer.session.timeout.ms": "60001"}, "must be less than or equal to group.consumer.max.session.timeout"),
        ({"consumer.sesion.timeout.ms": "1"}, "Unknown group config name: consumer.sesion.timeout.ms (did you mean "),
        ({"share.auto.offset.reset": "middle"}, "Invalid value middle for configuration share.auto.offset.reset"),
        ({"share.isolation.level": None}, "Null value not supported"),
    ],
)
def test_impossible_group_settings_are_refused(overrides, message):
    with pytest.raises(ApiError) as error:
        validate_group_overrides(overrides, BrokerConfig.of())
    assert error.value.code is ErrorCode.INVALID_CONFIG
    assert message in error.value.message


def test_heartbeats_come_more_often_than_sessions_end():
    config = BrokerConfig.of(
        {"group.consumer.min.session.timeout.ms": "4000", "group.consumer.max.heartbeat.interval.ms": "15000"}
    )
    with pytest.raises(ApiError, match=r"consumer\.session\.timeout\.ms must be greater than consumer\.heartbeat"):
        validate_group_overrides({"consumer.session.timeout.ms": "4500"}, config)


def test_possible_group_settings_pass():
    validate_group_overrides(
        {"consumer.session.timeout.ms": "50000", "streams.num.standby.replicas": "1"}, BrokerConfig.of()
    )


def test_settings_that_only_have_a_most_are_bounded_too():
    overrides = {"streams.num.standby.replicas": "3"}
    with pytest.raises(ApiError, match=r"less than or equal to group\.streams\.max\.standby\.replicas"):
        validate_group_overrides(overrides, BrokerConfig.of())
    assert group_settings(BrokerConfig.of(), overrides)["streams.num.standby.replicas"] == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"interval.ms": "99"}, "interval must be between 100 and 3600000"),
        ({"interval.ms": "x"}, "Not a number of type INT"),
        ({"match": "client_id"}, "Illegal client matching pattern: client_id"),
        ({"match": "client_id=["}, "Illegal client matching pattern"),
        ({"match": "color=blue"}, "Illegal client matching pattern"),
        ({"match": "client_id=a=b"}, "Illegal client matching pattern"),
        ({"metric": "a"}, "Unknown client metrics configuration: metric (did you mean metrics?)"),
        ({"metrics": None}, "Null value"),
    ],
)
def test_impossible_client_metrics_settings_are_refused(overrides, message):
    with pytest.raises(ApiError) as error:
        validate_client_metrics_overrides(overrides)
    is_request = message.startswith(("Unknown", "interval"))
    assert error.value.code is (ErrorCode.INVALID_REQUEST if is_request else ErrorCode.INVALID_CONFIG)
    assert message in error.value.message


def test_possible_client_metrics_settings_pass():
    overrides = {"interval.ms": "100", "match": "client_id=a.*,client_software_name=java", "metrics": "org.apache"}
    validate_client_metrics_overrides(overrides)

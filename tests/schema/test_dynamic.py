import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.schema.dynamic import appended, subtracted, validate_broker_overrides
from ottla.schema.topic import TOPIC_SETTINGS

POLICY = TOPIC_SETTINGS["cleanup.policy"]


@pytest.mark.parametrize(
    ("overrides", "per_broker", "message"),
    [
        ({"num.partitions": "2"}, True, "Cannot update these configs dynamically: num.partitions"),
        ({"listeners": "PLAINTEXT://:1"}, True, "Cannot update these configs dynamically: listeners"),
        ({"ssl.keystore.type": "PEM"}, False, "Cannot update these configs at default cluster level"),
        ({"log.retention.ms": "x"}, False, "Not a number of type LONG"),
        ({"log.retention.ms": "0"}, True, "log.retention.ms: must be unlimited (-1) or at least 1"),
        (
            {"log.retention.mss": "1"},
            True,
            "Unknown broker config name: log.retention.mss (did you mean log.retention.ms",
        ),
        ({"message.max.bytes": None}, True, "Null value not supported"),
        ({"max.connections.per.ip.overrides": "x"}, True, "must look like host:count"),
        ({"num.io.threads": "3"}, False, "at least half the current value 8"),
        ({"num.io.threads": "17"}, True, "not be greater than double the current value 8"),
        ({"log.cleaner.threads": "0"}, False, "value should be at least 1"),
    ],
)
def test_impossible_dynamic_broker_settings_are_refused(overrides, per_broker, message):
    with pytest.raises(ApiError) as error:
        validate_broker_overrides(BrokerConfig.of(), overrides, per_broker=per_broker)
    assert error.value.code is ErrorCode.INVALID_REQUEST
    assert message in error.value.message


def test_possible_dynamic_broker_settings_pass():
    config = BrokerConfig.of()
    validate_broker_overrides(config, {"log.retention.ms": "5", "message.max.bytes": "9"}, per_broker=False)
    validate_broker_overrides(config, {"log.retention.ms": "5", "ssl.keystore.type": "PEM"}, per_broker=True)
    for count in ("4", "8", "16"):
        validate_broker_overrides(config, {"num.io.threads": count}, per_broker=False)
    validate_broker_overrides(config, {"leader.replication.throttled.rate": "1000"}, per_broker=True)
    validate_broker_overrides(config, {"listener.name.plaintext.max.connections": "5"}, per_broker=True)
    assert config.with_dynamic({}, {"leader.replication.throttled.rate": "5"})["leader.replication.throttled.rate"] == 5


def test_lists_grow_and_shrink_without_repetitions():
    assert appended(POLICY, None, "compact") == "delete,compact"
    assert appended(POLICY, "compact", "compact,delete") == "compact,delete"
    assert appended(POLICY, "", "delete") == "delete"
    assert subtracted(POLICY, "compact,delete", "compact") == "delete"
    assert subtracted(POLICY, None, "delete") == ""
    assert subtracted(POLICY, "compact", "delete") == "compact"


def test_only_lists_grow_and_shrink():
    with pytest.raises(SettingError, match="its type is not LIST"):
        appended(TOPIC_SETTINGS["retention.ms"], None, "5")
    with pytest.raises(SettingError, match="its type is not LIST"):
        subtracted(TOPIC_SETTINGS["retention.ms"], None, "5")

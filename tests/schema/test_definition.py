import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.schema.definition import (
    Password,
    Setting,
    SettingError,
    SettingType,
    format_value,
    nearest,
    parse_value,
)
from ottla.schema.validators import validator_from_text


def setting(type_name, valid=None):
    validator = None if valid is None else validator_from_text(valid)
    return Setting("some.setting", SettingType[type_name.upper()], None, validator)


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("boolean", " TRUE\n", True),
        ("boolean", "false", False),
        ("int", " 42 ", 42),
        ("int", "+7", 7),
        ("int", "-2147483648", -(2**31)),
        ("long", "9223372036854775807", 2**63 - 1),
        ("short", "-32768", -(2**15)),
        ("double", "0.5", 0.5),
        ("double", "1e3", 1000.0),
        ("double", "2.5d", 2.5),
        ("double", "-Infinity", -math.inf),
        ("string", "  a b ", "a b"),
        ("string", "", ""),
        ("class", " org.example.Thing ", "org.example.Thing"),
        ("list", "a , b,c", ["a", "b", "c"]),
        ("list", "   ", []),
        ("list", "a,b,a", ["a", "b"]),
        ("password", " secret ", Password("secret")),
    ],
)
def test_texts_are_read_as_kafka_reads_them(type_name, text, value):
    assert parse_value(setting(type_name), text) == value


@pytest.mark.parametrize(
    ("type_name", "text", "reason"),
    [
        ("boolean", "yes", "Expected value to be either true or false"),
        ("int", "", "Not a number of type INT"),
        ("int", "1_000", "Not a number of type INT"),
        ("int", "1.0", "Not a number of type INT"),
        ("int", "2147483648", "Not a number of type INT"),
        ("int", "9" * 5000, "Not a number of type INT"),
        ("long", "9223372036854775808", "Not a number of type LONG"),
        ("short", "32768", "Not a number of type SHORT"),
        ("double", "1_0.0", "Not a number of type DOUBLE"),
        ("double", "inf", "Not a number of type DOUBLE"),
        ("double", "", "Not a number of type DOUBLE"),
    ],
)
def test_texts_of_the_wrong_type_are_refused_in_kafkas_words(type_name, text, reason):
    with pytest.raises(SettingError) as error:
        parse_value(setting(type_name), text)
    assert error.value.reason == f"Invalid value {text} for configuration some.setting: {reason}"


def test_empty_items_of_a_list_are_refused():
    with pytest.raises(SettingError, match="must not be empty"):
        parse_value(setting("list"), "a,,b")


@pytest.mark.parametrize(
    ("type_name", "valid", "good", "bad", "reason"),
    [
        ("int", "[0,...]", "0", "-1", "Value must be at least 0"),
        ("int", "[1,...,9]", "9", "10", "Value must be no more than 9"),
        ("double", "[0,...,0.5]", "0.5", "0.51", "Value must be no more than 0.5"),
        ("double", "[0,...,1]", "1", "NaN", "Value must be at least 0"),
        ("string", "[a, b]", "b", "B", "String must be one of: a, b"),
        ("string", "(case insensitive) [A, B]", "b", "c", "String must be one of (case insensitive): A, B"),
        ("list", "[a, b]", "b,a", "a,c", "String must be one of: a, b"),
        ("list", "[a, b]", "", "c", "String must be one of: a, b"),
        ("int", "[1,...,9] or -1", "-1", "0", "Value must be between 1 and 9 or equal to -1"),
        ("string", "non-empty string", "x", "", "String must be non-empty"),
        ("string", "non-null string", "", None, None),
        ("list", "non-empty list", "1@a:9093,2@[::1]:9093", "1@a", "must look like"),
        ("list", "non-empty list", "", "x@a:1", "must look like"),
        ("string", "[latest, earliest, by_duration:PnDTnHnMn.nS]", "by_duration:P1DT2H3M4.5S", "by_duration:P", "Inv"),
        ("string", "[latest, earliest, by_duration:PnDTnHnMn.nS]", "by_duration:PT1H", "by_duration:-PT1H", "Inv"),
        ("list", "[partitionId]:[brokerId],[partitionId]:[brokerId],...", "0:1,1:2", "0:a", "literal '*'"),
        ("list", "[partitionId]:[brokerId],[partitionId]:[brokerId],...", "*", "*,0:1", "literal '*'"),
    ],
)
def test_validators_refuse_in_kafkas_words(type_name, valid, good, bad, reason):
    checked = setting(type_name, valid)
    parse_value(checked, good)
    if bad is not None:
        with pytest.raises(SettingError) as error:
            parse_value(checked, bad)
        assert reason in error.value.reason
    assert str(checked.validator) == valid


def test_null_is_not_in_a_range():
    assert validator_from_text("[0,...]").check(None) == "Value must be non-null"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (0.0, "0.0"),
        (1.0, "1.0"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
        (2147483647.0, "2.147483647E9"),
        (12345678.0, "1.2345678E7"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (-1e-4, "-1.0E-4"),
        (0.00012345, "1.2345E-4"),
        (1e22, "1.0E22"),
        (0.001, "0.001"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_doubles_are_written_as_java_writes_them(value, text):
    assert format_value(SettingType.DOUBLE, value) == text


@given(st.floats())
def test_doubles_survive_writing_and_reading(value):
    text = format_value(SettingType.DOUBLE, value)
    again = parse_value(setting("double"), text)
    assert again == value or (math.isnan(again) and math.isnan(value))


@given(
    st.one_of(
        st.tuples(st.just("boolean"), st.booleans()),
        st.tuples(st.just("int"), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just("long"), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("list"), st.lists(st.text("abc.-", min_size=1), unique=True)),
    )
)
def test_values_survive_writing_and_reading(typed):
    type_name, value = typed
    checked = setting(type_name)
    assert parse_value(checked, format_value(checked.type, value)) == value


def test_null_is_written_as_null():
    assert format_value(SettingType.INT, None) is None


def test_a_password_never_shows():
    secret = Setting("ssl.key.password", SettingType.PASSWORD, None)
    value = parse_value(secret, "hunter2")
    assert "hunter2" not in f"{value} {value!r} {format_value(secret.type, value)}"
    assert value.value == "hunter2"
    assert secret.is_sensitive
    assert {value: 1}[Password("hunter2")] == 1


def test_a_setting_error_is_one_line_with_place_and_suggestion():
    error = SettingError("a", "first\nsecond", suggestion="b").at("file:3")
    assert str(error) == "file:3: first second; did you mean b?"


def test_the_nearest_name_is_found_past_case_and_underscores():
    names = ["log.retention.hours", "log.retention.ms", "listeners"]
    assert nearest("LOG_RETENTION_HOUR", names) == "log.retention.hours"
    assert nearest("listener", names) == "listeners"
    assert nearest("something.else", names) is None

"""The one rule about errors: nothing that failed passes silently, nothing that went well gets lost."""

from __future__ import annotations

import pickle
from enum import IntEnum

import pytest

from ottla.client.admin.outcomes import combine, known, names, settle
from ottla.client.errors import ConnectionFailedError, KafkaError, UnknownTopicError, error_for
from ottla.core.errors import ErrorCode

EXISTS = error_for(ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'a' already exists.")
UNKNOWN = error_for(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)


def test_all_went_well() -> None:
    assert settle({"a": 1, "b": None}) == {"a": 1, "b": None}


def test_the_only_item_fails_with_its_own_error() -> None:
    with pytest.raises(UnknownTopicError) as raised:
        settle({"a": UNKNOWN})
    assert raised.value.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert raised.value.errors == {"a": UNKNOWN}
    assert raised.value.results == {}
    assert str(raised.value) == (
        "UNKNOWN_TOPIC_OR_PARTITION: a: This server does not host this topic-partition. "
        "Create the topic, or check its name."
    )


def test_what_went_well_comes_along_with_the_error() -> None:
    with pytest.raises(UnknownTopicError) as raised:
        settle({"a": 1, "b": UNKNOWN, "c": 3})
    assert raised.value.results == {"a": 1, "c": 3}
    assert raised.value.message.startswith("1 of 3 failed: b: ")


def test_failures_of_different_kinds_are_none_of_them() -> None:
    error = combine({}, {"a": EXISTS, "b": UNKNOWN})
    assert type(error) is KafkaError
    assert error.code is None
    assert not error.retriable
    assert set(error.errors) == {"a", "b"}


def test_failures_of_one_kind_keep_it() -> None:
    error = combine({}, {"a": UNKNOWN, "b": error_for(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "other words")})
    assert isinstance(error, UnknownTopicError)
    assert error.retriable == UNKNOWN.retriable


def test_a_class_with_one_code_for_two_things_is_not_alike() -> None:
    error = combine({}, {"a": ConnectionFailedError("gone"), "b": error_for(ErrorCode.CORRUPT_MESSAGE)})
    assert type(error) is KafkaError
    assert error.retriable


def test_a_message_names_the_first_failures_only() -> None:
    error = combine({"x": 1}, dict.fromkeys(range(9), EXISTS))
    assert error.message.count("already exists") == 3
    assert error.message.endswith("; and more.")
    assert len(error.errors) == 9


def test_what_is_not_about_the_items_is_said_once() -> None:
    gone = ConnectionFailedError("Broker 1 is gone.")
    assert combine({}, {"a": gone}).message == "Broker 1 is gone."
    assert combine({}, {"a": gone, "b": gone}).message == "Broker 1 is gone."
    assert combine({"c": 1}, {"a": gone, "b": gone}).message.startswith("2 of 3 failed: a: ")


def test_a_call_that_is_not_about_items_fails_as_it_is() -> None:
    assert combine({}, {None: EXISTS}) is EXISTS


def test_the_error_survives_pickling_as_an_error() -> None:
    copy = pickle.loads(pickle.dumps(combine({}, {"a": UNKNOWN})))
    assert isinstance(copy, UnknownTopicError)


def test_one_name_is_not_a_sequence_of_letters() -> None:
    assert names("orders") == ["orders"]
    assert names(name for name in ("b", "a", "b")) == ["b", "a"]


def test_what_only_newer_brokers_know_is_unknown() -> None:
    class Kind(IntEnum):
        UNKNOWN = 0
        OLD = 1

    assert known(Kind, 1) is Kind.OLD
    assert known(Kind, 99) is Kind.UNKNOWN

import json
from pathlib import Path

import pytest

from ottla.core.errors import ERRORS, ApiError, ErrorCode

FACTS = json.loads((Path(__file__).parent / "testdata" / "errors.json").read_text())


def test_table_has_exactly_kafkas_codes():
    assert {code.value: code.name for code in ErrorCode} == {fact["code"]: fact["name"] for fact in FACTS}
    assert set(ERRORS) == {fact["code"] for fact in FACTS}


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["name"])
def test_code_says_whether_to_retry(fact):
    code = ErrorCode[fact["name"]]
    assert code == fact["code"]
    assert code.retriable == fact["retriable"]
    assert code.refreshes_metadata == fact.get("refreshMetadata", False)
    assert code.message.endswith(".")


def test_codes_are_plain_integers_to_a_codec():
    assert ErrorCode.UNKNOWN_SERVER_ERROR.to_bytes(2, "big", signed=True) == b"\xff\xff"
    assert ERRORS[3] is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_api_error_carries_code_and_message():
    error = ApiError(ErrorCode.INVALID_CONFIG, "retention.ms is not a number")
    assert (error.code, error.message) == (40, "retention.ms is not a number")
    assert str(error) == "INVALID_CONFIG: retention.ms is not a number"
    assert ApiError(ErrorCode.NOT_CONTROLLER).message == ErrorCode.NOT_CONTROLLER.message

"""What errors say."""

from __future__ import annotations

import pytest

from ottla.client.errors import error_for
from ottla.core.errors import ErrorCode


@pytest.mark.parametrize("message", ["The feature is off", "The feature is off."])
def test_what_brokers_say_and_what_to_do_are_two_sentences(message: str) -> None:
    error = error_for(ErrorCode.UNSUPPORTED_VERSION, message)
    assert str(error) == "UNSUPPORTED_VERSION: The feature is off. Upgrade the broker, or do without this."
    assert error.message == message


def test_an_error_without_a_hint_is_left_as_it_is() -> None:
    assert str(error_for(ErrorCode.INVALID_REQUEST, "no", hint="")) == "INVALID_REQUEST: no"

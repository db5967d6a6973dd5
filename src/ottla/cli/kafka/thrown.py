"""Errors of the admin client as Kafka's tools let them through: the text depends on how often they were wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ottla.cli.kafka.common import ToolError, java_class, java_error, java_message
from ottla.client.errors import KafkaError

_EXECUTION = "java.util.concurrent.ExecutionException"


@contextmanager
def plainly(call: str = "") -> Iterator[None]:
    """The error itself is thrown. `call`: what the admin client does here, as Kafka's names it."""
    try:
        yield
    except KafkaError as error:
        raise ToolError(java_message(error, call), java_class(error)) from None


@contextmanager
def by_future(call: str = "") -> Iterator[None]:
    """It comes out of a future: an ExecutionException, whose text is class and text of the error."""
    try:
        yield
    except KafkaError as error:
        raise ToolError(java_error(error, call), _EXECUTION) from None


@contextmanager
def by_runtime(call: str = "") -> Iterator[None]:
    """As out of a future, and wrapped once more."""
    try:
        yield
    except KafkaError as error:
        raise ToolError(f"{_EXECUTION}: {java_error(error, call)}", "RuntimeException") from None

"""What the handlers of the share coordinator's state have in common: how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode

R = TypeVar("R")


def refused_state(
    request: Any, code: ErrorCode, response: Callable[..., R], result: Callable[..., Any], partition: Callable[..., Any]
) -> R:
    """The same code for every partition of the request, in messages of its API."""
    return response(
        results=[
            result(
                topic_id=topic.topic_id,
                partitions=[
                    partition(partition=data.partition, error_code=code, error_message=code.message)
                    for data in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )

"""From the coordinator's answers to a handler's: a ``Pending`` becomes the broker's lean delayed response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ottla.server.broker.broker import DelayedResponse
from ottla.server.coordinator.result import Pending

if TYPE_CHECKING:
    from ottla.server.metadata.image import MetadataImage

#: Operations that exist on groups, as bits: READ 3, DELETE 6, DESCRIBE 8, DESCRIBE_CONFIGS 10, ALTER_CONFIGS 11.
#: Without an authorizer everybody may do all of them.
ALL_GROUP_OPERATIONS = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11

R = TypeVar("R")
T = TypeVar("T")


def answer(outcome: R | Pending[R], shape: Callable[[R], T]) -> T | DelayedResponse:
    """The shaped response, at once or when it is there."""
    if not isinstance(outcome, Pending):
        return shape(outcome)
    if outcome.response is not None:
        return shape(outcome.response)
    delayed = DelayedResponse()
    outcome.listener = lambda response: delayed.respond_with(lambda: shape(response))
    return delayed


def answer_plain(outcome: R | Pending[R]) -> R | DelayedResponse:
    """The response as it is, at once or when it is there."""
    if not isinstance(outcome, Pending):
        return outcome
    if outcome.response is not None:
        return outcome.response
    delayed = DelayedResponse()
    outcome.listener = delayed.respond
    return delayed


def answer_all(outcomes: Sequence[R | Pending[R]], shape: Callable[[list[R]], T]) -> T | DelayedResponse:
    """One response out of several answers, when the last of them is there."""
    waiting = [outcome for outcome in outcomes if isinstance(outcome, Pending) and outcome.response is None]
    missing = len(waiting)

    def finished() -> T:
        found: list[R] = []
        for outcome in outcomes:
            response = outcome.response if isinstance(outcome, Pending) else outcome
            assert response is not None
            found.append(response)
        return shape(found)

    if not missing:
        return finished()
    delayed = DelayedResponse()

    def arrived(_: R) -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            delayed.respond_with(finished)

    for pending in waiting:
        pending.listener = arrived
    return delayed


def partition_exists(image: MetadataImage, topic: str, partition: int) -> bool:
    """Whether offsets may be stored for the partition."""
    found = image.topics.by_name.get(topic)
    return found is not None and partition in found.partitions

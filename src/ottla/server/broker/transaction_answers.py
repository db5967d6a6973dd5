"""What the handlers of the transaction APIs share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.core.errors import ErrorCode
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.group_answers import answer
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.transactions.service import ProducerOutcome
from ottla.server.coordinator.transactions.shard import NoProducerIdError

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker

T = TypeVar("T")


def fenced_as_known_to(code: ErrorCode) -> ErrorCode:
    """The code for a client that is older than PRODUCER_FENCED."""
    return ErrorCode.INVALID_PRODUCER_EPOCH if code is ErrorCode.PRODUCER_FENCED else code


def answer_producer(
    broker: Broker,
    command: Callable[[], ProducerOutcome | Pending[ProducerOutcome]],
    shape: Callable[[ProducerOutcome], T],
) -> T | DelayedResponse | Awaitable[T]:
    """The shaped answer of a command that may need a fresh producer id."""
    try:
        return answer(command(), shape)
    except NoProducerIdError:
        return _answer_later(broker, command, shape)


async def _answer_later(
    broker: Broker,
    command: Callable[[], ProducerOutcome | Pending[ProducerOutcome]],
    shape: Callable[[ProducerOutcome], T],
) -> T:
    while True:
        await broker.transactions.wait_for_producer_ids()
        try:
            outcome = command()
        except NoProducerIdError:
            continue  # somebody else took it
        return shape(outcome if isinstance(outcome, ProducerOutcome) else await when_released(outcome))


def when_released(pending: Pending[T]) -> Coroutine[Any, Any, T]:
    """The answer of a `Pending`, for a coroutine."""
    import asyncio

    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def released(response: T) -> None:
        if not future.done():
            future.set_result(response)

    pending.listener = released
    if pending.response is not None:
        released(pending.response)

    async def wait() -> T:
        return await future

    return wait()

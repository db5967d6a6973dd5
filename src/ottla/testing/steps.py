"""Helpers that are written once and used from blocking code and from asyncio.

A helper is a coroutine that waits for nothing but its steps: `await perform(Ask(...))`, `await perform(Pause(...))`.
What drives it carries the steps out: `drive` in the calling thread, `drive_async` as a part of the caller's event loop.
Everything of the user's that a helper calls (a deserializer, a condition) so runs where the user called the helper.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar

Result = TypeVar("Result")


class Ask(NamedTuple):
    """Have a broker do something, on its event loop: its result."""

    node_id: int | None
    """None is any broker that runs."""
    action: Callable[[Any], Coroutine[Any, Any, Any]]
    """Given the broker's `Node`."""


class Pause(NamedTuple):
    """Let other things happen, in real time."""

    seconds: float


class Foreign(NamedTuple):
    """What a user's condition returned when it is awaitable: only asyncio can wait for it."""

    awaitable: Awaitable[Any]


Step = Ask | Pause | Foreign


@types.coroutine
def perform(step: Step) -> Generator[Step, Any, Any]:
    """The result of a step."""
    return (yield step)


def drive(helper: Coroutine[Any, Any, Result], ask: Callable[[Ask], Any]) -> Result:
    """What the helper returns or raises; waits in this thread."""

    def carry_out(step: Step) -> Any:
        if isinstance(step, Ask):
            return ask(step)
        if isinstance(step, Foreign):
            close = getattr(step.awaitable, "close", None)
            if close is not None:
                close()
            raise TypeError("the condition is asynchronous: await it with cluster.aio.wait_until(...).")
        return time.sleep(step.seconds)

    step = _first(helper)
    while not isinstance(step, _Returned):
        try:
            outcome = carry_out(step)
        except BaseException as error:
            step = _advance(helper.throw, error)
        else:
            step = _advance(helper.send, outcome)
    return step.result  # type: ignore[no-any-return]


async def drive_async(helper: Coroutine[Any, Any, Result], ask: Callable[[Ask], Awaitable[Any]]) -> Result:
    """What the helper returns or raises; waits as a coroutine. Cancelled, it cancels the step."""

    async def carry_out(step: Step) -> Any:
        if isinstance(step, Ask):
            return await ask(step)
        if isinstance(step, Foreign):
            return await step.awaitable
        return await asyncio.sleep(step.seconds)

    step = _first(helper)
    while not isinstance(step, _Returned):
        try:
            outcome = await carry_out(step)
        except BaseException as error:
            step = _advance(helper.throw, error)
        else:
            step = _advance(helper.send, outcome)
    return step.result  # type: ignore[no-any-return]


class _Returned(NamedTuple):
    result: Any


def _first(helper: Coroutine[Any, Any, Any]) -> Step | _Returned:
    return _advance(helper.send, None)


def _advance(go_on: Callable[[Any], Any], argument: object) -> Step | _Returned:
    try:
        step: Step = go_on(argument)
    except StopIteration as end:
        return _Returned(end.value)
    return step

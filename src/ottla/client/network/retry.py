"""Doing something again until it works or time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ottla.client.errors import KafkaError, KafkaTimeoutError

if TYPE_CHECKING:
    from ottla.client.network.cluster import Cluster

T = TypeVar("T")


def is_retriable(error: KafkaError) -> bool:
    """Whether the same call may succeed later."""
    return error.retriable


async def retrying(
    cluster: Cluster,
    attempt: Callable[[int], Awaitable[T]],
    timeout_ms: int,
    *,
    retriable: Callable[[KafkaError], bool] = is_retriable,
) -> T:
    """What `attempt(number)` gives, from 0 on, with retry.backoff.ms … .max.ms between attempts.

    An error that is not `retriable` is raised as it is. When time is up: `KafkaTimeoutError`, from the last error.
    Attempts are not cut off: each has to keep the time itself (`timeout_ms` of a request).
    """
    deadline_ms = cluster.now_ms() + timeout_ms
    number = 0
    while True:
        try:
            return await attempt(number)
        except KafkaError as error:
            if not retriable(error):
                raise
            delay_ms = cluster.backoff.delay_ms(number)
            if cluster.now_ms() + delay_ms >= deadline_ms:
                raise KafkaTimeoutError(f"gave up after {timeout_ms} ms: {error}") from error
        await asyncio.sleep(delay_ms / 1000)
        number += 1

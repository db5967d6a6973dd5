"""What a coordinator's commands take and give: time, records, results and parked answers. Pure values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ottla.core.errors import ErrorCode

Response = TypeVar("Response")
ResponseT_co = TypeVar("ResponseT_co", covariant=True)


class Instant(NamedTuple):
    """Now, twice: deadlines count on the monotonic clock, timestamps in records come from the wall clock."""

    monotonic_ms: int
    wall_ms: int


class CoordinatorRecord:
    """One record for the internal topic: a key with its type, and a value with its version or None (tombstone)."""

    __slots__ = ("key", "key_type", "value", "value_version")

    def __init__(self, key_type: int, key: Any, value: Any | None, value_version: int = 0) -> None:
        self.key_type = key_type
        self.key = key
        self.value = value
        self.value_version = value_version

    def __repr__(self) -> str:
        return f"CoordinatorRecord({self.key_type}, {self.key!r}, {self.value!r}, v{self.value_version})"


class Result(Generic[ResponseT_co]):
    """What a command decided: records to append (atomically when they fit one batch) and the response after that.

    ``replay`` tells whether the appended records are replayed into this shard; a command that already changed the
    ephemeral state which its record describes says no. ``appended`` is called once the append succeeded (None) or was
    refused (its error code); without it a refusal is raised to the caller.
    """

    __slots__ = ("appended", "records", "replay", "response")

    def __init__(
        self,
        response: ResponseT_co,
        records: list[CoordinatorRecord] | None = None,
        *,
        replay: bool = True,
        appended: Callable[[ErrorCode | None], None] | None = None,
    ) -> None:
        self.response = response
        self.records = records
        self.replay = replay
        self.appended = appended


#: The result of a command that decided nothing durable and answers through its ``Pending``.
NOTHING: Result[None] = Result(None)


class Pending(Generic[Response]):
    """An answer that may come later: the core settles it, the shell learns of it when everything before is committed.

    ``refusal`` makes the response that carries an error code, so that the shell can settle it when the shard goes away.
    """

    __slots__ = ("listener", "refusal", "response")

    def __init__(self, refusal: Callable[[ErrorCode], Response]) -> None:
        self.refusal = refusal
        self.response: Response | None = None
        self.listener: Callable[[Response], None] | None = None

    def release(self, response: Response) -> None:
        """Called by the shell only: the response may go out. A second release is ignored."""
        if self.response is None:
            self.response = response
            if self.listener is not None:
                self.listener(response)


#: Settled answers in the order in which they were settled.
Completions = list[tuple[Pending[Any], Any]]


def gathered(outcomes: Iterable[Any], shape: Callable[[list[Any]], Response]) -> Response | Pending[Response]:
    """One response out of several answers: at once, or a ``Pending`` that is released with the last of them."""
    results = list(outcomes)
    waiting = [
        (index, outcome)
        for index, outcome in enumerate(results)
        if isinstance(outcome, Pending) and outcome.response is None
    ]
    results = [outcome.response if isinstance(outcome, Pending) else outcome for outcome in results]
    if not waiting:
        return shape(results)
    # Nobody refuses it as a whole: each answer in it is refused by its own coordinator.
    combined: Pending[Response] = Pending(lambda code: shape(results))
    missing = len(waiting)

    def arrived(index: int, response: Any) -> None:
        nonlocal missing
        results[index] = response
        missing -= 1
        if not missing:
            combined.release(shape(results))

    for index, pending in waiting:
        pending.listener = lambda response, index=index: arrived(index, response)
    return combined


class RecordCodec(Protocol):
    """The byte form of one coordinator's records: key = int16 type + body, value = int16 version + body."""

    def encode(self, record: CoordinatorRecord) -> tuple[bytes, bytes | None]:
        """Key and value bytes (value None for a tombstone)."""

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        """None when the key type is unknown, which a newer broker may have written; ProtocolError for broken bytes."""

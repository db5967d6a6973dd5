"""A core driven by hand: what it does, and what is done to it, one step after the other."""

from __future__ import annotations

from random import Random
from typing import Any, TypeVar

from ottla.client.consumer.assignors import resolve
from ottla.client.consumer.group.core import (
    Action,
    Describe,
    Fail,
    MemberConfig,
    MemberCore,
    Send,
    Tell,
    Wanted,
)
from ottla.client.consumer.group.embedded import encode_assignment
from ottla.client.errors import KafkaError
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Request, Response

R = TypeVar("R", bound=Request)


def places(topic: str, *indexes: int) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(topic, index) for index in indexes)


def assigned(topic: str, *indexes: int) -> bytes:
    return encode_assignment(sorted(places(topic, *indexes)))


def config(*strategies: str, **changes: Any) -> MemberConfig:
    return MemberConfig(**{"group_id": "g", "assignors": resolve(strategies or ["range"]), **changes})


class Hand:
    """Actions that nobody has looked at yet wait in `actions`."""

    def __init__(self, kind: type[MemberCore], member_config: MemberConfig) -> None:
        self.core = kind(member_config, Random(1))
        self.now_ms = 1_000
        self.actions: list[Action] = []
        self.last: Send | None = None

    def subscribe(self, *topics: str, regex: str | None = None) -> None:
        self.core.subscribe(Wanted(frozenset(topics), regex), self.now_ms)
        self.step()

    def unsubscribe(self) -> None:
        self.core.subscribe(None, self.now_ms)
        self.step()

    def step(self, passed_ms: int = 0) -> None:
        """Let time pass; what comes of it waits."""
        self.now_ms += passed_ms
        self.actions += self.core.actions(self.now_ms)
        self.core.check_invariants()

    def sends(self, kind: type[R]) -> R:
        """The next action has to be this request; the answers that follow are to it."""
        action = self.actions.pop(0)
        assert isinstance(action, Send), action
        assert isinstance(action.request, kind), action.request
        self.last = action
        return action.request

    def answer(self, response: Response, to: Send | None = None) -> None:
        sent = to or self.last
        assert sent is not None
        self.core.answered(sent, response, self.now_ms)
        self.step()

    def fails(self, error: KafkaError) -> None:
        assert self.last is not None
        self.core.request_failed(self.last, error, self.now_ms)
        self.step()

    def tells(self, event: str, partitions: frozenset[TopicPartition]) -> None:
        """The next action has to be this; `told` says that the consumer has done it."""
        action = self.actions.pop(0)
        assert isinstance(action, Tell), action
        assert (action.event, action.partitions) == (event, partitions)

    def told(self) -> None:
        self.core.told(self.now_ms)
        self.step()

    def describes(self, **counts: int) -> None:
        action = self.actions.pop(0)
        assert isinstance(action, Describe), action
        self.topics(**counts)

    def topics(self, **counts: int) -> None:
        nowhere: frozenset[str] = frozenset()
        self.core.described({topic: [nowhere] * count for topic, count in counts.items()}, self.now_ms)
        self.step()

    def pops(self, kind: type[Action]) -> Any:
        action = self.actions.pop(0)
        assert isinstance(action, kind), action
        return action

    def failed_with(self, code: ErrorCode) -> None:
        action = self.actions.pop(0)
        assert isinstance(action, Fail), action
        assert action.error.code is code

    def is_quiet(self) -> bool:
        return not self.actions

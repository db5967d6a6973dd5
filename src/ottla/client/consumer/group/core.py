"""What the cores of both protocols share: actions, telling the consumer, the poll interval, backoff.

A member that is out of its group, whatever the reason, loses what it holds before it joins again. Whoever does not poll
for `max.poll.interval.ms` leaves, and joins again at the next poll.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ottla.client.consumer.assignors.assignor import Assignor, Topics
from ottla.client.errors import KafkaError, error_for
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Request, Response

if TYPE_CHECKING:
    from random import Random

LOG = logging.getLogger("ottla.client")


def code_of(number: int) -> ErrorCode:
    """The error of a response; one that a newer broker has made up counts as unknown."""
    return ERRORS.get(number, ErrorCode.UNKNOWN_SERVER_ERROR)


COORDINATOR_GONE = frozenset((ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.NOT_COORDINATOR))


class MemberConfig(NamedTuple):
    """The settings of a member; times in milliseconds."""

    group_id: str
    instance_id: str | None = None
    rack: str | None = None
    session_timeout_ms: int = 45_000
    heartbeat_interval_ms: int = 3_000
    max_poll_interval_ms: int = 300_000
    request_timeout_ms: int = 30_000
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 1_000
    assignors: tuple[Assignor, ...] = ()
    remote_assignor: str | None = None


class Wanted(NamedTuple):
    """What the consumer subscribes to."""

    topics: frozenset[str]
    regex: str | None = None
    """Matched by the coordinator (KIP-848)."""
    accepts: Callable[[str], bool] | None = None
    """Whether a topic that is not in `topics` (yet) fits a pattern; None when names were subscribed."""

    def accept(self, topic: str) -> bool:
        return topic in self.topics or (self.accepts is not None and self.accepts(topic))


@dataclass(frozen=True, eq=False)
class Send:
    """A request to the coordinator; its outcome comes back by `answered` or `request_failed`."""

    request: Request
    timeout_ms: int
    sent_ms: int
    min_version: int | None = None


@dataclass(frozen=True, eq=False)
class Tell:
    """To await: the delegate's method of this name; the end of it comes back by `told`."""

    event: Literal["revoked", "assigned", "lost"]
    partitions: frozenset[TopicPartition]


@dataclass(frozen=True)
class Describe:
    """Look these topics up in fresh metadata and keep watching them; comes back by `described`."""

    topics: frozenset[str]


@dataclass(frozen=True)
class Resolve:
    """Find out the names of these topic ids; metadata that has them comes back by `topics_named`."""

    topic_ids: frozenset[bytes]


@dataclass(frozen=True)
class ForgetCoordinator:
    """The coordinator is another broker by now."""


@dataclass(frozen=True)
class Fail:
    """Membership has ended for good."""

    error: KafkaError


Action = Send | Tell | Describe | Resolve | ForgetCoordinator | Fail


class MemberCore(ABC):
    """One member of one group. The shell calls the methods with the time and carries out `actions`."""

    def __init__(self, config: MemberConfig, random: Random) -> None:
        self.config = config
        self.member_id = ""
        self.epoch = -1
        """The generation (classic) or member epoch; -1 or 0 while not in the group."""
        self.holdings: dict[TopicPartition, int] = {}
        """The partitions the consumer has, each with a number that is another one every time it gets it."""
        self.failure: KafkaError | None = None
        self.rebalances = 0
        self._random = random
        self._wanted: Wanted | None = None
        self._out: list[Action] = []
        self._tells: deque[Tell] = deque()
        self._telling: Tell | None = None
        self._pending: Send | None = None
        """The one request about membership that is under way."""
        self._attempts = 0
        self._retry_ms = 0
        self._poll_deadline_ms: int | None = None
        self._waits_for_poll = False
        self._leave_on_close: bool | None = None
        self._numbers = 0

    # -- what the shell calls

    def actions(self, now_ms: int) -> list[Action]:
        """What there is to do now; every action is given out once."""
        if self.failure is None:
            if self._poll_deadline_ms is not None and now_ms >= self._poll_deadline_ms and self._wanted is not None:
                self._poll_is_late(now_ms)
            self._advance(now_ms)
        self._start_telling()
        out, self._out = self._out, []
        return out

    def deadline_ms(self) -> int | None:
        """When `actions` has to be called next, if nothing else happens before."""
        if self.failure is not None:
            return None
        deadlines = [*self._deadlines()]
        if self._poll_deadline_ms is not None and self._wanted is not None:
            deadlines.append(self._poll_deadline_ms)
        return min(deadlines, default=None)

    def subscribe(self, wanted: Wanted | None, now_ms: int) -> None:
        """What is wanted now; None: leave the group."""
        if wanted is not None and self._poll_deadline_ms is None:
            self._poll_deadline_ms = now_ms + self.config.max_poll_interval_ms
        self._wanted = wanted

    def close(self, leave: bool | None) -> None:
        """Leave for good: tell the coordinator if `leave`, or (None) unless the member is static."""
        self._leave_on_close = leave
        self._wanted = None
        self._is_closing = True

    def user_polled(self, now_ms: int) -> bool:
        """The user asks for records: the poll interval starts anew. Whether there is something to do because of it."""
        waited = self._waits_for_poll or self._poll_deadline_ms is None
        self._poll_deadline_ms = now_ms + self.config.max_poll_interval_ms
        self._waits_for_poll = False
        return waited

    def told(self, now_ms: int) -> None:
        """The consumer has done what the last `Tell` asked for."""
        told, self._telling = self._telling, None
        if told is not None and told.event != "assigned":
            for partition in told.partitions:
                self.holdings.pop(partition, None)

    @abstractmethod
    def answered(self, sent: Send, response: Response, now_ms: int) -> None:
        """The response to an earlier `Send`."""

    def request_failed(self, sent: Send, error: KafkaError, now_ms: int) -> None:
        """No answer came: the connection broke, time ran out, or the coordinator could not be found."""
        if not error.retriable:
            self._fail(error)
            return
        if sent is self._pending:
            self._pending = None
            self._back_off(now_ms)
        self._unanswered(sent, now_ms)

    def described(self, topics: Topics, now_ms: int) -> None:  # noqa: B027
        """The metadata of the topics that the last `Describe` named (also later, whenever it changes)."""

    def topics_named(self, names: Mapping[bytes, str]) -> None:  # noqa: B027
        """Topics by their ids, as metadata has them now."""

    def enforce_rebalance(self) -> None:  # noqa: B027
        """Join again although nothing has changed (classic groups only; elsewhere the coordinator decides)."""

    def commit_refused(self, code: ErrorCode, epoch: int, now_ms: int) -> None:
        """A commit that was sent in `epoch` was refused because of who sent it."""
        if code is ErrorCode.FENCED_INSTANCE_ID and epoch == self.epoch:
            self._fail(error_for(code))

    @property
    def is_out(self) -> bool:
        """Neither in the group nor about to be, and nothing is held."""
        return self.failure is not None or (
            self._wanted is None and not self._is_in() and not self._tells and self._telling is None
        )

    @property
    @abstractmethod
    def is_settled(self) -> bool:
        """In the group, with no rebalance under way."""

    @property
    def is_telling(self) -> bool:
        """The consumer is busy with partitions that come or go."""
        return self._telling is not None

    @abstractmethod
    def check_invariants(self) -> None:
        """What holds whenever no method is running."""

    # -- for the protocols

    _is_closing = False

    @abstractmethod
    def _advance(self, now_ms: int) -> None:
        """Do what the state and the time ask for."""

    @abstractmethod
    def _deadlines(self) -> Iterable[int]: ...

    @abstractmethod
    def _is_in(self) -> bool: ...

    @abstractmethod
    def _drop_out(self, now_ms: int, *, leave: bool) -> None:
        """Out of the group; what is held is lost. `leave`: say so to the coordinator."""

    @abstractmethod
    def _unanswered(self, sent: Send, now_ms: int) -> None:
        """After `request_failed`, when the request may be sent again."""

    def _poll_is_late(self, now_ms: int) -> None:
        self._poll_deadline_ms, self._waits_for_poll = None, True
        if not self._is_in():
            return
        LOG.warning(
            "group %s: no poll for max.poll.interval.ms (%d ms), so this member leaves until the next one. "
            "Process fewer records between polls (max.poll.records), or raise max.poll.interval.ms.",
            self.config.group_id,
            self.config.max_poll_interval_ms,
        )
        self._drop_out(now_ms, leave=True)

    def _tell(self, event: Literal["revoked", "assigned", "lost"], partitions: Iterable[TopicPartition] = ()) -> None:
        self._tells.append(Tell(event, frozenset(partitions)))

    def _lose_everything(self) -> None:
        self._tells.clear()
        if self.holdings:
            self._tell("lost")

    def _start_telling(self) -> None:
        while self._telling is None and self._tells:
            tell = self._tells.popleft()
            if tell.event == "assigned":
                for partition in tell.partitions:
                    self._numbers += 1
                    self.holdings[partition] = self._numbers
                self._taken(tell.partitions)
            else:
                # What was told before this one may have taken some of them already.
                held = self.holdings.keys() & tell.partitions if tell.event == "revoked" else self.holdings
                tell = Tell(tell.event, frozenset(held))
            if tell.event == "assigned" or tell.partitions:
                self._telling = tell
                self._out.append(tell)

    def _taken(self, partitions: Iterable[TopicPartition]) -> None:  # noqa: B027
        """These are held from now on."""

    def _is_idle(self) -> bool:
        """Everything has been told."""
        return self._telling is None and not self._tells

    def _send(self, request: Request, now_ms: int, timeout_ms: int | None = None, **limits: int) -> Send:
        send = Send(request, self.config.request_timeout_ms if timeout_ms is None else timeout_ms, now_ms, **limits)
        self._out.append(send)
        return send

    def _back_off(self, now_ms: int) -> None:
        delay_ms = min(self.config.retry_backoff_ms * 2**self._attempts, self.config.retry_backoff_max_ms)
        self._attempts = min(self._attempts + 1, 30)
        self._retry_ms = now_ms + int(delay_ms * self._random.uniform(0.8, 1.2))

    def _coordinator_gone(self, now_ms: int) -> None:
        self._out.append(ForgetCoordinator())
        self._back_off(now_ms)

    def _fail(self, error: KafkaError) -> None:
        if self.failure is None:
            self.failure = error
            self._pending = None
            self._lose_everything()
            self._out.append(Fail(error))

"""A member of a consumer group (KIP-848): one heartbeat says everything, the coordinator assigns.

    OUT ──subscribed──> JOINING (epoch 0) ──answered──> IN ──unsubscribed, closed──> LEAVING ──> OUT
     ▲                                                  │ fenced, no poll in time
     └──────────────────────────────────────────────────┘ what is held is lost

IN: answers may bring a new target. What the member has beyond it is given up first, then what is new is taken; a
heartbeat goes out at once whenever what the member holds is not what it last reported, which is the acknowledgement
that the coordinator waits for. Fields that have not changed since the last answered heartbeat are left out; after a
heartbeat whose answer was lost, or an error, all are said again.

The target names topics by id. Ids without a known name wait until metadata has it; the rest is taken meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING

from ottla.client.consumer.group.core import (
    COORDINATOR_GONE,
    LOG,
    MemberConfig,
    MemberCore,
    Resolve,
    Send,
    Wanted,
    code_of,
)
from ottla.client.errors import KafkaError, UnsupportedVersionError, error_for
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition, uuid_to_text
from ottla.protocol.message import Response
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from random import Random

LEAVE_EPOCH = -1
LEAVE_FOR_A_WHILE_EPOCH = -2
"""A static member that will come back: its partitions wait for it."""

_TOO_OLD = "Set group.protocol=classic, or have brokers of Kafka 4.0 or newer with the feature group.version at 1."


class State(Enum):
    """Where the member is; see the module."""

    OUT = auto()
    JOINING = auto()
    IN = auto()
    LEAVING = auto()


class ModernCore(MemberCore):
    """The state machine; see `MemberCore` for how it is driven."""

    def __init__(self, config: MemberConfig, random: Random) -> None:
        super().__init__(config, random)
        self.member_id = uuid_to_text(random.randbytes(16))
        self.state = State.OUT
        self.heartbeat_interval_ms = 0
        self._target: frozenset[tuple[bytes, int]] = frozenset()
        self._names: Mapping[bytes, str] = {}
        """Topics by id, as metadata has them."""
        self._ids: dict[TopicPartition, bytes] = {}
        """Topic ids of what is held; a topic that was deleted and made again has another."""
        self._target_ids: dict[TopicPartition, bytes] = {}
        self._unresolved: frozenset[bytes] = frozenset()
        self._said: Wanted | None = None
        """The subscription of the last answered heartbeat; None: say everything."""
        self._reported: frozenset[tuple[bytes, int]] | None = None
        self._saying: tuple[Wanted, frozenset[tuple[bytes, int]]] | None = None
        """What the heartbeat under way says."""
        self._next_heartbeat_ms = 0

    # -- events

    def topics_named(self, names: Mapping[bytes, str]) -> None:
        """Metadata knows these topics by their ids."""
        self._names = names

    def answered(self, sent: Send, response: Response, now_ms: int) -> None:
        if sent is not self._pending or not isinstance(response, ConsumerGroupHeartbeatResponse):
            return
        self._pending = None
        saying, self._saying = self._saying, None
        if self.state is State.LEAVING:
            self._left()
            return
        code = code_of(response.error_code)
        if code is ErrorCode.NONE:
            self._attempts = 0
            if saying is not None:
                self._said, self._reported = saying
            self._heartbeat_accepted(response, sent)
            return
        self._say_everything()
        if code in (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID):
            LOG.info("group %s: %s is out of the group: %s", self.config.group_id, self.member_id, code.name)
            self._drop_out(now_ms, leave=False)
        elif code in COORDINATOR_GONE:
            self._coordinator_gone(now_ms)
        elif code is ErrorCode.UNSUPPORTED_VERSION:
            # Told by brokers that know the protocol, and have it switched off.
            message = response.error_message or "the cluster has the consumer protocol (KIP-848) switched off."
            self._fail(UnsupportedVersionError(message, hint=_TOO_OLD))
        elif (error := error_for(response.error_code, response.error_message)).retriable:
            self._back_off(now_ms)
        else:
            self._fail(error)

    def request_failed(self, sent: Send, error: KafkaError, now_ms: int) -> None:
        if self.state is State.LEAVING or sent is not self._pending:
            if sent is self._pending:
                self._pending = None
                self._left()
            return
        if error.code is ErrorCode.UNSUPPORTED_VERSION:
            error = UnsupportedVersionError(error.message, hint=_TOO_OLD)
        super().request_failed(sent, error, now_ms)

    def told(self, now_ms: int) -> None:
        super().told(now_ms)
        for place in self._ids.keys() - self.holdings.keys():
            del self._ids[place]

    def commit_refused(self, code: ErrorCode, epoch: int, now_ms: int) -> None:
        super().commit_refused(code, epoch, now_ms)
        if epoch == self.epoch > 0 and code is ErrorCode.UNKNOWN_MEMBER_ID and self.state is State.IN:
            self._drop_out(now_ms, leave=False)

    @property
    def is_settled(self) -> bool:
        return self.state is State.IN and self._is_idle() and not self._unresolved and self._reported == self._held()

    # -- the machine

    def _is_in(self) -> bool:
        return self.state is not State.OUT

    def _held(self) -> frozenset[tuple[bytes, int]]:
        return frozenset((topic_id, place.partition) for place, topic_id in self._ids.items())

    def _taken(self, partitions: Iterable[TopicPartition]) -> None:
        self._ids.update((place, self._target_ids[place]) for place in partitions)

    def _deadlines(self) -> Iterable[int]:
        if self._wanted is None or self._pending is not None:
            return
        if self.state is State.OUT:
            yield self._retry_ms
        elif self.state is not State.LEAVING:
            yield self._heartbeat_due_ms()

    def _heartbeat_due_ms(self) -> int:
        is_news = self.state is State.JOINING or self._said != self._wanted or self._reported != self._held()
        return self._retry_ms if is_news else max(self._retry_ms, self._next_heartbeat_ms)

    def _advance(self, now_ms: int) -> None:
        if self._wanted is None:
            if self.state not in (State.OUT, State.LEAVING):
                self._begin_to_leave()
            if self.state is State.LEAVING and self._pending is None and self._is_idle():
                self._leave(now_ms)
            return
        if self.state is State.OUT and self._is_idle() and not self._waits_for_poll and now_ms >= self._retry_ms:
            self.state, self.epoch = State.JOINING, 0
            self._target = frozenset()
            self._say_everything()
        if self.state is State.IN and self._is_idle():
            self._reconcile()
        self._start_telling()  # before the heartbeat, which says what is held
        in_group = self.state in (State.JOINING, State.IN)
        if in_group and self._pending is None and now_ms >= self._heartbeat_due_ms():
            self._beat(self._wanted, now_ms)

    def _reconcile(self) -> None:
        """Towards the target, as far as its topics have names."""
        held_names = {topic_id: place.topic for place, topic_id in self._ids.items()}
        target: dict[TopicPartition, bytes] = {}
        unresolved = set()
        for topic_id, partition in self._target:
            name = self._names.get(topic_id) or held_names.get(topic_id)
            if name is None:
                unresolved.add(topic_id)
            else:
                target[TopicPartition(name, partition)] = topic_id
        if unresolved != self._unresolved:
            self._unresolved = frozenset(unresolved)
            if unresolved:
                self._out.append(Resolve(self._unresolved))
        revoked = [place for place in self.holdings if target.get(place) != self._ids[place]]
        added = frozenset(place for place in target if place not in self.holdings or place in revoked)
        if not revoked and not added:
            return
        self.rebalances += 1
        LOG.info("group %s: epoch %d, %d partitions", self.config.group_id, self.epoch, len(target))
        if revoked:
            self._tell("revoked", revoked)
        self._target_ids = target
        self._tell("assigned", added)

    def _beat(self, wanted: Wanted, now_ms: int) -> None:
        held = self._held()
        said = self._said
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.config.group_id,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.config.instance_id,
        )
        if said is None:
            request.rack_id = self.config.rack
            request.rebalance_timeout_ms = self.config.max_poll_interval_ms
            request.server_assignor = self.config.remote_assignor
        if said is None or said.topics != wanted.topics:
            request.subscribed_topic_names = sorted(wanted.topics)
        if (said.regex if said is not None else None) != wanted.regex:
            request.subscribed_topic_regex = wanted.regex or ""
        if said is None or self._reported != held:
            request.topic_partitions = _by_topic(held)
        limits = {"min_version": 1} if request.subscribed_topic_regex is not None else {}
        self._saying = (wanted, held)
        self._pending = self._send(request, now_ms, **limits)

    def _heartbeat_accepted(self, response: ConsumerGroupHeartbeatResponse, sent: Send) -> None:
        self.state = State.IN
        self.epoch = response.member_epoch
        self.heartbeat_interval_ms = response.heartbeat_interval_ms
        self._next_heartbeat_ms = sent.sent_ms + response.heartbeat_interval_ms
        if response.assignment is not None:
            self._target = frozenset(
                (topic.topic_id, partition)
                for topic in response.assignment.topic_partitions
                for partition in topic.partitions
            )

    def _unanswered(self, sent: Send, now_ms: int) -> None:
        self._saying = None
        self._say_everything()

    def _say_everything(self) -> None:
        self._said, self._reported = None, None

    # -- endings

    def _fail(self, error: KafkaError) -> None:
        super()._fail(error)
        self.state, self.epoch = State.OUT, -1

    def _drop_out(self, now_ms: int, *, leave: bool) -> None:
        if leave and self.epoch >= 0:
            self._send(self._leave_request(None), now_ms)
        self._pending = self._saying = None
        self._lose_everything()
        self.state, self.epoch = State.OUT, -1

    def _begin_to_leave(self) -> None:
        self.state = State.LEAVING
        self._pending = self._saying = None
        self._tells.clear()
        if self.holdings:
            self._tell("revoked", self.holdings)

    def _leave(self, now_ms: int) -> None:
        asked = self._leave_on_close if self._is_closing else None
        if asked is False and self.config.instance_id is None:
            self._left()
        else:
            self._pending = self._send(self._leave_request(asked), now_ms)

    def _leave_request(self, for_good: bool | None) -> ConsumerGroupHeartbeatRequest:
        is_static = self.config.instance_id is not None
        return ConsumerGroupHeartbeatRequest(
            group_id=self.config.group_id,
            member_id=self.member_id,
            member_epoch=LEAVE_FOR_A_WHILE_EPOCH if is_static and not for_good else LEAVE_EPOCH,
            instance_id=self.config.instance_id,
        )

    def _left(self) -> None:
        self._unresolved = frozenset()
        self.state, self.epoch = State.OUT, -1

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        if self.failure is not None:
            return
        assert self._ids.keys() == self.holdings.keys()
        if self.state is State.OUT:
            assert self._pending is None
        if self.state is State.JOINING:
            assert not self.holdings
        assert (self.state is State.IN) <= (self.epoch >= 0)


def _by_topic(held: Iterable[tuple[bytes, int]]) -> list[ConsumerGroupHeartbeatRequestTopicPartitions]:
    partitions: dict[bytes, list[int]] = {}
    for topic_id, partition in sorted(held):
        partitions.setdefault(topic_id, []).append(partition)
    return [
        ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=indexes)
        for topic_id, indexes in partitions.items()
    ]

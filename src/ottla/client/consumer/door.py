"""What both consumers share, the blocking and the asynchronous one: everything but waiting.

`poll` takes from the buffer where the user is; it crosses to the loop only when there is something to say there.
Whoever iterates gets records one by one from a list that was taken at once; what is left of it when he does something
else (commits, seeks, closes) is accounted for here: it was not handed out yet.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

from ottla.client.consumer.engine import ConsumerEngine
from ottla.client.consumer.in_hand import InHand
from ottla.client.consumer.listener import Callbacks
from ottla.client.consumer.records import Records
from ottla.client.consumer.resets import EARLIEST, LATEST, ResetStrategy
from ottla.client.consumer.subscription import Mode, SubscriptionPattern
from ottla.client.errors import (
    ClientClosedError,
    CommitFailedError,
    ConfigError,
    IllegalStateError,
    KafkaError,
    WakeupError,
)
from ottla.client.instruments import Instrumented
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition, topic_partition
from ottla.client.serdes import deserializer_of
from ottla.client.settings.model import ConsumerSettings
from ottla.records.reader import ConsumerRecord
from ottla.serde.base import K, V

if TYPE_CHECKING:
    from ottla.client.consumer.rebalancing import Errand
    from ottla.records.columns import Columns

LOG = logging.getLogger("ottla.client")

Topics = str | Iterable[str] | re.Pattern[str] | SubscriptionPattern
Committable = Mapping[TopicPartition, OffsetAndMetadata | int] | ConsumerRecord[Any, Any] | Iterable[Any]

MOST_COLUMN_RECORDS = 100_000
"""How many records `poll_columns` gives at once unless it is told."""
_POLL_NEWS_MS = 1000
_FEW = 50
_MANY = 500


class ConsumerDoor(Instrumented, Generic[K, V]):
    """The common part of a `Consumer`: settings, taking, and where the user stands."""

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | None,
        settings: Mapping[str, object] | None,
        names: Mapping[str, object],
        *,
        topics: Topics | None,
        key_deserializer: Any,
        value_deserializer: Any,
        callbacks: Callbacks,
        interceptors: Sequence[object],
    ) -> None:
        config = ConsumerSettings.of(bootstrap_servers, settings, names)
        self.settings = config
        self._key_deserializer = deserializer_of(key_deserializer, config.key_deserializer, "key")
        self._value_deserializer = deserializer_of(value_deserializer, config.value_deserializer, "value")
        given = [*(config.interceptor_classes or ()), *interceptors]
        self._interceptors = [each() if isinstance(each, type) else each for each in given]
        self._on_consume = [each.on_consume for each in self._interceptors if hasattr(each, "on_consume")]
        self._on_commit = [each.on_commit for each in self._interceptors if hasattr(each, "on_commit")]
        self._max_records = config.max_poll_records
        self._news_interval_ms = min(_POLL_NEWS_MS, config.max_poll_interval_ms // 10)
        self._next_news_ms = 0
        self._in_hand = InHand()
        self._one_by_one = False
        """The user iterates."""
        self._assignments_seen = 0
        self._woken = False
        self._closed = False
        self._closing = False
        self._in_callback = False
        self._engine = self._make_engine(config)
        in_hand = self._in_hand  # the engine must not know the consumer: nobody would see that it was forgotten
        self._engine.progress = lambda: (id(in_hand.records), in_hand.index)
        if self._engine.committing is not None:
            self._engine.committing.unprocessed = self._in_hand.unprocessed
        self._engine.rebalancing.callbacks = callbacks
        if topics is not None:
            self._check_group(topics)
            self._engine.subscription.subscribe(topics)

    def _make_engine(self, config: ConsumerSettings) -> ConsumerEngine:
        from ottla.client.instruments import Instruments
        from ottla.client.metrics.consumer import ConsumerMetrics

        def says_of_itself() -> list[tuple[str, str | None]]:
            """What goes along with pushed metrics."""
            return [
                ("client_rack", config.client_rack),
                ("group_id", config.group_id),
                ("group_instance_id", config.group_instance_id),
                ("group_member_id", None if engine.member is None else engine.member.metadata().member_id),
            ]

        self._instruments = Instruments(config, "consumer", says_of_itself)
        engine = ConsumerEngine(
            config,
            self._instruments.cluster,
            on_commit=self._on_commit,
            metrics=ConsumerMetrics(self._instruments.metrics),
            instruments=self._instruments,
        )
        return engine

    # --- what is known without asking

    def assignment(self) -> frozenset[TopicPartition]:
        """The partitions assigned at present, by `assign` or by the group."""
        return self._engine.subscription.assigned()

    def subscription(self) -> frozenset[str]:
        """The subscribed topics; of a pattern, those that match it now."""
        return self._engine.subscription.topics

    def paused(self) -> frozenset[TopicPartition]:
        """The partitions that `pause` was called for."""
        partitions = self._engine.subscription.partitions
        return frozenset(tp for tp, state in list(partitions.items()) if state.paused)

    def current_lag(self, partition: TopicPartition) -> int | None:
        """How many offsets the position is behind the end (the last stable offset when reading committed); None until
        a fetch has told. No request is made.
        """
        state = self._engine.subscription.state(partition)
        lag = state.lag(self.settings.isolation_level == "read_committed")
        left = self._in_hand.left().get(state.tp)
        return lag if lag is None or left is None else lag + state.position - left.offset

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Who this consumer is in its group: for a producer that commits offsets in a transaction.

        Raises CommitFailedError when the group has taken partitions away whose records the last poll gave: somebody
        else has them again, and what became of them here must not be committed.
        """
        if self._engine.member is None:
            raise _no_group("group_metadata()")
        self._check_still_ours("Abort the transaction, and poll: others get these records.")
        return self._engine.member.metadata()

    # --- taking

    def _take(self, records: list[ConsumerRecord[K, V]], limit: int) -> None:
        """Records that are there, without waiting."""
        in_hand = self._in_hand
        if in_hand.index < len(in_hand.records):
            if self._assignments_seen != self._engine.rebalancing.assignments:
                self._let_go()
            records += in_hand.next(limit)
            if records:
                return
        if limit > _FEW:
            in_hand.put([])
            self._engine.buffer.take(limit, self._key_deserializer, self._value_deserializer, records)
            return
        # Whoever asks for a few asks often: take many, and hand them out from a list.
        many: list[ConsumerRecord[K, V]] = []
        self._engine.buffer.take(_MANY, self._key_deserializer, self._value_deserializer, many)
        in_hand.put(many)
        records += in_hand.next(limit)

    def _take_columns(self, columns: Columns, limit: int) -> None:
        self._give_back(None)
        self._engine.buffer.take_columns(limit, columns)

    def _has_something(self) -> bool:
        """Whether there is a reason not to wait."""
        engine = self._engine
        return (
            engine.buffer.has_data
            or bool(engine.rebalancing.errands)
            or engine.error is not None
            or self._woken
            or engine.closed
        )

    def _is_undisturbed(self) -> bool:
        """Whether records may be taken at once, without anything else to do first."""
        engine = self._engine
        rebalancing = engine.rebalancing
        return (
            engine.error is None
            and not rebalancing.errands
            and not rebalancing.callback_coming
            and not self._woken
            and (engine.committing is None or not engine.committing.finished)
        )

    def _raise_pending(self) -> None:
        if self._woken:
            self._woken = False
            raise WakeupError("wakeup() was called.")
        self._engine.raise_error()

    def _returned(self) -> bool:
        """The user is back: what he got is processed. Whether the loop has to hear of it."""
        engine = self._engine
        in_hand = self._in_hand
        in_hand.returned()
        if engine.rebalancing.user_wanted:
            self._hand_over()
        elif in_hand.index < len(in_hand.records):
            return False
        engine.buffer.returned()
        if engine.metrics is not None:
            engine.metrics.poll.poll_started()
        now_ms = engine.cluster.now_ms()
        if now_ms >= self._next_news_ms or engine.rebalancing.user_wanted or engine.awaits_poll or not engine.started:
            self._next_news_ms = now_ms + self._news_interval_ms
            return True
        return False

    def _hand_over(self) -> None:
        """The group waits for partitions, and the user polls: he is done with what he got, and the rest goes back."""
        self._in_hand.returned()
        self._give_back(None)
        self._engine.buffer.returned()

    def _consumed(self, records: Records[K, V]) -> Records[K, V]:
        """Last steps before records go to the user."""
        for on_consume in self._on_consume:
            try:
                changed = on_consume(records)
            except Exception:
                LOG.exception("an interceptor failed in on_consume")
            else:
                records = records if changed is None else changed
        return records

    def _called(self, errand: Errand, began_ms: int) -> None:
        """A callback came back."""
        engine = self._engine
        if engine.metrics is not None:
            engine.metrics.group.callback_returned(errand.event, engine.cluster.now_ms() - began_ms)

    # --- what is in hand

    def _give_back(self, partitions: Container[TopicPartition] | None) -> None:
        """Do not hand out what is in hand of these (None: of all): the position goes back to it."""
        dropped = self._in_hand.drop(partitions)
        if dropped:
            self._engine.buffer.give_back(dropped)

    def _let_go(self) -> None:
        """What is in hand of partitions that are not ours any more, or not for long, is not handed out; and the user is
        done with what he got of them.
        """
        self._assignments_seen = self._engine.rebalancing.assignments
        partitions = self._engine.subscription.partitions
        in_use = (
            self._engine.buffer.in_use
        )  # of a partition that went and came back, by its new state, there is nothing
        gone = [
            tp
            for tp in self._in_hand.left()
            if (state := partitions.get(tp)) is None or state.suspended or in_use.get(tp) is not state
        ]
        self._in_hand.returned()
        self._give_back(gone)
        self._engine.buffer.returned([tp for tp, state in list(partitions.items()) if state.suspended])

    def _leaves(self, *, processed: bool) -> None:
        """The user closes: what he got is processed, unless an error made him leave."""
        in_hand = self._in_hand
        iterated = bool(in_hand.records)
        if not processed:
            in_hand.step_back(one=self._one_by_one)
        self._give_back(None)
        if processed or iterated:
            self._engine.buffer.returned()
        in_hand.put([])

    # --- arguments

    def _positions(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What to commit when nothing is said: the positions, after everything that was handed out."""
        engine = self._engine
        found = engine.buffer.positions(list(engine.subscription.partitions.values()), processed=False)
        found.update({tp: place for tp, place in self._in_hand.left().items() if tp in found})
        return {tp: OffsetAndMetadata(offset, "", _epoch(epoch)) for tp, (offset, epoch) in found.items()}

    def _check_still_ours(self, hint: str) -> None:
        if taken_away := self._engine.buffer.taken_away:
            names = ", ".join(sorted(map(str, taken_away)))
            raise CommitFailedError(f"the group took {names} away while records of it were worked on.", hint=hint)

    def _offsets(self, what: Committable | None) -> dict[TopicPartition, OffsetAndMetadata]:
        """Offsets to commit, from what a user says."""
        if self._engine.member is None:
            raise _no_group("commit()")
        if what is None:
            self._check_still_ours("Poll again: they come once more, to whoever has the partition now.")
            return self._positions()
        if isinstance(what, ConsumerRecord):
            what = (what,)
        if isinstance(what, Mapping):
            offsets = {topic_partition(tp): _offset_and_metadata(offset) for tp, offset in what.items()}
        else:
            offsets = {}
            for record in what:
                if not isinstance(record, ConsumerRecord):
                    raise TypeError(
                        "commit() takes nothing, a record, several, or a mapping of TopicPartition to offsets,"
                        f" not {type(record).__name__}"
                    )
                tp = TopicPartition(record.topic, record.partition)
                if tp not in offsets or offsets[tp].offset <= record.offset:
                    offsets[tp] = OffsetAndMetadata(record.offset + 1, "", record.leader_epoch)
        for tp, offset in offsets.items():
            if offset.offset < 0:
                raise ValueError(f"the offset {offset.offset} can not be committed for {tp}: it is negative")
        return offsets

    def _some(self, partitions: Iterable[TopicPartition] | TopicPartition | None) -> list[TopicPartition]:
        """Partitions a user names: one, several, or all that are assigned."""
        if partitions is None:
            return list(self._engine.subscription.partitions)
        return listed(partitions)

    def _check_group(self, topics: object) -> None:
        if self._engine.member is None:
            raise ConfigError("To subscribe, a consumer needs a group.", hint="Set group_id, or use assign().")
        modern = self.settings.group_protocol.lower() == "consumer"
        if isinstance(topics, SubscriptionPattern) and not modern:
            raise ConfigError(
                "A SubscriptionPattern needs group_protocol='consumer'.",
                hint="Set it, or subscribe to a compiled re.Pattern.",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("This consumer was closed.")

    def _check_no_callback(self, what: str) -> None:
        """In a callback, what waits for callbacks would wait for itself."""
        if self._in_callback:
            raise IllegalStateError(
                f"{what} in a callback of the consumer would wait for itself.",
                hint="Call it after poll() has returned.",
            )

    def _check_subscribed(self) -> None:
        if self._engine.subscription.mode is Mode.NONE:
            raise IllegalStateError(
                "The consumer has neither topics nor partitions.", hint="Call subscribe() or assign() first."
            )

    def _timeout_ms(self, timeout_s: float | None) -> int:
        return self.settings.default_api_timeout_ms if timeout_s is None else max(0, int(timeout_s * 1000))

    def _close_interceptors(self) -> None:
        for interceptor in self._interceptors:
            try:
                close = getattr(interceptor, "close", None)
                if close is not None:
                    close()
            except Exception:
                LOG.exception("an interceptor failed in close")


def listed(partitions: Iterable[TopicPartition] | TopicPartition) -> list[TopicPartition]:
    """Partitions as a list, also when one alone is given."""
    if isinstance(partitions, TopicPartition):
        return [partitions]
    return [topic_partition(tp) for tp in partitions]


def seek_target(offset: int | OffsetAndMetadata) -> tuple[int, int]:
    """Offset and leader epoch (-1: unknown) of what is given to `seek`."""
    target = _offset_and_metadata(offset)
    if target.offset < 0:
        raise ValueError(f"cannot seek to the negative offset {target.offset}; see seek_to_beginning and seek_to_end")
    return target.offset, -1 if target.leader_epoch is None else target.leader_epoch


def _offset_and_metadata(offset: int | OffsetAndMetadata) -> OffsetAndMetadata:
    if isinstance(offset, OffsetAndMetadata):
        return offset
    if isinstance(offset, int) and not isinstance(offset, bool):
        return OffsetAndMetadata(offset)
    raise TypeError(f"an offset is an int or an OffsetAndMetadata, not {type(offset).__name__}")


def _epoch(epoch: int) -> int | None:
    return epoch if epoch >= 0 else None


def _no_group(what: str) -> KafkaError:
    return IllegalStateError(f"{what} needs a group.", hint="Set group_id.")


BEGINNING: ResetStrategy = EARLIEST
END: ResetStrategy = LATEST

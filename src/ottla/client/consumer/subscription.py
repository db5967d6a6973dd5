"""What a consumer reads: topics that a group divides, or partitions that the user names.

The subscription is what the user said; the assignment (`partitions`) is what came of it. Membership reads `mode`,
`topics` and `server_pattern`, and `version` grows with every change of them. Assignment and positions change on the
client's loop only.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from ottla.client.consumer.positions import PartitionState
from ottla.client.errors import ConfigError, IllegalStateError, InvalidTopicError
from ottla.client.model import TopicPartition, topic_partition


class SubscriptionPattern(NamedTuple):
    """A regular expression that the group's coordinator evaluates (RE2 syntax, whole names), for
    `group.protocol=consumer` (KIP-848): only the matching topics come to the client, and only those it may read.
    """

    pattern: str


class Mode(Enum):
    """How partitions come to the consumer."""

    NONE = auto()
    ASSIGNED = auto()
    """The user names partitions; no group divides them."""
    TOPICS = auto()
    PATTERN = auto()
    """A regular expression, matched here against the cluster's topics."""
    SERVER_PATTERN = auto()
    """A regular expression that the coordinator matches."""


class Subscription:
    """What is subscribed, and every assigned partition with its position."""

    def __init__(self, *, exclude_internal_topics: bool = True) -> None:
        self.mode = Mode.NONE
        self.topics: frozenset[str] = frozenset()
        """Named by the user, or what the pattern matches now; empty for the coordinator's patterns."""
        self.pattern: re.Pattern[str] | None = None
        self.server_pattern: str | None = None
        self.version = 0
        self.partitions: OrderedDict[TopicPartition, PartitionState] = OrderedDict()
        """In the order in which they are fetched."""
        self._exclude_internal_topics = exclude_internal_topics

    @property
    def uses_group(self) -> bool:
        """Whether a group divides the partitions."""
        return self.mode in (Mode.TOPICS, Mode.PATTERN, Mode.SERVER_PATTERN)

    def assigned(self) -> frozenset[TopicPartition]:
        """The partitions at present."""
        return frozenset(self.partitions)

    def assigned_topics(self) -> frozenset[str]:
        """Topics of the partitions at present."""
        return frozenset(tp.topic for tp in self.partitions)

    # --- what the user says

    def subscribe(self, topics: str | Iterable[str] | re.Pattern[str] | SubscriptionPattern) -> None:
        """Topics by name, by a pattern that names begin with (compiled, or a str that starts with "^", as librdkafka
        has it), or by one that the coordinator evaluates. Nothing named is no subscription.
        """
        if self.mode is Mode.ASSIGNED:
            raise IllegalStateError("The consumer has partitions by assign().", hint="Call unsubscribe() first.")
        if isinstance(topics, SubscriptionPattern):
            if not topics.pattern:
                raise ConfigError("The SubscriptionPattern is empty.")
            self._say(Mode.SERVER_PATTERN, server_pattern=topics.pattern)
            return
        if isinstance(topics, str):
            topics = (topics,)
        elif isinstance(topics, re.Pattern):
            self._say(Mode.PATTERN, pattern=topics)
            return
        names = list(topics)
        for name in names:
            if not isinstance(name, str) or not name:
                raise InvalidTopicError(f"{name!r} is no name of a topic.")
        patterns = [name for name in names if name.startswith("^")]
        if not patterns:
            self._say(Mode.TOPICS if names else Mode.NONE, topics=frozenset(names))
            return
        union = "|".join(f"(?:{name})" if name.startswith("^") else f"(?:{re.escape(name)}$)" for name in names)
        try:
            self._say(Mode.PATTERN, pattern=re.compile(union))
        except re.error as error:
            raise ConfigError(f"{patterns} can not be read as regular expressions: {error}.") from None

    def assign(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        """Exactly these partitions, without a group's help. Those that were there before keep their positions; the
        new ones come back, to be given one.
        """
        if self.uses_group:
            raise IllegalStateError(
                "The consumer has topics by subscribe(); a group assigns its partitions.",
                hint="Call unsubscribe() first.",
            )
        wanted = dict.fromkeys(topic_partition(tp) for tp in partitions)
        for tp in wanted:
            if not tp.topic or not isinstance(tp.topic, str) or tp.partition < 0:
                raise InvalidTopicError(f"{tuple(tp)!r} is no partition of a topic.")
        self._say(Mode.ASSIGNED if wanted else Mode.NONE)
        self.remove([tp for tp in self.partitions if tp not in wanted])
        return self.add(wanted)

    def leave(self) -> None:
        """No topics any more; the group's partitions are still to be let go."""
        self._say(Mode.NONE)

    def unsubscribe(self) -> None:
        """No topics, no partitions."""
        self._say(Mode.NONE)
        self.partitions.clear()

    def _say(
        self,
        mode: Mode,
        *,
        topics: frozenset[str] = frozenset(),
        pattern: re.Pattern[str] | None = None,
        server_pattern: str | None = None,
    ) -> None:
        same_pattern = pattern is not None and pattern == self.pattern
        self.mode = mode
        self.topics = self.topics if same_pattern else topics
        self.pattern = pattern
        self.server_pattern = server_pattern
        self.version += 1

    # --- what the cluster says

    def match(self, topics: Mapping[str, bool]) -> bool:
        """The cluster has these topics (name → whether it is an internal one): whether a pattern's matches changed."""
        if self.pattern is None:
            return False
        found = frozenset(
            name
            for name, internal in topics.items()
            if not (internal and self._exclude_internal_topics) and self.pattern.match(name)
        )
        if found == self.topics:
            return False
        self.topics = found
        self.version += 1
        return True

    def add(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        """Partitions that are assigned now too; the state of each that was not there."""
        added = []
        for tp in partitions:
            if tp not in self.partitions:
                self.partitions[tp] = state = PartitionState(tp)
                added.append(state)
        return added

    def remove(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        """Partitions that are not assigned any more; the state of each that was there."""
        return [state for tp in partitions if (state := self.partitions.pop(tp, None)) is not None]

    def state(self, tp: TopicPartition) -> PartitionState:
        """IllegalStateError for a partition that is not assigned."""
        state = self.partitions.get(tp)
        if state is None:
            raise IllegalStateError(
                f"The partition {topic_partition(tp)} is not assigned to this consumer.",
                hint="See assignment(); a group's partitions come while poll() is called.",
            )
        return state

    def last_in_turn(self, tp: TopicPartition) -> None:
        """Fetch the others first from now on."""
        if tp in self.partitions:
            self.partitions.move_to_end(tp)  # in one step: the user's thread never finds a partition missing

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        assert (self.pattern is not None) == (self.mode is Mode.PATTERN)
        assert (self.server_pattern is not None) == (self.mode is Mode.SERVER_PATTERN)
        assert not self.topics or self.mode in (Mode.TOPICS, Mode.PATTERN)
        for state in self.partitions.values():
            state.check_invariants()

"""The coordinators of this node: each is made when it is first asked for, or at the start when its topic has state.

A node loads the code of groups, transactions and queues with the first request for one: a broker that only carries
records starts without it, and stays smaller by it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.core.topics import OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC
from ottla.server.node.coordinator_log import CoordinatorLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker
    from ottla.server.coordinator.runtime import PartitionLog
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.replication.replicas import Replicas


class Part(Protocol):
    """A coordinator, or another part of the broker that is made when first asked for."""

    def load(self, image: MetadataImage) -> None:
        """Take over the whole image, right after it was made."""

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over one commit, after the replicas did."""

    def stop(self) -> None:
        """Refuse what is parked; state is in the logs already."""


class _Recipe(NamedTuple):
    """``module.open_part(surroundings)`` makes the part; one with a topic is made when this broker leads a partition of
    it, lest what a former leader left under way wait for somebody to ask.
    """

    module: str
    topic: str | None


_RECIPES = {
    "groups": _Recipe("ottla.server.node.groups", OFFSETS_TOPIC),
    "transactions": _Recipe("ottla.server.node.transactions", TRANSACTIONS_TOPIC),
    "share_groups": _Recipe("ottla.server.node.share_groups", None),
    "share_state": _Recipe("ottla.server.node.share_state", SHARE_STATE_TOPIC),
    "streams_groups": _Recipe("ottla.server.node.streams_groups", None),
    "share_partitions": _Recipe("ottla.server.node.share_partitions", None),
    "share_coordinators": _Recipe("ottla.server.node.share_coordinators", None),
    "verification_requests": _Recipe("ottla.server.node.verification_requests", None),
}

_TOPICS = frozenset(recipe.topic for recipe in _RECIPES.values())


class Surroundings:
    """What a part is made from. ``broker`` gives the other parts, which are made when they are asked for."""

    __slots__ = ("broker", "env", "node_id", "replicas")

    def __init__(self, env: Env, replicas: Replicas, broker: Broker) -> None:
        self.env = env
        self.replicas = replicas
        self.broker = broker
        self.node_id = broker.node_id

    @property
    def config(self) -> BrokerConfig:
        """The settings as of now."""
        return self.broker.metadata.config

    def log_opener(self, topic: str) -> Callable[[int], PartitionLog | None]:
        """Gives the leader's side of a partition of the internal topic, None when it is not hosted."""

        def open_log(index: int) -> PartitionLog | None:
            partition = self.replicas.get(topic, index)
            return None if partition is None else CoordinatorLog(partition, self.env)

        return open_log

    def topic_creator(self, topic: str) -> Callable[[], Awaitable[None]]:
        """Creates the internal topic unless it exists; ApiError when it cannot be created."""

        async def create_topic() -> None:
            from ottla.server.broker.topic_creation import create_automatically

            for code in (await create_automatically(self.broker, [topic])).values():
                if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                    raise ApiError(ERRORS[code])

        return create_topic


class Coordinators:
    """The parts by name, in the order in which they were made."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._surroundings: Surroundings | None = None

    def start(self, surroundings: Surroundings) -> None:
        """Make those that have state; the others follow when they are asked for."""
        self._surroundings = surroundings
        self._make_leading(surroundings.broker.image)

    def _make_leading(self, image: MetadataImage) -> None:
        """Make the parts whose topics this broker leads partitions of."""
        assert self._surroundings is not None, "not started"
        node_id = self._surroundings.node_id
        for name, recipe in _RECIPES.items():
            topic = None if recipe.topic is None else image.topics.by_name.get(recipe.topic)
            if topic is None or name in self._parts:
                continue
            if any(placed.leader == node_id for placed in topic.partitions.values()):
                self.part(name)

    def part(self, name: str) -> Any:
        """The part of that name."""
        part = self._parts.get(name)
        if part is None:
            assert self._surroundings is not None, "not started"
            part = import_module(_RECIPES[name].module).open_part(self._surroundings)
            self._parts[name] = part
            part.load(self._surroundings.broker.image)
        return part

    def existing(self, name: str) -> Any | None:
        """The part when it was made already."""
        return self._parts.get(name)

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Tell every part that was made, and make those that are needed by now."""
        for part in list(self._parts.values()):
            part.on_metadata_change(delta, image)
        if self._surroundings is None:
            return
        if any(topic.name in _TOPICS for topic in delta.changed_topics.values()):
            self._make_leading(image)
        broker = self._surroundings.broker
        if "brokers" in delta.changed and broker.open_peers is not None:
            from ottla.server.broker.neighbours import give_up_fenced

            give_up_fenced(broker)

    def stop(self) -> None:
        """Stop the parts, the last made first."""
        while self._parts:
            self._parts.popitem()[1].stop()

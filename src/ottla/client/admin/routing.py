"""Which node is asked, and what happens when it cannot answer now.

`Routing.run` drives every call. Its parts: *keys*, the items asked about; a `Route`, which knows the node that answers
for a key and which errors mean "ask again, maybe elsewhere"; and `ask`, which sends one request for all keys of a node
and says what came of each. A key is retried until it has a result, an error that is final, or no time left; keys do
not wait for each other's retries longer than a round.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from ottla.client.admin.outcomes import combine
from ottla.client.errors import BootstrapError, KafkaError, KafkaTimeoutError, UnsupportedVersionError, error_for
from ottla.client.model import Node, TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
R = TypeVar("R", bound=Response)

_MAY_BE_DONE: Mapping[str, tuple[ErrorCode, ...]] = {
    "add_raft_voter": (ErrorCode.DUPLICATE_VOTER,),
    "create_partitions": (ErrorCode.INVALID_PARTITIONS,),
    "create_topics": (ErrorCode.TOPIC_ALREADY_EXISTS,),
    "delete_consumer_groups": (ErrorCode.GROUP_ID_NOT_FOUND,),
    "delete_share_groups": (ErrorCode.GROUP_ID_NOT_FOUND,),
    "delete_streams_groups": (ErrorCode.GROUP_ID_NOT_FOUND,),
    "delete_topics": (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID),
    "remove_raft_voter": (ErrorCode.VOTER_NOT_FOUND,),
}
"""What these calls are told when they were carried out before, be it by an attempt whose answer was lost."""

UNKNOWN_TOPIC_PATIENCE_MS = 2_000
"""So long a topic that a broker does not know may just be new to it; after that it does not exist."""


class ClusterMetadata(Protocol):
    """What the admin client reads of the cluster's metadata."""

    @property
    def brokers(self) -> Mapping[int, Node]: ...


class Backoff(Protocol):
    """How long to wait before repetition 0, 1, ..."""

    def delay_ms(self, attempt: int, /) -> float: ...


class Cluster(Protocol):
    """What the admin client needs of `client.network.cluster.Cluster`."""

    @property
    def metadata(self) -> ClusterMetadata: ...

    @property
    def backoff(self) -> Backoff: ...

    @property
    def controllers(self) -> Sequence[str]: ...

    def node(self, node_id: int, /) -> Node | None: ...

    def now_ms(self) -> int: ...

    async def request(
        self,
        node_id: int,
        request: Request,
        *,
        timeout_ms: int | None = None,
        min_version: int | None = None,
        max_version: int | None = None,
    ) -> Response: ...

    async def any_node(self, timeout_ms: int, /) -> int: ...

    async def controller(self, timeout_ms: int, /) -> int: ...

    async def coordinator(self, key_type: int, key: str, timeout_ms: int, /) -> int: ...

    def forget_coordinator(self, key_type: int, key: str, /) -> None: ...

    def request_metadata_update(self) -> None: ...

    async def refresh_metadata(self, timeout_ms: int | None = None, /) -> object: ...


class Deadline:
    """Until when a call may take."""

    def __init__(self, cluster: Cluster, timeout_ms: int, request_timeout_ms: int) -> None:
        self.cluster = cluster
        self.timeout_ms = timeout_ms
        self.started_ms = cluster.now_ms()
        self._request_timeout_ms = request_timeout_ms

    @property
    def elapsed_ms(self) -> int:
        return self.cluster.now_ms() - self.started_ms

    @property
    def left_ms(self) -> int:
        return max(0, self.timeout_ms - self.elapsed_ms)

    @property
    def request_ms(self) -> int:
        """How long one request may take: a node that is silent must leave time to ask another."""
        return min(self._request_timeout_ms, self.left_ms)


class Target:
    """The node that one round of a call asks."""

    def __init__(self, cluster: Cluster, node_id: int, timeout_ms: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.timeout_ms = timeout_ms
        """How long the answer may take; also what requests say in a field of that name."""
        self.throttle_time_ms = 0
        """How long the node wants to be left alone (KIP-219), from its last answer."""

    @property
    def node(self) -> Node:
        """The node, with its address when that is known."""
        return self.cluster.node(self.node_id) or Node(self.node_id, "", -1)

    async def request(
        self, request: Request, expect: type[R], *, min_version: int | None = None, max_version: int | None = None
    ) -> R:
        """Ask the node; `expect` is the class of the answer."""
        try:
            response = await self.cluster.request(
                self.node_id, request, timeout_ms=self.timeout_ms, min_version=min_version, max_version=max_version
            )
        except UnsupportedVersionError:
            if self.cluster.controllers:
                raise _not_from_controllers() from None
            raise
        assert isinstance(response, expect), f"{type(response).__name__} in answer to {type(request).__name__}"
        self.throttle_time_ms = getattr(response, "throttle_time_ms", 0)
        return response


Ask = Callable[[Target, list[K]], Awaitable[Mapping[K, V | KafkaError]]]
"""Asks a node about keys and says what came of each. A `KafkaError` that it raises is the outcome of all of them."""


class Route(ABC, Generic[K]):
    """Which node answers for a key. `retried` are the codes after which it is asked again."""

    retried: frozenset[ErrorCode] = frozenset()

    def __init__(self, *also_retried: ErrorCode) -> None:
        self.retried = self.retried.union(also_retried)

    @abstractmethod
    async def locate(self, cluster: Cluster, keys: Sequence[K], deadline: Deadline) -> Mapping[K, int | KafkaError]:
        """The node of each key, or why there is none."""

    def forget(self, cluster: Cluster, key: K, error: KafkaError) -> None:
        """A key has to be asked again: what was known about its node may be out of date."""

    def retries(self, error: KafkaError, deadline: Deadline) -> bool:
        if error.code is None or error.code is ErrorCode.NETWORK_EXCEPTION:
            return error.retriable  # it is not the broker that spoke: a connection broke, or time ran out
        return error.code in self.retried


_MOVED_CONTROLLER = frozenset((ErrorCode.NOT_CONTROLLER, ErrorCode.NOT_LEADER_OR_FOLLOWER))


class AnyNode(Route[K]):
    """Any broker answers, and passes on to the controller what changes the cluster; of controllers the active one."""

    retried = _MOVED_CONTROLLER

    async def locate(self, cluster: Cluster, keys: Sequence[K], deadline: Deadline) -> Mapping[K, int | KafkaError]:
        find = cluster.controller if cluster.controllers else cluster.any_node
        return dict.fromkeys(keys, await find(deadline.left_ms))

    def forget(self, cluster: Cluster, key: K, error: KafkaError) -> None:
        if error.code in _MOVED_CONTROLLER:
            cluster.request_metadata_update()


class Controller(Route[K]):
    """The node that the metadata names as controller."""

    retried = _MOVED_CONTROLLER

    async def locate(self, cluster: Cluster, keys: Sequence[K], deadline: Deadline) -> Mapping[K, int | KafkaError]:
        return dict.fromkeys(keys, await cluster.controller(deadline.left_ms))

    def forget(self, cluster: Cluster, key: K, error: KafkaError) -> None:
        cluster.request_metadata_update()


class Brokers(Route[K]):
    """The broker that the key itself names."""

    def __init__(self, broker_of: Callable[[K], int], *also_retried: ErrorCode) -> None:
        super().__init__(*also_retried)
        self._broker_of = broker_of

    async def locate(self, cluster: Cluster, keys: Sequence[K], deadline: Deadline) -> Mapping[K, int | KafkaError]:
        located: dict[K, int | KafkaError] = {key: self._broker_of(key) for key in keys}
        if not set(located.values()) <= set(cluster.metadata.brokers):
            await cluster.refresh_metadata(deadline.left_ms)
        for key, broker in located.items():
            if broker not in cluster.metadata.brokers:
                known = ", ".join(map(str, sorted(cluster.metadata.brokers)))
                located[key] = KafkaError(
                    f"There is no broker {broker}.",
                    code=ErrorCode.BROKER_NOT_AVAILABLE,
                    hint=f"The cluster has brokers {known}.",
                )
        return located


class Coordinators(Route[K]):
    """The coordinator of the group (key type 0) or the transactional id (1) that the key names."""

    retried = frozenset(
        (
            ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
            ErrorCode.COORDINATOR_NOT_AVAILABLE,
            ErrorCode.NOT_COORDINATOR,
        )
    )

    def __init__(self, key_type: int, *also_retried: ErrorCode) -> None:
        super().__init__(*also_retried)
        self._key_type = key_type

    async def locate(self, cluster: Cluster, keys: Sequence[K], deadline: Deadline) -> Mapping[K, int | KafkaError]:
        if cluster.controllers:
            raise _not_from_controllers()
        found = await asyncio.gather(*(self._coordinator(cluster, str(key), deadline) for key in keys))
        return dict(zip(keys, found, strict=True))

    async def _coordinator(self, cluster: Cluster, key: str, deadline: Deadline) -> int | KafkaError:
        try:
            return await cluster.coordinator(self._key_type, key, deadline.left_ms)
        except KafkaError as error:
            return error

    def forget(self, cluster: Cluster, key: K, error: KafkaError) -> None:
        if error.code is not ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            cluster.forget_coordinator(self._key_type, str(key))


class Leaders(Route[TopicPartition]):
    """The partition's leader. `known` is kept by the admin client from call to call."""

    retried = frozenset(code for code in ErrorCode if code.retriable)

    def __init__(self, known: dict[TopicPartition, int]) -> None:
        super().__init__()
        self._known = known

    async def locate(
        self, cluster: Cluster, keys: Sequence[TopicPartition], deadline: Deadline
    ) -> Mapping[TopicPartition, int | KafkaError]:
        if cluster.controllers:
            raise _not_from_controllers()
        wanted = [key for key in keys if key not in self._known]
        located: dict[TopicPartition, int | KafkaError] = {}
        if wanted:
            node = await cluster.any_node(deadline.left_ms)
            response = await Target(cluster, node, deadline.request_ms).request(
                MetadataRequest(
                    topics=[MetadataRequestTopic(name=topic) for topic in dict.fromkeys(key.topic for key in wanted)],
                    allow_auto_topic_creation=False,
                ),
                MetadataResponse,
                min_version=4,
            )
            located.update(self._learn(response, wanted))
            if any(broker.node_id not in cluster.metadata.brokers for broker in response.brokers):
                await cluster.refresh_metadata(deadline.left_ms)
        return {key: self._known[key] if key in self._known else located[key] for key in keys}

    def _learn(
        self, response: MetadataResponse, wanted: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int | KafkaError]:
        topics = {topic.name: topic for topic in response.topics}
        failures: dict[TopicPartition, int | KafkaError] = {}
        for key in wanted:
            topic = topics.get(key.topic)
            if topic is None or topic.error_code:
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if topic is None else topic.error_code
                failures[key] = error_for(code)
                continue
            found = [partition for partition in topic.partitions if partition.partition_index == key.partition]
            if not found:
                failures[key] = error_for(
                    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    f"The topic has {len(topic.partitions)} partitions, counted from 0.",
                    hint="",
                )
            elif found[0].leader_id < 0:
                failures[key] = error_for(found[0].error_code or ErrorCode.LEADER_NOT_AVAILABLE)
            else:
                self._known[key] = found[0].leader_id
        return failures

    def forget(self, cluster: Cluster, key: TopicPartition, error: KafkaError) -> None:
        self._known.pop(key, None)

    def retries(self, error: KafkaError, deadline: Deadline) -> bool:
        if error.code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            return deadline.elapsed_ms < UNKNOWN_TOPIC_PATIENCE_MS
        return super().retries(error, deadline)


class Routing:
    """Runs calls on a cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        timeout_ms: int,
        request_timeout_ms: int,
        retries: int,
        on_call: Callable[[], object] = lambda: None,
    ) -> None:
        self.cluster = cluster
        self.on_call = on_call
        self.timeout_ms = timeout_ms
        self.request_timeout_ms = request_timeout_ms
        self.retries = retries

    def deadline(self, timeout_s: float | None) -> Deadline:
        if timeout_s is not None and timeout_s < 0:
            raise ValueError(f"timeout_s is {timeout_s}: it cannot be negative")
        timeout_ms = self.timeout_ms if timeout_s is None else int(timeout_s * 1000)
        return Deadline(self.cluster, timeout_ms, self.request_timeout_ms)

    async def run(
        self, call: str, keys: Iterable[K], route: Route[K], ask: Ask[K, V], timeout_s: float | None = None
    ) -> dict[K, V]:
        """What came of each key, in the order of `keys`; raises as soon as nothing can be retried and one failed."""
        order = list(dict.fromkeys(keys))
        self.on_call()
        return await self._run(call, order, route, ask, self.deadline(timeout_s))

    async def run_one(
        self,
        call: str,
        route: Route[None],
        ask: Callable[[Target], Awaitable[V]],
        timeout_s: float | None = None,
    ) -> V:
        """A call that is not about items: its result, or its error. An error that `ask` raises may be retried."""

        async def ask_keyless(target: Target, _: list[None]) -> dict[None, V | KafkaError]:
            return {None: await ask(target)}

        return (await self.run(call, [None], route, ask_keyless, timeout_s))[None]

    async def run_everywhere(
        self, call: str, ask: Ask[int, V], timeout_s: float | None = None, *also_retried: ErrorCode
    ) -> dict[int, V]:
        """What every broker says that is there now; after these errors too it is asked again."""
        self.on_call()
        deadline = self.deadline(timeout_s)
        await self.cluster.refresh_metadata(deadline.left_ms)
        brokers = sorted(self.cluster.metadata.brokers)
        return await self._run(call, brokers, Brokers(int, *also_retried), ask, deadline)

    async def _run(self, call: str, order: list[K], route: Route[K], ask: Ask[K, V], deadline: Deadline) -> dict[K, V]:
        results: dict[K, V] = {}
        errors: dict[K, KafkaError] = {}
        unanswered: set[K] = set()
        pending = order
        attempt = 0
        while pending:
            outcomes, throttled_ms = await self._round(pending, route, ask, deadline)
            again: dict[K, KafkaError] = {}
            for key in pending:
                found = outcomes.get(key)
                if key not in outcomes:
                    errors[key] = KafkaError("The broker's answer left it out.", code=ErrorCode.UNKNOWN_SERVER_ERROR)
                elif not isinstance(found, KafkaError):
                    results[key] = found  # type: ignore[assignment]  # None may be a result
                elif route.retries(found, deadline):
                    again[key] = found
                    route.forget(self.cluster, key, found)
                    if found.code in (None, ErrorCode.NETWORK_EXCEPTION):
                        unanswered.add(key)
                else:
                    is_doubtful = key in unanswered and found.code in _MAY_BE_DONE.get(call, ())
                    errors[key] = _doubtful(found) if is_doubtful else found
            attempt += 1
            if again:
                delay_ms = max(int(self.cluster.backoff.delay_ms(attempt - 1)), throttled_ms)
                if attempt > self.retries or delay_ms >= deadline.left_ms:
                    errors.update({key: _timed_out(call, error, deadline) for key, error in again.items()})
                    break
                await asyncio.sleep(delay_ms / 1000)
            pending = list(again)
        if errors:
            raise combine(results, {key: errors[key] for key in order if key in errors})
        return {key: results[key] for key in order}

    async def _round(
        self, keys: list[K], route: Route[K], ask: Ask[K, V], deadline: Deadline
    ) -> tuple[dict[K, V | KafkaError], int]:
        """Locate the keys and ask their nodes once, all at the same time."""
        outcomes: dict[K, V | KafkaError] = {}
        try:
            located = await route.locate(self.cluster, keys, deadline)
        except KafkaError as error:
            return dict.fromkeys(keys, error), 0
        nodes: dict[int, list[K]] = {}
        for key, where in located.items():
            if isinstance(where, KafkaError):
                outcomes[key] = where
            else:
                nodes.setdefault(where, []).append(key)
        targets = [Target(self.cluster, node_id, deadline.request_ms) for node_id in nodes]
        asked = await asyncio.gather(*(_ask(ask, target, nodes[target.node_id]) for target in targets))
        for found in asked:
            outcomes.update(found)
        return outcomes, max((target.throttle_time_ms for target in targets), default=0)


async def _ask(ask: Ask[K, V], target: Target, keys: list[K]) -> Mapping[K, V | KafkaError]:
    try:
        return await ask(target, keys)
    except KafkaError as error:
        return dict.fromkeys(keys, error)


def _doubtful(error: KafkaError) -> KafkaError:
    hint = "An attempt before this one had no answer: it may have done what was asked for. Look before you go on."
    return error_for(error.number or ErrorCode.UNKNOWN_SERVER_ERROR, error.message, hint=hint)


def _not_from_controllers() -> KafkaError:
    return error_for(
        ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
        "Controllers do not answer this call.",
        hint="Use bootstrap.servers instead of bootstrap.controllers.",
    )


def _timed_out(call: str, last: KafkaError, deadline: Deadline) -> KafkaError:
    """What a key ends with that could still be retried but has no time left."""
    telling = (ErrorCode.THROTTLING_QUOTA_EXCEEDED, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    if isinstance(last, BootstrapError) or last.code in telling:
        return last  # says more than that time ran out
    seconds = deadline.elapsed_ms / 1000
    error = KafkaTimeoutError(
        f"{call} was not done after {seconds:.1f} s; the last error was {last}",
        hint="Raise timeout_s or default.api.timeout.ms, or see why the brokers cannot answer.",
    )
    error.__cause__ = last
    return error

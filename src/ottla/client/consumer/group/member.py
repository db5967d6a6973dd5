"""A consumer's membership on the event loop: carries out what a core wants, beside the user's code.

Nothing here waits for the user but the delegate. Every event (an answer, the delegate's return, a timer, metadata, the
user) goes into the core and pumps out what is to be done next; there is no task but one for each request under way, and
one for what the consumer is being told. So heartbeats and rebalances go on whatever the user's code does.

All methods are called on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from ottla.client.consumer.assignors import resolve
from ottla.client.consumer.assignors.assignor import Assignor, Topics
from ottla.client.consumer.group.commits import GROUP, GroupOffsets, Offsets
from ottla.client.consumer.group.core import (
    LOG,
    Action,
    Describe,
    Fail,
    ForgetCoordinator,
    MemberConfig,
    MemberCore,
    Resolve,
    Send,
    Tell,
    Wanted,
)
from ottla.client.consumer.subscription import Mode, Subscription
from ottla.client.errors import ConfigError, ConnectionFailedError, KafkaError, KafkaTimeoutError
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from ottla.client.network.coordinators import broker_id
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.client.metrics.consumer import GroupMetrics
    from ottla.client.network.cluster import Cluster
    from ottla.client.network.metadata import ClusterMetadata
    from ottla.client.settings import ConsumerSettings


class MemberDelegate(Protocol):
    """The consumer, as its membership sees it. The member awaits each call before it goes on."""

    async def partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Let these go: hand out no more of their records, wait until the user is done with those it has (not longer
        than `max.poll.interval.ms`), commit, tell the user, drop them.
        """

    async def partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """These come to those that are there already; may be none."""

    async def partitions_lost(self, partitions: frozenset[TopicPartition]) -> None:
        """Drop these: the group has given them to others already."""

    def member_failed(self, error: KafkaError) -> None:
        """The membership has ended for good: for the user's next poll to raise."""


class GroupMember:
    """A consumer's place in its group, from the first subscription on; also its commits without any."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        subscription: Subscription,
        delegate: MemberDelegate,
        *,
        assignors: Iterable[str | Assignor | type[Assignor]] | None = None,
        random: Random | None = None,
        metrics: GroupMetrics | None = None,
    ) -> None:
        if settings.group_id is None:
            raise ConfigError("A member of a group needs a group.id.")
        self._cluster = cluster
        self._settings = settings
        self._subscription = subscription
        self._delegate = delegate
        self._assignors = assignors
        self._random = random or Random()
        self._metrics = metrics
        if metrics is not None:
            metrics.watch(lambda: len(self.owned))
        self._group_id: str = settings.group_id
        self._config: MemberConfig | None = None
        self._core: MemberCore | None = None
        self._offsets = GroupOffsets(cluster, settings.group_id, self)
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order in which they began
        self._timer: asyncio.TimerHandle | None = None
        self._watched: frozenset[str] = frozenset()
        self._describing: asyncio.Task[None] | None = None
        self._changed: asyncio.Future[None] | None = None
        self._unsettled_since_ms: int | None = None
        self._rebalances_seen = 0
        self._is_closed = False
        self._parked = 0
        """Requests under way that the coordinator answers when the whole group is there."""

    # -- the user

    def subscription_changed(self) -> None:
        """Join the group, or join it again, with what the subscription says now; leave it when that is nothing."""
        wanted = self._wanted()
        if self._core is not None and self._core.failure is not None and self._core.is_out:
            self._core = None
        if self._core is None:
            if wanted is None:
                return
            self._core = self._make_core()
            self._cluster.add_metadata_listener(self._metadata_changed)
        self._core.topics_named(self._cluster.metadata.topic_names)
        self._core.subscribe(wanted, self._cluster.now_ms())
        self._pump()

    def user_polled(self, now_ms: int) -> None:
        """The user is in poll(): records handed out before are processed, and max.poll.interval.ms starts anew."""
        if self._core is not None and self._core.user_polled(now_ms):
            self._pump()

    def enforce_rebalance(self) -> None:
        """Let a classic group rebalance although nothing has changed; the coordinators of others decide alone."""
        if self._core is not None:
            self._core.enforce_rebalance()
            self._pump()

    async def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], timeout_ms: int) -> None:
        """Store these offsets as the group's; see `GroupOffsets.commit` for the errors."""
        began_ms = self._cluster.now_ms()
        await self._offsets.commit(offsets, timeout_ms)
        if self._metrics is not None:
            self._metrics.committed(self._cluster.now_ms() - began_ms)

    async def committed(self, partitions: Iterable[TopicPartition], timeout_ms: int) -> Offsets:
        """What the group has committed, None for partitions for which it has nothing."""
        return await self._offsets.fetch(partitions, timeout_ms)

    def metadata(self) -> ConsumerGroupMetadata:
        """Who this member is, for a transactional producer that commits its offsets (KIP-447)."""
        core = self._core
        if core is None:
            return ConsumerGroupMetadata(self._group_id, group_instance_id=self._settings.group_instance_id)
        return ConsumerGroupMetadata(self._group_id, core.epoch, core.member_id, self._settings.group_instance_id)

    @property
    def owned(self) -> frozenset[TopicPartition]:
        """The partitions the member has at this moment."""
        return frozenset() if self._core is None else frozenset(self._core.holdings)

    @property
    def rebalances(self) -> int:
        """How often the member was given partitions."""
        return 0 if self._core is None else self._core.rebalances

    @property
    def is_settled(self) -> bool:
        """In the group, with no rebalance known to be under way."""
        return self._core is not None and self._core.is_settled

    async def close(self, timeout_ms: int, leave: bool | None = None) -> None:
        """Let everything go and leave the group: `leave` says whether to tell the coordinator, None: unless static."""
        core = self._core
        try:
            if core is not None and not self._is_closed:
                core.close(leave)
                self._pump()
                deadline_ms = self._cluster.now_ms() + timeout_ms
                while not core.is_out and (left_ms := deadline_ms - self._cluster.now_ms()) > 0:
                    self._changed = asyncio.get_running_loop().create_future()
                    await asyncio.wait([self._changed], timeout=left_ms / 1000)
        finally:
            await asyncio.gather(*self.stop(), return_exceptions=True)

    def stop(self) -> list[asyncio.Task[None]]:
        """Do nothing any more, without a word to the coordinator. Returns what is being cancelled."""
        self._is_closed = True
        self._stop_timer()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        return tasks

    # -- for commits

    def identity(self) -> ConsumerGroupMetadata:
        core = self._core
        if core is None or core.epoch <= 0 or core.failure is not None:  # 0: it is about to join
            return ConsumerGroupMetadata(self._group_id)
        return self.metadata()

    def holding(self, partition: TopicPartition) -> int | None:
        return None if self._core is None else self._core.holdings.get(partition)

    def commit_refused(self, code: ErrorCode, epoch: int) -> None:
        if self._core is not None:
            self._core.commit_refused(code, epoch, self._cluster.now_ms())
            self._pump()

    def is_modern(self) -> bool:
        return self._settings.group_protocol.lower() == "consumer"

    # -- the machinery

    def _wanted(self) -> Wanted | None:
        subscription = self._subscription
        if not subscription.uses_group:
            return None
        if subscription.mode is Mode.SERVER_PATTERN and not self.is_modern():
            raise ConfigError(
                "Only group.protocol=consumer has patterns that the coordinator evaluates.",
                hint="Set it, or subscribe to a compiled re.Pattern.",
            )
        pattern = subscription.pattern
        accepts = None if pattern is None else lambda topic: pattern.match(topic) is not None
        return Wanted(subscription.topics, subscription.server_pattern, accepts)

    def _make_core(self) -> MemberCore:
        settings = self._settings
        config = MemberConfig(
            group_id=self._group_id,
            instance_id=settings.group_instance_id,
            rack=settings.client_rack or None,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            request_timeout_ms=settings.request_timeout_ms,
            retry_backoff_ms=settings.retry_backoff_ms,
            retry_backoff_max_ms=settings.retry_backoff_max_ms,
            assignors=() if self.is_modern() else self._resolved_assignors(),
            remote_assignor=settings.group_remote_assignor,
        )
        if self.is_modern():
            from ottla.client.consumer.group.modern import ModernCore

            return ModernCore(config, self._random)
        from ottla.client.consumer.group.classic import ClassicCore

        return ClassicCore(config, self._random)

    def _resolved_assignors(self) -> tuple[Assignor, ...]:
        return resolve(self._settings.partition_assignment_strategy if self._assignors is None else self._assignors)

    def _pump(self) -> None:
        core = self._core
        if core is None or self._is_closed:
            return
        now_ms = self._cluster.now_ms()
        for action in core.actions(now_ms):
            self._carry_out(core, action)
        if self._metrics is not None:
            self._measure(core, self._metrics, now_ms)
        self._stop_timer()
        deadline_ms = core.deadline_ms()
        if deadline_ms is not None:
            delay_ms = max(1, deadline_ms - now_ms)
            self._timer = asyncio.get_running_loop().call_later(delay_ms / 1000, self._pump)
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _measure(self, core: MemberCore, metrics: GroupMetrics, now_ms: int) -> None:
        """A rebalance lasts from the moment we know of it until we are settled again."""
        if not core.is_settled:
            if self._unsettled_since_ms is None:
                self._unsettled_since_ms = now_ms
        elif self._unsettled_since_ms is not None:
            if core.rebalances != self._rebalances_seen:
                metrics.rebalanced(now_ms - self._unsettled_since_ms)
                self._rebalances_seen = core.rebalances
            self._unsettled_since_ms = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _carry_out(self, core: MemberCore, action: Action) -> None:
        match action:
            case Send():
                self._start(self._ask(core, action))
            case Tell():
                self._start(self._told(core, action))
            case Describe():
                if self._describing is not None:
                    self._describing.cancel()
                self._describing = self._start(self._describe(core, action.topics))
            case Resolve():
                self._cluster.interest_in_ids(action.topic_ids)
            case ForgetCoordinator():
                self._cluster.forget_coordinator(GROUP, self._group_id)
            case Fail():
                self._delegate.member_failed(action.error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    async def _ask(self, core: MemberCore, send: Send) -> None:
        cluster = self._cluster
        parks = send.request.API_KEY in (ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP)
        self._parked += parks
        try:
            node_id = await cluster.coordinator(GROUP, self._group_id, send.timeout_ms)
            if self._parked and send.request.API_KEY == ApiKey.LEAVE_GROUP:
                # A broker answers the requests of a connection in turn, and a join may take as long as the others'
                # session timeouts: who leaves says so on the connection that fetches.
                node_id = broker_id(node_id)
            response = await cluster.request(
                node_id, send.request, timeout_ms=send.timeout_ms, min_version=send.min_version
            )
        except KafkaError as error:
            if isinstance(error, (ConnectionFailedError, KafkaTimeoutError)):
                cluster.forget_coordinator(GROUP, self._group_id)
            core.request_failed(send, error, cluster.now_ms())
        else:
            now_ms = cluster.now_ms()
            if self._metrics is not None:
                _count(self._metrics, send.request.API_KEY, now_ms - send.sent_ms)
            core.answered(send, response, now_ms)
        finally:
            self._parked -= parks
        self._pump()

    async def _told(self, core: MemberCore, tell: Tell) -> None:
        delegate, began_ms = self._delegate, self._cluster.now_ms()
        try:
            if tell.event == "revoked":
                await delegate.partitions_revoked(tell.partitions)
            elif tell.event == "assigned":
                await delegate.partitions_assigned(tell.partitions)
            else:
                await delegate.partitions_lost(tell.partitions)
        except Exception:
            # What goes wrong in the user's callback is for the user's poll; membership goes on.
            LOG.exception("group %s: partitions_%s failed", self._group_id, tell.event)
        if self._metrics is not None:
            self._metrics.callback_returned(tell.event, self._cluster.now_ms() - began_ms)
            if tell.event == "lost":
                self._metrics.rebalance_failed()
        core.told(self._cluster.now_ms())
        self._pump()

    # -- metadata

    async def _describe(self, core: MemberCore, topics: frozenset[str]) -> None:
        self._watched = topics
        self._cluster.interest(topics)
        attempt = 0
        while not self._has_just_heard_of(topics):
            try:
                await self._cluster.refresh_metadata(self._settings.request_timeout_ms)
                break
            except KafkaError as error:
                if not error.retriable:
                    self._delegate.member_failed(error)
                    return
            await asyncio.sleep(self._cluster.backoff.delay_ms(attempt) / 1000)
            attempt += 1
        core.described(self._view(self._cluster.metadata), self._cluster.now_ms())
        self._pump()

    def _has_just_heard_of(self, topics: frozenset[str]) -> bool:
        """Whether metadata of all these topics is younger than the pause that is made between two requests for it."""
        cluster = self._cluster
        known = cluster.metadata.topics
        return (
            bool(topics)
            and all(topic in known and not known[topic].error for topic in topics)
            and cluster.metadata_state.age_ms(cluster.now_ms()) < self._settings.retry_backoff_ms
        )

    def _metadata_changed(self, metadata: ClusterMetadata) -> None:
        core = self._core
        if core is None or self._is_closed:
            return
        if self._watched:
            self._cluster.interest(self._watched)
            if self._describing is None or self._describing.done():
                core.described(self._view(metadata), self._cluster.now_ms())
        core.topics_named(metadata.topic_names)
        self._pump()

    def _view(self, metadata: ClusterMetadata) -> Topics:
        """The watched topics that exist, and the racks of their partitions."""
        racks = {node.id: frozenset((node.rack,)) for node in metadata.brokers.values() if node.rack}
        nowhere: frozenset[str] = frozenset()
        return {
            name: tuple(
                nowhere.union(*(racks.get(replica, nowhere) for replica in partition.replicas))
                for partition in topic.partitions
            )
            for name in sorted(self._watched)
            if (topic := metadata.topics.get(name)) is not None and topic.partitions
        }


def _count(metrics: GroupMetrics, api_key: int, latency_ms: int) -> None:
    if api_key in (ApiKey.HEARTBEAT, ApiKey.CONSUMER_GROUP_HEARTBEAT):
        metrics.heartbeat_answered(latency_ms)
    elif api_key == ApiKey.JOIN_GROUP:
        metrics.joined(latency_ms)
    elif api_key == ApiKey.SYNC_GROUP:
        metrics.synced(latency_ms)

"""When to ask for metadata, for which topics, and what an answer changes: a core, time is an argument.

A refresh is due when the snapshot is older than metadata.max.age.ms, or when somebody has seen that it is wrong; then
not before the backoff of failures, or of answers that changed nothing, has passed. Topics that nothing is known of are
asked for at once and alone. Topics that nobody has named for metadata.max.idle.ms are forgotten.

Invariant: the leader epoch of a partition of one topic id never goes back (KIP-320), whoever answers.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.client.model import Node, TopicPartition
from ottla.client.network.backoff import ExponentialBackoff
from ottla.client.network.metadata import ClusterMetadata, PartitionMetadata, TopicMetadata
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseTopic,
)

RELIABLE_EPOCHS = 9
"""Before this version of Metadata a broker could answer with the epoch of another partition state (KAFKA-9261)."""
TOPIC_IDS = 12
"""First version in which topics may be asked for by id."""
MANUAL_CREATION = 4
"""First version in which the automatic creation of topics can be declined."""


class Asked:
    """A metadata request and what it was about."""

    __slots__ = ("is_full", "min_version", "request", "topics")

    def __init__(self, request: MetadataRequest, min_version: int, *, is_full: bool, topics: frozenset[str]) -> None:
        self.request = request
        self.min_version = min_version
        self.is_full = is_full
        self.topics = topics


class MetadataState:
    """The current snapshot and its upkeep."""

    def __init__(
        self,
        backoff: ExponentialBackoff,
        max_age_ms: int,
        max_idle_ms: int | None = None,
        *,
        create_topics: bool = True,
        rebootstrap_trigger_ms: int | None = None,
    ) -> None:
        self.snapshot = ClusterMetadata()
        self.all_topics = False
        self.successes = 0
        """Answers so far that refreshed everything of interest."""
        self.answers = 0
        """Answers so far, of any kind."""
        self.failures = 0
        """Attempts in a row without an answer."""
        self._backoff = backoff
        self._max_age_ms = max_age_ms
        self._max_idle_ms = max_idle_ms
        self._create_topics = create_topics
        self._rebootstrap_trigger_ms = rebootstrap_trigger_ms
        self._interest: dict[str, int] = {}
        """Topics kept fresh, and when each was named last."""
        self._new_topics: set[str] = set()
        self._wanted_ids: set[bytes] = set()
        self._has_new_ids = False
        self._is_needed = True
        self._unchanged = 0
        """Answers in a row that changed nothing."""
        self._retry_at_ms = 0
        """The backoff of failures ends."""
        self._allowed_at_ms = 0
        """The backoff of answers, longer when they changed nothing, ends."""
        self._last_success_ms: int | None = None
        self._trying_since_ms: int | None = None

    # What is of interest

    @property
    def interest(self) -> frozenset[str]:
        return frozenset(self._interest)

    def add_interest(self, topics: Iterable[str], now_ms: int) -> bool:
        """Keep these topics fresh from now on. True when one of them is new, and metadata should be asked for."""
        is_news = False
        for topic in topics:
            if topic not in self._interest and not self.all_topics:
                self._new_topics.add(topic)
                is_news = True
            self._interest[topic] = now_ms
        if is_news:
            self._unchanged = 0
        return is_news

    def replace_interest(self, topics: Iterable[str], now_ms: int) -> bool:
        """Keep exactly these topics fresh."""
        wanted = frozenset(topics)
        for topic in self._interest.keys() - wanted:
            del self._interest[topic]
            self._new_topics.discard(topic)
        return self.add_interest(wanted, now_ms)

    def want_ids(self, ids: Iterable[bytes]) -> bool:
        """Find out the names of these topic ids. True when one of them is not known."""
        missing = {one for one in ids if one not in self.snapshot.topic_names}
        self._has_new_ids = self._has_new_ids or not missing <= self._wanted_ids
        self._wanted_ids = missing
        return bool(missing)

    def set_all_topics(self, wanted: bool) -> bool:
        """Ask for all topics of the cluster, or only for those of interest again. True when that changes anything."""
        if wanted == self.all_topics:
            return False
        self.all_topics = wanted
        self._is_needed = True
        self._unchanged = 0
        return True

    # When to ask

    def request_update(self, *, reset_backoff: bool = False) -> None:
        """What we know is, or may be, wrong."""
        self._is_needed = True
        if reset_backoff:
            self._unchanged = 0

    def next_update_in_ms(self, now_ms: int) -> int:
        """How long until the next request is due; 0 when it is."""
        until_ms = self._retry_at_ms
        if not (self._new_topics or self._has_new_ids):
            asked_for = self._is_needed or self._wanted_ids
            until_ms = max(until_ms, self._allowed_at_ms, 0 if asked_for else self._expires_ms())
        return max(0, until_ms - now_ms)

    def age_ms(self, now_ms: int) -> int:
        """How old the snapshot is."""
        return 0 if self._last_success_ms is None else now_ms - self._last_success_ms

    def _expires_ms(self) -> int:
        return 0 if self._last_success_ms is None else self._last_success_ms + self._max_age_ms

    def attempt(self, now_ms: int) -> Asked:
        """The request to send now."""
        if self._trying_since_ms is None:
            self._trying_since_ms = now_ms
        is_full = self._is_needed or self._expires_ms() <= now_ms or not self.snapshot.brokers
        if not is_full and self._wanted_ids and not self._new_topics:
            self._has_new_ids = False
            wanted = [MetadataRequestTopic(topic_id=one, name=None) for one in sorted(self._wanted_ids)]
            request = MetadataRequest(topics=wanted, allow_auto_topic_creation=False)
            return Asked(request, TOPIC_IDS, is_full=False, topics=frozenset())
        if is_full:
            self._forget_idle(now_ms)
        topics = frozenset(self._interest if is_full else self._new_topics)
        names = None if self.all_topics and is_full else [MetadataRequestTopic(name=name) for name in sorted(topics)]
        request = MetadataRequest(topics=names, allow_auto_topic_creation=self._create_topics)
        min_version = 1 if self._create_topics else MANUAL_CREATION
        return Asked(request, min_version, is_full=is_full, topics=topics)

    def _forget_idle(self, now_ms: int) -> None:
        if self._max_idle_ms is not None:
            for topic in [name for name, at_ms in self._interest.items() if now_ms - at_ms >= self._max_idle_ms]:
                del self._interest[topic]
                self._new_topics.discard(topic)

    def failed(self, now_ms: int) -> None:
        """The attempt got no answer that could be used."""
        self._retry_at_ms = now_ms + self._backoff.delay_ms(self.failures)
        self.failures += 1

    def _succeeded(self, now_ms: int, *, is_full: bool) -> None:
        if is_full and self._expires_ms() <= now_ms:
            self._unchanged = 0  # it was asked for because of its age
        self.failures = self._retry_at_ms = 0
        self.answers += 1
        self._trying_since_ms = None
        if is_full:
            self.successes += 1
            self._last_success_ms = now_ms

    def _take(self, new: ClusterMetadata, now_ms: int) -> bool:
        is_change = not new.same_content(self.snapshot)
        if is_change:
            self.snapshot = new
            self._unchanged = 0
        self._allowed_at_ms = now_ms + self._backoff.delay_ms(self._unchanged)
        if not is_change:
            self._unchanged += 1
        return is_change

    # Starting over

    def should_rebootstrap(self, now_ms: int) -> bool:
        """Whether attempts have gone on for too long without success (KIP-1102)."""
        since_ms, trigger_ms = self._trying_since_ms, self._rebootstrap_trigger_ms
        return since_ms is not None and trigger_ms is not None and now_ms - since_ms > trigger_ms

    def demand_rebootstrap(self) -> None:
        """A broker said that it is not the one we mean (KIP-1102, KIP-1242)."""
        if self._rebootstrap_trigger_ms is not None:
            self._trying_since_ms = -self._rebootstrap_trigger_ms - 1
            self._is_needed = True
            self._allowed_at_ms = 0

    def rebootstrap(self, now_ms: int) -> None:
        """Forget the brokers, and with them all leaders (KIP-899). Topics stay: that no broker answers deletes none."""
        old = self.snapshot
        self.snapshot = ClusterMetadata(topics=old.topics, version=old.version + 1)
        self._is_needed = True
        self._unchanged = 0
        self._trying_since_ms = now_ms

    # What an answer changes

    def answered(self, asked: Asked, response: MetadataResponse, version: int, now_ms: int) -> bool:
        """Take an answer in. True when the snapshot is another one now."""
        if not response.brokers:
            # A broker that is just starting knows of nobody, not even of itself.
            self.failed(now_ms)
            return False
        self._succeeded(now_ms, is_full=asked.is_full)
        self._is_needed = self._is_needed and not asked.is_full
        self._new_topics -= asked.topics
        old = self.snapshot
        answered = {}
        for topic in response.topics:
            if topic.name:  # an id that no topic has comes back without one
                answered[topic.name] = self._topic(topic, version)
        if not asked.topics and not asked.is_full:
            for name in answered:
                self._interest.setdefault(name, now_ms)
        kept = {} if asked.is_full else {name: topic for name, topic in old.topics.items() if name not in answered}
        wanted = {name: topic for name, topic in answered.items() if self.all_topics or name in self._interest}
        new = ClusterMetadata(
            {
                broker.node_id: Node(broker.node_id, broker.host, broker.port, broker.rack)
                for broker in response.brokers
            },
            kept | wanted,
            response.cluster_id,
            response.controller_id,
            old.version + 1,
        )
        self._wanted_ids -= new.topic_names.keys()
        return self._take(new, now_ms)

    def _topic(self, topic: MetadataResponseTopic, version: int) -> TopicMetadata:
        name = topic.name or ""
        if topic.error_code:
            code = ERRORS.get(topic.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
            self._is_needed = self._is_needed or code.refreshes_metadata
            return TopicMetadata(name, topic.topic_id, (), code, topic.is_internal)
        known = self.snapshot.topics.get(name)
        if known is not None and known.id != topic.topic_id and ZERO_UUID not in (known.id, topic.topic_id):
            known = None  # made anew: its epochs start again
        partitions = []
        for found in sorted(topic.partitions, key=lambda one: one.partition_index):
            code = ERRORS.get(found.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
            self._is_needed = self._is_needed or code.refreshes_metadata
            new = PartitionMetadata(
                found.partition_index,
                found.leader_id,
                found.leader_epoch if version >= RELIABLE_EPOCHS else -1,
                tuple(found.replica_nodes),
                tuple(found.isr_nodes),
                tuple(found.offline_replicas),
            )
            old = known.partition(new.partition) if known is not None else None
            partitions.append(old if old is not None and -1 < new.leader_epoch < old.leader_epoch else new)
        return TopicMetadata(name, topic.topic_id, tuple(partitions), ErrorCode.NONE, topic.is_internal)

    def learn_leaders(self, leaders: Iterable[tuple[TopicPartition, int, int]], nodes: Iterable[Node]) -> bool:
        """Leaders as a refusal named them (KIP-951), where they are newer than ours. True when one was."""
        brokers = dict(self.snapshot.brokers)
        brokers.update((node.id, node) for node in nodes)
        topics = dict(self.snapshot.topics)
        changed = False
        for tp, leader, leader_epoch in leaders:
            topic = topics.get(tp.topic)
            partition = topic.partition(tp.partition) if topic is not None else None
            if topic is None or partition is None or leader not in brokers or leader_epoch <= partition.leader_epoch:
                continue
            newer = partition._replace(leader=leader, leader_epoch=leader_epoch)
            topics[tp.topic] = topic._replace(
                partitions=tuple(newer if one is partition else one for one in topic.partitions)
            )
            changed = True
        if changed:
            old = self.snapshot
            self.snapshot = ClusterMetadata(brokers, topics, old.cluster_id, old.controller_id, old.version + 1)
        return changed

    def note_leader_epoch(self, tp: TopicPartition, leader_epoch: int) -> bool:
        """A response carried this epoch of a partition. When it is newer, our leader is not the leader any more."""
        topic = self.snapshot.topics.get(tp.topic)
        partition = topic.partition(tp.partition) if topic is not None else None
        if topic is None or partition is None or not -1 < partition.leader_epoch < leader_epoch:
            return False
        newer = partition._replace(leader=-1, leader_epoch=leader_epoch)
        topics = dict(self.snapshot.topics)
        topics[tp.topic] = topic._replace(
            partitions=tuple(newer if one is partition else one for one in topic.partitions)
        )
        old = self.snapshot
        self.snapshot = ClusterMetadata(old.brokers, topics, old.cluster_id, old.controller_id, old.version + 1)
        self._is_needed = True
        return True

    def nodes_described(self, nodes: Iterable[Node], cluster_id: str | None, controller_id: int, now_ms: int) -> bool:
        """Take in what DescribeCluster says, when controllers are what we talk to (KIP-919)."""
        old = self.snapshot
        new = ClusterMetadata({node.id: node for node in nodes}, {}, cluster_id, controller_id, old.version + 1)
        if not new.brokers:
            self.failed(now_ms)
            return False
        self._succeeded(now_ms, is_full=True)
        self._is_needed = False
        self._new_topics.clear()
        return self._take(new, now_ms)

    def check_invariants(self) -> None:
        self.snapshot.check_invariants()
        assert self._new_topics <= self._interest.keys()
        assert self._wanted_ids.isdisjoint(self.snapshot.topic_names)

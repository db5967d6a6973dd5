"""When metadata is asked for, and what answers change, whatever their order."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ottla.client.model import Node, TopicPartition
from ottla.client.network.backoff import ExponentialBackoff
from ottla.client.network.metadata_state import MetadataState
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)

LATEST = 13
TOPICS = ("a", "b", "c")


def made(**options):
    backoff = ExponentialBackoff(100, 1000, Random(1))
    return MetadataState(backoff, options.pop("max_age_ms", 300_000), options.pop("max_idle_ms", None), **options)


def topic_id(name, life=0):
    return name.encode() * 15 + bytes((life + 1,))


def answer(*topics, brokers=(1, 2)):
    return MetadataResponse(
        brokers=[MetadataResponseBroker(node_id=one, host="h", port=one) for one in brokers],
        cluster_id="c",
        controller_id=1,
        topics=list(topics),
    )


def topic(name, *leaders, error=0, life=0):
    """`leaders` are (leader, epoch) of each partition."""
    return MetadataResponseTopic(
        error_code=error,
        name=name,
        topic_id=topic_id(name, life),
        partitions=[
            MetadataResponsePartition(
                partition_index=index,
                leader_id=leader,
                leader_epoch=epoch,
                replica_nodes=[1, 2],
                isr_nodes=[1, 2],
                offline_replicas=[],
            )
            for index, (leader, epoch) in enumerate(leaders)
        ],
    )


def asked_names(asked):
    return None if asked.request.topics is None else [one.name for one in asked.request.topics]


def test_first_request_is_at_once_and_the_next_when_it_is_old():
    state = made(max_age_ms=5000)
    assert state.next_update_in_ms(0) == 0
    asked = state.attempt(0)
    assert asked_names(asked) == []
    assert state.answered(asked, answer(), LATEST, 10)
    assert state.next_update_in_ms(10) == 5000
    assert state.next_update_in_ms(5010) == 0
    asked = state.attempt(5010)
    assert not state.answered(asked, answer(), LATEST, 5020), "nothing new"
    assert state.snapshot.version == 1


def test_failures_wait_longer_each_time():
    state = made()
    waits = []
    for _ in range(6):
        state.attempt(0)
        state.failed(0)
        waits.append(state.next_update_in_ms(0))
    assert waits[0] <= 120
    assert waits[0] < waits[1] < waits[2]
    assert waits[-1] >= 800
    state.answered(state.attempt(0), answer(brokers=()), LATEST, 0)
    assert state.failures == 7, "a broker that knows nobody has not answered"


def test_answers_that_change_nothing_wait_longer_each_time():
    state = made()
    state.answered(state.attempt(0), answer(), LATEST, 0)
    waits, now_ms = [], 0
    for _ in range(6):
        state.request_update()
        waits.append(state.next_update_in_ms(now_ms))
        now_ms += waits[-1]
        state.answered(state.attempt(now_ms), answer(), LATEST, now_ms)
    assert 80 <= waits[0] <= 120
    assert waits[-1] >= 800
    state.request_update(reset_backoff=True)
    state.answered(state.attempt(now_ms), answer(brokers=(1,)), LATEST, now_ms)
    state.request_update()
    assert state.next_update_in_ms(now_ms) <= 120


def test_new_topics_are_asked_for_at_once_and_alone():
    state = made()
    state.add_interest(["a"], 0)
    state.answered(state.attempt(0), answer(topic("a", (1, 0))), LATEST, 0)
    assert state.next_update_in_ms(1) > 1000
    assert state.add_interest(["a", "b"], 1)
    assert not state.add_interest(["b"], 1)
    assert state.next_update_in_ms(1) == 0
    asked = state.attempt(1)
    assert asked_names(asked) == ["b"]
    assert state.answered(asked, answer(topic("b", (2, 0))), LATEST, 2)
    assert set(state.snapshot.topics) == {"a", "b"}
    assert state.next_update_in_ms(2) > 1000


def test_errors_that_pass_are_asked_about_again():
    state = made()
    state.add_interest(["a"], 0)
    state.answered(state.attempt(0), answer(topic("a", error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)), LATEST, 0)
    assert state.snapshot.topics["a"].error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert 80 <= state.next_update_in_ms(0) <= 120
    asked = state.attempt(200)
    state.answered(asked, answer(topic("a", error=ErrorCode.TOPIC_AUTHORIZATION_FAILED)), LATEST, 200)
    assert state.next_update_in_ms(200) > 1000


def test_idle_topics_are_dropped_with_the_next_full_refresh():
    state = made(max_age_ms=1000, max_idle_ms=5000)
    state.add_interest(["a", "b"], 0)
    for now_ms in range(0, 8000, 1000):
        state.add_interest(["a"], now_ms)
        asked = state.attempt(now_ms)
        names = asked_names(asked)
        assert names == (["a", "b"] if now_ms < 5000 else ["a"])
        state.answered(asked, answer(*(topic(name, (1, 0)) for name in names)), LATEST, now_ms)
    assert set(state.snapshot.topics) == {"a"}


def test_epochs_of_old_brokers_are_not_believed():
    state = made()
    state.add_interest(["a"], 0)
    state.answered(state.attempt(0), answer(topic("a", (1, 7))), 8, 0)
    assert state.snapshot.leader(TopicPartition("a", 0)) == (1, -1)


def test_trying_for_too_long_and_starting_over():
    state = made(rebootstrap_trigger_ms=1000)
    state.add_interest(["a"], 0)
    state.answered(state.attempt(0), answer(topic("a", (1, 3))), LATEST, 0)
    state.request_update()
    state.attempt(100)
    state.failed(100)
    assert not state.should_rebootstrap(1100)
    assert state.should_rebootstrap(1101)
    state.rebootstrap(1101)
    assert not state.snapshot.brokers
    assert state.snapshot.leader(TopicPartition("a", 0)) is None
    assert not state.should_rebootstrap(1101)
    state.answered(state.attempt(2000), answer(topic("a", (2, 2))), LATEST, 2000)
    assert state.snapshot.leader(TopicPartition("a", 0)) == (1, 3), "the epoch does not go back, whoever answers"
    state.demand_rebootstrap()
    assert state.should_rebootstrap(2001)
    never = made()
    never.demand_rebootstrap()
    never.attempt(0)
    assert not never.should_rebootstrap(10**9)


def test_creation_of_topics_is_declined_where_it_is_not_wanted():
    asked = made(create_topics=False).attempt(0)
    assert not asked.request.allow_auto_topic_creation
    assert asked.min_version == 4


class AnyOrder(RuleBasedStateMachine):
    """Answers from brokers that are behind, ahead or confused; requests as they come."""

    @initialize(seed=st.integers(0, 9))
    def start(self, seed):
        self.state = MetadataState(ExponentialBackoff(100, 1000, Random(seed)), 5000, 9000, rebootstrap_trigger_ms=4000)
        self.now_ms = 0
        self.asked = None
        self.epochs = {}
        self.versions = [0]

    @rule(ms=st.integers(0, 3000))
    def wait(self, ms):
        self.now_ms += ms

    @rule(names=st.sets(st.sampled_from(TOPICS)), replace=st.booleans())
    def interest(self, names, replace):
        add = self.state.replace_interest if replace else self.state.add_interest
        if add(names, self.now_ms) and not self.state.failures:
            assert self.state.next_update_in_ms(self.now_ms) == 0

    @rule(wanted=st.booleans())
    def all_topics(self, wanted):
        self.state.set_all_topics(wanted)

    @rule(names=st.sets(st.sampled_from(TOPICS), min_size=1))
    def ids(self, names):
        self.state.want_ids([topic_id(name) for name in names])

    @rule()
    def update(self):
        self.state.request_update()

    @rule()
    def ask(self):
        if self.state.should_rebootstrap(self.now_ms):
            self.state.rebootstrap(self.now_ms)
        if self.state.next_update_in_ms(self.now_ms) == 0:
            self.asked = self.state.attempt(self.now_ms)

    @rule(brokers=st.sets(st.integers(1, 3)), data=st.data())
    def reply(self, brokers, data):
        if self.asked is None:
            return
        asked, self.asked = self.asked, None
        named = asked_names(asked)
        names = TOPICS if named is None else [name or data.draw(st.sampled_from(TOPICS)) for name in named]
        topics = []
        for name in dict.fromkeys(names):
            error = data.draw(st.sampled_from([0, 0, 0, 3, 5, 29]))
            leaders = data.draw(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 9)), max_size=3))
            topics.append(topic(name, *(leaders if not error else ()), error=error))
        self.state.answered(asked, answer(*topics, brokers=sorted(brokers)), LATEST, self.now_ms)

    @rule()
    def fail(self):
        if self.asked is not None:
            self.asked = None
            self.state.failed(self.now_ms)

    @rule(name=st.sampled_from(TOPICS), partition=st.integers(0, 2), leader=st.integers(1, 4), epoch=st.integers(0, 9))
    def learn(self, name, partition, leader, epoch):
        self.state.learn_leaders([(TopicPartition(name, partition), leader, epoch)], [Node(4, "h", 4)])

    @rule(name=st.sampled_from(TOPICS), epoch=st.integers(0, 9))
    def note(self, name, epoch):
        self.state.note_leader_epoch(TopicPartition(name, 0), epoch)

    @invariant()
    def nothing_goes_back(self):
        if not hasattr(self, "state"):
            return
        state = self.state
        state.check_invariants()
        assert state.snapshot.version >= self.versions[-1]
        self.versions.append(state.snapshot.version)
        seen = {
            (name, partition.partition): partition.leader_epoch
            for name, found in state.snapshot.topics.items()
            for partition in found.partitions
        }
        for key, epoch in seen.items():
            assert epoch >= self.epochs.get(key, -1)
        # What the snapshot does not hold any more may begin again.
        self.epochs = seen
        assert state.next_update_in_ms(self.now_ms) <= 5000 or state.all_topics is not None


AnyOrder.TestCase.settings = settings(derandomize=True, max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase

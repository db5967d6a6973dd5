"""Consumers that lose messages, crash, come back and change their minds, against what a consumer group promises.

A partition is never consumed by two members at once, as long as the coordinator counts both as members; and when the
trouble ends, everybody comes to what the target gives it, and every partition has one owner.
"""

from __future__ import annotations

from random import Random

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatResponse
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.settings import GroupSettings
from tests.server.coordinator.consumer_driver import ConsumerDriver

HEARTBEAT_MS = 5_000
TOPICS = ("a", "b", "ab")
REGEXES = ("a.*", ".*b", "[ab]+")
GONE = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.GROUP_ID_NOT_FOUND)


class Client:
    """A consumer as Kafka's own works: it says only what changed, and everything again after a failure."""

    def __init__(self, driver: ConsumerDriver, random: Random, index: int) -> None:
        self.driver = driver
        self.random = random
        self.instance = f"i{index}" if index % 3 == 0 else None
        self.incarnations = 0
        self.index = index
        self.topics: tuple[str, ...] | None = ("a",)
        self.regex: str | None = None
        self.choose_subscription()
        self.start()

    def start(self) -> None:
        """A new process."""
        self.incarnations += 1
        self.member_id = f"m{self.index}-{self.incarnations}"
        self.assignor = self.random.choice([None, None, "range", "uniform"])
        self.is_running = True
        self._dropped()

    def choose_subscription(self) -> None:
        if self.random.random() < 0.3:
            self.topics, self.regex = None, self.random.choice(REGEXES)
        else:
            count = self.random.randrange(1, len(TOPICS) + 1)
            self.topics, self.regex = tuple(self.random.sample(TOPICS, count)), None
        self.subscription_told = False

    def _dropped(self) -> None:
        self.epoch = 0
        self.consumed: set[tuple[str, int]] = set()
        self.wanted: set[tuple[str, int]] = set()
        self.tells_everything = True
        self.owned_told: set[tuple[str, int]] | None = None

    def beat(self, *, lose_request: bool = False, lose_response: bool = False, twice: bool = False) -> None:
        """One heartbeat; between two of them partitions that were taken away are given up."""
        if self.random.random() < 0.8:
            self.consumed &= self.wanted
        joins = self.epoch == 0
        everything = joins or self.tells_everything
        owned: dict[str, list[int]] = {}
        for topic, index in sorted(self.consumed):
            owned.setdefault(topic, []).append(index)
        told = set(self.consumed)
        subscribes = everything or not self.subscription_told
        arguments = {
            # A regular expression is taken back by an empty one.
            "topics": (self.topics or ()) if subscribes else None,
            "regex": (self.regex or "") if subscribes else None,
            "owned": owned if everything or told != self.owned_told else None,
            "instance": self.instance,
            "assignor": self.assignor if everything else None,
            "rebalance_ms": 30_000 if everything else None,
        }
        if lose_request:
            self.tells_everything = True
            return
        try:
            response = self.driver.heartbeat(self.member_id, self.epoch, **arguments)
            if twice and not lose_response:
                # The same bytes once more, after the answer.
                epoch = self.epoch
                self._answered(response)
                response = self.driver.heartbeat(self.member_id, epoch, **arguments)
        except ApiError as error:
            self._refused(error.code)
            return
        if lose_response:
            self.tells_everything = True
            return
        self.subscription_told, self.tells_everything, self.owned_told = True, False, told
        self._answered(response)

    def _refused(self, code: ErrorCode) -> None:
        if code in (ErrorCode.UNRELEASED_INSTANCE_ID, ErrorCode.NOT_ENOUGH_REPLICAS):
            self.tells_everything = True
            return
        if code is ErrorCode.FENCED_INSTANCE_ID:
            self.crash()
            return
        assert code in GONE, code
        self._dropped()

    def _answered(self, response: ConsumerGroupHeartbeatResponse) -> None:
        self.epoch = response.member_epoch
        assigned = self.driver.assigned(response)
        if assigned is not None:
            self.wanted = {(topic, index) for topic, indexes in assigned.items() for index in indexes}
            self.consumed |= self.wanted

    def leave(self) -> None:
        epoch = -2 if self.instance is not None and self.random.random() < 0.7 else -1
        if self.epoch > 0:
            self.consumed.clear()
            code = self.driver.code_of(self.member_id, epoch, instance=self.instance)
            assert code in (ErrorCode.NONE, ErrorCode.FENCED_INSTANCE_ID, *GONE), code
        self.is_running = False

    def crash(self) -> None:
        """It goes without a word: what it consumed it does not consume any more."""
        self.consumed.clear()
        self.is_running = False


class World:
    """Random trouble from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        interval_ms = self.random.choice([0, 1_000])
        self.driver = ConsumerDriver(GroupSettings(consumer_max_size=100))
        configs = dict(self.driver.shard.context.config_of("g"))
        configs["consumer.assignment.interval.ms"] = interval_ms
        self.configs = configs
        self._configure()
        self.driver.put_topic("a", 3)
        self.driver.put_topic("b", 5)
        self.clients = [Client(self.driver, self.random, index) for index in range(6)]

    def _configure(self) -> None:
        context = self.driver.shard.context
        context._configs = lambda image, group_id: self.configs
        context._known_configs.clear()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            self.check()
        self.settle()

    def step(self) -> None:
        random = self.random
        client = random.choice(self.clients)
        dice = random.random()
        if not client.is_running:
            if dice < 0.4:
                client.start()
        elif dice < 0.65:
            client.beat(
                lose_request=random.random() < 0.1,
                lose_response=random.random() < 0.15,
                twice=random.random() < 0.1,
            )
        elif dice < 0.70:
            client.choose_subscription()
        elif dice < 0.73:
            client.leave()
        elif dice < 0.76:
            client.crash()
        elif dice < 0.78:
            self.driver.restart()
            self._configure()
        elif dice < 0.80:
            self.driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
            client.beat()
            self.driver.refuse_next = None
        elif dice < 0.83:
            self._change_topics()
        elif dice < 0.98:
            self.driver.advance(random.choice([10, 500, 2_000, HEARTBEAT_MS]))
        else:
            self.driver.advance(random.choice([31_000, 46_000]))

    def _change_topics(self) -> None:
        name = self.random.choice(TOPICS)
        topic = self.driver.image.topics.by_name.get(name)
        if topic is None:
            self.driver.put_topic(name, self.random.randrange(1, 5))
        elif self.random.random() < 0.4:
            self.driver.delete_topic(name)
            for client in self.clients:
                # Its metadata does not know the topic any more.
                client.consumed = {item for item in client.consumed if item[0] != name}
                client.wanted = {item for item in client.wanted if item[0] != name}
        else:
            self.driver.put_topic(name, len(topic.partitions) + self.random.randrange(1, 3))

    def check(self) -> None:
        """Nobody consumes what it does not have, and so no two consume the same."""
        group = self.driver.shard.groups.get("g")
        if not isinstance(group, ConsumerGroup):
            return
        names = self.driver.image.topics.name_of
        consumed_by: dict[tuple[str, int], str] = {}
        for client in self.clients:
            member = group.members.get(client.member_id)
            if member is None or client.epoch not in (member.member_epoch, member.previous_member_epoch):
                continue
            has = {
                (names(topic_id), index)
                for partitions in (member.assigned, member.pending_revocation)
                for topic_id, epochs in partitions.items()
                for index in epochs
            }
            assert client.consumed <= has, (client.member_id, client.consumed, has)
            for item in client.consumed:
                assert consumed_by.setdefault(item, client.member_id) == client.member_id

    def settle(self) -> None:
        """Without trouble everybody arrives."""
        for client in self.clients:
            if not client.is_running:
                client.start()
        for _ in range(25):
            for client in self.clients:
                if not client.is_running:
                    client.start()
                client.beat()
                client.consumed &= client.wanted
                self.check()
            self.driver.advance(HEARTBEAT_MS)
        group = self.driver.group()
        assert group.state_name == "Stable"
        topics = self.driver.image.topics
        subscribed: set[tuple[str, int]] = set()
        for client in self.clients:
            member = group.members[client.member_id]
            mine = group.subscribed_topics(member) & topics.by_name.keys()
            subscribed |= {(name, index) for name in mine for index in topics.by_name[name].partitions}
            target = {
                (topics.by_id[topic_id].name, index)
                for topic_id, indexes in group.target_of(client.member_id).items()
                for index in indexes
            }
            assert client.consumed == target
            assert {name for name, _ in target} <= mine
        consumed = [item for client in self.clients for item in client.consumed]
        assert sorted(consumed) == sorted(subscribed)


@pytest.mark.parametrize("seed", range(16))
def test_a_partition_has_one_owner_and_everybody_arrives(seed: int) -> None:
    World(seed).run(300)

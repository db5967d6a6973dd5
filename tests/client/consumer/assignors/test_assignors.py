"""What each assignor promises, in groups drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from ottla.client.consumer.assignors import resolve
from ottla.client.consumer.assignors.assignor import Assignments, Assignor, MemberSubscription, Topics
from ottla.client.consumer.assignors.sticky import CooperativeStickyAssignor, StickyAssignor
from ottla.client.errors import ConfigError
from ottla.core.ids import TopicPartition

NAMES = ("range", "roundrobin", "sticky", "cooperative-sticky")
NOWHERE: frozenset[str] = frozenset()


def topics_of(**counts: int) -> Topics:
    return {topic: [NOWHERE] * count for topic, count in counts.items()}


def owners(assignments: Mapping[str, list[TopicPartition]]) -> dict[TopicPartition, str]:
    found: dict[TopicPartition, str] = {}
    for member_id, places in assignments.items():
        for place in places:
            assert place not in found
            found[place] = member_id
    return found


class World:
    """A group whose members come, go and change their minds; who owns what is known exactly."""

    def __init__(self, assignor: Assignor, random: Random) -> None:
        self.assignor = assignor
        self.random = random
        self.counts = {f"t{index}": random.randint(1, 8) for index in range(random.randint(1, 4))}
        self.wanted: dict[str, tuple[str, ...]] = {}
        self.owned: dict[str, frozenset[TopicPartition]] = {}
        self.generation = 1
        self.numbers = 0
        self.alike = random.random() < 0.5

    def change(self) -> None:
        kind = self.random.random()
        if not self.wanted or kind < 0.4:
            self.numbers += 1
            names = list(self.counts)
            chosen = names if self.alike else self.random.sample(names, self.random.randint(1, len(names)))
            self.wanted[f"m{self.numbers}"] = tuple(chosen)
            self.owned[f"m{self.numbers}"] = frozenset()
        elif kind < 0.7 and len(self.wanted) > 1:
            gone = self.random.choice(list(self.wanted))
            del self.wanted[gone], self.owned[gone]
        else:
            self.counts[self.random.choice(list(self.counts))] += 1

    def round(self) -> Assignments:
        cooperative = self.assignor.is_cooperative
        members = {
            member_id: MemberSubscription(
                topics=wanted,
                user_data=self.assignor.user_data(self.owned[member_id], self.generation),
                owned=tuple(self.owned[member_id]) if cooperative else (),
                generation=self.generation,
            )
            for member_id, wanted in self.wanted.items()
        }
        return self.assignor.assign({topic: [NOWHERE] * count for topic, count in self.counts.items()}, members)

    @property
    def everything(self) -> set[TopicPartition]:
        wanted = set().union(*self.wanted.values())
        return {
            TopicPartition(topic, index)
            for topic, count in self.counts.items()
            if topic in wanted
            for index in range(count)
        }


@pytest.mark.parametrize("name", NAMES)
def test_every_partition_gets_one_owner_that_wants_it(name: str) -> None:
    for seed in range(60):
        world = World(resolve([name])[0], Random(seed))
        for _ in range(8):
            world.change()
            for _ in range(3):
                given = world.round()
                for place, owner in owners(given).items():
                    assert place.topic in world.wanted[owner]
                    # Nobody is given what another one still has.
                    if world.assignor.is_cooperative:
                        assert all(place not in owned for other, owned in world.owned.items() if other != owner)
                world.generation += 1
                world.owned = {member_id: frozenset(places) for member_id, places in given.items()}
                if owners(given).keys() == world.everything:
                    break
            else:
                raise AssertionError("partitions are left over")


@pytest.mark.parametrize("name", ["sticky", "cooperative-sticky"])
def test_sticky_ones_keep_what_they_can_and_are_even(name: str) -> None:
    for seed in range(60):
        world = World(resolve([name])[0], Random(seed))
        world.alike = True
        for _ in range(8):
            world.change()
            before = world.owned
            for _ in range(2):
                given = world.round()
                world.generation += 1
                world.owned = {member_id: frozenset(places) for member_id, places in given.items()}
            loads = sorted(map(len, world.owned.values()))
            assert loads[-1] - loads[0] <= 1
            quota = len(world.everything) // len(world.wanted)
            for member_id, places in world.owned.items():
                if len(before[member_id]) <= quota:
                    assert places >= before[member_id]


def test_newer_generation_owns_and_a_tie_loses_both() -> None:
    place = TopicPartition("t", 0)
    assignor = CooperativeStickyAssignor()

    def subscription(generation: int, *owned: TopicPartition) -> MemberSubscription:
        return MemberSubscription(("t",), assignor.user_data(owned, generation), owned, generation)

    given = assignor.assign(topics_of(t=1), {"a": subscription(4, place), "b": subscription(5, place)})
    assert given == {"a": [], "b": [place]}
    # Both say to have it: first both have to let it go.
    given = assignor.assign(topics_of(t=1), {"a": subscription(5, place), "b": subscription(5, place)})
    assert given == {"a": [], "b": []}
    eager = StickyAssignor()
    members = {
        name: MemberSubscription(("t",), eager.user_data(places, generation))
        for name, places, generation in (("a", [place], 3), ("b", [place], 4), ("c", [], 4))
    }
    assert eager.assign(topics_of(t=1), members) == {"a": [], "b": [place], "c": []}


def test_generation_of_old_cooperative_members_is_in_their_user_data() -> None:
    assignor = CooperativeStickyAssignor()
    place = TopicPartition("t", 0)
    members = {
        "old": MemberSubscription(("t",), assignor.user_data(None, 7), (place,)),
        "new": MemberSubscription(("t",), None, (place,), generation=6),
    }
    assert assignor.assign(topics_of(t=1), members) == {"old": [place], "new": []}


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x00\x00\x01", b"\x00\x00\x00\x01\x00\x01\xff\x00\x00\x00\x00", None])
def test_user_data_that_cannot_be_read_counts_as_nothing(data: bytes | None) -> None:
    members = {"a": MemberSubscription(("t",), data), "b": MemberSubscription(("t",), data)}
    assert owners(StickyAssignor().assign(topics_of(t=2), members)).keys() == {
        TopicPartition("t", 0),
        TopicPartition("t", 1),
    }
    assert owners(CooperativeStickyAssignor().assign(topics_of(t=2), members))


def test_user_data_without_a_generation_is_read() -> None:
    data = b"\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\x00\x00\x00\x01"
    members = {"a": MemberSubscription(("t",)), "b": MemberSubscription(("t",), data)}
    assert StickyAssignor().assign(topics_of(t=2), members)["b"] == [TopicPartition("t", 1)]


def test_assignors_are_found_by_name_java_class_and_instance() -> None:
    class Everything(Assignor):
        name = "everything"

        def assign(self, topics: Topics, members: Mapping[str, MemberSubscription]) -> Assignments:
            return {member_id: [] for member_id in members}

    custom = Everything()
    found = resolve(["org.apache.kafka.clients.consumer.RangeAssignor", "cooperative-sticky", custom, StickyAssignor])
    assert [assignor.name for assignor in found] == ["range", "cooperative-sticky", "everything", "sticky"]
    assert custom.user_data(None, 1) is None
    for wrong in (["nearest"], [], ["range", "range"], [object()]):
        with pytest.raises(ConfigError, match="assignment"):
            resolve(wrong)

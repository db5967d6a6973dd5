"""Even first, and then as few moves as possible; the algorithm is `ottla.assignors.even`.

`sticky` members give everything up while they rebalance, and tell in their user data what they had. Members of
`cooperative-sticky` keep what they have: a partition that moves is left out of this round's assignment, its owner gives
it up and joins again, and the next round hands it over. Both speak Java's formats of user data.

Who says to own what is believed by generation: the member that got a partition later has it; two of the same generation
have lost it both. Racks are not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from ottla.assignors import even
from ottla.client.consumer.assignors.assignor import Assignments, Assignor, MemberSubscription, Topics
from ottla.core.ids import TopicPartition

_INT16, _INT32 = struct.Struct(">h"), struct.Struct(">i")
_Claims = Mapping[str, tuple[Iterable[TopicPartition], int]]  # what members say to own, and since which generation


class StickyAssignor(Assignor):
    """Eager; user data is the previous assignment and its generation (version 1; version 0 has no generation)."""

    name = "sticky"

    def user_data(self, owned: Iterable[TopicPartition] | None, generation: int) -> bytes | None:
        if owned is None:
            return None
        by_topic: dict[str, list[int]] = {}
        for topic, partition in sorted(owned):
            by_topic.setdefault(topic, []).append(partition)
        parts = [_INT32.pack(len(by_topic))]
        for topic, partitions in by_topic.items():
            name = topic.encode()
            parts += [
                _INT16.pack(len(name)),
                name,
                struct.pack(f">{len(partitions) + 1}i", len(partitions), *partitions),
            ]
        return b"".join((*parts, _INT32.pack(generation)))

    def assign(self, topics: Topics, members: Mapping[str, MemberSubscription]) -> Assignments:
        claims = {member_id: _previous(member.user_data) for member_id, member in members.items()}
        return _assign(topics, members, claims)


class CooperativeStickyAssignor(Assignor):
    """Cooperative (KIP-429); user data is the generation, for members whose subscription does not carry it yet."""

    name = "cooperative-sticky"
    is_cooperative = True

    def user_data(self, owned: Iterable[TopicPartition] | None, generation: int) -> bytes | None:
        return _INT32.pack(generation)

    def assign(self, topics: Topics, members: Mapping[str, MemberSubscription]) -> Assignments:
        claims: _Claims = {member_id: (member.owned, _generation(member)) for member_id, member in members.items()}
        assignments = _assign(topics, members, claims)
        claimed: dict[TopicPartition, list[tuple[int, str]]] = {}
        for member_id, (owned, generation) in claims.items():
            for partition in owned:
                claimed.setdefault(partition, []).append((generation, member_id))
        for member_id, assigned in assignments.items():
            # Another member that may still consume it has to let go first.
            assigned[:] = [partition for partition in assigned if _may_take(member_id, claimed.get(partition, ()))]
        return assignments


def _may_take(member_id: str, claims: Iterable[tuple[int, str]]) -> bool:
    others = [generation for generation, claimant in claims if claimant != member_id]
    own = [generation for generation, claimant in claims if claimant == member_id]
    return not others or (bool(own) and own[0] > max(others))


def _assign(topics: Topics, members: Mapping[str, MemberSubscription], claims: _Claims) -> Assignments:
    wanted = {member_id: frozenset(member.topics) & topics.keys() for member_id, member in members.items()}
    owners: dict[TopicPartition, tuple[int, str | None]] = {}
    for member_id in sorted(claims):
        owned, generation = claims[member_id]
        for place in owned:
            latest, owner = owners.get(place, (generation - 1, None))
            if generation > latest:
                owners[place] = (generation, member_id)
            elif generation == latest and owner != member_id:
                owners[place] = (generation, None)
    had: dict[str, dict[str, tuple[int, ...]]] = {member_id: {} for member_id in members}
    for (topic, partition), (_, owner) in sorted(owners.items(), key=lambda item: item[0]):
        if owner is not None and topic in wanted[owner]:
            had[owner][topic] = (*had[owner].get(topic, ()), partition)
    counts = {topic: len(partitions) for topic, partitions in topics.items()}
    given = even.assign(wanted, had, counts)
    return {
        member_id: [TopicPartition(topic, index) for topic, indexes in sorted(partitions.items()) for index in indexes]
        for member_id, partitions in given.items()
    }


def _generation(member: MemberSubscription) -> int:
    if member.generation >= 0 or member.user_data is None or len(member.user_data) < 4:
        return member.generation
    generation: int = _INT32.unpack_from(member.user_data)[0]
    return generation


def _previous(user_data: bytes | None) -> tuple[list[TopicPartition], int]:
    """The user data of a `sticky` member; what cannot be read counts as nothing."""
    places: list[TopicPartition] = []
    if not user_data:
        return places, -1
    try:
        (topics,) = _INT32.unpack_from(user_data)
        position = 4
        for _ in range(topics):
            (length,) = _INT16.unpack_from(user_data, position)
            topic = bytes(user_data[position + 2 : position + 2 + length]).decode()
            position += 2 + length
            (count,) = _INT32.unpack_from(user_data, position)
            indexes = struct.unpack_from(f">{count}i", user_data, position + 4)
            position += 4 + 4 * count
            places += [TopicPartition(topic, index) for index in indexes]
        generation = _INT32.unpack_from(user_data, position)[0] if len(user_data) >= position + 4 else -1
    except (struct.error, UnicodeDecodeError):
        return [], -1
    return places, generation

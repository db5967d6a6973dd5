"""All partitions of all topics, one after the other, to the members in turn (as Java's RoundRobinAssignor)."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.client.consumer.assignors.assignor import Assignments, Assignor, MemberSubscription, Topics, in_order
from ottla.core.ids import TopicPartition


class RoundRobinAssignor(Assignor):
    """Even over all topics when all members subscribe to the same; whoever does not want a topic is passed over."""

    name = "roundrobin"

    def assign(self, topics: Topics, members: Mapping[str, MemberSubscription]) -> Assignments:
        assignments: Assignments = {member_id: [] for member_id in members}
        wanted = {member_id: frozenset(member.topics) for member_id, member in members.items()}
        line = in_order(members)
        turn = 0
        for topic in sorted(frozenset().union(*wanted.values()) & topics.keys()):
            for partition in range(len(topics[topic])):
                while topic not in wanted[line[turn]]:
                    turn = (turn + 1) % len(line)
                assignments[line[turn]].append(TopicPartition(topic, partition))
                turn = (turn + 1) % len(line)
        return assignments

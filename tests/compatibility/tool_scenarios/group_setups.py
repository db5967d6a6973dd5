"""Groups that the scenarios of several tools begin with."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.compatibility.tool_scenarios import Place

GROUPS = ("tools-g1", "tools-g2", "tools-another-one", "tools-x")
_open: list[Callable[[], Any]] = []
"""How to end clients that are in their groups while a tool runs: it has to see members."""


def close_members() -> None:
    """End the clients that are in groups."""
    while _open:
        with suppress(Exception):
            _open.pop()()


def topics(place: Place) -> None:
    """Three topics with records of which each has its own, fixed time."""
    import ottla
    from ottla.admin import NewTopic

    forever = {"retention.ms": "-1"}
    place.admin.create_topics(
        NewTopic(name, count, configs=forever) for name, count in (("tools-a", 3), ("tools-b", 1), ("tools-empty", 2))
    )
    with ottla.Producer(place.bootstrap, acks="all") as producer:
        for number in range(12):
            producer.send("tools-a", b"v%d" % number, partition=number % 3, timestamp_ms=1_700_000_000_000 + number)
        for number in range(5):
            producer.send("tools-b", b"v%d" % number, partition=0, timestamp_ms=1_700_000_000_000 + number)


def committed(place: Place) -> None:
    """Groups that nobody is in, with committed offsets."""
    from ottla import OffsetAndMetadata, TopicPartition

    topics(place)
    for number, group in enumerate(GROUPS):
        offsets = {
            TopicPartition("tools-a", 0): OffsetAndMetadata(number),
            TopicPartition("tools-a", 1): OffsetAndMetadata(2, "m", 0),
        }
        if number % 2:
            offsets[TopicPartition("tools-b", 0)] = OffsetAndMetadata(5)
        place.admin.alter_consumer_group_offsets(group, offsets)


def consumer(place: Place, group: str, *topics: str, **settings: Any) -> Any:
    """A consumer in a group, which stays until `close_members`."""
    import ottla

    member = ottla.Consumer(
        place.bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, **settings
    )
    member.subscribe(list(topics))
    _open.append(lambda: place.admin.remove_members_from_consumer_group(group))  # a static one does not leave itself
    _open.append(member.close)
    deadline = time.monotonic() + 20
    while not member.assignment and time.monotonic() < deadline:
        member.poll(timeout_s=0.1)
    member.commit()
    return member


def share_consumer(place: Place, group: str, topic: str) -> Any:
    """A share consumer in a group, which stays until `close_members`."""
    import ottla

    member = ottla.ShareConsumer(place.bootstrap, group_id=group, topics=topic, client_id="tools-share")
    _open.append(member.close)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        member.poll(timeout_s=0.2)
        described = place.admin.describe_share_groups(group)[group]
        if described.state.value == "Stable" and described.members and described.members[0].assignment:
            break
    return member


def streams_member(place: Place, group: str, topic: str) -> None:
    """A member of a streams group, as long as the session lasts without heartbeats or until `close_members`."""
    portal = place.admin._portal
    portal.run(_join_streams_group(place.admin._admin, group, topic))
    _open.append(lambda: portal.run(_leave_streams_group(place.admin._admin, group)))


MEMBER = "tools-member-0000000001"


async def _join_streams_group(admin: Any, group: str, topic: str) -> None:
    import asyncio

    from ottla.protocol.messages import streams_group_heartbeat as messages

    changelog = messages.TopicInfo(name=f"{group}-counts-changelog", replication_factor=1)
    topology = messages.Topology(
        epoch=1,
        subtopologies=[
            messages.Subtopology(subtopology_id="0", source_topics=[topic], state_changelog_topics=[changelog])
        ],
    )
    epoch = 0
    owned: Any = []
    for _ in range(150):
        request = messages.StreamsGroupHeartbeatRequest(
            group_id=group,
            member_id=MEMBER,
            member_epoch=epoch,
            rebalance_timeout_ms=60_000 if epoch == 0 else -1,
            topology=topology if epoch == 0 else None,
            active_tasks=owned,
            standby_tasks=[],
            warmup_tasks=[],
            process_id="tools-process" if epoch == 0 else None,
            client_tags=[] if epoch == 0 else None,
        )
        coordinator = await admin._cluster.coordinator(0, group, 10_000)
        response = await admin._cluster.request(coordinator, request)
        if response.error_code:
            await asyncio.sleep(0.1)
            continue
        epoch = response.member_epoch
        if response.active_tasks is not None:
            owned = response.active_tasks
        if owned and epoch > 1:
            described = await admin.describe_streams_groups(group)
            if described[group].state.value == "Stable":
                return
        await asyncio.sleep(0.1)
    raise TimeoutError("the streams group did not become stable")


async def _leave_streams_group(admin: Any, group: str) -> None:
    from ottla.protocol.messages.streams_group_heartbeat import StreamsGroupHeartbeatRequest

    coordinator = await admin._cluster.coordinator(0, group, 10_000)
    await admin._cluster.request(
        coordinator, StreamsGroupHeartbeatRequest(group_id=group, member_id=MEMBER, member_epoch=-1)
    )

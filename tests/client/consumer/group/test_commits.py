"""Commits and committed offsets, against a coordinator that says what the test wants."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from ottla.client.consumer.group.commits import GroupOffsets
from ottla.client.errors import (
    AuthorizationError,
    CommitFailedError,
    ConnectionFailedError,
    KafkaError,
    KafkaTimeoutError,
    UnsupportedVersionError,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, TopicPartition
from ottla.client.network.backoff import ExponentialBackoff
from ottla.client.network.metadata import ClusterMetadata, PartitionMetadata, TopicMetadata
from ottla.client.settings import ConsumerSettings
from ottla.core.errors import ErrorCode
from ottla.protocol.message import Request
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from ottla.testing.sim.loop import VirtualTimeLoop

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
ID = b"t" * 16
Answer = Callable[[Any], Any]


class FakeCluster:
    """One coordinator; each request takes the next of `answers`: an error to raise, or what makes the response."""

    def __init__(self, loop: VirtualTimeLoop, *answers: Answer | KafkaError, knows_topic: bool = True) -> None:
        self.settings = ConsumerSettings.of("b:1", None, {"group_id": "g"})
        topic = TopicMetadata("t", ID, tuple(PartitionMetadata(index, 1, 0) for index in range(2)))
        self.metadata = ClusterMetadata(topics={"t": topic} if knows_topic else {})
        self.backoff = ExponentialBackoff(100, 1000, Random(1))
        self.answers = deque(answers)
        self.requests: list[Any] = []
        self.limits: list[dict[str, Any]] = []
        self.forgotten = 0
        self._loop = loop

    def now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    async def coordinator(self, key_type: int, key: str, timeout_ms: int) -> int:
        assert (key_type, key) == (0, "g")
        return 7

    def forget_coordinator(self, key_type: int, key: str) -> None:
        self.forgotten += 1

    def request_metadata_update(self) -> None:
        pass

    async def request(self, node_id: int, request: Request, **limits: Any) -> Any:
        self.requests.append(request)
        self.limits.append({name: value for name, value in limits.items() if value is not None})
        await asyncio.sleep(0.01)
        answer = self.answers.popleft()
        if isinstance(answer, KafkaError):
            raise answer
        return answer(request)


class Member:
    """Who commits."""

    def __init__(self, epoch: int = 5, *, modern: bool = False, outside: bool = False) -> None:
        self.epoch = epoch
        self.modern = modern
        self.outside = outside
        self.held: dict[TopicPartition, int] = {A: 1, B: 1}
        self.refused: list[tuple[ErrorCode, int]] = []

    def identity(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata("g") if self.outside else ConsumerGroupMetadata("g", self.epoch, "me", "i")

    def holding(self, partition: TopicPartition) -> int | None:
        return self.held.get(partition)

    def commit_refused(self, code: ErrorCode, epoch: int) -> None:
        self.refused.append((code, epoch))

    def is_modern(self) -> bool:
        return self.modern


def committing(*codes: ErrorCode, then: Callable[[], None] | None = None) -> Answer:
    """Each partition of the request gets one of the codes; by id, as the newest version answers."""

    def answer(request: OffsetCommitRequest) -> OffsetCommitResponse:
        if then is not None:
            then()
        partitions = [
            OffsetCommitResponsePartition(partition_index=one.partition_index, error_code=code)
            for one, code in zip(request.topics[0].partitions, codes, strict=True)
        ]
        return OffsetCommitResponse(topics=[OffsetCommitResponseTopic(topic_id=ID, partitions=partitions)])

    return answer


def fetching(code: ErrorCode = ErrorCode.NONE, *offsets: int, partition_code: ErrorCode = ErrorCode.NONE) -> Answer:
    def answer(request: OffsetFetchRequest) -> OffsetFetchResponse:
        topics = [
            OffsetFetchResponseTopics(
                topic_id=ID,
                partitions=[
                    OffsetFetchResponsePartitions(
                        partition_index=index,
                        committed_offset=offset,
                        committed_leader_epoch=offset if offset > 0 else -1,
                        metadata="",
                        error_code=partition_code,
                    )
                    for index, offset in enumerate(offsets)
                ],
            )
        ]
        return OffsetFetchResponse(groups=[OffsetFetchResponseGroup(group_id="g", topics=topics, error_code=code)])

    return answer


def run(work: Callable[[VirtualTimeLoop], Coroutine[Any, Any, Any]]) -> Any:
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.close()


def commit(member: Member, *answers: Answer | KafkaError, **offsets: Any) -> FakeCluster:
    async def work(loop: VirtualTimeLoop) -> FakeCluster:
        cluster = FakeCluster(loop, *answers)
        what = {A: OffsetAndMetadata(10, "note", 3), B: OffsetAndMetadata(20)}
        await GroupOffsets(cluster, "g", member).commit(what, 5_000)  # type: ignore[arg-type]
        return cluster

    found: FakeCluster = run(work)
    return found


def fetch(member: Member, *answers: Answer | KafkaError) -> tuple[dict[TopicPartition, Any], FakeCluster]:
    async def work(loop: VirtualTimeLoop) -> tuple[dict[TopicPartition, Any], FakeCluster]:
        cluster = FakeCluster(loop, *answers)
        return await GroupOffsets(cluster, "g", member).fetch([A, B], 5_000), cluster  # type: ignore[arg-type]

    found: tuple[dict[TopicPartition, Any], FakeCluster] = run(work)
    return found


OK, OK2 = ErrorCode.NONE, (ErrorCode.NONE, ErrorCode.NONE)


def test_commit_names_the_member_and_the_topics_both_ways() -> None:
    cluster = commit(Member(), committing(*OK2))
    (request,) = cluster.requests
    assert (request.generation_id_or_member_epoch, request.member_id, request.group_instance_id) == (5, "me", "i")
    (topic,) = request.topics
    assert (topic.name, topic.topic_id) == ("t", ID)
    assert [(one.committed_offset, one.committed_metadata, one.committed_leader_epoch) for one in topic.partitions] == [
        (10, "note", 3),
        (20, "", -1),
    ]


def test_topics_without_an_id_go_by_name() -> None:
    async def work(loop: VirtualTimeLoop) -> None:
        def answer(request: OffsetCommitRequest) -> OffsetCommitResponse:
            partitions = [OffsetCommitResponsePartition(partition_index=0, error_code=0)]
            return OffsetCommitResponse(topics=[OffsetCommitResponseTopic(name="t", partitions=partitions)])

        cluster = FakeCluster(loop, answer, knows_topic=False)
        await GroupOffsets(cluster, "g", Member()).commit({A: OffsetAndMetadata(1)}, 5_000)  # type: ignore[arg-type]
        assert cluster.limits[0]["max_version"] == 9

    run(work)


@pytest.mark.parametrize(
    ("code", "forgets"),
    [
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, 0),
        (ErrorCode.NOT_COORDINATOR, 1),
        (ErrorCode.COORDINATOR_NOT_AVAILABLE, 1),
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0),
        (ErrorCode.REQUEST_TIMED_OUT, 0),
    ],
)
def test_only_what_was_refused_is_sent_again(code: ErrorCode, forgets: int) -> None:
    cluster = commit(Member(), committing(OK, code), committing(OK))
    assert [one.partition_index for one in cluster.requests[1].topics[0].partitions] == [1]
    assert cluster.forgotten == forgets


def test_broken_connections_are_tried_again_until_time_is_up() -> None:
    cut = ConnectionFailedError("cut")
    assert commit(Member(), cut, cut, committing(*OK2)).forgotten == 2
    with pytest.raises(KafkaTimeoutError, match="cut"):
        commit(Member(), *[cut] * 100)


@pytest.mark.parametrize(
    "code", [ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.ILLEGAL_GENERATION]
)
def test_commit_that_met_a_rebalance_is_sent_again_in_the_new_epoch(code: ErrorCode) -> None:
    member = Member()

    def moves_on() -> None:
        member.epoch = 6

    cluster = commit(member, committing(code, code, then=moves_on), committing(*OK2))
    assert cluster.requests[1].generation_id_or_member_epoch == 6


def test_commit_for_partitions_that_were_away_meanwhile_fails_and_the_others_are_committed() -> None:
    member = Member()

    def moves_on() -> None:
        member.epoch, member.held = 6, {A: 2, B: 1}

    code = ErrorCode.REBALANCE_IN_PROGRESS
    committed: list[int] = []

    def second(request: OffsetCommitRequest) -> OffsetCommitResponse:
        committed.extend(one.partition_index for one in request.topics[0].partitions)
        response: OffsetCommitResponse = committing(OK)(request)
        return response

    with pytest.raises(CommitFailedError, match=r"gone on without.*t-0"):
        commit(member, committing(code, code, then=moves_on), second)
    assert committed == [1]


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION])
def test_commit_of_somebody_who_is_out_fails_and_the_member_hears_of_it(code: ErrorCode) -> None:
    member = Member()
    with pytest.raises(CommitFailedError) as failure:
        commit(member, committing(code, code))
    assert failure.value.code is code
    assert member.refused == [(code, 5)]


def test_commit_from_outside_fails_while_the_group_has_members() -> None:
    member = Member(outside=True)
    with pytest.raises(CommitFailedError, match="has members"):
        commit(member, committing(ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.UNKNOWN_MEMBER_ID))
    assert not member.refused


def test_what_is_not_allowed_is_told() -> None:
    with pytest.raises(AuthorizationError):
        commit(Member(), committing(OK, ErrorCode.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaError, match="t-0"):
        commit(Member(), committing(ErrorCode.OFFSET_METADATA_TOO_LARGE, OK))


def test_nothing_to_commit_asks_nobody() -> None:
    async def work(loop: VirtualTimeLoop) -> None:
        cluster = FakeCluster(loop)
        await GroupOffsets(cluster, "g", Member()).commit({}, 5_000)  # type: ignore[arg-type]
        assert await GroupOffsets(cluster, "g", Member()).fetch([], 5_000) == {}  # type: ignore[arg-type]
        assert not cluster.requests

    run(work)


def test_committed_offsets_are_stable_ones() -> None:
    found, cluster = fetch(Member(), fetching(OK, 7, -1))
    assert found == {A: OffsetAndMetadata(7, "", 7), B: None}
    (request,) = cluster.requests
    assert request.require_stable
    assert (request.groups[0].member_id, request.groups[0].member_epoch) == (None, -1)
    _, cluster = fetch(Member(modern=True), fetching(OK, 7, -1))
    assert (cluster.requests[0].groups[0].member_id, cluster.requests[0].groups[0].member_epoch) == ("me", 5)


def test_transactions_that_are_not_decided_are_waited_for() -> None:
    unstable = fetching(OK, 7, 8, partition_code=ErrorCode.UNSTABLE_OFFSET_COMMIT)
    found, cluster = fetch(Member(), unstable, unstable, fetching(OK, 9, 8))
    assert found[A] == OffsetAndMetadata(9, "", 9)
    assert len(cluster.requests) == 3


def test_stale_epoch_asks_again_and_a_stranger_asks_as_nobody() -> None:
    found, _ = fetch(Member(modern=True), fetching(ErrorCode.STALE_MEMBER_EPOCH), fetching(OK, 1, 2))
    assert found[B] == OffsetAndMetadata(2, "", 2)
    member = Member(modern=True)
    found, cluster = fetch(member, fetching(ErrorCode.UNKNOWN_MEMBER_ID), fetching(OK, 1, 2))
    assert found[B] == OffsetAndMetadata(2, "", 2)
    assert [request.groups[0].member_id for request in cluster.requests] == ["me", None]
    assert member.refused == [(ErrorCode.UNKNOWN_MEMBER_ID, 5)]


def test_older_brokers_are_asked_as_they_understand() -> None:
    def old(request: OffsetFetchRequest) -> OffsetFetchResponse:
        assert not request.groups
        assert request.group_id == "g"
        partition = OffsetFetchResponsePartition(partition_index=0, committed_offset=3, metadata=None, error_code=0)
        return OffsetFetchResponse(topics=[OffsetFetchResponseTopic(name="t", partitions=[partition])])

    too_new = UnsupportedVersionError("too new")
    found, cluster = fetch(Member(), too_new, old)
    assert found == {A: OffsetAndMetadata(3)}
    assert (cluster.requests[1].require_stable, cluster.limits[1]["max_version"]) == (True, 7)
    found, cluster = fetch(Member(), too_new, too_new, old)
    assert found == {A: OffsetAndMetadata(3)}
    assert (cluster.requests[2].require_stable, cluster.limits[2]["max_version"]) == (False, 6)

"""Fetch sessions: the broker always fetches what the client wants, whatever was lost on the way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.client.consumer.sessions import FetchSession, Wanted
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from tests.client.consumer.model_broker import ModelCluster


def cluster_of(ids: bool) -> ModelCluster:
    cluster = ModelCluster(1, ids=ids)
    for name in ("a", "b"):
        cluster.add_topic(name, 3)
    return cluster


STEPS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 5), st.integers(0, 3), max_size=6),
        st.sampled_from(["ok"] * 6 + ["request lost", "answer lost", "sessions lost", "topic made anew"]),
    ),
    max_size=30,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_the_broker_knows_exactly_what_is_wanted(steps: list[tuple[dict[int, int], str]], ids: bool) -> None:
    cluster = cluster_of(ids)
    session = FetchSession()
    generation = 2
    for offsets, fate in steps:
        if fate == "topic made anew" and ids:
            generation += 1
            cluster.topic_ids["a"] = bytes([generation]) * 16
        wanted = {}
        for number, offset in offsets.items():
            tp = TopicPartition("ab"[number // 3], number % 3)
            wanted[tp] = Wanted(cluster.topic_ids[tp.topic], offset, 0, 1000)
        request = FetchRequest(max_wait_ms=0, min_bytes=0)
        session.fill(request, wanted)
        session.check_invariants()
        if fate == "sessions lost":
            cluster.lose_sessions(1)
        if fate == "request lost":
            session.failed()
            continue
        response = cluster.fetch(1, request)
        if fate == "answer lost":
            session.failed()
            continue
        found = session.accept(response)
        session.check_invariants()
        if found is None:
            assert response.error_code
            assert session.epoch == 0
            continue
        assert set(found) <= set(wanted)
        theirs = cluster.sessions[1][session.session_id].partitions
        known = {
            (tp.topic if not ids else want.topic_id, tp.partition): want.fetch_offset for tp, want in wanted.items()
        }
        assert {key: one.fetch_offset for key, one in theirs.items()} == known


def test_only_what_changed_goes_over_the_wire() -> None:
    cluster = cluster_of(True)
    session = FetchSession()
    wanted = {TopicPartition("a", n): Wanted(cluster.topic_ids["a"], 0, 0, 1000) for n in range(3)}
    request = FetchRequest(max_wait_ms=0, min_bytes=0)
    session.fill(request, wanted)
    assert (request.session_id, request.session_epoch) == (0, 0)
    assert [len(topic.partitions) for topic in request.topics] == [3]
    assert session.accept(cluster.fetch(1, request)) is not None
    session.fill(request, wanted)
    assert (request.topics, request.forgotten_topics_data, request.session_epoch) == ([], [], 1)
    assert session.accept(cluster.fetch(1, request)) == {}
    one = TopicPartition("a", 1)
    session.fill(request, {one: wanted[one]._replace(fetch_offset=5)})
    assert [p.partition for topic in request.topics for p in topic.partitions] == [1]
    assert [gone.partitions for gone in request.forgotten_topics_data] == [[0, 2]]


def test_a_broker_without_room_for_a_session_gets_full_requests() -> None:
    session = FetchSession()
    request = FetchRequest(max_wait_ms=0, min_bytes=0)
    session.fill(request, {})
    assert session.accept(FetchResponse(session_id=0)) == {}
    assert (session.session_id, session.epoch) == (0, 0)


def test_an_error_makes_the_next_request_a_full_one() -> None:
    session = FetchSession()
    session.session_id, session.epoch = 7, 4
    assert session.accept(FetchResponse(error_code=ErrorCode.INVALID_FETCH_SESSION_EPOCH)) is None
    assert (session.session_id, session.epoch) == (7, 0)  # which also closes the old session
    assert session.accept(FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)) is None
    assert (session.session_id, session.epoch) == (0, 0)


def test_a_full_answer_without_some_partitions_counts_and_the_next_request_is_full_again() -> None:
    session = FetchSession()
    wanted = {TopicPartition("a", number): Wanted(ZERO_UUID, 0, 0, 1000) for number in range(2)}
    session.fill(FetchRequest(), wanted)
    partial = FetchResponse(
        session_id=7, responses=[FetchableTopicResponse(topic="a", partitions=[PartitionData(partition_index=0)])]
    )
    found = session.accept(partial)
    assert found is not None
    assert set(found) == {TopicPartition("a", 0)}
    request = FetchRequest()
    session.fill(request, wanted)
    assert (request.session_id, request.session_epoch) == (7, 0)
    assert [len(topic.partitions) for topic in request.topics] == [2]
    assert session.accept(FetchResponse(session_id=8)) is None  # throttled
    assert (session.session_id, session.epoch) == (0, 0)


def test_epochs_wrap_around_to_one() -> None:
    session = FetchSession()
    session.session_id, session.epoch = 7, 2**31 - 1
    assert session.accept(FetchResponse(session_id=7)) == {}
    assert session.epoch == 1


def test_closing_a_session() -> None:
    session = FetchSession()
    request = FetchRequest(max_wait_ms=0, min_bytes=0)
    assert not session.closing_request(request)
    session.session_id, session.epoch = 7, 3
    assert session.closing_request(request)
    assert (request.session_id, request.session_epoch) == (7, -1)

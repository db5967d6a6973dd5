"""Fetch sessions (KIP-227): the cache's rules, and the state machine against an obvious model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.fetch import EpochEndOffset, FetchPartition, PartitionData
from ottla.server.broker.fetch_sessions import (
    EVICTION_MS,
    MAX_EPOCH,
    FetchedPartition,
    FetchSession,
    FetchSessionCache,
    next_epoch,
)


def cache(slots: int = 3) -> FetchSessionCache:
    return FetchSessionCache(slots, random.Random(1))


def create(
    sessions: FetchSessionCache, size: int, now_ms: int, *, privileged: bool = False, uses_topic_ids: bool = False
) -> FetchSession | None:
    session = sessions.create(size, privileged=privileged, uses_topic_ids=uses_topic_ids, now_ms=now_ms)
    if session is not None:
        session.update((("topic", FetchPartition(partition=index)) for index in range(size)), ())
    return session


def test_epoch_wraps_to_one_because_zero_asks_for_a_new_session() -> None:
    assert next_epoch(1) == 2
    assert next_epoch(MAX_EPOCH) == 1


def test_a_new_session_expects_epoch_one_and_then_counts() -> None:
    sessions = cache()
    session = create(sessions, 2, 0)
    assert session is not None
    assert sessions.resume(session.session_id, 1, uses_topic_ids=False) is session
    sessions.advance(session, 5)
    with pytest.raises(ApiError) as refused:
        sessions.resume(session.session_id, 1, uses_topic_ids=False)
    assert refused.value.code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
    assert sessions.resume(session.session_id, 2, uses_topic_ids=False) is session


def test_an_unknown_session_and_a_change_between_names_and_ids_are_refused() -> None:
    sessions = cache()
    session = create(sessions, 1, 0)
    assert session is not None
    with pytest.raises(ApiError) as refused:
        sessions.resume(session.session_id + 1, 1, uses_topic_ids=False)
    assert refused.value.code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
    with pytest.raises(ApiError) as refused:
        sessions.resume(session.session_id, 1, uses_topic_ids=True)
    assert refused.value.code == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR


def test_a_full_cache_refuses_equals_and_keeps_young_sessions() -> None:
    sessions = cache(slots=2)
    assert create(sessions, 2, 0)
    assert create(sessions, 2, 0)
    assert create(sessions, 2, 1) is None
    assert create(sessions, 100, 1) is None, "a bigger one does not push out a session in its protected youth"
    assert len(sessions) == 2


def test_a_full_cache_evicts_the_session_idle_for_two_minutes() -> None:
    sessions = cache(slots=2)
    idle, used = create(sessions, 9, 0), create(sessions, 1, 0)
    assert idle is not None
    assert used is not None
    sessions.advance(used, EVICTION_MS)
    assert create(sessions, 1, EVICTION_MS + 1) is not None
    assert sessions.get(idle.session_id) is None
    assert sessions.get(used.session_id) is used


def test_a_bigger_session_evicts_the_smallest_grown_up_one() -> None:
    sessions = cache(slots=2)
    small, big = create(sessions, 2, 0), create(sessions, 5, 0)
    assert small is not None
    assert big is not None
    now_ms = EVICTION_MS + 1
    sessions.advance(small, now_ms)
    sessions.advance(big, now_ms)
    assert create(sessions, 2, now_ms) is None, "an equal is not worth an eviction"
    assert create(sessions, 3, now_ms) is not None
    assert sessions.get(small.session_id) is None
    assert sessions.evictions == 1


def test_a_followers_session_evicts_any_consumers_but_not_the_other_way_round() -> None:
    sessions = cache(slots=1)
    assert create(sessions, 50, 0)
    follower = create(sessions, 1, 1, privileged=True)
    assert follower is not None
    now_ms = EVICTION_MS + 10
    sessions.advance(follower, now_ms)
    assert create(sessions, 50, now_ms) is None
    assert sessions.get(follower.session_id) is follower


def test_without_slots_there_are_no_sessions() -> None:
    assert create(cache(slots=0), 1, 0) is None


def test_partitions_with_records_move_to_the_end() -> None:
    session = create(cache(), 3, 0)
    assert session is not None
    first = next(iter(session.partitions.values()))
    session.rotate([first])
    assert [index for _, index in session.partitions] == [1, 2, 0]


def test_a_changed_partition_keeps_its_place_and_a_forgotten_one_goes() -> None:
    session = create(cache(), 3, 0)
    assert session is not None
    session.update(
        [("topic", FetchPartition(partition=1, fetch_offset=7)), ("other", FetchPartition(partition=0))],
        [("topic", 0), ("never", 0)],
    )
    assert list(session.partitions) == [("topic", 1), ("topic", 2), ("other", 0)]
    assert session.partitions["topic", 1].request.fetch_offset == 7


# The model: what an incremental answer must hold, said the slow way.

OFFSETS = st.integers(0, 3)
PARTITION_DATA = st.builds(
    PartitionData,
    error_code=st.sampled_from([0, 0, 0, int(ErrorCode.NOT_LEADER_OR_FOLLOWER)]),
    high_watermark=OFFSETS,
    log_start_offset=OFFSETS,
    records=st.sampled_from([b"", b"", b"batch"]),
    preferred_read_replica=st.sampled_from([-1, -1, 2]),
    diverging_epoch=st.sampled_from([EpochEndOffset(), EpochEndOffset(), EpochEndOffset(epoch=1, end_offset=2)]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTITION_DATA, max_size=8))
def test_a_partition_is_answered_exactly_when_the_client_would_learn_something(answers: list[PartitionData]) -> None:
    entry = FetchedPartition("topic", FetchPartition())
    known: tuple[int, int] | None = None
    known_start = -1
    for data in answers:
        high_watermark = known[0] if known is not None else -1
        expected = (
            data.error_code != 0
            or bool(data.records)
            or data.preferred_read_replica != -1
            or data.diverging_epoch.epoch != -1
            or data.high_watermark != high_watermark
            or data.log_start_offset != known_start
        )
        assert entry.has_news(data) == expected
        if data.error_code:
            known = (-1, known_start)
        else:
            known = (data.high_watermark, data.log_start_offset)
            known_start = data.log_start_offset


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "use", "close"]), st.integers(0, 5), st.booleans(), st.integers(0, 90_000)
        ),
        max_size=40,
    ),
    st.integers(0, 3),
)
def test_the_cache_never_exceeds_its_slots_and_epochs_follow_the_model(
    steps: list[tuple[str, int, bool, int]], slots: int
) -> None:
    sessions = FetchSessionCache(slots, random.Random(2))
    epochs: dict[int, int] = {}
    now_ms = 0
    for action, number, privileged, pause_ms in steps:
        now_ms += pause_ms
        ids = sorted(epochs)
        if action == "create":
            session = create(sessions, number, now_ms, privileged=privileged)
            if session is not None:
                epochs[session.session_id] = 1
        elif ids and action == "use":
            session_id = ids[number % len(ids)]
            session = sessions.resume(session_id, epochs[session_id], uses_topic_ids=False)
            sessions.advance(session, now_ms)
            epochs[session_id] += 1
        elif ids:
            session_id = ids[number % len(ids)]
            sessions.close(session_id)
            del epochs[session_id]
        epochs = {session_id: epoch for session_id, epoch in epochs.items() if sessions.get(session_id)}
        assert len(sessions) <= slots
        assert len(sessions) == len(epochs)
        for session_id, epoch in epochs.items():
            assert sessions.resume(session_id, epoch, uses_topic_ids=False).epoch == epoch

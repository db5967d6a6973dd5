"""Share sessions: what the broker has in its session is what the client wants, whatever happened on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ottla.client.share.deliveries import OffsetRange, SharedPartition
from ottla.client.share.sessions import Limits, ShareSession
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.share_fetch import ShareFetchRequest

LIMITS = Limits(max_wait_ms=500, min_bytes=1, max_bytes=1 << 20, max_records=500)


def partition(number: int) -> SharedPartition:
    return SharedPartition(bytes(15) + bytes([number // 3]), f"topic-{number // 3}", number % 3)


class ModelBroker:
    """The other side: a session with an epoch and partitions."""

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.partitions: set[tuple[bytes, int]] = set()

    def handle(self, request: ShareFetchRequest) -> int:
        if request.share_session_epoch == 0:
            self.epoch = 0
            self.partitions = set()
        elif self.epoch is None:
            return ErrorCode.SHARE_SESSION_NOT_FOUND
        elif request.share_session_epoch != self.epoch:
            return ErrorCode.INVALID_SHARE_SESSION_EPOCH
        for topic in request.topics:
            self.partitions |= {(topic.topic_id, entry.partition_index) for entry in topic.partitions}
        for gone in request.forgotten_topics_data:
            self.partitions -= {(gone.topic_id, index) for index in gone.partitions}
        assert self.epoch is not None
        self.epoch += 1
        return 0


@given(
    st.lists(
        st.tuples(
            st.frozensets(st.integers(0, 8)),
            st.sampled_from(["ok", "ok", "ok", "request lost", "answer lost", "restart"]),
        )
    )
)
def test_broker_knows_what_is_wanted(rounds: list[tuple[frozenset[int], str]]) -> None:
    broker = ModelBroker()
    session = ShareSession(1, "group", "member")
    for wanted_numbers, fate in rounds:
        wanted = [partition(number) for number in sorted(wanted_numbers)]
        request = session.fetch_request(wanted, {}, LIMITS)
        if fate == "restart":
            broker = ModelBroker()
        if fate == "request lost":
            session.lost()
            continue
        code = broker.handle(request)
        if fate == "answer lost":
            session.lost()
            continue
        was_known = session.answered(code)
        assert was_known == (code == 0)
        if was_known:
            assert broker.partitions == {(each.topic_id, each.partition) for each in wanted}


def test_request_that_renews_locks_waits_for_nothing() -> None:
    session = ShareSession(1, "group", "member")
    session.fetch_request([partition(0)], {}, LIMITS)
    session.answered(0)
    request = session.fetch_request([partition(0)], {partition(0): [OffsetRange(4, 5, (1, 4))]}, LIMITS)
    assert request.is_renew_ack
    assert (request.max_wait_ms, request.max_records, request.max_bytes) == (0, 0, 0)
    assert request.topics[0].partitions[0].acknowledgement_batches[0].acknowledge_types == [1, 4]


def test_acknowledgements_of_a_partition_that_is_fetched_no_more_are_still_told() -> None:
    session = ShareSession(1, "group", "member")
    session.fetch_request([partition(0), partition(1)], {}, LIMITS)
    session.answered(0)
    request = session.fetch_request([partition(1)], {partition(0): [OffsetRange(0, 2, (1,))]}, LIMITS)
    assert [(topic.topic_id, topic.partitions[0].partition_index) for topic in request.topics] == [(bytes(16), 0)]
    assert request.forgotten_topics_data[0].partitions == [0]


def test_session_epochs_wrap_around_to_one() -> None:
    session = ShareSession(1, "group", "member")
    session.epoch = 2**31 - 1
    assert session.answered(0)
    assert session.epoch == 1
    assert session.close_request({}).share_session_epoch == -1

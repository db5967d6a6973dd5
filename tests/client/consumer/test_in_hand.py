"""What the user has in hand: what comes next, what he is done with, what he gives back."""

from __future__ import annotations

from random import Random

import pytest

from ottla.client.consumer.in_hand import InHand
from ottla.client.model import TopicPartition
from ottla.records.batch import parse_header
from ottla.records.reader import ConsumerRecord, RecordCursor
from ottla.records.record import Record, build_batch

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def records(partition: int, count: int, base_offset: int = 0) -> list[ConsumerRecord[bytes, bytes]]:
    batch = build_batch([Record(value=b"x")] * count, base_offset=base_offset, leader_epoch=3)
    output: list[ConsumerRecord[bytes, bytes]] = []
    RecordCursor(bytes(batch), 0, parse_header(batch), topic="t", partition=partition).take(count, None, None, output)
    return output


def test_a_few_at_a_time() -> None:
    in_hand = InHand()
    assert in_hand.unprocessed() is None
    in_hand.put(records(0, 3) + records(1, 2, 10))
    assert in_hand.unprocessed() == {A: (0, 3), B: (10, 3)}
    assert [one.offset for one in in_hand.next(2)] == [0, 1]
    assert in_hand.left() == {A: (2, 3), B: (10, 3)}
    assert in_hand.unprocessed() == {A: (0, 3), B: (10, 3)}
    in_hand.returned()
    assert in_hand.unprocessed() == {A: (2, 3), B: (10, 3)}
    assert [one.offset for one in in_hand.next(2)] == [2, 10]
    in_hand.step_back(one=True)
    assert in_hand.left() == {B: (10, 3)}
    in_hand.step_back(one=False)
    assert in_hand.left() == {A: (2, 3), B: (10, 3)}


def test_dropping_a_partition_keeps_what_was_handed_out_and_the_others() -> None:
    in_hand = InHand()
    in_hand.put(records(0, 3) + records(1, 2, 10))
    in_hand.next(1)
    assert in_hand.drop([A]) == {A: 1}
    assert in_hand.unprocessed() == {A: (0, 3), B: (10, 3)}
    assert in_hand.drop([A]) == {}
    assert [one.offset for one in in_hand.next(5)] == [10, 11]
    assert in_hand.drop(None) == {}


@pytest.mark.parametrize("seed", range(20))
def test_every_record_is_handed_out_or_dropped(seed: int) -> None:
    random = Random(seed)
    in_hand = InHand()
    expected = {A: 0, B: 0}
    ends = {A: 0, B: 0}
    for _ in range(100):
        if in_hand.index >= len(in_hand.records):
            some = []
            for tp in random.sample([A, B], 2):
                count = random.randint(1, 4)
                ends[tp] = expected[tp]
                some += records(tp.partition, count, expected[tp])
                ends[tp] += count
            in_hand.put(some)
        in_hand.returned()
        for one in in_hand.next(random.randint(1, 3)):
            tp = TopicPartition(one.topic, one.partition)
            assert one.offset == expected[tp]
            expected[tp] += 1
        if random.random() < 0.3:
            for tp, offset in in_hand.drop(random.choice([None, [A], [B]])).items():
                assert offset == expected[tp]
                ends[tp] = offset
        left = in_hand.left()
        for tp, end in ends.items():
            assert left[tp].offset == expected[tp] if tp in left else end == expected[tp]

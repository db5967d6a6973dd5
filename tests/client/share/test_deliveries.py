"""What is in the application's hands: nothing is acknowledged twice, and every acknowledgement is sent once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.client.errors import IllegalStateError
from ottla.client.share.deliveries import (
    GAP,
    Acknowledgements,
    AcknowledgeType,
    Deliveries,
    OffsetRange,
    SharedPartition,
    ranges,
    records_in,
)

ORDERS = SharedPartition(bytes(16), "orders", 0)
ACCEPT, RELEASE, REJECT, RENEW = AcknowledgeType


def unfolded(acknowledgements: Acknowledgements) -> dict[tuple[SharedPartition, int], int]:
    return {
        (partition, offset): types[offset - first] if len(types) > 1 else types[0]
        for partition, batches in acknowledgements.items()
        for first, last, types in batches
        for offset in range(first, last + 1)
    }


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 4)))
def test_ranges_say_what_the_offsets_said(pending: dict[int, int]) -> None:
    found = ranges(pending)
    assert unfolded({ORDERS: found}) == {(ORDERS, offset): kind for offset, kind in pending.items()}
    assert all(len(types) in (1, last - first + 1) for first, last, types in found)
    assert all(first > before.last_offset + 1 for before, (first, _, _) in pairwise(found))
    assert records_in({ORDERS: found}) == sum(kind != GAP for kind in pending.values())


def test_acknowledged_records_go_to_the_node_that_delivered_them() -> None:
    deliveries = Deliveries()
    deliveries.deliver(1, ORDERS, [0, 1, 2], {3: GAP})
    deliveries.deliver(2, ORDERS, [7])
    deliveries.acknowledge(ORDERS.topic_partition, 1, REJECT)
    deliveries.acknowledge(ORDERS.topic_partition, 7, RELEASE)
    assert deliveries.nodes_with_pending() == {1, 2}
    deliveries.acknowledge_rest(ACCEPT)
    assert deliveries.take(1) == {ORDERS: [OffsetRange(0, 3, (ACCEPT, REJECT, ACCEPT, GAP))]}
    assert deliveries.take(2) == {ORDERS: [OffsetRange(7, 7, (RELEASE,))]}
    assert not deliveries.has_pending


def test_renewed_record_stays_in_hand() -> None:
    deliveries = Deliveries()
    deliveries.deliver(1, ORDERS, [0])
    assert deliveries.unacknowledged == 1
    deliveries.acknowledge(ORDERS.topic_partition, 0, RENEW)
    assert deliveries.unacknowledged == 0
    assert deliveries.take(1) == {ORDERS: [OffsetRange(0, 0, (RENEW,))]}
    deliveries.acknowledge_rest(ACCEPT)
    assert not deliveries.has_pending
    deliveries.acknowledge(ORDERS.topic_partition, 0, ACCEPT)
    assert deliveries.take(1) == {ORDERS: [OffsetRange(0, 0, (ACCEPT,))]}


def test_record_that_came_again_from_another_node_is_acknowledged_there() -> None:
    deliveries = Deliveries()
    deliveries.deliver(1, ORDERS, [5])
    deliveries.deliver(2, ORDERS, [5])
    deliveries.acknowledge(ORDERS.topic_partition, 5, ACCEPT)
    assert deliveries.nodes_with_pending() == {2}


@pytest.mark.parametrize("offset", [0, 9])
def test_record_that_is_not_held_cannot_be_acknowledged(offset: int) -> None:
    deliveries = Deliveries()
    deliveries.deliver(1, ORDERS, [0])
    deliveries.acknowledge(ORDERS.topic_partition, 0, ACCEPT)
    with pytest.raises(IllegalStateError, match=f"offset {offset} of orders-0"):
        deliveries.acknowledge(ORDERS.topic_partition, offset, ACCEPT)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "acknowledge", "rest", "take", "lose"]),
        st.integers(1, 2),
        st.integers(0, 5),
        st.sampled_from(list(AcknowledgeType)),
    ),
    max_size=40,
)


@given(STEPS)
def test_every_acknowledgement_is_taken_once(steps: list[tuple[str, int, int, AcknowledgeType]]) -> None:
    deliveries = Deliveries()
    held: dict[tuple[int, int], bool] = {}  # (node, offset) → renewed
    pending: dict[tuple[int, int], int] = {}
    offset = 0
    for what, node, number, how in steps:
        if what == "deliver":
            offsets = range(offset, offset + number)
            offset += number
            deliveries.deliver(node, ORDERS, offsets)
            held.update(dict.fromkeys([(node, each) for each in offsets], False))
        elif what == "acknowledge" and held:
            holder, chosen = sorted(held)[number % len(held)]
            deliveries.acknowledge(ORDERS.topic_partition, chosen, how)
            pending[holder, chosen] = how
            if how == RENEW:
                held[holder, chosen] = True
            else:
                del held[holder, chosen]
        elif what == "rest":
            deliveries.acknowledge_rest(how if how != RENEW else ACCEPT)
            for key in [key for key, renewed in held.items() if not renewed]:
                del held[key]
                pending[key] = how if how != RENEW else ACCEPT
        elif what in ("take", "lose"):
            taken = deliveries.take(node) if what == "take" else deliveries.lose(node)
            expected = {(ORDERS, each): kind for (holder, each), kind in pending.items() if holder == node}
            assert unfolded(taken) == expected
            pending = {key: kind for key, kind in pending.items() if key[0] != node}
            if what == "lose":
                held = {key: renewed for key, renewed in held.items() if key[0] != node}
        deliveries.check_invariants()
        assert deliveries.unacknowledged == sum(not renewed for renewed in held.values())
        assert deliveries.has_pending == bool(pending)

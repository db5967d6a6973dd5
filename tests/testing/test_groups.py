"""What the test kit says of groups, and that a reset leaves nothing of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ottla
from ottla import TopicPartition
from ottla.admin import ConfigResource
from ottla.client.errors import UnknownTopicError
from ottla.testing import Cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: Cluster) -> Cluster:
    shared.reset()
    shared.create_topic("orders", 2)
    return shared


def consumer(cluster: Cluster, group_id: str, **names: object) -> ottla.Consumer:
    made = ottla.Consumer(
        cluster.bootstrap_servers,
        {"group.id": group_id, "auto.offset.reset": "earliest", "enable.auto.commit": False, **names},
    )
    made.subscribe(["orders"])
    return made


def consume(reader: ottla.Consumer, count: int) -> None:
    got = 0
    while got < count:
        got += len(reader.poll(1))


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_is_described_and_its_lag_told(cluster: Cluster, protocol: str) -> None:
    cluster.produce("orders", "a", "b", "c")
    with consumer(cluster, "shop", **{"group.protocol": protocol, "client.id": "till"}) as reader:
        consume(reader, 3)
        cluster.assert_group_stable("shop", 1)
        group = cluster.group("shop")
        assert (group.kind, group.state, group.members) == (protocol, "Stable", ("till",))
        assert cluster.groups() == ["shop"]
        assert cluster.lag("shop") == {}
        assert cluster.lag("shop", "orders") == {TopicPartition("orders", 0): 2, TopicPartition("orders", 1): 1}
        reader.commit()
        cluster.assert_lag_zero("shop")
        assert cluster.committed("shop") == {TopicPartition("orders", 0): 2, TopicPartition("orders", 1): 1}
        cluster.produce("orders", "d", partition=1)
        assert cluster.lag("shop") == {TopicPartition("orders", 0): 0, TopicPartition("orders", 1): 1}
    cluster.assert_group_empty("shop")


def test_a_group_that_is_behind_is_told_of_with_where_and_why(cluster: Cluster) -> None:
    with pytest.raises(
        AssertionError,
        match=r"shop should have consumed everything; after 0 s it has committed nothing, and there is no group shop",
    ):
        cluster.assert_lag_zero("shop", timeout_s=0)
    cluster.produce("orders", "a", "b", partition=0)
    with consumer(cluster, "shop", **{"client.id": "till"}) as reader:
        consume(reader, 2)
        reader.commit({TopicPartition("orders", 0): 1})
        with pytest.raises(
            AssertionError,
            match=r"it is behind in orders-0 by 1 \(committed 1\), and the classic group shop is Stable with 1 member "
            r"\(till\)",
        ):
            cluster.assert_lag_zero("shop", timeout_s=0)
        with pytest.raises(AssertionError, match="shop should be Stable with 2 members; after 0 s the classic group"):
            cluster.assert_group_stable("shop", 2, timeout_s=0)
        with pytest.raises(AssertionError, match="shop should have no members"):
            cluster.assert_group_empty("shop", timeout_s=0)
    with pytest.raises(UnknownTopicError):
        cluster.lag("shop", "payments")


def test_a_partition_without_a_commit_counts_from_its_beginning(cluster: Cluster) -> None:
    with consumer(cluster, "shop") as reader:
        cluster.produce("orders", "a", partition=0)
        consume(reader, 1)
        reader.commit({TopicPartition("orders", 0): 1})
        cluster.produce("orders", "b", partition=1)
        assert cluster.lag("shop") == {TopicPartition("orders", 0): 0, TopicPartition("orders", 1): 1}


def test_share_groups_have_members_and_a_lag_too(cluster: Cluster) -> None:
    with ottla.Admin(cluster.bootstrap_servers) as admin:
        # A share group begins at the end, as it is when its first member fetches for the first time.
        admin.set_config(ConfigResource.group("queue"), {"share.auto.offset.reset": "earliest"})
    with ottla.ShareConsumer(cluster.bootstrap_servers, {"group.id": "queue"}) as reader:
        reader.subscribe(["orders"])
        reader.poll(0.1)
        cluster.assert_group_stable("queue", 1)
        assert cluster.group("queue").kind == "share"
        cluster.produce("orders", "a", "b", "c")
        got = 0
        while got < 3:
            got += len(reader.poll(0.5))
        cluster.wait_until(lambda: reader.poll(0.05) is not None and sum(cluster.lag("queue").values()) == 0)
        cluster.assert_lag_zero("queue", "orders")
        assert sum(cluster.committed("queue").values()) == 3

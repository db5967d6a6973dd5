"""Requests about several things: what is allowed is handled, the rest refused one by one, nothing hidden is told."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import (
    add_partitions_to_txn,
    alter_share_group_offsets,
    consumer_group_describe,
    create_partitions,
    create_topics,
    delete_groups,
    delete_records,
    delete_share_group_offsets,
    delete_topics,
    describe_cluster,
    describe_configs,
    describe_groups,
    describe_producers,
    describe_share_group_offsets,
    describe_transactions,
    find_coordinator,
    list_groups,
    list_offsets,
    list_transactions,
    offset_commit,
    offset_delete,
    offset_fetch,
    offset_for_leader_epoch,
    produce,
    share_group_describe,
    streams_group_describe,
    txn_offset_commit,
)
from ottla.records.record import Record, build_batch
from ottla.server.broker.authorization import all_operations
from ottla.server.broker.broker import CloseConnectionError, DelayedResponse
from ottla.server.metadata.image import ConfigResourceType
from tests.server.broker.permissions.worlds import (
    ALTER,
    CLUSTER,
    CLUSTER_ACTION,
    CREATE,
    DELETE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    READ,
    TOPIC,
    TRANSACTIONAL_ID,
    WRITE,
    Guarded,
    id_of,
    on,
)

NOT_TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED
NOT_GROUP = ErrorCode.GROUP_AUTHORIZATION_FAILED
NOT_ID = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
NOT_CLUSTER = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
READS = on(READ, TOPIC, "orders")


def by_name(items: list[Any], field: str = "name") -> dict[str, Any]:
    return {getattr(item, field): item for item in items}


# Topics


def test_list_offsets() -> None:
    def topic(name: str) -> Any:
        wanted = list_offsets.ListOffsetsPartition(partition_index=0, timestamp=-1)
        return list_offsets.ListOffsetsTopic(name=name, partitions=[wanted])

    def answer(request: Any) -> Any:
        found = list_offsets.ListOffsetsPartitionResponse(partition_index=0, offset=7)
        topics = [list_offsets.ListOffsetsTopicResponse(name=one.name, partitions=[found]) for one in request.topics]
        return list_offsets.ListOffsetsResponse(topics=topics)

    world = Guarded(*on(DESCRIBE, TOPIC, "orders"), answer=answer)
    response = world.ask(list_offsets.ListOffsetsRequest(topics=[topic("secrets"), topic("orders"), topic("none")]))
    (seen,) = world.seen
    assert [one.name for one in seen.topics] == ["orders"]
    topics = by_name(response.topics)
    assert topics["orders"].partitions[0].offset == 7
    # There is one of these two, and nothing tells which.
    assert topics["secrets"].partitions == topics["none"].partitions
    assert topics["none"].partitions[0].error_code == NOT_TOPIC
    assert topics["none"].partitions[0].offset == -1


def test_nobody_handles_what_is_refused_altogether() -> None:
    world = Guarded()
    wanted = delete_records.DeleteRecordsPartition(partition_index=0, offset=1)
    topic = delete_records.DeleteRecordsTopic(name="orders", partitions=[wanted])
    response = world.ask(delete_records.DeleteRecordsRequest(topics=[topic]))
    assert response.topics[0].partitions[0].error_code == NOT_TOPIC
    assert response.topics[0].partitions[0].low_watermark == -1
    assert world.seen == []


def test_epochs_are_told_to_brokers_and_to_those_who_may_describe_the_topic() -> None:
    wanted = offset_for_leader_epoch.OffsetForLeaderPartition(partition=0, leader_epoch=1)
    topics = [
        offset_for_leader_epoch.OffsetForLeaderTopic(topic=name, partitions=[wanted]) for name in ("orders", "secrets")
    ]
    request = offset_for_leader_epoch.OffsetForLeaderEpochRequest(topics=topics)
    world = Guarded(*on(CLUSTER_ACTION, CLUSTER))
    world.ask(request)
    assert len(world.seen[0].topics) == 2
    world = Guarded(*on(DESCRIBE, TOPIC, "orders"))
    response = world.ask(request)
    assert [one.topic for one in world.seen[0].topics] == ["orders"]
    refused = by_name(response.topics, "topic")["secrets"].partitions[0]
    assert (refused.error_code, refused.leader_epoch, refused.end_offset) == (NOT_TOPIC, -1, -1)


def test_who_may_describe_a_topic_and_is_no_node_is_told_of_as_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """That its consumer might have been a node is a question of the broker's, and no attempt of anybody's."""
    told: list[tuple[Any, str, bool]] = []

    class Told:
        def authorization(self, context: Any, operation: Any, resource_type: Any, name: str, allowed: bool) -> None:
            told.append((operation, name, allowed))

    wanted = offset_for_leader_epoch.OffsetForLeaderPartition(partition=0, leader_epoch=1)
    topics = [offset_for_leader_epoch.OffsetForLeaderTopic(topic="orders", partitions=[wanted])]
    world = Guarded(*on(DESCRIBE, TOPIC, "orders"))
    world.broker.audit = Told()  # type: ignore[assignment]
    world.ask(offset_for_leader_epoch.OffsetForLeaderEpochRequest(topics=topics))
    assert told == [(DESCRIBE, "orders", True)]
    assert not caplog.records


def test_producers_are_described_to_readers_and_invalid_names_left_to_the_handler() -> None:
    topics = [
        describe_producers.TopicRequest(name=name, partition_indexes=[0]) for name in ("orders", "secrets", "no/topic")
    ]
    world = Guarded(*READS)
    response = world.ask(describe_producers.DescribeProducersRequest(topics=topics))
    assert [one.name for one in world.seen[0].topics] == ["orders", "no/topic"]
    refused = by_name(response.topics)["secrets"].partitions[0]
    assert (refused.error_code, refused.error_message) == (NOT_TOPIC, NOT_TOPIC.message)


def test_create_partitions() -> None:
    topics = [create_partitions.CreatePartitionsTopic(name=name, count=3) for name in ("orders", "secrets")]
    world = Guarded(*on(ALTER, TOPIC, "orders"))
    response = world.ask(create_partitions.CreatePartitionsRequest(topics=topics))
    assert [one.name for one in world.seen[0].topics] == ["orders"]
    assert [(one.name, one.error_code) for one in response.results] == [("secrets", NOT_TOPIC)]


def _created(request: Any) -> Any:
    return create_topics.CreateTopicsResponse(
        topics=[
            create_topics.CreatableTopicResult(
                name=topic.name,
                num_partitions=3,
                replication_factor=1,
                configs=[create_topics.CreatableTopicConfigs(name="retention.ms", value="1")],
            )
            for topic in request.topics
        ]
    )


def test_create_topics() -> None:
    topics = [create_topics.CreatableTopic(name=name) for name in ("a", "b", "twice", "twice", "__cluster_metadata")]
    request = create_topics.CreateTopicsRequest(topics=topics)
    world = Guarded(*on(CREATE, TOPIC, "a"), *on(DESCRIBE_CONFIGS, TOPIC, "a"), answer=_created)
    response = world.ask(request)
    assert [one.name for one in world.seen[0].topics] == ["a", "twice", "twice", "__cluster_metadata"]
    results = by_name(response.topics)
    assert (results["a"].num_partitions, len(results["a"].configs)) == (3, 1)
    assert (results["b"].error_code, results["b"].error_message) == (NOT_TOPIC, "Authorization failed.")
    world = Guarded(*on(CREATE, CLUSTER), answer=_created)
    results = by_name(world.ask(request).topics)
    assert len(world.seen[0].topics) == 5
    # It is made, but what it is like is not told.
    assert (results["b"].error_code, results["b"].topic_config_error_code) == (ErrorCode.NONE, NOT_TOPIC)
    assert (results["b"].num_partitions, results["b"].replication_factor, results["b"].configs) == (-1, -1, [])


def delete_request(*names: str, ids: tuple[bytes, ...] = ()) -> Any:
    states = [delete_topics.DeleteTopicState(name=name) for name in names]
    states += [delete_topics.DeleteTopicState(name=None, topic_id=topic_id) for topic_id in ids]
    return delete_topics.DeleteTopicsRequest(topics=states)


def test_delete_topics_hides_what_one_may_not_describe() -> None:
    world = Guarded(*on(DESCRIBE, TOPIC, "orders", "none"), *on(DELETE, TOPIC, "secrets"))
    response = world.ask(delete_request("orders", "secrets", "none", "hidden"))
    # Whoever may describe it hears from the handler that there is no such topic.
    assert [one.name for one in world.seen[0].topics] == ["none"]
    assert {one.name: (one.error_code, one.topic_id) for one in response.responses} == {
        "orders": (NOT_TOPIC, ZERO_UUID),
        "secrets": (NOT_TOPIC, ZERO_UUID),
        "hidden": (NOT_TOPIC, ZERO_UUID),
    }


def test_delete_topics_by_id_tells_names_to_those_who_may_describe_them() -> None:
    world = Guarded(*on(DESCRIBE, TOPIC, "orders"))
    unknown = bytes(15) + b"\1"
    response = world.ask(delete_request(ids=(id_of("orders"), id_of("secrets"), unknown)))
    assert [one.topic_id for one in world.seen[0].topics] == [unknown]
    assert [(one.name, one.topic_id, one.error_code) for one in response.responses] == [
        ("orders", id_of("orders"), NOT_TOPIC),
        (None, id_of("secrets"), NOT_TOPIC),
    ]


def test_delete_topics_with_permission_for_them_or_for_the_cluster() -> None:
    for permissions in (on(DELETE, CLUSTER), on(DELETE, TOPIC, "orders") + on(DESCRIBE, TOPIC, "orders")):
        world = Guarded(*permissions)
        world.ask(delete_request("orders"))
        world.ask(delete_topics.DeleteTopicsRequest(topic_names=["orders"]), 4)
        assert [len(seen.topics) + len(seen.topic_names) for seen in world.seen] == [1, 1]


def test_delete_topics_leaves_what_is_wrong_to_the_handler() -> None:
    world = Guarded()
    world.ask(delete_request("orders", "orders"))
    assert len(world.seen[0].topics) == 2


# Records


def produce_request(*names: str, transactional: bool = False, **fields: Any) -> Any:
    batch = build_batch([Record(timestamp_ms=1, value=b"v")])
    if transactional:
        batch[22] |= 0x10
    topics = [
        produce.TopicProduceData(
            name=name, topic_id=id_of(name), partition_data=[produce.PartitionProduceData(index=0, records=batch)]
        )
        for name in names
    ]
    return produce.ProduceRequest(**({"acks": -1, "timeout_ms": 1000, "topic_data": topics} | fields))


def _produced(request: Any) -> Any:
    answered = produce.PartitionProduceResponse(index=0, base_offset=7)
    topics = [
        produce.TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=[answered])
        for topic in request.topic_data
    ]
    return produce.ProduceResponse(responses=topics)


@pytest.mark.parametrize("version", [3, 12, 13])
def test_produce(version: int) -> None:
    world = Guarded(*on(WRITE, TOPIC, "orders"), answer=_produced)
    response = world.ask(produce_request("secrets", "orders"), version)
    key = "topic_id" if version > 12 else "name"
    answers = {getattr(one, key): one.partition_responses[0] for one in response.responses}
    wanted, refused = (id_of("orders"), id_of("secrets")) if version > 12 else ("orders", "secrets")
    assert answers[wanted].base_offset == 7
    assert (answers[refused].error_code, answers[refused].base_offset) == (NOT_TOPIC, -1)
    assert len(world.seen[0].topic_data) == 1


def test_produce_to_an_unknown_id_is_the_handlers_to_refuse() -> None:
    world = Guarded()
    world.ask(produce_request("none"), 13)
    assert len(world.seen) == 1


def test_produce_later_as_well() -> None:
    def later(request: Any) -> DelayedResponse:
        delayed = DelayedResponse()
        delayed.respond(_produced(request))
        return delayed

    async def soon(request: Any) -> Any:
        return _produced(request)

    for answer in (later, soon):
        world = Guarded(*on(WRITE, TOPIC, "orders"), answer=answer)
        assert len(world.ask(produce_request("secrets", "orders"), 12).responses) == 2


def test_produce_without_an_answer_ends_the_connection() -> None:
    world = Guarded(*on(WRITE, TOPIC, "orders"), answer=lambda request: None)
    with pytest.raises(CloseConnectionError):
        world.ask(produce_request("secrets", "orders", acks=0), 12)
    assert [topic.name for topic in world.seen[0].topic_data] == ["orders"]
    assert world.ask(produce_request("orders", acks=0), 12) is None


def test_transactional_records_need_their_transactional_id() -> None:
    writes = on(WRITE, TOPIC, "orders")
    for transactional_id in (None, "t"):
        world = Guarded(*writes)
        request = produce_request("orders", transactional=True, transactional_id=transactional_id)
        assert world.ask(request, 12).responses[0].partition_responses[0].error_code == NOT_ID
        assert world.seen == []
    world = Guarded(*writes, *on(WRITE, TRANSACTIONAL_ID, "t"))
    world.ask(request, 12)
    # Records of no transaction do not, whatever the request names.
    world.ask(produce_request("orders", transactional_id="other"), 12)
    assert len(world.seen) == 2


# Groups


def test_describe_groups() -> None:
    def answer(request: Any) -> Any:
        return describe_groups.DescribeGroupsResponse(
            groups=[describe_groups.DescribedGroup(group_id=name, group_state="Stable") for name in request.groups]
        )

    world = Guarded(*on(DESCRIBE, GROUP, "mine"), *on(READ, GROUP, "mine"), answer=answer)
    request = describe_groups.DescribeGroupsRequest(groups=["mine", "theirs"], include_authorized_operations=True)
    groups = by_name(world.ask(request).groups, "group_id")
    assert world.seen[0].groups == ["mine"]
    assert groups["mine"].authorized_operations == 1 << READ | 1 << DESCRIBE
    assert (groups["theirs"].error_code, groups["theirs"].group_state) == (NOT_GROUP, "")
    assert groups["theirs"].authorized_operations == -(2**31)
    everything = by_name(world.ask(request, principal="User:admin").groups, "group_id")
    assert everything["theirs"].authorized_operations == all_operations(GROUP)


def test_list_groups() -> None:
    def answer(request: Any) -> Any:
        return list_groups.ListGroupsResponse(
            groups=[list_groups.ListedGroup(group_id=name) for name in ("mine", "theirs")]
        )

    def listed(world: Guarded) -> list[str]:
        return [group.group_id for group in world.ask(list_groups.ListGroupsRequest()).groups]

    assert listed(Guarded(answer=answer)) == []
    assert listed(Guarded(*on(DESCRIBE, GROUP, "mine"), answer=answer)) == ["mine"]
    assert listed(Guarded(*on(DESCRIBE, CLUSTER), answer=answer)) == ["mine", "theirs"]


def test_delete_groups() -> None:
    world = Guarded(*on(DELETE, GROUP, "mine"))
    response = world.ask(delete_groups.DeleteGroupsRequest(groups_names=["theirs", "mine", "theirs"]))
    assert world.seen[0].groups_names == ["mine"]
    assert [(one.group_id, one.error_code) for one in response.results] == [("theirs", NOT_GROUP)]


def test_find_coordinators() -> None:
    request = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=["mine", "theirs"])
    world = Guarded(*on(DESCRIBE, GROUP, "mine"))
    response = world.ask(request)
    assert world.seen[0].coordinator_keys == ["mine"]
    (refused,) = response.coordinators
    assert (refused.key, refused.error_code, refused.node_id, refused.host, refused.port) == (
        "theirs",
        NOT_GROUP,
        -1,
        "",
        -1,
    )


def commit_topic(name: str, module: Any, kind: str) -> Any:
    partition = getattr(module, f"{kind}Partition")(partition_index=0, committed_offset=1)
    return getattr(module, f"{kind}Topic")(name=name, topic_id=id_of(name), partitions=[partition])


@pytest.mark.parametrize("version", [8, 10])
def test_offset_commit(version: int) -> None:
    def topics(*names: str) -> list[Any]:
        return [commit_topic(name, offset_commit, "OffsetCommitRequest") for name in names]

    request = offset_commit.OffsetCommitRequest(group_id="g", topics=topics("orders", "secrets", "none"))
    if version < 10:
        for topic in request.topics:
            topic.topic_id = ZERO_UUID
    response = Guarded().ask(request, version)
    assert {one.partitions[0].error_code for one in response.topics} == {NOT_GROUP}
    world = Guarded(*on(READ, GROUP, "g"), *READS)
    response = world.ask(request, version)
    # An unknown id is said to be unknown; a name that may be unknown is not.
    handled = ["orders", "none"] if version >= 10 else ["orders"]
    key = "topic_id" if version >= 10 else "name"
    shown = [id_of(name) for name in handled] if version >= 10 else handled
    assert [getattr(one, key) for one in world.seen[0].topics] == shown
    assert {one.partitions[0].error_code for one in response.topics} == {NOT_TOPIC}


@pytest.mark.parametrize("version", [3, 5])
def test_txn_offset_commit(version: int) -> None:
    topics = [commit_topic(name, txn_offset_commit, "TxnOffsetCommitRequest") for name in ("orders", "secrets")]
    for topic in topics:
        topic.topic_id = ZERO_UUID
    request = txn_offset_commit.TxnOffsetCommitRequest(transactional_id="t", group_id="g", topics=topics)
    reads, writes = on(READ, GROUP, "g"), on(WRITE, TRANSACTIONAL_ID, "t")
    for permissions, code in (([], NOT_ID), (reads, NOT_ID), (writes, NOT_GROUP)):
        response = Guarded(*permissions).ask(request, version)
        assert {one.partitions[0].error_code for one in response.topics} == {code}
    world = Guarded(*reads, *writes, *READS)
    response = world.ask(request, version)
    assert [one.name for one in world.seen[0].topics] == ["orders"]
    assert [(one.name, one.partitions[0].error_code) for one in response.topics] == [("secrets", NOT_TOPIC)]


def test_offset_delete_asks_about_the_group_even_without_topics() -> None:
    partition = offset_delete.OffsetDeleteRequestPartition(partition_index=0)
    topic = offset_delete.OffsetDeleteRequestTopic(name="orders", partitions=[partition])
    request = offset_delete.OffsetDeleteRequest(group_id="g", topics=[topic])
    assert Guarded().ask(request).error_code == NOT_GROUP
    world = Guarded(*on(DELETE, GROUP, "g"))
    response = world.ask(request)
    assert world.seen[0].topics == []
    assert response.topics[0].partitions[0].error_code == NOT_TOPIC

    def unknown(request: Any) -> Any:
        return offset_delete.OffsetDeleteResponse(error_code=ErrorCode.GROUP_ID_NOT_FOUND)

    response = Guarded(*on(DELETE, GROUP, "g"), answer=unknown).ask(request)
    assert (response.error_code, response.topics) == (ErrorCode.GROUP_ID_NOT_FOUND, [])


def _offsets(request: Any) -> Any:
    def topics(group: Any) -> list[Any]:
        wanted = group.topics
        names = ["orders", "secrets"] if wanted is None else [topic.name for topic in wanted]
        found = offset_fetch.OffsetFetchResponsePartitions(partition_index=0, committed_offset=7, metadata="")
        return [offset_fetch.OffsetFetchResponseTopics(name=name, partitions=[found]) for name in names]

    if not request.groups:
        found = offset_fetch.OffsetFetchResponsePartition(partition_index=0, committed_offset=7, metadata="")
        names = [topic.name for topic in topics(request)]
        return offset_fetch.OffsetFetchResponse(
            topics=[offset_fetch.OffsetFetchResponseTopic(name=name, partitions=[found]) for name in names]
        )
    groups = [
        offset_fetch.OffsetFetchResponseGroup(group_id=group.group_id, topics=topics(group)) for group in request.groups
    ]
    return offset_fetch.OffsetFetchResponse(groups=groups)


def test_offset_fetch() -> None:
    def group(name: str, *topics: str) -> Any:
        asked = [offset_fetch.OffsetFetchRequestTopics(name=topic, partition_indexes=[0]) for topic in topics]
        return offset_fetch.OffsetFetchRequestGroup(group_id=name, topics=asked if topics else None)

    world = Guarded(*on(DESCRIBE, GROUP, "mine", "all"), *on(DESCRIBE, TOPIC, "orders"), answer=_offsets)
    groups = [group("mine", "orders", "secrets", "none"), group("theirs", "orders"), group("all")]
    request = offset_fetch.OffsetFetchRequest(groups=groups)
    answers = by_name(world.ask(request, 9).groups, "group_id")
    assert [one.group_id for one in world.seen[0].groups] == ["mine", "all"]
    mine = by_name(answers["mine"].topics)
    assert mine["orders"].partitions[0].committed_offset == 7
    assert mine["secrets"].partitions == mine["none"].partitions
    assert (mine["none"].partitions[0].error_code, mine["none"].partitions[0].committed_offset) == (NOT_TOPIC, -1)
    assert [topic.name for topic in answers["all"].topics] == ["orders"]
    assert (answers["theirs"].error_code, answers["theirs"].topics) == (NOT_GROUP, [])


@pytest.mark.parametrize("version", [1, 7])
def test_offset_fetch_of_one_group(version: int) -> None:
    topics = [offset_fetch.OffsetFetchRequestTopic(name=name, partition_indexes=[0]) for name in ("orders", "secrets")]
    request = offset_fetch.OffsetFetchRequest(group_id="mine", topics=topics)
    response = Guarded(answer=_offsets).ask(request, version)
    if version == 1:
        assert {topic.partitions[0].error_code for topic in response.topics} == {NOT_GROUP}
    else:
        assert response.error_code == NOT_GROUP
    world = Guarded(*on(DESCRIBE, GROUP, "mine"), *on(DESCRIBE, TOPIC, "orders"), answer=_offsets)
    answers = by_name(world.ask(request, version).topics)
    assert answers["orders"].partitions[0].committed_offset == 7
    assert answers["secrets"].partitions[0].error_code == NOT_TOPIC
    if version > 1:
        response = world.ask(offset_fetch.OffsetFetchRequest(group_id="mine", topics=None), version)
        assert [topic.name for topic in response.topics] == ["orders"]


def test_offsets_of_share_groups() -> None:
    module = describe_share_group_offsets

    def answer(request: Any) -> Any:
        return module.DescribeShareGroupOffsetsResponse(
            groups=[
                module.DescribeShareGroupOffsetsResponseGroup(
                    group_id=group.group_id,
                    topics=[
                        module.DescribeShareGroupOffsetsResponseTopic(topic_name=name, topic_id=id_of(name))
                        for name in (
                            ["orders", "secrets"]
                            if group.topics is None
                            else [topic.topic_name for topic in group.topics]
                        )
                    ],
                )
                for group in request.groups
            ]
        )

    topics = [
        module.DescribeShareGroupOffsetsRequestTopic(topic_name=name, partitions=[0]) for name in ("orders", "secrets")
    ]
    groups = [
        module.DescribeShareGroupOffsetsRequestGroup(group_id="mine", topics=topics),
        module.DescribeShareGroupOffsetsRequestGroup(group_id="all", topics=None),
        module.DescribeShareGroupOffsetsRequestGroup(group_id="theirs", topics=None),
    ]
    world = Guarded(*on(DESCRIBE, GROUP, "mine", "all"), *on(DESCRIBE, TOPIC, "orders"), answer=answer)
    response = world.ask(module.DescribeShareGroupOffsetsRequest(groups=groups))
    answers = by_name(response.groups, "group_id")
    secrets = by_name(answers["mine"].topics, "topic_name")["secrets"]
    assert (secrets.topic_id, secrets.partitions[0].error_code) == (ZERO_UUID, NOT_TOPIC)
    assert [topic.topic_name for topic in answers["all"].topics] == ["orders"]
    assert answers["theirs"].error_code == NOT_GROUP


def test_changes_of_share_groups_offsets() -> None:
    alter, delete = alter_share_group_offsets, delete_share_group_offsets
    partition = alter.AlterShareGroupOffsetsRequestPartition(partition_index=0, start_offset=1)
    topics = [
        alter.AlterShareGroupOffsetsRequestTopic(topic_name=name, partitions=[partition])
        for name in ("orders", "secrets")
    ]
    world = Guarded(*on(READ, GROUP, "g"), *READS)
    response = world.ask(alter.AlterShareGroupOffsetsRequest(group_id="g", topics=topics))
    assert [topic.topic_name for topic in world.seen[0].topics] == ["orders"]
    assert [(one.topic_id, one.partitions[0].error_code) for one in response.responses] == [(ZERO_UUID, NOT_TOPIC)]
    world = Guarded(*on(DELETE, GROUP, "g"), *READS)
    names = [delete.DeleteShareGroupOffsetsRequestTopic(topic_name=name) for name in ("orders", "secrets")]
    response = world.ask(delete.DeleteShareGroupOffsetsRequest(group_id="g", topics=names))
    assert [(one.topic_name, one.topic_id, one.error_code) for one in response.responses] == [
        ("secrets", ZERO_UUID, NOT_TOPIC)
    ]


@pytest.mark.parametrize("module", [consumer_group_describe, share_group_describe])
def test_groups_with_hidden_topics_are_not_described(module: Any) -> None:
    kind = "ConsumerGroup" if module is consumer_group_describe else "ShareGroup"

    def answer(request: Any) -> Any:
        def group(name: str, topic: str) -> Any:
            assigned = module.Assignment(
                topic_partitions=[module.TopicPartitions(topic_id=id_of(topic), topic_name=topic, partitions=[0])]
            )
            fields = {"assignment": assigned}
            if module is consumer_group_describe:
                # What it is to have counts as well.
                fields = {"assignment": module.Assignment(), "target_assignment": assigned}
            return module.DescribedGroup(group_id=name, members=[module.Member(member_id="m", **fields)])

        groups = [group("g1", "orders"), group("g2", "secrets")]
        return getattr(module, f"{kind}DescribeResponse")(
            groups=[one for one in groups if one.group_id in request.group_ids]
        )

    world = Guarded(*on(DESCRIBE, GROUP, "g1", "g2"), *on(DESCRIBE, TOPIC, "orders"), answer=answer)
    request = getattr(module, f"{kind}DescribeRequest")(
        group_ids=["g1", "g2", "g3"], include_authorized_operations=True
    )
    groups = by_name(world.ask(request).groups, "group_id")
    assert len(groups["g1"].members) == 1
    assert groups["g1"].authorized_operations == 1 << DESCRIBE
    assert (groups["g2"].error_code, groups["g2"].members) == (NOT_TOPIC, [])
    assert "not authorized to describe" in groups["g2"].error_message
    assert (groups["g3"].error_code, groups["g3"].error_message) == (NOT_GROUP, None)


def test_streams_groups_with_hidden_topics_are_not_described() -> None:
    module = streams_group_describe

    def answer(request: Any) -> Any:
        def group(name: str, *topics: str) -> Any:
            part = module.Subtopology(subtopology_id="0", source_topics=list(topics))
            return module.DescribedGroup(group_id=name, topology=module.Topology(subtopologies=[part]))

        return module.StreamsGroupDescribeResponse(
            groups=[group("g1", "orders"), group("g2", "orders", "secrets"), module.DescribedGroup(group_id="g3")]
        )

    world = Guarded(*on(DESCRIBE, GROUP, "g1", "g2", "g3"), *on(DESCRIBE, TOPIC, "orders"), answer=answer)
    groups = world.ask(module.StreamsGroupDescribeRequest(group_ids=["g1", "g2", "g3"])).groups
    assert [group.error_code for group in groups] == [ErrorCode.NONE, NOT_TOPIC, ErrorCode.NONE]
    assert groups[1].topology is None


# Transactions


def test_clients_add_partitions_of_topics_that_they_may_write() -> None:
    module = add_partitions_to_txn

    def request(*names: str) -> Any:
        topics = [module.AddPartitionsToTxnTopic(name=name, partitions=[0]) for name in names]
        return module.AddPartitionsToTxnRequest(v3_and_below_transactional_id="t", v3_and_below_topics=topics)

    def refused(world: Guarded, *names: str) -> dict[str, int]:
        response = world.ask(request(*names), 3)
        return {
            topic.name: topic.results_by_partition[0].partition_error_code
            for topic in response.results_by_topic_v3_and_below
        }

    assert refused(Guarded(), "orders") == {"orders": NOT_ID}
    world = Guarded(*on(WRITE, TRANSACTIONAL_ID, "t"), *on(WRITE, TOPIC, "orders", "none", "__consumer_offsets"))
    assert refused(world, "orders") == {}
    assert len(world.seen) == 1
    assert refused(world, "orders", "secrets", "none", "__consumer_offsets") == {
        "orders": ErrorCode.OPERATION_NOT_ATTEMPTED,
        "secrets": NOT_TOPIC,
        "none": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        "__consumer_offsets": NOT_TOPIC,
    }
    assert len(world.seen) == 1


def test_transactions_are_shown_to_those_who_may_describe_them() -> None:
    def described(request: Any) -> Any:
        topics = [describe_transactions.TopicData(topic=name, partitions=[0]) for name in ("orders", "secrets")]
        return describe_transactions.DescribeTransactionsResponse(
            transaction_states=[
                describe_transactions.TransactionState(transactional_id=name, topics=list(topics))
                for name in request.transactional_ids
            ]
        )

    permissions = [*on(DESCRIBE, TRANSACTIONAL_ID, "t"), *on(DESCRIBE, TOPIC, "orders")]
    world = Guarded(*permissions, answer=described)
    response = world.ask(describe_transactions.DescribeTransactionsRequest(transactional_ids=["t", "other"]))
    states = by_name(response.transaction_states, "transactional_id")
    assert [topic.topic for topic in states["t"].topics] == ["orders"]
    assert (states["other"].error_code, states["other"].topics) == (NOT_ID, [])

    def listed(request: Any) -> Any:
        states = [list_transactions.TransactionState(transactional_id=name) for name in ("t", "other")]
        return list_transactions.ListTransactionsResponse(transaction_states=states)

    response = Guarded(*permissions, answer=listed).ask(list_transactions.ListTransactionsRequest())
    assert [state.transactional_id for state in response.transaction_states] == ["t"]


# Settings and nodes


def test_describe_configs() -> None:
    kinds = ConfigResourceType
    resources = [
        describe_configs.DescribeConfigsResource(resource_type=kind, resource_name=name)
        for kind, name in (
            (kinds.TOPIC, "orders"),
            (kinds.TOPIC, "secrets"),
            (kinds.BROKER, "1"),
            (kinds.GROUP, "g"),
            (99, "what"),
        )
    ]
    request = describe_configs.DescribeConfigsRequest(resources=resources)
    world = Guarded(*on(DESCRIBE_CONFIGS, TOPIC, "orders"))
    response = world.ask(request)
    assert [one.resource_name for one in world.seen[0].resources] == ["orders", "what"]
    assert {one.resource_name: (one.error_code, one.error_message) for one in response.results} == {
        "secrets": (NOT_TOPIC, NOT_TOPIC.message),
        "1": (NOT_CLUSTER, NOT_CLUSTER.message),
        "g": (NOT_GROUP, NOT_GROUP.message),
    }
    world = Guarded(*on(DESCRIBE_CONFIGS, CLUSTER), *on(DESCRIBE_CONFIGS, GROUP, "g"))
    world.ask(request)
    assert [one.resource_name for one in world.seen[0].resources] == ["1", "g", "what"]


def test_operations_on_the_cluster_are_told_to_those_who_may_describe_it() -> None:
    request = describe_cluster.DescribeClusterRequest(include_cluster_authorized_operations=True)

    def answer(request: Any) -> Any:
        return describe_cluster.DescribeClusterResponse(cluster_id="cluster", cluster_authorized_operations=4711)

    assert Guarded(*on(CREATE, CLUSTER), answer=answer).ask(request).cluster_authorized_operations == 0
    world = Guarded(*on(CREATE, CLUSTER), *on(DESCRIBE, CLUSTER), answer=answer)
    assert world.ask(request).cluster_authorized_operations == 1 << CREATE | 1 << DESCRIBE
    request.include_cluster_authorized_operations = False
    assert world.ask(request).cluster_authorized_operations == 4711

"""The transaction APIs through a whole node: every version, refusals, markers, offsets, and what a restart keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.core.errors import ErrorCode as E
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request
from ottla.protocol.messages import (
    add_offsets_to_txn,
    add_partitions_to_txn,
    describe_transactions,
    end_txn,
    fetch,
    find_coordinator,
    init_producer_id,
    list_transactions,
    offset_fetch,
    produce,
    txn_offset_commit,
    write_txn_markers,
)
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse
from ottla.records.record import Record, build_batch, read_records
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.broker.api_table import APIS
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 1,
}
TOPIC, GROUP, ID = "topic", "group", "id"


def versions(api_key: int) -> range:
    return range(APIS[api_key].min_version, APIS[api_key].max_version + 1)


class World:
    """A running node and one connection to it."""

    def __init__(self, node: Node, client: WireClient) -> None:
        self.node, self.client = node, client
        self.producer_id, self.epoch = -1, -1
        self.sequence = 0

    async def ask(self, request: Request, version: int, response: Any) -> Any:
        return await self.client.ask(request, version, response)

    async def prepare(self, *, partitions: int = 2) -> None:
        """A topic, both coordinators, a producer."""
        topic = CreatableTopic(name=TOPIC, num_partitions=partitions, replication_factor=1)
        await self.ask(CreateTopicsRequest(topics=[topic]), 5, CreateTopicsResponse)
        for key, key_type in ((ID, 1), (GROUP, 0)):
            request = find_coordinator.FindCoordinatorRequest(key=key, key_type=key_type)
            found = await self.ask(request, 3, find_coordinator.FindCoordinatorResponse)
            assert found.error_code == E.NONE

    async def init(self, version: int = 4, **fields: Any) -> Any:
        fields = {"transactional_id": ID, "transaction_timeout_ms": 60_000, **fields}
        request = init_producer_id.InitProducerIdRequest(**fields)
        made = await self.ask(request, version, init_producer_id.InitProducerIdResponse)
        if made.error_code == E.NONE:
            self.producer_id, self.epoch, self.sequence = made.producer_id, made.producer_epoch, 0
        return made

    async def add(self, *indexes: int, version: int = 3, topic: str = TOPIC) -> list[int]:
        topics = [add_partitions_to_txn.AddPartitionsToTxnTopic(name=topic, partitions=list(indexes))]
        if version < 4:
            request = add_partitions_to_txn.AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=ID,
                v3_and_below_producer_id=self.producer_id,
                v3_and_below_producer_epoch=self.epoch,
                v3_and_below_topics=topics,
            )
        else:
            transaction = add_partitions_to_txn.AddPartitionsToTxnTransaction(
                transactional_id=ID, producer_id=self.producer_id, producer_epoch=self.epoch, topics=topics
            )
            request = add_partitions_to_txn.AddPartitionsToTxnRequest(transactions=[transaction])
        answer = await self.ask(request, version, add_partitions_to_txn.AddPartitionsToTxnResponse)
        found = answer.results_by_topic_v3_and_below if version < 4 else answer.results_by_transaction[0].topic_results
        return [one.partition_error_code for one in found[0].results_by_partition]

    async def add_offsets(self, version: int = 3) -> int:
        request = add_offsets_to_txn.AddOffsetsToTxnRequest(
            transactional_id=ID, producer_id=self.producer_id, producer_epoch=self.epoch, group_id=GROUP
        )
        return (await self.ask(request, version, add_offsets_to_txn.AddOffsetsToTxnResponse)).error_code

    async def produce(self, version: int = 9, *, partition: int = 0, value: bytes = b"v", key: str | None = ID) -> Any:
        batch = build_batch(
            [Record(timestamp_ms=1_700_000_000_000, value=value)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=self.sequence,
            transactional=True,
        )
        data = produce.TopicProduceData(
            name=TOPIC,
            topic_id=self.node.broker.image.topics.id_of(TOPIC) or ZERO_UUID,
            partition_data=[produce.PartitionProduceData(index=partition, records=bytes(batch))],
        )
        request = produce.ProduceRequest(transactional_id=key, acks=-1, timeout_ms=1000, topic_data=[data])
        response = await self.ask(request, version, produce.ProduceResponse)
        [answer] = response.responses[0].partition_responses
        if answer.error_code == E.NONE:
            self.sequence += 1
        return answer

    async def commit_offset(self, offset: int, version: int = 3, **fields: Any) -> int:
        partition = txn_offset_commit.TxnOffsetCommitRequestPartition(
            partition_index=0, committed_offset=offset, committed_metadata="m"
        )
        topic_id = fields.pop("topic_id", self.node.broker.image.topics.id_of(TOPIC) or ZERO_UUID)
        topic = txn_offset_commit.TxnOffsetCommitRequestTopic(
            name=fields.pop("topic", TOPIC), topic_id=topic_id, partitions=[partition]
        )
        fields = {"transactional_id": ID, "group_id": GROUP, **fields}
        request = txn_offset_commit.TxnOffsetCommitRequest(
            producer_id=self.producer_id, producer_epoch=self.epoch, topics=[topic], **fields
        )
        answer = await self.ask(request, version, txn_offset_commit.TxnOffsetCommitResponse)
        return int(answer.topics[0].partitions[0].error_code)

    async def offset(self, *, stable: bool = False) -> tuple[int, int]:
        asked = offset_fetch.OffsetFetchRequestTopics(name=TOPIC, partition_indexes=[0])
        group = offset_fetch.OffsetFetchRequestGroup(group_id=GROUP, topics=[asked])
        request = offset_fetch.OffsetFetchRequest(groups=[group], require_stable=stable)
        answer = await self.ask(request, 8, offset_fetch.OffsetFetchResponse)
        found = answer.groups[0].topics[0].partitions[0]
        return found.error_code, found.committed_offset

    async def end(self, version: int = 3, *, commit: bool = True, **fields: Any) -> Any:
        fields = {"producer_id": self.producer_id, "producer_epoch": self.epoch, "transactional_id": ID, **fields}
        request = end_txn.EndTxnRequest(committed=commit, **fields)
        answer = await self.ask(request, version, end_txn.EndTxnResponse)
        if version >= 5 and answer.error_code == E.NONE:
            self.producer_id, self.epoch, self.sequence = answer.producer_id, answer.producer_epoch, 0
        return answer

    async def fetch(self, *, partition: int = 0, max_wait_ms: int = 0, offset: int = 0) -> Any:
        wanted = fetch.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=100_000)
        request = fetch.FetchRequest(
            max_wait_ms=max_wait_ms,
            min_bytes=1,
            max_bytes=100_000,
            isolation_level=1,
            topics=[fetch.FetchTopic(topic=TOPIC, partitions=[wanted])],
        )
        return (await self.ask(request, 12, fetch.FetchResponse)).responses[0].partitions[0]

    async def describe(self, key: str = ID) -> Any:
        request = describe_transactions.DescribeTransactionsRequest(transactional_ids=[key])
        return (await self.ask(request, 0, describe_transactions.DescribeTransactionsResponse)).transaction_states[0]

    def log(self, topic: str = TOPIC, partition: int = 0) -> Any:
        found = self.node.broker.replicas.get(topic, partition)
        assert found is not None
        return found.log


def run(
    test: Callable[[World], Awaitable[None]], *, disk: MemoryDisk | None = None, seed: int = 1, **settings: object
) -> None:
    async def main(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS | {key.replace("_", "."): value for key, value in settings.items()}), env)
        await node.start()
        async with WireClient.connected(ADDRESS) as client:
            await test(World(node, client))
        await node.stop()

    simulate(main, seed=seed, disk=disk)


@pytest.mark.parametrize("version", versions(24))
def test_add_partitions_in_every_version(version: int) -> None:
    async def test(world: World) -> None:
        await world.prepare()
        assert await world.add(0, version=version) == [E.INVALID_PRODUCER_ID_MAPPING]
        await world.init()
        assert await world.add(0, 1, version=version) == [E.NONE, E.NONE]
        assert await world.add(0, 7, version=version) == [E.OPERATION_NOT_ATTEMPTED, E.UNKNOWN_TOPIC_OR_PARTITION]
        world.epoch += 1
        fenced = E.PRODUCER_FENCED if version >= 2 else E.INVALID_PRODUCER_EPOCH
        assert await world.add(0, version=version) == [fenced]
        world.epoch -= 1
        described = await world.describe()
        assert described.transaction_state == "Ongoing"
        assert [(topic.topic, topic.partitions) for topic in described.topics] == [(TOPIC, [0, 1])]

    run(test)


@pytest.mark.parametrize("version", versions(25))
def test_add_offsets_in_every_version(version: int) -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        assert await world.add_offsets(version) == E.NONE
        world.epoch += 1
        fenced = E.PRODUCER_FENCED if version >= 2 else E.INVALID_PRODUCER_EPOCH
        assert await world.add_offsets(version) == fenced
        assert [topic.topic for topic in (await world.describe()).topics] == ["__consumer_offsets"]

    run(test)


@pytest.mark.parametrize("version", versions(26))
def test_end_in_every_version(version: int) -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        await world.add(0)
        await world.produce()
        epoch = world.epoch
        wrong = await world.end(version, producer_epoch=epoch + 7)
        assert wrong.error_code == (E.PRODUCER_FENCED if version >= 2 else E.INVALID_PRODUCER_EPOCH)
        assert (await world.end(version, transactional_id="")).error_code == E.INVALID_REQUEST
        ended = await world.end(version)
        assert ended.error_code == E.NONE
        if version >= 5:
            assert (ended.producer_id, ended.producer_epoch) == (world.producer_id, epoch + 1)
        log = world.log()
        assert log.log_end_offset == log.last_stable_offset == 2, "the marker is written before the next request"
        assert (await world.describe()).transaction_state == "CompleteCommit"

    run(test)


@pytest.mark.parametrize("version", versions(28))
@pytest.mark.parametrize("commit", [True, False])
def test_offsets_are_pending_until_the_end_in_every_version(version: int, commit: bool) -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        if version < 5:
            not_added = E.TRANSACTION_ABORTABLE if version == 4 else E.INVALID_TXN_STATE
            assert await world.commit_offset(5, version) == not_added
            await world.add_offsets()
        unknown = {"topic": "nowhere", "topic_id": bytes(15) + b"9"}
        code = E.UNKNOWN_TOPIC_ID if version >= 6 else E.UNKNOWN_TOPIC_OR_PARTITION
        assert await world.commit_offset(5, version, **unknown) == code
        assert await world.commit_offset(5, version, group_id="") == E.INVALID_GROUP_ID
        if version >= 3:
            fields: dict[str, Any] = {"generation_id_or_member_epoch": 3}
            assert await world.commit_offset(5, version, **fields) == E.ILLEGAL_GENERATION
        assert await world.commit_offset(5, version) == E.NONE
        assert await world.offset(stable=True) == (E.UNSTABLE_OFFSET_COMMIT, -1)
        assert await world.offset() == (E.NONE, -1)
        assert (await world.end(5 if version >= 5 else 3, commit=commit)).error_code == E.NONE
        assert await world.offset(stable=True) == (E.NONE, 5 if commit else -1)
        log = world.log("__consumer_offsets")
        assert log.last_stable_offset == log.log_end_offset
        assert len(log.aborted_transactions(0, log.log_end_offset)) == (0 if commit else 1)

    run(test)


@pytest.mark.parametrize("version", range(3, 14))
def test_transactional_batches_in_every_version(version: int) -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        assert (await world.produce(version, key=None)).error_code == E.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        if version < 12:
            not_added = E.TRANSACTION_ABORTABLE if version == 11 else E.INVALID_TXN_STATE
            assert (await world.produce(version)).error_code == not_added
            await world.add(0)
        for expected in range(4):  # the later ones take the short cut
            assert (await world.produce(version)).base_offset == expected
        assert world.log().last_stable_offset == 0
        assert (await world.end(5 if version >= 12 else 3)).error_code == E.NONE
        before = world.log().log_end_offset
        if version < 12:
            refused = await world.produce(version)
            assert refused.error_code == (E.TRANSACTION_ABORTABLE if version == 11 else E.INVALID_TXN_STATE)
            assert world.log().log_end_offset == before, "outside of a transaction nothing is written"

    run(test)


def test_the_next_transaction_begins_at_once() -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        for number in range(5):
            assert (await world.produce(12, value=b"%d" % number)).error_code == E.NONE
            assert (await world.commit_offset(number, 5)) == E.NONE
            assert (await world.end(5, commit=number % 2 == 0)).error_code == E.NONE
        aborted = (await world.fetch()).aborted_transactions
        assert [found.first_offset for found in aborted] == [2, 6]
        assert await world.offset(stable=True) == (E.NONE, 4)

    run(test)


def test_a_waiting_reader_is_woken_by_the_marker() -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        await world.produce(12)
        async with WireClient.connected(ADDRESS) as other:
            waiting = asyncio.ensure_future(World(world.node, other).fetch(max_wait_ms=60_000))
            await asyncio.sleep(1)
            assert not waiting.done()
            began = asyncio.get_running_loop().time()
            await world.end(5)
            data = await waiting
            assert asyncio.get_running_loop().time() - began < 1
            assert data.last_stable_offset == 2
            assert data.records

    run(test)


def test_a_deleted_topic_holds_nothing_up() -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        await world.produce(12)
        await world.ask(DeleteTopicsRequest(topic_names=[TOPIC], timeout_ms=1000), 4, DeleteTopicsResponse)
        assert (await world.end(5)).error_code == E.NONE
        assert (await world.describe()).transaction_state == "CompleteCommit"

    run(test)


def test_two_phase_commit_is_for_those_who_ask_for_unstable_versions() -> None:
    async def refused(world: World) -> None:
        await world.prepare()
        with pytest.raises(asyncio.IncompleteReadError):
            await world.init(6, enable_2pc=True)

    async def not_enabled(world: World) -> None:
        await world.prepare()
        assert (await world.init(6)).error_code == E.NONE
        assert (await world.init(6, enable_2pc=True)).error_code == E.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        assert (await world.init(6, keep_prepared_txn=True)).error_code == E.UNSUPPORTED_VERSION

    async def enabled(world: World) -> None:
        await world.prepare()
        made = await world.init(6, enable_2pc=True, transaction_timeout_ms=1)
        assert (made.error_code, made.ongoing_txn_producer_id) == (E.NONE, -1)
        assert (await world.describe()).transaction_timeout_ms == 2**31 - 1

    run(refused)
    run(not_enabled, unstable_api_versions_enable="true")
    run(enabled, unstable_api_versions_enable="true", transaction_two_phase_commit_enable="true")


def test_verification_may_be_switched_off() -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        assert (await world.produce(9)).error_code == E.NONE

    run(test, transaction_partition_verification_enable="false")


def test_producer_ids_are_fetched_while_a_client_waits() -> None:
    async def test(world: World) -> None:
        await world.prepare()
        while world.node.broker.producer_ids.try_producer_id() is not None:
            pass
        made = await world.init()
        assert made.error_code == E.NONE
        assert made.producer_id % 1000 == 0

    run(test)


def test_transactions_of_several_producers_in_one_request_are_refused() -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        data = [
            produce.PartitionProduceData(
                index=index,
                records=bytes(
                    build_batch(
                        [Record(timestamp_ms=1_700_000_000_000, value=b"v")],
                        producer_id=world.producer_id + index,
                        producer_epoch=0,
                        base_sequence=0,
                        transactional=True,
                    )
                ),
            )
            for index in range(2)
        ]
        request = produce.ProduceRequest(
            transactional_id=ID,
            acks=-1,
            timeout_ms=1000,
            topic_data=[produce.TopicProduceData(name=TOPIC, partition_data=data)],
        )
        response = await world.ask(request, 9, produce.ProduceResponse)
        codes = {answer.error_code for answer in response.responses[0].partition_responses}
        assert codes == {E.INVALID_PRODUCER_ID_MAPPING}

    run(test)


@pytest.mark.parametrize("version", versions(27))
def test_markers_from_elsewhere(version: int) -> None:
    async def test(world: World) -> None:
        await world.prepare()
        await world.init()
        await world.produce(12)
        await world.commit_offset(3, 5)

        async def write(topic: str, *indexes: int, epoch: int = 1) -> list[int]:
            marker = write_txn_markers.WritableTxnMarker(
                producer_id=world.producer_id,
                producer_epoch=epoch,
                transaction_result=False,
                topics=[write_txn_markers.WritableTxnMarkerTopic(name=topic, partition_indexes=list(indexes))],
                coordinator_epoch=0,
                transaction_version=2,
            )
            request = write_txn_markers.WriteTxnMarkersRequest(markers=[marker])
            answer = await world.ask(request, version, write_txn_markers.WriteTxnMarkersResponse)
            return [found.error_code for found in answer.markers[0].topics[0].partitions]

        assert await write(TOPIC, 0, 9) == [E.NONE, E.UNKNOWN_TOPIC_OR_PARTITION]
        assert await write("__consumer_offsets", 0) == [E.NONE]
        assert world.log().last_stable_offset == 2
        assert await world.offset(stable=True) == (E.NONE, -1)
        assert await write(TOPIC, 0, epoch=0) == [E.INVALID_PRODUCER_EPOCH]
        empty = await world.ask(
            write_txn_markers.WriteTxnMarkersRequest(markers=[]), version, write_txn_markers.WriteTxnMarkersResponse
        )
        assert empty.markers == []

    run(test)


@pytest.mark.parametrize("version", versions(66))
def test_transactions_are_listed(version: int) -> None:
    async def test(world: World) -> None:
        async def listed(**filters: Any) -> tuple[int, list[str], list[str]]:
            request = list_transactions.ListTransactionsRequest(**filters)
            answer = await world.ask(request, version, list_transactions.ListTransactionsResponse)
            return (
                answer.error_code,
                list(answer.unknown_state_filters),
                [f"{one.transactional_id} {one.transaction_state}" for one in answer.transaction_states],
            )

        assert await listed() == (E.NONE, [], [])
        await world.prepare()
        await world.init(transactional_id="other")
        await world.init()
        await world.add(0)
        await asyncio.sleep(1)
        assert await listed() == (E.NONE, [], ["other Empty", "id Ongoing"])
        assert await listed(state_filters=["Ongoing", "x"]) == (E.NONE, ["x"], ["id Ongoing"])
        assert await listed(producer_id_filters=[world.producer_id]) == (E.NONE, [], ["id Ongoing"])
        if version >= 1:
            assert await listed(duration_filter=999, state_filters=["Ongoing"]) == (E.NONE, [], ["id Ongoing"])
            assert await listed(duration_filter=2000, state_filters=["Ongoing"]) == (E.NONE, [], [])
        if version >= 2:
            assert await listed(transactional_id_pattern="o.*r") == (E.NONE, [], ["other Empty"])
            assert await listed(transactional_id_pattern="o") == (E.NONE, [], [])
            assert await listed(transactional_id_pattern="(") == (E.INVALID_REGULAR_EXPRESSION, [], [])

    run(test)


def test_describing_what_is_not_there() -> None:
    async def test(world: World) -> None:
        assert (await world.describe()).error_code == E.NOT_COORDINATOR
        await world.prepare()
        assert (await world.describe()).error_code == E.TRANSACTIONAL_ID_NOT_FOUND
        assert (await world.describe("")).error_code == E.INVALID_REQUEST

    run(test)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_records_are_written_as_the_feature_says_and_outlive_a_restart(level: int) -> None:
    disk = MemoryDisk()

    async def before(world: World) -> None:
        await world.prepare()
        update = FeatureUpdateKey(feature="transaction.version", max_version_level=level, upgrade_type=2)
        if level < 2:
            request = UpdateFeaturesRequest(timeout_ms=1000, feature_updates=[update])
            assert (await world.ask(request, 1, UpdateFeaturesResponse)).error_code == E.NONE
        await world.init()
        await world.add(0)
        await world.produce()

    async def after(world: World) -> None:
        world.producer_id, world.epoch, world.sequence = 0, 0, 1
        data = await world.node.broker.transactions.partition_of(ID)._log.read(0, 10_000)
        assert {record.value[:2] for record in read_records(data) if record.value} == {b"\0\1" if level else b"\0\0"}
        assert (await world.produce()).error_code == E.NONE
        assert world.log().last_stable_offset == 0
        assert (await world.init()).error_code == E.CONCURRENT_TRANSACTIONS
        assert (await world.init()).producer_epoch == 2
        assert [found.producer_id for found in (await world.fetch()).aborted_transactions] == [0]
        assert (await world.describe()).transaction_state == "Empty"

    run(before, disk=disk)
    run(after, disk=disk, seed=2)

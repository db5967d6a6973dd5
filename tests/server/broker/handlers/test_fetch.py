"""Fetch in every version: limits, waiting, sessions, isolation, epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.fetch import FetchPartition, FetchResponse
from ottla.records.batch import CorruptRecordError
from ottla.records.compression import Codec
from ottla.records.control import end_transaction_marker
from ottla.records.validation import AppendOrigin
from ottla.runtime.memory_disk import MemoryDisk
from ottla.runtime.real_disk import RealDisk
from ottla.server.broker.fetch_reader import FetchReader
from ottla.server.broker.quotas.client_quotas import ClientQuotas
from ottla.server.log.log import Log
from ottla.server.log.slice import LogSlice
from ottla.server.log.verification import UNVERIFIED
from tests.server.broker.data_world import NOW_MS, World, batch, values, world
from tests.server.broker.support import Client, run

VERSIONS = range(4, 19)
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def append(broker: World, *contents: bytes, topic: str = "topic", partition: int = 0, **options: int) -> None:
    """One batch, straight into the partition."""
    broker.partition(topic, partition).append(batch(*contents, **options), -1, NOW_MS, AppendOrigin.CLIENT)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 (what is waited for has no event)
        await asyncio.sleep(0.001)


def listed(response: FetchResponse) -> dict[tuple[str | bytes, int], list[bytes | None]]:
    return {
        (topic.topic or topic.topic_id, data.partition_index): values(data)
        for topic in response.responses
        for data in topic.partitions
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_records_come_with_the_offsets_of_the_log(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            append(broker, b"a", b"b")
            append(broker, b"c")
            broker.partition().delete_records_before(1)
            client = await broker.client()
            data = await broker.fetch_one(client, 1, version=version)
            assert values(data) == [b"a", b"b", b"c"]
            assert (data.error_code, data.high_watermark, data.last_stable_offset) == (0, 3, 3)
            assert data.log_start_offset == (1 if version >= 5 else -1)
            assert data.preferred_read_replica == -1
            assert data.aborted_transactions is None
            assert values(await broker.fetch_one(client, 2, version=version)) == [b"c"]
            data = await broker.fetch_one(client, 3, version=version)
            assert (data.error_code, bytes(data.records or b"")) == (0, b"")

    run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_offsets_outside_the_log_and_unknown_partitions_are_errors(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            append(broker, b"a", b"b")
            broker.partition().delete_records_before(1)
            client = await broker.client()
            for offset in (0, 3):
                data = await broker.fetch_one(client, offset, version=version, max_wait_ms=30_000)
                assert data.error_code == ErrorCode.OFFSET_OUT_OF_RANGE
                assert (data.high_watermark, data.log_start_offset, bytes(data.records or b"")) == (-1, -1, b"")
            wanted: dict[tuple[str, int], int | FetchPartition] = {("nowhere", 0): 0, ("topic", 4): 0, ("topic", 0): 1}
            response = await broker.fetch(client, wanted, version=version)
            codes = [data.error_code for topic in response.responses for data in topic.partitions]
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if version < 13 else ErrorCode.UNKNOWN_TOPIC_ID
            assert codes == [unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0]

    run(main())


def test_the_first_batch_is_whole_whatever_the_limits_and_the_others_obey_them() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=3)
            for partition in (1, 2):
                for _ in range(3):
                    append(broker, bytes(1000), partition=partition)
            client = await broker.client()
            size = 1000 + 61 + 10
            everything = {("topic", index): 0 for index in range(3)}

            async def counts(**limits: int) -> list[int]:
                response = await broker.fetch(client, everything, **limits)
                return [len(values(data)) for data in response.responses[0].partitions]

            assert await counts(max_bytes=1, partition_max_bytes=1) == [0, 1, 0]
            assert await counts(partition_max_bytes=1) == [0, 1, 0]
            assert await counts(partition_max_bytes=2 * size) == [0, 2, 2]
            assert await counts(max_bytes=2 * size) == [0, 2, 0]
            assert await counts(max_bytes=4 * size + 100) == [0, 3, 1]
            assert await counts() == [0, 3, 3]
            everything = {("topic", index): 0 for index in (2, 1, 0)}
            assert await counts(max_bytes=10) == [1, 0, 0], "in the client's order"

    run(main())


def test_fetch_max_bytes_of_the_broker_caps_what_a_client_asks_for() -> None:
    async def main() -> None:
        async with world({"fetch.max.bytes": 2200}) as broker:
            broker.create_topic()
            for _ in range(5):
                append(broker, bytes(1000))
            client = await broker.client()
            assert len(values(await broker.fetch_one(client, 0))) == 2
            # min_bytes above the cap would otherwise never be reached.
            data = await broker.fetch_one(client, 0, min_bytes=1_000_000, max_wait_ms=30_000)
            assert len(values(data)) == 2

    run(main())


@LOOPS
@pytest.mark.parametrize("version", [4, 12, 18])
def test_a_fetch_waits_for_the_first_record(version: int, loop: str) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=2)
            client, producer = await broker.client(), await broker.client()
            wanted: dict[tuple[str, int], int | FetchPartition] = {("topic", 0): 0, ("topic", 1): 0}
            client.send(broker.fetch_request(version, wanted, max_wait_ms=30_000), version)
            await until(lambda: broker.partition().waiter_count)
            await broker.produce(producer, batch(b"a"), partition=1)
            response = await client.receive()
            assert [values(data) for data in response.responses[0].partitions] == [[], [b"a"]]
            assert broker.partition().waiter_count == broker.partition("topic", 1).waiter_count == 0

    run(main(), loop=loop)


@LOOPS
def test_a_fetch_waits_for_min_bytes_over_all_partitions(loop: str) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=2)
            append(broker, bytes(100))
            client = await broker.client()
            wanted: dict[tuple[str, int], int | FetchPartition] = {("topic", 0): 0, ("topic", 1): 0}
            client.send(broker.fetch_request(12, wanted, max_wait_ms=30_000, min_bytes=600), 12)
            await until(lambda: broker.partition().waiter_count)
            for partition in (1, 0):
                append(broker, bytes(100), partition=partition)
                await asyncio.sleep(0.005)
                assert broker.partition().waiter_count == 1
            append(broker, bytes(100), partition=1)
            response = await client.receive()
            assert [len(values(data)) for data in response.responses[0].partitions] == [2, 2]

    run(main(), loop=loop)


@LOOPS
def test_a_fetch_answers_with_what_there_is_when_its_time_is_over(loop: str) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            append(broker, b"a")
            client = await broker.client()
            data = await broker.fetch_one(client, 0, max_wait_ms=20, min_bytes=10_000)
            assert values(data) == [b"a"]
            data = await broker.fetch_one(client, 1, max_wait_ms=20)
            assert (values(data), data.high_watermark) == ([], 1)
            assert broker.partition().waiter_count == 0

    run(main(), loop=loop)


@LOOPS
def test_a_burst_of_appends_is_one_answer(loop: str) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, max_wait_ms=30_000), 12)
            await until(lambda: broker.partition().waiter_count)
            for number in range(5):
                append(broker, b"%d" % number)
            response = await client.receive()
            assert values(response.responses[0].partitions[0]) == [b"0", b"1", b"2", b"3", b"4"]

    run(main(), loop=loop)


@pytest.mark.parametrize("min_bytes", [1, 1000])
def test_a_waiting_fetch_ends_with_the_leadership_the_topic_or_its_records(min_bytes: int) -> None:
    async def main() -> None:
        async with world() as broker:
            for name in ("moved", "deleted", "cut"):
                broker.create_topic(name, replicas=[1, 2])
                broker.partition(name).update_leadership(1, 0, (1, 2), (1,))
                append(broker, b"a", topic=name)
            client = await broker.client()
            changes: dict[str, tuple[Callable[[], object], int]] = {
                # Who reads on without an epoch may do so from the follower that this broker is now (KIP-392).
                "moved": (lambda: broker.elect("moved", leader=2), ErrorCode.FENCED_LEADER_EPOCH),
                "deleted": (lambda: broker.delete_topic("deleted"), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                "cut": (lambda: broker.partition("cut").delete_records_before(1), ErrorCode.OFFSET_OUT_OF_RANGE),
            }
            for name, (change, code) in changes.items():
                partition = broker.partition(name)
                offset = 0 if name == "cut" else 1
                epoch = 0 if name == "moved" else -1
                wanted = FetchPartition(fetch_offset=offset, current_leader_epoch=epoch, partition_max_bytes=1000)
                request = broker.fetch_request(
                    12, {(name, 0): wanted}, max_wait_ms=30_000, min_bytes=min_bytes + 100 * (name == "cut")
                )
                client.send(request, 12)
                await until(lambda partition=partition: partition.waiter_count)
                change()
                response = await asyncio.wait_for(client.receive(), 15)  # and not when the wait is over anyhow
                assert response.responses[0].partitions[0].error_code == code, name
                assert partition.waiter_count == 0

    run(main())


def test_a_client_that_goes_away_leaves_no_waiter_behind() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, max_wait_ms=30_000), 12)
            await until(lambda: broker.partition().waiter_count)
            await client.close()
            await until(lambda: not broker.partition().waiter_count)
            append(broker, b"a")

    run(main())


def test_requests_behind_a_waiting_fetch_wait_their_turn() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, max_wait_ms=30_000), 12)
            client.send(broker.produce_request(9, ("topic", 0, batch(b"mine"))), 9)
            await until(lambda: broker.partition().waiter_count)
            await asyncio.sleep(0.01)
            assert broker.partition().log.log_end_offset == 0
            append(broker, b"others")
            assert values((await client.receive()).responses[0].partitions[0]) == [b"others"]
            assert (await client.receive()).responses[0].partition_responses[0].base_offset == 1

    run(main())


# Isolation


def transactional(broker: World, producer_id: int, sequence: int, *contents: bytes) -> None:
    broker.partition().append(
        batch(*contents, producer_id=producer_id, producer_epoch=0, base_sequence=sequence, transactional=True),
        -1,
        NOW_MS,
        AppendOrigin.CLIENT,
        verification=UNVERIFIED,
    )


def end_transaction(broker: World, producer_id: int, *, commit: bool) -> None:
    marker = end_transaction_marker(
        is_commit=commit, producer_id=producer_id, producer_epoch=0, coordinator_epoch=0, timestamp_ms=NOW_MS
    )
    broker.partition().append(marker, -1, NOW_MS, AppendOrigin.COORDINATOR)


@pytest.mark.parametrize("version", [4, 11, 12, 18])
def test_read_committed_stops_at_the_open_transaction_and_names_the_aborted_ones(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            append(broker, b"plain")
            transactional(broker, 1, 0, b"aborted")
            end_transaction(broker, 1, commit=False)
            transactional(broker, 2, 0, b"open")
            transactional(broker, 1, 1, b"aborted later")
            end_transaction(broker, 1, commit=False)
            client = await broker.client()
            data = await broker.fetch_one(client, 0, version=version, isolation_level=1)
            assert (data.high_watermark, data.last_stable_offset) == (6, 3)
            assert values(data)[:2] == [b"plain", b"aborted"]
            assert len(values(data)) == 3
            aborted = data.aborted_transactions or []
            assert [(item.producer_id, item.first_offset) for item in aborted] == [(1, 1)]
            data = await broker.fetch_one(client, 0, version=version, isolation_level=0)
            assert data.aborted_transactions is None
            assert len(values(data)) == 6
            data = await broker.fetch_one(client, 3, version=version, isolation_level=1)
            assert (values(data), data.aborted_transactions) == ([], [])
            end_transaction(broker, 2, commit=True)
            data = await broker.fetch_one(client, 3, version=version, isolation_level=1)
            assert [(item.producer_id, item.first_offset) for item in data.aborted_transactions or []] == [(1, 4)]
            # Only transactions that begin within what is returned are named.
            data = await broker.fetch_one(client, 3, version=version, isolation_level=1, partition_max_bytes=1)
            assert len(values(data)) == 1
            assert data.aborted_transactions == []

    run(main())


def test_a_read_committed_fetch_waits_until_the_transaction_ends() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            transactional(broker, 1, 0, b"a")
            client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, max_wait_ms=30_000, isolation_level=1), 12)
            await until(lambda: broker.partition().waiter_count)
            append(broker, b"more")
            await asyncio.sleep(0.005)
            assert broker.partition().waiter_count == 1
            end_transaction(broker, 1, commit=True)
            response = await client.receive()
            assert values(response.responses[0].partitions[0])[:2] == [b"a", b"more"]

    run(main())


# Epochs


def test_leader_epochs_fence_old_and_unknown_clients() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(leader_epoch=3)
            append(broker, b"a")
            client = await broker.client()
            for epoch, code in (
                (-1, ErrorCode.NONE),
                (2, ErrorCode.FENCED_LEADER_EPOCH),
                (3, ErrorCode.NONE),
                (4, ErrorCode.UNKNOWN_LEADER_EPOCH),
            ):
                where = FetchPartition(current_leader_epoch=epoch, partition_max_bytes=1000)
                for version in (9, 12, 16):
                    data = await broker.fetch_one(client, where, version=version)
                    assert data.error_code == code
                    hint = (data.current_leader.leader_id, data.current_leader.leader_epoch)
                    hinted = version >= 16 and code == ErrorCode.FENCED_LEADER_EPOCH
                    assert hint == ((1, 3) if hinted else (-1, -1))

    run(main())


def test_a_client_whose_history_differs_is_told_where() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(leader_epoch=1)
            append(broker, b"a", b"b")
            broker.elect("topic")
            broker.elect("topic")
            append(broker, b"c")
            assert broker.partition().leader_epoch == 3
            client = await broker.client()

            async def fetched(offset: int, last_fetched_epoch: int) -> tuple[int, tuple[int, int], int]:
                where = FetchPartition(
                    fetch_offset=offset, last_fetched_epoch=last_fetched_epoch, partition_max_bytes=1000
                )
                data = await broker.fetch_one(client, where, max_wait_ms=30_000 if offset < 3 else 0)
                diverging = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset)
                return data.error_code, diverging, len(values(data))

            assert await fetched(2, 1) == (0, (-1, -1), 1)
            assert await fetched(3, 3) == (0, (-1, -1), 0)
            assert await fetched(2, 2) == (0, (1, 2), 0), "epoch 2 wrote nothing"
            assert await fetched(3, 1) == (0, (1, 2), 0)
            assert await fetched(2, 0) == (0, (0, 0), 0), "an epoch before the first one ended where that begins"
            broker.partition().delete_records_before(1)
            assert (await fetched(0, 1))[0] == ErrorCode.OFFSET_OUT_OF_RANGE

    run(main())


def test_followers_read_to_the_log_end_and_their_fetches_commit() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.register_broker(2, "other", 9092)
            broker.create_topic(replicas=[1, 2])
            append(broker, b"a", b"b")
            client = await broker.client()
            assert values(await broker.fetch_one(client, 0)) == [], "not committed"
            for version in (12, 17):
                data = await broker.fetch_one(client, 0, version=version, replica_id=2)
                assert len(values(data)) == 2
            data = await broker.fetch_one(client, 2, replica_id=2)
            assert data.high_watermark == 2
            assert len(values(await broker.fetch_one(client, 0))) == 2
            data = await broker.fetch_one(client, 0, replica_id=3)
            assert data.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER

    run(main())


@pytest.mark.parametrize("version", [15, 16, 18])
def test_a_broker_that_does_not_lead_says_who_does(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.register_broker(2, "other.example", 9192)
            broker.create_topic("elsewhere", leader=2, leader_epoch=4, replicas=[2])
            client = await broker.client()
            response = await broker.fetch(client, {("elsewhere", 0): 0}, version=version, max_wait_ms=30_000)
            data = response.responses[0].partitions[0]
            assert data.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
            leader = (data.current_leader.leader_id, data.current_leader.leader_epoch)
            endpoints = [(item.node_id, item.host, item.port) for item in response.node_endpoints]
            assert (leader, endpoints) == (((2, 4), [(2, "other.example", 9192)]) if version >= 16 else ((-1, -1), []))

    run(main())


# Sessions


@pytest.mark.parametrize("version", [7, 12, 13, 18])
def test_an_incremental_session_lists_only_news(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic("one", 2)
            broker.create_topic("two", 1)
            client = await broker.client()
            names: dict[str, str | bytes] = {
                name: name if version < 13 else broker.topic_ids[name] for name in ("one", "two")
            }
            wanted: dict[tuple[str, int], int | FetchPartition] = {("one", 0): 0, ("one", 1): 0, ("two", 0): 0}
            response = await broker.fetch(client, wanted, version=version, session=(0, 0))
            session = response.session_id
            assert session > 0
            assert listed(response) == {(names["one"], 0): [], (names["one"], 1): [], (names["two"], 0): []}

            async def next_fetch(
                epoch: int, *changed: tuple[str, int, int], forgotten: Sequence[tuple[str, int]] = ()
            ) -> dict[tuple[str | bytes, int], list[bytes | None]]:
                again = {(name, index): offset for name, index, offset in changed}
                answer = await broker.fetch(
                    client, again, version=version, session=(session, epoch), forgotten=forgotten
                )
                assert (answer.error_code, answer.session_id) == (0, session)
                return listed(answer)

            assert await next_fetch(1) == {}
            append(broker, b"a", topic="one", partition=1)
            assert await next_fetch(2) == {(names["one"], 1): [b"a"]}
            assert await next_fetch(3) == {(names["one"], 1): [b"a"]}, "the offset stays until the client changes it"
            assert await next_fetch(4, ("one", 1, 1)) == {}
            append(broker, b"b", topic="one", partition=1)
            append(broker, b"c", topic="two")
            assert await next_fetch(5, forgotten=[("one", 1)]) == {(names["two"], 0): [b"c"]}
            response = await broker.fetch(client, {}, version=version, session=(session, 5))
            assert response.error_code == ErrorCode.INVALID_FETCH_SESSION_EPOCH
            assert response.session_id == 0
            response = await broker.fetch(client, {}, version=version, session=(session + 1, 1))
            assert response.error_code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND
            assert await next_fetch(6, ("two", 0, 1)) == {}
            response = await broker.fetch(client, {("one", 0): 0}, version=version, session=(session, -1))
            assert (response.session_id, listed(response)) == (0, {(names["one"], 0): []})
            assert len(broker.broker.fetch_sessions) == 0

    run(main())


def test_a_session_of_names_cannot_go_on_with_ids() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            response = await broker.fetch(client, {("topic", 0): 0}, version=12, session=(0, 0))
            response = await broker.fetch(client, {}, version=13, session=(response.session_id, 1))
            assert response.error_code == ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR

    run(main())


def test_an_error_in_a_session_is_repeated_until_it_is_over() -> None:
    async def main() -> None:
        async with world() as broker:
            client = await broker.client()
            response = await broker.fetch(client, {("topic", 0): 0}, session=(0, 0))
            session = response.session_id
            for epoch in (1, 2):
                response = await broker.fetch(client, {}, session=(session, epoch), max_wait_ms=30_000)
                assert response.responses[0].partitions[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            broker.create_topic()
            response = await broker.fetch(client, {}, session=(session, 3))
            assert response.responses[0].partitions[0].error_code == 0
            response = await broker.fetch(client, {}, session=(session, 4))
            assert response.responses == []

    run(main())


def test_without_room_for_a_session_the_answer_is_full_and_has_id_zero() -> None:
    async def main() -> None:
        async with world({"max.incremental.fetch.session.cache.slots": 0}) as broker:
            broker.create_topic()
            client = await broker.client()
            response = await broker.fetch(client, {("topic", 0): 0}, session=(0, 0))
            assert (response.session_id, len(response.responses)) == (0, 1)

    run(main())


def test_forgetting_everything_closes_the_session() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            session = (await broker.fetch(client, {("topic", 0): 0}, session=(0, 0))).session_id
            response = await broker.fetch(
                client, {}, session=(session, 1), forgotten=[("topic", 0)], max_wait_ms=30_000
            )
            assert (response.error_code, response.session_id, response.responses) == (0, 0, [])
            assert len(broker.broker.fetch_sessions) == 0

    run(main())


def test_a_session_serves_its_partitions_in_turn_when_the_answer_is_small() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=3)
            for partition in range(3):
                for _ in range(2):
                    append(broker, bytes(500), partition=partition)
            client = await broker.client()
            wanted: dict[tuple[str, int], int | FetchPartition] = {("topic", index): 0 for index in range(3)}
            response = await broker.fetch(client, wanted, session=(0, 0), max_bytes=1)
            session = response.session_id
            served = []
            for epoch in range(1, 5):
                response = await broker.fetch(client, {}, session=(session, epoch), max_bytes=1)
                served += [
                    data.partition_index for topic in response.responses for data in topic.partitions if data.records
                ]
            assert served == [0, 1, 2, 0]

    run(main())


def test_a_waiting_session_hears_of_its_partitions() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=200)
            client = await broker.client()
            wanted: dict[tuple[str, int], int | FetchPartition] = {("topic", index): 0 for index in range(200)}
            session = (await broker.fetch(client, wanted, session=(0, 0))).session_id
            client.send(broker.fetch_request(12, {}, session=(session, 1), max_wait_ms=30_000), 12)
            await until(lambda: broker.partition().waiter_count)
            append(broker, b"a", partition=150)
            assert listed(await client.receive()) == {("topic", 150): [b"a"]}

    run(main())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "append", "fetch", "fetch", "fetch", "forget", "add", "full"]),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([8, 12, 14]),
    st.sampled_from([1, 400, 100_000]),
)
def test_a_client_with_a_session_reads_everything_once_and_in_order(
    steps: list[tuple[str, int]], version: int, max_bytes: int
) -> None:
    """The model is a list of records for each partition; the client believes what incremental answers leave out."""

    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=4)
            client = await broker.client()
            written: list[list[bytes]] = [[], [], [], []]
            read: list[list[bytes | None]] = [[], [], [], []]
            wanted = {0, 1, 2, 3}
            session, epoch = 0, 0
            changed = set(wanted)
            forgotten: set[int] = set()

            async def fetch() -> None:
                nonlocal session, epoch, changed, forgotten
                response = await broker.fetch(
                    client,
                    {("topic", index): len(read[index]) for index in sorted(changed)},
                    version=version,
                    session=(session, epoch),
                    forgotten=[("topic", index) for index in sorted(forgotten)],
                    max_bytes=max_bytes,
                )
                assert response.error_code == 0
                changed, forgotten = set(), set()
                for topic in response.responses:
                    for data in topic.partitions:
                        index = data.partition_index
                        assert index in wanted
                        assert data.high_watermark == len(written[index])
                        if got := values(data):
                            read[index] += got
                            changed.add(index)
                session, epoch = response.session_id, epoch + 1
                if not session:
                    epoch, changed = 0, set(wanted)

            for number, (action, index) in enumerate(steps):
                if action == "append":
                    append(broker, b"%d" % number, partition=index)
                    written[index].append(b"%d" % number)
                elif action == "forget" and index in wanted:
                    wanted.discard(index)
                    changed.discard(index)
                    if epoch:
                        forgotten.add(index)
                elif action == "add" and index not in wanted:
                    wanted.add(index)
                    changed.add(index)
                    forgotten.discard(index)
                elif action == "full":
                    session, epoch, changed, forgotten = 0, 0, set(wanted), set()
                elif action == "fetch":
                    await fetch()
            for _ in range(2 * len(steps) + 4):
                await fetch()
            for index in range(4):
                assert read[index] == written[index][: len(read[index])]
                if index in wanted:
                    assert read[index] == written[index]

    run(main())


# Where the bytes come from


def test_cold_ranges_are_read_in_a_worker_thread() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        async with world(disk=disk) as broker:
            broker.create_topic(partitions=2)
            for partition in range(2):
                for number in range(20):
                    append(broker, b"%d" % number * 100, partition=partition)
            client = await broker.client()
            disk.is_cold = True
            wanted: dict[tuple[str, int], int | FetchPartition] = {("topic", 0): 3, ("topic", 1): 0}
            response = await broker.fetch(client, wanted)
            assert [len(values(data)) for data in response.responses[0].partitions] == [17, 20]
            client.send(broker.fetch_request(12, {("topic", 0): 20}, max_wait_ms=30_000), 12)
            await until(lambda: broker.partition().waiter_count)
            append(broker, b"new")
            assert values((await client.receive()).responses[0].partitions[0]) == [b"new"]

    run(main())


def test_a_disk_that_fails_to_read_is_an_error_of_that_partition() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        async with world(disk=disk) as broker:
            broker.create_topic()
            append(broker, b"a")
            client = await broker.client()
            disk.fail_at(1, operations=["read"], forever=True)
            data = await broker.fetch_one(client, 0)
            assert data.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            disk.clear_faults()

    run(main())


@pytest.mark.parametrize("is_cold", [False, True])
def test_records_that_are_corrupt_on_disk_are_an_error_of_their_partition(
    is_cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LogSlice.read if is_cold else Log.read

    def corrupt(self: Log | LogSlice, *arguments: int, **options: int) -> object:
        if broken and (self is broken[0] or is_cold):
            broken.pop()
            raise CorruptRecordError("batch length 0 at byte 17")
        return original(self, *arguments, **options)  # type: ignore[arg-type]

    broken: list[object] = []

    async def main() -> None:
        disk = MemoryDisk()
        async with world(disk=disk) as broker:
            broker.create_topic(partitions=2)
            for partition in range(2):
                append(broker, b"a", partition=partition)
            client = await broker.client()
            disk.is_cold = is_cold
            broken.append(broker.partition().log)
            response = await broker.fetch(client, {("topic", 0): 0, ("topic", 1): 0})
            first, second = response.responses[0].partitions
            assert first.error_code == ErrorCode.CORRUPT_MESSAGE
            assert values(second) == [b"a"]

    with monkeypatch.context() as patch:
        patch.setattr(LogSlice if is_cold else Log, "read", corrupt)
        run(main())


def test_a_waiting_fetch_that_can_not_look_does_not_fail_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, max_wait_ms=30_000, min_bytes=1000), 12)
            await until(lambda: broker.partition().waiter_count)
            with monkeypatch.context() as patch:

                def failed(*_: object, **__: object) -> None:
                    raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR)

                patch.setattr(Log, "read", failed)
                append(broker, b"a")
                data = (await client.receive()).responses[0].partitions[0]
            assert data.error_code == ErrorCode.KAFKA_STORAGE_ERROR

    run(main())


@pytest.mark.parametrize("is_cold", [False, True])
def test_the_time_it_takes_to_read_after_a_wait_is_charged(is_cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 0

    def slow(self: FetchReader) -> list[int]:
        nonlocal now_ns
        now_ns += 50_000_000
        return load(self)

    load = FetchReader.load

    async def main() -> None:
        disk = MemoryDisk()
        async with world(disk=disk) as broker:
            broker.create_topic()
            quotas = broker.broker.quotas = ClientQuotas(broker.broker.config, lambda: 50_000, lambda: now_ns)
            quotas.update({(("client-id", None),): {"request_percentage": 50.0}})
            client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, max_wait_ms=30_000), 12)
            await until(lambda: broker.partition().waiter_count)
            disk.is_cold = is_cold
            append(broker, b"a")
            assert values((await client.receive()).responses[0].partitions[0]) == [b"a"]
            [account] = [used for _, used in quotas.request.ledger._accounts.values()]
            assert account.value(50_000) == pytest.approx(0.5), "50 ms of 10 s are 0.5 %"

    with monkeypatch.context() as patch:
        patch.setattr(FetchReader, "load", slow)
        run(main())


@LOOPS
@pytest.mark.parametrize("version", [4, 12, 17])
def test_large_fetches_from_a_real_disk_are_complete_for_a_slow_reader(
    version: int, loop: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def main() -> None:
        directory = tmp_path_factory.mktemp("data")
        async with world({"log.dirs": str(directory)}, disk=RealDisk()) as broker:
            broker.create_topic(partitions=3)
            contents = [bytes([65 + number]) * 150_000 for number in range(8)]
            for partition in range(3):
                for content in contents[: 8 - 3 * partition]:
                    append(broker, content, partition=partition)
            append(broker, b"small", partition=2)
            client = await broker.client()
            wanted: dict[tuple[str, int], int | FetchPartition] = {("topic", index): 0 for index in range(3)}
            for _ in range(2):
                client.send(broker.fetch_request(version, wanted, partition_max_bytes=10_000_000), version)
                client.send(broker.fetch_request(version, {("topic", 2): 2}), version)
                await asyncio.sleep(0.01)
                response = await client.receive()
                got = [values(data) for data in response.responses[0].partitions]
                assert got == [contents, contents[:5], [*contents[:2], b"small"]]
                assert values((await client.receive()).responses[0].partitions[0]) == [b"small"]

    run(main(), loop=loop)


@LOOPS
def test_a_connection_that_closes_while_a_file_is_being_sent_is_forgotten(
    loop: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def main() -> None:
        directory = tmp_path_factory.mktemp("data")
        async with world({"log.dirs": str(directory)}, disk=RealDisk()) as broker:
            broker.create_topic()
            for _ in range(40):
                append(broker, bytes(900_000))
            client: Client = await broker.client()
            client.send(broker.fetch_request(12, {("topic", 0): 0}, partition_max_bytes=50_000_000), 12)
            await client.reader.readexactly(1000)
            client.writer.transport.abort()
            await until(lambda: not broker.listener.connections)

    run(main(), loop=loop)


def test_zstd_batches_are_served_to_every_version() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            sent = batch(b"a" * 500, compression=Codec.ZSTD)
            broker.partition().append(sent, -1, NOW_MS, AppendOrigin.CLIENT)
            client = await broker.client()
            for version in (4, 9, 10, 12):
                assert values(await broker.fetch_one(client, 0, version=version)) == [b"a" * 500]

    run(main())

"""Produce in every version: what is appended, what is refused and how; the short cut gives what the handler gives."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import encode
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.broker.broker import RequestContext
from ottla.server.broker.handlers import produce
from tests.server.broker.data_world import NOW_MS, batch, world
from tests.server.broker.support import run

VERSIONS = range(3, 14)


@pytest.mark.parametrize("version", VERSIONS)
def test_batches_get_the_next_offsets(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=2)
            client = await broker.client()
            for acks, expected in ((-1, 0), (1, 2), (-1, 4)):
                answer = await broker.produce(client, batch(b"a", b"b"), version=version, acks=acks)
                assert (answer.error_code, answer.base_offset, answer.log_append_time_ms) == (0, expected, -1)
                assert answer.log_start_offset == (0 if version >= 5 else -1)
            request = broker.produce_request(version, ("topic", 1, batch(b"c")), ("topic", 0, batch(b"d")))
            response = await client.call(request, version)
            answers = response.responses[0].partition_responses
            assert [(item.index, item.error_code, item.base_offset) for item in answers] == [(1, 0, 0), (0, 0, 6)]
            assert broker.partition().log.high_watermark == 7

    run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_unknown_partitions_are_refused_beside_good_ones(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            request = broker.produce_request(
                version, ("nowhere", 0, batch(b"a")), ("topic", 7, batch(b"a")), ("topic", 0, batch(b"a"))
            )
            response = await client.call(request, version)
            codes = [answer.error_code for topic in response.responses for answer in topic.partition_responses]
            unknown = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if version < 13 else ErrorCode.UNKNOWN_TOPIC_ID
            assert codes == [unknown, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, 0]
            assert response.responses[0].partition_responses[0].base_offset == -1

    run(main())


def test_without_acks_there_is_no_answer_and_a_failure_closes_the_connection() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            for _ in range(3):
                client.send(broker.produce_request(9, ("topic", 0, batch(b"a")), acks=0), 9, expect_response=False)
            assert (await broker.produce(client, batch(b"b"), acks=1)).base_offset == 3
            client.send(broker.produce_request(9, ("topic", 1, batch(b"a")), acks=0), 9, expect_response=False)
            assert await client.is_closed()
            assert broker.partition().log.log_end_offset == 4

    run(main())


def test_acks_that_do_not_exist_are_refused_and_nothing_is_written() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            answer = await broker.produce(client, batch(b"a"), acks=2)
            assert answer.error_code == ErrorCode.INVALID_REQUIRED_ACKS
            assert broker.partition().log.log_end_offset == 0

    run(main())


def test_a_missing_batch_a_bad_checksum_and_a_large_batch_have_their_codes() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={"max.message.bytes": "1000"})
            client = await broker.client()
            damaged = batch(b"a")
            damaged[-1] ^= 1
            for bad, code in (
                (None, ErrorCode.INVALID_RECORD),
                (b"", ErrorCode.INVALID_RECORD),
                (b"short", ErrorCode.INVALID_RECORD),
                (damaged, ErrorCode.CORRUPT_MESSAGE),
                (batch(bytes(2000)), ErrorCode.MESSAGE_TOO_LARGE),
                (batch(b"a") + batch(b"b"), ErrorCode.INVALID_RECORD),
            ):
                answer = await broker.produce(client, bad)
                assert answer.error_code == code, code
                assert (await broker.produce(client, batch(b"good"))).error_code == 0

    run(main())


def test_records_without_keys_are_named_on_a_compacted_topic_from_version_8_on() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={"cleanup.policy": "compact"})
            client = await broker.client()
            records = [Record(timestamp_ms=NOW_MS, key=key, value=b"v") for key in (b"k", None, b"k", None)]
            for version in (7, 8, 12):
                answer = await broker.produce(client, build_batch(records), version=version)
                assert answer.error_code == ErrorCode.INVALID_RECORD
                assert [error.batch_index for error in answer.record_errors] == ([1, 3] if version >= 8 else [])
                assert (answer.error_message is not None) == (version >= 8)
                assert answer.log_start_offset == 0
            unparsed = await broker.produce(client, build_batch(records) * 2)
            assert (unparsed.error_code, unparsed.log_start_offset) == (ErrorCode.INVALID_RECORD, -1)

    run(main())


def test_zstd_needs_version_7() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            compressed = batch(b"a" * 1000, compression=Codec.ZSTD)
            answer = await broker.produce(client, compressed, version=6)
            assert answer.error_code == ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
            assert (await broker.produce(client, compressed, version=7)).error_code == 0

    run(main())


def test_the_append_time_is_answered_where_the_topic_asks_for_it() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={"message.timestamp.type": "LogAppendTime"})
            client = await broker.client()
            for version in (3, 9, 9):
                answer = await broker.produce(client, batch(b"a"), version=version)
                assert answer.log_append_time_ms == NOW_MS

    run(main())


def test_a_repeated_batch_of_an_idempotent_producer_keeps_its_offset() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            first = batch(b"a", b"b", producer_id=5, producer_epoch=0, base_sequence=0)
            second = batch(b"c", producer_id=5, producer_epoch=0, base_sequence=2)
            gap = batch(b"c", producer_id=5, producer_epoch=0, base_sequence=9)
            expected = [(0, 0), (0, 2), (0, 0), (0, 2), (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1)]
            for sent, (code, offset) in zip((first, second, first, second, gap), expected, strict=True):
                answer = await broker.produce(client, sent)
                assert (answer.error_code, answer.base_offset) == (code, offset)
            assert broker.partition().log.log_end_offset == 3

    run(main())


def test_internal_topics_are_for_the_admin_client_only() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic("__consumer_offsets")
            client = await broker.client()
            answer = await broker.produce(client, batch(b"a"), topic="__consumer_offsets")
            assert answer.error_code == ErrorCode.INVALID_TOPIC_EXCEPTION
            client.connection.client_id = "__admin_client"
            answer = await broker.produce(client, batch(b"a"), topic="__consumer_offsets")
            assert answer.error_code == 0

    run(main())


def test_a_transactional_batch_needs_a_transactional_id() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            assert (await broker.produce(client, batch(b"plain"), transactional_id="mine")).error_code == 0
            sent = batch(b"a", producer_id=5, producer_epoch=0, base_sequence=0, transactional=True)
            answer = await broker.produce(client, sent, version=9, transactional_id=None)
            assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            assert broker.partition().log.log_end_offset == 1

    run(main())


def test_a_broker_that_does_not_lead_says_who_does_from_version_10_on() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.register_broker(2, "other.example", 9192)
            broker.create_topic("elsewhere", leader=2, leader_epoch=4, replicas=[2])
            broker.create_topic("here", leader=2, leader_epoch=6, replicas=[1, 2])
            client = await broker.client()
            for version in (9, 10, 12, 13):
                request = broker.produce_request(version, ("elsewhere", 0, batch(b"a")), ("here", 0, batch(b"a")))
                response = await client.call(request, version)
                answers = [answer for topic in response.responses for answer in topic.partition_responses]
                assert {answer.error_code for answer in answers} == {ErrorCode.NOT_LEADER_OR_FOLLOWER}
                leaders = [(answer.current_leader.leader_id, answer.current_leader.leader_epoch) for answer in answers]
                endpoints = [(item.node_id, item.host, item.port) for item in response.node_endpoints]
                assert leaders == ([(2, 4), (2, 6)] if version >= 10 else [(-1, -1)] * 2)
                assert endpoints == ([(2, "other.example", 9192)] if version >= 10 else [])

    run(main())


def test_too_few_in_sync_replicas_refuse_acks_all_only() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic("lone", settings={"min.insync.replicas": "2"})
            broker.create_topic("pair", replicas=[1, 2], settings={"min.insync.replicas": "2"})
            broker.partition("pair").update_leadership(1, 0, (1, 2), (1,))
            client = await broker.client()
            assert (await broker.produce(client, batch(b"a"), topic="lone")).error_code == 0
            answer = await broker.produce(client, batch(b"a"), topic="pair")
            assert answer.error_code == ErrorCode.NOT_ENOUGH_REPLICAS
            assert (await broker.produce(client, batch(b"a"), topic="pair", acks=1)).error_code == 0

    run(main())


@pytest.mark.parametrize("version", [3, 9])
def test_a_topic_that_flushes_every_message_answers_when_the_device_has_it(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={"flush.messages": "1"})
            client = await broker.client()
            for expected in range(3):
                answer = await broker.produce(client, batch(b"a"), version=version)
                assert (answer.error_code, answer.base_offset) == (0, expected)
                assert broker.partition().log.recovery_point == expected + 1

    run(main())


@pytest.mark.parametrize("version", [3, 9])
def test_a_full_disk_refuses_writes_and_goes_on_serving(version: int) -> None:
    async def main() -> None:
        disk = MemoryDisk(capacity_bytes=50_000)
        async with world(disk=disk) as broker:
            broker.create_topic()
            client = await broker.client()
            codes = [(await broker.produce(client, batch(bytes(10_000)), version=version)).error_code for _ in range(8)]
            assert codes[0] == 0
            assert codes[-1] == ErrorCode.KAFKA_STORAGE_ERROR
            taken = codes.count(0)
            assert broker.partition().log.log_end_offset == taken
            data = await broker.fetch_one(client, 0)
            assert data.error_code == 0
            assert data.high_watermark == taken

    run(main())


def test_a_topic_made_again_under_its_name_gets_the_batches_of_a_connection_that_knew_the_old_one() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            client = await broker.client()
            for _ in range(3):
                await broker.produce(client, batch(b"old"), version=9)
            broker.delete_topic("topic")
            answer = await broker.produce(client, batch(b"a"), version=9)
            assert answer.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            broker.create_topic()
            route = broker.listener.router.find(0, 9)
            original = route.handle
            handled = 0

            def counting(*arguments: object) -> object:
                nonlocal handled
                handled += 1
                return original(*arguments)  # type: ignore[arg-type]

            route.handle = counting
            answers = [await broker.produce(client, batch(b"new"), version=9) for _ in range(4)]
            assert [answer.base_offset for answer in answers] == [0, 1, 2, 3]
            assert handled == 1  # the short cut leads to the new partition

    run(main())


# The short cut against the handler it stands in for.

BATCHES = st.sampled_from(["good", "good", "good", "damaged", "transactional", "two", "repeated", "none"])


def made(kind: str, number: int) -> bytearray | None:
    if kind == "none":
        return None
    if kind == "two":
        return batch(b"a") + batch(b"b")
    if kind == "transactional":
        return batch(b"t", producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    if kind == "repeated":
        return batch(b"i", producer_id=7, producer_epoch=0, base_sequence=0)
    content = batch(b"x" * number)
    if kind == "damaged":
        content[-1] ^= 1
    return content


@settings(max_examples=60, deadline=None)
@given(
    version=st.integers(3, 13),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["topic", "other", "a-longer-name"]), st.integers(0, 2), BATCHES, st.integers(1, 300)
        ),
        min_size=1,
        max_size=12,
    ),
    acks=st.sampled_from([-1, 1]),
)
def test_the_short_cut_answers_byte_for_byte_what_the_handler_answers(
    version: int, steps: list[tuple[str, int, str, int]], acks: int
) -> None:
    async def main() -> None:
        async with world() as quick, world() as plain:
            for name in ("topic", "other", "a-longer-name"):
                quick.create_topic(name, 2)
                plain.create_topic(name, 2)
            client = await quick.client()
            context = RequestContext(api_version=version, client_id="test")
            for topic, partition, kind, number in steps:
                request = quick.produce_request(version, (topic, partition, made(kind, number)), acks=acks)
                got = await client.call(request, version)
                expected = produce.handle(
                    plain.broker,
                    plain.produce_request(version, (topic, partition, made(kind, number)), acks=acks),
                    context,
                )
                assert not asyncio.iscoroutine(expected)
                assert expected is not None
                assert encode(got, version) == encode(expected, version)  # type: ignore[arg-type]
            for name in ("topic", "other", "a-longer-name"):
                for index in range(2):
                    assert (
                        quick.partition(name, index).log.log_end_offset
                        == plain.partition(name, index).log.log_end_offset
                    )

    run(main())


def test_the_short_cut_is_really_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=3)
            client = await broker.client()
            handled = 0
            for version in (3, 9, 13):
                route = broker.listener.router.find(0, version)
                original = route.handle

                def counting(*arguments: object, original: object = original) -> object:
                    nonlocal handled
                    handled += 1
                    return original(*arguments)  # type: ignore[operator]

                route.handle = counting  # type: ignore[assignment]
                for number in range(30):
                    # Lengths on both sides of one-byte and two-byte uvarints.
                    sent = batch(b"x" * (number * 10))
                    assert (await broker.produce(client, sent, partition=number % 3, version=version)).error_code == 0
                assert handled == 3
                handled = 0

    run(main())


# Replicas elsewhere


@pytest.mark.parametrize("version", [3, 9, 13])
def test_acks_all_waits_for_the_in_sync_replicas_and_acks_1_does_not(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=[1, 2])
            client = await broker.client()
            partition = broker.partition()
            assert (await broker.produce(client, batch(b"a"), version=version, acks=1)).base_offset == 0
            for expected in (1, 2, 3):
                client.send(broker.produce_request(version, ("topic", 0, batch(b"b"))), version)
                while not partition.waiter_count:  # noqa: ASYNC110 (what is waited for has no event)
                    await asyncio.sleep(0.001)
                partition.follower_fetched(2, expected)
                assert partition.waiter_count == 1, "only what was there before"
                partition.follower_fetched(2, expected + 1)
                answer = (await client.receive()).responses[0].partition_responses[0]
                assert (answer.error_code, answer.base_offset) == (0, expected)
                assert partition.waiter_count == 0

    run(main())


@pytest.mark.parametrize("version", [3, 9, 13])
def test_produces_behind_one_that_waits_are_appended_and_answered_in_order(version: int) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=[1, 2])
            broker.create_topic("alone")
            client = await broker.client()
            partition = broker.partition()
            for round_ in range(3):
                first = 5 * round_
                for number in range(4):
                    client.send(broker.produce_request(version, ("topic", 0, batch(b"%d" % number))), version)
                # Answered at once, were it not for those before it; and one that fails.
                client.send(broker.produce_request(version, ("topic", 0, batch(b"x")), acks=1), version)
                client.send(broker.produce_request(version, ("alone", 0, b"no batch")), version)
                # Whatever is no produce waits until all of them are answered.
                client.send(broker.fetch_request(11, {("topic", 0): 0}), 11)
                while partition.log.log_end_offset < first + 5:  # noqa: ASYNC110 (there is no event)
                    await asyncio.sleep(0.001)
                partition.follower_fetched(2, first + 2)
                for expected in (first, first + 1):
                    answer = (await client.receive()).responses[0].partition_responses[0]
                    assert (answer.error_code, answer.base_offset) == (0, expected)
                partition.follower_fetched(2, first + 5)
                for expected in (first + 2, first + 3, first + 4):
                    answer = (await client.receive()).responses[0].partition_responses[0]
                    assert (answer.error_code, answer.base_offset) == (0, expected)
                answer = (await client.receive()).responses[0].partition_responses[0]
                assert answer.error_code != 0
                fetched = (await client.receive()).responses[0].partitions[0]
                assert fetched.high_watermark == first + 5
                assert partition.waiter_count == 0

    run(main())


def test_a_client_that_goes_away_is_owed_nothing_any_more() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=[1, 2])
            client = await broker.client()
            partition = broker.partition()
            for _ in range(3):
                client.send(broker.produce_request(9, ("topic", 0, batch(b"a"))), 9)
            while partition.waiter_count < 3:  # noqa: ASYNC110 (there is no event)
                await asyncio.sleep(0.001)
            await client.close()
            while partition.waiter_count:  # noqa: ASYNC110 (there is no event)
                await asyncio.sleep(0.001)
            partition.follower_fetched(2, 3)
            assert partition.log.high_watermark == 3

    run(main())


def test_acks_all_gives_up_in_time_or_with_the_leadership() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=[1, 2])
            broker.create_topic("moved", replicas=[1, 2])
            client = await broker.client()
            for _ in range(2):
                request = broker.produce_request(9, ("topic", 0, batch(b"a")))
                request.timeout_ms = 10
                answer = (await client.call(request, 9)).responses[0].partition_responses[0]
                assert (answer.error_code, answer.base_offset) == (ErrorCode.REQUEST_TIMED_OUT, -1)
            assert broker.partition().log.log_end_offset == 2, "the records stay"
            assert broker.partition().waiter_count == 0
            for _ in range(2):
                client.send(broker.produce_request(9, ("moved", 0, batch(b"a"))), 9)
            while broker.partition("moved").waiter_count < 2:  # noqa: ASYNC110 (what is waited for has no event)
                await asyncio.sleep(0.001)
            broker.elect("moved", leader=2)
            for _ in range(2):
                answer = (await client.receive()).responses[0].partition_responses[0]
                assert (answer.error_code, answer.base_offset) == (ErrorCode.NOT_LEADER_OR_FOLLOWER, -1)

    run(main())

"""Batches that a broker has to open before it can append them: little that becomes much holds nobody up."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.records import validation
from ottla.records.batch import CorruptRecordError, parse_header
from ottla.records.compression import Codec, decompress
from ottla.records.record import Record, assemble_batch, build_batch, read_records
from ottla.server.broker import laborious_produce
from tests.server.broker.data_world import NOW_MS, batch, world
from tests.server.broker.support import run

MEBIBYTE = 1024 * 1024
COMPRESSED = [codec for codec in Codec if codec]
COMPACTED = {"cleanup.policy": "compact"}


def bomb(codec: Codec, size: int = 8 * MEBIBYTE, **options: Any) -> bytearray:
    record = Record(timestamp_ms=options.pop("timestamp_ms", NOW_MS), key=b"key", value=bytes(size))
    return build_batch([record], compression=codec, **options)


@pytest.mark.parametrize("codec", COMPRESSED)
@pytest.mark.parametrize(
    ("settings", "stamp_ms"),
    [(COMPACTED, NOW_MS), ({"compression.type": "uncompressed", "max.message.bytes": "1000000"}, NOW_MS), ({}, 1)],
)
def test_what_is_longer_than_the_setting_says_is_refused(codec: Codec, settings: dict[str, str], stamp_ms: int) -> None:
    settings = {"message.timestamp.before.max.ms": "1000", **settings, "max.decompressed.message.bytes": "100000"}

    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings=settings)
            client = await broker.client()
            answer = await broker.produce(client, bomb(codec, 200_000, timestamp_ms=stamp_ms))
            assert answer.error_code == ErrorCode.MESSAGE_TOO_LARGE
            answer = await broker.produce(client, bomb(codec, 2_000_000, timestamp_ms=stamp_ms))
            assert answer.error_code == ErrorCode.MESSAGE_TOO_LARGE
            answer = await broker.produce(client, bomb(codec, 90_000))
            assert (answer.error_code, answer.base_offset) == (0, 0)

    run(main())


def test_the_setting_is_not_for_batches_that_nobody_has_to_open() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={"max.decompressed.message.bytes": "1000"})
            answer = await broker.produce(await broker.client(), bomb(Codec.ZSTD))
            assert answer.error_code == 0

    run(main())


@pytest.mark.parametrize("codec", COMPRESSED)
def test_large_batches_are_opened_elsewhere_and_in_order(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of a connection stay in their order, also for a producer whose batches are numbered."""
    opened = 0

    def counted(*arguments: Any) -> Any:
        nonlocal opened
        opened += 1
        return real(*arguments)

    real = validation.open_batch
    monkeypatch.setattr(laborious_produce, "open_batch", counted)

    async def main() -> None:
        async with world() as broker:
            broker.create_topic(partitions=3, settings={**COMPACTED, "compression.type": "zstd"})
            client = await broker.client()
            for sequence in range(8):
                numbered = {"producer_id": 7, "producer_epoch": 0, "base_sequence": sequence}
                size = 300_000 if sequence % 2 else 10
                request = broker.produce_request(9, ("topic", 0, bomb(codec, size, **numbered)))
                client.send(request, 9)
            offsets = []
            for _ in range(8):
                answer = (await client.receive()).responses[0].partition_responses[0]
                assert answer.error_code == 0
                offsets.append(answer.base_offset)
            assert offsets == list(range(8))
            assert opened == 4
            # Others of the same request are where they belong; the answers are in the order of the request.
            request = broker.produce_request(
                9,
                ("topic", 0, batch(b"no key")),
                ("topic", 1, bomb(codec, 300_000)),
                ("topic", 7, bomb(codec, 300_000)),
                ("topic", 2, bomb(codec, 10)),
            )
            answers = (await client.call(request, 9)).responses[0].partition_responses
            assert [(item.index, item.error_code, item.base_offset) for item in answers] == [
                (0, ErrorCode.INVALID_RECORD, -1),
                (1, 0, 0),
                (7, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1),
                (2, 0, 0),
            ]
            data = await broker.fetch_one(client, 7)
            found = list(read_records(bytes(data.records or b"")))
            assert [(record.offset, record.value) for record in found] == [(7, bytes(300_000))]
            assert parse_header(bytes(data.records or b"")).compression == Codec.ZSTD

    run(main())


def test_without_acks_too() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings={**COMPACTED, "max.decompressed.message.bytes": "1000000"})
            client = await broker.client()
            for _ in range(3):
                request = broker.produce_request(9, ("topic", 0, bomb(Codec.GZIP, 500_000)), acks=0)
                client.send(request, 9, expect_response=False)
            assert (await broker.produce(client, bomb(Codec.GZIP, 10), acks=1)).base_offset == 3
            client.send(
                broker.produce_request(9, ("topic", 0, bomb(Codec.GZIP, 2_000_000)), acks=0), 9, expect_response=False
            )
            assert await client.is_closed()

    run(main())


def test_the_batches_of_a_request_share_an_allowance() -> None:
    async def main() -> None:
        async with world() as broker:
            settings = {**COMPACTED, "max.decompressed.message.bytes": str(2 * MEBIBYTE)}
            broker.create_topic(partitions=8, settings=settings)
            client = await broker.client()
            parts = [("topic", index, bomb(Codec.ZSTD, MEBIBYTE)) for index in range(8)]
            answers = (await client.call(broker.produce_request(9, *parts), 9)).responses[0].partition_responses
            codes = [answer.error_code for answer in answers]
            assert codes == [0] + [ErrorCode.MESSAGE_TOO_LARGE] * 7
            # Batches that are about as large as what they hold have nothing to do with it.
            parts = [("topic", index, bomb(Codec.NONE, MEBIBYTE - 1000)) for index in range(8)]
            answers = (await client.call(broker.produce_request(9, *parts), 9)).responses[0].partition_responses
            assert [answer.error_code for answer in answers] == [0] * 8

    run(main())


def test_too_many_records_are_not_looked_at() -> None:
    one = bytes([12, 0, 0, 0, 1, 1, 0])

    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings=COMPACTED)
            client = await broker.client()
            header = parse_header(batch(b"x"))
            header = header._replace(records_count=2_000_000, last_offset_delta=1_999_999)
            many = assemble_batch(header, one * 2_000_000, Codec.ZSTD)
            answer = await broker.produce(client, many)
            assert answer.error_code == ErrorCode.MESSAGE_TOO_LARGE

    run(main())


def test_records_that_are_wrong_are_named_up_to_a_number() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings=COMPACTED)
            client = await broker.client()
            answer = await broker.produce(client, batch(*[b""] * 5000, compression=Codec.ZSTD))
            assert answer.error_code == ErrorCode.INVALID_RECORD
            assert len(answer.record_errors) == 1000
            assert "5000 record errors" in (answer.error_message or "")

    run(main())


def test_the_loop_runs_while_a_bomb_is_opened() -> None:
    """What is measured is what the loop gets to do, not how fast the machine is."""

    async def main() -> None:
        async with world() as broker:
            broker.create_topic(settings=COMPACTED)
            broker.create_topic("honest")
            client, honest = await broker.client(), await broker.client()
            bombing = broker.produce(client, bomb(Codec.GZIP, 100 * MEBIBYTE))
            waiting = asyncio.get_running_loop().create_task(bombing)
            await asyncio.sleep(0)
            answered = 0
            while not waiting.done():
                await broker.produce(honest, batch(b"a"), topic="honest")
                answered += 1
            assert (await waiting).error_code == 0
            assert answered > 20

    run(main())


def test_members_of_gzip_do_not_take_a_square() -> None:
    """Each one copies what follows it: of ten thousand members that would be gigabytes."""
    member = gzip.compress(b"")
    assert decompress(Codec.GZIP, member * 10_000 + gzip.compress(b"end")) == b"end"
    whole = b"".join(gzip.compress(bytes([number % 251]) * number) for number in range(600))
    assert len(decompress(Codec.GZIP, whole)) == sum(range(600))
    with pytest.raises(CorruptRecordError):
        decompress(Codec.GZIP, whole[:-5])

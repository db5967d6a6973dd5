"""Our Admin: calls that end in time, whatever happens, and topics that get more partitions meanwhile."""

from __future__ import annotations

from typing import Any

from ottla.admin import OffsetSpec
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from tests.simulation.workloads.our_producers import LAST_BYTES_S, Book
from tests.simulation.workloads.programs import Program

MOST_PARTITIONS = 5


def administrator(books: list[Book], groups: list[str]) -> Any:
    """A program that asks, and makes topics grow."""

    async def run(program: Program) -> None:
        admin = program.admin()
        try:
            while not program.is_closing:
                limit_s = program.dice.choice((0.5, 5.0))
                what, asking = _question(program, admin, books, groups, limit_s)
                try:
                    await program.call(what, asking, limit_s)
                    program.cluster.count("admin calls")
                    program.gets_on()
                except KafkaError as error:
                    reasons = [*error.errors.values()] or [error]
                    if not all(one.retriable or one.code in program.cluster.refusals for one in reasons):
                        program.cluster.fail(f"{program}: {what}: {error!r} {reasons}")
                    program.cluster.count("admin calls that failed")
                await program.think(0.7)
        finally:
            await program.call("close", admin.close(), LAST_BYTES_S)

    return run


def _question(program: Program, admin: Any, books: list[Book], groups: list[str], limit_s: float) -> tuple[str, Any]:
    dice = program.dice
    book = dice.choice(books)
    places = {TopicPartition(book.topic, index): OffsetSpec.LATEST for index in range(book.partitions)}
    group = dice.choice(groups)
    kind = dice.randrange(7)
    if kind == 0:
        return "list_topics", admin.list_topics(timeout_s=limit_s)
    if kind == 1:
        return "describe_topics", admin.describe_topics([book.topic], timeout_s=limit_s)
    if kind == 2:
        return "list_offsets", admin.list_offsets(places, timeout_s=limit_s)
    if kind == 3:
        return "list_consumer_group_offsets", admin.list_consumer_group_offsets(group, timeout_s=limit_s)
    if kind == 4:
        return "list_groups", admin.list_groups(timeout_s=limit_s)
    if kind == 5 and book.partitions < MOST_PARTITIONS:
        return "create_partitions", _grow(admin, book, limit_s)
    return "describe_cluster", admin.describe_cluster(timeout_s=limit_s)


async def _grow(admin: Any, book: Book, limit_s: float) -> None:
    wanted = book.partitions + 1
    try:
        await admin.create_partitions({book.topic: wanted}, timeout_s=limit_s)
    except KafkaError as error:
        # An earlier attempt may have got through, and its answer not.
        if error.code is not ErrorCode.INVALID_PARTITIONS:
            raise
    book.partitions = wanted

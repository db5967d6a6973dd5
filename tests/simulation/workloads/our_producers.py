"""Our producers, plain, idempotent and in transactions, and what they are told became of each record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ottla.client.errors import (
    BootstrapError,
    BufferFullError,
    ClientClosedError,
    FatalProducerError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    UnknownTopicError,
)
from ottla.client.model import RecordMetadata
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.programs import GRACE_S, Program
from tests.simulation.workloads.reader import READ_COMMITTED, READ_UNCOMMITTED, read_all

DELIVERY_TIMEOUT_MS = 6_000
MAX_BLOCK_MS = 5_000
#: How long what was written when a client closes may take to leave.
LAST_BYTES_S = 5.0
BUFFER_BYTES = 20_000
MEAN_PAUSE_S = 0.15
KINDS: dict[str, dict[str, Any]] = {
    "idempotent": {},
    "idempotent, one in flight": {"max.in.flight.requests.per.connection": 1},
    "plain": {"enable.idempotence": False},
    "plain, in order": {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1},
}


@dataclass(eq=False)
class Sent:
    """One record, by what its producer was told."""

    value: bytes
    kind: str
    sender: str
    number: int
    since_s: float
    until_s: float = float("inf")
    transaction: Transaction | None = None
    partition: int | None = None
    """Where its producer wanted it."""
    leader_epoch: int | None = None
    """No leader had a later one when it was acknowledged."""
    metadata: RecordMetadata | None = None
    error: BaseException | None = None
    is_done: bool = False


@dataclass(eq=False)
class Transaction:
    """`outcome`: True committed, False aborted, None: nobody who knows has told."""

    name: str
    outcome: bool | None = None
    records: list[Sent] = field(default_factory=list)
    ending_s: float = 0.0
    ended_s: float | None = None


@dataclass
class Book:
    """All that was sent to one topic."""

    cluster: Cluster
    topic: str
    partitions: int
    """They may become more."""
    sent: dict[bytes, Sent] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)

    async def send(
        self,
        program: Program,
        producer: Any,
        kind: str,
        *,
        partition: int | None = None,
        key: bytes | None = None,
        transaction: Transaction | None = None,
        padding: int = 0,
    ) -> Sent:
        """One record with the next number of this program."""
        number = len(self.sent)
        value = b"%s:%d:" % (program.name.encode(), number) + b"." * padding
        sent = Sent(value, kind, program.name, number, self.cluster.now(), transaction=transaction, partition=partition)
        self.sent[value] = sent
        if transaction is not None:
            transaction.records.append(sent)
        sending = producer.send(self.topic, value, key, partition=partition)
        delivery = await program.call("send", sending, MAX_BLOCK_MS / 1000)
        sent.since_s = self.cluster.now()

        def done(finished: Any) -> None:
            if program.is_dead:
                return
            sent.is_done = True
            sent.error = finished.exception()
            if sent.error is None:
                sent.metadata = finished.result()
                sent.leader_epoch = self.cluster.leader_epoch(self.topic, finished.result().partition)
                if transaction is None:
                    program.gets_on()
            sent.until_s = self.cluster.now()
            took_s = sent.until_s - sent.since_s
            if took_s > DELIVERY_TIMEOUT_MS / 1000 + GRACE_S:
                self.cluster.fail(f"{value!r}: delivery ended after {took_s:.3f} s with {sent.error!r}")
            self.cluster.count(f"deliveries {'failed' if sent.error else 'done'}")
            # Its time was over with the answer that it has to be sent again.
            in_vain = isinstance(sent.error, KafkaError) and sent.error.retriable
            in_time = isinstance(sent.error, KafkaTimeoutError | ClientClosedError | None)
            if not in_time and not in_vain and transaction is None:
                self.cluster.fail(f"{value!r}: {sent.error!r}, though nothing was wrong with it")

        delivery.add_done_callback(done)
        return sent


def sender(book: Book, *, kinds: Iterable[str] = KINDS) -> Any:
    """A program that sends, waits now and then, and closes."""

    async def run(program: Program) -> None:
        dice = program.dice
        kind = dice.choice([*kinds])
        producer = program.producer(
            KINDS[kind]
            | {
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "max.block.ms": MAX_BLOCK_MS,
                "linger.ms": dice.choice((0, 5, 100)),
                "batch.size": dice.choice((0, 100, 16_384)),
                "buffer.memory": BUFFER_BYTES,
                "max.request.size": 5_000,
                "compression.type": dice.choice(("none", "gzip")),
            }
        )
        mine: list[Sent] = []
        close_s: float | None = None
        try:
            while not program.is_closing:
                for _ in range(dice.choice((1, 1, 4, 30))):
                    partition = dice.choice((None, dice.randrange(book.partitions)))
                    key = dice.choice((None, b"k%d" % dice.randrange(5)))
                    padding = dice.choice((0, 0, 0, 1500))
                    try:
                        sent = await book.send(program, producer, kind, partition=partition, key=key, padding=padding)
                    except (KafkaTimeoutError, BootstrapError) as error:
                        book.cluster.count("full buffers" if isinstance(error, BufferFullError) else "unknown topics")
                        continue
                    except UnknownTopicError:
                        # Whoever was asked is cut off, and does not know of the new partition.
                        if not book.cluster.has_late_requests:
                            raise
                        book.cluster.count("unknown partitions")
                        continue
                    mine.append(sent)
                if dice.random() < 0.2:
                    limit_s = dice.choice((None, 0.5))
                    try:
                        await program.call("flush", producer.flush(limit_s), limit_s or DELIVERY_TIMEOUT_MS / 1000)
                    except KafkaTimeoutError:
                        if limit_s is None:
                            raise
                    else:
                        if not all(one.is_done for one in mine):
                            book.cluster.fail(f"{program}: flush has ended, and not everything is delivered")
                await program.think(MEAN_PAUSE_S)
            close_s = dice.choice((None, 0.0, 1.0))
        finally:
            limit_s = DELIVERY_TIMEOUT_MS / 1000 if close_s is None else close_s
            await program.call("close", producer.close(close_s), limit_s + LAST_BYTES_S)
            if not all(one.is_done for one in mine):
                book.cluster.fail(f"{program} is closed, and not all its deliveries have ended")
            if used := producer._engine.accumulator.used_bytes:
                book.cluster.fail(f"{program} is closed, and {used} bytes of its buffer are taken")

    return run


def teller(book: Book, transactional_id: str) -> Any:
    """A program that writes in transactions; those that come after it have the same transactional id."""

    async def run(program: Program) -> None:
        dice = program.dice
        producer = program.producer(
            {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": dice.choice((4_000, 20_000)),
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "max.block.ms": MAX_BLOCK_MS,
                "linger.ms": dice.choice((0, 5)),
            }
        )
        number = 0
        try:
            while not program.is_closing:
                number += 1
                transaction = Transaction(f"{program.name}/{number}")
                book.transactions.append(transaction)
                try:
                    await _transact(book, program, producer, transaction)
                except _ChangedMindError:
                    transaction.outcome = False
                    book.cluster.count("our transactions aborted")
                except (ProducerFencedError, FatalProducerError):
                    book.cluster.count("our producers fenced")
                    return
                except (KafkaTimeoutError, BootstrapError):
                    # Whether it is committed will be seen; somebody else comes, and finishes it.
                    book.cluster.count("our transactions in doubt")
                    return
                except KafkaError as error:
                    book.cluster.count(f"our transactions failed: {type(error).__name__}")
                else:
                    transaction.outcome = True
                    program.gets_on()
                    book.cluster.count("our transactions committed")
                await program.think(MEAN_PAUSE_S)
        finally:
            close_s = dice.choice((None, 1.0))
            limit_s = max(DELIVERY_TIMEOUT_MS, MAX_BLOCK_MS) / 1000 if close_s is None else close_s
            await program.call("close", producer.close(close_s), limit_s + LAST_BYTES_S)
            if used := producer._engine.accumulator.used_bytes:
                book.cluster.fail(f"{program} is closed, and {used} bytes of its buffer are taken")

    return run


class _ChangedMindError(Exception):
    """The application does not want it any more."""


async def _transact(book: Book, program: Program, producer: Any, transaction: Transaction) -> None:
    dice = program.dice
    async with producer.transaction():
        for _ in range(dice.choice((1, 3, 8))):
            await book.send(
                program, producer, "transactional", partition=dice.randrange(book.partitions), transaction=transaction
            )
            if dice.random() < 0.3:
                await program.think(0.3)
        transaction.ending_s = book.cluster.now()
        if dice.random() < 0.2:
            raise _ChangedMindError
    transaction.ended_s = book.cluster.now()


async def check_book(book: Book) -> None:
    """What is in the log is what the producers were told."""
    cluster = book.cluster
    client = cluster.client("checker")
    committed: dict[bytes, list[tuple[int, int]]] = {}
    for partition in range(book.partitions):
        everything = await read_all(client, book.topic, partition, isolation=READ_UNCOMMITTED)
        view = await read_all(client, book.topic, partition, isolation=READ_COMMITTED)
        _check_order(book, partition, [value or b"" for _, (_, value) in sorted(everything.records.items())])
        for offset, (_, value) in view.records.items():
            committed.setdefault(value or b"", []).append((partition, offset))
    for value in committed.keys() - book.sent.keys():
        cluster.fail(f"{value!r} is in the log, and nobody sent it")
    for sent in book.sent.values():
        _check_record(book, sent, committed.get(sent.value, []))
    for transaction in book.transactions:
        shown = {one.value: one.value in committed for one in transaction.records}
        if len(set(shown.values())) > 1 and transaction.outcome is not False:
            cluster.fail(f"half of transaction {transaction.name} ({transaction.outcome}) is visible: {shown}")


def may_repeat(book: Book, sent: Sent) -> bool:
    """Whether a broker may have forgotten it: after an orderly end it knows of each producer the last batch only, as
    Kafka's own snapshots do, and of several in flight it refuses the first, as if it were new.
    """
    several = sent.kind == "idempotent"
    return several and any(sent.since_s <= stopped_s <= sent.until_s for stopped_s in book.cluster.stopped_s)


def is_ordered(book: Book, sent: Sent) -> bool:
    """Whether it may not come behind what its producer sent later. Where a request that was given up may arrive all
    the same, one in flight is not one on the way.
    """
    return not (sent.kind.startswith("plain") if book.cluster.has_late_requests else sent.kind == "plain")


def _check_record(book: Book, sent: Sent, places: list[tuple[int, int]]) -> None:
    exactly_once = not sent.kind.startswith("plain") and not may_repeat(book, sent)
    if exactly_once and len(places) > 1:
        book.cluster.fail(f"{sent.value!r} ({sent.kind}) is there {len(places)} times: {places}")
    if sent.transaction is not None:
        if sent.transaction.outcome is not None and bool(places) is not sent.transaction.outcome:
            book.cluster.fail(
                f"{sent.value!r} of {sent.transaction.name}, {sent.transaction.outcome}, is at {places}; {sent.error!r}"
            )
    elif sent.metadata is not None:
        found = sent.metadata.partition, sent.metadata.offset
        # A duplicate that the broker has forgotten the place of is acknowledged without one.
        if not places or (found not in places and not (exactly_once and found[1] < 0)):
            book.cluster.fail(f"{sent.value!r} ({sent.kind}) was acknowledged at {found}, and is at {places}")


def _check_order(book: Book, partition: int, values: list[bytes]) -> None:
    """Records of one producer are in the order of its sends: all of them, or the first appearance of each."""
    last: dict[str, int] = {}
    seen: Counter[bytes] = Counter()
    for value in values:
        sent = book.sent.get(value)
        seen[value] += 1
        if sent is None or not is_ordered(book, sent):
            continue
        if seen[value] > 1 and (sent.kind == "plain, in order" or may_repeat(book, sent)):
            continue
        if sent.number < last.get(sent.sender, -1):
            book.cluster.fail(
                f"{book.topic}-{partition}: {value!r} ({sent.kind}) comes behind number {last[sent.sender]}"
            )
        last[sent.sender] = sent.number

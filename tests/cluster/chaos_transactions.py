"""A program that copies a topic in transactions while the cluster is being harmed, and what it must come to.

    python -m tests.cluster.chaos_transactions BOOTSTRAP INPUT OUTPUT GROUP NAME FILE-WITHOUT-ENDING

librdkafka's: a member of a group reads committed records, and writes a copy of each, with its positions, in one
transaction. Whoever is fenced, or is told that a transaction is lost, begins again as a new member with a new producer
of the same transactional id. In the end every record has one copy: "copied twice" is found by
`tests.simulation.history`, what has none by `uncopied`.

librdkafka (2.16) may wait for ever in `send_offsets_to_transaction` and send nothing, after the group's coordinator was
away. So each life of a copier is a process that ends itself when it is in one call for too long, and is replaced.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from tests.cluster.chaos_clients import COMMON, CONSUMING, Recorder, Stopped, membership, record_of

MOST_RECORDS = 200
CALL_S = 20.0
STUCK_S = 60.0
"""In one call, after which a life is given up: longer than librdkafka waits for an answer (socket.timeout.ms)."""
STUCK, WATCH_S = 75, 1.0
LIFE = "life"
TRANSACTION_TIMEOUT_MS = 15_000
SOCKET_TIMEOUT_MS = 15_000


class Copier:
    """One life: a consumer, a producer, and the transactions they made."""

    def __init__(
        self, bootstrap: str, names: tuple[str, str, str], process: str, transactional_id: str, recorder: Recorder
    ) -> None:
        self._input, self._output, self._group = names
        self._process = process
        self._recorder = recorder
        self._number = self._transactions = self._stints = 0
        self._unfinished: Callable[[], None] = _nothing
        """Writes down the transaction that is under way, as one of which nobody knows what became."""
        self._turn_s = time.monotonic()
        """When it was seen to go on."""
        # When librdkafka (2.16) bootstraps again, as it does when all brokers were away, the offsets of a transaction
        # go to the connection that it had before, and the transaction never ends.
        common = {**COMMON, "bootstrap.servers": bootstrap, "metadata.recovery.strategy": "none"}
        common["socket.timeout.ms"] = SOCKET_TIMEOUT_MS
        self.producer = Producer(
            {
                **common,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "linger.ms": 5,
            }
        )
        self.consumer = Consumer({**common, **CONSUMING, "group.id": self._group, "session.timeout.ms": 6000})

    def work(self, is_over: Callable[[], bool]) -> None:
        """Until it is over; KafkaException when this life is."""
        while not _tried(lambda: self.producer.init_transactions(CALL_S)):
            self._turn_s = time.monotonic()
            if is_over():
                return
        self.consumer.subscribe(
            [self._input], on_assign=self._on_change, on_revoke=self._on_change, on_lost=self._on_change
        )
        while not is_over():
            self._turn_s = invoked_s = time.monotonic()
            messages = [one for one in self.consumer.consume(MOST_RECORDS, 0.2) if one.error() is None]
            if messages:
                self._copy(messages, invoked_s)

    def _on_change(self, *_: object) -> None:
        self._stints += 1

    def _copy(self, messages: list[Any], invoked_s: float) -> None:
        self._transactions += 1
        name = f"{self._process}.{self._transactions}"
        self._read(messages, name, invoked_s)
        sent: list[dict[str, Any]] = []
        began_s = time.monotonic()
        positions = {one.partition(): one.offset() + 1 for one in messages}
        offsets = [TopicPartition(self._input, partition, offset) for partition, offset in positions.items()]
        member = membership(self.consumer)[0]

        def ended(outcome: str) -> None:
            self._unfinished = _nothing
            ended_s = None if outcome == "unknown" else time.monotonic()
            for operation in sent:
                self._recorder.write(**operation)
            self._record_end(name, (began_s, ended_s), outcome, positions, member)

        self._unfinished = lambda: ended("unknown")
        try:
            self.producer.begin_transaction()
            sent.extend(self._send(message, name) for message in messages)
            group = self.consumer.consumer_group_metadata()
            _until_done(lambda: self.producer.send_offsets_to_transaction(offsets, group, CALL_S))
            self._turn_s = began_s = time.monotonic()
            _until_done(lambda: self.producer.commit_transaction(CALL_S))
            ended("ok")
        except KafkaException as error:
            if error.args[0].fatal() or not error.args[0].txn_requires_abort():
                raise
            self._turn_s = time.monotonic()
            _until_done(lambda: self.producer.abort_transaction(CALL_S))
            ended("fail")
            self._rewind()
        finally:
            self._unfinished()

    def _read(self, messages: list[Any], transaction: str, invoked_s: float) -> None:
        for partition in {one.partition() for one in messages}:
            self._recorder.write(
                kind="consume",
                process=self._process,
                invoked_s=invoked_s,
                completed_s=time.monotonic(),
                outcome="ok",
                topic=self._input,
                partition=partition,
                isolation="read_committed",
                records=[record_of(one) for one in messages if one.partition() == partition],
                stint=f"{self._process}:{self._stints}",
                transaction=transaction,
            )

    def _send(self, message: Any, transaction: str) -> dict[str, Any]:
        source = f"{message.topic()}-{message.partition()}@{message.offset()}"
        self._number += 1
        operation = {
            "kind": "produce",
            "process": self._process,
            "invoked_s": time.monotonic(),
            "completed_s": None,
            "outcome": "unknown",
            "topic": self._output,
            "partition": message.partition(),
            "value": f"{self._process}.{self._number} of {source}",
            "offset": None,
            "guarantee": "exactly once",
            "ordered": True,
            "number": self._number,
            "transaction": transaction,
            "source": source,
        }

        def on_delivery(error: object, copy: Any) -> None:
            if error is None:
                operation.update(completed_s=time.monotonic(), outcome="ok", offset=copy.offset())

        self.producer.produce(
            self._output, operation["value"].encode(), partition=message.partition(), on_delivery=on_delivery
        )
        return operation

    def _record_end(
        self,
        name: str,
        when: tuple[float, float | None],
        outcome: str,
        positions: dict[int, int],
        member: str,
    ) -> None:
        ending = {"process": self._process, "invoked_s": when[0], "completed_s": when[1], "outcome": outcome}
        self._recorder.write(kind="transaction", name=name, **ending)
        for partition, offset in positions.items():
            # Which epoch the coordinator saw is not known: only what is committed counts, not who was fenced.
            self._recorder.write(
                kind="commit",
                group=self._group,
                topic=self._input,
                partition=partition,
                offset=offset,
                member=member,
                epoch=0,
                **ending,
            )

    def _rewind(self) -> None:
        """What was aborted is to be read again, from where the group stands."""
        self._stints += 1
        for position in self.consumer.committed(self.consumer.assignment(), CALL_S):
            if position.error is not None:
                raise KafkaException(position.error)
            self.consumer.seek(TopicPartition(self._input, position.partition, max(position.offset, 0)))

    def give_up(self) -> bool:
        """From another thread: whether it is in one call for too long; then what is known of it is written down."""
        if time.monotonic() - self._turn_s < STUCK_S:
            return False
        self._unfinished()
        return True

    def close(self) -> None:
        """Leave the group. What the producer has open is aborted by who comes next, or by the coordinator."""
        self._turn_s = time.monotonic()
        with suppress(KafkaException, RuntimeError):
            self.consumer.close()
        with suppress(KafkaException):
            self.producer.purge()
            self.producer.flush(1.0)


def copy(bootstrap: str, names: tuple[str, str, str], name: str, path: Path) -> None:
    """Lives one after the other, until SIGTERM. Exits with `STUCK` when one does not go on."""
    stopped, recorder = Stopped(), Recorder(path)
    life = 0
    copiers: list[Copier] = []

    def watch() -> None:
        while True:
            time.sleep(WATCH_S)
            if copiers and copiers[-1].give_up():
                print(f"{name}.{life}: it does not go on", file=sys.stderr, flush=True)
                recorder.close()
                os._exit(STUCK)

    threading.Thread(target=watch, daemon=True).start()
    while not stopped.now:
        life += 1
        copier = Copier(bootstrap, names, f"{name}.{os.getpid()}.{life}", name, recorder)
        copiers.append(copier)
        try:
            copier.work(lambda: stopped.now)
        except KafkaException as error:
            print(f"{name}.{life}: {error}", file=sys.stderr, flush=True)
        finally:
            copier.close()
            copiers.clear()
    recorder.close()


def supervise(arguments: list[str]) -> None:
    """Run `copy` as a process, and again when it gives itself up; SIGTERM goes to it."""
    stopped = Stopped()
    *others, path = arguments
    life = 0
    while not stopped.now:
        life += 1
        command = [sys.executable, "-m", "tests.cluster.chaos_transactions", LIFE, *others, f"{path}.{life}.jsonl"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while (code := process.poll()) is None:
            time.sleep(0.2)
            if stopped.now:
                process.terminate()
        if code != STUCK:
            sys.exit(code)


def uncopied(operations: Iterable[dict[str, Any]], source: str, output: str) -> list[str]:
    """Records of the final read of `source` of which the final read of `output` has no copy."""
    sources: set[str] = set()
    copied: set[str] = set()
    for one in operations:
        if not one.get("final") or one["kind"] != "consume":
            continue
        if one["topic"] == source and one["isolation"] == "read_uncommitted":
            sources |= {f"{source}-{one['partition']}@{offset}" for offset, _ in one["records"]}
        elif one["topic"] == output and one["isolation"] == "read_committed":
            copied |= {value.rpartition(" of ")[2] for _, value in one["records"]}
    missing = sorted(sources - copied)
    return [f"lost: {place} was never copied" for place in missing[:20]]


def _nothing() -> None:
    pass


def _until_done(call: Callable[[], object]) -> None:
    while not _tried(call):
        pass


def _tried(call: Callable[[], object]) -> bool:
    """False when the same call may succeed next time."""
    try:
        call()
    except KafkaException as error:
        if not error.args[0].retriable():
            raise
        return False
    return True


def main(arguments: list[str]) -> None:
    if arguments[:1] == [LIFE] and len(arguments) == 7:
        bootstrap, source, output, group, name, path = arguments[1:]
        copy(bootstrap, (source, output, group), name, Path(path))
    elif len(arguments) == 6:
        supervise(arguments)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])

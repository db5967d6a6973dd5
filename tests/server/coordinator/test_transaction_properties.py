"""Random producers of the same transactional ids, some of them long replaced, against the plain rules they live by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ErrorCode as E
from ottla.core.ids import TopicPartition
from ottla.server.coordinator.transactions.records import transaction_record
from ottla.server.coordinator.transactions.shard import Producer, durable_state
from ottla.server.coordinator.transactions.state import LAST_CLIENT_EPOCH
from tests.server.coordinator.transaction_driver import NO_PRODUCER, TIMEOUT_MS, Driver, partitions

KEYS = ("a", "b")
NAMES = ("t-0", "t-1", "u-0")


class Model:
    """One transactional id, told as a story: who may speak, what is open, and what became of each transaction."""

    def __init__(self) -> None:
        self.owner: Producer | None = None
        self.open: set[TopicPartition] | None = None
        self.started_ms = 0
        #: Decided, and not complete: outcome and partitions.
        self.decided: tuple[bool, frozenset[TopicPartition]] | None = None
        #: The outcome of the last complete transaction, and who ended it.
        self.last: tuple[bool, Producer | None] | None = None


class Machine:
    """Does the same to the shard and to the models, and compares what can be seen."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.driver = Driver(version)
        self.models = {key: Model() for key in KEYS}
        self.producers: dict[str, list[Producer]] = {key: [] for key in KEYS}
        self.handed_out: set[tuple[str, Producer]] = set()

    def init(self, key: str) -> None:
        model = self.models[key]
        answer = self.driver.init(key)
        if model.decided is not None:
            assert answer is E.CONCURRENT_TRANSACTIONS
        elif model.open is not None:
            assert answer == NO_PRODUCER
            self._decide(model, commit=False, by=None)
        else:
            self._new_owner(key, answer)
            model.last = None

    def _new_owner(self, key: str, producer: Producer) -> None:
        assert (key, producer) not in self.handed_out, "an id and epoch is never given out twice"
        assert producer[1] <= LAST_CLIENT_EPOCH
        self.handed_out.add((key, producer))
        self.models[key].owner = producer
        self.producers[key].append(producer)

    def _refusal(self, model: Model, producer: Producer) -> E | None:
        if model.owner is None:
            return E.INVALID_PRODUCER_ID_MAPPING
        if model.decided is not None:
            return E.CONCURRENT_TRANSACTIONS
        found = self.current(model)
        if producer[0] != found[0]:
            return E.INVALID_PRODUCER_ID_MAPPING
        return E.PRODUCER_FENCED if producer[1] != found[1] else None

    def current(self, model: Model) -> Producer:
        """Whom the shard takes for the producer: the owner, unless it was fenced and nobody came after it."""
        [key] = [key for key, found in self.models.items() if found is model]
        transaction = self.driver.transaction(key)
        return transaction.producer_id, transaction.producer_epoch

    def add(self, key: str, producer: Producer, name: str) -> None:
        model = self.models[key]
        refusal = self._refusal(model, producer)
        answer = self.driver.add(producer, name, key=key, version=self.version)
        assert answer is (refusal or E.NONE)
        if refusal is None:
            assert producer == model.owner, "only the newest producer gets anything done"
            if model.open is None:
                model.open = set()
                model.started_ms = self.driver.elapsed_ms
            model.open |= partitions(name)

    def end(self, key: str, producer: Producer, commit: bool) -> None:
        model = self.models[key]
        refusal = self._refusal(model, producer)
        before = self.driver.shard.transactions.get(key)
        answer = self.driver.end(producer, commit=commit, key=key, version=self.version)
        if refusal is not None:
            assert self.driver.shard.transactions.get(key) is before, "who is replaced changes nothing"
        if self.version < 2:
            if refusal is E.CONCURRENT_TRANSACTIONS:
                # Version 1 looks at the producer first.
                assert answer in (refusal, E.PRODUCER_FENCED, E.INVALID_PRODUCER_ID_MAPPING)
            elif refusal is not None:
                assert answer is refusal
            elif model.open is not None:
                assert answer == NO_PRODUCER
                self._decide(model, commit=commit, by=producer)
            elif model.last is not None and model.last[0] == commit:
                assert answer == NO_PRODUCER
            else:
                assert answer is E.INVALID_TXN_STATE
            return
        if refusal is not E.CONCURRENT_TRANSACTIONS and model.last is not None and producer == model.last[1]:
            assert answer == (model.owner if commit == model.last[0] else E.INVALID_TXN_STATE)
        elif refusal is not None:
            # Whoever is one epoch behind may be told that the outcome was another one.
            assert answer in (refusal, E.INVALID_TXN_STATE) or answer == self.current(model)
        elif model.open is None and commit:
            assert answer is E.INVALID_TXN_STATE
        else:
            self._decide(model, commit=commit, by=producer)
            self._new_owner(key, answer)

    def _decide(self, model: Model, *, commit: bool, by: Producer | None) -> None:
        model.decided = commit, frozenset(model.open or ())
        model.open = None
        model.last = commit, by

    def complete(self) -> None:
        for key in list(self.driver.prepared):
            decided = self.models[key].decided
            assert decided is not None
            transaction = self.driver.transaction(key)
            assert transaction.partitions == decided[1], "each partition of the transaction gets a marker, no other"
            assert transaction.state.title == ("PrepareCommit" if decided[0] else "PrepareAbort")
            self.models[key].decided = None
        self.driver.complete()

    def wait(self, milliseconds: int) -> None:
        self.driver.wait(milliseconds)
        for key, model in self.models.items():
            if model.open is not None and self.driver.state(key) == "PrepareAbort":
                assert self.driver.elapsed_ms - model.started_ms > TIMEOUT_MS
                self._decide(model, commit=False, by=None)
            elif model.open is not None:
                waited_ms = self.driver.elapsed_ms - model.started_ms
                assert waited_ms <= TIMEOUT_MS + self.driver.settings.abort_interval_ms

    def restart(self) -> None:
        before = durable_state(self.driver.shard)
        self.driver.restart()
        assert self.version == 0 or durable_state(self.driver.shard) == before
        assert sorted(self.driver.prepared) == sorted(key for key, found in self.models.items() if found.decided)

    def use_up_epochs(self, key: str) -> None:
        model = self.models[key]
        if model.owner is not None and model.decided is None and model.owner == self.current(model):
            self.driver.set_epoch(LAST_CLIENT_EPOCH, key)
            # As if a record said so.
            record = transaction_record(key, self.driver.transaction(key), self.version)
            self.driver.log.append(self.driver.codec.encode(record))
            model.owner = (model.owner[0], LAST_CLIENT_EPOCH)
            self.handed_out.add((key, model.owner))
            self.producers[key].append(model.owner)
            model.last = None


def steps() -> st.SearchStrategy[tuple[Any, ...]]:
    key = st.sampled_from(KEYS)
    which = st.integers(0, 2)
    return st.one_of(
        st.tuples(st.just("init"), key),
        st.tuples(st.just("add"), key, which, st.sampled_from(NAMES)),
        st.tuples(st.just("add"), key, which, st.sampled_from(NAMES)),
        st.tuples(st.just("end"), key, which, st.booleans()),
        st.tuples(st.just("end"), key, which, st.booleans()),
        st.tuples(st.just("complete")),
        st.tuples(st.just("wait"), st.sampled_from([1_000, 30_000, 80_000])),
        st.tuples(st.just("restart")),
        st.tuples(st.just("use up"), key),
    )


def producer_of(machine: Machine, key: str, which: int) -> Iterator[Producer]:
    """The newest producer, or one that came before it."""
    known = machine.producers[key]
    if known:
        yield known[max(len(known) - 1 - which, 0)]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(version=st.integers(0, 2), story=st.lists(steps(), max_size=40))
def test_only_the_newest_producer_acts_and_every_transaction_has_one_outcome(
    version: int, story: list[tuple[Any, ...]]
) -> None:
    machine = Machine(version)
    for name, *arguments in story:
        if name == "init":
            machine.init(*arguments)
        elif name in ("add", "end"):
            key, which, what = arguments
            for producer in producer_of(machine, key, which):
                (machine.add if name == "add" else machine.end)(key, producer, what)
        elif name == "complete":
            machine.complete()
        elif name == "wait":
            machine.wait(*arguments)
        elif name == "use up":
            machine.use_up_epochs(*arguments)
        else:
            machine.restart()
        machine.driver.shard.check_invariants()

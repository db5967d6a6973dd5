"""The checker of histories finds what it is there for: one bad history for each anomaly, and good ones pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.history import ALLOWED_BY_KAFKA, Operation, check, main
from tests.simulation.history_cycles import find_cycle


class Writer:
    """Histories, an operation a second."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.now_s = 0.0

    def add(self, kind: str, *, took_s: float = 0.5, outcome: str = "ok", **fields: Any) -> Operation:
        self.now_s += 1
        operation = {
            "kind": kind,
            "process": "p",
            "invoked_s": self.now_s,
            "completed_s": None if outcome == "unknown" else self.now_s + took_s,
            "outcome": outcome,
            "topic": "t",
            "partition": 0,
        } | fields
        self.operations.append(operation)
        return operation

    def produce(self, value: str, offset: int | None, **fields: Any) -> Operation:
        defaults: dict[str, Any] = {
            "guarantee": "exactly once",
            "ordered": True,
            "number": len(self.operations),
            "transaction": None,
        }
        return self.add("produce", value=value, offset=offset, **(defaults | fields))

    def end(self, name: str, outcome: str = "ok", **fields: Any) -> Operation:
        return self.add("transaction", name=name, outcome=outcome, **fields)

    def consume(self, *records: tuple[int, str], **fields: Any) -> Operation:
        defaults: dict[str, Any] = {"isolation": "read_committed", "stint": None, "transaction": None, "final": False}
        return self.add("consume", records=[list(one) for one in records], **(defaults | fields))

    def final(self, *records: tuple[int, str], end: int = 100, **fields: Any) -> None:
        self.consume(*records, final=True, end=end, start=0, **fields)

    def commit(self, offset: int, member: str = "m", epoch: int = 1, **fields: Any) -> Operation:
        return self.add("commit", group="g", offset=offset, member=member, epoch=epoch, **fields)

    def committed(self, offset: int | None, **fields: Any) -> Operation:
        return self.add("committed", group="g", offset=offset, **fields)

    def watermark(self, high_watermark: int, epoch: int = 1, node: str = "1", **fields: Any) -> Operation:
        return self.add("watermark", high_watermark=high_watermark, leader_epoch=epoch, node=node, **fields)


@pytest.fixture
def history() -> Writer:
    return Writer()


def kinds(history: Writer, **options: Any) -> list[str]:
    return sorted({one.kind for one in check(history.operations, **options)})


def test_a_good_history_passes(history: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history.produce("a", 0)
    history.produce("b", None, outcome="unknown")
    history.produce("c", 2)
    history.produce("d", 3, transaction="T")
    history.produce("e", 0, partition=1, transaction="T")
    history.end("T")
    history.produce("f", 5, transaction="U")
    history.end("U", "fail")
    history.consume((0, "a"), (1, "b"), (2, "c"), stint="s")
    history.consume((3, "d"), stint="s")
    history.consume((0, "e"), partition=1, stint="s")
    history.commit(3)
    history.committed(3)
    history.watermark(3)
    history.watermark(5, epoch=2, node="2")
    history.final((0, "a"), (1, "b"), (2, "c"), (3, "d"), end=6)
    history.final((0, "e"), partition=1, end=2)
    assert check(history.operations, allowed=()) == []
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in history.operations))
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == "6 records sent, 5 reads: no anomalies\n"


def test_the_command_tells_and_fails(history: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history.produce("a", 0)
    history.final()
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in history.operations))
    assert main([str(file)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "lost: 'a' was acknowledged at t-0@0, and is not there (read_committed)",
        "1 records sent, 1 reads: 1 x lost",
    ]
    assert main([]) == 2


def test_no_history(history: Writer) -> None:
    history.produce("a", 0)
    history.produce("a", 1)
    with pytest.raises(ValueError, match="sent twice"):
        check(history.operations)
    with pytest.raises(ValueError, match="no kind"):
        check([{"kind": "?", "outcome": "ok"}])
    with pytest.raises(ValueError, match="no outcome"):
        check([{"kind": "produce", "outcome": "?"}])


def test_lost(history: Writer) -> None:
    history.produce("a", 0)
    history.produce("b", 1)
    history.final((0, "a"))
    assert kinds(history) == ["lost"]


def test_lost_with_its_transaction(history: Writer) -> None:
    history.produce("a", 0, transaction="T")
    history.end("T")
    history.final()
    assert kinds(history) == ["lost"]


def test_lost_of_an_unknown_offset(history: Writer) -> None:
    history.produce("a", None)
    history.final()
    assert kinds(history) == ["lost"]


def test_what_is_deleted_is_not_lost(history: Writer) -> None:
    history.produce("a", 0)
    history.produce("b", 1)
    history.consume((1, "b"), final=True, start=1, end=2)
    assert kinds(history) == []


def test_another_value_at_the_offset(history: Writer) -> None:
    history.produce("a", 0)
    history.produce("b", None, outcome="unknown")
    history.consume((0, "a"))
    history.final((0, "b"), (1, "a"))
    assert "inconsistent offset" in kinds(history)


def test_one_offset_acknowledged_twice(history: Writer) -> None:
    history.produce("a", 0)
    history.produce("b", 0)
    assert kinds(history) == ["inconsistent offset"]


def test_phantom(history: Writer) -> None:
    history.consume((0, "a"))
    history.produce("b", None, outcome="unknown", partition=1)
    history.consume((1, "b"))
    assert kinds(history) == ["phantom"]


def test_duplicate(history: Writer) -> None:
    history.produce("a", 0)
    history.final((0, "a"), (1, "a"))
    assert kinds(history) == ["duplicate"]


def test_duplicate_in_another_partition(history: Writer) -> None:
    history.produce("a", None, partition=None, outcome="unknown")
    history.final((0, "a"))
    history.final((0, "a"), partition=1)
    assert kinds(history) == ["duplicate"]


def test_who_may_repeat_may_repeat(history: Writer) -> None:
    history.produce("a", 0, guarantee="at least once", ordered=False)
    history.final((0, "a"), (1, "a"))
    assert kinds(history) == []


def test_reordered(history: Writer) -> None:
    history.produce("a", None, outcome="unknown")
    history.produce("b", None, outcome="unknown")
    history.final((0, "b"), (1, "a"))
    assert kinds(history) == ["reordered"]


def test_went_back_in_time(history: Writer) -> None:
    history.produce("a", 7, process="p")
    history.produce("b", 3, process="q")
    assert kinds(history) == ["went back in time"]


def test_at_the_same_time_any_order_will_do(history: Writer) -> None:
    history.produce("a", 7, process="p", took_s=10)
    history.produce("b", 3, process="q")
    assert kinds(history) == []


@pytest.mark.parametrize("outcome", ["fail", None])
def test_aborted_read(history: Writer, outcome: str | None) -> None:
    history.produce("a", 0, transaction="T")
    if outcome is not None:
        history.end("T", outcome)
    history.consume((0, "a"))
    assert kinds(history) == ["G1a"]


def test_readers_of_everything_may_see_what_is_aborted(history: Writer) -> None:
    history.produce("a", 0, transaction="T")
    history.end("T", "fail")
    history.consume((0, "a"), isolation="read_uncommitted")
    assert kinds(history) == []


def test_intermediate_read(history: Writer) -> None:
    history.produce("a", 0, transaction="T")
    history.consume((0, "a"))
    history.end("T")
    assert kinds(history) == ["G1b"]


def test_a_write_that_failed(history: Writer) -> None:
    history.produce("a", None, outcome="fail")
    history.consume((0, "a"), isolation="read_uncommitted")
    assert kinds(history) == ["failed write"]


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_half_a_transaction(history: Writer, outcome: str) -> None:
    history.produce("a", 0, transaction="T")
    history.produce("b", 0, partition=1, transaction="T")
    history.end("T", outcome)
    history.final((0, "a"))
    history.final(partition=1)
    assert "half a transaction" in kinds(history)


def test_cycle_of_writes(history: Writer) -> None:
    for value, offset, partition, name in (("a", 0, 0, "T"), ("b", 0, 1, "U"), ("c", 1, 0, "U"), ("d", 1, 1, "T")):
        history.produce(value, offset, partition=partition, transaction=name, process=name)
    history.end("T")
    history.end("U")
    history.final((0, "a"), (1, "c"))
    history.final((0, "b"), (1, "d"), partition=1)
    assert kinds(history) == []
    assert kinds(history, allowed=()) == ["G0", "G1c with writes"]
    assert frozenset({"G0", "G1c with writes", "stale commit"}) == ALLOWED_BY_KAFKA


def test_cycle_of_reads(history: Writer) -> None:
    history.produce("a", 0, transaction="T")
    history.produce("b", 0, partition=1, transaction="U")
    history.consume((0, "a"), transaction="U", took_s=100)
    history.consume((0, "b"), partition=1, transaction="T", took_s=100)
    history.end("T")
    history.end("U")
    assert kinds(history) == ["G1c"]


def test_cycle_of_a_read_and_a_write(history: Writer) -> None:
    history.produce("a", 0, transaction="T")
    history.produce("b", 1, transaction="U")
    history.produce("c", 0, partition=1, transaction="U")
    history.consume((0, "c"), partition=1, transaction="T", took_s=100)
    history.end("U")
    history.end("T")
    assert kinds(history) == []
    assert kinds(history, allowed=()) == ["G1c with writes"]


def test_copied_twice(history: Writer) -> None:
    history.produce("a", 0, source="in-0@5", transaction="T")
    history.produce("b", 1, source="in-0@5", transaction="U")
    history.end("T")
    history.end("U")
    history.final((0, "a"), (1, "b"))
    assert kinds(history) == ["copied twice"]


def test_consumer_that_skips_and_goes_back(history: Writer) -> None:
    for offset, value in enumerate("abc"):
        history.produce(value, offset)
    history.consume((0, "a"), (2, "c"), stint="s")
    history.final((0, "a"), (1, "b"), (2, "c"))
    assert kinds(history) == ["skipped"]
    history.consume((0, "a"), stint="s")
    history.consume((0, "a"), stint="another")
    assert kinds(history) == ["skipped", "went back"]


def test_commit_that_is_lost(history: Writer) -> None:
    history.commit(3)
    history.commit(5)
    history.committed(3, final=True)
    assert kinds(history) == ["lost commit"]


def test_coordinators_that_are_none_any_more_may_answer(history: Writer) -> None:
    history.commit(3)
    history.commit(5)
    history.committed(3)
    assert kinds(history) == []
    assert kinds(history, allowed=()) == ["stale commit"]


def test_commit_that_nobody_made(history: Writer) -> None:
    history.commit(3)
    history.committed(4)
    assert kinds(history) == ["phantom commit"]


def test_commits_that_are_all_lost(history: Writer) -> None:
    history.committed(None)
    history.commit(3)
    history.committed(None, final=True)
    assert [one.kind for one in check(history.operations)] == ["lost commit"]


def test_commits_in_doubt_may_be_there_or_not(history: Writer) -> None:
    history.commit(3)
    history.commit(5, outcome="unknown")
    history.committed(3)
    history.committed(5)
    assert kinds(history) == []


def test_commit_beyond_the_end(history: Writer) -> None:
    history.commit(9)
    history.final(end=8)
    assert kinds(history) == ["commit beyond the end"]


def test_zombie_commit(history: Writer) -> None:
    history.commit(3, "old", 1)
    history.commit(4, "new", 2)
    history.commit(5, "old", 1)
    assert kinds(history) == ["zombie commit"]


def test_two_leaders(history: Writer) -> None:
    history.watermark(3, 1, "1")
    history.watermark(3, 1, "2")
    assert kinds(history) == ["two leaders"]


def test_high_watermark_that_goes_back(history: Writer) -> None:
    history.watermark(3, 1)
    history.watermark(2, 2)  # a new leader may not know yet
    assert kinds(history) == []
    history.watermark(1, 2)
    assert kinds(history) == ["high watermark went back"]


def test_high_watermark_below_what_is_acknowledged(history: Writer) -> None:
    history.produce("a", 7, leader_epoch=2)
    history.watermark(3, 1)  # who does not know that it leads no more
    assert kinds(history) == []
    history.watermark(7, 2)
    assert kinds(history) == ["high watermark below what was acknowledged"]


def test_the_cycle_is_told() -> None:
    assert find_cycle({"a": {"b": "x"}}, {"b": {"c": "y", "d": "z"}, "d": {"a": "w"}}) == [
        "a before b: x",
        "b before d: z",
        "d before a: w",
    ]
    assert find_cycle({"a": {"b": "x", "c": "x"}, "b": {"c": "y"}}) is None

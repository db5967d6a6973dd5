"""What clients were told, and whether it can be true: a checker of histories of produce, consume and commit operations.

It knows nothing of how a history came about (a simulation, real processes, another broker) and needs nothing but this
directory: `python -m tests.simulation.history FILE` reads JSON lines, tells every anomaly and exits with 1 when there
is one. An operation is an object with

    kind         produce | transaction | consume | commit | committed | watermark
    process      who did it; one operation after the other
    invoked_s    when it was asked for
    completed_s  when the answer was there; null: never
    outcome      ok | fail (it did certainly not happen) | unknown

and, by its kind:

    produce      topic, partition, value (a string that is sent once), offset (null: not told), guarantee ("exactly
                 once" or "at least once"), ordered (its producer's records with a higher `number` are behind it),
                 number, transaction (a name, or null), source (of a copy: "topic-partition@offset", or null),
                 leader_epoch (no leader had a later one when it was acknowledged; null: not known)
    transaction  name; ok is committed, fail is aborted
    consume      topic, partition, isolation ("read_committed" or "read_uncommitted"), records ([[offset, value], ...]),
                 stint (a time in which one reader skips nothing and never goes back), transaction (in which they are
                 read, or null); final: everything from `start` to `end` was read, and nothing happens any more
    commit       group, topic, partition, offset, member, epoch (of the member, or generation of the group)
    committed    group, topic, partition, offset: what a reader of committed offsets was told (null: nothing); final:
                 nothing happens any more (before, a coordinator that is none any more may answer without knowing it)
    watermark    topic, partition, node, leader_epoch, high_watermark: what a node says that leads the partition
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.simulation.history_cycles import Graph, find_cycle

Operation = dict[str, Any]
Place = tuple[str, int]
ALLOWED_BY_KAFKA = frozenset({"G0", "G1c with writes", "stale commit"})
MOST_TOLD = 20
"""Anomalies of one kind that are told."""


class Anomaly(NamedTuple):
    """Something that can not be, and where it is seen."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def check(operations: Iterable[Operation], *, allowed: Iterable[str] = ALLOWED_BY_KAFKA) -> list[Anomaly]:
    """All anomalies of a history but those of the `allowed` kinds. ValueError when it is no history."""
    return History(operations).anomalies(allowed)


class History:
    """Operations, sorted by what they tell."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.produced: dict[str, Operation] = {}
        self.transactions: dict[str, Operation] = {}
        self.written: dict[str, list[Operation]] = defaultdict(list)
        """What was produced in each transaction."""
        self.consumed: list[Operation] = []
        self.commits: dict[tuple[str, Place], list[Operation]] = defaultdict(list)
        self.committed: list[Operation] = []
        self.watermarks: list[Operation] = []
        self.values: dict[Place, dict[int, str]] = defaultdict(dict)
        """What is where, by the first who said so."""
        self.final: dict[tuple[Place, str], dict[int, str]] = {}
        """By place and isolation."""
        self.final_values: dict[tuple[Place, str], set[str]] = {}
        self.starts: dict[Place, int] = {}
        self.ends: dict[Place, int] = {}
        self._found: list[Anomaly] = []
        for operation in operations:
            self._take(operation)

    def anomalies(self, allowed: Iterable[str] = ALLOWED_BY_KAFKA) -> list[Anomaly]:
        """What can not be."""
        self._found = []
        for look in (
            self._check_values,
            self._check_lost,
            self._check_duplicates,
            self._check_order,
            self._check_real_time,
            self._check_isolation,
            self._check_stints,
            self._check_copies,
            self._check_commits,
            self._check_watermarks,
            self._check_cycles,
        ):
            look()
        passed = set(allowed)
        return [one for one in self._found if one.kind not in passed]

    def _take(self, operation: Operation) -> None:
        kind = operation["kind"]
        if operation["outcome"] not in ("ok", "fail", "unknown"):
            raise ValueError(f"no outcome: {operation['outcome']!r} (ok, fail, unknown)")
        if kind == "produce":
            value = operation["value"]
            if value in self.produced:
                raise ValueError(f"{value!r} was sent twice: values have to be different")
            self.produced[value] = operation
            if operation.get("transaction") is not None:
                self.written[operation["transaction"]].append(operation)
        elif kind == "transaction":
            self.transactions[operation["name"]] = operation
        elif kind == "consume":
            self.consumed.append(operation)
            if operation.get("final"):
                place = _place(operation)
                view = dict(operation["records"])
                self.final[place, operation["isolation"]] = view
                self.final_values[place, operation["isolation"]] = set(view.values())
                self.starts[place] = operation.get("start", 0)
                self.ends[place] = operation["end"]
        elif kind == "commit":
            self.commits[operation["group"], _place(operation)].append(operation)
        elif kind == "committed":
            self.committed.append(operation)
        elif kind == "watermark":
            self.watermarks.append(operation)
        else:
            raise ValueError(f"no kind of operation: {kind!r}")

    def _tell(self, kind: str, text: str) -> None:
        self._found.append(Anomaly(kind, text))

    # -- records

    def _acknowledged(self) -> Iterator[tuple[Place, Operation]]:
        for operation in self.produced.values():
            if operation["outcome"] == "ok" and operation["partition"] is not None:
                yield _place(operation), operation

    def _check_values(self) -> None:
        """An offset has one value for ever, and somebody sent it there."""
        for place, operation in self._acknowledged():
            if operation["offset"] is not None:
                self._see(place, operation["offset"], operation["value"], f"acknowledged to {operation['process']}")
        for operation in self.consumed:
            place = _place(operation)
            for offset, value in operation["records"]:
                self._see(place, offset, value, f"given to {operation['process']}")
                sent = self.produced.get(value)
                if sent is None:
                    self._tell("phantom", f"{value!r} at {_at(place, offset)}: nobody sent it")
                elif sent["topic"] != place[0] or sent["partition"] not in (None, place[1]):
                    self._tell("phantom", f"{value!r} at {_at(place, offset)}: it was sent elsewhere")

    def _see(self, place: Place, offset: int, value: str, how: str) -> None:
        known = self.values[place].setdefault(offset, value)
        if known != value:
            self._tell("inconsistent offset", f"{_at(place, offset)} is {known!r}, and {value!r} as {how}")

    def _stands(self, operation: Operation) -> bool:
        """Whether it has to be there: acknowledged, and its transaction too."""
        name = operation.get("transaction")
        return operation["outcome"] == "ok" and (name is None or self._outcome(name) == "ok")

    def _outcome(self, name: str) -> str:
        transaction = self.transactions.get(name)
        return "unknown" if transaction is None else str(transaction["outcome"])

    def _check_lost(self) -> None:
        """What was acknowledged is there in the end, where it was said to be."""
        for place, operation in self._acknowledged():
            if not self._stands(operation):
                continue
            offset = operation["offset"]
            if offset is not None and offset < self.starts.get(place, 0):
                continue
            for isolation in ("read_committed", "read_uncommitted"):
                view = self.final.get((place, isolation))
                if view is None:
                    continue
                values = self.final_values[place, isolation]
                if operation["value"] not in values if offset is None else offset not in view:
                    where = f"{operation['value']!r} was acknowledged at {_at(place, offset)}"
                    self._tell("lost", f"{where}, and is not there ({isolation})")

    def _check_duplicates(self) -> None:
        """What was sent exactly once is there once."""
        for (place, isolation), view in self.final.items():
            seen: dict[str, int] = {}
            for offset, value in sorted(view.items()):
                first = seen.setdefault(value, offset)
                sent = self.produced.get(value)
                if first != offset and sent is not None and sent["guarantee"] == "exactly once":
                    self._tell("duplicate", f"{value!r} is at {_at(place, first)} and at {offset} ({isolation})")
        places: dict[str, Place] = {}
        for (place, _), view in self.final.items():
            for value in view.values():
                known = places.setdefault(value, place)
                sent = self.produced.get(value)
                if known != place and sent is not None and sent["guarantee"] == "exactly once":
                    self._tell("duplicate", f"{value!r} is in {known} and in {place}")

    def _check_order(self) -> None:
        """Records of one producer lie in the order in which they were sent; of repeated ones the first counts."""
        for place, view in self._views():
            last: dict[str, tuple[int, str]] = {}
            seen: set[str] = set()
            for offset, value in sorted(view.items()):
                sent = self.produced.get(value)
                if sent is None or not sent.get("ordered") or value in seen:
                    continue
                seen.add(value)
                number, before = last.get(sent["process"], (-1, ""))
                if sent["number"] < number:
                    self._tell("reordered", f"{value!r} at {_at(place, offset)} is behind {before!r}, sent later")
                else:
                    last[sent["process"]] = sent["number"], value

    def _views(self) -> Iterator[tuple[Place, dict[int, str]]]:
        """All that is known of each partition in the end; all that is known at all where there was no final read."""
        for place, values in self.values.items():
            view = self.final.get((place, "read_uncommitted")) or self.final.get((place, "read_committed"))
            yield place, values if view is None else view

    def _check_real_time(self) -> None:
        """What was acknowledged before something else was sent is in front of it."""
        by_place: dict[Place, list[Operation]] = defaultdict(list)
        for place, operation in self._acknowledged():
            if operation["offset"] is not None and operation["completed_s"] is not None:
                by_place[place].append(operation)
        for place, operations in by_place.items():
            for operation, highest in _after(operations, operations, "offset"):
                if operation["offset"] < highest["offset"]:
                    self._tell(
                        "went back in time",
                        f"{operation['value']!r} is at {_at(place, operation['offset'])}, and {highest['value']!r} at"
                        f" {highest['offset']} was there before it was sent",
                    )

    # -- transactions

    def _check_isolation(self) -> None:
        """Readers of committed data see whole transactions, when they are committed."""
        for operation in self.consumed:
            is_committed = operation["isolation"] == "read_committed"
            for offset, value in operation["records"]:
                sent = self.produced.get(value)
                if sent is None:
                    continue
                where = f"{value!r} at {_at(_place(operation), offset)} was given to {operation['process']}"
                if sent["outcome"] == "fail":
                    self._tell("failed write", f"{where}: its producer was told that it failed")
                name = sent.get("transaction")
                if name is None or not is_committed:
                    continue
                transaction = self.transactions.get(name)
                if transaction is None or transaction["outcome"] == "fail":
                    self._tell("G1a", f"{where}: {name} was {'aborted' if transaction else 'never ended'}")
                elif operation["completed_s"] is not None and operation["completed_s"] < transaction["invoked_s"]:
                    self._tell("G1b", f"{where}, when {name} was still open")
        for name, written in self.written.items():
            shown = {}
            for one in written:
                values = self.final_values.get((_place(one), "read_committed"))
                if values is not None and one["outcome"] == "ok":
                    shown[one["value"]] = one["value"] in values
            if len(set(shown.values())) > 1:
                self._tell("half a transaction", f"{name}: {shown}")

    def _check_cycles(self) -> None:
        writes: Graph = defaultdict(dict)
        reads: Graph = defaultdict(dict)
        for place, view in self._views():
            before = None
            for offset, value in sorted(view.items()):
                name = self.produced.get(value, {}).get("transaction")
                if name is None or self._outcome(name) == "fail":
                    continue
                if before is not None and before != name:
                    writes[before].setdefault(name, f"written at {_at(place, offset)}")
                before = name
        for operation in self.consumed:
            reader = operation.get("transaction")
            if reader is None or self._outcome(reader) == "fail":
                continue
            for offset, value in operation["records"]:
                name = self.produced.get(value, {}).get("transaction")
                if name is not None and name != reader:
                    reads[name].setdefault(reader, f"read from {_at(_place(operation), offset)}")
        for kind, graphs in (("G0", (writes,)), ("G1c", (reads,)), ("G1c with writes", (reads, writes))):
            cycle = find_cycle(*graphs)
            if cycle is not None:
                self._tell(kind, "; ".join(cycle))

    def _check_copies(self) -> None:
        """What consumers have made of each record is there once (in committed data)."""
        copies: dict[str, str] = {}
        has_copies = {one["topic"] for one in self.produced.values() if one.get("source") is not None}
        for (place, isolation), view in self.final.items():
            if isolation != "read_committed" or place[0] not in has_copies:
                continue
            for offset, value in sorted(view.items()):
                source = self.produced.get(value, {}).get("source")
                if source is None:
                    continue
                where = _at(place, offset)
                if source in copies:
                    self._tell("copied twice", f"{source} is at {copies[source]} and at {where}")
                copies[source] = where

    # -- consumers

    def _check_stints(self) -> None:
        """A reader skips nothing and never goes back."""
        stints: dict[tuple[str, Place, str], list[tuple[int, str]]] = defaultdict(list)
        for operation in self.consumed:
            if operation.get("stint") is not None:
                key = operation["stint"], _place(operation), operation["isolation"]
                stints[key] += [(offset, value) for offset, value in operation["records"]]
        for (stint, place, isolation), records in stints.items():
            offsets = [offset for offset, _ in records]
            for before, offset in pairwise(offsets):
                if offset <= before:
                    self._tell("went back", f"{stint} was given {_at(place, offset)} after {before}")
            view = self.final.get((place, isolation))
            if view is not None and offsets:
                given, first, last = set(offsets), min(offsets), max(offsets)
                missing = [one for one in view if first <= one <= last and one not in given]
                if missing:
                    self._tell("skipped", f"{stint} was not given {_at(place, missing[0])} ({len(missing)} in all)")

    def _check_commits(self) -> None:
        """Committed offsets are kept, were committed by somebody, and not by who had been replaced already."""
        for (group, place), operations in self.commits.items():
            self._check_fencing(group, place, [one for one in operations if one["outcome"] == "ok"])
            for one in operations:
                if one["outcome"] == "ok" and one["offset"] > self.ends.get(place, one["offset"]):
                    self._tell("commit beyond the end", f"{group} committed {_at(place, one['offset'])}")
        for operation in self.committed:
            place = _place(operation)
            candidates = self.commits.get((operation["group"], place), [])
            if operation["outcome"] != "ok" or self._may_be_read(operation, candidates):
                continue
            where = f"{operation['group']} was told {_at(place, operation['offset'])} at {operation['completed_s']}"
            if operation["offset"] is not None and all(one["offset"] != operation["offset"] for one in candidates):
                self._tell("phantom commit", f"{where}, and nobody committed that")
            else:
                kind = "lost commit" if operation.get("final") else "stale commit"
                self._tell(kind, f"{where}, after others had committed something else")

    def _check_fencing(self, group: str, place: Place, acknowledged: list[Operation]) -> None:
        for one, newest in _after(acknowledged, acknowledged, "epoch"):
            if one["epoch"] < newest["epoch"] and one["member"] != newest["member"]:
                self._tell(
                    "zombie commit",
                    f"{group} at {place[0]}-{place[1]}: {one['member']} of {one['epoch']} committed {one['offset']}"
                    f" after {newest['member']} of {newest['epoch']} had",
                )

    @staticmethod
    def _may_be_read(read: Operation, commits: list[Operation]) -> bool:
        """Whether some commit may have been the last one at a moment during the read."""
        latest = max(
            (one["invoked_s"] for one in commits if one["outcome"] == "ok" and one["completed_s"] < read["invoked_s"]),
            default=None,
        )
        if read["offset"] is None:
            return latest is None
        for one in commits:
            if one["offset"] != read["offset"] or one["outcome"] == "fail" or one["invoked_s"] > read["completed_s"]:
                continue
            is_replaced = latest is not None and one["completed_s"] is not None and one["completed_s"] < latest
            if not (is_replaced and one["outcome"] == "ok"):
                return True
        return False

    # -- leaders

    def _check_watermarks(self) -> None:
        """One leader in an epoch; its high watermark passes what was acknowledged, and never goes back."""
        leaders: dict[tuple[Place, int], str] = {}
        by_epoch: dict[tuple[Place, int], list[Operation]] = defaultdict(list)
        for operation in self.watermarks:
            if operation["outcome"] != "ok":
                continue
            key = _place(operation), operation["leader_epoch"]
            by_epoch[key].append(operation)
            known = leaders.setdefault(key, operation["node"])
            if known != operation["node"]:
                self._tell("two leaders", f"{key[0]} in epoch {key[1]}: {known} and {operation['node']}")
        acknowledged: dict[Place, list[Operation]] = defaultdict(list)
        for place, operation in self._acknowledged():
            if operation["offset"] is not None and operation.get("leader_epoch") is not None:
                acknowledged[place].append(operation)
        for (place, epoch), operations in by_epoch.items():
            for one, highest in _after(operations, operations, "high_watermark"):
                if one["high_watermark"] < highest["high_watermark"]:
                    self._tell(
                        "high watermark went back",
                        f"{place} in epoch {epoch}: {highest['high_watermark']} at {highest['completed_s']}, then"
                        f" {one['high_watermark']} at {one['completed_s']}",
                    )
            earlier = [one for one in acknowledged[place] if one["leader_epoch"] <= epoch]
            for one, highest in _after(operations, earlier, "offset"):
                if one["high_watermark"] <= highest["offset"]:
                    self._tell(
                        "high watermark below what was acknowledged",
                        f"{place} in epoch {epoch} at {one['completed_s']}: {one['high_watermark']}, and"
                        f" {highest['offset']} was acknowledged at {highest['completed_s']}",
                    )


def _after(later: Iterable[Operation], earlier: Iterable[Operation], key: str) -> Iterator[tuple[Operation, Operation]]:
    """Each operation of `later` with that one of `earlier` with the highest `key` that had ended before it began."""
    ended = sorted(earlier, key=lambda one: float(one["completed_s"]))
    position, highest = 0, None
    for operation in sorted(later, key=lambda one: float(one["invoked_s"])):
        while position < len(ended) and ended[position]["completed_s"] < operation["invoked_s"]:
            if highest is None or ended[position][key] > highest[key]:
                highest = ended[position]
            position += 1
        if highest is not None:
            yield operation, highest


def load(path: Path) -> Iterator[Operation]:
    """Operations of a file of JSON lines."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def _place(operation: Operation) -> Place:
    return operation["topic"], operation["partition"]


def _at(place: Place, offset: int | None) -> str:
    return f"{place[0]}-{place[1]}@{offset}"


def main(arguments: list[str]) -> int:
    """Check one file; 1 when there is an anomaly."""
    if len(arguments) != 1:
        print("usage: python -m tests.simulation.history FILE.jsonl")
        return 2
    history = History(load(Path(arguments[0])))
    found = history.anomalies()
    kinds: dict[str, int] = defaultdict(int)
    for one in found:
        kinds[one.kind] += 1
        if kinds[one.kind] <= MOST_TOLD:
            print(one)
    summary = ", ".join(f"{number} x {kind}" for kind, number in kinds.items()) or "no anomalies"
    print(f"{len(history.produced)} records sent, {len(history.consumed)} reads: {summary}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

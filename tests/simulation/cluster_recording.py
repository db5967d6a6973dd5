"""What clients did and were told, as `history.py` wants to have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.history import History, Operation
from tests.simulation.workloads.our_producers import is_ordered, may_repeat

if TYPE_CHECKING:
    from tests.simulation.cluster_world import ClusterWorld
    from tests.simulation.workloads.our_producers import Book, Sent

MOST_TOLD = 5


class Recorder:
    """The history of a run."""

    def __init__(self, world: ClusterWorld) -> None:
        self.world = world
        self.operations: list[Operation] = []
        self._ids: dict[str, list[bytes]] = {}

    def topic(self, name: str, topic_id: bytes) -> str:
        """What a topic is called in the history: those that are made anew under a name are others."""
        known = self._ids.setdefault(name, [])
        if topic_id not in known:
            known.append(topic_id)
        generation = known.index(topic_id)
        return f"{name}#{generation}" if generation else name

    def add(
        self, kind: str, process: str, invoked_s: float, *, outcome: str = "ok", ended: bool = True, **fields: Any
    ) -> Operation:
        """An operation that has ended now, or of which nobody will hear."""
        operation = {
            "kind": kind,
            "process": process,
            "invoked_s": invoked_s,
            "completed_s": self.world.now() if ended else None,
            "outcome": outcome,
            **fields,
        }
        self.operations.append(operation)
        return operation

    def add_book(self, book: Book) -> None:
        """All that our producers sent to a topic, at the end of the run."""
        for sent in book.sent.values():
            self.operations.append(_produced(book, sent))
        for transaction in book.transactions:
            self.operations.append(
                {
                    "kind": "transaction",
                    "process": transaction.name,
                    "name": transaction.name,
                    "invoked_s": transaction.ending_s,
                    "completed_s": transaction.ended_s,
                    "outcome": {True: "ok", False: "fail", None: "unknown"}[transaction.outcome],
                }
            )

    def check(self) -> None:
        """Everything that the history shows is a failure of the run."""
        found = History(self.operations).anomalies()
        kinds: dict[str, int] = {}
        for anomaly in found:
            kinds[anomaly.kind] = kinds.get(anomaly.kind, 0) + 1
            if kinds[anomaly.kind] <= MOST_TOLD:
                self.world.fail(str(anomaly))
        self.world.count("operations in histories", len(self.operations))

    def save(self, path: Path) -> None:
        """As JSON lines."""
        path.write_text("".join(json.dumps(one) + "\n" for one in self.operations), encoding="utf-8")


def _produced(book: Book, sent: Sent) -> Operation:
    repeats = may_repeat(book, sent)
    metadata = sent.metadata
    is_known = sent.is_done and sent.error is None and metadata is not None
    place = sent.partition if metadata is None else metadata.partition
    return {
        "kind": "produce",
        "process": sent.sender,
        "invoked_s": sent.since_s,
        "completed_s": sent.until_s if is_known else None,
        "outcome": "ok" if is_known else "unknown",
        "topic": book.topic,
        "partition": place,
        "value": sent.value.decode(),
        "offset": metadata.offset if metadata is not None and metadata.offset >= 0 else None,
        "guarantee": "at least once" if sent.kind.startswith("plain") or repeats else "exactly once",
        "ordered": is_ordered(book, sent) and not repeats,
        "number": sent.number,
        "transaction": None if sent.transaction is None else sent.transaction.name,
        "source": None,
        "leader_epoch": sent.leader_epoch,
    }

"""Tries every cell with Ottla's broker, and writes the tables of docs/identity.md.

python -m tests.compatibility.logins.matrix [--docs] [--client NAME] [--mechanism NAME]
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import ottla
from ottla.errors import KafkaError
from tests.compatibility.logins.cases import CANNOT, CASES, CLIENTS, MTLS, Case, transports, words
from tests.compatibility.logins.visitors import GoVisitor, JavaVisitor, Librdkafka, Ours, Visit, Visitor, our_settings
from tests.compatibility.logins.world import SESSION_MS, World

COUNT, PAUSE_MS = 12, SESSION_MS // 10
"""Records of a visit that outlasts a session."""


class Cell(NamedTuple):
    """What a client has tried."""

    client: str
    case: Case
    tls: bool
    refusal: str | None
    """What the client says; None: it got in, and its records came back."""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.client}, {self.case.mechanism}, {self.case.what}, {'with' if self.tls else 'without'} TLS"

    def problem(self) -> str | None:
        """What is not as it should be."""
        if self.case.kind == "good":
            return self.refusal and f"{self.name}: {self.refusal}"
        if self.refusal is None:
            return f"{self.name}: got in"
        return None if re.search(words(self.client, self.case), self.refusal) else f"{self.name}: {self.refusal}"


class Kept(NamedTuple):
    """What becomes of a producer's connection whose login is withdrawn."""

    mechanism: str
    is_brief: bool
    """Whether connections.max.reauth.ms is set."""
    refusal: str | None
    """None: it goes on."""


class Found(NamedTuple):
    """All that was tried."""

    before: list[Cell]
    """Logins that will be withdrawn."""
    cells: list[Cell]
    renewed: list[Cell]
    """While these wrote, their sessions ended."""
    renewals: int
    kept: list[Kept]
    thrown_out: list[Cell]
    """While these wrote, their logins were withdrawn and then their sessions ended."""
    refusals: list[tuple[str, str]]
    """Of the audit log: listener, reason."""


class Visits:
    """The clients, each of which does one thing after the other."""

    def __init__(self, world: World, chosen: str = "") -> None:
        self.world = world
        made: list[Visitor] = [Ours(), JavaVisitor(world.directory, world.kdc.krb5), Librdkafka(), GoVisitor()]
        self.visitors = [visitor for visitor in made if chosen in visitor.name]

    def close(self) -> None:
        for visitor in self.visitors:
            visitor.close()

    def try_all(self, cases: Sequence[Case], *, both: bool = True) -> list[Cell]:
        """Every client tries all of these; with `both` transports, where there are."""

        def cells(visitor: Visitor) -> list[Cell]:
            return [
                cell
                for case in self._known(visitor, cases)
                for tls in transports(case)[: None if both else 1]
                for cell in self._cells(visitor, [case], tls, "once")
            ]

        return self._beside_each_other(cells)

    def outlast_sessions(self, cases: Sequence[Case], count: int = COUNT) -> list[Cell]:
        """Every client writes longer than a session lasts, by all of these at once."""

        def cells(visitor: Visitor) -> list[Cell]:
            chosen = [case for case in self._known(visitor, cases) if not visitor.is_short(case.mechanism)]
            return self._cells(visitor, chosen, True, "long", brief=True, count=count, pause_ms=PAUSE_MS)

        return self._beside_each_other(cells)

    @staticmethod
    def _known(visitor, cases):
        return [case for case in cases if (visitor.name, case.mechanism) not in CANNOT]

    def _beside_each_other(self, cells):
        with ThreadPoolExecutor(len(self.visitors)) as threads:
            return [cell for found in threads.map(cells, self.visitors) for cell in found]

    def _cells(self, visitor, cases, tls, prefix, *, brief=False, **how) -> list[Cell]:
        if not cases:
            return []
        began = time.monotonic()
        visits = [
            Visit(
                self.world.address(case, tls=tls, brief=brief),
                self.world.login(case, tls=tls),
                topic_of(prefix, visitor, case),
                **how,
            )
            for case in cases
        ]
        refusals = visitor.visit(*visits)
        took = time.monotonic() - began
        return [Cell(visitor.name, case, tls, refusal, took) for case, refusal in zip(cases, refusals, strict=True)]


def topic_of(prefix: str, visitor: Visitor, case: Case) -> str:
    """Where nobody else writes at the same time."""
    return re.sub("[^A-Za-z0-9]+", "-", f"{prefix} {visitor.name} {case.mechanism}")


class Connections:
    """Our producers, which stay connected while their logins are withdrawn."""

    def __init__(self, world: World, cases: Sequence[Case]) -> None:
        self._made = [
            (case, brief, self._producer(world, case, brief))
            for case in cases
            for brief in ((False,) if case.mechanism == MTLS else (False, True))
        ]
        for _, _, producer in self._made:
            producer.send("kept", b"before").result(10)

    @staticmethod
    def _producer(world, case, brief):
        settings, more = our_settings(world.login(case, tls=True))
        return ottla.Producer(world.address(case, tls=True, brief=brief), settings, max_block_ms=5000, **more)

    def outcome(self) -> list[Kept]:
        """Write for longer than a session, with all of them."""
        refusals: dict[int, str] = {}
        ends_at = time.monotonic() + 1.6 * SESSION_MS / 1000
        while time.monotonic() < ends_at:
            for index, (_, _, producer) in enumerate(self._made):
                if index not in refusals:
                    try:
                        producer.send("kept", b"after").result(10)
                    except KafkaError as error:
                        refusals[index] = str(error)
            time.sleep(0.05)
        return [Kept(case.mechanism, brief, refusals.get(index)) for index, (case, brief, _) in enumerate(self._made)]

    def close(self) -> None:
        for _, _, producer in self._made:
            producer.close(timeout_s=0)


def run(world: World, visits: Visits, cases: Sequence[Case]) -> Found:
    """Try everything, withdraw what is to be revoked, and try that."""
    topics = {
        topic_of(prefix, visitor, case) for prefix in ("once", "long") for visitor in visits.visitors for case in cases
    }
    world.start(["kept", *sorted(topics)])
    withdrawn = [case for case in cases if case.kind == "revoked"]
    before = visits.try_all(withdrawn, both=False)
    cells = visits.try_all([case for case in cases if case.kind != "revoked"])
    already = world.renewals()
    renewed = visits.outlast_sessions([case for case in cases if case.kind == "good" and case.mechanism != MTLS])
    renewals = world.renewals() - already
    connections = Connections(world, withdrawn)
    try:
        with ThreadPoolExecutor(1) as threads:
            scram = [case for case in withdrawn if case.mechanism == "SCRAM-SHA-512"]
            thrown_out = threads.submit(visits.outlast_sessions, scram, 4 * COUNT)
            time.sleep(1.5)  # Java's client takes so long to begin
            world.revoke()
            kept = connections.outcome()
            ended = thrown_out.result()
    finally:
        connections.close()
    cells += visits.try_all(withdrawn)
    return Found(before, cells, renewed, renewals, kept, ended, world.refusals())


# For the documentation


def table(found: Found) -> str:
    """A line for each case; a cell holds for both transports."""
    lines = [
        f"| mechanism | | {' | '.join(CLIENTS)} | what the client hears |",
        f"| --- | --- |{' --- |' * len(CLIENTS)} --- |",
    ]
    for case in CASES:
        shown = []
        for client in CLIENTS:
            cells = [cell for cell in found.cells if (cell.client, cell.case) == (client, case)]
            outcomes = {"in" if cell.refusal is None else "refused" for cell in cells}
            shown.append("/".join(sorted(outcomes)) or NONE)
        kind = "" if case.kind == "good" else f"{case.kind}: "
        if case.kind == "good" and case.mechanism != MTLS:
            lines.append(_renewals(found, case))
        hears = f"`{case.hears}`" if " of " not in case.hears and case.hears else case.hears
        line = f"| {case.mechanism} | {kind}{case.what} | {' | '.join(shown)} | {hears} |"
        lines.insert(len(lines) - (kind == "" and case.mechanism != MTLS), line)
    return "\n".join(lines)


def _renewals(found: Found, case: Case) -> str:
    shown = []
    for client in CLIENTS:
        refusals = [cell.refusal for cell in found.renewed if (cell.client, cell.case) == (client, case)]
        shown.append(NONE if not refusals else "goes on" if refusals == [None] else "refused")
    return f"| {case.mechanism} | the session ends while it writes | {' | '.join(shown)} | |"


def open_connections(found: Found) -> str:
    """What becomes of connections whose login is withdrawn."""
    lines = [
        "| mechanism | withdrawn | open connections | with `connections.max.reauth.ms` |",
        "| --- | --- | --- | --- |",
    ]
    for case in CASES:
        if case.kind != "revoked":
            continue
        outcomes = {
            kept.is_brief: "stay" if kept.refusal is None else "end with the session"
            for kept in found.kept
            if kept.mechanism == case.mechanism
        }
        if not outcomes:
            continue
        lines.append(f"| {case.mechanism} | {case.what} | {outcomes[False]} | {outcomes.get(True, 'stay')} |")
    return "\n".join(lines)


NONE = "-"
"""Stands for what is not there to be tried."""

DOCUMENT = Path(__file__).parents[3] / "docs" / "identity.md"


def documented(text: str, found: Found) -> str:
    """The document with the tables in their places."""
    for name, lines in (("logins", table(found)), ("open connections", open_connections(found))):
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{lines}\n\n{end}{after}"
    return text


# From the command line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", default="", help="clients whose names have this in them")
    parser.add_argument("--mechanism", default="", help="the same of mechanisms")
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/identity.md")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory))
        os.environ |= {"KRB5_CONFIG": world.kdc.krb5, "KRB5CCNAME": f"FILE:{directory}/cache"}
        visits = Visits(world, options.client)
        try:
            found = run(world, visits, [case for case in CASES if options.mechanism in case.mechanism])
        finally:
            visits.close()
            world.stop()
    for cell in (*found.cells, *found.renewed, *found.thrown_out):
        print(f"{cell.seconds:5.2f} s  {cell.name}: {cell.refusal or 'in'}")
    for kept in found.kept:
        print(f"connected by {kept.mechanism}{', short sessions' if kept.is_brief else ''}: {kept.refusal or 'stays'}")
    problems = [problem for cell in (*found.cells, *found.renewed) if (problem := cell.problem())]
    print(*problems, sep="\n")
    print(f"{len(found.cells)} cells, {len(problems)} problems, {found.renewals} renewals, ", end="")
    print(f"{time.monotonic() - began:.1f} s")
    print(*sorted(set(found.refusals)), sep="\n")
    if options.docs:
        DOCUMENT.write_text(documented(DOCUMENT.read_text(), found))


if __name__ == "__main__":
    main()

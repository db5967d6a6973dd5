"""What the comparison of our command line tools with Apache Kafka's runs: a module for each tool.

A module has

    TOOL = "kafka-topics"
    CLASS = "org.apache.kafka.tools.TopicCommand"
    SCENARIOS = [Scenario("create", "--create --topic tools-a --partitions 2", "--describe --topic tools-a"), ...]
    NOT_COMPARED = {"--option": "why no scenario has it"}

A step is a command line without the tool's name, split as a shell would. `--bootstrap-server {bootstrap}` is put in
front unless the step or the scenario is `bare`; `{bootstrap}`, `{directory}` (where `files` are) and what `setup`
returns are filled in. Topics, groups and so on begin with `tools-` and are deleted between runs.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ottla


@dataclass(frozen=True)
class Step:
    """One call of the tool, with what is given on standard input."""

    line: str
    input: str = ""
    bare: bool = False
    settle_ms: int = 0
    """How long to wait before it, for what the step before set off."""

    def words(self) -> list[str]:
        return shlex.split(self.line)


@dataclass(frozen=True)
class Place:
    """Where a scenario runs: a cluster, an admin client for it, a directory of its own."""

    bootstrap: str
    admin: ottla.Admin
    directory: Path
    values: Mapping[str, str] = field(default_factory=dict)
    """What else may be filled into command lines here."""

    def produce(
        self, topic: str, values: Sequence[str], *, partition: int = 0, timestamp_ms: int | None = None
    ) -> None:
        """Write values into a partition, and wait until they are there. `timestamp_ms` is that of the first."""
        import ottla

        with ottla.Producer(self.bootstrap, acks="all") as producer:
            for number, value in enumerate(values):
                when = None if timestamp_ms is None else timestamp_ms + number
                producer.send(topic, value.encode(), partition=partition, timestamp_ms=when)


Setup = Callable[[Place], Mapping[str, str] | None]


@dataclass(frozen=True, init=False)
class Scenario:
    """Calls of a tool one after the other; each has to print and to return the same for both tools.

    `quick`: runs in the test suite too. `ignore`: regular expressions of what may differ, e.g. a measured time;
    they stand as `<ignored>` in both outputs then, and `remove` cuts out without a trace. `unordered`: lines may
    come in any order. `differs`: why the outputs are known not to be equal; the table tells it. `only`: "kafka" or
    "ottla" when the other cannot do what it needs. `process`: run both as processes (they handle signals, never end
    by themselves, or say something when they end); who does not end in time gets SIGTERM. `result`: a text about
    what the calls have brought about, compared like what they print. `teardown` ends what `setup` began, after each
    run.
    """

    name: str
    steps: tuple[Step, ...]
    setup: Setup | None
    teardown: Callable[[], None] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False
    quick: bool = False
    ignore: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    unordered: bool = False
    differs: str = ""
    only: str = ""
    process: bool = False
    timeout_s: float = 60
    result: Callable[[Place], str] | None = None

    def __init__(
        self,
        name: str,
        *steps: str | Step,
        setup: Setup | None = None,
        teardown: Callable[[], None] | None = None,
        files: Mapping[str, str] | None = None,
        bare: bool = False,
        quick: bool = False,
        ignore: Sequence[str] = (),
        remove: Sequence[str] = (),
        unordered: bool = False,
        differs: str = "",
        only: str = "",
        process: bool = False,
        timeout_s: float = 60,
        result: Callable[[Place], str] | None = None,
    ) -> None:
        made = tuple(Step(step) if isinstance(step, str) else step for step in steps)
        for attribute, value in {
            "name": name, "steps": made, "setup": setup, "teardown": teardown,
            "files": dict(files or {}), "bare": bare, "quick": quick,
            "ignore": tuple(ignore), "remove": tuple(remove),
            "unordered": unordered, "differs": differs, "only": only, "process": process,
            "timeout_s": timeout_s, "result": result,
        }.items():  # fmt: skip
            object.__setattr__(self, attribute, value)

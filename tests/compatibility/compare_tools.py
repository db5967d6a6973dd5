"""Compares our command line tools with Apache Kafka's, option by option, on Apache Kafka and on Ottla.

    python -m tests.compatibility.compare_tools [--tool kafka-topics] [--quick] [--cluster kafka] [--json] [--docs]

Every scenario of `tool_scenarios/` runs four times: with Apache Kafka's own Java tool and with ours, on a cluster of
each kind. Standard output has to be the same byte for byte, after ids and times that no two runs share are taken out;
so has the exit code, and on standard error the lines that a script may look for: no stack traces, no log lines. Of a
help text the options count, with what they take: the sentences are our own. Every option that Kafka's tool has must be
in a scenario, or have a reason why not. `--docs` writes the table of docs/kafka-tools.md.

The Java tools run in one JVM (see `drivers.Java`), ours in this process.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import io
import json
import logging
import pkgutil
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from benchmarks.brokers import ROOT, ApacheKafka, Broker, OttlaBroker, free_port, java
from tests.compatibility import tool_scenarios
from tests.compatibility.drivers import Java
from tests.compatibility.tool_scenarios import Place, Scenario, Step

PREFIX = "tools-"
"""Of everything that a scenario makes, so that it can be deleted again."""

THEIR_PREFIXES = ("console-consumer-", "console-share-consumer")
"""Of groups that Kafka's tools choose the names of."""

SETTINGS = {
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "group.coordinator.rebalance.protocols": "classic,consumer,streams,share",
}
SECURED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS;User:admin",
    "delegation.token.secret.key": "secret",
}
SLOW_S = 5
OPTIONS_FILE = Path(__file__).parent / "tool_scenarios" / "options.json"
"""The options that Kafka's tools have, by tool."""


@dataclass(frozen=True)
class Outcome:
    """What a call printed, and how it ended; None: not in time."""

    code: int | None
    output: str
    errors: str


@dataclass(frozen=True)
class Difference:
    """A step of a scenario that was not the same for both tools."""

    cluster: str
    scenario: str
    step: str
    expected: Outcome
    found: Outcome
    known: str

    def text(self) -> str:
        lines = [f"{self.cluster}: {self.scenario}: {self.step}"]
        if self.expected.code != self.found.code:
            lines.append(f"  exit code {self.expected.code}, ours {self.found.code}")
        for what, theirs, ours in (
            ("stdout", self.expected.output, self.found.output),
            ("stderr", self.expected.errors, self.found.errors),
        ):
            if theirs != ours:
                lines.append(f"  {what}: Kafka's -, ours +")
                diff = difflib.unified_diff(theirs.split("\n"), ours.split("\n"), lineterm="", n=1)
                lines += [f"    {line}" for line in list(diff)[3:]]
        return "\n".join(lines)


@dataclass
class Comparison:
    """What came of comparing one tool."""

    tool: str
    steps: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)
    not_compared: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    known: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)

    @property
    def unexpected(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.known]


def tool_modules() -> dict[str, ModuleType]:
    """The modules of scenarios, by tool."""
    found = {}
    for info in pkgutil.iter_modules(tool_scenarios.__path__):
        module = importlib.import_module(f"{tool_scenarios.__name__}.{info.name}")
        if hasattr(module, "TOOL"):
            found[module.TOOL] = module
    return dict(sorted(found.items()))


# Running


class Comparer:
    """Runs scenarios on one cluster."""

    def __init__(self, java: Java, cluster: str, bootstrap: str, directory: Path) -> None:
        import ottla

        self.java, self.cluster, self.bootstrap, self.directory = java, cluster, bootstrap, directory
        self.admin = ottla.Admin(bootstrap)
        self.values: dict[str, str] = {}
        """More to fill into command lines."""
        self.seconds = [0.0, 0.0]
        """What Kafka's tools took, and ours."""

    def close(self) -> None:
        self.admin.close()

    def compare(self, module: ModuleType, scenario: Scenario) -> Iterator[Difference | None]:
        """For each step None, or what was different."""
        runs = []
        for ours in (False, True):
            clean(self.admin)
            # Both run in the same place: a path may be in what they print.
            place = Place(self.bootstrap, self.admin, self.directory, self.values)
            for name, text in scenario.files.items():
                (self.directory / name).write_text(text)
            values = scenario.setup(place) if scenario.setup is not None else None
            time.sleep(0.15 if scenario.setup is not None else 0)  # until every part of a broker has heard of it
            fill = {"bootstrap": self.bootstrap, "directory": str(self.directory)}
            fill |= {**self.values, **(values or {})}
            started = time.monotonic()
            try:
                runs.append([self.call(module, scenario, step, fill, ours=ours) for step in scenario.steps])
                self.seconds[ours] += time.monotonic() - started
                if scenario.result is not None:
                    runs[-1].append(Outcome(0, scenario.result(place), ""))
            finally:
                if scenario.teardown is not None:
                    scenario.teardown()
        steps = scenario.steps if scenario.result is None else (*scenario.steps, Step("(what came of it)"))
        for step, theirs, found in zip(steps, *runs, strict=True):
            theirs, found = (normalized(one, scenario) for one in (theirs, found))
            if theirs == found:
                yield None
            else:
                yield Difference(self.cluster, scenario.name, step.line, theirs, found, scenario.differs)

    def call(self, module: ModuleType, scenario: Scenario, step: Step, fill: dict[str, str], *, ours: bool) -> Outcome:
        words = [] if step.bare or scenario.bare else ["--bootstrap-server", "{bootstrap}"]
        words += step.words()
        for name, value in fill.items():
            words = [word.replace(f"{{{name}}}", value) for word in words]
        time.sleep(step.settle_ms / 1000)
        if scenario.process:
            command = [sys.executable, "-m", "ottla", module.TOOL] if ours else [*java("-Xmx256m"), module.CLASS]
            return run_process([*command, *words], step.input, scenario.timeout_s)
        if not ours:
            code, output, errors, _ = self.java.run_tool(
                module.CLASS, words, input=step.input, timeout_s=scenario.timeout_s
            )
            return Outcome(code, output, errors)
        return run_ours([module.TOOL, *words], step.input)


def run_ours(arguments: list[str], text: str = "") -> Outcome:
    """`ottla ARGUMENTS…` in this process."""
    from ottla.cli.main import main

    output, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = main(arguments)
    finally:
        sys.stdin = before
    return Outcome(code, *(bytes(stream.buffer.getvalue()).decode(errors="replace") for stream in (output, errors)))  # type: ignore[attr-defined]


def run_process(command: list[str], text: str, timeout_s: float) -> Outcome:
    """A tool in a process of its own, asked to end when it did not in time."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        output, errors = process.communicate(text, timeout_s)
        return Outcome(process.returncode, output, errors)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, errors = process.communicate(timeout=30)
        return Outcome(None, output, errors)


def clean(admin) -> None:  # type: ignore[no-untyped-def]
    """Delete what earlier scenarios made."""
    from ottla.client.errors import KafkaError

    groups = [group for group in admin.list_groups() if group.group_id.startswith((PREFIX, *THEIR_PREFIXES))]
    for group in groups:
        with contextlib.suppress(KafkaError):
            admin.delete_consumer_groups([group.group_id])
    _clean_settings(admin)
    topics = [topic for topic in admin.list_topics() if topic.startswith(PREFIX)]
    if topics:
        admin.delete_topics(topics)
    deadline = time.monotonic() + 10
    while any(topic.startswith(PREFIX) for topic in admin.list_topics()) and time.monotonic() < deadline:
        time.sleep(0.02)


def _clean_settings(admin) -> None:  # type: ignore[no-untyped-def]
    """Quotas, credentials, rules and settings of earlier scenarios."""
    from ottla.admin import AclFilter, AlterConfigOp, ConfigType, UserScramCredentialDeletion
    from ottla.client.errors import KafkaError

    if quotas := admin.describe_client_quotas():
        admin.alter_client_quotas({entity: dict.fromkeys(found) for entity, found in quotas.items()})
    with contextlib.suppress(KafkaError):
        users = admin.describe_user_scram_credentials()
        gone = [UserScramCredentialDeletion(user, info.mechanism) for user, infos in users.items() for info in infos]
        if gone:
            admin.alter_user_scram_credentials(gone)
    with contextlib.suppress(KafkaError):
        admin.delete_acls(AclFilter())
    for resource in admin.list_config_resources((ConfigType.GROUP, ConfigType.CLIENT_METRICS)):
        entries = admin.describe_configs(resource)[resource].values()
        own = [AlterConfigOp.delete(entry.name) for entry in entries if not entry.is_default]
        with contextlib.suppress(KafkaError):
            admin.incremental_alter_configs({resource: own})


# Comparing

_LOG_LINE = re.compile(r"^(\[\d{4}-\d\d-\d\d .*?\]|\d{4}-\d\d-\d\d.*) ?(TRACE|DEBUG|INFO|WARN|ERROR|FATAL)|^WARN ")
_PLAIN_LOG = re.compile(r"\(org\.apache\.kafka\.clients\.admin\.KafkaAdminClient\)$")
"""Of a log line that no exception follows."""
_TRACE_LINE = re.compile(r"^\s+at |^Caused by: |^\s+\.\.\. \d+ more|^\s+Suppressed: ")
_TRACE_HEAD = re.compile(r"^[\w.$]+(Exception|Error)(:|$)")
_HELP_HEAD = re.compile(r"^Option( \(\* = required\))? +Description *$", re.MULTILINE)
_ID = re.compile(r"(?<![\w-])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{22}(?![\w-])")


def normalized(outcome: Outcome, scenario: Scenario) -> Outcome:
    """Without what no two runs share, and without what only Java prints."""
    output = outcome.output
    if "\n\tat " in output:  # a tool that prints its traces there
        output = _messages(output) + "\n"
    return Outcome(outcome.code, _text(output, scenario), _text(_messages(outcome.errors), scenario))


def _text(text: str, scenario: Scenario) -> str:
    text = _help(text)
    text = _ID.sub("<id>", text)
    for pattern in scenario.ignore:
        text = re.sub(pattern, "<ignored>", text)
    for pattern in scenario.remove:
        text = re.sub(pattern, "", text)
    if scenario.unordered:
        text = "\n".join(sorted(text.split("\n")))
    return text


def _messages(errors: str) -> str:
    """Standard error without log lines and stack traces.

    The line before a trace, a class and a message, is left out where it repeats what was printed before.
    """
    kept: list[str] = []
    in_trace = logged = False
    for line in errors.split("\n"):
        if _TRACE_LINE.match(line):
            if not in_trace:
                _drop_repetition(kept)
            in_trace = True
            continue
        in_trace = False
        is_cause = logged and _TRACE_HEAD.match(line) is not None
        log_line = _LOG_LINE.match(line)
        logged = log_line is not None and log_line[0].endswith("ERROR") and not _PLAIN_LOG.search(line)
        if log_line is None and not is_cause:
            kept.append(line)
    return "\n".join(kept).rstrip("\n")


def _drop_repetition(lines: list[str]) -> None:
    start = len(lines) - 1
    while start > 0 and not _TRACE_HEAD.match(lines[start]):
        start -= 1  # a message of several lines
    if start <= 0 or not _TRACE_HEAD.match(lines[start]):
        return
    message = "\n".join(lines[start:]).partition(": ")[2]
    if "\n".join(lines[:start]).rstrip("\n").endswith(message.rstrip("\n")) or lines[start - 1] == "null":
        del lines[start:]


def _help(text: str) -> str:
    """A table of options as the options with what they take; of an argparse4j help, usage and titles."""
    if head := _HELP_HEAD.search(text):
        width = head.group().index("Description")
        lefts = [line[:width].rstrip() for line in text[head.end() :].split("\n")[2:]]
        options = re.split(r"\n(?=-|\* )", "\n" + "\n".join(left for left in lefts if left))
        return text[: head.start()] + "\n".join(re.sub(r"\s+", "", option) for option in options)
    if text.startswith("usage: ") and "\noptional arguments:\n" in text:
        usage = " ".join(text.partition("\n\n")[0].split())
        titles = [
            title
            for block in text.split("\n\n")[1:]
            for title in re.findall(r"^ {2,4}(\S+(?: \S+)*?)(?= {2,}|$)", block, re.MULTILINE)
            # Of a group's description the sentences are ours.
            if title[0] in "-{" or block.startswith(("positional", "subcommands"))
        ]
        return "\n".join([usage, *titles])
    return text


def kafka_options(tool: str) -> set[str]:
    """The options of Kafka's tool, each by its names."""
    options: set[str] = set()
    for name, listed in json.loads(OPTIONS_FILE.read_text()).items():
        if name.split()[0] == tool:
            options.update(listed)
    return options


def compare_tool(comparers: Sequence[Comparer], module: ModuleType, *, quick: bool = False) -> Comparison:
    """Run a tool's scenarios on these clusters."""
    result = Comparison(module.TOOL, not_compared=dict(getattr(module, "NOT_COMPARED", {})))
    for scenario in module.SCENARIOS:
        words = {word.partition("=")[0] for step in scenario.steps for word in step.words() if word.startswith("-")}
        result.compared |= words if scenario.bare else {*words, "--bootstrap-server"}
        if scenario.differs:
            result.known.append(scenario.differs)
        for comparer in comparers:
            before = list(comparer.seconds)
            if (scenario.only and scenario.only != comparer.cluster) or (quick and not scenario.quick):
                continue
            for difference in comparer.compare(module, scenario):
                result.steps[comparer.cluster] = result.steps.get(comparer.cluster, 0) + 1
                if difference is not None:
                    result.differences.append(difference)
            took = [after - earlier for earlier, after in zip(before, comparer.seconds, strict=True)]
            if max(took) > SLOW_S:
                text = f"{scenario.name} on {comparer.cluster}: Kafka's tool {took[0]:.1f} s, ours {took[1]:.1f} s"
                result.slow.append(text)
    for names in kafka_options(module.TOOL):
        if not result.compared.intersection(names.split(", ")) and names not in result.not_compared:
            result.missing.add(names)
    return result


# Telling

INTRO = """\
# Kafka's command line tools

`ottla kafka-topics …` does what `kafka-topics.sh …` does: it takes Kafka's options and prints what Kafka prints, so
that scripts and tutorials work when `.sh` is dropped. `ottla install-kafka-tools DIR` writes a `.sh` for each tool, for
what cannot be changed.

The table comes from a script, `python -m tests.compatibility.compare_tools --docs`, which runs Apache Kafka's own tools
(4.3.1, in Java) and ours on the same cluster, one of Apache Kafka and one of Ottla, and compares standard output byte
for byte, messages on standard error, and exit codes. Not compared are the sentences of the help, which are ours, Java's
stack traces and its log lines. What Ottla's broker does not serve yet (access rules, SCRAM credentials, delegation
tokens) is compared there by how it is refused.

A tool of ours starts without a JVM: `ottla kafka-topics --list` takes 0.14 s of processor time and 28 MB, where
`kafka-topics.sh --list` takes 1.3 s and 96 MB, on the same machine against the same broker.

| tool | options compared | calls the same on Apache Kafka | on Ottla | what is different |
| --- | --- | --- | --- | --- |
"""


def table(results: Sequence[Comparison]) -> str:
    """docs/kafka-tools.md."""
    lines = []
    reasons = []
    for result in results:
        options = kafka_options(result.tool)
        same = []
        for cluster in ("kafka", "ottla"):
            steps = result.steps.get(cluster, 0)
            failed = sum(difference.cluster == cluster for difference in result.differences)
            same.append(f"{steps - failed} of {steps}")
        left_out = {name for name in options if name in result.not_compared} | result.missing
        compared = "all" if not left_out else f"{len(options) - len(left_out)} of {len(options)}"
        known = list(dict.fromkeys(result.known))
        if result.unexpected:
            known.append("not the same yet: " + ", ".join(dict.fromkeys(one.scenario for one in result.unexpected)))
        lines.append(f"| `{result.tool}` | {compared} ({len(options)}) | {same[0]} | {same[1]} | {'; '.join(known)} |")
        for name, reason in sorted(result.not_compared.items()):
            reasons.append(f"- `{result.tool} {name}`: {reason}")
        reasons += [f"- `{result.tool} {name}`: in no scenario yet" for name in sorted(result.missing)]
    text = INTRO + "\n".join(lines) + "\n"
    return text + ("\nOptions that are not compared:\n\n" + "\n".join(reasons) + "\n" if reasons else "")


def with_rows(document: str, newer: str) -> str:
    """A document with the rows of a newer one, of some tools, in the place of its own."""
    rows = {line.split("|")[1]: line for line in newer.split("\n") if line.startswith("| `")}
    return "\n".join(
        rows.get(line.split("|")[1], line) if line.startswith("| `") else line for line in document.split("\n")
    )


@contextlib.contextmanager
def clusters(names: Sequence[str], java: Java) -> Iterator[list[Comparer]]:
    """Running clusters of these kinds."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        comparers = []
        for name in names:
            place = Path(directory) / name
            broker: Broker
            if name == "kafka":
                heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
                broker = ApacheKafka(place / "broker", settings={**SETTINGS, **SECURED}, heap=heap)
            else:
                broker = OttlaBroker(place / "broker", settings={**SETTINGS, **SECURED})
            sasl_port = _add_sasl(broker)
            broker.start()
            stack.callback(broker.stop)
            (place / "files").mkdir()
            comparers.append(Comparer(java, name, broker.bootstrap, place / "files"))
            comparers[-1].values["sasl_bootstrap"] = f"127.0.0.1:{sasl_port}"
            stack.callback(comparers[-1].close)
        yield comparers


def _add_sasl(broker: Broker) -> int:
    """Give the broker a listener with SASL; returns its port."""
    port = free_port()
    listeners = f"PLAINTEXT://127.0.0.1:{broker.port},SASL_PLAINTEXT://127.0.0.1:{port}"
    if isinstance(broker, ApacheKafka):
        listeners += f",CONTROLLER://127.0.0.1:{broker.controller_port}"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    broker.settings |= {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{login} user_admin="admin";',
    }
    return port


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tool", action="append", help="only this tool; may be repeated")
    parser.add_argument("--scenario", action="append", help="only scenarios of this name")
    parser.add_argument("--cluster", choices=("kafka", "ottla"), action="append", help="only on this kind of cluster")
    parser.add_argument("--quick", action="store_true", help="only what the test suite runs")
    parser.add_argument("--json", action="store_true", help="the differences as JSON")
    parser.add_argument("--docs", action="store_true", help="write docs/kafka-tools.md, or the rows of these tools")
    options = parser.parse_args(argv)
    logging.getLogger("ottla").setLevel(logging.ERROR)  # of the setups' own clients
    jvm = Java()
    if missing := jvm.missing():
        parser.error(f"missing: {missing}")
    modules = tool_modules()
    if unknown := set(options.tool or ()) - set(modules):
        parser.error(f"no scenarios for {', '.join(sorted(unknown))}")
    results = []
    try:
        with clusters(options.cluster or ("kafka", "ottla"), jvm) as comparers:
            for tool, module in modules.items():
                if options.tool and tool not in options.tool:
                    continue
                if options.scenario:
                    module.SCENARIOS = [one for one in module.SCENARIOS if one.name in options.scenario]
                started = time.monotonic()
                results.append(compare_tool(comparers, module, quick=options.quick))
                if not options.json:
                    _tell(results[-1], time.monotonic() - started)
    finally:
        jvm.close()
    if options.json:
        print(json.dumps([_as_json(result) for result in results], indent=2))
    if options.docs:
        document = ROOT / "docs" / "kafka-tools.md"
        whole = not options.tool and not options.scenario and not options.cluster and not options.quick
        document.write_text(table(results) if whole else with_rows(document.read_text(), table(results)))
    return 1 if any(result.unexpected or result.missing for result in results) else 0


def _tell(result: Comparison, seconds: float) -> None:
    steps = ", ".join(f"{count} calls on {cluster}" for cluster, count in result.steps.items())
    print(f"{result.tool}: {steps}, {len(result.unexpected)} different, {seconds:.1f} s", flush=True)
    for difference in result.unexpected:
        print("  " + difference.text().replace("\n", "\n  "))
    for text in result.slow:
        print(f"  slow: {text}")
    for difference in result.differences:
        if difference.known:
            print(f"  as known: {difference.cluster}: {difference.scenario}: {difference.known}")
    if result.missing:
        print(f"  options in no scenario: {', '.join(sorted(result.missing))}")


def _as_json(result: Comparison) -> dict[str, object]:
    return {
        "tool": result.tool,
        "calls": result.steps,
        "differences": [
            {"cluster": one.cluster, "scenario": one.scenario, "step": one.step, "known": one.known, "text": one.text()}
            for one in result.differences
        ],
        "options_not_compared": result.not_compared,
        "options_missing": sorted(result.missing),
    }


if __name__ == "__main__":
    sys.exit(main())

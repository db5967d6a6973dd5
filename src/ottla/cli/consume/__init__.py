"""`ottla consume`: records of topics as lines, JSON objects or in a form of one's own.

It reads from the beginning to the end there is now, and exits; `--follow` goes on. Nothing is committed unless a group
is named.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ottla.cli.connection import add_connection_arguments, client_settings, tell_warnings, timeout_of
from ottla.cli.consume.interrupts import Interrupts
from ottla.cli.errors import FAILURE, CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Output, add_output_arguments
from ottla.cli.selection import complete_groups, complete_topics

if TYPE_CHECKING:
    from ottla.cli.consume.printing import Notes, Printer, Sink
    from ottla.cli.consume.ranges import OffsetRange, Start
    from ottla.cli.consume.reading import Consumer, GroupReader, Limit, Record
    from ottla.cli.filters import Predicate
    from ottla.cli.formats import Format
    from ottla.core.ids import TopicPartition


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla consume`."""
    # Topics may stand on both sides of options, which argparse does not allow by itself.
    parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]
    topics = parser.add_argument("topics", metavar="TOPIC", nargs="+", help="what to read")
    topics.completer = complete_topics  # type: ignore[attr-defined]
    where = parser.add_argument_group("which records")
    where.add_argument(
        "-p", "--partition", type=whole(), action="append", default=[], metavar="N", help="only this one"
    )
    where.add_argument(
        "-o",
        "--offset",
        action="append",
        default=[],
        metavar="WHERE",
        help="beginning (as without), end, an offset, -10 (from the end) or PARTITION:OFFSET (may be repeated)",
    )
    where.add_argument("--since", metavar="TIME", help="10m, 2h30m, yesterday, 2026-01-31, 2026-01-31T08:15, …")
    where.add_argument("--until", metavar="TIME", help="ends a partition at its first record of this time or later")
    where.add_argument("--tail", type=whole(), metavar="N", help="the last N records of all partitions together")
    where.add_argument("-n", "--max-records", type=whole(), metavar="N", help="exactly so many, if there are as many")
    where.add_argument("-f", "--follow", action="store_true", help="go on with the records that come")
    where.add_argument(
        "--isolation-level",
        choices=("read_uncommitted", "read_committed"),
        default="read_uncommitted",
        help="read_committed: nothing of transactions that are open or aborted",
    )
    group = parser.add_argument_group("as a member of a group")
    member = group.add_argument(
        "-g", "--group", metavar="GROUP", help="share the partitions with the group, and commit"
    )
    member.completer = complete_groups  # type: ignore[attr-defined]
    group.add_argument("--no-commit", action="store_true", help="leave the group's offsets alone")
    chosen = parser.add_argument_group("filters (all have to let a record pass)")
    chosen.add_argument("-k", "--key", metavar="KEY", help="records with this key, written in --key-format")
    chosen.add_argument("--key-regex", metavar="REGEX", help="records whose key contains a match")
    chosen.add_argument("-H", "--header", action="append", default=[], metavar="NAME[=VALUE]", help="with this header")
    chosen.add_argument(
        "-w", "--where", action="append", default=[], metavar="CONDITION", help="on JSON: .user.age >= 18"
    )
    chosen.add_argument("--grep", metavar="REGEX", help="records whose value contains a match")
    shown = parser.add_argument_group("what is shown")
    shown.add_argument("--value-format", metavar="FORMAT", default="string", help=_formats())
    shown.add_argument("--key-format", metavar="FORMAT", default="string", help="the same for keys")
    shown.add_argument("-K", "--key-separator", metavar="TEXT", help="show keys, this text, then values")
    shown.add_argument("-F", "--format", metavar="TEMPLATE", help=r"as '%%p/%%o %%k: %%v', see the documentation")
    shown.add_argument("--null", metavar="TEXT", default="null", help="how no key or no value is shown (null)")
    shown.add_argument("-O", "--output", metavar="FILE", help="write to a file")
    shown.add_argument("--count", action="store_true", help="show only how many there are")
    add_connection_arguments(parser)
    add_output_arguments(parser)


def run(options: Namespace) -> int:
    """Read and print; returns 1 when there were records that could not be shown."""
    output = Output(options)
    try:
        plan = _Plan(options, output)
    except ValueError as error:
        raise CommandError(str(error)) from None
    from ottla.client.consumer.blocking import Consumer

    tell_warnings()
    settings = _consumer_settings(options)
    with (
        Interrupts() as interrupts,
        closing(_sink(options.output)) as sink,
        Consumer(settings.pop("bootstrap.servers", None), settings) as consumer,
    ):
        reader = _Reading(consumer, plan, sink, interrupts)
        try:
            reader.run()
        except KeyboardInterrupt:
            reader.finish()
            if not plan.follows:
                raise
        if plan.counter is not None:
            _tell_count(plan.counter.by_partition, options.topics, output)
    if plan.notes.count:
        output.note(f"{plan.notes.count} of the records could not be shown")
        return FAILURE
    return 0


class _Plan:
    """What the options ask for. ValueError for what makes no sense."""

    def __init__(self, options: Namespace, output: Output) -> None:
        from ottla.cli.consume.printing import Counter, Notes
        from ottla.cli.consume.ranges import parse_start
        from ottla.cli.consume.reading import Limit
        from ottla.cli.formats import format_of

        _check(options)
        self.timeout_s: float = timeout_of(options)
        self.topics: list[str] = list(dict.fromkeys(options.topics))
        self.partitions: list[int] = options.partition
        self.follows: bool = options.follow
        self.tail: int | None = options.tail
        self.group: str | None = options.group
        self.commits = not options.no_commit
        now_ms = int(time.time() * 1000)
        self.start: Start = parse_start(options.offset)
        self.until_ms: int | None = None
        if options.since:
            self.start = self.start._replace(since_ms=_time(options.since, now_ms))
        if options.until:
            self.until_ms = _time(options.until, now_ms)
        self.notes: Notes = Notes(output.note)
        self.counter: Counter | None = Counter() if options.count else None
        key_format, value_format = format_of(options.key_format), format_of(options.value_format)
        self.predicates = _predicates(options, key_format, self.start.since_ms)
        self.limit: Limit = Limit(options.max_records, filtered=bool(self.predicates))
        self.printer: Printer = self.counter or _printer(options, key_format, value_format, self.notes)


class _Reading:
    """One run: takes batches, filters, prints, counts."""

    def __init__(self, consumer: Consumer, plan: _Plan, sink: Sink, interrupts: Interrupts) -> None:
        self._consumer = consumer
        self._interrupts = interrupts
        self._plan = plan
        self._sink = sink
        self._group: GroupReader | None = None

    def run(self) -> None:
        """Until the end, or for ever."""
        from ottla.cli.consume.reading import GroupReader, read_ranges, read_tail

        plan = self._plan
        batches: Iterable[Sequence[Record]]
        if plan.group is not None:
            self._group = GroupReader(
                self._consumer, plan.topics, follows=plan.follows, commits=plan.commits, timeout_s=plan.timeout_s
            )
            batches = self._group.read(plan.limit)
        else:
            ranges = _ranges(self._consumer, plan)
            if plan.tail is not None:
                last, ranges = read_tail(self._consumer, ranges, plan.tail)
                self._show(last)
                if not plan.follows:
                    return
            batches = read_ranges(self._consumer, ranges, plan.limit)
        for records in batches:
            self._show(records)
        self.finish()

    def finish(self) -> None:
        """Commit what was shown."""
        if self._group is not None:
            self._group.commit()

    def _show(self, records: Sequence[Record]) -> None:
        plan, limit = self._plan, self._plan.limit
        passed = records
        if plan.predicates:
            passed = [record for record in records if all(predicate(record) for predicate in plan.predicates)]
        if limit.left is not None:
            passed = passed[: limit.left]
            limit.taken(len(passed))
        with self._interrupts.held_back():
            if passed:
                self._sink.write(plan.printer(passed))
            if self._group is not None:
                last = passed[-1] if limit.is_reached and passed else None
                for record in records:
                    self._group.dealt_with(record)
                    if record is last:
                        break  # what comes after it was not shown to anybody


def _ranges(consumer: Consumer, plan: _Plan) -> dict[TopicPartition, OffsetRange]:
    from ottla.cli.consume.ranges import Start, partitions_of, resolve
    from ottla.core.ids import TopicPartition

    found: list[TopicPartition] = []
    wanted = plan.partitions
    if not wanted and plan.start.by_partition and plan.start._replace(by_partition={}) == Start():
        wanted = list(plan.start.by_partition)
    for topic in plan.topics:
        there = partitions_of(consumer, topic, plan.timeout_s)
        for partition in wanted:
            if partition not in there:
                raise CommandError(f"topic {topic} has no partition {partition}, only 0 to {there[-1]}")
        found += [TopicPartition(topic, partition) for partition in dict.fromkeys(wanted or there)]
    return resolve(consumer, found, plan.start, until_ms=plan.until_ms, follows=plan.follows)


def _consumer_settings(options: Namespace) -> dict[str, str]:
    from ottla.client.settings import ConsumerSettings

    settings = client_settings(options, ConsumerSettings)
    settings["enable.auto.commit"] = "false"
    settings["isolation.level"] = options.isolation_level
    settings["allow.auto.create.topics"] = "false"
    settings.setdefault("client.id", "ottla-consume")
    settings.pop("group.id", None)
    if options.group is not None:
        settings["group.id"] = options.group
        settings["auto.offset.reset"] = (
            "latest" if options.offset and options.offset[-1] in ("end", "latest") else "earliest"
        )
    else:
        settings["auto.offset.reset"] = "earliest"  # what is deleted while it is read is left out
    settings.setdefault("default.api.timeout.ms", "15000")
    if not options.follow:
        # The client fetches ahead: what waits at the end of a partition must not hold up what is still to be read.
        settings.setdefault("fetch.max.wait.ms", "50")
    return settings


def _check(options: Namespace) -> None:
    if options.group is not None:
        refused = {
            "--partition": options.partition,
            "--since": options.since,
            "--until": options.until,
            "--tail": options.tail is not None,
            "--offset": [one for one in options.offset if one not in ("beginning", "earliest", "end", "latest")],
        }
        for name, given in refused.items():
            if given:
                raise ValueError(
                    f"{name} has no meaning in a group, whose offsets say where it starts; see `ottla groups reset`"
                )
    if options.follow and options.until:
        raise ValueError("--follow never ends, --until does; give one of them")
    if options.tail is not None and options.max_records is not None:
        raise ValueError("--tail and --max-records both say how many; give one of them")
    if len([1 for given in (options.format, options.json, options.key_separator is not None) if given]) > 1:
        raise ValueError("--format, --json and --key-separator are three ways to print; give one of them")
    if options.follow and options.count and options.max_records is None:
        raise ValueError("--count needs an end; leave --follow out, or say --max-records")


def _predicates(options: Namespace, key_format: Format, since_ms: int | None) -> list[Predicate]:
    from ottla.cli import filters

    made: list[Predicate] = []
    if since_ms is not None:
        # The index finds the first record of that time; one with an older timestamp may stand behind it.
        made.append(lambda record: record.timestamp_ms >= since_ms)  # type: ignore[attr-defined]
    if options.key is not None:
        made.append(filters.key_is(key_format.encode(options.key.encode())))
    if options.key_regex is not None:
        made.append(filters.key_matches(options.key_regex))
    made += [filters.header_is(header) for header in options.header]
    if options.grep is not None:
        made.append(filters.value_matches(options.grep))
    if options.where:
        made.append(filters.value_fulfils(options.where))
    return made


def _printer(options: Namespace, key_format: Format, value_format: Format, notes: Notes) -> Printer:
    from ottla.cli.consume.printing import Envelopes, Lines, Template, unescaped

    null = options.null.encode()
    if options.json:
        return Envelopes(key_format, value_format)
    if options.format is not None:
        return Template(options.format, key_format, value_format, null, notes)
    separator = None if options.key_separator is None else unescaped(options.key_separator)
    return Lines(key_format, value_format, separator, null, notes)


def _sink(path: str | None) -> Sink:
    from ottla.cli.consume.printing import Sink

    try:
        return Sink(path)
    except OSError as error:
        raise CommandError(f"cannot write to {path}: {(error.strerror or str(error)).lower()}") from None


def _tell_count(counts: dict[tuple[str, int], int], topics: Sequence[str], output: Output) -> None:
    total = sum(counts.values())
    if output.is_json:
        partitions = [
            {"topic": topic, "partition": number, "records": count} for (topic, number), count in sorted(counts.items())
        ]
        output.json({"topics": list(topics), "records": total, "partitions": partitions})
    else:
        print(total)


def _time(text: str, now_ms: int) -> int:
    from ottla.cli.units import parse_time_ms

    return parse_time_ms(text, now_ms)


def _formats() -> str:
    return "string (as without), json, pretty, hex, base64, raw, int8 to int64, float32, float64"

"""`ottla transactions`: which there are, what they wrote, which hang, and how to end them.

A transaction hangs when a partition still waits for its end although the coordinator knows nothing of it: readers of
committed records do not get past it. That takes a lost marker, or a producer of before KIP-890.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Output
from ottla.cli.units import duration_text, parse_duration_ms, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import ottla
    from ottla.client.admin.transactions import (
        ProducerState,
        TransactionDescription,
        TransactionListing,
        TransactionState,
    )
    from ottla.client.model import TopicPartition

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show which transactions there are.", aliases=["ls"])
    listing.add_argument("pattern", nargs="?", metavar="PATTERN", help="transactional ids that match ('shop-*')")
    listing.add_argument("--state", action="append", default=[], metavar="STATE", help="ongoing, complete-commit, …")
    listing.add_argument("--longer-than", metavar="DURATION", help="open for longer than 10m, 1h, …")
    listing.add_argument(
        "--producer-id", type=whole(), action="append", default=[], metavar="ID", help="only of this producer"
    )
    describing = actions.add("describe", _describe, "Show what the coordinator knows of transactional ids.")
    describing.add_argument("transactional_ids", nargs="+", metavar="TRANSACTIONAL-ID")
    producers = actions.add("producers", _producers, "Show the producers that partitions remember.")
    _add_topics(producers, required=True)
    finding = actions.add("find-hanging", _find_hanging, "Look for transactions that no coordinator will end.")
    _add_topics(finding, required=False)
    finding.add_argument("--longer-than", metavar="DURATION", default="15m", help="open for longer than this (15m)")
    aborting = actions.add("abort", _abort, "End a transaction; its producer is locked out.", loses=True)
    aborting.add_argument("transactional_id", nargs="?", metavar="TRANSACTIONAL-ID")
    aborting.add_argument("-t", "--topic", metavar="TOPIC", help="a hanging one, by where it is:")
    aborting.add_argument("-p", "--partition", type=whole(), metavar="N", help="and its partition")
    aborting.add_argument("--start-offset", type=whole(), metavar="OFFSET", help="as find-hanging shows it")
    aborting.add_argument("--producer-id", type=whole(), metavar="ID", help="or so, in place of the offset")


def _add_topics(parser: ArgumentParser, *, required: bool) -> None:
    from ottla.cli.selection import add_topics_argument

    add_topics_argument(parser, partitions=True, required=required)


def _list(options: Namespace) -> int:
    from ottla.cli.selection import matching

    output = Output(options)
    longest = None if options.longer_than is None else parse_duration_ms(options.longer_than)
    with open_admin(options) as admin:
        found = admin.list_transactions(
            states=[_state(name) for name in options.state],
            producer_ids=options.producer_id,
            running_longer_than_ms=longest,
        )
    chosen = set(matching([options.pattern] if options.pattern else [], [one.transactional_id for one in found]))
    rows = [
        [one.transactional_id, one.state.value, one.producer_id]
        for one in sorted(found)
        if one.transactional_id in chosen
    ]
    output.table(None, ["transactional id", "state", "producer id"], rows)
    return 0


def _describe(options: Namespace) -> int:
    output = Output(options)
    now_ms = int(time.time() * 1000)
    with open_admin(options) as admin:
        found = admin.describe_transactions(options.transactional_ids)
    rows = []
    json_rows = []
    for name, one in found.items():
        began = one.transaction_start_time_ms
        rows.append(
            [
                name,
                one.state.value,
                one.producer_id,
                one.producer_epoch,
                one.coordinator_id,
                duration_text(one.transaction_timeout_ms),
                None if began is None else f"{time_text(began)} ({duration_text(max(0, now_ms - began))})",
                [str(tp) for tp in sorted(one.partitions)],
            ]
        )
        partitions = sorted(one.partitions)
        json_rows.append(
            {"transactional_id": name, **one._asdict(), "state": one.state.value, "partitions": partitions}
        )
    columns = [
        "transactional id",
        "state",
        "producer id",
        "epoch",
        "coordinator",
        "timeout",
        "open since",
        "partitions",
    ]
    output.table(None, columns, rows, json_rows=json_rows)
    return 0


def _producers(options: Namespace) -> int:
    from ottla.cli.selection import select_partitions

    output = Output(options)
    with open_admin(options) as admin:
        found = admin.describe_producers(select_partitions(admin, options.topics))
    rows = [
        [
            tp.topic,
            tp.partition,
            one.producer_id,
            one.producer_epoch,
            one.last_sequence,
            time_text(one.last_timestamp_ms),
            one.current_transaction_start_offset,
        ]
        for tp, producers in sorted(found.items())
        for one in producers
    ]
    json_rows = [
        {"topic": tp.topic, "partition": tp.partition, **one._asdict()}
        for tp, producers in sorted(found.items())
        for one in producers
    ]
    columns = ["topic", "partition", "producer id", "epoch", "last sequence", "last time", "transaction start offset"]
    output.table(None, columns, rows, json_rows=json_rows)
    return 0


class Hanging(NamedTuple):
    """A transaction that a partition waits for, and no coordinator knows to be open there."""

    partition: TopicPartition
    producer: ProducerState
    transactional_id: str | None


def hanging(
    open_ones: Mapping[TopicPartition, Sequence[ProducerState]],
    listed: Sequence[TransactionListing],
    described: Mapping[str, TransactionDescription],
) -> list[Hanging]:
    """Those of the open transactions of partitions that their coordinators will not end."""
    ids = {one.producer_id: one.transactional_id for one in listed}
    found: list[Hanging] = []
    for tp, producers in sorted(open_ones.items()):
        for producer in producers:
            transactional_id = ids.get(producer.producer_id)
            known = None if transactional_id is None else described.get(transactional_id)
            is_ended_by_it = (
                known is not None
                and known.producer_id == producer.producer_id
                and known.producer_epoch >= producer.producer_epoch
                and tp in known.partitions
            )
            if not is_ended_by_it:
                found.append(Hanging(tp, producer, transactional_id))
    return found


def _find_hanging(options: Namespace) -> int:
    from ottla.cli.selection import select_partitions
    from ottla.client.errors import KafkaError

    output = Output(options)
    now_ms = int(time.time() * 1000)
    oldest_ms = now_ms - parse_duration_ms(options.longer_than)
    with open_admin(options) as admin:
        partitions = select_partitions(admin, options.topics, internal=True)
        open_ones: dict[TopicPartition, list[ProducerState]] = {}
        with output.progress(len(partitions), "partitions looked at") as bar:
            for start in range(0, len(partitions), 500):
                part = partitions[start : start + 500]
                for tp, producers in admin.describe_producers(part).items():
                    old = [
                        one
                        for one in producers
                        if one.current_transaction_start_offset is not None
                        and (one.last_timestamp_ms or 0) <= oldest_ms
                    ]
                    if old:
                        open_ones[tp] = old
                bar.advance(len(part))
        ids = {one.producer_id for producers in open_ones.values() for one in producers}
        listed = admin.list_transactions(producer_ids=sorted(ids)) if ids else []
        described: dict[str, TransactionDescription] = {}
        if listed:
            try:
                described = admin.describe_transactions([one.transactional_id for one in listed])
            except KafkaError as error:
                if not error.errors:
                    raise
                described = dict(error.results)
    found = hanging(open_ones, listed, described)
    rows = [
        [
            one.partition.topic,
            one.partition.partition,
            one.producer.producer_id,
            one.producer.producer_epoch,
            one.producer.coordinator_epoch,
            one.producer.current_transaction_start_offset,
            time_text(one.producer.last_timestamp_ms),
            one.transactional_id,
        ]
        for one in found
    ]
    columns = [
        "topic",
        "partition",
        "producer id",
        "epoch",
        "coordinator epoch",
        "start offset",
        "last time",
        "transactional id",
    ]
    if not rows and not output.is_json:
        output.line(f"no transaction hangs in {len(partitions)} partitions")
        return 0
    output.table(None, columns, rows)
    return 0


def _abort(options: Namespace) -> int:
    output = Output(options)
    if (options.transactional_id is None) == (options.topic is None):
        raise CommandError("say which: a TRANSACTIONAL-ID, or --topic and --partition of a hanging one")
    with open_admin(options) as admin:
        if options.transactional_id is not None:
            return _abort_by_id(admin, options, output)
        return _abort_hanging(admin, options, output)


def _abort_by_id(admin: ottla.Admin, options: Namespace, output: Output) -> int:
    name: str = options.transactional_id
    known = admin.describe_transactions(name)[name]
    told = {"transactional_id": name, "state": known.state.value}
    if options.dry_run:
        output.done(f"would lock out the producer of {name} ({known.state.value})", json=told)
        return 0
    output.confirm(f"End the transaction of {name} ({known.state.value}) and lock out its producer?", options)
    admin.force_terminate_transaction(name)
    output.done(f"{name}: what was open is aborted, its producer is locked out", json=told)
    return 0


def _abort_hanging(admin: ottla.Admin, options: Namespace, output: Output) -> int:
    from ottla.client.admin.transactions import AbortTransactionSpec
    from ottla.client.model import TopicPartition

    if options.partition is None or (options.start_offset is None) == (options.producer_id is None):
        raise CommandError(
            "a hanging transaction is named by --topic, --partition, and --start-offset or --producer-id"
        )
    tp = TopicPartition(options.topic, options.partition)
    producers = admin.describe_producers([tp])[tp]
    chosen = [
        one
        for one in producers
        if one.current_transaction_start_offset is not None
        and (
            one.current_transaction_start_offset == options.start_offset
            if options.producer_id is None
            else one.producer_id == options.producer_id
        )
    ]
    if not chosen:
        raise CommandError(f"{tp} waits for no such transaction; `ottla transactions find-hanging` shows them")
    one = chosen[0]
    told = {
        "topic": tp.topic,
        "partition": tp.partition,
        "producer_id": one.producer_id,
        "producer_epoch": one.producer_epoch,
    }
    start_offset = one.current_transaction_start_offset
    what = f"the transaction of producer {one.producer_id} in {tp}, open from offset {start_offset}"
    if options.dry_run:
        output.done(f"would abort {what}", json=told)
        return 0
    output.confirm(f"Abort {what}, behind its coordinator's back?", options)
    # A producer that never got a marker has no coordinator epoch there; 0 is what the first coordinator would write.
    spec = AbortTransactionSpec(tp, one.producer_id, one.producer_epoch, one.coordinator_epoch or 0)
    admin.abort_transaction(spec)
    output.done(f"aborted {what}", json=told)
    return 0


def _state(name: str) -> TransactionState:
    from ottla.client.admin.transactions import TransactionState

    by_name = {state.value.lower(): state for state in TransactionState}
    found = by_name.get(name.lower().replace("-", "").replace("_", ""))
    if found is None:
        raise CommandError(f"transactions have no state '{name}'; there are {', '.join(sorted(by_name))}")
    return found

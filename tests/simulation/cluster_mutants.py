"""Brokers that do one thing wrong, each as a context in which all nodes do: the checkers have to find them out.

A simulation that finds nothing has shown nothing, unless it is known what it would find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from ottla.protocol.messages.offset_commit import (
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.server.broker.handlers import list_offsets, offset_commit
from ottla.server.controller.decisions import Decisions
from ottla.server.log.compaction import cleaning
from ottla.server.log.log import Log
from ottla.server.log.parts import AppendResult
from ottla.server.log.producer_state import ProducerState
from ottla.server.raft import node as raft_node
from ottla.server.replication.followers import Followers

Mutant = Callable[[], Any]


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """For a while, an attribute is another one."""
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _is_own(log: Any) -> bool:
    return "__" not in log.directory


@contextmanager
def forgets_a_batch() -> Iterator[None]:
    """Now and then a batch is acknowledged, and not written."""
    original = Log.append_as_leader
    dice = Random(1)

    def append_as_leader(log: Any, records: Any, *arguments: Any, **options: Any) -> AppendResult:
        if _is_own(log) and dice.random() < 0.02:
            end = log.log_end_offset
            return AppendResult(end, end, -1, log.log_start_offset)
        return original(log, records, *arguments, **options)

    with replaced(Log, "append_as_leader", append_as_leader):
        yield


@contextmanager
def forgets_producers() -> Iterator[None]:
    """What was sent twice is written twice."""
    with replaced(ProducerState, "check_batch", lambda *arguments: None):
        yield


@contextmanager
def reads_what_is_not_committed() -> Iterator[None]:
    """read_committed is not."""

    def update(log: Any) -> None:
        log.last_stable_offset = log.high_watermark

    with replaced(Log, "_update_last_stable_offset", update):
        yield


@contextmanager
def says_less_than_before() -> Iterator[None]:
    """The high watermark that is told goes back now and then."""
    original = list_offsets._end_offset
    dice = Random(1)

    def end_offset(partition: Any, request: Any) -> int:
        return max(0, original(partition, request) - (dice.random() < 0.2))

    with replaced(list_offsets, "_end_offset", end_offset):
        yield


@contextmanager
def forgets_a_commit() -> Iterator[None]:
    """Now and then a committed offset is acknowledged, and not kept."""
    original = offset_commit.handle
    dice = Random(1)

    def handle(broker: Any, request: Any, context: Any) -> Any:
        if request.group_id.startswith("register") and dice.random() < 0.3:
            answers = [
                OffsetCommitResponseTopic(
                    name=topic.name,
                    partitions=[
                        OffsetCommitResponsePartition(partition_index=one.partition_index) for one in topic.partitions
                    ],
                )
                for topic in request.topics
            ]
            return OffsetCommitResponse(topics=answers)
        return original(broker, request, context)

    with replaced(offset_commit, "handle", handle):
        yield


@contextmanager
def commits_what_was_aborted() -> Iterator[None]:
    """Nobody is told which transactions were aborted."""
    with replaced(Log, "aborted_transactions", lambda log, start_offset, end_offset: []):
        yield


@contextmanager
def compacts_by_what_was_aborted() -> Iterator[None]:
    """A cleaner takes the aborted value of a key for its last one."""
    with replaced(cleaning, "_is_without_keys", lambda chunk, position, header, transactions: header.is_control):
        yield


@contextmanager
def acknowledges_alone() -> Iterator[None]:
    """A leader does not wait for its followers."""
    with replaced(Followers, "common_end_offset", lambda followers, end_offset: end_offset):
        yield


@contextmanager
def elects_anybody() -> Iterator[None]:
    """The controller takes any replica that is alive for a leader."""
    original = Decisions._settings

    def settings(decisions: Any, topic: Any) -> tuple[int, bool]:
        return original(decisions, topic)[0], True

    with replaced(Decisions, "_settings", settings):
        yield


@contextmanager
def forgets_its_vote() -> Iterator[None]:
    """A controller that restarts votes again in the epoch it has voted in."""
    with replaced(raft_node, "write_quorum_state", lambda disk, path, state: None):
        yield

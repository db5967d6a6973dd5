"""Transactions: producer ids and epochs, partitions, ends and repetitions of them, markers, offsets, fencing."""

from __future__ import annotations

import time
from typing import Any

from ottla.core.topics import OFFSETS_TOPIC
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.protocol.messages.describe_producers import DescribeProducersRequest, TopicRequest
from ottla.protocol.messages.describe_transactions import DescribeTransactionsRequest
from ottla.protocol.messages.end_txn import EndTxnRequest
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from ottla.protocol.messages.list_transactions import ListTransactionsRequest
from ottla.protocol.messages.offset_fetch import OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
)
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)
from tests.compatibility.differential.group_scenarios import coordinator_ready
from tests.compatibility.differential.world import World

DEADLINE_S = 15.0
NOT_YET = (14, 15, 16, 51)  # loading, not available, not coordinator, concurrent transactions
READ_COMMITTED = 1
V1, V2 = 11, 12  # of Produce


class Id:
    """One transactional id, and the producer that it has now."""

    def __init__(self, world: World, name: str, *, timeout_ms: int = 60_000) -> None:
        self.world, self.key, self.name, self.timeout_ms = world, world.name(name), name, timeout_ms
        self.generation = 0
        deadline = time.monotonic() + DEADLINE_S
        find = FindCoordinatorRequest(key_type=1, coordinator_keys=[self.key])
        while world.ask_quietly(find, 4).coordinators[0].error_code and time.monotonic() < deadline:
            time.sleep(0.01)
        self.producer_id, self.epoch = -1, -1
        self.init()

    def init(self, version: int = 4, *, expected: tuple[int, int] = (-1, -1)) -> Any:
        """Become the producer, as soon as what is open is aborted."""
        request = InitProducerIdRequest(
            transactional_id=self.key,
            transaction_timeout_ms=self.timeout_ms,
            producer_id=expected[0],
            producer_epoch=expected[1],
        )
        deadline = time.monotonic() + DEADLINE_S
        while (answer := self.world.ask_quietly(request, version)).error_code in NOT_YET:
            assert time.monotonic() < deadline, answer
            time.sleep(0.01)
        if answer.error_code == 0:
            if answer.producer_id != self.producer_id:
                self.generation += 1
                self.world.call(answer.producer_id, f"producer {self.generation} of {self.name}")
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        self.world.note(f"init {self.name} v{version}", answer)
        return answer

    def add(self, label: str, topic: str, *partitions: int, version: int = 3, **changes: Any) -> Any:
        """AddPartitionsToTxn of a client."""
        topics = [AddPartitionsToTxnTopic(name=self.world.name(topic), partitions=list(partitions))]
        request = AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=changes.get("key", self.key),
            v3_and_below_producer_id=changes.get("producer_id", self.producer_id),
            v3_and_below_producer_epoch=changes.get("epoch", self.epoch),
            v3_and_below_topics=topics,
        )
        return self.patiently(label, request, version, lambda it: it.results_by_topic_v3_and_below[0])

    def add_offsets(self, label: str, group: str, *, version: int = 3, **changes: Any) -> Any:
        request = AddOffsetsToTxnRequest(
            transactional_id=changes.get("key", self.key),
            producer_id=changes.get("producer_id", self.producer_id),
            producer_epoch=changes.get("epoch", self.epoch),
            group_id=self.world.name(group),
        )
        return self.patiently(label, request, version, lambda it: it)

    def produce(self, label: str, topic: str, sequence: int, version: int, **changes: Any) -> Any:
        batch = self.world.batch(
            changes.get("value", b"x"),
            producer_id=changes.get("producer_id", self.producer_id),
            producer_epoch=changes.get("epoch", self.epoch),
            base_sequence=sequence,
            transactional=True,
        )
        key = changes.get("key", self.key)
        return self.world.produce(label, topic, batch, version, transactional_id=key)

    def commit_offset(
        self, label: str, group: str, topic: str, offset: int, *, version: int = 3, **changes: Any
    ) -> Any:
        partitions = [
            TxnOffsetCommitRequestPartition(
                partition_index=index, committed_offset=offset, committed_metadata=changes.get("metadata", "m")
            )
            for index in changes.get("partitions", (0,))
        ]
        request = TxnOffsetCommitRequest(
            transactional_id=changes.get("key", self.key),
            group_id=self.world.name(group) if group else "",
            producer_id=changes.get("producer_id", self.producer_id),
            producer_epoch=changes.get("epoch", self.epoch),
            generation_id_or_member_epoch=changes.get("generation", -1),
            member_id=changes.get("member", ""),
            group_instance_id=changes.get("instance"),
            topics=[TxnOffsetCommitRequestTopic(name=self.world.name(topic), partitions=partitions)],
        )
        return self.patiently(label, request, version, lambda it: it.topics[0].partitions[0])

    def end(self, label: str, *, commit: bool, version: int, **changes: Any) -> Any:
        """EndTxn; with version 5 the producer goes on with what it says."""
        request = EndTxnRequest(
            transactional_id=changes.get("key", self.key),
            producer_id=changes.get("producer_id", self.producer_id),
            producer_epoch=changes.get("epoch", self.epoch),
            committed=commit,
        )
        answer = self.patiently(label, request, version, lambda it: it)
        if answer.error_code == 0 and version >= 5 and not changes:
            self.producer_id, self.epoch = answer.producer_id, answer.producer_epoch
        return answer

    def patiently(self, label: str, request: Any, version: int, of: Any) -> Any:
        """Ask again while the transaction before is being completed, which takes Kafka a moment."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            answer = self.world.ask_quietly(request, version)
            part = of(answer)
            codes = [getattr(part, "error_code", 0)]
            codes += [found.partition_error_code for found in getattr(part, "results_by_partition", ())]
            if not any(code in NOT_YET for code in codes) or time.monotonic() > deadline:
                self.world.note(f"{label} v{version}", answer)
                return answer
            time.sleep(0.01)

    def describe(self, label: str) -> None:
        """Without the times, when it is in no state that only lasts a moment."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            request = DescribeTransactionsRequest(transactional_ids=[self.key])
            [state] = self.world.ask_quietly(request).transaction_states
            if not state.transaction_state.startswith("Prepare") or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self.world.note(
            f"{label}: {self.name}",
            {
                "error": state.error_code,
                "state": state.transaction_state,
                "timeout": state.transaction_timeout_ms,
                "has started": state.transaction_start_time_ms > 0,
                "producer": state.producer_id,
                "epoch": state.producer_epoch,
                "topics": sorted((topic.topic, sorted(topic.partitions)) for topic in state.topics),
            },
        )


def offsets(world: World, label: str, group: str, topic: str, *, stable: bool) -> None:
    asked = OffsetFetchRequestTopics(name=world.name(topic), partition_indexes=[0, 1])
    request = OffsetFetchRequest(
        groups=[OffsetFetchRequestGroup(group_id=world.name(group), topics=[asked])], require_stable=stable
    )
    world.settle(f"{label}, stable {stable}", request, 8)


def producers(world: World, label: str, topic: str) -> None:
    request = DescribeProducersRequest(topics=[TopicRequest(name=world.name(topic), partition_indexes=[0])])
    [found] = world.ask_quietly(request).topics[0].partitions
    states = [
        (one.producer_id, one.producer_epoch, one.last_sequence, one.coordinator_epoch, one.current_txn_start_offset)
        for one in found.active_producers
    ]
    for producer_id, epoch, sequence, coordinator_epoch, start in sorted(states):
        world.note(f"{label}: {producer_id == -1} {epoch}", (sequence, coordinator_epoch, start))


def see(world: World, label: str, topic: str) -> None:
    """What readers of both kinds get: offsets, and whose transactions were aborted."""
    for isolation in (0, READ_COMMITTED):
        answer = world.ask_quietly(world.fetch_request(topic, isolation_level=isolation), 12)
        [data] = answer.responses[0].partitions
        world.note(
            f"{label}, isolation {isolation}",
            {
                "high watermark": data.high_watermark,
                "last stable offset": data.last_stable_offset,
                "aborted": [(found.producer_id, found.first_offset) for found in data.aborted_transactions or ()],
                "bytes": len(data.records or b""),
            },
        )


def init_producer_id_with_transactional_id(world: World) -> None:
    for version in world.versions(InitProducerIdRequest):
        one = Id(world, f"init-{version}")
        one.init(version)
        for timeout_ms in (0, -1, 900_001):
            request = InitProducerIdRequest(transactional_id=one.key, transaction_timeout_ms=timeout_ms)
            world.ask(f"timeout {timeout_ms}", request, version)
        if version >= 3:
            old = (one.producer_id, one.epoch)
            one.init(version, expected=old)
            one.init(version, expected=old)
            one.init(version, expected=(one.producer_id, one.epoch + 5))
            one.init(version, expected=(10**15, 0))
            one.init(version)
            one.init(version, expected=old)
            world.ask(
                "half",
                InitProducerIdRequest(transactional_id=one.key, transaction_timeout_ms=1000, producer_id=5),
                version,
            )
        one.describe("after")


def transactions_of_version_1(world: World) -> None:
    world.create("v1", 2)
    coordinator_ready(world, "v1-group")
    one = Id(world, "v1")
    one.end("nothing open", commit=True, version=3)
    one.end("nothing open", commit=False, version=3)
    for version in world.versions(AddPartitionsToTxnRequest):
        if version <= 3:
            one.add("partition", "v1", 0, version=version)
            one.add("no such topic", "v1-none", 0, version=version)
            one.add("one exists", "v1", 1, 7, version=version)
            one.add("foreign producer", "v1", 0, version=version, producer_id=10**15)
            one.add("wrong epoch", "v1", 0, version=version, epoch=one.epoch + 1)
            one.add("unknown id", "v1", 0, version=version, key=world.name("v1-nobody"))
            one.add("empty id", "v1", 0, version=version, key="")
    one.describe("open")
    one.produce("first", "v1", 0, V1)
    one.produce("duplicate", "v1", 0, V1)
    one.produce("second", "v1", 1, V1, value=b"y" * 10)
    one.produce("out of order", "v1", 7, V1)
    one.produce("old epoch", "v1", 2, V1, epoch=one.epoch - 1)
    for version in (9, 10, 11):
        batch = world.batch(
            b"a", producer_id=one.producer_id, producer_epoch=one.epoch, base_sequence=0, transactional=True
        )
        world.produce("not added", "v1", batch, version, transactional_id=one.key, partition=1)
        world.produce("without id", "v1", batch, version, partition=1)
        one.produce("unknown id", "v1", 3, version, key=world.name("v1-nobody"), producer_id=10**15 + version)
    see(world, "open", "v1")
    producers(world, "open", "v1")
    for version in world.versions(AddOffsetsToTxnRequest):
        one.add_offsets("offsets", "v1-group", version=version)
        one.add_offsets("wrong epoch", "v1-group", version=version, epoch=one.epoch + 1)
        one.add_offsets("foreign producer", "v1-group", version=version, producer_id=10**15)
    for version in range(5):
        one.commit_offset("position", "v1-group", "v1", 3 + version, version=version)
        one.commit_offset("no such topic", "v1-group", "v1-none", 3, version=version)
        one.commit_offset("no such partition", "v1-group", "v1", 3, version=version, partitions=(0, 9))
        one.commit_offset("long metadata", "v1-group", "v1", 3, version=version, metadata="m" * 5000)
        one.commit_offset("no group", "", "v1", 3, version=version)
        one.commit_offset("old epoch", "v1-group", "v1", 3, version=version, epoch=one.epoch - 1)
        if version >= 3:
            one.commit_offset("member of no generation", "v1-group", "v1", 3, version=version, member="m")
            one.commit_offset("generation", "v1-group", "v1", 3, version=version, generation=5)
            one.commit_offset("generation of no group", "v1-nogroup", "v1", 3, version=version, generation=5)
    offsets(world, "pending", "v1-group", "v1", stable=True)
    offsets(world, "pending", "v1-group", "v1", stable=False)
    one.end("wrong epoch", commit=True, version=3, epoch=one.epoch + 1)
    one.end("wrong epoch", commit=True, version=1, epoch=one.epoch + 1)
    one.end("commit", commit=True, version=3)
    one.end("again", commit=True, version=3)
    one.end("otherwise", commit=False, version=3)
    one.describe("complete")
    see(world, "committed", "v1")
    producers(world, "committed", "v1")
    offsets(world, "committed", "v1-group", "v1", stable=True)
    one.add("next", "v1", 0)
    one.produce("third", "v1", 2, V1)
    one.add_offsets("offsets", "v1-group")
    one.commit_offset("position", "v1-group", "v1", 99)
    one.end("abort", commit=False, version=1)
    one.describe("aborted")
    see(world, "aborted", "v1")
    offsets(world, "aborted", "v1-group", "v1", stable=True)


def transactions_of_version_2(world: World) -> None:
    world.create("v2", 2)
    coordinator_ready(world, "v2-group")
    one = Id(world, "v2")
    one.end("commit of nothing", commit=True, version=5)
    one.end("abort of nothing", commit=False, version=5)
    one.describe("aborted nothing")
    one.produce("first", "v2", 0, V2)
    one.produce("duplicate", "v2", 0, V2)
    one.produce("unknown id", "v2", 0, V2, key=world.name("v2-nobody"), producer_id=10**15)
    one.produce("foreign producer", "v2", 0, V2, producer_id=10**15 + 1)
    one.produce("old epoch", "v2", 0, V2, epoch=one.epoch - 1)
    one.produce("epoch of the future", "v2", 0, V2, epoch=one.epoch + 1)
    batch = world.batch(
        b"a", producer_id=one.producer_id, producer_epoch=one.epoch, base_sequence=4, transactional=True
    )
    world.produce("not from the start", "v2", batch, V2, transactional_id=one.key, partition=1)
    one.commit_offset("position", "v2-group", "v2", 7, version=5)
    offsets(world, "pending", "v2-group", "v2", stable=True)
    one.describe("open")
    old = (one.producer_id, one.epoch)
    one.end("commit", commit=True, version=5)
    for commit in (True, False):
        one.end(f"repeated, {commit}", commit=commit, version=5, producer_id=old[0], epoch=old[1])
    one.end("commit of nothing", commit=True, version=5)
    one.end("foreign producer", commit=True, version=5, producer_id=10**15)
    one.end("epoch of the future", commit=True, version=5, epoch=one.epoch + 3)
    see(world, "committed", "v2")
    producers(world, "committed", "v2")
    offsets(world, "committed", "v2-group", "v2", stable=True)
    one.produce("old epoch", "v2", 1, V2, epoch=old[1])
    one.produce("second", "v2", 0, V2)
    one.produce("third", "v2", 1, V2)
    old = (one.producer_id, one.epoch)
    one.end("abort", commit=False, version=5)
    for commit in (True, False):
        one.end(f"repeated, {commit}", commit=commit, version=5, producer_id=old[0], epoch=old[1])
    one.describe("aborted")
    see(world, "aborted", "v2")
    one.produce("fourth", "v2", 0, V2)
    one.init()
    one.describe("fenced")
    see(world, "fenced", "v2")


def transactions_of_brokers(world: World) -> None:
    """AddPartitionsToTxn as brokers send it."""
    world.create("between", 2)
    one, two = Id(world, "between-1"), Id(world, "between-2")
    one.add("one", "between", 0)
    for version in world.versions(AddPartitionsToTxnRequest, 4):
        for verify_only in (True, False):

            def wanted(key: Id, topic: str, *indexes: int, epoch: int = 0, verify: bool = verify_only) -> Any:
                return AddPartitionsToTxnTransaction(
                    transactional_id=key.key,
                    producer_id=key.producer_id,
                    producer_epoch=key.epoch + epoch,
                    verify_only=verify,
                    topics=[AddPartitionsToTxnTopic(name=world.name(topic), partitions=list(indexes))],
                )

            for label, transactions in (
                ("both", [wanted(one, "between", 0, 1), wanted(two, "between", 1)]),
                ("wrong epoch", [wanted(one, "between", 0, epoch=1)]),
                ("unknown topic", [wanted(one, "between-none", 0)]),
                ("nothing", []),
            ):
                if label != "nothing":  # Kafka never answers that
                    request = AddPartitionsToTxnRequest(transactions=transactions)
                    answer = world.ask_quietly(request, version)
                    results = {
                        found.transactional_id: sorted(
                            (topic.name, part.partition_index, part.partition_error_code)
                            for topic in found.topic_results
                            for part in topic.results_by_partition
                        )
                        for found in answer.results_by_transaction
                    }
                    world.note(f"{label}, verify {verify_only} v{version}", (answer.error_code, results))


def markers_from_outside(world: World) -> None:
    world.create("markers", 2)
    coordinator_ready(world, "markers-group")
    one = Id(world, "markers")
    one.add("partition", "markers", 0)
    one.produce("first", "markers", 0, V1)

    def write(label: str, version: int, topic: str, *indexes: int, epoch: int, commit: bool, coordinator: int) -> None:
        marker = WritableTxnMarker(
            producer_id=one.producer_id,
            producer_epoch=epoch,
            transaction_result=commit,
            topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=list(indexes))],
            coordinator_epoch=coordinator,
            transaction_version=2,
        )
        world.ask(label, WriteTxnMarkersRequest(markers=[marker]), version)

    topic = world.name("markers")
    for version in world.versions(WriteTxnMarkersRequest):
        write("no such partition", version, topic, 7, epoch=0, commit=True, coordinator=3)
        write("no such topic", version, world.name("markers-none"), 0, epoch=0, commit=True, coordinator=3)
    write("same epoch in version 2", 2, topic, 0, epoch=one.epoch, commit=True, coordinator=3)
    write("abort", 1, topic, 0, epoch=one.epoch, commit=False, coordinator=3)
    see(world, "aborted", "markers")
    producers(world, "aborted", "markers")
    write("older coordinator", 1, topic, 0, epoch=one.epoch, commit=False, coordinator=2)
    write("newer epoch", 2, topic, 0, epoch=one.epoch + 4, commit=True, coordinator=3)
    write("older epoch", 2, topic, 0, epoch=one.epoch + 3, commit=True, coordinator=3)
    write("the same again", 2, topic, 0, epoch=one.epoch + 4, commit=True, coordinator=3)
    producers(world, "ended", "markers")
    world.ask("nothing", WriteTxnMarkersRequest(markers=[]), 1)
    write("no such partition of offsets", 1, OFFSETS_TOPIC, 999, epoch=0, commit=True, coordinator=3)


def list_and_describe_transactions(world: World) -> None:
    world.create("in-lists")
    done, held = Id(world, "listed-done"), Id(world, "listed-held")
    for one in (done, held):
        one.add("partition", "in-lists", 0)
    done.end("commit", commit=True, version=3)
    done.describe("done")
    held.describe("held")
    Id(world, "listed-new").describe("new")
    ours = world.name("listed")

    def listed(label: str, version: int, **filters: Any) -> None:
        answer = world.ask_quietly(ListTransactionsRequest(**filters), version)
        found = sorted(
            (one.transactional_id.removeprefix(ours), one.transaction_state, one.producer_id)
            for one in answer.transaction_states
            if one.transactional_id.startswith(ours)
        )
        world.note(f"{label} v{version}", (answer.error_code, sorted(answer.unknown_state_filters), len(found)))
        for one in found:
            world.note(f"{label} v{version} {one[0]}", {"state": one[1], "producer": one[2]})

    for version in world.versions(ListTransactionsRequest):
        listed("all", version)
        listed("open", version, state_filters=["Ongoing"])
        listed("unknown", version, state_filters=["Ongoing", "Whatever", "ongoing"])
        listed("only unknown", version, state_filters=["Whatever"])
        listed("by producer", version, producer_id_filters=[done.producer_id])
        if version >= 1:
            listed("for an hour", version, duration_filter=3_600_000)
            listed("for no time", version, duration_filter=0)
            listed("negative", version, duration_filter=-5)
        if version >= 2:
            for pattern in (".*held", "held", "(", "", ".*-(done|new)", "(?!x).*", r"\Q" + ours + r"\E.*"):
                listed(f"pattern {pattern.replace(ours, '')}", version, transactional_id_pattern=pattern)
    ids = ["", world.name("listed-nobody"), done.key]
    answer = world.ask_quietly(DescribeTransactionsRequest(transactional_ids=ids))
    world.note("described", [(one.error_code, one.transaction_state) for one in answer.transaction_states])
    world.ask("nothing", DescribeTransactionsRequest(transactional_ids=[]))


SCENARIOS = (
    init_producer_id_with_transactional_id,
    transactions_of_version_1,
    transactions_of_version_2,
    transactions_of_brokers,
    markers_from_outside,
    list_and_describe_transactions,
)

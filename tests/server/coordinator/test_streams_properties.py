"""Random Kafka Streams threads that join, lose answers, crash and come back, against what a streams group promises.

Always: an active task has one holder, and in one epoch one owner; what a member of the group believes to run, the
coordinator knows it may be running. In the end, once everybody can talk: every task runs once, with its copies.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ErrorCode
from ottla.server.coordinator.result import CoordinatorRecord
from ottla.server.coordinator.streams.records import CURRENT_ASSIGNMENT, progress_of
from ottla.server.coordinator.streams.tasks import TaskId
from tests.server.coordinator.streams_driver import Client, StreamsDriver, durable, settle, word_count

THREADS = 4
TOPICS = ("text", "repartition", "changelog")

ACTIONS = st.one_of(
    *[st.tuples(st.just("beat"), st.integers(0, THREADS - 1))] * 6,
    st.tuples(st.just("lose_answer"), st.integers(0, THREADS - 1)),
    st.tuples(st.just("crash"), st.integers(0, THREADS - 1)),
    st.tuples(st.just("leave"), st.integers(0, THREADS - 1)),
    st.tuples(st.just("pause"), st.integers(0, THREADS - 1)),
    st.tuples(st.just("refuse_append"), st.integers(0, THREADS - 1)),
    st.tuples(st.just("advance"), st.sampled_from([1_000, 9_000, 31_000])),
    st.tuples(st.just("restart"), st.integers(0, 100)),
    st.tuples(st.just("grow"), st.just(0)),
    st.tuples(st.just("delete_topic"), st.sampled_from(range(len(TOPICS)))),
    st.tuples(st.just("standby"), st.integers(0, 2)),
)


class World:
    """Threads 0 and 1 share a process, thread 2 is a static member."""

    def __init__(self) -> None:
        self.driver = StreamsDriver(
            streams_session_timeout_ms="30000",
            streams_initial_rebalance_delay_ms="2000",
            streams_assignment_interval_ms="500",
        )
        self.driver.on_records = self._written
        self.driver.put_topic("text", 2)
        self.partitions = 2
        self.incarnations = 0
        #: (epoch, task) → who owned it, by instance id where there is one.
        self.owners: dict[tuple[int, TaskId], str] = {}
        self.clients = [self._new(index) for index in range(THREADS)]

    def _new(self, index: int) -> Client:
        self.incarnations += 1
        fields = {"process_id": f"p{max(index, 1)}", "rebalance_timeout_ms": 20_000}
        if index == 2:
            fields["instance_id"] = "static"
        return Client(self.driver, f"t{index}-{self.incarnations}", word_count(), **fields)

    def _written(self, records: list[CoordinatorRecord]) -> None:
        for record in records:
            if record.key_type == CURRENT_ASSIGNMENT and record.value is not None:
                progress = progress_of(record.value)
                owner = "static" if record.key.member_id.startswith("t2-") else record.key.member_id
                for task in progress.assigned.active:
                    if progress.member_epoch > 0:
                        first = self.owners.setdefault((progress.member_epoch, task), owner)
                        assert first == owner, f"{task} has two owners in epoch {progress.member_epoch}"

    def do(self, action: str, argument: int) -> None:
        getattr(self, action)(argument)
        self.check()

    def beat(self, index: int) -> None:
        self.clients[index].beat()
        self.driver.create_missing_topics()

    def lose_answer(self, index: int) -> None:
        self.clients[index].beat(loses_answer=True)

    def refuse_append(self, index: int) -> None:
        self.driver.refuse_next = ErrorCode.NOT_ENOUGH_REPLICAS
        self.clients[index].beat()
        self.driver.refuse_next = None

    def crash(self, index: int) -> None:
        """The process is gone without a word; a new thread takes its place."""
        self.clients[index] = self._new(index)

    def leave(self, index: int) -> None:
        client = self.clients[index]
        if client.epoch:
            self.driver.leave(client.member_id, instance_id=client.fields.get("instance_id"))
        self.clients[index] = self._new(index)

    def pause(self, index: int) -> None:
        """A static member goes, and will be back."""
        client = self.clients[index]
        if client.epoch and "instance_id" in client.fields:
            self.driver.beat(client.member_id, -2, instance_id="static")
            self.clients[index] = self._new(index)

    def advance(self, duration_ms: int) -> None:
        self.driver.advance(duration_ms)

    def restart(self, percent: int) -> None:
        """So much of the log is compacted before; of odd numbers the tombstones are gone as well."""
        group = self.driver.machine.context.groups.get("g")
        before = None if group is None else durable(self.driver.group)
        self.driver.compact(len(self.driver.log) * percent // 100, is_late=bool(percent % 2))
        self.driver.restart()
        after = None if group is None else durable(self.driver.group)
        assert after == before

    def grow(self, _: int) -> None:
        """More partitions: of all topics at once, since those of internal ones have to fit."""
        self.partitions += 1
        for name in TOPICS:
            if name in self.driver.image.topics.by_name:
                self.driver.put_topic(name, self.partitions)

    def delete_topic(self, index: int) -> None:
        if TOPICS[index] in self.driver.image.topics.by_name:
            self.driver.delete_topic(TOPICS[index])

    def standby(self, replicas: int) -> None:
        self.driver.set_config(streams_num_standby_replicas=str(replicas))

    def check(self) -> None:
        """What the group knows of a member covers what that member runs."""
        self.driver.shard.check_invariants()
        group = self.driver.machine.context.groups.get("g")
        if group is None:
            return
        for client in self.clients:
            member = self.driver.group.members.get(client.member_id)
            if member is not None and client.epoch:
                held = member.held()
                assert client.active <= held.active
                assert client.standby <= held.standby

    def finish(self) -> None:
        """Everything works again: who crashed is timed out, and everybody heartbeats."""
        if "text" not in self.driver.image.topics.by_name:
            self.driver.put_topic("text", self.partitions)
        for _ in range(6):
            for client in self.clients:
                client.beat()
            self.driver.create_missing_topics()
            self.driver.advance(10_000)
            self.check()
        for _ in range(3):
            settle(*self.clients, rounds=2)
            self.driver.advance(1_000)
        group = self.driver.group
        assert group.state_name == "Stable", [client.status for client in self.clients]
        everything = {TaskId(part, partition) for part in "01" for partition in range(self.partitions)}
        running = [task for client in self.clients for task in client.active]
        assert sorted(running) == sorted(everything)
        replicas = min(int(group.assignment_configs["num.standby.replicas"]), 2)
        copies = [task for client in self.clients for task in client.standby]
        stateful = [task for task in everything if task.subtopology_id == "1"]
        assert sorted(copies) == sorted(stateful * replicas)
        self.restart(0)


@given(st.lists(ACTIONS, max_size=40))
@settings(max_examples=120, derandomize=True, deadline=None)
def test_tasks_have_one_owner_whatever_happens(actions: list[tuple[str, int]]) -> None:
    world = World()
    for action, argument in actions:
        world.do(action, argument)
    world.finish()

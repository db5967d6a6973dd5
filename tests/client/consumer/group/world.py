"""Members, a coordinator and the network between them, without an event loop: a heap of moments.

A `Runner` does for a core what the shell does: it hands requests to the network, and tells a consumer that takes its
time. The network delays, loses requests and answers; the coordinator moves. What members hold is compared after every
step.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from ottla.client.consumer.group.core import (
    Describe,
    Fail,
    ForgetCoordinator,
    MemberCore,
    Resolve,
    Send,
    Tell,
)
from ottla.client.errors import ConnectionFailedError, KafkaError, KafkaTimeoutError
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Request, Response

Reply = Callable[[Response], None]
TOPIC_IDS = {"t": b"t" * 16, "u": b"u" * 16}


class Coordinator:
    """What models of coordinators have in common."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.members: dict[str, Any] = {}
        self.expired: set[str] = set()

    def handle(self, request: Request, reply: Reply) -> None:
        raise AssertionError(request)

    def tick(self) -> None:
        """Time has passed."""


class World:
    """Time, the network, and the topics."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now_ms = 0
        self.counts = {"t": 5, "u": 3}
        self.runners: list[Runner] = []
        self.coordinator: Coordinator
        self.is_calm = False
        self.busy_until_ms = 0
        """Until then the coordinator is moving: it answers nobody."""
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0

    @property
    def everything(self) -> set[TopicPartition]:
        return {TopicPartition(topic, index) for topic, count in self.counts.items() for index in range(count)}

    def at(self, delay_ms: int, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now_ms + max(0, delay_ms), self._number, what))

    def run(self, until_ms: int) -> None:
        while self._heap and self._heap[0][0] <= until_ms:
            self.now_ms, _, what = heapq.heappop(self._heap)
            what()
            self.coordinator.tick()
            self.check()
        self.now_ms = until_ms

    def check(self) -> None:
        """No two members of the group have a partition; each core is as it says."""
        owners: dict[TopicPartition, Runner] = {}
        for runner in self.runners:
            runner.core.check_invariants()
            # Whom the coordinator has given up can not know yet; but that its session is over a member knows by itself.
            member_id = runner.core.member_id
            expired = member_id in self.coordinator.expired and not runner.core.is_telling
            if not runner.is_dead and (expired or member_id in self.coordinator.members):
                for place in runner.consumes:
                    assert place not in owners, f"{self.now_ms}: {place} is consumed by {runner} and {owners[place]}"
                    owners[place] = runner

    def carry(self, runner: Runner, send: Send) -> None:
        """One request to the coordinator, and its answer, if they get through."""
        random = self.random
        is_lost = not self.is_calm and random.random() < 0.06
        is_slow = not self.is_calm and random.random() < 0.02
        there_ms = random.randint(0, 20) + (random.randint(0, 4000) if is_slow else 0)
        back_ms = random.randint(0, 20)
        answered: list[bool] = []

        def arrive() -> None:
            if self.now_ms < self.busy_until_ms:
                fail(ConnectionFailedError("gone"))
            elif not (is_lost and random.random() < 0.5):
                self.coordinator.handle(send.request, reply)

        def reply(response: Response) -> None:
            if not is_lost:
                self.at(back_ms, lambda: finish(lambda: runner.core.answered(send, response, self.now_ms)))

        def fail(error: KafkaError) -> None:
            finish(lambda: runner.core.request_failed(send, error, self.now_ms))

        def finish(tell: Callable[[], None]) -> None:
            if not answered and not runner.is_dead:
                answered.append(True)
                tell()
                runner.pump()

        self.at(there_ms, arrive)
        if is_lost:
            self.at(random.randint(1, 300), lambda: fail(ConnectionFailedError("cut")))
        self.at(send.timeout_ms, lambda: fail(KafkaTimeoutError("late")))


class Runner:
    """A core, and a consumer that takes its time."""

    def __init__(self, world: World, core: MemberCore) -> None:
        self.world = world
        self.core = core
        self.is_dead = False
        self.consumes: set[TopicPartition] = set()
        self.told: list[Tell] = []
        self.failure: KafkaError | None = None
        self._timer = 0
        world.runners.append(self)

    def __repr__(self) -> str:
        return f"{self.core.member_id}@{self.core.epoch}"

    def pump(self) -> None:
        if self.is_dead:
            return
        world = self.world
        for action in self.core.actions(world.now_ms):
            match action:
                case Send():
                    world.carry(self, action)
                case Tell():
                    self.tell(action)
                case Describe():
                    world.at(world.random.randint(0, 30), self._describe)
                case Resolve():
                    world.at(world.random.randint(0, 30), self._resolve)
                case ForgetCoordinator():
                    pass
                case Fail():
                    self.failure = action.error
        self._timer += 1
        timer, deadline_ms = self._timer, self.core.deadline_ms()
        if deadline_ms is not None:
            world.at(max(1, deadline_ms - world.now_ms), lambda: self.pump() if timer == self._timer else None)

    def tell(self, tell: Tell) -> None:
        self.told.append(tell)
        if tell.event == "assigned":
            assert not tell.partitions & self.consumes
            self.consumes |= tell.partitions
        else:
            assert tell.partitions <= self.consumes
        if tell.event == "lost":
            self.consumes -= tell.partitions
        random = self.world.random
        slow = not self.world.is_calm and random.random() < 0.1
        self.world.at(random.randint(0, 8000) if slow else random.randint(0, 5), lambda: self._done(tell))

    def _done(self, tell: Tell) -> None:
        if tell.event == "revoked":
            self.consumes -= tell.partitions
        self.core.told(self.world.now_ms)
        self.pump()

    def _describe(self) -> None:
        if not self.is_dead:
            racks: frozenset[str] = frozenset()
            self.core.described(
                {topic: [racks] * count for topic, count in self.world.counts.items()}, self.world.now_ms
            )
            self.pump()

    def _resolve(self) -> None:
        if not self.is_dead:
            self.core.topics_named({topic_id: name for name, topic_id in TOPIC_IDS.items()})
            self.pump()

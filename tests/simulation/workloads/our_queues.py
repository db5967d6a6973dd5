"""Our share consumers: workers that accept, release, reject and renew, oversleep, are killed, and are replaced.

What they are told became of their acknowledgements is written down. A job that is settled by all that anybody knows
never comes again; when all is over none is lost, unless it was handed out as often as a job may be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ottla.client.errors import ConnectionFailedError, KafkaError, KafkaTimeoutError
from ottla.client.share.deliveries import AcknowledgeType
from ottla.protocol.apis import ApiKey
from tests.simulation.workloads.our_producers import LAST_BYTES_S
from tests.simulation.workloads.programs import Program, World
from tests.simulation.workloads.reader import READ_UNCOMMITTED, read_all

GROUP_ID, JOBS = "crew", "errands"
MOST_DELIVERIES = 10
LOCK_S = 3.0
POLL_S = 0.5
CLOSE_S = 6.0
FINAL = frozenset({AcknowledgeType.ACCEPT, AcknowledgeType.REJECT})

Job = tuple[int, int]
"""Partition and offset."""


@dataclass
class Crew:
    """What all workers say together.

    `may_be_stale(partition)`: whether somebody who was replaced as the partition's leader may not have known it. He
    hands out what others have settled since, until he is told of that when he writes it down.
    """

    world: World
    may_be_stale: Callable[[int], bool] = lambda _: False
    deliveries: dict[Job, int] = field(default_factory=dict)
    answered: dict[Job, set[AcknowledgeType]] = field(default_factory=dict)
    """Acknowledgements that a broker has confirmed."""
    told: dict[Job, set[AcknowledgeType]] = field(default_factory=dict)
    """Acknowledgements that were made, confirmed or not."""

    @property
    def settled(self) -> set[Job]:
        return {job for job, types in self.answered.items() if types & FINAL}

    def deliver(self, program: Program, job: Job, count: int) -> None:
        types = self.answered.get(job, set())
        if types & FINAL:
            if self.may_be_stale(job[0]):
                self.world.cluster.count("jobs handed out by who had been replaced")
            else:
                self.world.cluster.fail(f"{program} was given {job}, of which {types} is confirmed")
        if not 1 <= count <= MOST_DELIVERIES:
            self.world.cluster.fail(f"{program} was given {job} for the {count}th time")
        self.deliveries[job] = max(count, self.deliveries.get(job, 0))
        self.world.cluster.count("jobs handed out")
        program.gets_on()

    async def missing(self, partitions: int) -> list[str]:
        """Jobs that nobody has settled, and that may still come."""
        client = self.world.cluster.client("checker")
        settled = self.settled
        lost = self.world.proxy.lost[ApiKey.SHARE_FETCH] + self.world.cluster.lives
        found = []
        for index in range(partitions):
            view = await read_all(client, JOBS, index, isolation=READ_UNCOMMITTED)
            for offset in view.records:
                job = index, offset
                in_doubt = self.told.get(job, set()) & FINAL
                # Answers that got lost had their deliveries counted, too.
                exhausted = self.deliveries.get(job, 0) + lost >= MOST_DELIVERIES
                if job not in settled and not in_doubt and not exhausted:
                    found.append(f"{job}, handed out {self.deliveries.get(job, 0)} times")
        return found


def worker(crew: Crew) -> Any:
    """A program that works on jobs."""

    async def run(program: Program) -> None:
        dice = program.dice
        is_explicit = dice.random() < 0.7
        mine: dict[Job, AcknowledgeType] = {}

        def acknowledged(offsets: Any, error: KafkaError | None) -> None:
            for place, numbers in offsets.items():
                for offset in numbers:
                    how = mine.get((place.partition, offset))
                    if error is None and how is not None:
                        crew.answered.setdefault((place.partition, offset), set()).add(how)
                        program.cluster.count(f"jobs: {how.name.lower()} confirmed")
            if error is not None:
                program.cluster.count("acknowledgements that failed")

        consumer = program.share_consumer(
            {
                "group.id": GROUP_ID,
                "share.acknowledgement.mode": "explicit" if is_explicit else "implicit",
                "max.poll.records": dice.choice((1, 5, 50)),
                "max.poll.interval.ms": 9_000,
            },
            topics=[JOBS],
            on_acknowledgement=acknowledged,
        )
        try:
            while not program.is_closing:
                try:
                    records = await program.call("poll", consumer.poll(timeout_s=POLL_S), POLL_S)
                except (KafkaTimeoutError, ConnectionFailedError) as error:
                    program.cluster.count(f"polls that raised {type(error).__name__}")
                    continue
                if records:
                    await _work(crew, program, consumer, records, mine, is_explicit=is_explicit)
        except BaseException as error:
            if not is_explicit:
                mine.update(dict.fromkeys(mine, AcknowledgeType.RELEASE))
            await program.call("close", consumer.__aexit__(type(error), error, None), 30.0 + LAST_BYTES_S)
            raise
        await program.call("close", consumer.close(CLOSE_S), CLOSE_S + LAST_BYTES_S)

    return run


async def _work(
    crew: Crew, program: Program, consumer: Any, records: Any, mine: dict[Job, AcknowledgeType], *, is_explicit: bool
) -> None:
    dice = program.dice
    mine.clear()
    for record in records:
        crew.deliver(program, (record.partition, record.offset), record.delivery_count)
    if not is_explicit:
        for record in records:
            _tell(crew, mine, record, AcknowledgeType.ACCEPT)
    if not program.cluster.is_calm and dice.random() < 0.05:
        await program.think(LOCK_S)  # some locks run out
    for record in records:
        if is_explicit:
            how = AcknowledgeType.ACCEPT
            if not program.cluster.is_calm and dice.random() < 0.2:
                how = dice.choice((AcknowledgeType.RELEASE, AcknowledgeType.RELEASE, AcknowledgeType.REJECT))
            _tell(crew, mine, record, how)
            consumer.acknowledge(record, how)
    if dice.random() < 0.2:
        limit_s = dice.choice((0.5, 5.0))
        try:
            await program.call("commit", consumer.commit(limit_s), limit_s)
        except KafkaTimeoutError:
            program.cluster.count("commits that took too long")


def _tell(crew: Crew, mine: dict[Job, AcknowledgeType], record: Any, how: AcknowledgeType) -> None:
    job = record.partition, record.offset
    mine[job] = how
    crew.told.setdefault(job, set()).add(how)

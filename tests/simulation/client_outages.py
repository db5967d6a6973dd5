"""All our clients, and a broker that is away: refused, cut, silent, dead, for less and for more than anybody waits.

Nobody is replaced but who has to be by his own rules (who does not know what became of his transaction): the same
producers, readers, workers and administrators go on when the broker is back. All guarantees of `client_world` hold.
What the clients log has to do with what happens to the broker, not with how often they try.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.simulation.client_world import Counts, Stage, play
from tests.simulation.workloads.our_admins import administrator
from tests.simulation.workloads.our_producers import DELIVERY_TIMEOUT_MS
from tests.simulation.workloads.programs import REQUEST_TIMEOUT_MS, Program
from tests.simulation.workloads.proxy import Outage

FOR_EVER_S = 1e9
QUIET_S = 3.0
#: How long after an outage everybody may take to get something done. Sessions and locks have to run out first.
BACK_S = 30.0
#: Less than a request may take; more, and less than a delivery; more than that, and than sessions last; for long.
LENGTHS_S = (
    REQUEST_TIMEOUT_MS / 2000,
    (REQUEST_TIMEOUT_MS + DELIVERY_TIMEOUT_MS) / 2000,
    DELIVERY_TIMEOUT_MS / 1000 * 2,
    40.0,
)
DEAD = "the node is dead"
WAYS = (*Outage, DEAD)
NEWS = {"away": "Trying again.", "back": "answers again", "anew": "Starting again from"}
"""What lines are about a broker's comings and goings, by words in them; "Trying again" is said of all attempts."""


def outages(seed: object, *, number: int = 3) -> Counts:
    """One outage after the other, of different ways and lengths."""

    async def act(stage: Stage) -> None:
        stage.mean_life_s = FOR_EVER_S
        checks = [await stage.consumers(), await stage.queue(), await stage.transform()]
        await stage.producers()
        stage.plays("administrator", administrator(stage.books, stage.groups))
        await _all_get_on(stage, "at first", 0.0)
        for way, length_s in zip(stage.dice.sample(WAYS, number), stage.dice.sample(LENGTHS_S, number), strict=True):
            await _outage(stage, way, length_s * stage.dice.uniform(0.8, 1.2))
        stage.cluster.is_calm = True
        _nobody_was_replaced(stage)
        await stage.finish(*checks)

    return play("outages", seed, act, hurt=0.0)


async def _outage(stage: Stage, way: Outage | str, seconds: float) -> None:
    cluster, world = stage.cluster, stage.world
    await asyncio.sleep(stage.dice.uniform(0, QUIET_S))
    world.lines.clear()
    before = len(world.programs)
    what = f"{way if isinstance(way, str) else way.value}, for {seconds:.1f} s"
    if isinstance(way, Outage):
        await world.proxy.outage(seconds, way)
    else:
        await cluster.die(seconds)
    await _all_get_on(stage, what, cluster.now())
    started = {one.name for one in world.programs[before:]} | {one.name for one in world.programs if not one.is_over}
    _check_lines(stage, what, sum(2 if name.startswith("maker") else 1 for name in started))
    cluster.count("outages survived")
    cluster.count(f"outages: {way if isinstance(way, str) else way.value}")


def _check_lines(stage: Stage, what: str, clients: int) -> None:
    """A client says that the broker is away when it is, and that it is back when it is."""
    lines: Counter[str] = Counter()
    for line, number in stage.world.lines.items():
        for kind, words in NEWS.items():
            if words in line:
                lines[kind] += number
        lines["any"] += number
    stage.cluster.count("lines that it is away", lines["away"])
    if lines["back"] > lines["away"] or max(lines[kind] for kind in NEWS) > 2 * clients or lines["any"] > 8 * clients:
        stage.cluster.fail(f"{what}: {clients} clients logged {dict(lines)}: {stage.world.lines.most_common(5)}")


async def _all_get_on(stage: Stage, what: str, since_s: float) -> None:
    """Everybody gets something done again, by himself."""

    def waiting() -> list[Program]:
        return [one for one in stage.world.programs if not one.is_over and one.got_on_s <= since_s]

    deadline_s = stage.cluster.now() + BACK_S
    while found := waiting():
        if stage.cluster.now() > deadline_s:
            stuck = ", ".join(f"{one} (in {one.doing})" for one in found)
            stage.cluster.fail(f"{what}: {BACK_S} s later nothing is done by {stuck}")
        stage.cluster.check()
        await asyncio.sleep(0.1)


def _nobody_was_replaced(stage: Stage) -> None:
    for program in stage.world.programs:
        name, _, life = program.name.rpartition(".")
        if int(life) > 1 and name.partition("-")[0] not in ("teller", "clerk", "maker"):
            stage.cluster.fail(f"{program} has come in the place of another")

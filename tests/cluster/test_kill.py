"""A few rounds of kill -9 under load; `python -m benchmarks.kill_loop --times 100` is the long form."""

from __future__ import annotations

from pathlib import Path

from benchmarks.brokers import OttlaBroker
from benchmarks.kill_loop import FLUSHED, UNFLUSHED, kill_loop


def test_nothing_acknowledged_is_lost_when_the_broker_is_killed_under_load(tmp_path: Path) -> None:
    broker = OttlaBroker(tmp_path)
    try:
        outcome = kill_loop(broker, 5, seed=7, report=lambda _: None)
    finally:
        broker.kill()
    assert len(outcome.restart_s) == 5
    assert outcome.topics == 5
    assert outcome.acknowledged[FLUSHED] > 0
    assert outcome.acknowledged[UNFLUSHED] > 0

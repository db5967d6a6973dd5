"""A few rounds of the exactly-once loop; `python -m benchmarks.exactly_once_loop --times 50` is the long form."""

from __future__ import annotations

from pathlib import Path

from benchmarks.brokers import OttlaBroker
from benchmarks.exactly_once_loop import SETTINGS, exactly_once_loop


def test_every_input_is_in_the_committed_output_once_whoever_is_killed(tmp_path: Path) -> None:
    broker = OttlaBroker(tmp_path, settings=SETTINGS)
    try:
        outcome = exactly_once_loop(broker, 5, seed=11, report=lambda _: None)
    finally:
        broker.kill()
    assert sum(outcome.kills.values()) == 5
    assert outcome.kills["broker"] + outcome.kills["both"] > 0
    assert outcome.inputs > 0

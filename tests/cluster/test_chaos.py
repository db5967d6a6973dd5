"""Three minutes of faults to three real nodes under real clients; `python -m tests.cluster.chaos --minutes 30` is the
long form. And a quarter of a minute with everything that keeps strangers out.

It has a process of its own, so that it can have network namespaces where they are allowed. How long it takes is bounded
by what it waits for in vain: a machine that is busy may need much longer than three minutes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.brokers import ROOT

MINUTES = "3"
SECURE_MINUTES = "0.25"
LONGEST_S = 1500


@pytest.mark.timeout(LONGEST_S + 60)
def test_nothing_is_lost_doubled_or_stuck_while_nodes_fail(tmp_path: Path) -> None:
    chaos(tmp_path, "--minutes", MINUTES, "--rate", "100", "--no-java")


@pytest.mark.timeout(LONGEST_S + 60)
def test_the_same_where_nobody_gets_in_who_does_not_belong(tmp_path: Path) -> None:
    chaos(tmp_path, "--secure", "--minutes", SECURE_MINUTES, "--rate", "50", "--seed", "1", "--no-java", "--no-network")


def chaos(directory: Path, *options: str) -> None:
    command = [sys.executable, "-m", "tests.cluster.chaos", *options]
    told = directory / "chaos.log"
    with told.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--directory", str(directory)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = process.wait(LONGEST_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    assert code == 0, told.read_text(errors="replace")[-6000:]

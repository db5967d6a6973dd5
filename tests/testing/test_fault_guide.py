"""The examples of docs/fault-injection.md: each is a file of tests by itself."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from ottla.testing import Cluster
from ottla.testing.mock import ENDPOINTS, KINDS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "fault-injection.md"


def test_the_examples_of_the_guide_pass(tmp_path: Path) -> None:
    found = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    for number, text in enumerate(found):
        (tmp_path / f"test_example_{number}.py").write_text(text)
    options = ["-q", "-p", "no:cacheprovider", "-p", "ottla", "-c", os.devnull]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_guide_tells_of_every_fault_and_request() -> None:
    text = GUIDE.read_text()
    assert not [kind for kind in KINDS if f"faults.{kind}(" not in text]
    ways = {re.sub(r"\{\w*(id|broker|name)\}", "X", one.path) for one in ENDPOINTS}
    shown = re.sub(r"/(orders|0|1)\b", "/X", text)
    assert not [way for way in ways if way not in shown and not shown.count(f"`{way[way.rindex('/') :]}`")]
    assert "power_loss" in inspect.signature(Cluster.kill).parameters

"""The examples of docs/testing.md: each is a file of tests (or a program) by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ottla.testing.cluster import DEFAULTS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


def test_the_examples_of_the_guide_pass(tmp_path: Path) -> None:
    found = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    for number, text in enumerate(found):
        (tmp_path / f"test_example_{number}.py").write_text(text)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "ottla",
            "-c",
            os.devnull,
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_guide_tells_of_every_setting_that_is_not_kafkas() -> None:
    text = GUIDE.read_text()
    assert not [name for name in DEFAULTS if f"`{name}`" not in text]

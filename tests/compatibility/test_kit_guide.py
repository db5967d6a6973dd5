"""The examples of docs/testing-other-clients.md: a file of tests each, or a program (its first line says its name)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.brokers import KAFKA_HOME
from tests.compatibility.drivers import TOOLS, Java
from tests.compatibility.test_kit_faults import GUIDE
from tests.conftest import require

QUIX = TOOLS / "quixstreams" / "bin" / "python"
SECTIONS = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)[1:]
PROGRAM = re.compile(r"^(?:#|//) (\w+\.\w+)\n")
COMMAND = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "ottla", "-c", os.devnull]


def missing(section: str) -> str | None:
    """What is not on this machine that the examples need."""
    if "```java" in section:
        return Java().missing()
    return None if "quixstreams" not in section or QUIX.exists() else "scripts/install-tools quixstreams"


@pytest.mark.parametrize("section", [pytest.param(text, id=text.partition("\n")[0]) for text in SECTIONS])
def test_the_examples_of_a_section_pass(section: str, tmp_path: Path) -> None:
    require(missing(section))
    tests, scripts = [], []
    for number, (language, text) in enumerate(re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)):
        name = found[1] if (found := PROGRAM.match(text)) else f"test_{number}.py" if language == "python" else "run.sh"
        (tmp_path / name).write_text(text.replace("sys.executable", repr(str(QUIX))))
        tests += [name] if name.startswith("test_") else []
        scripts += [name] if name == "run.sh" else []
    commands = [["bash", script] for script in scripts] + ([[*COMMAND, *tests]] if tests else [])
    assert commands or "```" not in section
    for command in commands:
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def environment() -> dict[str, str]:
    """As a reader has it: `ottla` and `java` are found, and so are Kafka's jars."""
    scripts = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "CLASSPATH": str(KAFKA_HOME / "libs" / "*"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }

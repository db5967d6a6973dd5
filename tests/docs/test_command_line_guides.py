"""The shell examples of the guides to the command line, as they stand there, against a broker."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.docs.forking import forked_ottla

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["produce-and-consume", "watch-and-measure"])
def test_the_examples_of_a_guide(make_broker: MakeBroker, tmp_path: Path, page: str) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL))
    with tempfile.TemporaryDirectory() as directory, forked_ottla(Path(directory)) as programs:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OTTLA_"))},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "OTTLA_BOOTSTRAP_SERVERS": make_broker().bootstrap,
            "XDG_CONFIG_HOME": str(tmp_path),
        }
        done = subprocess.run(
            ["bash", "-exo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env=environment,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ottla: error" not in done.stderr

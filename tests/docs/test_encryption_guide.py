"""The shell examples of the guide to encryption at rest, as they stand there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.docs.forking import forked_ottla

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "encryption.md"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def test_the_examples_of_the_guide(tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    address = f"127.0.0.1:{free_port()}"
    script = script.replace("127.0.0.1:9092", address)
    # Every start, also one that leaves the port to the default: somebody's broker may have that one.
    script = script.replace("--detach", f"--detach --set http.listeners= --set listeners=PLAINTEXT://{address}")
    with tempfile.TemporaryDirectory() as directory, forked_ottla(Path(directory)) as programs:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OTTLA_"))},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(tmp_path),
        }
        done = subprocess.run(
            ["bash", "-exo", "pipefail", "-c", f"trap 'ottla stop --data data --if-running' EXIT\n{script}"],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env=environment,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "a second record" in done.stdout
    stored = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not any(b"first record" in content or b"second record" in content for content in stored)

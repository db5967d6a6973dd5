"""docs/secure-in-five-minutes.md from the first command to the last, as a newcomer copies it: with Ottla's own commands
and clients, with confluent-kafka, and with Kafka's console tools."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.compatibility.conftest import clients, java
from tests.compatibility.drivers import Java
from tests.docs.forking import forked_ottla

__all__ = ["clients", "java"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "secure-in-five-minutes.md"
TOOLS = {
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def script(text: str) -> str:
    """The examples of the shell and of Python as one script."""
    found = []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found.append(block if language == "sh" else f"{shlex.quote(sys.executable)} - <<'END'\n{block}END\n")
    return "\n".join(found)


class Shell:
    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OTTLA_"))},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(directory),
        }

    def run(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-exo", "pipefail", "-c", text],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            env=self.environment,
            cwd=self.directory,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        assert "ottla: error" not in done.stderr
        return done.stdout


@pytest.mark.xdist_group("tools")
def test_the_guide_from_beginning_to_end(java: Java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    text = PAGE.read_text().replace("init secure\n", f"init secure --port {port}\n").replace(":9092", f":{port}")
    before, after = text.split("## Tokens")
    with tempfile.TemporaryDirectory() as directory, forked_ottla(Path(directory)) as programs:
        shell = Shell(tmp_path, programs)
        try:
            said = shell.run(script(before))
            assert "a table" in said
            assert "'orders-eu']" in said  # confluent-kafka, as the administrator
            (lines,) = re.findall(r"^```bash\n(.*?)^```$", before, re.MULTILINE | re.DOTALL)
            monkeypatch.chdir(tmp_path)
            for line in lines.splitlines():
                tool, *arguments = shlex.split(line)
                absolute = [str(tmp_path / one) if one.endswith(".properties") else one for one in arguments]
                output = java.tool(TOOLS[tool], *absolute, input="a bed\n")
            assert output.split("\n")[0] in ("a chair", "a bed")
            java_store = dict(line.split("=", 1) for line in (tmp_path / "alice.properties").read_text().splitlines())
            java_store |= {
                "ssl.truststore.type": "PKCS12",
                "ssl.truststore.location": str(tmp_path / "secure" / "truststore.p12"),
                "ssl.truststore.password": "changeit",
            }
            (tmp_path / "old.properties").write_text("".join(f"{name}={value}\n" for name, value in java_store.items()))
            (address,) = re.findall(r"--bootstrap-server (\S+) --topic orders-eu --command", lines)
            java.tool(
                TOOLS["kafka-console-producer.sh"],
                *("--bootstrap-server", address, "--topic", "orders-eu"),
                *("--command-config", str(tmp_path / "old.properties")),
                input="a shelf\n",
            )
            said = shell.run(script(after))
            assert "all is well" in said
        finally:
            subprocess.run(
                ["ottla", "stop", "--data", "secure/data"],
                cwd=tmp_path,
                env=shell.environment,
                capture_output=True,
                check=False,
            )

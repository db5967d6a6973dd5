"""What a start loads. Time is not asserted, it is the machine's; modules can be counted, and they are what takes it.

Where one of these tests fails: is the new module needed before the first request? If not, import it where it is used.
The figures are in docs/decisions/start-up.md.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

OTTLA_MODULES = 136
"""One of them, `broker.patience`, is for strangers, and on by default: no listener opens without a limit of time."""

MESSAGE_MODULES = 8
ADMIN_MESSAGE_MODULES = 16

NOT_LOADED = [
    "concurrent.futures.process",
    "cramjam",
    "crc32c",  # its __init__; `ottla.core.checksum` takes the extension module alone
    "email",
    "http",
    "importlib.metadata",
    "importlib.resources",
    "lzma",
    "multiprocessing",
    "pathlib",
    "pkg_resources",
    "shutil",
    "urllib",
    "zipfile",
    "h11",
    "httptools",
    "starlette",
    "uvicorn",
    "ottla.server.metrics.app",
    "ottla.server.metrics.registry",
    "ottla.schema.reference",
    "ottla.schema.quorum",
    "ottla.server.broker.controller_channel",
    "ottla.server.broker.handlers",
    "ottla.server.broker.lifecycle",
    "ottla.server.coordinator",
    "ottla.server.node.membership",
    "ottla.server.peers",
    "ottla.server.raft.core",
    "ottla.server.raft.node",
    "ottla.server.replication.replication",
    "ottla.testing",
]
"""Packages and modules that a node with a new data directory, alone, does without until a client asks for something."""


def imported(stderr: str) -> set[str]:
    """Module names in the output of `-X importtime`."""
    return set(re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", stderr, re.MULTILINE))


def interpreter_modules() -> set[str]:
    """What Python loads by itself, and what other packages hang on its start."""
    command = [sys.executable, "-X", "importtime", "-c", "pass"]
    return imported(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What `ottla start` loads until it is ready, and while it stops again, in a new data directory."""
    directory: Path = tmp_path_factory.mktemp("start")
    log = directory / "stderr"
    command = [sys.executable, "-X", "importtime", "-m", "ottla", "start", "--data", str(directory / "data")]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--set", "listeners=PLAINTEXT://127.0.0.1:0", "--set", "http.listeners=http://127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert " ready in " in process.stdout.readline(), log.read_text()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    return imported(log.read_text()) - interpreter_modules()


def test_importing_ottla_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import ottla; print(*sorted(set(sys.modules) - before))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert output.split() == ["ottla", "ottla.version"]


def test_a_start_loads_what_it_should(started: set[str]) -> None:
    assert {"asyncio", "ottla.server.node.node", "ottla.server.log.directories"} <= started


@pytest.mark.parametrize("name", NOT_LOADED)
def test_a_start_does_without(started: set[str], name: str) -> None:
    assert not {found for found in started if found == name or found.startswith(name + ".")}


def test_a_start_loads_few_modules(started: set[str]) -> None:
    ottla = {name for name in started if name.split(".")[0] == "ottla"}
    assert len(ottla) <= OTTLA_MODULES, sorted(ottla)
    messages = {name for name in ottla if name.startswith("ottla.protocol.messages.")}
    assert len(messages) <= MESSAGE_MODULES, sorted(messages)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker."""
    from ottla.testing import Cluster

    with Cluster(data=tmp_path_factory.mktemp("broker"), topics=["orders"]) as cluster:
        yield cluster.bootstrap_servers


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Modules of Ottla that a program has loaded when it ends."""
    code += "\nimport sys; print(*(name for name in sys.modules if name.startswith('ottla.')))"
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return set(output.splitlines()[-1].split())


CALLS = {
    "list_topics": (
        """
import ottla, sys
with ottla.Admin(sys.argv[1]) as admin:
    admin.list_topics()
""",
        {"acls", "areas", "blocking", "calls", "client", "configs", "outcomes", "routing", "topics"},
    ),
    "describe_acls": (
        """
import asyncio, ottla.admin, ottla.aio, sys
async def main():
    async with ottla.aio.Admin(sys.argv[1]) as admin:
        try:
            await admin.describe_acls(ottla.admin.AclFilter())
        except ottla.KafkaError:
            pass  # it has none
asyncio.run(main())
""",
        {"acls", "areas", "calls", "client", "outcomes", "routing"},
    ),
    "ottla topics list": (
        "from ottla.cli.main import main; import sys; main(['topics', 'list', '-b', sys.argv[1]])",
        {"acls", "areas", "blocking", "calls", "client", "configs", "outcomes", "routing", "topics"},
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_admin_call_loads_its_area_only(broker: str, call: str) -> None:
    code, areas = CALLS[call]
    prefix = "ottla.client.admin."
    loaded = loaded_by(code, broker)
    assert {name.removeprefix(prefix) for name in loaded if name.startswith(prefix)} == areas
    messages = {name for name in loaded if name.startswith("ottla.protocol.messages.")}
    assert len(messages) <= ADMIN_MESSAGE_MODULES, sorted(messages)
    assert not {name for name in loaded if name.startswith(("ottla.server", "ottla.client.consumer", "ottla.records"))}

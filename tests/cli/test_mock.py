"""`ottla mock` as a program, and the example of its documentation."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ottla

DOCUMENT = Path(__file__).parents[2] / "docs" / "fault-injection.md"


@contextmanager
def mock(*options: str) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [sys.executable, "-m", "ottla", "mock", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield program
    finally:
        program.kill()
        program.communicate()


def first_line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_serves_and_ends_when_told(how: signal.Signals) -> None:
    with mock("--port", "0", "--http", "0", "--json", "-t", "orders:3", "--set", "message.max.bytes=2000") as program:
        where = json.loads(first_line(program))
        with urllib.request.urlopen(f"{where['http']}/topics", timeout=10) as response:
            assert json.load(response) == [{"name": "orders", "partitions": 3}]
        with ottla.Producer(where["bootstrap_servers"]) as producer:
            producer.send("orders", b"1").result(5)
            with pytest.raises(ottla.errors.RecordTooLargeError):
                producer.send("orders", os.urandom(3000)).result(5)
        program.send_signal(how)
        out, err = program.communicate(timeout=10)
        assert (program.returncode, out, err) == (0, "", "")


def test_a_restarted_broker_is_where_it_was_on_every_address() -> None:
    with mock("--port", "0", "--http", "0", "--json", "--host", "0.0.0.0", "--advertise", "localhost") as program:
        where = json.loads(first_line(program))
        assert where["bootstrap_servers"].startswith("localhost:")
        for action in ("kill", "restart"):
            request = urllib.request.Request(f"{where['http']}/brokers/0/{action}", method="POST")
            urllib.request.urlopen(request, timeout=10).close()
        with ottla.Producer(where["bootstrap_servers"]) as producer:
            assert producer.send("orders", b"1").result(5).offset == 0


def test_the_ready_line_is_for_people() -> None:
    with mock("--port", "0", "--http", "0") as program:
        line = first_line(program)
        assert re.fullmatch(r"ottla mock ready: kafka on 127\.0\.0\.1:\d+, faults on http://127\.0\.0\.1:\d+\n", line)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--port", "x"], 2, "no port: 'x'"),
        (["--port", "0", "--http", "0", "-t", "a:b"], 1, "--topic wants NAME or NAME:PARTITIONS, not 'a:b'"),
        (["--port", "0", "--http", "0", "--set", "x"], 1, "--set wants KEY=VALUE, not 'x'"),
        (["--port", "0", "--http", "0", "--set", "message.max.byts=1"], 1, "message.max.bytes"),
    ],
)
def test_mistakes_are_told_in_one_line(options: list[str], code: int, message: str) -> None:
    with mock(*options) as program:
        out, err = program.communicate(timeout=10)
        assert (program.returncode, out) == (code, "")
        assert err.startswith("ottla: error: ")
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--port", "--http"])
def test_a_port_that_is_taken_is_told_of(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        other = "--http" if option == "--port" else "--port"
        with mock(option, str(taken.getsockname()[1]), other, "0") as program:
            _, err = program.communicate(timeout=10)
            assert program.returncode == 1
            assert "already in use" in err
            assert err.count("\n") == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="the example uses curl")
def test_the_example_for_other_languages_works_as_it_stands(tmp_path: Path) -> None:
    script = re.search(r"```bash\n(#!/bin/sh\n.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert script is not None
    directory = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-c", script[1]],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "passed"

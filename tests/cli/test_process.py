"""`ottla start` as a process: what it prints, how it ends, what it refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

OTTLA = [sys.executable, "-m", "ottla", "start"]
ANY_PORT = ["--set", "listeners=PLAINTEXT://127.0.0.1:0", "--set", "http.listeners="]


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OTTLA_"))}


@contextmanager
def running(*arguments):
    """A node that said it is ready; it is killed if a test leaves it running."""
    process = subprocess.Popen(
        [*OTTLA, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, line
    finally:
        process.kill()
        process.communicate()


def refused(*arguments):
    """What a node that cannot start says, without the prefix."""
    process = subprocess.run(
        [*OTTLA, *map(str, arguments)], capture_output=True, text=True, timeout=30, env=environment(), check=False
    )
    assert process.returncode == 1, process
    assert process.stdout == ""
    [line] = [line for line in process.stderr.splitlines() if line.startswith("ottla: error: ")]
    assert "Traceback" not in process.stderr
    return line.removeprefix("ottla: error: ")


def stop(process, number=signal.SIGTERM):
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_tells_in_one_line_that_it_is_ready_and_stops_cleanly(tmp_path, number):
    data = tmp_path / "data"
    with running("--data", data, *ANY_PORT) as (process, line):
        assert line.startswith("ottla ")
        assert "127.0.0.1:" in line
        assert str(data) in line
        assert stop(process, number) == (0, "", "")
    assert (data / ".kafka_cleanshutdown").exists()


def test_a_second_node_on_the_same_data_is_refused(tmp_path):
    with running("--data", tmp_path, *ANY_PORT) as (process, _):
        line = refused("--data", tmp_path, *ANY_PORT)
        assert str(tmp_path) in line
        assert "is a broker running on it already?" in line
        assert stop(process)[0] == 0


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--data", tmp_path, "--set", f"listeners=PLAINTEXT://127.0.0.1:{port}")
    assert line.startswith(f"127.0.0.1:{port} is already in use; stop the program that listens there")


def test_a_data_directory_that_cannot_be_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    assert str(file) in refused("--data", file, *ANY_PORT)
    assert str(file) in refused("--data", file / "below", *ANY_PORT)


def test_a_wrong_cluster_id_is_named(tmp_path):
    ours, other = "MkU3OEVBNTcwNTJENDM2Qk", "AAAAAAAAAAAAAAAAAAAAAg"
    with running("--data", tmp_path, *ANY_PORT, "--set", f"cluster.id={ours}") as (process, _):
        assert stop(process)[0] == 0
    assert f"cluster.id={ours}" in (tmp_path / "meta.properties").read_text()
    line = refused("--data", tmp_path, *ANY_PORT, "--set", f"cluster.id={other}")
    assert ours in line
    assert other in line


def test_a_damaged_file_is_named(tmp_path):
    with running("--data", tmp_path, *ANY_PORT) as (process, _):
        assert stop(process)[0] == 0
    (tmp_path / "meta.properties").write_text("version=1\nnode.id=one\n")
    assert "meta.properties" in refused("--data", tmp_path, *ANY_PORT)


def test_log_lines_are_json_when_asked_for(tmp_path):
    arguments = ["--log-format", "json", "--set", "num.io.threads=3"]
    with running("--data", tmp_path, *ANY_PORT, *arguments) as (process, _):
        code, _, err = stop(process)
    assert code == 0
    events = [json.loads(line) for line in err.splitlines()]
    assert any("num.io.threads" in event["message"] and event["level"] == "warning" for event in events)

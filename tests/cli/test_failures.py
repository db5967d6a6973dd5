"""What ends a command early: a reader who leaves, Ctrl-C, a broker that is away, something that nobody foresaw."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ottla.cli import errors, topics
from ottla.cli.main import COMMANDS, FAMILIES

OTTLA = [sys.executable, "-m", "ottla"]


def test_a_reader_who_has_seen_enough_is_no_failure(ottla, bootstrap, name):
    ottla("topics", "create", *(f"{name}-{number}" for number in range(40)))
    process = subprocess.Popen(
        [*OTTLA, "topics", "list", "-b", bootstrap], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| head -0` does
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0


def test_ctrl_c_ends_with_130(tmp_path):
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [*OTTLA, "topics", "list", "-b", "127.0.0.1:1"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "cannot be reached" in process.stderr.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_broker_that_is_away_is_one_line(ottla):
    said = ottla("topics", "list", "-b", "127.0.0.1:1", "--timeout", "0.3", code=1)
    assert said.err.splitlines()[-1].startswith("ottla: error: NETWORK_EXCEPTION: no server of bootstrap.servers could")
    assert "Traceback" not in said.err


def test_a_server_that_speaks_something_else_is_one_line(ottla):
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        for _ in range(3):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    said = ottla("topics", "list", "-b", f"127.0.0.1:{listener.getsockname()[1]}", "--timeout", "0.5", code=1)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    assert said.err.splitlines()[-1].startswith("ottla: error: ")
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("boom"), "unexpected RuntimeError: boom (OTTLA_DEBUG=1 shows where)"),
        (FileNotFoundError(2, "No such file or directory", "x.json"), "x.json: no such file or directory"),
        (errors.CommandError("told\nin one line"), "told in one line"),
    ],
)
def test_whatever_happens_is_one_line(ottla, monkeypatch, error, line):
    def fail(options):
        raise error

    monkeypatch.setattr(topics, "run", fail)
    assert ottla("topics", "list", code=1).err == f"ottla: error: {line}\n"


def test_debugging_shows_where(ottla, monkeypatch):
    def fail(options):
        raise RuntimeError("boom")

    monkeypatch.setattr(topics, "run", fail)
    monkeypatch.setenv("OTTLA_DEBUG", "1")
    assert "test_failures.py" in ottla("topics", "list", code=1).err


def test_an_unknown_setting_is_one_line(ottla):
    said = ottla("topics", "list", "-X", "security.protocl=SSL", code=1)
    assert "security.protocol" in said.err
    assert said.err.count("\n") == 1


def test_help(ottla):
    said = ottla("--help").out
    assert [line for line in said.splitlines() if line.endswith(":") and not line.startswith(" ")] == [
        f"{title}:" for title, family in FAMILIES.items() if family
    ]
    assert ottla("help", "topics", "create").out == ottla("topics", "create", "--help").out
    assert ottla("topics", "create", "--help").lines[0] == "usage: ottla topics create [options] TOPIC [TOPIC ...]"
    assert all(summary.endswith((".", "…")) for _, summary in COMMANDS.values())


def test_a_command_that_asks_a_broker_loads_no_more_than_it_needs(bootstrap, tmp_path):
    environment = os.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    command = [sys.executable, "-X", "importtime", "-m", "ottla", "topics", "list", "-b", bootstrap]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    unwanted = {"rich", "argcomplete", "tomllib", "ottla.server", "ottla.testing", "ottla.client.producer", "starlette"}
    assert not {name for name in loaded for one in unwanted if name == one or name.startswith(one + ".")}


def test_a_cluster_that_is_about_to_start_has_the_time_that_was_asked_for():
    from ottla.cli.consume.ranges import UNKNOWN_TOPIC_S, partitions_of
    from ottla.client.errors import ConnectionFailedError
    from ottla.client.model import PartitionInfo

    class Starting:
        def __init__(self):
            self.waits_s = []

        def partitions_for(self, topic, timeout_s=None):
            self.waits_s.append(timeout_s)
            if len(self.waits_s) == 1:
                raise ConnectionFailedError("not there yet")
            return [PartitionInfo(topic, 0, None, (), (), ())]

    client = Starting()
    assert partitions_of(client, "x", 15.0) == [0]
    assert client.waits_s == [UNKNOWN_TOPIC_S, 15.0 - UNKNOWN_TOPIC_S]
    with pytest.raises(ConnectionFailedError):
        partitions_of(Starting(), "x", 1.0)


@pytest.mark.parametrize("arguments", [["consume", "x"], ["produce", "x", "y"], ["topics", "list"]])
def test_what_the_clients_warn_of_says_where_it_comes_from(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ottla", *arguments, "-b", "127.0.0.1:1", "--timeout", "0.2"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert all(line.startswith("ottla: ") for line in done.stderr.splitlines())
    assert "127.0.0.1:1 cannot be reached" in done.stderr.splitlines()[0]

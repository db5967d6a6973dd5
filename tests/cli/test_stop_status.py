"""`ottla start --detach`, `ottla stop`, `ottla status`: nodes as processes of their own."""

import json
import os
import subprocess
import sys
import time

import pytest

from ottla.cli import status
from ottla.cli.main import main
from ottla.cli.running import find_node, is_alive, is_locked
from ottla.client.admin.clusters import ClusterDescription
from ottla.client.admin.log_dirs import LogDirDescription
from ottla.client.admin.topics import PartitionDescription, TopicDescription
from ottla.client.errors import KafkaError
from ottla.client.model import Node

ANY_PORT = ["--set", "listeners=PLAINTEXT://127.0.0.1:0", "--set", "http.listeners="]


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No configuration and no node but the test's own."""
    for name in list(os.environ):
        if name.startswith(("OTTLA_", "KAFKA_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def say(capsys):
    def run(*arguments, code=0):
        capsys.readouterr()
        returned = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert returned == code, captured.err or captured.out
        return captured

    return run


@pytest.fixture
def node(tmp_path, say):
    """The data directory of a node in the background."""
    data = tmp_path / "data"
    say("start", "--detach", "--data", data, *ANY_PORT)
    yield data
    main(["stop", "--data", str(data), "--kill", "--timeout", "5", "--if-running", "--quiet"])


def test_a_node_in_the_background_is_found_and_stopped(node, say, tmp_path):
    found = find_node(str(node))
    assert is_alive(found.pid)
    assert (node / "ottla.log").exists()
    told = json.loads(say("status", "--data", node, "--json").out)
    assert told["health"] == "healthy"
    assert told["node"]["pid"] == found.pid
    assert told["brokers"][0]["used_bytes"] is not None
    assert f"pid {found.pid}" in say("status", "--data", node).out
    assert say("stop", "--data", node).out.startswith(f"node on {node} (pid {found.pid}) stopped after ")
    assert not is_alive(found.pid)
    assert not is_locked(str(node))
    assert not (node / "ottla.node").exists()
    assert (node / ".kafka_cleanshutdown").exists()
    assert say("stop", "--data", node, code=1).err == f"ottla: error: no node runs on {node}\n"
    assert json.loads(say("stop", "--data", node, "--if-running", "--json").out)["stopped"] is False
    assert say("status", "--data", node, code=3).err == f"ottla: no node runs on {node}\n"


def test_the_default_directory_is_looked_at(say, tmp_path):
    say("start", "--detach", *ANY_PORT)
    assert json.loads(say("status", "--json").out)["node"]["data"] == "./ottla-data"
    say("stop")


def test_what_does_not_start_in_the_background_says_why(node, say):
    said = say("start", "--detach", "--data", node, *ANY_PORT, code=1)
    assert said.out == ""
    assert "is a broker running on it already?" in said.err


def test_a_node_is_stopped_by_its_process(node, say):
    pid = find_node(str(node)).pid
    assert f"node with pid {pid} stopped" in say("stop", "--pid", pid).out
    assert not is_alive(pid)


def test_no_other_process_is_stopped_by_mistake(say):
    assert "there is no process 999999999" in say("stop", "--pid", "999999999", code=1).err
    process = subprocess.Popen(["sleep", "30"])
    try:
        assert f"process {process.pid} is no Ottla node" in say("stop", "--pid", process.pid, code=1).err
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_what_a_crash_left_behind_is_not_believed(node, say):
    pid = find_node(str(node)).pid
    os.kill(pid, 9)
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (node / "ottla.node").exists()
    assert find_node(str(node)) is None
    assert "no node runs on" in say("stop", "--data", node, code=1).err


def test_a_node_that_does_not_end_is_killed_only_when_asked(tmp_path, say):
    """A process that holds the lock and does not listen."""
    (tmp_path / ".lock").touch()
    code = (
        "import fcntl, signal, sys, time; file = open(sys.argv[1] + '/.lock'); fcntl.flock(file, fcntl.LOCK_EX);"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        said = say("stop", "--data", tmp_path, code=1)
        assert "in use, but not by `ottla start`" in said.err
        (tmp_path / "ottla.node").write_text(
            f"pid={process.pid}\nversion=1\nstarted_ms=1\nbootstrap_servers=127.0.0.1:1\n"
        )
        assert "has not ended within 0.1 s" in say("stop", "--data", tmp_path, "--timeout", "0.1", code=1).err
        assert "killed after" in say("stop", "--data", tmp_path, "--timeout", "0.1", "--kill").out
    finally:
        process.kill()
        process.communicate()


def test_nobody_answers(say):
    said = say("status", "-b", "127.0.0.1:1", "--timeout", "0.5", "--json", code=3)
    assert json.loads(said.out)["health"] == "down"


def test_what_is_a_problem():
    def partition(number, leader, in_sync):
        nodes = (Node(1, "a", 1), Node(2, "b", 1))
        return PartitionDescription(number, leader, 0, nodes, in_sync)

    one, two = Node(1, "a", 1), Node(2, "b", 1)
    topic = TopicDescription(
        "t", None, False, (partition(0, one, (one, two)), partition(1, one, (one,)), partition(2, None, ()))
    )
    found = status.Status(
        None,
        ClusterDescription("id", None, (one, two, Node(3, "c", 1, None, True), Node(4, "d", 1))),
        None,
        {"t": topic},
        None,
        {
            1: {"/full": LogDirDescription(None, {}, 1000, 10), "/fine": LogDirDescription(None, {}, 1000, 500)},
            2: {"/gone": LogDirDescription(KafkaError("it burnt"), {})},
        },
        silent={4},
    )
    status._diagnose(found)
    assert found.problems == [
        "broker 3 is down",
        "broker 4 does not answer",
        "1 partition without a leader: t-2",
        "1 partition under-replicated: t-1",
        "there is no controller",
        "broker 1: only 1.0 % of the volume of /full is free",
        "broker 2: /gone: it burnt",
    ]

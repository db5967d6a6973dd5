import asyncio
import errno
import os
import signal

import pytest

from ottla.cli import start
from ottla.cli.errors import explain
from ottla.cli.main import main
from ottla.runtime.disk import DiskError, DiskLockedError
from ottla.schema.config import BrokerConfig
from ottla.server.broker.listener import ListenError
from ottla.server.log.errors import LogError

IN_USE = (
    "is already in use; stop the program that listens there, "
    "or choose another address with --set listeners=PLAINTEXT://HOST:PORT"
)


def listen_error(number, address):
    return ListenError("PLAINTEXT", address, OSError(number, "reason"))


def complaint(capsys, *arguments):
    """What `ottla start` says on standard error when it refuses."""
    assert main(["start", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line.removeprefix("ottla: error: ")


class Options:
    config = None
    data = None
    assignments = ()
    log_level = None
    log_format = None

    def __init__(self, **options):
        vars(self).update(options)


def test_settings_that_cannot_be_stop_the_start_in_one_line(capsys, tmp_path, monkeypatch):
    assert complaint(capsys, "--set", "num.partition=1") == (
        "--set: unknown setting num.partition; did you mean num.partitions?"
    )
    assert complaint(capsys, "--set", "nothing") == "--set: 'nothing' must look like key=value"
    assert complaint(capsys, "--log-level", "loud").startswith("--log-level: Invalid value loud for configuration ")
    file = tmp_path / "server.properties"
    file.write_text("# first\nlog.retention.hours=soon\n")
    assert complaint(capsys, "--config", str(file)) == (
        f"{file}:2: Invalid value soon for configuration log.retention.hours: Not a number of type INT"
    )
    monkeypatch.setenv("KAFKA_NUM_PARTITIONS", "many")
    assert complaint(capsys).startswith("KAFKA_NUM_PARTITIONS: Invalid value many")


def test_a_config_file_that_cannot_be_read_is_named(capsys, tmp_path):
    missing = tmp_path / "missing.properties"
    assert complaint(capsys, "--config", str(missing)) == (
        f"cannot read the file of --config, {missing}: no such file or directory"
    )
    assert complaint(capsys, "--config", str(tmp_path)).endswith("is a directory")


def test_options_of_their_own_win_over_everything(tmp_path):
    options = Options(data="/data", log_level="debug", assignments=["log.dirs=/set", "logging.level=error"])
    config = start.load_config(options, {"KAFKA_LOG_DIRS": "/environment", "OTTLA_LOGGING_FORMAT": "json"})
    assert (config.log_dirs, config.source("log.dirs")) == (["/data"], "--data")
    assert (config["logging.level"], config["logging.format"]) == ("debug", "json")


def test_the_environment_wins_over_set_and_set_over_the_file(tmp_path):
    file = tmp_path / "server.properties"
    file.write_text("num.partitions=2\nbroker.rack=file\nlog.dirs=/file\n")
    options = Options(config=str(file), assignments=["broker.rack=set", "num.partitions=3"])
    config = start.load_config(options, {"KAFKA_NUM_PARTITIONS": "4"})
    assert (config["num.partitions"], config["broker.rack"], config.log_dirs) == (4, "set", ["/file"])


def test_files_in_latin_1_are_read_too(tmp_path):
    file = tmp_path / "server.properties"
    file.write_bytes("broker.rack=Zürich".encode("latin-1"))
    assert start.load_config(Options(config=str(file)), {})["broker.rack"] == "Zürich"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (listen_error(errno.EADDRINUSE, "127.0.0.1:9092"), f"127.0.0.1:9092 {IN_USE}"),
        (listen_error(errno.EADDRINUSE, ":9092"), f"port 9092 {IN_USE}"),
        (
            listen_error(errno.EADDRNOTAVAIL, "10.9.9.9:9092"),
            "10.9.9.9:9092 is not an address of this machine; correct the setting listeners",
        ),
        (
            listen_error(errno.EACCES, "0.0.0.0:80"),
            "not allowed to listen on 0.0.0.0:80; ports below 1024 need privileges",
        ),
        (listen_error(errno.EINVAL, "x:80"), "cannot listen on x:80 (PLAINTEXT): reason"),
        (LogError("a.log is damaged"), "a.log is damaged"),
        (
            DiskError(errno.EACCES, "Permission denied", "/data/x"),
            "cannot write to /data/x: permission denied; choose a writable data directory with --data DIR",
        ),
        (
            DiskError(errno.EROFS, "Read-only file system", "/data"),
            "cannot write to /data: read-only file system; choose a writable data directory with --data DIR",
        ),
        (DiskError(errno.ENOTDIR, "Not a directory", "/data"), "/data cannot be a data directory: not a directory"),
        (DiskError(errno.EIO, "Input/output error", "/data/1.log"), "/data/1.log: input/output error"),
        (
            DiskLockedError(errno.EAGAIN, "Resource temporarily unavailable", "/data/.lock"),
            "the data directory /data is in use by another broker (lock file /data/.lock)",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), "/x: No such file"),
        (ValueError("a bug"), None),
    ],
)
def test_what_can_go_wrong_is_explained(error, line):
    assert explain(error) == line


class FakeNode:
    """A node of which a test decides how long it takes to start and whether it can."""

    bootstrap_servers = "127.0.0.1:9092"

    def __init__(self, log, *, start=None, failure=None):
        self.log = log
        self.failed = None
        self._start = start
        self._failure = failure

    async def start(self):
        self.failed = asyncio.get_running_loop().create_future()
        if self._failure is not None:
            asyncio.get_running_loop().call_soon(self.failed.set_result, self._failure)
        self.log.append("starting")
        if self._start is not None:
            await self._start()
        self.log.append("started")

    async def stop(self):
        self.log.append("stopped")

    def ready_line(self):
        return "Kafka on 127.0.0.1:9092, data in ./ottla-data"


def serve(node, signals):
    """Serve with a signal coming after each short pause."""

    async def main():
        serving = asyncio.create_task(start.serve_until_signal(node, BrokerConfig.of({"num.io.threads": "2"})))
        for number in signals:
            for _ in range(5):
                await asyncio.sleep(0)
            os.kill(os.getpid(), number)
        await serving

    asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_node_that_is_ready(capsys, caplog, number):
    log = []
    serve(FakeNode(log), [number])
    assert log == ["starting", "started", "stopped"]
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("ottla ")
    assert line.endswith(" s: Kafka on 127.0.0.1:9092, data in ./ottla-data")
    assert "settings taken without effect: num.io.threads" in caplog.text


def test_a_signal_stops_a_node_that_is_still_starting(capsys):
    log = []
    serve(FakeNode(log, start=lambda: asyncio.sleep(3600)), [signal.SIGTERM])
    assert log == ["starting", "stopped"]
    assert capsys.readouterr().out == ""


def test_a_second_interrupt_ends_the_process_at_once(monkeypatch):
    codes = []
    ended = asyncio.Event()

    def end(code):
        codes.append(code)
        ended.set()

    monkeypatch.setattr(os, "_exit", end)
    node = FakeNode([])
    finish = asyncio.Event()

    async def slow_stop():
        await finish.wait()

    node.stop = slow_stop

    async def main():
        serving = asyncio.create_task(start.serve_until_signal(node, BrokerConfig.of()))
        for _ in range(2):
            for _ in range(5):
                await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGINT)
        await ended.wait()
        finish.set()
        await serving

    asyncio.run(main())
    assert codes == [130]


def test_a_node_that_cannot_start_is_stopped_and_its_error_passed_on():
    log = []

    async def fail():
        raise DiskError(errno.EACCES, "Permission denied", "/data")

    with pytest.raises(DiskError):
        asyncio.run(start.serve_until_signal(FakeNode(log, start=fail), BrokerConfig.of()))
    assert log == ["starting", "stopped"]


def test_a_node_that_cannot_go_on_is_stopped_and_its_error_passed_on(capsys):
    log = []
    failure = DiskError(errno.EIO, "Input/output error", "/data")
    with pytest.raises(DiskError):
        asyncio.run(start.serve_until_signal(FakeNode(log, failure=failure), BrokerConfig.of()))
    assert log == ["starting", "started", "stopped"]


def test_the_time_since_the_start_of_the_process_passes():
    first = start.seconds_since_process_start()
    assert 0 < first <= start.seconds_since_process_start()

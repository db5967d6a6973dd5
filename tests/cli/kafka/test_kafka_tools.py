"""Kafka's tools as commands: who is found, how they end, and what `install-kafka-tools` writes."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from ottla.cli.kafka import TOOLS
from ottla.cli.kafka.common import java_error, java_list, java_map, usable_addresses, valid_server_list
from ottla.cli.kafka.layout import pieces
from ottla.cli.main import main
from ottla.client.errors import KafkaTimeoutError, error_for
from ottla.core.errors import ErrorCode


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_is_there(tool: str) -> None:
    assert find_spec(TOOLS[tool]) is not None


def test_a_tool_may_be_called_by_its_script_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kafka-topics.sh", "--version"]) == 0
    assert capsys.readouterr().out == "4.3.1\n"


def test_wrong_usage_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kafka-topics", "--list"]) == 1
    assert capsys.readouterr().err == "--bootstrap-server must be specified\n"
    assert main(["kafka-topics", "--bootstrap-server", "nonsense", "--list"]) == 1
    assert capsys.readouterr().err == "Failed to create new KafkaAdminClient\n"


def test_installed_tools_run_and_are_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-kafka-tools", str(tmp_path / "bin")]) == 0
    assert main(["install-kafka-tools", str(tmp_path / "bin")]) == 0
    assert f"wrote {len(TOOLS)} tools to {tmp_path / 'bin'}" in capsys.readouterr().out
    script = tmp_path / "bin" / "kafka-topics.sh"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "4.3.1\n"


def test_foreign_files_are_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kafka-topics.sh").write_text("#!/bin/sh\n")
    assert main(["install-kafka-tools", str(tmp_path)]) == 1
    assert "kafka-topics.sh of somebody else" in capsys.readouterr().err
    assert main(["install-kafka-tools", "--force", str(tmp_path)]) == 0
    assert "ottla" in (tmp_path / "kafka-topics.sh").read_text()


def test_errors_by_their_names_in_java() -> None:
    error = error_for(ErrorCode.TOPIC_ALREADY_EXISTS, "Topic 'a' already exists.")
    assert java_error(error) == "org.apache.kafka.common.errors.TopicExistsException: Topic 'a' already exists."
    assert java_error(error_for(ErrorCode.GROUP_AUTHORIZATION_FAILED)).startswith(
        "org.apache.kafka.common.errors.GroupAuthorizationException: "
    )
    assert java_error(KafkaTimeoutError("too late")) == "org.apache.kafka.common.errors.TimeoutException: too late"


def test_collections_as_java_writes_them() -> None:
    assert java_list(["a", None, True]) == "[a, null, true]"
    assert java_map({"a": 1, "b": None}) == "{a=1, b=null}"


def test_addresses() -> None:
    assert usable_addresses("127.0.0.1:9092,no-such-host.invalid:9092")
    assert not usable_addresses("127.0.0.1")
    assert not usable_addresses("")
    assert valid_server_list("a:1,b:2") == ""
    assert valid_server_list("a:1,b") == "Please provide valid host:port like host1:9091,host2:9092\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", ["one ", "two"]),
        ("a.b.C is-it", ["a.", "b.", "C ", "is-", "it"]),
        ("1.5 and -3", ["1.5 ", "and ", "-3"]),
        ("'a' (b) \"c\": don't", ["'a' ", "(b) ", '"c": ', "don't"]),
        ("size() now", ["size()", " ", "now"]),
    ],
)
def test_where_lines_may_be_broken(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected

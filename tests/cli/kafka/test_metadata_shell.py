"""kafka-metadata-shell: commands on an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla.cli.kafka import run
from ottla.cli.kafka.globs import matcher
from ottla.cli.kafka.metadata_shell import Shell
from ottla.server.metadata.image import EMPTY_IMAGE, PartitionImage, TopicImage, TopicsImage

TOPICS = {
    name: TopicImage(name, bytes([number] * 16), {0: PartitionImage((1,), (1,), 1, 0, 0)})
    for number, name in enumerate(("orders", "returns", "users"), 1)
}
IMAGE = EMPTY_IMAGE._replace(
    offset=7,
    timestamp_ms=1_700_000_000_120,
    features={"metadata.version": 30},
    topics=TopicsImage(TOPICS, {topic.topic_id: topic for topic in TOPICS.values()}),
)


@pytest.fixture
def shell() -> Shell:
    return Shell(IMAGE, is_interactive=True)


def said(shell: Shell, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    shell.run(words)
    return capsys.readouterr().out.splitlines()


def test_one_walks_through_directories(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(shell, capsys, "pwd") == ["/"]
    assert said(shell, capsys, "cd", "image/topics") == []
    assert said(shell, capsys, "pwd") == ["/image/topics"]
    assert said(shell, capsys, "ls", "byName/{orders,users}") == ["orders:", "0  id  name"] + [
        "", "users:", "0  id  name",
    ]  # fmt: skip
    assert said(shell, capsys, "cat", "../features/metadataVersion") == ["Optional[4.3-IV0]"]
    assert said(shell, capsys, "cd", "../provenance") == ["cd: ../provenance: not a directory."]
    assert said(shell, capsys, "cd", "nowhere") == ["cd: nowhere: no such directory."]
    assert said(shell, capsys, "cat", "/image/provenance") == ["offset 7, epoch -1, time 2023-11-14T22:13:20.12Z[UTC]"]


def test_mistakes_are_told(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(shell, capsys, "nonsense")[0].startswith("invalid choice: 'nonsense'")
    assert said(shell, capsys, "ca", "x") == ["invalid choice: 'ca': did you mean 'cat'?"]
    assert said(shell, capsys, "cat", "image") == ["cat: image: Is a directory"]
    assert said(shell, capsys, "man", "nonsense")[0].startswith("man: unknown command nonsense")


def test_paths_are_completed(shell: Shell) -> None:
    assert shell.completions("image/topics/byName/") == [
        "image/topics/byName/orders/", "image/topics/byName/returns/", "image/topics/byName/users/",
    ]  # fmt: skip
    assert shell.completions("im") == ["image/"]
    assert shell.completions("/image/prov") == ["/image/provenance"]


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [("a*", "abc", True), ("a?", "abc", False), ("{a,b}c", "bc", True), ("a.*", "abc", False), (r"\**", "*x", True)],
)
def test_globs(glob: str, name: str, matches: bool) -> None:
    found = matcher(glob)
    assert found is not None
    assert found(name) is matches


@pytest.mark.parametrize("glob", ["plain", "{a,b", "{{a}}", r"a\*"])
def test_what_is_no_glob_is_a_name(glob: str) -> None:
    assert matcher(glob) is None


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("kafka-metadata-shell", ["--snapshot", str(tmp_path / "x"), "ls"]) == 1
    assert capsys.readouterr().err.startswith("Unexpected error: java.nio.file.NoSuchFileException")

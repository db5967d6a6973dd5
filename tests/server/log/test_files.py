import pytest

from ottla.core.ids import TopicPartition
from ottla.server.log.files import (
    OffsetFile,
    marked_directory_name,
    offset_name,
    parse_directory_name,
    parse_offset_name,
)

UNIQUE = "0123456789abcdef" * 2


def test_offset_names_have_twenty_digits():
    assert offset_name(42, ".log") == "00000000000000000042.log"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00000000000000000042.log", OffsetFile(42, ".log", "")),
        ("00000000000000000042.timeindex.deleted", OffsetFile(42, ".timeindex", ".deleted")),
        ("00000000000000000007.log.swap", OffsetFile(7, ".log", ".swap")),
        ("0000000000000000042.log", None),
        ("leader-epoch-checkpoint", None),
        ("00000000000000000042-0000000003.checkpoint", None),
    ],
)
def test_offset_names_are_taken_apart(name, expected):
    assert parse_offset_name(name) == expected


def test_topic_and_partition_are_split_at_the_last_dash():
    assert parse_directory_name("a-b-c-12") == (TopicPartition("a-b-c", 12), "")
    assert parse_directory_name("a.b_c-0") == (TopicPartition("a.b_c", 0), "")


@pytest.mark.parametrize("name", ["lost+found", "-3", "topic-", "topic-x", "topic", "topic-²"])
def test_other_directories_are_not_partitions(name):
    assert parse_directory_name(name) is None


@pytest.mark.parametrize("mark", ["delete", "future", "stray"])
def test_marked_directories_are_recognised(mark):
    name = marked_directory_name(TopicPartition("a-b", 5), mark, UNIQUE)
    assert name == f"a-b-5.{UNIQUE}-{mark}"
    assert parse_directory_name(name) == (TopicPartition("a-b", 5), mark)


def test_marked_names_fit_a_file_system():
    name = marked_directory_name(TopicPartition("t" * 249, 12345), "delete", UNIQUE)
    assert len(name) == 255
    assert name.endswith(f"-12345.{UNIQUE}-delete")

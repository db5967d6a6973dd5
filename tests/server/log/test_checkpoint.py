import pytest

from ottla.core.ids import ZERO_UUID, TopicPartition
from ottla.server.log.checkpoint import (
    format_leader_epochs,
    format_offsets,
    format_topic_id,
    read_leader_epochs,
    read_offsets,
    read_topic_id,
)
from ottla.server.log.errors import LogError
from ottla.server.log.meta_properties import MetaProperties, format_meta_properties, read_meta_properties
from tests.server.log.support import new_disk


@pytest.fixture
def disk():
    return new_disk()


def test_offset_checkpoint_is_kafkas_text(disk):
    offsets = {TopicPartition("a-b", 0): 5, TopicPartition("c", 11): 2**40}
    content = format_offsets(offsets)
    assert content == b"0\n2\na-b 0 5\nc 11 1099511627776\n"
    disk.replace("/data/offsets", content)
    assert read_offsets(disk, "/data/offsets") == offsets


def test_missing_and_empty_checkpoints_say_nothing(disk):
    assert read_offsets(disk, "/data/offsets") == {}
    disk.replace("/data/offsets", b"")
    assert read_offsets(disk, "/data/offsets") == {}


@pytest.mark.parametrize(
    "content",
    [b"1\n0\n", b"\xff\xfe", b"0\n", b"0\nx\n", b"0\n2\na 0 1\n", b"0\n1\na 0\n", b"0\n1\na b c\n", b"\0\0\0\0"],
)
def test_corrupt_checkpoint_is_named(disk, content):
    disk.replace("/data/offsets", content)
    with pytest.raises(LogError, match="/data/offsets") as raised:
        read_offsets(disk, "/data/offsets")
    assert "\n" not in str(raised.value)


def test_leader_epoch_checkpoint_is_kafkas_text(disk):
    content = format_leader_epochs([(0, 0), (3, 17)])
    assert content == b"0\n2\n0 0\n3 17\n"
    disk.replace("/data/epochs", content)
    assert read_leader_epochs(disk, "/data/epochs") == [(0, 0), (3, 17)]


def test_partition_metadata_is_kafkas_text(disk):
    topic_id = bytes(15) + b"\x01"
    assert format_topic_id(topic_id) == b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"
    disk.replace("/data/metadata", format_topic_id(topic_id) + b"\n")
    assert read_topic_id(disk, "/data/metadata") == topic_id


def test_partition_metadata_lost_in_a_crash_is_no_id(disk):
    assert read_topic_id(disk, "/data/metadata") == ZERO_UUID
    disk.replace("/data/metadata", bytes(43))
    assert read_topic_id(disk, "/data/metadata") == ZERO_UUID


@pytest.mark.parametrize(
    "content", [b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ", b"version: 0\ntopic_id: x", b"nonsense"]
)
def test_corrupt_partition_metadata_is_named(disk, content):
    disk.replace("/data/metadata", content)
    with pytest.raises(LogError, match="/data/metadata"):
        read_topic_id(disk, "/data/metadata")


def test_meta_properties_survive(disk):
    directory_id = bytes(range(16))
    disk.replace("/data/meta.properties", format_meta_properties("cluster", 7, directory_id))
    assert read_meta_properties(disk, "/data/meta.properties") == MetaProperties("cluster", 7, directory_id)


def test_meta_properties_of_a_zookeeper_broker_are_understood(disk):
    disk.replace("/data/meta.properties", b"#\n#Tue\nbroker.id=3\nversion=0\ncluster.id=abc\n")
    assert read_meta_properties(disk, "/data/meta.properties") == MetaProperties("abc", 3, None)


@pytest.mark.parametrize(
    "content", [b"version=2\n", b"version=x\n", b"version=1\nnode.id=y\n", b"version=1\ndirectory.id=z\n"]
)
def test_corrupt_meta_properties_are_named(disk, content):
    disk.replace("/data/meta.properties", content)
    with pytest.raises(LogError, match=r"/data/meta\.properties"):
        read_meta_properties(disk, "/data/meta.properties")

import copy
import pickle
import subprocess
import sys

import pytest

from ottla.protocol.message import Data, Struct, array, int32, string, struct, version_range
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.protocol.messages.fetch import FetchRequest, LeaderIdAndEpoch, PartitionData, ReplicaState
from ottla.protocol.messages.metadata import MetadataRequest
from ottla.protocol.messages.unregister_broker import UnregisterBrokerResponse
from ottla.protocol.messages.unregister_controller import UnregisterControllerResponse


class Inner(Struct):
    names: list[str] = array("string", "0+")


class Sample(Data, versions="0-1"):
    """A message with one of each kind of default."""

    number: int = int32("0+", default=5)
    text: str | None = string("0+", nullable="0+")
    items: list[int] = array("int32", "0+")
    maybe: list[int] | None = array("int32", "0+", nullable="0+")
    nothing: list[int] | None = array("int32", "0+", nullable="0+", default=None)
    inner: Inner = struct(Inner, "0+")


class Empty(Data):
    """No fields."""


class OtherEmpty(Data):
    """No fields either."""


def test_every_field_has_a_default():
    sample = Sample()
    assert (sample.number, sample.text, sample.items, sample.maybe, sample.nothing) == (5, "", [], [], None)
    assert sample.inner == Inner()
    assert sample.unknown_tags is None


def test_lists_and_structs_with_lists_are_not_shared():
    one, other = Sample(), Sample()
    one.items.append(1)
    one.maybe.append(1)
    one.inner.names.append("x")
    assert other == Sample(items=[], maybe=[])


def test_null_can_be_given():
    assert Sample(maybe=None).maybe is None
    assert MetadataRequest(topics=None).topics is None


def test_arguments_are_keywords_and_known():
    with pytest.raises(TypeError):
        Sample(6)
    with pytest.raises(TypeError):
        Sample(nonsense=1)
    with pytest.raises(AttributeError):
        Sample().nonsense = 1


def test_equality_is_by_value_and_class():
    assert Sample(items=[1]) == Sample(items=[1])
    assert Sample(items=[1]) != Sample(items=[2])
    assert Sample(unknown_tags=((1, b""),)) != Sample()
    assert Empty() == Empty()
    assert Empty() != OtherEmpty()
    assert UnregisterBrokerResponse() != UnregisterControllerResponse()
    assert Sample() != 5
    assert PartitionData(records=b"abc") == PartitionData(records=memoryview(b"abc"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Sample())


def test_repr_reads_like_the_constructor_and_stays_short():
    assert repr(Inner(names=["x"])) == "Inner(names=['x'])"
    assert "records=<1000 bytes>" in repr(PartitionData(records=bytes(1000)))
    assert "unknown_tags=((1, b'x'),)" in repr(Empty(unknown_tags=((1, b"x"),)))
    assert "replica_state=ReplicaState(replica_id=-1" in repr(FetchRequest())


def test_shared_default_refuses_changes():
    partition = PartitionData()
    with pytest.raises(AttributeError, match="assign a new one"):
        partition.current_leader.leader_id = 1
    partition.current_leader = LeaderIdAndEpoch(leader_id=1)
    assert PartitionData().current_leader == LeaderIdAndEpoch()
    assert FetchRequest().replica_state == ReplicaState()


def test_messages_can_be_copied():
    request = CreateTopicsRequest(topics=[CreatableTopic(name="t")])
    again = copy.deepcopy(request)
    assert again == request
    again.topics[0].name = "u"
    assert request.topics[0].name == "t"
    assert pickle.loads(pickle.dumps(FetchRequest())) == FetchRequest()


@pytest.mark.parametrize(
    ("text", "parsed"), [("3", (3, 3)), ("3-7", (3, 7)), ("0+", (0, 32767)), ("none", (1, 0)), ("12-13", (12, 13))]
)
def test_version_range(text, parsed):
    assert version_range(text) == parsed


def test_importing_messages_compiles_nothing():
    source = (
        "import sys, ottla.protocol.messages.produce, ottla.protocol.messages.fetch;"
        "unwanted = {'ottla.protocol.codec', 'ottla.protocol.encoding', 'dataclasses', 'asyncio'} & set(sys.modules);"
        "sys.exit(' '.join(unwanted) or 0)"
    )
    subprocess.run([sys.executable, "-c", source], check=True)

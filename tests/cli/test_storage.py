"""`ottla storage`: what it writes is what nodes of a cluster start on."""

import pytest

from ottla.core.ids import uuid_from_text
from ottla.runtime.real_disk import RealDisk
from ottla.server.log.meta_properties import read_meta_properties
from ottla.server.raft.snapshot import read_snapshot_file
from ottla.server.raft.voters import Voter

CLUSTER = "4L6g3nShT-eMCtK--X86sw"
DIRECTORIES = ("AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAg")
QUORUM = f"1@one:9093:{DIRECTORIES[0]},2@two:9093:{DIRECTORIES[1]}"
CONTROLLERS = "one:9093,two:9093"
QUORUM_CHECKPOINT = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"


@pytest.fixture
def bootstrap():
    """Nobody is asked."""
    return "127.0.0.1:1"


@pytest.fixture
def node(tmp_path):
    """The options of one node of a cluster."""

    def options(node_id=1, roles="broker,controller", **settings):
        given = {
            "node.id": node_id,
            "process.roles": roles,
            "listeners": {"broker": "PLAINTEXT://:9092", "controller": "CONTROLLER://:9093"}.get(
                roles, "PLAINTEXT://:9092,CONTROLLER://:9093"
            ),
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": CONTROLLERS,
        } | {name.replace("_", "."): value for name, value in settings.items()}
        return ["--data", str(tmp_path), *(f"--set={name}={value}" for name, value in given.items() if value != "")]

    return options


def voters(tmp_path):
    return read_snapshot_file(RealDisk(), str(tmp_path / QUORUM_CHECKPOINT)).voters


def test_controllers_that_begin_together_write_the_same_quorum(ottla, node, tmp_path):
    said = ottla("storage", "format", *node(2), "--cluster-id", CLUSTER, "--initial-controllers", QUORUM)
    assert said.lines == [f"formatted dynamic metadata voter directory {tmp_path}", f"cluster id {CLUSTER}"]
    meta = read_meta_properties(RealDisk(), str(tmp_path / "meta.properties"))
    assert meta == (CLUSTER, 2, uuid_from_text(DIRECTORIES[1]))
    assert voters(tmp_path) == (
        Voter(1, uuid_from_text(DIRECTORIES[0]), (("CONTROLLER", "one", 9093),)),
        Voter(2, uuid_from_text(DIRECTORIES[1]), (("CONTROLLER", "two", 9093),)),
    )
    assert read_snapshot_file(RealDisk(), str(tmp_path / QUORUM_CHECKPOINT)).kraft_version == 1


def test_a_standalone_controller_is_its_own_voter(ottla, node, tmp_path):
    settings = node(1, advertised_listeners="PLAINTEXT://me:9092,CONTROLLER://me:9493")
    ottla("storage", "format", *settings, "--cluster-id", CLUSTER, "--standalone")
    (voter,) = voters(tmp_path)
    assert (voter.voter_id, voter.endpoints) == (1, (("CONTROLLER", "me", 9493),))


def test_a_node_alone_needs_no_options(ottla, tmp_path):
    cluster_id = ottla("storage", "format", "--data", str(tmp_path), "--json").json["cluster_id"]
    assert read_meta_properties(RealDisk(), str(tmp_path / "meta.properties")).cluster_id == cluster_id
    assert len(voters(tmp_path)) == 1


@pytest.mark.parametrize(
    ("roles", "extra", "options"),
    [
        ("broker", {}, ()),
        ("controller", {}, ("--no-initial-controllers",)),
        ("controller", {"controller_quorum_voters": "1@one:9093,2@two:9093"}, ()),
    ],
)
def test_brokers_static_voters_and_who_joins_later_begin_without_a_quorum(ottla, node, tmp_path, roles, extra, options):
    ottla("storage", "format", *node(1, roles, **extra), "--cluster-id", CLUSTER, *options)
    assert (tmp_path / "bootstrap.checkpoint").exists()
    assert not (tmp_path / QUORUM_CHECKPOINT).exists()


@pytest.mark.parametrize(
    ("extra", "options", "expected"),
    [
        ({}, ("--cluster-id", CLUSTER), "say who begins: --initial-controllers"),
        ({}, ("--standalone",), "say which cluster with --cluster-id"),
        ({}, ("--standalone", "--cluster-id", "short"), "'short' is not a cluster id"),
        ({"roles": "broker"}, ("--standalone", "--cluster-id", CLUSTER), "--standalone is for a controller"),
        (
            {"controller_quorum_voters": "1@one:9093,2@two:9093"},
            ("--standalone", "--cluster-id", CLUSTER),
            "controller.quorum.voters already says who begins",
        ),
        ({}, ("--cluster-id", CLUSTER, "--initial-controllers", "1@one"), "No colon following hostname"),
        ({}, ("--cluster-id", CLUSTER, "--standalone", "--feature", "zoo=1"), "Unsupported feature: zoo"),
        ({}, ("--cluster-id", CLUSTER, "--standalone", "--release-version", "9.9"), "Unknown metadata.version '9.9'"),
        ({"listeners": "PLAINTEXT://:9092"}, ("--cluster-id", CLUSTER), "a controller needs a listener of its own"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(ottla, node, extra, options, expected):
    said = ottla("storage", "format", *node(1, **extra), *options, code=1)
    assert said.err.startswith("ottla: error: ")
    assert said.err.count("\n") == 1
    assert expected in said.err


def test_formatted_directories_stay_as_they_are(ottla, node, tmp_path):
    options = ("storage", "format", *node(), "--cluster-id", CLUSTER, "--standalone")
    ottla(*options)
    before = (tmp_path / "meta.properties").read_bytes()
    assert "is already formatted" in ottla(*options, code=1).err
    assert ottla(*options, "--ignore-formatted").out == "all data directories are formatted already\n"
    assert (tmp_path / "meta.properties").read_bytes() == before


def test_info_tells_whose_the_directories_are(ottla, node, tmp_path):
    assert f"{tmp_path} is not formatted" in ottla("storage", "info", *node(), code=1).err
    ottla("storage", "format", *node(), "--cluster-id", CLUSTER, "--standalone")
    (row,) = ottla("storage", "info", *node(), "--json").json
    assert (row["cluster_id"], row["node_id"], row["directory"]) == (CLUSTER, 1, str(tmp_path))


def test_random_ids_are_ids(ottla):
    one, two = (ottla("storage", "random-uuid").out.strip() for _ in range(2))
    assert one != two
    assert len(uuid_from_text(one)) == 16

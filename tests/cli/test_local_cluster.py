"""`ottla start --brokers N`: which nodes there are, and what they are told."""

import json
import socket
from argparse import ArgumentParser

import pytest

from ottla.cli import start
from ottla.cli.errors import CommandError
from ottla.cli.local_cluster.plan import check_free, make_plan, prepare, read_plan
from ottla.cli.start import load_config
from ottla.runtime.real_disk import RealDisk
from ottla.server.log.meta_properties import read_meta_properties
from ottla.server.raft.snapshot import read_snapshot_file

QUORUM_CHECKPOINT = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"


def options_of(*arguments):
    parser = ArgumentParser()
    start.add_arguments(parser)
    return parser.parse_args(arguments)


def begin(root, *arguments):
    options = options_of(*arguments)
    plan = make_plan(str(root), options)
    prepare(plan, options)
    return plan


def configs(plan):
    return [load_config(options_of("--config", plan.properties_file(member)), {}) for member in plan.members]


@pytest.mark.parametrize(("count", "controllers"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_the_first_brokers_are_controllers(tmp_path, count, controllers):
    plan = begin(tmp_path, "--brokers", str(count))
    assert [member.node_id for member in plan.members] == list(range(1, count + 1))
    assert [member.port for member in plan.members] == list(range(9092, 9092 + count))
    assert [member.controller_port for member in plan.controllers] == list(range(19092, 19092 + controllers))
    assert [config.is_controller for config in configs(plan)] == [number < controllers for number in range(count)]


def test_directories_are_formatted_for_one_quorum(tmp_path):
    plan = begin(tmp_path, "--brokers", "4")
    metas = [read_meta_properties(RealDisk(), f"{plan.directory(member)}/meta.properties") for member in plan.members]
    assert {meta.cluster_id for meta in metas} == {plan.cluster_id}
    assert [meta.node_id for meta in metas] == [1, 2, 3, 4]
    quorums = [
        read_snapshot_file(RealDisk(), f"{plan.directory(member)}/{QUORUM_CHECKPOINT}").voters
        for member in plan.controllers
    ]
    assert quorums[0] == quorums[1] == quorums[2]
    assert [voter.directory_id for voter in quorums[0]] == [meta.directory_id for meta in metas[:3]]
    assert not (tmp_path / "broker-4" / QUORUM_CHECKPOINT).exists()


def test_the_settings_are_those_of_a_cluster_that_loses_nothing(tmp_path):
    first, *_, last = configs(begin(tmp_path, "--brokers", "4"))
    assert (first["default.replication.factor"], first["min.insync.replicas"]) == (3, 2)
    assert first["offsets.topic.replication.factor"] == 3
    assert last["process.roles"] == ["broker"]
    assert last["controller.quorum.bootstrap.servers"] == ["127.0.0.1:19092", "127.0.0.1:19093", "127.0.0.1:19094"]
    (small,) = configs(begin(tmp_path / "small", "--brokers", "1"))
    assert (small["default.replication.factor"], small["min.insync.replicas"]) == (1, 1)


def test_racks_are_this_machine_or_what_was_said_in_turn(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    assert [config["broker.rack"] for config in configs(begin(tmp_path / "a", "--brokers", "2"))] == ["here", "here"]
    plan = begin(tmp_path / "b", "--brokers", "3", "--rack", "x,y")
    assert [config["broker.rack"] for config in configs(plan)] == ["x", "y", "x"]


def test_settings_of_a_file_win(tmp_path):
    file = tmp_path / "mine.properties"
    file.write_text("min.insync.replicas=1\nnum.partitions=7\nnode.id=9\n")
    first, second = configs(begin(tmp_path / "data", "--brokers", "2", "--config", str(file)))
    assert (first["min.insync.replicas"], first["num.partitions"]) == (1, 7)
    assert (first.node_id, second.node_id) == (1, 2)


def test_the_next_start_finds_the_cluster_and_may_add_brokers(tmp_path):
    before = begin(tmp_path, "--brokers", "3", "--port", "0")
    again = begin(tmp_path, "--brokers", "3")
    assert again.members == before.members
    more = begin(tmp_path, "--brokers", "5")
    assert more.members[:3] == before.members
    assert [member.controller_port for member in more.members[3:]] == [None, None]
    assert len({member.port for member in more.members}) == 5
    meta = read_meta_properties(RealDisk(), f"{more.directory(more.members[4])}/meta.properties")
    assert (meta.cluster_id, meta.node_id) == (before.cluster_id, 5)


def test_a_format_that_was_interrupted_goes_on_with_the_same_quorum(tmp_path):
    before = begin(tmp_path, "--brokers", "3")
    fields = json.loads((tmp_path / "ottla.cluster").read_text()) | {"has_begun": False}
    (tmp_path / "ottla.cluster").write_text(json.dumps(fields))
    (tmp_path / "broker-2" / "meta.properties").unlink()
    again = begin(tmp_path, "--brokers", "3")
    meta = read_meta_properties(RealDisk(), f"{tmp_path}/broker-2/meta.properties")
    voters = read_snapshot_file(RealDisk(), f"{tmp_path}/broker-1/{QUORUM_CHECKPOINT}").voters
    assert again.members == before.members
    assert meta.directory_id == voters[1].directory_id


def test_a_controller_that_lost_its_data_does_not_get_its_vote_back(tmp_path):
    begin(tmp_path, "--brokers", "3")
    (tmp_path / "broker-2" / QUORUM_CHECKPOINT).unlink()
    (tmp_path / "broker-2" / "meta.properties").unlink()
    begin(tmp_path, "--brokers", "3")
    assert not (tmp_path / "broker-2" / QUORUM_CHECKPOINT).exists()
    voters = read_snapshot_file(RealDisk(), f"{tmp_path}/broker-1/{QUORUM_CHECKPOINT}").voters
    meta = read_meta_properties(RealDisk(), f"{tmp_path}/broker-2/meta.properties")
    assert meta.directory_id != voters[1].directory_id


def test_a_port_that_somebody_has_is_found_before_anything_is_written(tmp_path):
    def refused(*arguments):
        with pytest.raises(CommandError) as refusal:
            check_free(make_plan(str(tmp_path), options_of("--brokers", "3", *arguments)))
        return str(refusal.value)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("--port", str(port))
        assert f"127.0.0.1:{port} is already in use; stop the program that listens there, or choose other" in said
        assert not list(tmp_path.iterdir())
        begin(tmp_path, "--brokers", "3", "--port", str(port))
        assert "this cluster has had its ports since its first start" in refused()
    assert "192.0.2.1 is not an address of this machine; correct --host" in begin_elsewhere(tmp_path / "other")


def begin_elsewhere(root):
    with pytest.raises(CommandError) as refusal:
        check_free(make_plan(str(root), options_of("--brokers", "1", "--host", "192.0.2.1")))
    return str(refusal.value)


def test_what_cannot_be_is_refused(tmp_path):
    def refused(root, *arguments):
        with pytest.raises(CommandError) as refusal:
            make_plan(str(root), options_of(*arguments))
        return str(refusal.value)

    begin(tmp_path / "three", "--brokers", "3")
    assert "has 3 brokers: start it with --brokers 3" in refused(tmp_path / "three", "--brokers", "2")
    assert "has its ports from 9092 on" in refused(tmp_path / "three", "--brokers", "3", "--port", "1234")
    assert "is on 127.0.0.1; leave --host out" in refused(tmp_path / "three", "--brokers", "3", "--host", "::1")
    assert "not as many ports" in refused(tmp_path / "new", "--brokers", "3", "--port", "65534")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "meta.properties").write_text("")
    assert "holds the data of a single broker" in refused(tmp_path / "one", "--brokers", "3")
    (tmp_path / "stray" / "broker-2").mkdir(parents=True)
    assert "holds broker-2, but not ottla.cluster" in refused(tmp_path / "stray", "--brokers", "3")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "ottla.cluster").write_text("{")
    assert "cannot make sense of" in refused(tmp_path / "torn", "--brokers", "3")
    assert read_plan(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--brokers", "3", "--set", "node.id=4"], {}, "--set: with --brokers every broker gets a node.id of its own"),
        (["--brokers", "3"], {"KAFKA_LISTENERS": "PLAINTEXT://:1"}, "KAFKA_LISTENERS: with --brokers every broker"),
        (["--port", "9000"], {}, "--port is for --brokers"),
        (["--brokers", "3", "--log-file", "x"], {}, "--log-file is for --detach"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, monkeypatch, arguments, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CommandError) as refusal:
        start.run(options_of(*arguments, "--data", str(tmp_path)))
    assert expected in str(refusal.value)


def test_a_single_broker_does_not_start_among_a_cluster(tmp_path):
    begin(tmp_path, "--brokers", "3")
    with pytest.raises(CommandError, match="holds a cluster: start it with --brokers"):
        start.run(options_of("--data", str(tmp_path)))

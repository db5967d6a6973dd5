import json

import pytest

from benchmarks.brokers import OttlaOnProperties, free_port
from ottla.cli.errors import CommandError
from ottla.cli.reassignments import Target, parse_moves, plan_json, read_plan
from ottla.core.ids import TopicPartition


@pytest.fixture
def topic(ottla, name):
    ottla("topics", "create", name, "-p", "2")
    return name


@pytest.fixture
def broker(ottla):
    return int(ottla("cluster", "brokers", "-q").out)


def test_list(ottla, topic, broker):
    said = ottla("partitions", "list", topic)
    assert said.lines[1].split() == [f"{topic}-0", str(broker), "0", str(broker), str(broker)]
    found = ottla("partitions", "list", topic, "--leader", str(broker), "--json").json
    assert [one["partition"] for one in found] == [0, 1]
    assert ottla("partitions", "list", topic, "--broker", "77", "--json").json == []
    assert ottla("partitions", "list", topic, "--problems", "-q").out == ""


def test_plans_of_one_broker_move_nothing(ottla, topic, broker, tmp_path):
    file = tmp_path / "plan.json"
    said = ottla("partitions", "plan", topic, "-o", str(file))
    assert said.err == "ottla: nothing has to move\n"
    assert json.loads(file.read_text()) == {"version": 1, "partitions": []}
    assert ottla("partitions", "plan", topic, "--brokers", "77", code=1).err.startswith(
        "ottla: error: broker 77 is not"
    )
    said = ottla("partitions", "plan", topic, "-r", "2", code=1)
    assert said.err == f"ottla: error: {topic}-0 shall have 2 replicas, and there are 1 brokers\n"


def test_reassigning_verifying_cancelling(ottla, topic, broker, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(plan_json({TopicPartition(topic, 0): Target((broker,))}))
    assert ottla("partitions", "reassign", "--plan", str(file), "--dry-run").out == "nothing to move: all are there\n"
    assert ottla("partitions", "reassign", f"{topic}:0={broker}", "--wait").out == "nothing to move: all are there\n"
    verified = ottla("partitions", "verify", "--plan", str(file))
    assert verified.lines[1].split() == [f"{topic}-0", str(broker), str(broker), "done"]
    file.write_text(plan_json({TopicPartition(topic, 0): Target((broker, 77)), TopicPartition(topic, 9): Target((1,))}))
    states = ottla("partitions", "verify", "--plan", str(file), "--json", code=1).json
    assert [one["state"] for one in states] == ["elsewhere", "no such partition"]
    assert ottla("partitions", "moves", "--json").json == []
    assert ottla("partitions", "cancel").out == "nothing is moving\n"


def test_a_throttle_is_four_settings_and_goes_away(ottla, topic, broker):
    assert ottla("partitions", "throttle", "50MB", "--dry-run").out == "nothing is moving\n"
    ottla("partitions", "throttle", "50MB")
    assert "leader.replication.throttled.rate" in ottla("configs", "describe", f"broker/{broker}", "-q").out
    assert ottla("partitions", "throttle", "off").out.startswith("removed the throttle from all brokers")
    assert "throttled" not in ottla("configs", "describe", f"broker/{broker}", "-q").out


def test_electing(ottla, topic):
    assert ottla("partitions", "elect", topic).out == "all have the right leader\n"
    assert ottla("partitions", "elect", f"{topic}:1", "--dry-run", "--json").json["elected"] == []
    assert ottla("partitions", "elect", topic, "--unclean", "--json").json["failed"] == {}


@pytest.fixture
def two_directories(tmp_path):
    """A broker with two data directories."""
    port = free_port()
    properties = tmp_path / "server.properties"
    properties.write_text(
        f"listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={tmp_path}/a,{tmp_path}/b\nhttp.listeners=\n"
    )
    broker = OttlaOnProperties(tmp_path / "broker", properties, tmp_path / "a", port=port)
    broker.start()
    yield broker.bootstrap
    broker.stop()


def test_moving_to_another_directory(ottla, two_directories):
    here = ["-b", two_directories]
    ottla("topics", "create", "moving", "-p", "2", *here)
    before = {
        one["directory"]: [replica["partition"] for replica in one["replicas"]]
        for one in ottla("cluster", "log-dirs", "--json", *here).json
    }
    source = next(path for path, partitions in before.items() if 0 in partitions)
    target = next(path for path in before if path != source)
    move = ["partitions", "move", "moving:0", "--to", target, *here]
    assert ottla(*move, "--dry-run").out == f"would move moving-0 on broker 1: {source} → {target}\n"
    assert ottla(*move, "--wait").out == f"moved moving-0 on broker 1: {source} → {target}\n"
    assert ottla(*move).out == "nothing to move: all are there\n"
    after = {
        one["directory"]: [replica["partition"] for replica in one["replicas"]]
        for one in ottla("cluster", "log-dirs", "--json", *here).json
    }
    assert 0 in after[target]
    wrong = ottla("partitions", "move", "moving:0", "--to", "/nowhere", *here, code=1)
    assert wrong.err.startswith("ottla: error: broker 1 has no directory /nowhere; it has ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reassign"], "say which partitions move where, as orders:0=1,2, or name a --plan"),
        (["reassign", "{}=1"], "'{}=1' is no move; write TOPIC:PARTITION=BROKERS, as orders:0=1,2"),
        (["reassign", "{}:0=a"], "{}:0=a: brokers are numbers, as 1,2,3, not 'a'"),
        (["reassign", "{}:0=1,1"], "{}-0 needs brokers, each of them once, not 1,1"),
        (["reassign", "{}:5=1"], "there is no partition {}-5"),
        (["reassign", "{}:0=1,77"], "{}-0 cannot move to broker 77, which is not up; there are "),
        (["reassign", "{}:0=1", "--throttle", "fast"], "'fast' is no size"),
        (["reassign", "{}:0=1", "--throttle", "0"], "a throttle is at least 1 byte a second"),
        (["verify", "--plan", "/nowhere"], "cannot read the plan /nowhere: no such file or directory"),
        (["move", "{}:0", "--to", "/x", "--broker", "77"], ""),
    ],
)
def test_mistakes(ottla, topic, arguments, message):
    said = ottla("partitions", *(one.format(topic) for one in arguments), code=1)
    assert said.err.startswith(f"ottla: error: {message.format(topic)}")
    assert said.err.count("\n") == 1


def test_plans_are_those_of_kafkas_tool(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text('{"version":1,"partitions":[{"topic":"a","partition":0,"replicas":[1,2],"log_dirs":["any","/d"]}]}')
    plan = read_plan(str(file))
    assert plan == {TopicPartition("a", 0): Target((1, 2), ("any", "/d"))}
    file.write_text(plan_json(plan))
    assert read_plan(str(file)) == plan
    assert parse_moves(["a:0=1,2"]) == {TopicPartition("a", 0): Target((1, 2))}
    for text in ("", "[]", "{}", '{"partitions":[{"topic":"a"}]}', '{"partitions":[{"topic":"a","partition":"x"}]}'):
        file.write_text(text)
        with pytest.raises(CommandError, match="is no plan of `ottla partitions plan`"):
            read_plan(str(file))
    entry = '{"topic":"a","partition":0,"replicas":[1]}'
    file.write_text(f'{{"partitions":[{entry},{entry}]}}')
    with pytest.raises(CommandError, match="names a-0 twice"):
        read_plan(str(file))

import pytest

from ottla import Admin, Producer
from ottla.cli.topics import parse_assignment


@pytest.fixture
def topic(ottla, name):
    ottla("topics", "create", name, "-p", "3", "-c", "retention.ms=1d", "-c", "segment.bytes=64MiB")
    return name


def test_create_translates_what_people_write(ottla, name):
    said = ottla("topics", "create", name, "-p", "2", "-c", "retention.ms=1d")
    assert said.out == f"created {name}: 2 partitions, 1 replica, retention.ms=86400000 (1d)\n"
    again = ottla("topics", "create", name, code=1)
    assert again.err.startswith("ottla: error: TOPIC_ALREADY_EXISTS")
    assert again.err.count("\n") == 1
    assert ottla("topics", "create", name, "--if-not-exists").out == f"{name} exists already\n"
    found = ottla("topics", "describe", name, "--json").json
    assert found[0]["settings"] == {"retention.ms": "86400000"}


def test_a_dry_run_asks_the_broker_and_makes_nothing(ottla, name):
    said = ottla("topics", "create", name, "-p", "2", "--dry-run", "--json").json
    assert (said["dry_run"], said["created"][name]["partitions"]) == (True, 2)
    assert ottla("topics", "list", f"{name}*", "-q").out == ""
    assert f"there is no topic '{name}'" in ottla("topics", "list", name, code=1).err
    refused = ottla("topics", "create", name, "-r", "3", "--dry-run", code=1)
    assert refused.err.startswith("ottla: error: INVALID_REPLICATION_FACTOR")


def test_what_was_made_before_a_failure_is_told(ottla, topic, name):
    said = ottla("topics", "create", f"{name}-2", topic, code=1)
    assert said.err.splitlines()[0] == f"ottla: created: {name}-2"
    assert "TOPIC_ALREADY_EXISTS" in said.err


def test_list_and_patterns(ottla, topic):
    assert topic in ottla("topics", "list").lines
    assert ottla("topics", "ls", topic[:-1] + "?", "-q").out == f"{topic}\n"
    assert ottla("topics", "list", topic, "--json").json[0]["internal"] is False
    long = ottla("topics", "list", topic, "--long", "--json").json
    assert (long[0]["partitions"], long[0]["replicas"], long[0]["records"]) == (3, 1, 0)
    assert ottla("topics", "list", "-l", topic).lines[0].split() == [
        "TOPIC",
        "PARTITIONS",
        "REPLICAS",
        "RECORDS",
        "SIZE",
        "PROBLEMS",
    ]


def test_describe_shows_leaders_offsets_sizes_settings_and_lag(ottla, topic, bootstrap):
    with Producer(bootstrap) as producer:
        for _ in range(5):
            producer.send(topic, b"x" * 100, partition=1)
    with Admin(bootstrap) as admin:
        admin.alter_consumer_group_offsets(f"{topic}-group", {(topic, 1): 2})
    said = ottla("topics", "describe", topic, "--groups")
    assert f"{topic}: 3 partitions, 5 records" in said.out
    assert "  retention.ms = 86400000 (1d)" in said.lines
    assert "  segment.bytes = 67108864 (64 MiB)" in said.lines
    assert "cleanup.policy" not in said.out
    row = next(line.split() for line in said.lines if line.split()[:1] == ["1"])
    assert (row[2], row[3], row[4], row[5]) == (row[1], row[1], "0", "5")
    assert said.lines[-1].split() == [f"{topic}-group", "1", "2", "3"]
    found = ottla("topics", "describe", topic, "-g", "--json").json[0]
    assert found["groups"] == [{"group_id": f"{topic}-group", "partition": 1, "committed": 2, "lag": 3}]
    assert found["partitions"][1]["end_offset"] == 5
    assert found["partitions"][1]["size_bytes"] > 100
    everything = ottla("topics", "describe", topic, "-a")
    assert "  cleanup.policy = delete" in everything.lines
    assert ottla("topics", "describe", topic, "--problems", "--json").json[0]["partitions"] == []


def test_alter(ottla, topic):
    change = ["topics", "alter", topic, "-p", "5", "-c", "retention.ms=2d", "-d", "segment.bytes"]
    changes = "partitions 3 → 5, retention.ms 86400000 (1d) → 172800000 (2d), segment.bytes 67108864 (64 MiB) → default"
    assert ottla(*change, "--dry-run").out == f"would change {topic}: {changes}\n"
    assert ottla(*change).out == f"changed {topic}: {changes}\n"
    found = ottla("topics", "describe", topic, "--json").json[0]
    assert found["settings"] == {"retention.ms": "172800000"}
    assert len(found["partitions"]) == 5
    refused = ottla("topics", "alter", topic, "-c", "retention.ms=soon", "--dry-run", code=1)
    assert refused.err.startswith("ottla: error: INVALID_CONFIG")


def test_delete_wants_consent(ottla, topic):
    assert "Say --yes" in ottla("topics", "delete", topic, code=1).err
    assert ottla("topics", "delete", topic, "--dry-run").out == f"would delete {topic}\n"
    assert ottla("topics", "delete", topic[:-2] + "*", "--yes").out == f"deleted {topic}\n"
    assert ottla("topics", "delete", topic, "--if-exists", "-y").out == "nothing to delete\n"
    assert ottla("topics", "delete", topic, "-y", code=1).err.startswith(f"ottla: error: there is no topic '{topic}'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alter", "x"], "nothing to change: name settings with -c and -d, or the number of partitions with -p"),
        (["alter", "x", "-c", "a=1", "--assign", "1"], "--assign is for the partitions that -p adds"),
        (["create", "x", "--assign", "1", "-p", "3"], "--assign says how many partitions and replicas there are; "),
        (["create", "x", "-c", "retention.ms"], "-c takes KEY=VALUE, not 'retention.ms'"),
        (["create", "x", "--assign", "a"], "--assign takes brokers of each partition, as '1,2;2,3'"),
        (["describe", "no-such-*"], "no topic matches 'no-such-*'; `ottla topics list` shows them"),
        (["describe", "no-such"], "UNKNOWN_TOPIC_OR_PARTITION: no-such: "),
    ],
)
def test_mistakes(ottla, arguments, message):
    assert ottla("topics", *arguments, code=1).err.startswith(f"ottla: error: {message}")


def test_wrong_actions_are_wrong_usage(ottla):
    said = ottla("topics", "lsit", code=2)
    assert said.err == "ottla: error: unknown action 'lsit'; did you mean list? (see `ottla topics --help`)\n"


def test_assignments():
    assert parse_assignment("1,2;2,3") == [[1, 2], [2, 3]]

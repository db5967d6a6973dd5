"""`ottla groups`, `share-groups` and `transactions` with a broker."""

import json
import time

import pytest

import ottla as client
from ottla.client.model import TopicPartition
from tests.compatibility.command_line import ottla as ottla


@pytest.fixture
def group(ottla, name):
    """A group that has read all ten records of a topic of its own in two partitions."""
    ottla.topic(name, 2)
    for partition in "01":
        ottla("produce", name, "-p", partition, *"abcde")
    with client.Admin(ottla.bootstrap) as admin:
        admin.alter_consumer_group_offsets(name, {TopicPartition(name, 0): 5, TopicPartition(name, 1): 3})
    return name


def offsets(ottla, group, command="groups"):
    [described] = ottla(command, "describe", group, "--json").json
    return {(one["topic"], one["partition"]): one["offset"] for one in described["offsets"]}


def described_lag(ottla, group):
    """Apache Kafka does not move the start of a share group for every record, but knows how many are done with."""
    return ottla("share-groups", "describe", group, "--json").json[0]["lag"]


def test_list_and_describe(ottla, group):
    assert [group, "classic", "Empty"] in [line.split() for line in ottla("groups", "list").lines]
    [row] = [row for row in ottla("groups", "list", "--json", "-l", f"{group[:-2]}*").json if row["group_id"] == group]
    assert row == {
        "group_id": group,
        "type": "classic",
        "state": "Empty",
        "members": 0,
        "partitions": 2,
        "lag": 2,
    }
    assert ottla("groups", "list", group, "--state", "stable", "--json").json == []
    lines = ottla("groups", "describe", group).lines
    assert lines[0].startswith(f"{group}: Empty, consumer group (classic protocol), 0 members, lag 2, coordinator ")
    assert [line.split() for line in lines[2:]] == [
        [group, "0", "5", "5", "0", "-"],
        [group, "1", "3", "5", "2", "-"],
    ]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_are_shown_and_protect_their_offsets(ottla, group, protocol):
    settings = {"group.protocol": protocol, "client.id": "cart"}
    with client.Consumer(ottla.bootstrap, settings, group_id=group, topics=[group]) as consumer:
        consumer.poll(10)
        [described] = ottla("groups", "describe", group, "--json").json
        assert described["state"] == "Stable"
        assert [member["client_id"] for member in described["members"]] == ["cart"]
        assert {one["member_id"] for one in described["offsets"]} == {described["members"][0]["member_id"]}
        assert "cart" in ottla("groups", "describe", group, "-m").out
        said = ottla("groups", "reset", group, "--to", "earliest", "-y", code=1)
        assert "has 1 member, who would not notice; stop them first" in said.err
        said = ottla("groups", "delete", group, "-y", code=1)
        assert "NON_EMPTY_GROUP" in said.err


@pytest.mark.parametrize(
    ("where", "after"),
    [
        (["--to", "earliest"], (0, 0)),
        (["--to", "latest"], (5, 5)),
        (["--to", "current"], (5, 3)),
        (["--to", "4"], (4, 4)),
        (["--to", "400"], (5, 5)),
        (["--shift", "-2"], (3, 1)),
        (["--shift", "1"], (5, 4)),
        (["--to-time", "1h"], (0, 0)),
        (["--to-time", "2040-01-01"], (5, 5)),
        (["--to", "1", "-t", "{}:1"], (5, 1)),
    ],
)
def test_reset(ottla, group, where, after):
    where = [one.format(group) for one in where]
    dry = ottla("groups", "reset", group, *where, "--dry-run", "--json").json
    assert offsets(ottla, group) == {(group, 0): 5, (group, 1): 3}
    plan = {row["partition"]: (row["before"], row["after"]) for row in dry}
    assert all(plan[partition] == ((5, 3)[partition], after[partition]) for partition in plan)
    said = ottla("groups", "reset", group, *where, code=1)
    assert "Say --yes" in said.err
    ottla("groups", "reset", group, *where, "--yes")
    assert offsets(ottla, group) == {(group, 0): after[0], (group, 1): after[1]}


def test_reset_from_files(ottla, group, tmp_path):
    file = tmp_path / "offsets"
    file.write_text(f"{group},0,2\n{group},1,1\n")
    lines = ottla("groups", "reset", group, "--from-file", str(file), "-y").lines
    assert [line.split() for line in lines[1:]] == [[group, "0", "5", "2", "3"], [group, "1", "3", "1", "4"]]
    assert offsets(ottla, group) == {(group, 0): 2, (group, 1): 1}
    file.write_text(json.dumps([{"topic": group, "partition": 0, "offset": 4}]))
    ottla("groups", "reset", group, "--from-file", str(file), "-y")
    assert offsets(ottla, group) == {(group, 0): 4, (group, 1): 1}
    file.write_text(ottla("groups", "reset", group, "--to", "earliest", "--dry-run", "--json").out)
    ottla("groups", "reset", group, "--from-file", str(file), "-y")
    assert offsets(ottla, group) == {(group, 0): 0, (group, 1): 0}


def test_a_group_can_be_prepared_before_it_exists(ottla, group):
    new = f"{group}-new"
    said = ottla("groups", "reset", new, "--to", "latest", "-y", code=1)
    assert "has no offsets; say which with --topic" in said.err
    ottla("groups", "reset", new, "--to", "latest", "-t", group, "-y")
    assert offsets(ottla, new) == {(group, 0): 5, (group, 1): 5}


def test_delete_offsets_and_groups(ottla, group):
    assert ottla("groups", "delete-offsets", group, "-t", f"{group}:0", "--dry-run").out == (
        f"would forget {group}-0 (5)\n"
    )
    ottla("groups", "delete-offsets", group, "-t", f"{group}:0", "-y")
    assert offsets(ottla, group) == {(group, 1): 3}
    assert "Say --yes" in ottla("groups", "delete", group, code=1).err
    assert ottla("groups", "delete", f"{group}*", "--dry-run").out == f"would delete {group}\n"
    assert ottla("groups", "delete", f"{group}*", "-y").out == f"deleted {group}\n"
    assert "GROUP_ID_NOT_FOUND" in ottla("groups", "describe", group, code=1).err


def test_members_are_kicked(ottla, group):
    with client.Consumer(ottla.bootstrap, group_id=group, topics=[group], client_id="cart") as consumer:
        consumer.poll(10)
        [described] = ottla("groups", "describe", group, "--json").json
        member_id = described["members"][0]["member_id"]
        assert ottla("groups", "kick", group, "cart", "--dry-run").out == f"would remove {member_id}\n"
        assert "has no member 'van'" in ottla("groups", "kick", group, "van", code=1).err
        assert ottla("groups", "kick", group, "--all", "--json").json[0]["member_id"] == member_id
        [described] = ottla("groups", "describe", group, "--json").json
        assert member_id not in [member["member_id"] for member in described["members"]]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["reset", "g", "--to", "middle", "-t", "{}"], "'middle' is no place to move to"),
        (["reset", "g", "--shift", "1", "-t", "{}"], "nothing is committed for {}-0"),
        (["reset", "g", "--from-file", "/nowhere"], "cannot read the file of --from-file, /nowhere"),
        (["list", "--state", "asleep"], "groups have no state 'asleep'"),
        (["describe", "no-such-*"], "no consumer group matches 'no-such-*'"),
        (["kick", "{}"], "say which members to remove, or --all"),
        (["delete-offsets", "{}-none", "-t", "{}", "-y"], "has no offsets there"),
    ],
)
def test_mistakes_are_one_line(ottla, group, arguments, reason):
    said = ottla("groups", *(one.format(group) for one in arguments), code=1)
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("ottla: error: ")
    assert reason.format(group) in line


def test_share_groups(ottla, name):
    ottla.topic(name)
    ottla("produce", name, *"abcde")
    with client.Admin(ottla.bootstrap) as admin:
        admin.set_config(client.admin.ConfigResource.group(name), {"share.auto.offset.reset": "earliest"})
    with client.ShareConsumer(ottla.bootstrap, group_id=name, topics=[name], client_id="worker") as worker:
        count = 0
        while count < 5:
            count += len(worker.poll(20))
        worker.commit()
        [described] = ottla("share-groups", "describe", name, "--json").json
        assert [member["client_id"] for member in described["members"]] == ["worker"]
        assert [name, "share", "Stable"] in [line.split() for line in ottla("share-groups", "list").lines]
        assert name not in ottla("groups", "list").out
    deadline = time.monotonic() + 20
    while (lag := described_lag(ottla, name)) != 0 and time.monotonic() < deadline:
        pass  # that records are done with is written soon after it was said
    assert lag == 0
    ottla("share-groups", "reset", name, "--to", "2", "-y")
    assert offsets(ottla, name, "share-groups") == {(name, 0): 2}
    ottla("share-groups", "delete-offsets", name, "-t", name, "-y")
    assert offsets(ottla, name, "share-groups") == {}
    assert ottla("share-groups", "delete", name, "-y").out == f"deleted {name}\n"
    assert ottla("share-groups", "list", name, "--json").json == []


def test_transactions(ottla, name):
    ottla.topic(name)
    with client.Producer(ottla.bootstrap, transactional_id=name) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(name, "open")
        producer.flush()
        assert [row["state"] for row in ottla("transactions", "list", name, "--json").json] == ["Ongoing"]
        [described] = ottla("transactions", "describe", name, "--json").json
        assert described["partitions"] == [{"topic": name, "partition": 0}]
        [row] = ottla("transactions", "producers", name, "--json").json
        assert row["current_transaction_start_offset"] == 0
        # Old enough, but its coordinator knows of it.
        assert "no transaction hangs" in ottla("transactions", "find-hanging", name, "--longer-than", "0ms").out
        assert ottla("transactions", "list", name, "--longer-than", "1h", "--json").json == []
        assert "Say --yes" in ottla("transactions", "abort", name, code=1).err
        assert "would lock out" in ottla("transactions", "abort", name, "--dry-run").out
        ottla("transactions", "abort", name, "-y")
        assert ottla("consume", name, "--isolation-level", "read_committed").out == ""
        with pytest.raises(client.KafkaError):
            producer.commit_transaction()
    assert "transactions have no state 'open'" in ottla("transactions", "list", "--state", "open", code=1).err
    assert "waits for no such transaction" in (
        ottla("transactions", "abort", "-t", name, "-p", "0", "--start-offset", "0", "-y", code=1).err
    )


def test_a_transaction_in_a_partition_is_aborted_behind_its_coordinators_back(ottla, name):
    ottla.topic(name)
    with client.Producer(ottla.bootstrap, transactional_id=name) as producer:
        producer.begin_transaction()
        producer.send(name, "open")
        producer.flush()
        where = ["-t", name, "-p", "0", "--start-offset", "0"]
        assert "would abort the transaction of producer" in ottla("transactions", "abort", *where, "--dry-run").out
        ottla("transactions", "abort", *where, "-y")
        [row] = ottla("transactions", "producers", name, "--json").json
        assert row["current_transaction_start_offset"] is None
        ottla("transactions", "abort", name, "-y")
        with pytest.raises(client.KafkaError):
            producer.commit_transaction()

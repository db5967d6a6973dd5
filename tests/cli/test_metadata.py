import shutil

import pytest

from ottla.cli.errors import CommandError
from ottla.cli.metadata import parse_endpoint


@pytest.fixture
def directory(ottla, name, tmp_path):
    """A copy of a live node's metadata log: what was made is in it, and nobody is disturbed."""
    ottla("topics", "create", name, "-p", "2", "-c", "retention.ms=1d")
    (found,) = ottla("cluster", "log-dirs", "--json").json
    shutil.copytree(f"{found['directory']}/__cluster_metadata-0", tmp_path / "data" / "__cluster_metadata-0")
    return str(tmp_path / "data")


def test_the_quorum(ottla):
    said = ottla("metadata", "quorum", "--json").json
    (voter,) = said["replicas"]
    assert (voter["id"], voter["role"], voter["lag"]) == (said["leader_id"], "leader", 0)
    assert said["high_watermark"] <= voter["log_end_offset"]
    shown = ottla("metadata", "status")
    assert shown.lines[0].startswith(f"leader {said['leader_id']}, epoch {said['leader_epoch']}, committed up to ")
    (row,) = ottla("metadata", "voters", "--json").json
    assert row["directory_id"] == voter["directory_id"]
    assert ottla("metadata", "voters").lines[1].split()[-1] == "yes"


def test_changing_voters(ottla):
    voter = ottla("metadata", "voters", "--json").json[0]
    change = [str(voter["id"]), voter["directory_id"]]
    assert "Remove voter" in ottla("metadata", "remove-voter", *change, code=1).err
    assert ottla("metadata", "remove-voter", *change, "--dry-run").out == f"would remove voter {voter['id']}\n"
    adding = ["metadata", "add-voter", "77", voter["directory_id"], "CONTROLLER://localhost:9093"]
    assert ottla(*adding, "--dry-run").out == "would add voter 77\n"
    refused = ottla(*adding, code=1)  # a quorum of one
    assert refused.err.startswith("ottla: error: ")
    assert refused.err.count("\n") == 1
    assert ottla("metadata", "add-voter", "77", "xyz", "C://a:1", code=1).err.startswith("ottla: error: 'xyz' is no ")


def test_endpoints():
    assert parse_endpoint("CONTROLLER://[::1]:9093") == ("CONTROLLER", "::1", 9093)
    for text in ("host:9093", "C://host", "://h:1", "C://:1"):
        with pytest.raises(CommandError, match="is no endpoint"):
            parse_endpoint(text)


def test_what_the_log_says(ottla, directory, name):
    found = ottla("metadata", "log", directory, "--json").json
    assert [one["offset"] for one in found] == list(range(found[0]["offset"], found[-1]["offset"] + 1))
    (topic,) = [one for one in found if one["type"] == "TopicRecord" and one["record"]["name"] == name]
    configs = ottla("metadata", "log", directory, "-t", "ConfigRecord", "--from", str(topic["offset"]), "--json").json
    assert configs[0]["record"] == {
        "resourceType": 2,
        "resourceName": name,
        "name": "retention.ms",
        "value": "86400000",
    }
    line = ottla("metadata", "log", directory, "--from", str(topic["offset"]), "--to", str(topic["offset"] + 1)).lines
    assert len(line) == 2
    assert f"name={name}" in line[1]
    assert ottla("metadata", "log", directory, "--snapshot", "--json").json[0]["type"] == "SnapshotHeaderRecord"


def test_what_it_amounts_to(ottla, directory, name):
    said = ottla("metadata", "show", directory, f"topics/{name}", "--json").json
    assert list(said["partitions"]) == ["0", "1"]
    live = ottla("topics", "describe", name, "--json").json[0]
    assert said["id"] == live["topic_id"]
    assert said["partitions"]["1"]["replicas"] == live["partitions"][1]["replicas"]
    shown = ottla("metadata", "show", directory)
    assert f"  {name}:" in shown.lines
    assert ottla("metadata", "show", directory, f"configs/topic:{name}").out == "retention.ms: 86400000\n"
    wrong = ottla("metadata", "show", directory, "topics/xyz", code=1)
    assert wrong.err.startswith("ottla: error: topics has no 'xyz'")


def test_secrets_of_the_log_are_hidden():
    from ottla.cli.metadata_files import Entry
    from ottla.protocol.messages.metadata_records import ConfigRecord, UserScramCredentialRecord

    scram = UserScramCredentialRecord(name="alice", mechanism=1, salt=b"s", stored_key=b"k", server_key=b"v")
    assert {Entry(0, 0, 0, scram, 0, False).fields()[name] for name in ("salt", "storedKey", "serverKey")} == {
        "[hidden]"
    }
    config = ConfigRecord(resource_type=4, resource_name="1", name="ssl.keystore.password", value="geheim")
    assert Entry(0, 0, 0, config, 0, False).fields()["value"] == "[hidden]"


def test_mistakes_and_damage(ottla, directory, tmp_path):
    assert "no such file or directory; name the data directory" in ottla("metadata", "log", "/nowhere", code=1).err
    assert "has no metadata log" in ottla("metadata", "log", str(tmp_path), code=1).err
    wrong = ottla("metadata", "log", directory, "-t", "TopcRecord", code=1)
    assert wrong.err == "ottla: error: there is no record type 'TopcRecord'; did you mean TopicRecord?\n"
    (segment,) = (tmp_path / "data" / "__cluster_metadata-0").glob("*.log")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 0xFF
    segment.write_bytes(content)
    said = ottla("metadata", "show", directory, code=1)
    assert f"{segment} is damaged: " in said.err
    assert said.err.count("\n") == 1

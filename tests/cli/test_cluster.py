import pytest

from ottla.cli.errors import CommandError
from ottla.cli.features import parse_level
from ottla.cli.kafka.feature_versions import METADATA_VERSIONS


def test_the_cluster(ottla, bootstrap):
    said = ottla("cluster", "describe", "--json").json
    assert [f"{one['host']}:{one['port']}" for one in said["brokers"]] == [bootstrap]
    assert said["partitions_without_leader"] == said["partitions_out_of_sync"] == []
    assert ottla("cluster", "id").out == said["cluster_id"] + "\n"
    assert ottla("cluster", "id", "--json").json == {"cluster_id": said["cluster_id"]}
    shown = ottla("cluster", "describe")
    assert shown.lines[0] == f"cluster id        {said['cluster_id']}"
    assert "4.3-IV0 (level 30)" in shown.out
    assert bootstrap in ottla("cluster", "brokers", "--all").out


def test_log_directories(ottla, name):
    ottla("topics", "create", name)
    (directory,) = ottla("cluster", "log-dirs", "--json").json
    assert directory["usable_bytes"] > 0
    assert {"topic": name, "partition": 0, "size_bytes": 0, "offset_lag": 0, "is_future": False} in directory[
        "replicas"
    ]
    assert ottla("cluster", "log-dirs").lines[1].split()[1] == directory["directory"]
    assert any(f"{name}-0" in line for line in ottla("cluster", "log-dirs", "--long").lines)
    assert ottla("cluster", "log-dirs", "77", code=1).err.startswith("ottla: error: ")


def test_forgetting_a_broker_wants_consent(ottla):
    assert "Forget broker 77" in ottla("cluster", "unregister", "77", code=1).err
    assert ottla("cluster", "unregister", "77", "--dry-run").out == "would unregister broker 77\n"
    assert ottla("cluster", "unregister", "77", "-y", code=1).err.startswith("ottla: error: ")


def test_features(ottla):
    found = {one["feature"]: one for one in ottla("features", "list", "--json").json}
    assert found["metadata.version"]["release"] in METADATA_VERSIONS.values()
    assert found["group.version"]["level"] == 1
    assert "metadata.version" in ottla("features", "list", "-q").lines
    said = ottla("features", "upgrade", "metadata.version=31", "--dry-run")
    assert said.out == f"would change metadata.version: {found['metadata.version']['level']} → 31\n"
    assert "metadata.version" in ottla("features", "upgrade", "--latest", "--dry-run", "--json").json["changed"]
    assert ottla("features", "upgrade", "metadata.version=99", "--dry-run", code=1).err.startswith("ottla: error: ")
    assert "Lower group.version to 0?" in ottla("features", "downgrade", "group.version=0", code=1).err
    assert ottla("features", "list", "--json").json[1] == found["group.version"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which features, as metadata.version=4.3, or --latest"),
        (["group.versoin=1"], "the brokers know no feature 'group.versoin'; did you mean group.version?"),
        (["group.version=new"], "a level of group.version is a number, not 'new'"),
        (["group.version"], "a feature takes KEY=VALUE, not 'group.version'"),
    ],
)
def test_mistakes(ottla, arguments, message):
    assert ottla("features", "upgrade", *arguments, code=1).err == f"ottla: error: {message}\n"


def test_levels_by_release():
    assert METADATA_VERSIONS[30] == "4.3-IV0"
    assert [parse_level("metadata.version", text) for text in ("30", "4.3-IV0", "4.2", "4.0", "3.9", "3.3")] == [
        30,
        30,
        29,
        25,
        21,
        7,
    ]
    with pytest.raises(CommandError, match=r"there is no metadata\.version '5\.0'"):
        parse_level("metadata.version", "5.0")

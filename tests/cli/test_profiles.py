import io
import os
from pathlib import Path

import pytest

from ottla.cli.profiles import config_path


@pytest.fixture
def live(ottla, monkeypatch):
    monkeypatch.delenv("OTTLA_BOOTSTRAP_SERVERS")
    monkeypatch.setattr("sys.stdin", io.StringIO("geheim\n"))
    ottla("profiles", "add", "live", "-b", "live:9093", "-X", "security.protocol=SASL_PLAINTEXT")
    ottla(
        "profiles", "add", "live", "-X", "sasl.mechanism=PLAIN", "-X", "sasl.username=alice", "--ask", "sasl.password"
    )
    return "live"


def test_passwords_are_kept_and_never_shown(ottla, live):
    assert 'sasl.password" = "geheim"' in Path(config_path()).read_text()
    assert os.stat(config_path()).st_mode & 0o077 == 0
    for arguments in (["show", "live"], ["show"], ["list"], ["show", "live", "--json"], ["list", "--json"]):
        said = ottla("profiles", *arguments)
        assert "geheim" not in said.out + said.err
    assert ["sasl.password", "[hidden]"] in [line.split() for line in ottla("profiles", "show").lines]


def test_add_use_list_remove(ottla, live, bootstrap):
    assert ottla("profiles", "add", "test", "-b", bootstrap, "--use").out == "added profile test, in use from now on\n"
    assert [line.split() for line in ottla("profiles", "list").lines[1:]] == [
        ["live", "-", "live:9093", "SASL_PLAINTEXT"],
        ["test", "in", "use", bootstrap, "PLAINTEXT"],
    ]
    assert ottla("cluster", "id").out
    ottla("profiles", "use", "live")
    assert ottla("profiles", "list", "--json").json[0]["in_use"] is True
    assert ottla("cluster", "id", "--profile", "test").out
    assert ottla("profiles", "use", "--none").out == "no profile is in use\n"
    assert "Say --yes" in ottla("profiles", "remove", "test", code=1).err
    assert ottla("profiles", "rm", "test", "-y").out == "removed profile test\n"
    assert ottla("profiles", "list", "-q").out == "live\n"


def test_a_properties_file_becomes_a_profile(ottla, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text("bootstrap.servers=a:1\nlinger.ms=5\n")
    ottla("profiles", "add", "one", "--command-config", str(file))
    assert ottla("profiles", "show", "one", "--json").json["settings"] == {"bootstrap.servers": "a:1", "linger.ms": "5"}
    ottla("profiles", "add", "one", "-b", "b:2", "--replace")
    assert ottla("profiles", "show", "one", "--json").json["settings"] == {"bootstrap.servers": "b:2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "x"], "which cluster? Name its brokers with -b HOST:PORT"),
        (["add", "x", "-b", "a:1", "-X", "sasl.usernam=alice"], "sasl.usernam"),
        (["add", "x", "-b", "a:1", "--ask", "sasl.password"], "sasl.password is empty; nothing was changed"),
        (["show"], "no profile is in use"),
        (["show", "x"], "there is no profile 'x'"),
        (["use"], "name the profile to use, or say --none"),
        (["use", "x"], "there is no profile 'x'"),
        (["remove", "x"], "there is no profile 'x'"),
    ],
)
def test_mistakes(ottla, arguments, message, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    said = ottla("profiles", *arguments, code=1)
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not Path(config_path()).exists()

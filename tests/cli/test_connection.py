import logging
from argparse import ArgumentParser
from pathlib import Path

import pytest

from ottla.cli import connection
from ottla.cli.connection import add_connection_arguments, client_settings, connection_settings, tell_warnings
from ottla.cli.errors import CommandError
from ottla.cli.profiles import Profiles, config_path, is_secret, toml_text
from ottla.client.settings import AdminSettings, ProducerSettings

CONFIG = """\
use = "test"

[profiles.test]
bootstrap.servers = "test:9092"

[profiles.live]
"bootstrap.servers" = "live-1:9093,live-2:9093"
security.protocol = "SASL_SSL"
sasl.password = "geheim"
retries = 3
enable.metrics.push = false
"""


def options(*arguments):
    parser = ArgumentParser()
    add_connection_arguments(parser)
    return parser.parse_args(arguments)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("OTTLA_BOOTSTRAP_SERVERS", "OTTLA_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def profiles(home):
    (home / "ottla").mkdir()
    (home / "ottla" / "config.toml").write_text(CONFIG)


def test_nothing_said_is_the_local_broker(home):
    assert connection_settings(options()) == {"bootstrap.servers": "127.0.0.1:9092"}


def test_the_environment_names_servers(home, monkeypatch):
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", "there:1")
    assert connection_settings(options()) == {"bootstrap.servers": "there:1"}
    assert connection_settings(options("-b", "here:2")) == {"bootstrap.servers": "here:2"}


def test_a_profile_in_use_is_for_who_names_no_servers(profiles, monkeypatch):
    assert connection_settings(options()) == {"bootstrap.servers": "test:9092"}
    assert connection_settings(options("-b", "here:2")) == {"bootstrap.servers": "here:2"}
    monkeypatch.setenv("OTTLA_PROFILE", "live")
    assert connection_settings(options()) == {
        "bootstrap.servers": "live-1:9093,live-2:9093",
        "security.protocol": "SASL_SSL",
        "sasl.password": "geheim",
        "retries": "3",
        "enable.metrics.push": "false",
    }
    # A password is for the cluster of its profile alone.
    assert connection_settings(options("-b", "elsewhere:1")) == {"bootstrap.servers": "elsewhere:1"}
    monkeypatch.delenv("OTTLA_PROFILE")
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", "there:1")
    assert connection_settings(options()) == {"bootstrap.servers": "there:1"}


def test_what_is_said_wins_over_the_profile_that_is_named(profiles):
    found = connection_settings(options("--profile", "live", "-b", "here:2", "-X", "retries=7"))
    assert (found["bootstrap.servers"], found["retries"], found["sasl.password"]) == ("here:2", "7", "geheim")


def test_a_client_properties_file_of_kafka(home, tmp_path):
    file = tmp_path / "client.properties"
    file.write_text(
        "# of Kafka\nbootstrap.servers=a:1,b:2\nsecurity.protocol = SASL_PLAINTEXT\nsasl.mechanism: PLAIN\n"
        'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\\n  username="alice" '
        'password="geheim";\nlinger.ms=5\n'
    )
    found = connection_settings(options("--command-config", str(file), "-X", "client.id=me"))
    assert found["bootstrap.servers"] == "a:1,b:2"
    assert found["sasl.jaas.config"].endswith('required username="alice" password="geheim";')
    assert found["client.id"] == "me"
    # A file is for all kinds of clients; each takes what it has.
    assert "linger.ms" not in client_settings(options("--command-config", str(file)), AdminSettings)
    assert client_settings(options("--command-config", str(file)), ProducerSettings)["linger.ms"] == "5"
    settings = AdminSettings.of(None, client_settings(options("--command-config", str(file)), AdminSettings), {})
    assert settings.security_protocol == "SASL_PLAINTEXT"


def test_controllers_instead_of_brokers(home):
    assert connection_settings(options("-X", "bootstrap.controllers=c:9")) == {"bootstrap.controllers": "c:9"}


def test_a_timeout_in_seconds(home):
    assert connection_settings(options("--timeout", "2.5"))["default.api.timeout.ms"] == "2500"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--command-config", "/nowhere/x"], "cannot read the file of --command-config, /nowhere/x: no such file"),
        (["-X", "retries"], "-X takes KEY=VALUE, not 'retries'"),
        (["--profile", "liev"], "there is no profile 'liev'; did you mean live?"),
        (["--profile", "zzz"], "there is no profile 'zzz'; `ottla profiles list` shows them"),
    ],
)
def test_mistakes_are_one_line(profiles, arguments, message):
    with pytest.raises(CommandError, match="^" + message.replace("(", "\\(")):
        connection_settings(options(*arguments))


def test_a_damaged_config_says_where(home):
    (home / "ottla").mkdir()
    (home / "ottla" / "config.toml").write_text("use = \n")
    with pytest.raises(CommandError, match=r"config\.toml is not valid TOML: .*line 1"):
        connection_settings(options())
    (home / "ottla" / "config.toml").write_text("profiles = 3\n")
    with pytest.raises(CommandError, match="profiles must be tables"):
        connection_settings(options())


def test_an_unknown_setting_is_told_by_the_client(home):
    with pytest.raises(ValueError, match=r"retires"):
        connection.open_admin(options("-X", "retires=1"))


@pytest.mark.parametrize("is_final", [False, True])
def test_a_refused_login_is_told_once(is_final, monkeypatch, capsys):
    """The command ends with it, and says it as its error."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    tell_warnings()
    logging.getLogger("ottla.client").warning("%s", "what happened", extra={"is_final": True} if is_final else {})
    assert capsys.readouterr().err == ("" if is_final else "ottla: what happened\n")


def test_the_file_is_written_as_it_was_read_and_only_for_its_owner(home):
    profiles = Profiles.load()
    profiles.profiles["a.b c"] = {"bootstrap.servers": 'x"\\\n\x7f\x01ü', "retries": "3"}
    profiles.in_use = "a.b c"
    profiles.save()
    path = Path(config_path())
    assert path.stat().st_mode & 0o777 == 0o600
    again = Profiles.load()
    assert again.profiles == profiles.profiles
    assert again.in_use == "a.b c"
    assert again.get("a.b c")["bootstrap.servers"] == 'x"\\\n\x7f\x01ü'
    again.in_use = None
    again.save()
    assert Profiles.load().in_use is None
    assert [file.name for file in path.parent.iterdir()] == ["config.toml"]


def test_what_others_wrote_into_the_file_stays():
    import tomllib

    text = 'use = "x"\nnumbers = [1, 2.5]\nwhen = 2026-01-31T08:15:00Z\n\n[profiles.x]\nempty = ""\n'
    text += "\n[other.a]\nb = {c = true}\n"
    content = tomllib.loads(text)
    assert tomllib.loads(toml_text(content)) == content


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.password", "sasl.jaas.config", "ssl.keystore.key"])
def test_secrets(name):
    assert is_secret(name)
    assert not is_secret("sasl.username")

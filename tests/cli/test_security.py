"""`ottla security`: what is made, that nothing is overwritten, what a check finds (logging in: tests/docs)."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.schema.config import BrokerConfig
from ottla.security.authority import summary

SECRET = ("authority.key", "node.pem", "server.properties", "admin.properties", "admin.librdkafka.properties")


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.fixture
def made(ottla, tmp_path):
    directory = tmp_path / "secure"
    said = ottla("security", "init", str(directory), "--port", "19092", "--host", "kafka.example.org")
    return directory, said


def test_secrets_are_their_owners_alone(made):
    directory, _ = made
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    for name in SECRET:
        assert stat.S_IMODE(os.stat(directory / name).st_mode) == 0o600, name
    assert b"PRIVATE" not in (directory / "authority.pem").read_bytes()
    assert not [path for path in directory.iterdir() if path.name.startswith(".")]


def test_the_settings_are_those_of_a_broker(made):
    directory, said = made
    config = BrokerConfig.load(properties=(directory / "server.properties").read_text(), environment={})
    assert [str(one) for one in config.listeners] == ["SASL_SSL://:19092"]
    assert [str(one) for one in config.advertised_listeners] == ["SASL_SSL://kafka.example.org:19092"]
    assert config["super.users"] == "User:admin"
    assert config.without_effect() == []
    assert {"kafka.example.org", "localhost", "127.0.0.1"} <= set(summary((directory / "node.pem").read_text()).hosts)
    assert "bootstrap.servers=kafka.example.org:19092" in said.out


def test_a_second_time_changes_nothing_and_force_makes_certificates_anew(made, ottla):
    directory, _ = made
    before = contents(directory)
    said = ottla("security", "init", str(directory))
    assert said.lines[0] == f"all of {directory} is there already; nothing was changed"
    assert contents(directory) == before
    missing = ottla("security", "init", str(directory), "--host", "other.example.org", code=1)
    assert "the node's certificate is not for other.example.org, but for kafka.example.org" in missing.err
    ottla("security", "init", str(directory), "--force")
    after = contents(directory)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"authority.key", "authority.pem", "node.pem", "truststore.p12"}


def test_a_new_certificate_is_by_the_same_authority(made, ottla):
    directory, _ = made
    before = contents(directory)
    said = ottla("security", "renew", str(directory), "--days", "100", "--json").json
    assert "kafka.example.org" in said["hosts"]
    assert {name for name, content in contents(directory).items() if content != before[name]} == {"node.pem"}
    assert ottla("security", "check", str(directory)).out.startswith("all is well")
    ottla("security", "renew", str(directory), "--host", "new.example.org", "--days", "7")
    assert "new.example.org" in summary((directory / "node.pem").read_text()).hosts
    assert "node.pem ends on" in ottla("security", "check", str(directory), code=1).err


def test_a_check_finds_what_is_wrong(made, ottla, tmp_path):
    directory, _ = made
    os.chmod(directory / "authority.key", 0o640)
    assert "others can read it: chmod 600" in ottla("security", "check", str(directory), code=1).err
    os.chmod(directory / "authority.key", 0o600)
    ottla("security", "init", str(tmp_path / "other"))
    (directory / "authority.pem").write_bytes((tmp_path / "other" / "authority.pem").read_bytes())
    problems = ottla("security", "check", str(directory), "--json", code=1).json["problems"]
    assert len(problems) == 2
    (directory / "node.pem").unlink()
    assert "node.pem is missing" in ottla("security", "check", str(directory), code=1).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init", "/dev/null/x"], "cannot make /dev/null/x: not a directory"),
        (["init", "{}", "--admin", "a,b"], "'a,b' is no name for an administrator"),
        (["init", "{}", "--password-file", "/nowhere"], "cannot read the file of --password-file"),
        (["init", "{}", "--host", "a b"], "'a b' is neither the name nor the address of a host"),
        (["renew", "{}"], "cannot read "),
    ],
)
def test_mistakes(ottla, tmp_path, arguments, message):
    said = ottla("security", *(one.format(tmp_path / "s") for one in arguments), code=1)
    assert message in said.err
    assert said.err.count("\n") == 1


def test_an_administrator_with_a_password_of_ones_own(ottla, tmp_path):
    (tmp_path / "password").write_text('quite "long", and odd\\\n')
    said = ottla("security", "init", str(tmp_path / "s"), "--admin", "root", "-p", str(tmp_path / "password"), "--json")
    assert said.json["librdkafka"]["sasl.password"] == 'quite "long", and odd\\'
    assert said.json["librdkafka"]["sasl.username"] == "root"
    assert said.json["java"]["ssl.truststore.type"] == "PKCS12"


def test_data_without_an_administrator_are_left_alone(made, ottla):
    directory, _ = made
    (directory / "admin.properties").unlink()
    assert "which says who administers it, is gone" in ottla("security", "init", str(directory), code=1).err


def test_a_start_makes_what_it_needs_and_finds_it_again(ottla, tmp_path):
    directory = tmp_path / "secure"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    for arguments in (("--port", port), ()):
        command = [sys.executable, "-m", "ottla", "start", "--secure", str(directory), "--set", "http.listeners="]
        with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
            try:
                lines = [process.stdout.readline() for _ in range(2 if arguments else 1)]
                assert f"kafka on 127.0.0.1:{port}" in lines[-1]
                config = str(directory / "admin.properties")
                assert ottla("users", "list", "-q", "--command-config", config).lines == ["admin"]
                ottla("topics", "create", f"by-{len(arguments)}", "--command-config", config)
            finally:
                process.terminate()
    assert ottla("start", "--secure", str(directory), "--port", "1", code=1).err.startswith("ottla: error: ")


def test_a_cluster_is_secured_and_stays_so(ottla, tmp_path):
    directory = tmp_path / "secure"
    command = [sys.executable, "-m", "ottla", "start", "--secure", str(directory), "--brokers", "3", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert "3 brokers" in process.stdout.readline()
            config = ("--command-config", str(directory / "admin.properties"))
            ottla("topics", "create", "orders", "-p", "3", "-r", "3", *config)
            ottla("produce", "orders", "-a", "all", "a table", *config)
            assert ottla("consume", "orders", *config).out == "a table\n"
            ottla("tokens", "create", *config)
            assert ottla("users", "list", "-q", *config).lines == ["admin", "ottla-nodes"]
        finally:
            process.terminate()
    for path in directory.rglob("*.properties"):
        if path.name != "meta.properties":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    opened = ottla("start", "--brokers", "3", "--data", str(directory / "data"), code=1)
    assert f"is secured: start it with --secure {directory}" in opened.err


def test_data_is_its_owners_alone_wherever_it_is(ottla, tmp_path):
    directory = tmp_path / "there already"
    directory.mkdir(mode=0o755)
    ottla("security", "init", str(directory))
    assert stat.S_IMODE((directory / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_secret_is_put_where_others_can_change_it(ottla, tmp_path, is_link):
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    if is_link:
        (tmp_path / "link").symlink_to(directory)
    said = ottla("security", "init", str(tmp_path / "link" if is_link else directory), code=1)
    assert "others can change what is in" in said.err
    assert list(directory.iterdir()) == []


def test_a_link_in_the_place_of_a_secret_is_replaced_not_followed(ottla, tmp_path):
    directory = tmp_path / "secure"
    directory.mkdir(mode=0o700)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("of somebody else")
    (directory / "node.pem").symlink_to(tmp_path / "nowhere")
    (directory / "admin.librdkafka.properties").symlink_to(elsewhere)
    ottla("security", "init", str(directory))
    assert elsewhere.read_text() == "of somebody else"
    assert not (tmp_path / "nowhere").exists()
    for name in SECRET:
        assert not (directory / name).is_symlink()
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600

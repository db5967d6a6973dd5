"""`ottla acls`, `ottla users`, `ottla quotas` on our broker; with an authorizer: test_users.py, and
tests/compatibility/test_cli.py."""

import io

import pytest

from ottla.cli.acls import bindings, parse_resource, resource_text
from ottla.cli.errors import CommandError


def test_quotas(ottla, name):
    said = ottla("quotas", "set", "-u", name, "producer_byte_rate=1MiB", "request_percentage=50%")
    assert said.out == (
        f"changed user {name}: producer_byte_rate (none) → 1048576 (1 MiB), request_percentage (none) → 50\n"
    )
    found = ottla("quotas", "list", "-u", name, "--json").json
    assert found == [
        {"entity": {"user": name}, "quotas": {"producer_byte_rate": 1048576.0, "request_percentage": 50.0}}
    ]
    assert ottla("quotas", "list", "-u", name).lines[1].split() == ["user", name, "producer_byte_rate", "1048576"] + [
        "1",
        "MiB",
    ]
    ottla("quotas", "set", "-u", name, "producer_byte_rate=2MiB", "--dry-run")
    assert ottla("quotas", "list", "-u", name, "--json").json == found
    assert ottla("quotas", "unset", "-u", name).out.startswith(f"changed user {name}: producer_byte_rate 1048576 ")
    assert ottla("quotas", "list", "-u", name, "--json").json == []


def test_quotas_of_users_with_client_ids_and_of_everybody_else(ottla, name):
    ottla("quotas", "set", "-u", name, "-c", "default", "consumer_byte_rate=1000")
    found = ottla("quotas", "list", "-u", name, "-c", "*", "--json").json
    assert found[0]["entity"] == {"user": name, "client-id": None}
    ottla("quotas", "unset", "-u", name, "-c", "default", "consumer_byte_rate")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quotas", "set", "producer_byte_rate=1"], "whose quotas? Name a --user, a --client-id, both, or an --ip"),
        (["quotas", "set", "-u", "*", "producer_byte_rate=1"], "'*' is for looking"),
        (["quotas", "set", "-u", "a", "produce_byte_rate=1"], "there is no quota 'produce_byte_rate'; did you mean "),
        (["quotas", "set", "-u", "a", "request_percentage=x"], "request_percentage takes a number"),
        (["quotas", "unset", "-u", "nobody-has-this"], "user nobody-has-this has no quotas"),
        (["acls", "remove"], "which rules? Name a RESOURCE"),
        (["acls", "allow", "alice", "raed", "topic/x"], "there is no operation 'raed'; did you mean read?"),
        (["acls", "allow", "alice", "produce", "group/x"], "'produce' is for topic and transactional-id, not for "),
        (["acls", "allow", "alice", "read", "topic"], "which topic? Write topic/NAME"),
        (["acls", "allow", "alice", "read", "tpoic/x"], "'tpoic/x' is no resource; did you mean topic?"),
    ],
)
def test_mistakes(ottla, arguments, message):
    assert ottla(*arguments, code=1).err.startswith(f"ottla: error: {message}")


def test_a_broker_without_authorizer_says_so_in_one_line(ottla):
    for arguments in (["list"], ["allow", "alice", "read", "topic/x"], ["remove", "topic/x", "-y"]):
        said = ottla("acls", *arguments, code=1)
        assert said.err.startswith(("ottla: error: UNSUPPORTED_VERSION: ", "ottla: error: SECURITY_DISABLED: "))
        assert said.err.count("\n") == 1


def test_rules_as_sentences():
    made = bindings("alice", "produce", ["topic/orders-*"], allowed=True)
    assert [str(one) for one in made] == [
        f"ALLOW User:alice from * {operation} on PREFIXED TOPIC orders-"
        for operation in ("WRITE", "DESCRIBE", "CREATE")
    ]
    assert [resource_text(one) for one in made] == ["topic/orders-*"] * 3
    denied = bindings("Group:ops", "alter,delete", ["cluster", "topic/*"], allowed=False, host="10.0.0.1")
    assert [str(one) for one in denied] == [
        "DENY Group:ops from 10.0.0.1 ALTER on LITERAL CLUSTER kafka-cluster",
        "DENY Group:ops from 10.0.0.1 DELETE on LITERAL CLUSTER kafka-cluster",
        "DENY Group:ops from 10.0.0.1 ALTER on LITERAL TOPIC *",
        "DENY Group:ops from 10.0.0.1 DELETE on LITERAL TOPIC *",
    ]
    with pytest.raises(CommandError, match="which topic"):
        parse_resource("topic/")


def test_passwords_that_are_none(ottla, name, tmp_path, monkeypatch):
    empty = tmp_path / "password"
    empty.write_text("\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for arguments, message in (
        (["-p", str(empty)], "the password is empty; nothing was changed"),
        (["-p", str(tmp_path / "nowhere")], "cannot read the file of --password-file"),
        ([], "no terminal to ask for the password on; say --password-file FILE (- to pipe it in), or --generate"),
    ):
        assert ottla("users", "set", name, *arguments, code=1).err.startswith(f"ottla: error: {message}")

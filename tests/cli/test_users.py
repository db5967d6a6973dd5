"""`ottla users` on a broker with an authorizer: credentials, roles as rules, what a client gets to log in with."""

from __future__ import annotations

import os
import stat

import pytest

from ottla.cli.client_properties import librdkafka_of, properties_text, scram_settings
from ottla.cli.errors import CommandError
from ottla.cli.roles import ROLES, roles_of, rules_of
from ottla.schema.properties import parse_properties
from ottla.security.jaas import parse_jaas

AUTHORIZED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


@pytest.fixture
def users(ottla, make_broker, monkeypatch):
    """Runs `ottla users` against a broker with an authorizer, whose super user asks."""
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", make_broker(AUTHORIZED).bootstrap)

    def run(*arguments, code=0, command="users"):
        return ottla(command, *arguments, code=code)

    return run


def test_a_user_from_the_first_day_to_the_last(users, tmp_path):
    file = tmp_path / "password"
    file.write_text("geheim\n")
    config = tmp_path / "client.properties"
    role = ("--role", "writer", "--topics", "orders-*,bills")
    said = users("create", "alice", "-p", str(file), *role, "-o", str(config))
    assert said.lines == [
        "made alice (SCRAM-SHA-512)",
        "alice may write topic/orders-*",
        "alice may describe topic/orders-*",
        "alice may create topic/orders-*",
        "alice may write topic/bills",
        "alice may describe topic/bills",
        "alice may create topic/bills",
        f"settings for its clients: {config}",
    ]
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o600
    assert 'username="alice" password="geheim"' in config.read_text()
    assert users("create", "alice", "-p", str(file), code=1).err.startswith("ottla: error: alice is there already")

    users("grant", "alice", "-r", "consumer", "--topics", "returns", "--groups", "billing")
    assert users("list", "--json").json == [
        {
            "user": "alice",
            "mechanism": "SCRAM-SHA-512",
            "iterations": 4096,
            "roles": {
                "consumer": {"topic": ["returns"], "group": ["billing"]},
                "writer": {"topic": ["bills", "orders-*"]},
            },
        }
    ]
    assert "consumer (topic returns; group billing), writer (topic bills, orders-*)" in users("list").out
    users("set", "-u", "alice", "producer_byte_rate=1000", command="quotas")
    shown = users("show", "alice").out
    for text in ("SCRAM-SHA-512 (4096 iterations)", "write topic/orders-*", "producer_byte_rate=1000 (user alice)"):
        assert text in shown

    dry = users("revoke", "alice", "-r", "writer", "--topics", "bills", "--dry-run").lines
    assert "alice would no longer be allowed to write topic/bills" in dry
    users("revoke", "alice", "-r", "writer", "--topics", "bills")
    users("revoke", "alice", "-r", "consumer")
    assert users("show", "alice", "--json").json["roles"] == {"writer": {"topic": ["orders-*"]}}
    assert users("revoke", "alice", "-r", "consumer", code=1).err.startswith("ottla: error: alice has no such role")

    generated = users("passwd", "alice", "--generate", "-m", "SCRAM-SHA-256", "--json").json
    assert len(generated["password"]) == 24
    nobody = users("passwd", "nobody", "--generate", code=1).err
    assert nobody == "ottla: error: nobody has no password to change; `ottla users create` gives one\n"
    assert "has no such credential" in users("delete", "nobody", "-y", code=1).err
    assert "Say --yes" in users("delete", "alice", code=1).err
    said = users("delete", "alice", "-y")
    assert said.out == "deleted SCRAM-SHA-256 of alice, SCRAM-SHA-512 of alice, 3 rules\n"
    assert users("list", "--json").json == []
    assert users("list", "--json", command="acls").json == []
    assert users("show", "nobody", code=1).err.startswith("ottla: error: nothing is known of nobody")


def test_who_deletes_a_user_hears_of_the_ways_in_that_are_left(users, monkeypatch):
    users("create", "alice", "--generate")
    tokens = {("User:alice",): ["one", "two"]}
    monkeypatch.setattr("ottla.Admin.describe_delegation_token", lambda admin, owners: tokens[tuple(owners)])
    assert "2 delegation tokens of User:alice can still be logged in with" in users("delete", "alice", "-y").err


def test_a_generated_password_is_shown_once_with_what_a_client_needs(users):
    made = users("create", "bob", "--generate", "--json").json
    assert made["rules"] == []
    assert parse_jaas(made["settings"]["sasl.jaas.config"]).options == {
        "username": "bob",
        "password": made["password"],
    }
    dry = users("create", "carol", "--generate", "--role", "monitor", "--dry-run")
    assert dry.lines[0] == "would make carol (SCRAM-SHA-512)"
    assert users("list", "-q").lines == ["bob"]


def test_a_broker_without_authorizer_takes_users_but_no_roles(ottla, name):
    said = ottla("users", "create", name, "--generate", "-r", "reader", "--topics", "t", code=1)
    assert said.err.startswith(("ottla: error: SECURITY_DISABLED", "ottla: error: UNSUPPORTED_VERSION"))
    assert said.err.count("\n") == 1
    ottla("users", "create", name, "--generate")
    assert ottla("users", "list", name, "--json").json[0]["roles"] is None
    assert ottla("users", "delete", name, "-y").out == f"deleted SCRAM-SHA-512 of {name}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "x", "--topics", "t", "-g"], "names of topics or groups are for a --role"),
        (["create", "x", "-r", "raeder", "-g"], "there is no role 'raeder'; did you mean reader?"),
        (["create", "x", "-r", "reader", "-g"], "a reader of which topics? Say --topics NAME"),
        (["grant", "x", "-r", "consumer", "--topics", "t"], "a consumer of which groups? Say --groups NAME"),
        (["grant", "x", "-r", "reader", "--topics", "t", "--transactional-ids", "a"], "the role reader has nothing"),
        (["revoke", "x", "-r", "writer", "--groups", "g"], "the role writer has nothing to do with groups"),
    ],
)
def test_mistakes(users, arguments, message):
    assert users(*arguments, code=1).err.startswith(f"ottla: error: {message}")


def test_the_table_of_roles_is_printed(ottla):
    assert [one["role"] for one in ottla("users", "roles", "--json").json] == list(ROLES)
    assert ottla("users", "roles").lines[1].startswith("reader")


@pytest.mark.parametrize("role", ROLES)
def test_the_rules_of_a_role_are_that_role(role):
    names = {
        grant.resource: ("a-*", "b")
        for grant in ROLES[role].grants
        if grant.resource != "cluster" and not grant.by_default
    }
    found = roles_of(rules_of("User:x", role, names))
    shown = "consumer" if role == "reader" else role  # reading in groups is what a consumer does
    assert shown in found
    assert {kind: sorted(values) for kind, values in names.items()}.items() <= found[shown].items()


def test_denials_and_rules_for_one_host_give_nobody_a_role():
    rules = rules_of("User:x", "reader", {"topic": ("t",)}, host="10.0.0.1")
    assert roles_of(rules) == {}


def test_roles_need_names():
    with pytest.raises(CommandError, match="a writer of which topics"):
        rules_of("User:x", "writer", {})


@pytest.mark.parametrize("password", ["plain", 'with "quotes"', "back\\slash", "equals=comma,semicolon;"])
def test_settings_survive_the_file_whatever_the_password_is(password):
    base = {"bootstrap.servers": "h:1", "security.protocol": "SSL", "ssl.truststore.location": "/ca.pem"}
    settings = scram_settings(base, "al,ice", password, "SCRAM-SHA-256")
    assert settings["security.protocol"] == "SASL_SSL"
    read = {entry.name: entry.value for entry in parse_properties(properties_text(settings), "f")}
    assert read == settings
    assert parse_jaas(read["sasl.jaas.config"]).options == {"username": "al,ice", "password": password}
    rdkafka = librdkafka_of(settings)
    assert (rdkafka["sasl.username"], rdkafka["sasl.password"]) == ("al,ice", password)
    assert rdkafka["ssl.ca.location"] == "/ca.pem"


def test_a_token_is_a_password_of_its_own():
    settings = scram_settings({"bootstrap.servers": "h:1"}, "id", "hmac", "SCRAM-SHA-512", token=True)
    assert parse_jaas(settings["sasl.jaas.config"]).options["tokenauth"] == "true"
    assert settings["security.protocol"] == "SASL_PLAINTEXT"

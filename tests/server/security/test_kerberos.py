"""Kerberos: short names, and the conversation after the tickets. Real tickets are in tests/compatibility."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from ottla.security.errors import SecurityConfigError
from ottla.server.security.sasl.gssapi import GssapiService, open_service
from ottla.server.security.sasl.kerberos_names import NoRuleError, ShortNames
from ottla.server.security.sasl.mechanism import AuthenticationError
from tests.server.security.identities import NOW_MS, surroundings

REALM = "EXAMPLE.COM"


def short(principal, *rules):
    return ShortNames(rules or ["DEFAULT"], REALM).of(principal)


@pytest.mark.parametrize(
    ("rules", "principal", "expected"),
    [
        (["DEFAULT"], "alice@EXAMPLE.COM", "alice"),
        (["DEFAULT"], "kafka/host.example.com@EXAMPLE.COM", "kafka"),
        (["RULE:[1:$1]"], "alice@OTHER.COM", "alice"),
        (["RULE:[1:$1](App\\..*)s/App\\.(.*)/$1/g", "DEFAULT"], "App.service-name@EXAMPLE.COM", "service-name"),
        (["RULE:[1:$1@$0](.*@OTHER.COM)s/@.*//", "DEFAULT"], "bob@OTHER.COM", "bob"),
        (["RULE:[1:$1@$0](.*@OTHER.COM)s/@.*//", "DEFAULT"], "bob@EXAMPLE.COM", "bob"),
        (["RULE:[2:$1;$2](^.*;admin$)s/;admin$//"], "carol/admin@ANY", "carol"),
        (["RULE:[2:$1-$2]"], "kafka/host@ANY", "kafka-host"),
        (["RULE:[1:$1]/L"], "ALICE@ANY", "alice"),
        (["RULE:[1:$1]/U"], "alice@ANY", "ALICE"),
        (["RULE:[1:$1]s/a/A/"], "anna@ANY", "Anna"),
        (["RULE:[1:$1]s/a/A/g"], "anna@ANY", "AnnA"),
        (["RULE:[1:$1](.*)s/(.+)/$1_kerberos/g/L"], "Anna@ANY", "anna_kerberos"),
        (["RULE:[1:$1]s/n/\\\\/"], "anna@ANY", "a\\na"),
    ],
)
def test_the_first_rule_that_applies_gives_the_name(rules, principal, expected):
    assert short(principal, *rules) == expected


@pytest.mark.parametrize(
    ("rules", "principal"),
    [
        (["DEFAULT"], "alice@OTHER.COM"),
        (["RULE:[2:$1]"], "alice@EXAMPLE.COM"),
        (["RULE:[1:$1](bob)"], "bobby@EXAMPLE.COM"),
        (["RULE:[1:$1@$0]"], "alice@EXAMPLE.COM"),
        (["RULE:[1:$1]s/.*//"], "alice@EXAMPLE.COM"),
        (["DEFAULT"], "alice"),
        (["DEFAULT"], "a/b/c@EXAMPLE.COM"),
        (["DEFAULT"], "@EXAMPLE.COM"),
        (["DEFAULT"], "alice@EXAMPLE.COM@EXAMPLE.COM"),
        (["DEFAULT"], "al\nice@EXAMPLE.COM"),
    ],
)
def test_who_has_no_name_is_nobody(rules, principal):
    with pytest.raises(NoRuleError):
        short(principal, *rules)


@pytest.mark.parametrize(
    "rule",
    ["", "default", "RULE:[1:$1", "RULE:[x:$1]", "RULE:[1:$2]", "RULE:[1:$]", "RULE:[1:$1](()", "RULE:[1:$1]s/(/x/"]
    + ["RULE:[1:$1]s/a/$1/", "RULE:[1:$1] DEFAULT", "RULE:[1:$1]/X"],
)
def test_a_rule_that_cannot_be_read_is_told(rule):
    with pytest.raises(SecurityConfigError, match=r"sasl\.kerberos\.principal\.to\.local\.rules"):
        ShortNames([rule], REALM)


# The conversation


class Context:
    """A context that is complete after the tokens it is given; what it wraps is marked."""

    initiator_name = f"alice@{REALM}"
    lifetime = 600

    def __init__(self, *tokens):
        self.tokens = list(tokens)

    @property
    def complete(self):
        return not self.tokens

    def step(self, token):
        if token == b"bad":
            raise GSSError("no key for it\nat all")
        return self.tokens.pop(0)

    def wrap(self, data, confidential):
        assert not confidential
        return SimpleNamespace(message=b"wrapped" + data)

    def unwrap(self, data):
        if not data.startswith(b"wrapped"):
            raise GSSError("not wrapped")
        return SimpleNamespace(message=data.removeprefix(b"wrapped"))


class GSSError(Exception):
    pass


def exchange(context, rules=("DEFAULT",)):
    library = SimpleNamespace(
        exceptions=SimpleNamespace(GSSError=GSSError), SecurityContext=lambda creds, usage: context
    )
    service = GssapiService(surroundings("GSSAPI"), library, object(), ShortNames(rules, REALM))
    return service.begin("127.0.0.1")


def talk(machine, *messages):
    async def run():
        return [await machine.respond(message) for message in messages]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("tokens", "messages"),
    [
        ([b"token"], [b"first", b""]),
        ([b"token", b"second"], [b"first", b"next", b""]),
        ([None], [b"first"]),
    ],
)
def test_a_ticket_opens_a_session_that_ends_with_it(tokens, messages):
    *steps, offer, last = talk(exchange(Context(*tokens)), *messages, b"wrapped\1\0\0\0admin@EXAMPLE.COM")
    assert [step.answer for step in steps] == [token for token in tokens if token]
    assert offer[:2] == (b"wrapped\1\0\0\0", None)
    assert last.answer == b""
    assert last.session.principal == "User:alice", "whatever else it asks to be"
    assert last.session.expires_ms == NOW_MS + 600_000


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([b"bad"], "Kerberos: no key for it at all"),
        ([b"first", b"not empty"], "goes on although"),
        ([b"first", b"", b"\1\0\0\0"], "not wrapped"),
        ([b"first", b"", b"wrapped\4\0\0\0"], "security layer"),
        ([b"first", b"", b"wrapped"], "security layer"),
        ([b"x" * 100_000], "too long"),
    ],
)
def test_who_does_not_keep_to_the_form_is_refused_without_a_word(messages, reason):
    with pytest.raises(AuthenticationError) as caught:
        talk(exchange(Context(b"token")), *messages)
    assert reason in caught.value.reason
    assert str(caught.value) == ""


def test_a_principal_without_a_name_is_refused():
    with pytest.raises(AuthenticationError) as caught:
        talk(exchange(Context(None), ["RULE:[2:$1]"]), b"first", b"wrapped\1\0\0\0")
    assert f"alice@{REALM} has no name here" in caught.value.reason


@pytest.mark.parametrize(
    ("jaas", "text"),
    [
        (None, "needs sasl.jaas.config: com.sun"),
        (None, "Without Kerberos, set sasl.enabled.mechanisms"),
        ("PlainLoginModule required;", "has a PlainLoginModule"),
        ("Krb5LoginModule required useTicketCache=true;", "has no keyTab"),
        ('Krb5LoginModule required keyTab="/no/such/file";', "/no/such/file is not there"),
        ('Krb5LoginModule required keyTab="/dev/null" principal="http/host@X";', "service.name is kafka"),
    ],
)
def test_settings_that_cannot_be_used_are_told(jaas, text):
    settings = {} if jaas is None else {"sasl_jaas_config": jaas}
    with pytest.raises(SecurityConfigError, match=text) as caught:
        open_service(surroundings("GSSAPI", sasl_kerberos_service_name="kafka", **settings))
    assert "\n" not in str(caught.value)

"""JAAS configurations as Java reads them, and who the client is in the end."""

import pytest

from ottla.client.errors import ConfigError
from ottla.client.security.credentials import Kerberos, UserAndPassword, kerberos, user_and_password
from ottla.client.security.jaas import JaasEntry, parse_jaas
from ottla.client.settings import AdminSettings

PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
KERBEROS = "com.sun.security.auth.module.Krb5LoginModule"


def settings(mechanism, jaas=None, **more):
    return AdminSettings.of(
        "a",
        None,
        {"security_protocol": "SASL_SSL", "sasl_mechanism": mechanism, "sasl_jaas_config": jaas, **more},
    )


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f'{PLAIN} required username="a" password="b";', {"username": "a", "password": "b"}),
        (f"{PLAIN}\n  REQUIRED\n  username='a b'\n  password=c ;", {"username": "a b", "password": "c"}),
        (f'{PLAIN} required password="a\\"b;c=d\\\\e";', {"password": 'a"b;c=d\\e'}),
        (f'{PLAIN} required a = "1" /* no */ b=2 // neither\n # nor this\n c="3";', {"a": "1", "b": "2", "c": "3"}),
        (f'{PLAIN} required a="";', {"a": ""}),
        (f'{PLAIN} required a=";" b="=";', {"a": ";", "b": "="}),
        (f"{PLAIN} required;", {}),
    ],
)
def test_jaas_is_read_as_java_reads_it(text, options):
    assert parse_jaas(text) == JaasEntry("PlainLoginModule", options)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must begin with a login module"),
        ("username=a password=geheim;", "must begin with a login module"),
        (f"{PLAIN} required username=a", "must end with a semicolon"),
        (f'{PLAIN} required username="a;', "a quote is not closed"),
        (f"{PLAIN} required username;", "after 'username' must come = and a value"),
        (f"{PLAIN} required username=;", "after 'username' must come = and a value"),
        (f"{PLAIN} required a=b; {PLAIN} required c=d;", "one login module only"),
        (f'{PLAIN} required "geheim" "geheim";', "an option is malformed"),
    ],
)
def test_what_is_no_jaas(text, reason):
    with pytest.raises(ConfigError) as caught:
        parse_jaas(text)
    assert reason in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert 'PlainLoginModule required username="…"' in str(caught.value)


def test_user_and_password():
    assert user_and_password(settings("PLAIN", f'{PLAIN} required username="u" password="p";')) == ("u", "p", False)
    by_name = settings("SCRAM-SHA-512", sasl_username="u", sasl_password="p")
    assert user_and_password(by_name) == UserAndPassword("u", "p")
    token = settings("SCRAM-SHA-256", f'{SCRAM} required username="id" password="hmac" tokenauth="true";')
    assert user_and_password(token) == ("id", "hmac", True)
    assert "geheim" not in repr(UserAndPassword("u", "geheim"))


def test_kerberos():
    assert kerberos(settings("GSSAPI")) == Kerberos("kafka", None, None)
    text = f'{KERBEROS} required useKeyTab=true keyTab="/k" principal="me@R" serviceName="mq";'
    assert kerberos(settings("GSSAPI", text)) == Kerberos("mq", "me@R", "/k")
    by_name = settings("GSSAPI", sasl_kerberos_keytab="/k", sasl_kerberos_principal="me")
    assert kerberos(by_name) == Kerberos("kafka", "me", "/k")
    with pytest.raises(ConfigError, match="Leave one out"):
        kerberos(settings("GSSAPI", text, sasl_kerberos_service_name="kafka"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (settings("PLAIN"), "set sasl.username and sasl.password"),
        (settings("PLAIN", f"{PLAIN} required username=u;"), "sasl.jaas.config has no password"),
        (settings("PLAIN", f"{SCRAM} required username=u password=p;"), "which needs a PlainLoginModule"),
        (settings("SCRAM-SHA-1"), "it takes one of PLAIN, SCRAM-SHA-256"),
    ],
)
def test_credentials_that_are_missing(given, reason):
    with pytest.raises(ConfigError) as caught:
        user_and_password(given)
    assert reason in str(caught.value)

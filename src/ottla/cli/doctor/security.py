"""What of a configuration lets in who does not belong, or lets others read along."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ottla.cli.doctor.findings import Finding, Severity, Subject, is_open
from ottla.schema.definition import Password
from ottla.schema.listeners import Listener

_CRITICAL, _WARNING, _NOTICE = Severity.CRITICAL, Severity.WARNING, Severity.NOTICE

OLD_PROTOCOLS = frozenset(("SSLv2", "SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1"))
WEAK_CIPHERS = re.compile(r"RC4|3DES|DES-CBC|_DES_|NULL|ANON|ADH|AECDH|EXPORT|MD5|CBC_SHA$", re.IGNORECASE)
COMMON_PASSWORDS = frozenset(
    ("", "admin", "admin-secret", "alice-secret", "broker", "changeit", "changeme", "kafka", "kafka-secret", "letmein",
     "ottla", "password", "secret", "test", "test1234", "123456", "12345678")
)  # fmt: skip
"""Examples of documentation, and what is tried first."""
SHORTEST_PASSWORD = 8
SHORTEST_TOKEN_SECRET = 16
MANY_SUPER_USERS = 3
_NO_LIMIT = 2**31 - 1
_TRUST = ("ssl.truststore.location", "ssl.truststore.certificates")
_USER = re.compile(r'\buser_([^\s=]+)\s*=\s*"((?:[^"\\]|\\.)*)"')
_LOGIN = re.compile(r'\busername\s*=\s*"([^"]*)".*?\bpassword\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)


def look(subject: Subject) -> Iterator[Finding]:
    """All checks."""
    for listener in subject.listeners:
        yield from _listener(subject, listener)
    yield from _settings_of_nobody(subject)
    yield from _authorization(subject)
    yield from _secrets(subject)
    yield from _around(subject)


# Listeners


def _listener(subject: Subject, listener: Listener) -> Iterator[Finding]:
    name, address = listener.name, f"{listener.name} ({listener.address})"
    open_to_others = is_open(listener.host)
    if open_to_others and listener.protocol == "PLAINTEXT":
        yield Finding(
            _CRITICAL,
            "listener-plain",
            address,
            "listens to other machines without encryption and without logins",
            "whoever reaches it is User:ANONYMOUS, and whoever is on the way reads and changes everything",
            f"listener.security.protocol.map={name}:SASL_SSL, or listen on 127.0.0.1",
        )
    if listener.protocol.startswith("SASL"):
        yield from _logins(subject, listener, address, open_to_others)
    if listener.protocol.endswith("SSL"):
        yield from _tls(subject, listener, address)
    if listener.protocol == "SSL":
        yield from _client_certificates(subject, listener, address, open_to_others)


def _settings_of_nobody(subject: Subject) -> Iterator[Finding]:
    known = {listener.name.lower() for listener in subject.listeners}
    known |= {each.lower() for each in subject.value("controller.listener.names") or ()}  # brokers call these
    known |= {each.lower() for each in (subject.value("inter.broker.listener.name"),) if each}
    for name in subject.names:
        listener = name.removeprefix("listener.name.").partition(".")[0]
        if name.startswith("listener.name.") and listener not in known:
            yield Finding(
                _WARNING, "listener-unknown", name, f"there is no listener {listener.upper()}",
                "the setting does nothing", f"listener.name.<{'|'.join(sorted(known))}>.…, in lower case",
            )  # fmt: skip


def _logins(subject: Subject, listener: Listener, address: str, open_to_others: bool) -> Iterator[Finding]:
    mechanisms = [each.upper() for each in subject.value("sasl.enabled.mechanisms", listener.name) or ()]
    if listener.protocol == "SASL_PLAINTEXT" and open_to_others:
        readable = [each for each in mechanisms if each in ("PLAIN", "OAUTHBEARER")]
        yield Finding(
            _CRITICAL if readable else _WARNING,
            "login-in-clear" if readable else "listener-unencrypted",
            address,
            f"{' and '.join(readable)} without TLS" if readable else "logins without TLS",
            "passwords and tokens can be read on the way"
            if readable
            else "records can be read on the way, and changed",
            f"listener.security.protocol.map={listener.name}:SASL_SSL",
        )
    if "OAUTHBEARER" in mechanisms:
        yield from _tokens(subject, listener, address)
    if "PLAIN" in mechanisms:
        for url in subject.value("ldap.url") or ():
            if url.lower().startswith("ldap:") and not subject.value("ldap.start.tls"):
                yield Finding(
                    _CRITICAL, "ldap-in-clear", "ldap.url", f"{url} is asked without TLS",
                    "each user's password goes to the directory in clear", "ldap.start.tls=true, or an ldaps: address",
                )  # fmt: skip


def _tokens(subject: Subject, listener: Listener, address: str) -> Iterator[Finding]:
    handler = str(subject.value("sasl.server.callback.handler.class", listener.name) or "")
    keys = subject.value("sasl.oauthbearer.jwks.endpoint.url", listener.name)
    if "Unsecured" in handler or not keys:
        yield Finding(
            _CRITICAL, "oauthbearer-unsecured", address, "OAUTHBEARER without a key set to check tokens with",
            "whoever can write a token is whom he says he is",
            "sasl.oauthbearer.jwks.endpoint.url=https://…",
        )  # fmt: skip
    elif keys.lower().startswith("http:"):
        yield Finding(
            _CRITICAL, "jwks-in-clear", "sasl.oauthbearer.jwks.endpoint.url", "the key set is fetched without TLS",
            "who is on the way can hand over keys of his own", "an https: address",
        )  # fmt: skip
    if not subject.value("sasl.oauthbearer.expected.audience", listener.name):
        yield Finding(
            _WARNING, "oauthbearer-audience", address, "tokens for anybody are taken",
            "a token that was made for another service logs in here", "sasl.oauthbearer.expected.audience=…",
        )  # fmt: skip
    if not subject.value("sasl.oauthbearer.expected.issuer", listener.name):
        yield Finding(
            _NOTICE, "oauthbearer-issuer", address, "tokens of any issuer are taken that the key set knows",
            "issuers that share keys are not told apart", "sasl.oauthbearer.expected.issuer=…",
        )  # fmt: skip


def _tls(subject: Subject, listener: Listener, address: str) -> Iterator[Finding]:
    name = listener.name
    old = sorted(OLD_PROTOCOLS & set(subject.value("ssl.enabled.protocols", name) or ()))
    if old:
        yield Finding(
            _WARNING, "tls-old", address, f"speaks {', '.join(old)}", "these versions are broken",
            "ssl.enabled.protocols=TLSv1.2,TLSv1.3",
        )  # fmt: skip
    weak = [each for each in subject.value("ssl.cipher.suites", name) or () if WEAK_CIPHERS.search(each)]
    if weak:
        yield Finding(
            _WARNING, "tls-ciphers", address, f"takes weak cipher suites: {', '.join(weak)}",
            "what they encrypt can be read, or changed", "leave ssl.cipher.suites to its default",
        )  # fmt: skip
    if subject.value("ssl.endpoint.identification.algorithm", name) == "":
        yield Finding(
            _WARNING, "tls-names", address, "names in certificates are not checked between brokers",
            "any certificate of the authority is good for any broker", "ssl.endpoint.identification.algorithm=https",
        )  # fmt: skip


def _client_certificates(subject: Subject, listener: Listener, address: str, open_to_others: bool) -> Iterator[Finding]:
    wanted = subject.value("ssl.client.auth", listener.name)
    if wanted != "none" and not any(subject.value(each, listener.name) for each in _TRUST):
        yield Finding(
            _CRITICAL if open_to_others and not subject.has_authorizer else _WARNING,
            "tls-any-authority", address, "certificates of any authority are believed that the system knows",
            "whoever has a certificate for a web site is a user here", "ssl.truststore.location=…",
        )  # fmt: skip
    if wanted == "required":
        return
    if wanted == "requested":
        what = "clients need not show a certificate"
    else:
        what = "clients are not asked who they are"
    yield Finding(
        _CRITICAL if open_to_others and not subject.has_authorizer else _WARNING,
        "tls-anonymous", address, what,
        "they are User:ANONYMOUS: encrypted, and anybody",
        f"listener.name.{listener.name.lower()}.ssl.client.auth=required, or SASL_SSL",
    )  # fmt: skip


# Who may do what


def _authorization(subject: Subject) -> Iterator[Finding]:
    reachable = [listener.name for listener in subject.open_listeners]
    if not subject.has_authorizer:
        if reachable:
            yield Finding(
                _CRITICAL, "no-authorizer", "authorizer.class.name", "there is no authorizer",
                f"whoever is let in on {', '.join(reachable)} may do everything",
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            )  # fmt: skip
        return
    if str(subject.value("allow.everyone.if.no.acl.found") or "").lower() == "true":
        yield Finding(
            _WARNING, "allow-everyone", "allow.everyone.if.no.acl.found", "what has no ACL is open to everybody",
            "a new topic is public until somebody thinks of it", "allow.everyone.if.no.acl.found=false",
        )  # fmt: skip
    users = [each.strip() for each in str(subject.value("super.users") or "").split(";") if each.strip()]
    for user in users:
        if ",User:" in user:
            yield Finding(
                _WARNING, "super-commas", "super.users", f"{user} is one user",
                "semicolons separate users, since names may have commas", f"super.users={user.replace(',', ';')}",
            )  # fmt: skip
        if user in ("User:ANONYMOUS", "User:*"):
            yield Finding(
                _CRITICAL, "super-anybody", "super.users", f"{user} may do everything",
                "no ACL is asked for super users, and this one is anybody", "name people and nodes, one by one",
            )  # fmt: skip
    if len(users) > MANY_SUPER_USERS:
        yield Finding(
            _NOTICE, "super-many", "super.users", f"there are {len(users)} super users",
            "ACLs do not bind them, and nothing but the audit log tells what they do", "ACLs for those who need few",
        )  # fmt: skip


# Secrets


def _secrets(subject: Subject) -> Iterator[Finding]:
    seen: set[str] = set()
    for listener in subject.listeners:
        for mechanism in subject.value("sasl.enabled.mechanisms", listener.name) or ():
            text = subject.value("sasl.jaas.config", listener.name, mechanism)
            if not isinstance(text, Password) or text.value in seen:
                continue
            seen.add(text.value)
            users = dict(_USER.findall(text.value)) | dict(_LOGIN.findall(text.value))
            for user, password in sorted(users.items()):
                yield from _password(f"sasl.jaas.config of {mechanism} on {listener.name}", user, password)
    secret = subject.value("delegation.token.secret.key")
    if isinstance(secret, Password) and len(secret.value) < SHORTEST_TOKEN_SECRET:
        yield Finding(
            _WARNING, "token-secret", "delegation.token.secret.key", "the secret of delegation tokens is short",
            "who guesses it can make tokens for anybody", f"at least {SHORTEST_TOKEN_SECRET} random characters",
        )  # fmt: skip
    for name in ("ssl.keystore.password", "ssl.key.password", "ssl.truststore.password"):
        value = subject.value(name)
        if isinstance(value, Password) and value.value in COMMON_PASSWORDS:
            yield Finding(
                _NOTICE, "store-password", name, "a password that everybody knows",
                "whoever gets the file can open it", "another password, or a PEM file that only the node can read",
            )  # fmt: skip


def _password(setting: str, user: str, password: str) -> Iterator[Finding]:
    if password.lower() in COMMON_PASSWORDS or password == user or password == f"{user}-secret":
        what = "is one that is tried first"
    elif len(password) < SHORTEST_PASSWORD:
        what = "is short"
    else:
        return
    yield Finding(
        _CRITICAL if what != "is short" else _WARNING,
        "weak-password", setting, f"the password of {user} {what}", "it takes no long guessing to be this user",
        "a generated one: `ottla users create` makes such",
    )  # fmt: skip


# What is around


def _around(subject: Subject) -> Iterator[Finding]:
    reachable = list(subject.open_listeners)
    for endpoint in subject.value("http.listeners") or ():
        host = endpoint.partition("://")[2].rpartition(":")[0].strip("[]")
        if is_open(host):
            yield Finding(
                _WARNING, "metrics-open", "http.listeners", f"{endpoint} tells metrics and health to other machines",
                "names of topics, groups and clients are among it, and nobody has to log in",
                "an address that only the monitoring reaches",
            )  # fmt: skip
    if not reachable:
        return
    if not subject.value("encryption.key"):
        yield Finding(
            _NOTICE, "data-unencrypted", "encryption.key", "what is on disk is not encrypted",
            "who gets the disk, or a copy of it, has the records", "see docs/encryption.md",
        )  # fmt: skip
    if subject.has_authorizer and not (subject.value("audit.log.file") or subject.value("audit.log.topic")):
        yield Finding(
            _NOTICE, "no-audit", "audit.log.file", "there is no audit log",
            "nobody can tell afterwards who did what", "audit.log.file=/var/log/ottla/audit.jsonl",
        )  # fmt: skip
    if (subject.value("max.connections.per.ip") or 0) >= _NO_LIMIT and (
        subject.value("max.connections") or 0
    ) >= _NO_LIMIT:
        yield Finding(
            _NOTICE, "connections-unlimited", "max.connections", "the number of connections is not limited",
            "one machine can take all the files that the process may open", "max.connections.per.ip=1000",
        )  # fmt: skip
    if (subject.value("queued.max.request.bytes") or -1) < 0:
        yield Finding(
            _NOTICE, "requests-unlimited", "queued.max.request.bytes", "memory for requests is not limited",
            "clients that send large requests all at once can take all there is",
            "queued.max.request.bytes=1073741824",
        )  # fmt: skip
    for name in ("connections.first.request.timeout.ms", "request.receive.timeout.ms"):
        if subject.value(name) == 0:
            yield Finding(
                _WARNING, "patience", name, "clients that say nothing are waited for without end",
                "they hold connections that others need", f"{name}=60000",
            )  # fmt: skip

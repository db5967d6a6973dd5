"""A broker with a listener for each way to log in, and all that it asks: a directory, a realm, an issuer of tokens."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import ottla
from benchmarks.brokers import OttlaBroker, free_port
from ottla.admin import (
    AlterConfigOp,
    ConfigResource,
    NewTopic,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from tests.client.security.certificates import Certificate
from tests.compatibility.back_ends import BASE, REALM, Kdc, OpenIdIssuer, Slapd
from tests.compatibility.logins.cases import CASES, LDAP, MTLS, TOKEN, Case
from tests.compatibility.sign_in import Login
from tests.conftest import SETTINGS

SECURITY = "org.apache.kafka.common.security"
LISTENERS = {
    "SASL": "SASL_PLAINTEXT",
    "DIRECTORY": "SASL_PLAINTEXT",
    "SASLTLS": "SASL_SSL",
    "DIRECTORYTLS": "SASL_SSL",
    "MTLS": "SSL",
    "BRIEF": "SASL_SSL",
    "BRIEFDIRECTORY": "SASL_SSL",
}
SESSION_MS = 4000
"""How long sessions last on listeners that are BRIEF."""
REFRESH_MS = 400
PEOPLE = ("alice", "gone")
SCRAMS = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)


class KerberosBroker(OttlaBroker):
    """A broker that finds its realm."""

    krb5 = ""

    def environment(self):
        return {**super().environment(), "KRB5_CONFIG": self.krb5}


class World:
    """All of it, running after `start`; `revoke` withdraws what is to be revoked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority, self.old_authority = Certificate("authority"), Certificate("old authority")
        self.slapd = Slapd(directory / "directory")
        self.slapd.start()
        self.kdc = Kdc(directory / "realm", users=("alice", "bob", "erin", "henry", "gone"))
        self.issuer = OpenIdIssuer()
        self.issuer.published = ["p256", "p384"]
        self.ports = {name: free_port() for name in LISTENERS}
        self.metrics_port = free_port()
        self.trust = directory / "trust.pem"
        self.trust.write_text(self.authority.pem + self.old_authority.pem)
        node = Certificate("broker", self.authority, names=["localhost", "127.0.0.1"])
        self.node = directory / "node.pem"
        self.node.write_text(node.key_pem() + node.pem)
        self.broker = KerberosBroker(directory / "broker")
        self.broker.krb5 = self.kdc.krb5
        self.broker.settings = self._settings()
        self.logins: dict[tuple[str, str], Login] = {}

    def start(self, topics):
        """Start the broker, and make who and what is to log in."""
        self.kdc.ticket("alice")
        self.kdc.admin("modprinc -expire 2020-01-01 henry")
        self.kdc.admin("cpw -randkey erin")
        self.broker.start()
        with ottla.Admin(self.broker.bootstrap) as admin:
            admin.create_topics([NewTopic(name, 1, 1) for name in topics])
            for mechanism in SCRAMS:
                admin.alter_user_scram_credentials(
                    [UserScramCredentialUpsertion(user, f"{user}'s", mechanism=mechanism) for user in PEOPLE]
                )
        self.slapd.change(
            "dn: uid=gone,ou=people,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: gone\ncn: G\nsn: G\n"
            "userPassword: gone's\n"
        )
        self.logins = dict(self._logins())

    def stop(self):
        self.broker.stop()
        self.issuer.stop()
        self.kdc.stop()
        self.slapd.stop()

    def login(self, case: Case, *, tls: bool) -> Login:
        login = self.logins[case.mechanism, case.what]
        return replace(login, authority=self.authority.pem) if tls else login

    def listener(self, case: Case, *, tls: bool, brief: bool = False) -> str:
        name = {MTLS: "MTLS", LDAP: "DIRECTORY"}.get(case.mechanism, "SASL")
        if brief:
            name = {"DIRECTORY": "BRIEFDIRECTORY", "SASL": "BRIEF"}[name]
        elif tls and name != "MTLS":
            name += "TLS"
        return name

    def address(self, case: Case, *, tls: bool, brief: bool = False) -> str:
        return f"localhost:{self.ports[self.listener(case, tls=tls, brief=brief)]}"

    def revoke(self):
        """Withdraw every login that is to be revoked."""
        self.trust.write_text(self.authority.pem)
        self.slapd.change("dn: uid=gone,ou=people,{base}\nchangetype: delete\n")
        self.kdc.admin("delprinc -force gone")
        self.issuer.published = ["p256"]
        passwords = {
            f"listener.name.{name.lower()}.plain.sasl.jaas.config": _plain("alice")
            for name, protocol in LISTENERS.items()
            if protocol.startswith("SASL") and "DIRECTORY" not in name
        }
        with ottla.Admin(self.broker.bootstrap) as admin:
            for mechanism in SCRAMS:
                admin.alter_user_scram_credentials([UserScramCredentialDeletion("gone", mechanism)])
            changes = [AlterConfigOp.set(name, value) for name, value in passwords.items()]
            admin.incremental_alter_configs({ConfigResource.broker(1): changes})
        case = next(case for case in CASES if (case.mechanism, case.kind) == (TOKEN, "revoked"))
        with self._admin() as admin:
            admin.expire_delegation_token(base64.b64decode(self.logins[TOKEN, case.what].password))
        time.sleep(2 * REFRESH_MS / 1000)
        deadline = time.monotonic() + 20
        while "MTLS has new certificates" not in self.broker.output and time.monotonic() < deadline:
            time.sleep(0.1)

    def refusals(self):
        """What the audit log tells of logins that failed: listener and reason."""
        events = map(json.loads, (self.directory / "audit.jsonl").read_text().splitlines())
        return [
            (event["listener"], event["reason"])
            for event in events
            if event["event"] == "authentication" and event["result"] == "failed"
        ]

    def renewals(self):
        """How often clients have logged in again."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        name = "kafka_server_socket_server_metrics_successful_reauthentication_total"
        return sum(int(float(count)) for count in re.findall(rf"^{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE))

    def _admin(self):
        names = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "alice", "sasl_password": "alice's"}
        return ottla.Admin(f"localhost:{self.ports['SASL']}", security_protocol="SASL_PLAINTEXT", **names)

    def _logins(self):
        good, bad, late, gone = (
            Certificate("alice", self.authority),
            Certificate("alice", Certificate("authority")),
            Certificate("alice", self.authority, days=-1),
            Certificate("gone", self.old_authority),
        )
        for (mechanism, what), certificate in zip(_of(MTLS), (good, bad, None, late, gone), strict=True):
            shown = {"certificate": certificate.pem, "key": certificate.key_pem()} if certificate else {}
            yield (mechanism, what), Login("", **shown)
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
            users = (("alice", "alice's"), ("alice", "not the password"), ("nobody", "alice's"), ("gone", "gone's"))
            for key, user in zip(_of(mechanism), users, strict=True):
                yield key, Login(mechanism, *user)
        users = (
            ("alice", "wonderland"),
            ("alice", "not the password"),
            ("nobody", "wonderland"),
            ("henry", "since last year"),
            ("gone", "gone's"),
        )
        for key, user in zip(_of(LDAP), users, strict=True):
            yield key, Login("PLAIN", *user)
        others = OpenIdIssuer.__new__(OpenIdIssuer)
        others.__dict__ |= {**vars(self.issuer), "issuer": type(self.issuer.issuer)()}
        tokens = (
            self.issuer.token(),
            others.token(),
            self.issuer.token(aud="others"),
            self.issuer.token(lifetime_s=-5),
            self.issuer.token(key="p384"),
        )
        for key, token in zip(_of("OAUTHBEARER"), tokens, strict=True):
            yield key, Login("OAUTHBEARER", token=token)
        for key, user in zip(_of("GSSAPI"), ("alice", "bob", "erin", "henry", "gone"), strict=True):
            yield key, Login("GSSAPI", user, realm=REALM, keytab=self.kdc.keytab(user), krb5=self.kdc.krb5)
        with self._admin() as admin:
            made = [admin.create_delegation_token() for _ in range(3)]
            admin.expire_delegation_token(made[1].hmac, expiry_period_ms=1)
        for key, token, guessed in zip(
            _of(TOKEN), (made[0], made[0], made[1], made[2]), (False, True, False, False), strict=True
        ):
            hmac = base64.b64encode(b"guessed" if guessed else token.hmac).decode()
            yield key, Login("SCRAM-SHA-256", token.token_id, hmac, is_token=True)

    def _settings(self):
        listeners = [f"PLAINTEXT://{self.broker.bootstrap}"]
        listeners += [f"{name}://localhost:{port}" for name, port in self.ports.items()]
        settings = {
            **SETTINGS,
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(listeners),
            "listener.security.protocol.map": ",".join(
                ["PLAINTEXT:PLAINTEXT", *map(":".join, LISTENERS.items())],
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            "connection.failed.authentication.delay.ms": "0",  # all the clients are one who guesses
            "delegation.token.secret.key": "a secret of the cluster",
            "ssl.keystore.location": str(self.node),
            "ssl.truststore.location": str(self.trust),
            "audit.log.file": str(self.directory / "audit.jsonl"),
            "http.listeners": f"http://127.0.0.1:{self.metrics_port}",
            "listener.name.mtls.ssl.client.auth": "required",
        }
        for name, protocol in LISTENERS.items():
            if protocol.startswith("SASL"):
                own = self._directory() if "DIRECTORY" in name else self._mechanisms()
                if name.startswith("BRIEF"):
                    own["connections.max.reauth.ms"] = str(SESSION_MS)
                settings |= {f"listener.name.{name.lower()}.{setting}": value for setting, value in own.items()}
        return settings

    def _directory(self):
        return {
            "sasl.enabled.mechanisms": "PLAIN",
            "ldap.url": self.slapd.tls_url,
            "ldap.truststore.location": self.slapd.trust,
            "ldap.user.dn.pattern": f"uid={{user}},ou=people,{BASE}",
            "ldap.cache.ms": "0",
        }

    def _mechanisms(self):
        module = "com.sun.security.auth.module.Krb5LoginModule"
        keytab, principal = self.kdc.keytab("kafka"), f"kafka/localhost@{REALM}"
        return {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER,GSSAPI",
            "plain.sasl.jaas.config": _plain("alice", "gone"),
            "sasl.kerberos.service.name": "kafka",
            "sasl.kerberos.principal.to.local.rules": "RULE:[1:$1](alice|gone)",
            "gssapi.sasl.jaas.config": f"{module} required useKeyTab=true storeKey=true "
            f'keyTab="{keytab}" principal="{principal}";',
            "sasl.oauthbearer.jwks.endpoint.url": f"{self.issuer.url}/keys",
            "sasl.oauthbearer.jwks.endpoint.refresh.ms": str(REFRESH_MS),
            "sasl.oauthbearer.expected.audience": "kafka",
            "sasl.oauthbearer.expected.issuer": self.issuer.url,
            "sasl.oauthbearer.clock.skew.seconds": "0",
            "oauthbearer.sasl.server.callback.handler.class": (
                f"{SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
            ),
        }


def _plain(*users):
    known = " ".join(f'user_{user}="{user}\'s"' for user in users)
    return f"{SECURITY}.plain.PlainLoginModule required {known};"


def _of(mechanism):
    return [(case.mechanism, case.what) for case in CASES if case.mechanism == mechanism]

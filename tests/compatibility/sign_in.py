"""Clients that do nothing but sign in: ours, librdkafka (confluent-kafka, kcat), franz-go, sarama and Java's."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import ottla
from ottla.client.errors import KafkaError
from tests.compatibility.drivers import ClientError, DriverProcess, Java

SECURITY = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Login:
    """Who signs in, how; which fields count depends on the mechanism."""

    mechanism: str
    username: str = ""
    password: str = ""
    token: str = ""
    extensions: dict[str, str] = field(default_factory=dict)
    realm: str = ""
    service: str = "kafka"
    keytab: str = ""
    krb5: str = ""
    is_token: bool = False
    """Username and password are the id and the HMAC of a delegation token."""
    authority: str = ""
    """PEM; where there is one, over TLS."""
    certificate: str = ""
    key: str = ""


class RefusedError(Exception):
    """The client did not get in; its own words."""


class Ours:
    name = "ottla"

    def sign_in(self, address, login, timeout_ms=5000):
        names = {"sasl_username": login.username, "sasl_password": login.password}
        if login.mechanism == "OAUTHBEARER":
            names = {"sasl_oauth_token_provider": lambda: login.token}
        elif login.mechanism == "GSSAPI":
            names = {"sasl_kerberos_keytab": login.keytab, "sasl_kerberos_principal": f"{login.username}@{login.realm}"}
        names |= {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": login.mechanism}
        try:
            with ottla.Admin(address, None, default_api_timeout_ms=timeout_ms, **names) as admin:
                assert [node.id for node in admin.describe_cluster().nodes] == [1]
        except KafkaError as error:
            raise RefusedError(str(error)) from None


class Confluent:
    name = "confluent-kafka"

    def sign_in(self, address, login):
        from confluent_kafka.admin import AdminClient

        problems = []
        failed = threading.Event()

        def problem(error):
            problems.append(str(error))
            if error.name() in ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED"):
                failed.set()

        settings = {"sasl.username": login.username, "sasl.password": login.password}
        if login.mechanism == "OAUTHBEARER":
            settings = {"oauth_cb": lambda _: (login.token, time.time() + 600)}
        settings |= {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": login.mechanism, "log_level": 0}
        client = AdminClient({"bootstrap.servers": address, "error_cb": problem, **settings})
        deadline = time.monotonic() + 10
        listing = None
        while time.monotonic() < deadline and not failed.is_set():
            client.poll(0.01)
            try:
                listing = client.list_topics(timeout=0.5)
                break
            except Exception as error:
                problems.append(str(error))
        if listing is None:
            raise RefusedError("; ".join(problems))
        assert list(listing.brokers) == [1]


class Kcat:
    """librdkafka as a distribution builds it: with Cyrus SASL, which knows Kerberos; tickets come from a cache."""

    name = "kcat"

    def sign_in(self, address, login):
        settings = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": login.mechanism}
        environment = dict(os.environ)
        if login.mechanism == "GSSAPI":
            cache = f"FILE:{login.keytab}.cache"
            environment |= {"KRB5_CONFIG": login.krb5, "KRB5CCNAME": cache}
            kinit = ["kinit", "-c", cache, "-k", "-t", login.keytab, f"{login.username}@{login.realm}"]
            settings |= {"sasl.kerberos.kinit.cmd": "true"}
            done = subprocess.run(kinit, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RefusedError(done.stderr)
        else:
            settings |= {"sasl.username": login.username, "sasl.password": login.password}
        options = [part for name, value in settings.items() for part in ("-X", f"{name}={value}")]
        command = ["kcat", "-b", address, "-L", "-m", "3", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or "1 brokers" not in done.stdout:
            raise RefusedError(done.stderr)

    @staticmethod
    def missing():
        return None if shutil.which("kcat") else "kcat"


class GoSignIn:
    def __init__(self, client):
        self._client = client
        self.name = client.name

    def sign_in(self, address, login):
        try:
            self._client.process.call(do="login", bootstrap=address, login=asdict(login), **self._client.extra)
        except ClientError as error:
            raise RefusedError(str(error)) from None


class JavaSignIn:
    """One JVM, which lists topics for each login."""

    name = "java"

    def __init__(self, directory, *, krb5=None, urls=()):
        self._directory = Path(directory)
        self._directory.mkdir(exist_ok=True)
        self._token = self._directory / "token"
        allowed = ",".join([*urls, self._token.as_uri()])
        options = [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={allowed}"]
        self.key = self._directory / "client.key"
        options.append(f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.files={self.key}")
        options += [f"-Djava.security.krb5.conf={krb5}"] if krb5 else []
        self.java = Java()
        self.java.process = DriverProcess(self.java._command, {"JAVA_TOOL_OPTIONS": " ".join(options)})

    def sign_in(self, address, login):
        if login.mechanism == "GSSAPI":
            jaas = (
                "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true "
                f'keyTab="{login.keytab}" principal="{login.username}@{login.realm}" serviceName="{login.service}";'
            )
        elif login.mechanism == "OAUTHBEARER":
            self._token.write_text(login.token)
            return self.with_settings(address, **{"sasl.oauthbearer.token.endpoint.url": self._token.as_uri()})
        else:
            module = {"PLAIN": "plain.PlainLoginModule"}.get(login.mechanism, "scram.ScramLoginModule")
            jaas = f'{SECURITY}.{module} required username="{login.username}" password="{login.password}";'
        return self._list(address, {"sasl.mechanism": login.mechanism, "sasl.jaas.config": jaas})

    def with_settings(self, address, **settings):
        """Sign in with a token that the client gets by itself."""
        settings = {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.login.callback.handler.class": f"{SECURITY}.oauthbearer.OAuthBearerLoginCallbackHandler",
            "sasl.jaas.config": f"{SECURITY}.oauthbearer.OAuthBearerLoginModule required;",
            **settings,
        }
        self._list(address, settings)

    def _list(self, address, settings):
        given = {
            "security.protocol": "SASL_PLAINTEXT",
            "default.api.timeout.ms": "10000",
            "request.timeout.ms": "5000",
            **settings,
        }
        path = self._directory / "client.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        try:
            self.java.tool(
                "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", address, "--list", "--command-config", path
            )
        except ClientError as error:
            raise RefusedError(str(error)) from None

    def close(self):
        self.java.close()

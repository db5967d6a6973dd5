"""Clients that log in, write records, and read them back."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import ottla
from ottla.errors import KafkaError
from tests.compatibility.drivers import DriverProcess, Go, Java, to_text
from tests.compatibility.sign_in import SECURITY, Login, RefusedError


class Visit(NamedTuple):
    """Write so many records, with a pause behind each, and read the same back."""

    address: str
    login: Login
    topic: str
    count: int = 1
    pause_ms: int = 0

    def values(self) -> list[bytes]:
        return [b"%d" % number for number in range(self.count)]


PATIENCE_MS = 12_000
"""For a record: who is not refused has to be done by then; who is, has to know by then."""


class Visitor(ABC):
    """A client."""

    name: str

    def visit(self, *visits: Visit) -> list[str | None]:
        """Make these visits at once; what the client says where it got not in or not through."""
        with ThreadPoolExecutor(len(visits)) as threads:
            return list(threads.map(self._problem, visits))

    def _problem(self, visit: Visit) -> str | None:
        try:
            self._visit(visit)
        except RefusedError as error:
            return str(error)
        return None

    @abstractmethod
    def _visit(self, visit: Visit) -> None:
        """Raises RefusedError."""

    def is_short(self, mechanism: str) -> bool:
        """Whether its visits by this mechanism are one record long."""
        return False

    def close(self) -> None:
        """End what runs."""
        return


def our_settings(login: Login):
    """Java's settings, and what of ours has no name there."""
    more = {"sasl_oauth_token_provider": lambda: login.token} if login.mechanism == "OAUTHBEARER" else {}
    return java_settings(login), more


def java_settings(login: Login) -> dict[str, str]:
    """Java's settings for a login, which are ours as well."""
    settings = {"security.protocol": ("SASL_" if login.mechanism else "") + ("SSL" if login.authority else "PLAINTEXT")}
    if login.authority:
        settings |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": login.authority}
    if login.key:
        settings |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.key": login.key,
            "ssl.keystore.certificate.chain": login.certificate,
        }
    if not login.mechanism:
        return settings
    if login.mechanism == "OAUTHBEARER":
        jaas = f"{SECURITY}.oauthbearer.OAuthBearerLoginModule required;"
    elif login.mechanism == "GSSAPI":
        jaas = (
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true "
            f'keyTab="{login.keytab}" principal="{login.username}@{login.realm}" serviceName="{login.service}";'
        )
    else:
        module = {"PLAIN": "plain.PlainLoginModule"}.get(login.mechanism, "scram.ScramLoginModule")
        token = ' tokenauth="true"' if login.is_token else ""
        jaas = f'{SECURITY}.{module} required username="{login.username}" password="{login.password}"{token};'
    return settings | {"sasl.mechanism": login.mechanism, "sasl.jaas.config": jaas}


class Ours(Visitor):
    name = "Ottla"

    def _visit(self, visit):
        settings, more = our_settings(visit.login)
        patience = str(PATIENCE_MS)
        limits = {"delivery.timeout.ms": patience, "request.timeout.ms": "5000", "max.block.ms": patience}
        try:
            with ottla.Producer(visit.address, {**settings, **limits}, **more) as producer:
                offsets = []
                for value in visit.values():
                    sent = producer.send(visit.topic, value, partition=0)
                    offsets.append(sent.result(PATIENCE_MS / 1000).offset)
                    time.sleep(visit.pause_ms / 1000)
            with ottla.Consumer(visit.address, {**settings, "default.api.timeout.ms": patience}, **more) as consumer:
                consumer.assign([(visit.topic, 0)])
                consumer.seek((visit.topic, 0), offsets[0])
                found = []
                while len(found) < visit.count:
                    found += [record.value for record in consumer.poll(timeout_s=1)]
        except KafkaError as error:
            raise RefusedError(str(error)) from None
        assert found == visit.values()


class Librdkafka(Visitor):
    """confluent-kafka; its wheels know no Kerberos, so there it is kcat, on a distribution's librdkafka."""

    name = "librdkafka"

    def is_short(self, mechanism):
        return mechanism == "GSSAPI"

    def _visit(self, visit):
        login = visit.login
        settings = {
            "bootstrap.servers": visit.address,
            "security.protocol": java_settings(login)["security.protocol"],
        }
        for name, text in (("ca", login.authority), ("certificate", login.certificate), ("key", login.key)):
            if text:
                settings[f"ssl.{name}.pem"] = text
        if login.mechanism:
            settings["sasl.mechanism"] = login.mechanism
        if login.mechanism == "GSSAPI":
            return self._kcat(settings, visit)
        if login.mechanism == "OAUTHBEARER":
            settings["oauth_cb"] = lambda _: (login.token, time.time() + 600)
        elif login.mechanism:
            settings |= {"sasl.username": login.username, "sasl.password": login.password}
        return self._confluent(settings, visit)

    def _confluent(self, settings, visit):
        from confluent_kafka import Consumer, Producer, TopicPartition

        problems, offsets = [], []
        failed = threading.Event()

        def problem(error):
            problems.append(str(error))
            # It goes on trying, whatever it hears; this is where a program learns why.
            if error.name() == "_AUTHENTICATION" or "SSL alert" in str(error):
                failed.set()

        def delivered(error, message):
            if error:
                problems.append(str(error))
            offsets.append(None if error else message.offset())

        settings |= {"error_cb": problem, "log_level": 0}
        producer = Producer({**settings, "message.timeout.ms": PATIENCE_MS, "linger.ms": 0})
        for index, value in enumerate(visit.values()):
            producer.produce(visit.topic, value, partition=0, on_delivery=delivered)
            while len(offsets) <= index and not failed.is_set():
                producer.poll(0.05)
            if failed.is_set() or offsets[-1] is None:
                raise RefusedError("; ".join(problems))
            time.sleep(visit.pause_ms / 1000)
        consumer = Consumer({**settings, "group.id": "none", "enable.auto.commit": False})
        try:
            consumer.assign([TopicPartition(visit.topic, 0, offsets[0])])
            found = consumer.consume(visit.count, PATIENCE_MS / 1000)
        finally:
            consumer.close()
        if [message.value() for message in found] != visit.values() or failed.is_set():
            raise RefusedError("; ".join(problems) or f"only {len(found)} records came back")

    def _kcat(self, settings, visit):
        login = visit.login
        cache = f"FILE:{login.keytab}.cache"
        environment = {**os.environ, "KRB5_CONFIG": login.krb5, "KRB5CCNAME": cache}
        kinit = ["kinit", "-c", cache, "-k", "-t", login.keytab, f"{login.username}@{login.realm}"]
        with contextlib.suppress(FileNotFoundError):
            Path(cache.removeprefix("FILE:")).unlink()
        settings["sasl.kerberos.kinit.cmd"] = "true"
        if login.authority:
            settings["ssl.ca.location"] = f"{login.keytab}.authority"
            Path(settings["ssl.ca.location"]).write_text(settings.pop("ssl.ca.pem"))
        address = settings.pop("bootstrap.servers")
        options = [part for name, value in settings.items() for part in ("-X", f"{name}={value}")]

        def run(*command, text=""):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, input=text, check=False)
            if done.returncode:
                raise RefusedError(done.stderr)
            return done.stdout

        run(*kinit)
        run("kcat", "-b", address, "-L", "-m", "1", *options)
        run("kcat", "-b", address, "-P", "-t", visit.topic, "-p", "0", *options, text="0")
        found = run("kcat", "-b", address, "-C", "-t", visit.topic, "-p", "0", "-o", "-1", "-c", "1", "-e", *options)
        assert found == "0\n", found


class DriverVisitor(Visitor):
    """A client in a process of its own."""

    process: DriverProcess

    def visit(self, *visits):
        return self.process.call(do="visit", visits=[self._command(visit) for visit in visits], library="franz-go")[
            "problems"
        ]

    def _visit(self, visit):
        raise AssertionError("the driver makes visits")

    def _command(self, visit):
        return {
            "bootstrap": visit.address,
            "topic": visit.topic,
            "client_id": self.name,
            "records": [{"value": to_text(value)} for value in visit.values()],
            "pause_ms": visit.pause_ms,
            "timeout_ms": PATIENCE_MS,
        }

    def close(self):
        self.process.close()


class JavaVisitor(DriverVisitor):
    name = "Java"

    def __init__(self, directory, krb5):
        self._token = Path(directory) / "token"
        options = [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._token.as_uri()}"]
        options.append(f"-Djava.security.krb5.conf={krb5}")
        self.process = DriverProcess(Java()._command, {"JAVA_TOOL_OPTIONS": " ".join(options)})

    def _command(self, visit):
        settings = java_settings(visit.login)
        if visit.login.mechanism == "OAUTHBEARER":
            self._token.write_text(visit.login.token)
            handler = f"{SECURITY}.oauthbearer.OAuthBearerLoginCallbackHandler"
            settings["sasl.login.callback.handler.class"] = handler
            settings["sasl.oauthbearer.token.endpoint.url"] = self._token.as_uri()
        return {**super()._command(visit), "settings": settings}


class GoVisitor(DriverVisitor):
    name = "franz-go"

    def __init__(self):
        self.process = Go.start()

    def _command(self, visit):
        return {**super()._command(visit), "login": asdict(visit.login)}

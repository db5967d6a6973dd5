"""The same OAUTHBEARER logins against Ottla and Apache Kafka: the same are let in, and the others hear the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct

import pytest

from benchmarks.brokers import KAFKA_HOME, ApacheKafka, OttlaBroker, free_port
from benchmarks.wire import Connection, WireError
from tests.compatibility.back_ends import OpenIdIssuer
from tests.conftest import SETTINGS, require
from tests.server.security.identities import wall_ms

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(180)]

SASL_AUTHENTICATION_FAILED = 58
SECURITY = "org.apache.kafka.common.security.oauthbearer"


class Issued(OpenIdIssuer):
    """Publishes an RSA key as well."""

    def __init__(self):
        super().__init__()
        self.published = ["p256", "rsa"]

    def logins(self):
        """Name → messages of the client, with what comes after a refusal."""
        now_s = wall_ms() // 1000
        tokens = {
            "good": self.token(),
            "rsa": self.token(key="rsa"),
            "for several": self.token(aud=["others", "kafka"]),
            "for others": self.token(aud="others"),
            "for nobody": self.token(aud=None),
            "of others": self.token(iss="https://others"),
            "of nobody": self.token(iss=None),
            "expired": self.token(lifetime_s=-60),
            "expired a moment ago": self.token(lifetime_s=-10),
            "without end": self.token(exp=None),
            "without beginning": self.token(iat=None),
            "from the future": self.token(nbf=now_s + 100),
            "of nearly now": self.token(nbf=now_s + 10),
            "issued after its end": self.token(iat=now_s + 10_000),
            "end that is a text": self.token(exp="tomorrow"),
            "subject missing": self.token(subject=None),
            "subject blank": self.token(subject="  "),
            "subject a list": self.token(subject=["a"]),
            "scope a text": self.token(scope="read write"),
            "scope a list": self.token(scope=["read", "write"]),
            "scope twice": self.token(scope=["read", "read"]),
            "key not published": self.token(key="p384"),
            "key not named": self.issuer.token(
                "p256", header={"kid": None}, now_ms=wall_ms(), iss=self.url, aud="kafka"
            ),
            "changed": self.token()[:-6] + "AAAAAA",
            "unsigned": _signed({"alg": "none"}, self.token(), b""),
            "signed with the public key": self.with_public_key(),
            "two parts": "a.b",
            "no parts": "abc",
        }
        messages = {name: b"n,,\1auth=Bearer %s\1\1" % token.encode() for name, token in tokens.items()}
        good = tokens["good"].encode()
        messages |= {
            "extensions": b"n,,\1auth=Bearer %s\1traceId=abc\1\1" % good,
            "its own id": b"n,a=carol,\1auth=Bearer %s\1\1" % good,
            "scheme in other letters": b"n,,\1auth=bEARER %s\1\1" % good,
            "another scheme": b"n,,\1auth=Basic %s\1\1" % good,
            "extension with a bad name": b"n,,\1auth=Bearer %s\1trace-id=abc\1\1" % good,
            "no token": b"n,,\1\1",
            "no message": b"nothing of the kind",
            "empty": b"",
        }
        return {name: [message, b"\1"] for name, message in messages.items()}

    def with_public_key(self):
        secret = self.issuer.keys["rsa"].as_pem(private=False)
        return _signed({"alg": "HS256", "kid": "rsa"}, self.token(), secret)


def _signed(header, token, secret):
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    content = head + b"." + token.split(".")[1].encode()
    signature = base64.urlsafe_b64encode(hmac.digest(secret, content, hashlib.sha256)).rstrip(b"=") if secret else b""
    return (content + b"." + signature).decode()


def talk(address, messages):
    """What the broker answers to each message: (code, text, bytes, has an end), until it is over."""
    answers = []
    with Connection(address, timeout=10) as connection:
        try:
            connection.call(17, 1, struct.pack(">h", 11) + b"OAUTHBEARER")
            for message in messages:
                answer = connection.call(36, 1, struct.pack(">i", len(message)) + message)
                answers.append(read(bytes(answer)))
                if answers[-1][0] or not answers[-1][2]:
                    break
        except (WireError, OSError):
            answers.append("closed")
    return answers


def read(answer):
    position = 0
    code, length = struct.unpack_from(">hh", answer, position)
    position += 4
    text = None if length < 0 else answer[position : position + length].decode()
    position += max(length, 0)
    (size,) = struct.unpack_from(">i", answer, position)
    data = answer[position + 4 : position + 4 + size]
    (lifetime_ms,) = struct.unpack_from(">q", answer, position + 4 + size)
    return code, text, data, lifetime_ms > 0


def settings(issuer, port, plain, more=""):
    listeners = f"PLAINTEXT://{plain},TOKENS://127.0.0.1:{port}"
    return {
        **SETTINGS,
        "listeners": listeners + more,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TOKENS:SASL_PLAINTEXT",
        "connection.failed.authentication.delay.ms": "0",
        "listener.name.tokens.sasl.enabled.mechanisms": "OAUTHBEARER",
        "listener.name.tokens.oauthbearer.sasl.jaas.config": f"{SECURITY}.OAuthBearerLoginModule required;",
        "listener.name.tokens.oauthbearer.sasl.server.callback.handler.class": (
            f"{SECURITY}.OAuthBearerValidatorCallbackHandler"
        ),
        "listener.name.tokens.oauthbearer.sasl.oauthbearer.jwks.endpoint.url": f"{issuer.url}/keys",
        "listener.name.tokens.oauthbearer.sasl.oauthbearer.expected.audience": "kafka",
        "listener.name.tokens.oauthbearer.sasl.oauthbearer.expected.issuer": issuer.url,
    }


class TokensKafka(ApacheKafka):
    url = ""

    def environment(self):
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.url}/keys"
        return {**super().environment(), "JAVA_TOOL_OPTIONS": allowed}


def test_the_same_logins_get_the_same_answers(tmp_path):
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    issuer = Issued()
    kafka = TokensKafka(tmp_path / "kafka", heap="-Xmx512m -Xms128m -XX:TieredStopAtLevel=1")
    ottla = OttlaBroker(tmp_path / "ottla")
    ports = [free_port(), free_port()]
    kafka.url = issuer.url
    controller = f",CONTROLLER://127.0.0.1:{kafka.controller_port}"
    kafka.settings = settings(issuer, ports[0], f"127.0.0.1:{kafka.port}", controller)
    ottla.settings = settings(issuer, ports[1], f"127.0.0.1:{ottla.port}")
    try:
        kafka.start()
        ottla.start()
        logins = issuer.logins()
        # Apache Kafka gives this one no answer at all.
        (refused,) = talk(f"127.0.0.1:{ports[1]}", logins.pop("another scheme"))
        assert refused[0] == SASL_AUTHENTICATION_FAILED
        expected, found = ({name: talk(f"127.0.0.1:{port}", logins[name]) for name in logins} for port in ports)
        different = {name: (expected[name], found[name]) for name in logins if expected[name] != found[name]}
        assert different == {}
        let_in = [name for name, answers in found.items() if answers[-1][0] == 0 and not answers[-1][2]]
        assert {"good", "rsa", "for several", "key not named", "its own id"} <= set(let_in)
        assert not {"unsigned", "signed with the public key", "changed", "expired", "for others"} & set(let_in)
    finally:
        ottla.stop()
        kafka.stop()
        issuer.stop()

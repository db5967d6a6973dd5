"""Brokers for tests that let in only who belongs: `Cluster(security="SASL_SSL", users={"alice": "secret"})`.

Certificates are made once for a process, by an authority that lives as long as it. Users log in with PLAIN or SCRAM,
or (with `security="SSL"`) with a certificate of their own. Brokers of a cluster talk to each other beside it, on a
listener of 127.0.0.1 without security: what is tested is how clients get in. What they may do then is for an
authorizer to say, as `settings={"authorizer.class.name": …}`.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from ottla.client.errors import ConfigError

if TYPE_CHECKING:
    from ottla.security.authority import Identity
    from ottla.server.node.node import Node

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_NODES: Final = "NODES"
_NOBODY: Final = "User:ANONYMOUS"
_ITERATIONS: Final = 4096
_DAYS: Final = 30
_JAVA_MODULES: Final = {"PLAIN": "plain.PlainLoginModule"}

Users = Mapping[str, str] | Iterable[str]
"""Names with passwords; names alone get a password each that nobody has to know."""


class ClusterSecurity:
    """What makes the brokers of a `Cluster` secured, and their clients belong."""

    def __init__(self, protocol: str, users: Users = ()) -> None:
        if protocol not in PROTOCOLS:
            raise ConfigError(f"{protocol!r} is no security protocol.", hint=f"There are {', '.join(PROTOCOLS)}.")
        self.protocol = protocol
        names = [users] if isinstance(users, str) else users
        self.users = dict(names) if isinstance(names, Mapping) else {name: _password(name) for name in names}
        if self.users and protocol == "PLAINTEXT":
            raise ConfigError(
                "nobody can log in over PLAINTEXT.", hint='Say security="SASL_PLAINTEXT", "SASL_SSL" or "SSL".'
            )
        for name in self.users:
            if not name or any(one.isspace() or one in "=;,\"'\\" for one in name):
                raise ConfigError(f"{name!r} is no name of a user for tests.", hint="Take letters and digits.")
        if not self.users and protocol.startswith("SASL"):
            raise ConfigError(f"with {protocol} somebody has to log in.", hint='Say users={"alice": "secret"}.')

    @property
    def is_plain(self) -> bool:
        """Nothing is asked of anybody."""
        return self.protocol == "PLAINTEXT"

    # Brokers

    def listeners(self, listeners: str) -> str:
        """The broker's listeners, given those of one without security, of which the first is for clients.

        It comes last then: the port of a broker is that of its last listener.
        """
        if self.is_plain:
            return listeners
        clients, *others = listeners.split(",")
        address = clients.removeprefix("PLAINTEXT://")
        nodes = f"{_NODES}://{address.rpartition(':')[0]}:0"
        return ",".join([*others, nodes, f"{self.protocol}://{address}"])

    def settings(self) -> dict[str, str]:
        """Settings that all brokers share."""
        if self.is_plain:
            return {}
        protocol = self.protocol
        found = {
            "listener.security.protocol.map": f"{protocol}:{protocol},{_NODES}:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": _NODES,
        }
        if protocol.endswith("SSL"):
            node = _identity("")
            found |= {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.key": node.key,
                "ssl.keystore.certificate.chain": node.certificate,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.certificates": authority(),
            }
        if protocol == "SSL" and self.users:
            found |= {"ssl.client.auth": "required", "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/"}
        if protocol.startswith("SASL"):
            options = " ".join(f'user_{name}="{_quoted(password)}"' for name, password in self.users.items())
            module = "org.apache.kafka.common.security.plain.PlainLoginModule"
            found |= {
                "sasl.enabled.mechanisms": ",".join(MECHANISMS),
                f"listener.name.{protocol.lower()}.plain.sasl.jaas.config": f"{module} required {options};",
            }
        return found

    def let_nodes_in(self, settings: dict[str, object]) -> None:
        """Brokers of a cluster ask each other as nobody in particular: an authorizer must let them. Clients cannot pass
        for them, for on their listener everybody has a name.
        """
        if settings.get("authorizer.class.name"):
            given = str(settings.get("super.users", ""))
            settings["super.users"] = f"{given};{_NOBODY}" if given else _NOBODY

    def is_missing(self, node: Node) -> bool:
        """Whether the node's metadata have not got the SCRAM credentials yet."""
        if not self.protocol.startswith("SASL"):
            return False
        known = {name for _, name in node.broker.image.scram}
        return not known.issuperset(self.users)

    async def add_users(self, node: Node) -> None:
        """Have the controller, which is on this node, keep a SCRAM credential of everybody."""
        from ottla.protocol.messages.alter_user_scram_credentials import (
            AlterUserScramCredentialsRequest,
            ScramCredentialUpsertion,
        )
        from ottla.security.scram_keys import MECHANISM_TYPES

        for mechanism, number in MECHANISM_TYPES.items():
            # The same salt whenever the cluster is made as new: what is the same needs no restart.
            request = AlterUserScramCredentialsRequest(
                upsertions=[
                    ScramCredentialUpsertion(
                        name=name,
                        mechanism=number,
                        iterations=_ITERATIONS,
                        salt=_salt(name),
                        salted_password=_salted(mechanism, name, password),
                    )
                    for name, password in self.users.items()
                ]
            )
            response = await node.broker.controller.alter_user_scram_credentials(request)
            for result in response.results:
                if result.error_code:
                    raise ConfigError(
                        f"{result.user!r} cannot log in with {mechanism}: {result.error_message}", hint=""
                    )

    # Clients

    def client_settings(
        self, bootstrap_servers: str, user: str | None, mechanism: str = "PLAIN", *, librdkafka: bool = False
    ) -> dict[str, str]:
        """Settings of a client by Kafka's names (or librdkafka's) that logs in as this user, by default the first."""
        found = {"bootstrap.servers": bootstrap_servers, "security.protocol": self.protocol}
        if self.is_plain:
            return found
        if user is None:
            user = next(iter(self.users), None)
        elif user not in self.users:
            known = ", ".join(self.users) or "nobody"
            raise ConfigError(f"{user!r} is no user of this cluster.", hint=f"There is {known}.")
        if self.protocol.endswith("SSL"):
            found |= {"ssl.ca.pem": authority()} if librdkafka else _truststore()
        if user is None:
            return found
        if self.protocol == "SSL":
            identity = _identity(user)
            if librdkafka:
                return found | {"ssl.key.pem": identity.key, "ssl.certificate.pem": identity.certificate}
            return found | {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.key": identity.key,
                "ssl.keystore.certificate.chain": identity.certificate,
            }
        if mechanism not in MECHANISMS:
            raise ConfigError(f"nobody logs in with {mechanism} here.", hint=f"There are {', '.join(MECHANISMS)}.")
        found["sasl.mechanism"] = mechanism
        if librdkafka:
            return found | {"sasl.username": user, "sasl.password": self.users[user]}
        module = _JAVA_MODULES.get(mechanism, "scram.ScramLoginModule")
        found["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module} required "
            f'username="{_quoted(user)}" password="{_quoted(self.users[user])}";'
        )
        return found


def authority() -> str:
    """The certificate of this process's authority, PEM: what clients have to trust."""
    return _authority().certificate


@functools.cache
def _authority() -> Identity:
    from ottla.security.authority import make_authority

    return make_authority("Ottla tests", now=_now(), days=_DAYS)


@functools.cache
def _identity(user: str) -> Identity:
    """The certificate of a user; of brokers, where there is none."""
    from ottla.security.authority import issue

    hosts = () if user else ("localhost", "127.0.0.1", "::1")
    return issue(_authority(), user or "broker", hosts, now=_now(), days=_DAYS)


@functools.cache
def _salted(mechanism: str, name: str, password: str) -> bytes:
    from ottla.security.scram_keys import salted_password

    return salted_password(mechanism, password, _salt(name), _ITERATIONS)


def _salt(name: str) -> bytes:
    return hashlib.sha256(f"salt of {name}".encode()).digest()[:20]


def _password(name: str) -> str:
    return f"{name}-password"


def _truststore() -> dict[str, str]:
    return {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": authority()}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)

"""A secured cluster on one machine: `ottla start --secure DIR --brokers N`.

All nodes have the certificate of one folder. Brokers log in at each other as clients do, with a password of their own;
controllers know nodes by the certificate. Both are super users, or nodes could not do what they are for.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Final

from ottla.cli.passwords import generate_password, write_private
from ottla.cli.security import AUTHORITY_DAYS, NODE_DAYS, all_hosts
from ottla.cli.security.folder import MECHANISM, NODE_ID, Folder, scram_argument
from ottla.schema.properties import parse_properties

NODES: Final = "ottla-nodes"
ADMINISTRATOR: Final = "admin"
_FILE: Final = "nodes.properties"
_SCRAM_MODULE: Final = "org.apache.kafka.common.security.scram.ScramLoginModule"


@dataclass(frozen=True, slots=True)
class ClusterSecurity:
    """What the nodes of such a cluster share."""

    folder: Folder
    node_password: str
    token_key: str
    admin_password: str

    @classmethod
    def of(cls, directory: str, bootstrap_servers: str, host: str) -> ClusterSecurity:
        """That of a directory; what is missing there is made. Raises `CommandError`."""
        folder = Folder(directory)
        folder.check_complete_or_new()
        folder.make_certificates(all_hosts([host]), [host], days=NODE_DAYS, authority_days=AUTHORITY_DAYS)
        path = os.path.join(folder.path, _FILE)
        if not os.path.exists(path):
            made = {
                "node.password": generate_password(),
                "admin.password": generate_password(),
                "token.key": secrets.token_urlsafe(32),
            }
            write_private(path, "".join(f"{name}={value}\n" for name, value in made.items()))
        with open(path, encoding="utf-8") as file:
            kept = {entry.name: entry.value for entry in parse_properties(file.read(), path)}
        if not os.path.exists(folder.admin_properties):
            folder.write_administrator(ADMINISTRATOR, kept["admin.password"], bootstrap_servers)
        return cls(folder, kept["node.password"], kept["token.key"], kept["admin.password"])

    def credentials(self) -> list[str]:
        """What the metadata of a new cluster begin with."""
        return [scram_argument(NODES, self.node_password), scram_argument(ADMINISTRATOR, self.admin_password)]

    def settings(self) -> dict[str, str]:
        """Settings of every node."""
        return {
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.folder.node_pem,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.folder.authority_pem,
            "listener.name.controller.ssl.client.auth": "required",
            "listener.name.controller.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
            "sasl.mechanism.inter.broker.protocol": MECHANISM,
            f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": (
                f'{_SCRAM_MODULE} required username="{NODES}" password="{self.node_password}";'
            ),
            "delegation.token.secret.key": self.token_key,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{ADMINISTRATOR};User:{NODES};User:node-{NODE_ID}",
        }

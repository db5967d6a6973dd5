"""The files of a secured broker: what they are, how they are made, what may be wrong with them.

```
authority.pem  authority.key       the authority: what clients trust, and the key that signs certificates
node.pem                           the node's key and certificate
truststore.p12                     authority.pem for Java that reads no PEM
server.properties                  the broker's settings
admin.properties                   the administrator's, for Kafka's clients; admin.librdkafka.properties for others
data/                              the broker's data; its metadata begin with the administrator's credential
```

Nothing that is there is overwritten. What is secret is readable for its owner alone, from the moment it is written.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import re
import secrets
from typing import TYPE_CHECKING, Final

from ottla.cli.client_properties import librdkafka_of, librdkafka_text, properties_text, scram_settings
from ottla.cli.connection import read_properties
from ottla.cli.errors import CommandError
from ottla.cli.passwords import write_private

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ottla.security.authority import Identity, Summary

MECHANISM: Final = "SCRAM-SHA-512"
TRUSTSTORE_PASSWORD: Final = "changeit"
"""Java wants one for a truststore; there is nothing secret in it."""
ENDS_SOON: Final = datetime.timedelta(days=30)
NODE_ID: Final = 1
_ITERATIONS: Final = 4096
_PUBLIC: Final = 0o644


class Folder:
    """One directory of such files. `made` lists what was made."""

    def __init__(self, directory: str) -> None:
        self.path = os.path.abspath(directory)
        self.made: list[str] = []
        self.authority_pem = self._at("authority.pem")
        self.authority_key = self._at("authority.key")
        self.node_pem = self._at("node.pem")
        self.truststore = self._at("truststore.p12")
        self.server_properties = self._at("server.properties")
        self.admin_properties = self._at("admin.properties")
        self.librdkafka_properties = self._at("admin.librdkafka.properties")
        self.data = self._at("data")

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    # Making

    def check_complete_or_new(self) -> None:
        """Make the directory. Raises `CommandError` where something is in the way."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            state = os.stat(self.path)
        except OSError as error:
            raise CommandError(f"cannot make {self.path}: {(error.strerror or str(error)).lower()}") from None
        if state.st_mode & 0o022 or state.st_uid not in (os.geteuid(), 0):
            # Who may write there puts his own authority in the place of ours.
            raise CommandError(
                f"others can change what is in {self.path}: choose another directory, or take it for yourself (chown, "
                "chmod 700)"
            )
        if os.path.exists(self._data_meta()) and not os.path.exists(self.admin_properties):
            raise CommandError(
                f"{self.data} has data, but {self.admin_properties}, which says who administers it, is gone; put it "
                "back, or choose another directory"
            )

    def make_certificates(
        self, hosts: Sequence[str], wanted: Sequence[str] = (), *, days: int, authority_days: int, force: bool = False
    ) -> None:
        """Authority, node certificate and truststore, as far as they are missing. `wanted` of the hosts must be in a
        certificate that is there already."""
        from ottla.security.authority import is_issued_by, make_authority, truststore

        if force or not os.path.exists(self.authority_pem):
            if os.path.exists(self.authority_key) and not force:
                raise CommandError(f"{self.authority_pem} is gone, but its key is there; put it back, or say --force")
            authority = make_authority(f"Ottla authority {secrets.token_hex(4)}", now=_now(), days=authority_days)
            self._write(self.authority_key, authority.key)
            self._write(self.authority_pem, authority.certificate, mode=_PUBLIC)
            self._write(self.truststore, truststore(authority.certificate, TRUSTSTORE_PASSWORD), mode=_PUBLIC)
            force = True
        elif not os.path.exists(self.truststore):
            pem = truststore(_read(self.authority_pem), TRUSTSTORE_PASSWORD)
            self._write(self.truststore, pem, mode=_PUBLIC)
        if force or not os.path.exists(self.node_pem):
            self.renew(hosts, days=days)
        elif not is_issued_by(_read(self.node_pem), _read(self.authority_pem)):
            raise CommandError(f"{self.node_pem} is not of the authority beside it; say --force to make both anew")
        else:
            self._check_hosts(wanted)

    def _check_hosts(self, hosts: Sequence[str]) -> None:
        known = self.node_summary().hosts
        missing = [host for host in hosts if host not in known]
        if missing:
            raise CommandError(
                f"the node's certificate is not for {missing[0]}, but for {', '.join(known)}; `ottla security renew "
                f"{self.path} --host {missing[0]}` makes another"
            )

    def renew(self, hosts: Sequence[str] | None, *, days: int) -> None:
        """A new certificate for the node, for the same hosts unless others are given."""
        from ottla.security.authority import issue
        from ottla.security.errors import SecurityConfigError

        try:
            if hosts is None:
                hosts = self.node_summary().hosts
            node = issue(self._authority(), f"node-{NODE_ID}", hosts, now=_now(), days=days)
        except SecurityConfigError as error:
            raise CommandError(f"{self.node_pem} cannot be made: {error}") from None
        self._write(self.node_pem, node.key + node.certificate)

    def make_administrator(self, name: str, password: str, *, advertised: Sequence[str], port: int) -> None:
        """The administrator's settings, and the broker's data with its credential."""
        if os.path.exists(self.admin_properties):
            return
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise CommandError(f"{name!r} is no name for an administrator: letters, digits, '.', '_' and '-' make one")
        self._format(name, password)
        host = _bracketed(advertised[0]) if advertised else "localhost"
        self.write_administrator(name, password, f"{host}:{port}")

    def write_administrator(self, name: str, password: str, bootstrap_servers: str) -> None:
        """The administrator's settings."""
        base = {
            "bootstrap.servers": bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority_pem,
        }
        settings = scram_settings(base, name, password, MECHANISM)
        self._write(self.librdkafka_properties, librdkafka_text(librdkafka_of(settings)))
        self._write(self.admin_properties, properties_text(settings))

    def _format(self, name: str, password: str) -> None:
        """Prepare the data directory as `ottla storage format` does."""
        from ottla.cli.kafka.storage_format import Format, InitialVoter, random_id
        from ottla.cli.storage import UNOPENED
        from ottla.core.ids import uuid_to_text
        from ottla.runtime.real_disk import RealDisk

        try:
            os.makedirs(self.data, mode=0o700, exist_ok=True)  # salted passwords are in it, and records
        except OSError as error:
            raise CommandError(f"cannot make {self.data}: {(error.strerror or str(error)).lower()}") from None
        Format(
            node_id=NODE_ID,
            cluster_id=uuid_to_text(random_id()),
            directories=[self.data],
            metadata_log_directory=self.data,
            controller_listener_name="CONTROLLER",
            voters=(InitialVoter(NODE_ID, *UNOPENED, random_id()),),
            has_dynamic_quorum=True,
            scram=[scram_argument(name, password)],
        ).run(RealDisk(), lambda line: None)
        self.made.append(self.data)

    def make_server_properties(self, admin: str, *, advertised: Sequence[str], port: int) -> None:
        """The broker's settings, where there are none."""
        if os.path.exists(self.server_properties):
            return
        bound, told = ("", _bracketed(advertised[0])) if advertised else ("127.0.0.1", "localhost")
        sections = {
            "Written by `ottla security init`, and yours from now on.": {
                "node.id": str(NODE_ID),
                "log.dirs": self.data,
                "listeners": f"SASL_SSL://{bound}:{port}",
                "advertised.listeners": f"SASL_SSL://{told}:{port}",
                "inter.broker.listener.name": "SASL_SSL",
            },
            "What the broker shows clients, and what it believes itself": {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": self.node_pem,
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": self.authority_pem,
            },
            "Who comes in: users with a SCRAM password (`ottla users`), and who has a delegation token": {
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
                "sasl.mechanism.inter.broker.protocol": MECHANISM,
                "delegation.token.secret.key": secrets.token_urlsafe(32),
            },
            "Who may do what: nobody anything, but for what `ottla users grant` and `ottla acls` allow": {
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": f"User:{admin}",
                "allow.everyone.if.no.acl.found": "false",
            },
        }
        text = "\n".join(f"# {title}\n{properties_text(settings)}" for title, settings in sections.items())
        self._write(self.server_properties, text)

    # Looking

    def admin_settings(self) -> dict[str, str]:
        """The administrator's settings, from their file."""
        return read_properties(self.admin_properties, "the administrator")

    def java_settings(self, settings: dict[str, str]) -> dict[str, str]:
        """The same with the PKCS12 truststore."""
        return {
            **settings,
            "ssl.truststore.type": "PKCS12",
            "ssl.truststore.location": self.truststore,
            "ssl.truststore.password": TRUSTSTORE_PASSWORD,
        }

    def node_summary(self) -> Summary:
        """What the node's certificate says."""
        return _summary(self.node_pem)

    def problems(self) -> list[str]:
        """What is wrong, or will be soon; a line each."""
        from ottla.security.authority import is_issued_by, matches

        files = (self.authority_pem, self.node_pem, self.truststore, self.server_properties, self.admin_properties)
        missing = [f"{path} is missing; `ottla security init {self.path}` makes it" for path in files if _is_gone(path)]
        if missing:
            return missing
        secret = (
            self.authority_key,
            self.node_pem,
            self.server_properties,
            self.admin_properties,
            self.librdkafka_properties,
        )
        found = [
            f"{path} is secret, but others can read it: chmod 600 {path}"
            for path in secret
            if not _is_gone(path) and os.stat(path).st_mode & 0o077
        ]
        for path, what in ((self.node_pem, "renew"), (self.authority_pem, "init --force")):
            end = _summary(path).not_after
            if end < _now() + ENDS_SOON:
                when = "ended" if end < _now() else "ends"
                found.append(f"{path} {when} on {end:%Y-%m-%d}: `ottla security {what} {self.path}`")
        if not is_issued_by(_read(self.node_pem), _read(self.authority_pem)):
            found.append(f"{self.node_pem} is not of the authority beside it: `ottla security renew {self.path}`")
        if not _is_gone(self.authority_key) and not matches(self._authority()):
            found.append(f"{self.authority_key} is not the key of {self.authority_pem}; put the right one back")
        return found

    # Files

    def _authority(self) -> Identity:
        from ottla.security.authority import Identity

        return Identity(_read(self.authority_pem), _read(self.authority_key))

    def _data_meta(self) -> str:
        return os.path.join(self.data, "meta.properties")

    def _write(self, path: str, content: str | bytes, *, mode: int = 0o600) -> None:
        write_private(path, content, mode=mode)
        self.made.append(path)


def scram_argument(name: str, password: str) -> str:
    """A credential as the formatting of a directory takes it."""
    salt = secrets.token_bytes(20)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    credential = f"name={name},salt={_base64(salt)},saltedpassword={_base64(salted)},iterations={_ITERATIONS}"
    return f"{MECHANISM}=[{credential}]"


def _summary(path: str) -> Summary:
    from ottla.security.authority import summary
    from ottla.security.errors import SecurityConfigError

    try:
        return summary(_read(path))
    except SecurityConfigError as error:
        raise CommandError(f"{path}: {error}") from None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} is not a PEM file") from None


def _is_gone(path: str) -> bool:
    return not os.path.exists(path)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

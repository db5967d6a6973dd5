"""The TLS of a listener, and of connections to one: contexts from its settings, renewed while the node runs.

A `RenewedContext` gives the context for new connections; those that exist keep theirs. It is made anew when settings
change, or when a file that they name has changed on disk (its time, size or number). What is new must be fit to take
over, by Kafka's rules: the names in the certificate may only change where `ssl.allow.dn.changes` and
`ssl.allow.san.changes` say so, and brokers must go on trusting each other. Whatever is wrong leaves the old one in
place.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.schema.definition import Password, SettingError
from ottla.security.certificates import Leaf, leaf_of
from ottla.security.errors import SecurityConfigError
from ottla.security.principal_rules import PrincipalRules
from ottla.security.settings import TlsSettings
from ottla.security.tls import check_handshake, client_context, key_pairs, server_context

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.schema.listener_config import ListenerConfig

logger = logging.getLogger(__name__)

_SOON: Final = timedelta(days=14)
"""So long before a certificate ends, a line says so."""
_PROTOCOLS: Final = ("TLS", "TLSv1.2", "TLSv1.3")


class TlsConfig(NamedTuple):
    """What a listener's settings say of TLS."""

    settings: TlsSettings
    may_change_subject: bool
    may_change_names: bool


def tls_config(config: ListenerConfig, protocol: str) -> TlsConfig:
    """The `ssl.*` settings of a listener that speaks `protocol` (SSL or SASL_SSL). Raises SettingError."""
    if config["ssl.protocol"] not in _PROTOCOLS:
        key = config.key("ssl.protocol")
        raise SettingError(key, f"{key}: there is no {config['ssl.protocol']}, but {', '.join(_PROTOCOLS)}")
    client_auth = config["ssl.client.auth"]
    if protocol == "SASL_SSL" and not config.is_own("ssl.client.auth"):
        client_auth = "none"  # KIP-684: with SASL, certificates are asked for only where that is said of the listener.
    return TlsConfig(
        TlsSettings(
            keystore_location=config["ssl.keystore.location"],
            keystore_type=None if config.is_default("ssl.keystore.type") else config["ssl.keystore.type"],
            keystore_password=_clear(config["ssl.keystore.password"]),
            keystore_key=_clear(config["ssl.keystore.key"]),
            keystore_certificate_chain=_clear(config["ssl.keystore.certificate.chain"]),
            key_password=_clear(config["ssl.key.password"]),
            truststore_location=config["ssl.truststore.location"],
            truststore_type=None if config.is_default("ssl.truststore.type") else config["ssl.truststore.type"],
            truststore_password=_clear(config["ssl.truststore.password"]),
            truststore_certificates=_clear(config["ssl.truststore.certificates"]),
            enabled_protocols=tuple(config["ssl.enabled.protocols"]),
            cipher_suites=tuple(config["ssl.cipher.suites"]),
            checks_host_names=bool(config["ssl.endpoint.identification.algorithm"]),
            client_auth=client_auth,
        ),
        may_change_subject=config["ssl.allow.dn.changes"],
        may_change_names=config["ssl.allow.san.changes"],
    )


def principal_rules(config: ListenerConfig) -> PrincipalRules:
    """`ssl.principal.mapping.rules` of a listener. Raises SettingError."""
    name = "ssl.principal.mapping.rules"
    try:
        return PrincipalRules.parse(config[name])
    except ValueError as error:
        key = config.key(name)
        raise SettingError(key, f"{key}: {error}") from None


class RenewedContext:
    """The SSLContext for a listener's connections, or for connections to it, whatever becomes of its files."""

    __slots__ = (
        "_config",
        "_is_server",
        "_leaves",
        "_protocol",
        "_refused",
        "_seen",
        "_verifies_itself",
        "context",
        "name",
    )

    def __init__(
        self, config: BrokerConfig, name: str, protocol: str, *, is_server: bool, verifies_itself: bool = False
    ) -> None:
        """Reads the files. `verifies_itself`: brokers talk to each other there, so that what one shows, all must trust.

        Raises SettingError.
        """
        self.name = name
        self._protocol = protocol
        self._is_server = is_server
        self._verifies_itself = verifies_itself
        self._config = tls_config(config.for_listener(name), protocol)
        self._seen = _signature(self._config.settings)
        self._refused: object = None
        try:
            self.context, self._leaves = self._make(self._config)
            if verifies_itself:
                self._check_trust(self._config.settings, self._config.settings)
        except SecurityConfigError as error:
            raise self._refusal(config, error) from None
        self._tell_end()

    def check(self, config: BrokerConfig) -> None:
        """Raise SettingError unless the context can be made anew with these settings."""
        try:
            self._made_anew(tls_config(config.for_listener(self.name), self._protocol))
        except SecurityConfigError as error:
            raise self._refusal(config, error) from None

    def renew(self, config: BrokerConfig) -> bool:
        """Make it anew if settings or files have changed; whether they have. What is wrong is logged, once."""
        changed = self._changes(config)
        if changed is None:
            return False
        wanted, seen = changed
        try:
            self.context, self._leaves = self._made_anew(wanted)
        except SecurityConfigError as error:
            self._refused = changed
            logger.error("%s keeps its certificates, the new ones cannot be used: %s", self._what, error.message)
            return False
        self._config, self._seen, self._refused = wanted, seen, None
        logger.info("%s has new certificates for new connections", self._what)
        self._tell_end()
        return True

    def _changes(self, config: BrokerConfig) -> tuple[TlsConfig, object] | None:
        try:
            wanted = tls_config(config.for_listener(self.name), self._protocol)
        except SettingError:
            return None  # it was refused when it was set
        changed = wanted, _signature(wanted.settings)
        return None if changed in ((self._config, self._seen), self._refused) else changed

    @property
    def _what(self) -> str:
        return self.name if self._is_server else f"the way to {self.name}"

    def _make(self, config: TlsConfig) -> tuple[ssl.SSLContext, list[Leaf]]:
        make: Callable[[TlsSettings], ssl.SSLContext] = server_context if self._is_server else client_context
        context = make(config.settings)
        return context, [leaf_of(pair) for pair in key_pairs(config.settings)]

    def _made_anew(self, config: TlsConfig) -> tuple[ssl.SSLContext, list[Leaf]]:
        """As `_make`, and fit to take over (Kafka's SslFactory has the same rules)."""
        context, leaves = self._make(config)
        old, new = self._config.settings, config.settings
        if not self._leaves and leaves:
            raise SecurityConfigError("ssl.keystore.location", "there was no keystore, so none can be added.")
        if self._leaves and not leaves:
            raise SecurityConfigError("ssl.keystore.location", "the keystore cannot be taken away.")
        if not _has_truststore(old) and _has_truststore(new):
            raise SecurityConfigError("ssl.truststore.location", "there was no truststore, so none can be added.")
        _check_names(self._leaves, leaves, config)
        if self._verifies_itself:
            self._check_trust(new, old)
            self._check_trust(old, new)
        return context, leaves

    def _check_trust(self, server: TlsSettings, client: TlsSettings) -> None:
        """What one broker shows, another one must believe: also while some have the new files and some the old.

        Old files that have been replaced are not there any more to be compared with; then the new ones count alone.
        """
        try:
            near = client_context(replace(client, checks_host_names=False))
            check_handshake(server_context(server), near)
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", None) or error.reason or str(error)
            raise SecurityConfigError(
                "ssl.truststore.location",
                f"brokers would not trust each other on {self.name} ({reason}): the truststore must hold who signed "
                "the certificate in the keystore.",
            ) from None

    def _refusal(self, config: BrokerConfig, error: SecurityConfigError) -> SettingError:
        key = config.for_listener(self.name).key(error.setting) if error.setting else error.setting
        text = error.message.rstrip(".")
        return SettingError(key, f"{self.name}: {text}" if key == error.setting else f"{key}: {text}")

    def _tell_end(self) -> None:
        now = datetime.now(UTC)
        for leaf in self._leaves:
            if leaf.not_before > now:
                day = leaf.not_before.strftime("%Y-%m-%d")
                logger.error("the certificate of %s (%s) is not valid before %s", self._what, leaf.subject, day)
            if leaf.not_after <= now:
                logger.error("the certificate of %s (%s) ended on %s", self._what, leaf.subject, _day(leaf))
            elif leaf.not_after <= now + _SOON:
                logger.warning("the certificate of %s (%s) ends on %s", self._what, leaf.subject, _day(leaf))


def _check_names(old: list[Leaf], new: list[Leaf], config: TlsConfig) -> None:
    if not config.may_change_subject and [each.subject.lower() for each in old] != [
        each.subject.lower() for each in new
    ]:
        raise SecurityConfigError(
            "ssl.keystore.location",
            "the certificate is for another subject than before. If that is right, set ssl.allow.dn.changes to true.",
        )
    if not config.may_change_names and not all(
        before.names <= after.names for before, after in zip(old, new, strict=False)
    ):
        raise SecurityConfigError(
            "ssl.keystore.location",
            "the certificate lacks names that the one before had. If that is right, set ssl.allow.san.changes to true.",
        )


def _has_truststore(settings: TlsSettings) -> bool:
    return settings.truststore_location is not None or settings.truststore_certificates is not None


def _signature(settings: TlsSettings) -> object:
    """What tells whether files have changed, without reading them."""
    found: list[Any] = []
    for path in settings.files:
        try:
            paths = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
        except OSError:
            paths = [path]
        for each in paths:
            try:
                state = os.stat(each)
                found.append((each, state.st_mtime_ns, state.st_size, state.st_ino))
            except OSError:
                found.append((each, None))
    return found


def _clear(password: Password | None) -> str | None:
    return None if password is None else password.value


def _day(leaf: Leaf) -> str:
    return leaf.not_after.strftime("%Y-%m-%d")

"""What would stop the node from starting: the parts that read settings are asked, without listening or calling anybody.

Plug-ins, tokens of PKCS#11, Kerberos and issuers of tokens are left to the start: to ask them is to run them.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ottla.cli.doctor.findings import Finding, GivenSettings, Severity
from ottla.schema.definition import SettingError
from ottla.security.errors import SecurityConfigError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.schema.listeners import Listener

_ASKED = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def look(subject: GivenSettings) -> Iterator[Finding]:
    """All checks."""
    config = subject.config
    checks: list[Callable[[], object]] = []
    authorizer = config["authorizer.class.name"]
    if authorizer and ":" not in authorizer:
        checks.append(partial(_authorizer, config))
    keys = ("encryption.key", "encryption.previous.key")
    checks += [partial(_key, config, key) for key in keys if config[key] and not config[key].startswith("pkcs11:")]
    for listener in config.all_listeners:
        if listener.protocol.endswith("SSL"):
            checks.append(partial(_tls, config, listener))
        if listener.protocol.startswith("SASL"):
            names = dict.fromkeys(config.for_listener(listener.name)["sasl.enabled.mechanisms"])
            checks += [partial(_mechanism, config, listener, name) for name in names]
    for check in checks:
        try:
            check()
        except (SettingError, SecurityConfigError) as error:
            what = str(error).rstrip(".")
            yield Finding(
                Severity.CRITICAL, "cannot-start", "configuration", what, "the node does not start", "as it says"
            )


def _authorizer(config: BrokerConfig) -> None:
    from ottla.server.node.authorization import open_authorizer

    open_authorizer(config)


def _key(config: BrokerConfig, name: str) -> None:
    from ottla.server.security.encryption.sources import source_of

    source_of(config, os.environ, name)


def _tls(config: BrokerConfig, listener: Listener) -> None:
    from ottla.security.tls import key_pairs, server_context
    from ottla.server.security.tls import principal_rules, tls_config

    own = config.for_listener(listener.name)
    settings = tls_config(own, listener.protocol).settings
    principal_rules(own)
    try:
        usable = bool(key_pairs(settings))
    except SecurityConfigError:
        usable = False
    if usable:  # `files` tells of keystores that are missing or cannot be read
        server_context(settings)


def _mechanism(config: BrokerConfig, listener: Listener, mechanism: str) -> None:
    from ottla.server.security.sasl.mechanism import Surroundings
    from ottla.server.security.sasl.registry import HANDLER_CLASS, MECHANISMS, open_service

    settings = config.for_listener(listener.name, mechanism)
    if settings[HANDLER_CLASS] or (mechanism in MECHANISMS and mechanism not in _ASKED):
        return
    open_service(
        Surroundings(
            mechanism=mechanism,
            listener_name=listener.name,
            settings=settings,
            run_blocking=asyncio.to_thread,
            now_ms=lambda: int(time.time() * 1000),
            random_bytes=secrets.token_bytes,
        )
    )

"""`sasl.jaas.config` of a client."""

from __future__ import annotations

from ottla.client.security.errors import as_client_errors
from ottla.security import jaas
from ottla.security.jaas import JaasEntry

__all__ = ["JaasEntry", "parse_jaas"]


def parse_jaas(text: str) -> JaasEntry:
    """The one entry of a JAAS configuration; `ConfigError` (which shows no values) when it is none."""
    with as_client_errors():
        return jaas.parse_jaas(text)

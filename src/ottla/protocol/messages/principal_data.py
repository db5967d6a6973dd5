"""Serialized principal, as forwarded requests carry it (KIP-590)."""

from __future__ import annotations

from ottla.protocol.message import Data, boolean, string


class DefaultPrincipalData(Data, versions="0", flexible="0+"):
    """A principal as forwarded requests carry it (KIP-590)."""

    type: str = string("0+")
    name: str = string("0+")
    token_authenticated: bool = boolean("0+")

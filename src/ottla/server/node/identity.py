"""What a node is called, by itself and by others."""

from __future__ import annotations

import socket
from typing import Final

NODE_CLIENT_ID: Final = "ottla-node-"
"""What a node calls itself in requests to other nodes, before its id."""


def hostname() -> str:
    """What other machines call this one, for listeners on all addresses."""
    return socket.getfqdn()


def reachable(host: str) -> str:
    """An address to connect to for one that stands for all of them."""
    if host in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host

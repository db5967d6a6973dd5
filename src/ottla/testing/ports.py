"""Keeping a port while nobody listens there."""

from __future__ import annotations

import socket


def reserve(host: str, port: int) -> socket.socket | None:
    """A socket that has the port until it is closed, so that nobody else gets it; None when somebody has it already.

    Clients are refused, and one that tries again and again can not meet itself there.
    """
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))
    except OSError:
        reserved.close()
        return None
    return reserved

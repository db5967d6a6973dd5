"""How a client on plain sockets gets in where not everybody does: TLS, a password by SCRAM-SHA-512, or both.

RFC 5802 once more, in the standard library's words: a second opinion on what the broker says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import ssl
import struct
from dataclasses import dataclass, field
from socket import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.wire import Connection

SASL_HANDSHAKE, SASL_AUTHENTICATE = 17, 36
MECHANISM = "SCRAM-SHA-512"


class DoorError(OSError):
    """It stays shut."""


@dataclass(frozen=True)
class Door:
    """What it takes: a TLS `context`, None where the listener is plain; a name and a password, if any."""

    context: ssl.SSLContext | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def wrap(self, plain: socket, host: str) -> socket:
        """The socket to speak on."""
        return plain if self.context is None else self.context.wrap_socket(plain, server_hostname=host)

    def log_in(self, connection: Connection) -> None:
        """Say who one is. DoorError when that is not taken."""
        if not self.username:
            return
        mechanism = struct.pack(">h", len(MECHANISM)) + MECHANISM.encode()
        (error,) = struct.unpack_from(">h", connection.call(SASL_HANDSHAKE, 1, mechanism))
        if error:
            raise DoorError(f"{MECHANISM} is not taken: error {error}")
        nonce = base64.b64encode(os.urandom(18)).decode()
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        client_first = f"n={name},r={nonce}"
        server_first = _exchange(connection, f"n,,{client_first}")
        told = dict(part.split("=", 1) for part in server_first.split(","))
        if not told["r"].startswith(nonce):
            raise DoorError("the broker answers somebody else")
        salted = hashlib.pbkdf2_hmac("sha512", self.password.encode(), base64.b64decode(told["s"]), int(told["i"]))
        client_final = f"c=biws,r={told['r']}"
        signed = f"{client_first},{server_first},{client_final}".encode()
        key = hmac.digest(salted, b"Client Key", "sha512")
        signature = hmac.digest(hashlib.sha512(key).digest(), signed, "sha512")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        server_final = _exchange(connection, f"{client_final},p={proof}")
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha512"), signed, "sha512")
        if server_final != f"v={base64.b64encode(expected).decode()}":
            raise DoorError("the broker does not know the password")


def _exchange(connection: Connection, message: str) -> str:
    data = message.encode()
    response = bytes(connection.call(SASL_AUTHENTICATE, 0, struct.pack(">i", len(data)) + data))
    error, size = struct.unpack_from(">hh", response)
    position = 4 + max(size, 0)
    if error:
        raise DoorError(f"the login is refused: error {error}, {response[4:position].decode()}")
    (length,) = struct.unpack_from(">i", response, position)
    return response[position + 4 : position + 4 + length].decode()

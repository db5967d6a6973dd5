"""As much of HashiCorp Vault as we speak to: transit encrypt and decrypt, AppRole logins, KV version 2, over HTTP.

Answers have the shapes and the status codes of the real one: `{"data": {...}}`, `{"errors": [...]}`, 403 for a token
that may not or does not exist, `vault:v<version>:` before ciphertexts, older versions of a key decrypt on.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class VaultDouble:
    """A server on a free port; use as a context."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.tokens = {"the-root-token"}
        self.roles = {"the-role": "the-secret-id"}
        self.transit: dict[str, list[bytes]] = {"transit/ottla": [secrets.token_bytes(32)]}
        self.secrets: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.namespace: str | None = None
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                self._answer(json.loads(self.rfile.read(size)))

            def _answer(self, body: dict[str, str] | None) -> None:
                path = self.path.removeprefix("/v1/")
                double.requests.append(path)
                status, answer = double.answer(path, body, self.headers)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if context is not None:
            scheme = "https"
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> VaultDouble:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def rotate(self, name: str = "transit/ottla") -> None:
        """Another version of a transit key, as `vault write -f transit/keys/ottla/rotate` makes."""
        self.transit[name].append(secrets.token_bytes(32))

    def answer(self, path: str, body: dict[str, str] | None, headers: Any) -> tuple[int, dict[str, Any]]:
        if path == "auth/approle/login":
            assert body is not None
            if not body.get("secret_id") or self.roles.get(body.get("role_id", "")) != body["secret_id"]:
                return 400, {"errors": ["invalid role or secret ID"]}
            token = f"hvs.{secrets.token_urlsafe(16)}"
            self.tokens.add(token)
            return 200, {"auth": {"client_token": token, "lease_duration": 3600}}
        if headers.get("X-Vault-Token") not in self.tokens or headers.get("X-Vault-Namespace") != self.namespace:
            return 403, {"errors": ["permission denied"]}
        mount, _, rest = path.partition("/")
        kind, _, name = rest.partition("/")
        if kind == "data" and body is None:
            found = self.secrets.get(f"{mount}/{name}")
            if found is None:
                return 404, {"errors": []}
            return 200, {"data": {"data": found, "metadata": {"version": 1}}}
        keys = self.transit.get(f"{mount}/{name}")
        if keys is None or body is None:
            return 400, {"errors": ["encryption key not found"]}
        if kind == "encrypt":
            nonce = secrets.token_bytes(12)
            sealed = nonce + AESGCM(keys[-1]).encrypt(nonce, b64decode(body["plaintext"]), None)
            return 200, {"data": {"ciphertext": f"vault:v{len(keys)}:{b64encode(sealed).decode()}"}}
        _, version, text = body["ciphertext"].split(":")
        sealed = b64decode(text)
        try:
            opened = AESGCM(keys[int(version[1:]) - 1]).decrypt(sealed[:12], sealed[12:], None)
        except Exception:
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, {"data": {"plaintext": b64encode(opened).decode()}}

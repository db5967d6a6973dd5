"""HashiCorp Vault (or OpenBao) by HTTP, as much as keys and secrets need: a token or an AppRole, and JSON.

Blocking, by the standard library: it is asked at a start and when keys rotate, not while records flow.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

TIMEOUT_S = 10.0


class VaultError(Exception):
    """Vault did not do what it was asked; the text has no secret in it."""


class Vault:
    """A connection's settings. `token`, or `role_id` and `secret_id`; `ca` is a PEM file for https."""

    def __init__(
        self,
        address: str,
        *,
        token: str | None = None,
        role_id: str | None = None,
        secret_id: str | None = None,
        namespace: str | None = None,
        ca: str | None = None,
    ) -> None:
        if urlsplit(address).scheme not in ("http", "https"):
            raise VaultError(f"the address {address} of Vault is not of the form https://host:8200")
        if token is None and (role_id is None or secret_id is None):
            raise VaultError("Vault wants a token, or the role id and the secret id of an AppRole")
        self.address = address.rstrip("/")
        self._token = token
        self._role_id = role_id
        self._secret_id = secret_id
        self._namespace = namespace
        handlers: list[Any] = [ProxyHandler({})]
        if self.address.startswith("https"):
            try:
                context = ssl.create_default_context(cafile=ca)
            except OSError as error:
                raise VaultError(f"cannot read the authority {ca}: {error.strerror or error}") from None
            handlers += [HTTPSHandler(context=context), _SecureRedirects()]
        self._opener = build_opener(*handlers)

    def ask(self, path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        """GET, or POST of `body`; the `data` of the answer. Raises `VaultError`."""
        logged_in = self._token is None
        token = self._token or self._log_in()
        try:
            return self._answer(path, body, token)
        except _ForbiddenError:
            if logged_in or self._role_id is None:
                raise
            self._token = None  # a token from a login ends some day
            return self._answer(path, body, self._log_in())

    def _log_in(self) -> str:
        answer = self._send("auth/approle/login", {"role_id": self._role_id, "secret_id": self._secret_id}, None)
        try:
            self._token = str(answer["auth"]["client_token"])
        except (KeyError, TypeError):
            raise VaultError(f"Vault at {self.address} answered a login without a token") from None
        return self._token

    def _answer(self, path: str, body: dict[str, object] | None, token: str) -> dict[str, Any]:
        data = self._send(path, body, token).get("data")
        if not isinstance(data, dict):
            raise VaultError(f"Vault at {self.address} answered {path} without data")
        return data

    def _send(self, path: str, body: dict[str, object] | None, token: str | None) -> dict[str, Any]:
        headers = {"X-Vault-Request": "true", "Content-Type": "application/json"}
        if token is not None:
            headers["X-Vault-Token"] = token
        if self._namespace is not None:
            headers["X-Vault-Namespace"] = self._namespace
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.address}/v1/{quote(path)}", data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                found = json.load(response)
        except HTTPError as error:
            reasons = _reasons(error)
            kind = _ForbiddenError if error.code == 403 else VaultError
            raise kind(f"Vault at {self.address} refused {path} ({error.code}{reasons})") from None
        except (URLError, OSError, HTTPException) as error:
            raise VaultError(f"cannot reach Vault at {self.address}: {_why(error)}") from None
        except ValueError:
            raise VaultError(f"Vault at {self.address} did not answer with JSON") from None
        if not isinstance(found, dict):
            raise VaultError(f"Vault at {self.address} did not answer with an object")
        return found


class _SecureRedirects(HTTPRedirectHandler):
    """A standby node of Vault sends to the active one. The token goes along, so never to where anybody could read."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        return super().redirect_request(req, fp, code, msg, headers, newurl) if newurl.startswith("https://") else None


class _ForbiddenError(VaultError):
    """The token may not, or not any more."""


def secret_of(parameters: Mapping[str, str], path: str, key: str) -> str:
    """What a config provider refers to; `parameters` are its `param.…` settings. Raises `OSError`."""
    known = {"address": None, "token": None, "role.id": None, "secret.id": None, "namespace": None, "ca": None}
    given = known | dict(parameters)
    try:
        vault = Vault(
            given["address"] or "",
            token=given["token"],
            role_id=given["role.id"],
            secret_id=given["secret.id"],
            namespace=given["namespace"],
            ca=given["ca"],
        )
        return read_secret(vault, path, key)
    except VaultError as error:
        raise OSError(str(error)) from None


def read_secret(vault: Vault, path: str, key: str) -> str:
    """One value of a secret in a KV engine of version 2; `path` is MOUNT/PATH. Raises `VaultError`."""
    mount, _, rest = path.partition("/")
    data = vault.ask(f"{mount}/data/{rest}").get("data")
    if not isinstance(data, dict) or key not in data:
        raise VaultError(f"the secret {path} in Vault has no key {key}")
    return str(data[key])


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not believed, {reason.verify_message}; name the authority (ca)"
    if isinstance(reason, ssl.SSLError):
        return f"no TLS ({(reason.reason or str(reason)).lower().replace('_', ' ')}); check http or https"
    return str(getattr(reason, "strerror", None) or reason)


def _reasons(error: HTTPError) -> str:
    """What Vault says of it; never what it was sent."""
    try:
        errors = json.load(error).get("errors") or []
    except (ValueError, OSError, AttributeError):
        return ""
    text = " ".join(" ".join(str(one) for one in errors).split())[:200]
    return f": {text}" if text else ""

"""HashiCorp Vault (or OpenBao) by HTTP: transit keys that never leave it, and secrets of its KV engine.

Blocking, by the standard library: it is asked at the start and when keys rotate. A token is given, or fetched with an
AppRole's ids.
"""

from __future__ import annotations

import json
import ssl
from base64 import b64decode, b64encode
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from ottla.schema.definition import Password, SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

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
            handlers.append(HTTPSHandler(context=context))
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
            reason = getattr(error, "reason", None) or error
            raise VaultError(f"cannot reach Vault at {self.address}: {reason}") from None
        except ValueError:
            raise VaultError(f"Vault at {self.address} did not answer with JSON") from None
        if not isinstance(found, dict):
            raise VaultError(f"Vault at {self.address} did not answer with an object")
        return found


class _ForbiddenError(VaultError):
    """The token may not, or not any more."""


class TransitKey:
    """A key of Vault's transit engine as master key; see `KeySource`. Its own rotation in Vault needs nothing here."""

    def __init__(self, vault: Vault, mount: str, key: str, setting: str) -> None:
        self.name = f"vault:{mount}/{key}"
        self._vault = vault
        self._mount = mount
        self._key = key
        self._setting = setting

    @classmethod
    def of(cls, config: BrokerConfig, place: str, setting: str) -> TransitKey:
        """What `vault:MOUNT/KEY` and the settings `encryption.vault.…` name. Raises `SettingError`."""
        mount, _, key = place.rpartition("/")
        if not mount or not key:
            raise SettingError(setting, f"{setting}: vault: is followed by MOUNT/KEY, such as vault:transit/ottla")
        address = config["encryption.vault.address"]
        if address is None:
            raise SettingError(setting, f"{setting} names a key in Vault, but encryption.vault.address is not set")
        try:
            vault = Vault(
                address,
                token=_revealed(config["encryption.vault.token"]),
                role_id=config["encryption.vault.role.id"],
                secret_id=_revealed(config["encryption.vault.secret.id"]),
                namespace=config["encryption.vault.namespace"],
                ca=config["encryption.vault.ca"],
            )
        except VaultError as error:
            raise SettingError(
                setting, f"{setting}: {error} (encryption.vault.token, or encryption.vault.role.id and .secret.id)"
            ) from None
        return cls(vault, mount, key, setting)

    def wrap(self, key: bytes) -> bytes:
        return str(self._ask("encrypt", {"plaintext": b64encode(key).decode()}, "ciphertext")).encode()

    def unwrap(self, wrapped: bytes) -> bytes:
        return b64decode(self._ask("decrypt", {"ciphertext": wrapped.decode("ascii", "replace")}, "plaintext"))

    def _ask(self, what: str, body: dict[str, object], field: str) -> str:
        try:
            answer = self._vault.ask(f"{self._mount}/{what}/{self._key}", body)
        except VaultError as error:
            raise SettingError(self._setting, f"{self._setting}: {error}") from None
        if not isinstance(answer.get(field), str):
            raise SettingError(self._setting, f"{self._setting}: Vault's answer has no {field}")
        return str(answer[field])


def read_secret(vault: Vault, path: str, key: str) -> str:
    """One value of a secret in a KV engine of version 2; `path` is MOUNT/PATH. Raises `VaultError`."""
    mount, _, rest = path.partition("/")
    data = vault.ask(f"{mount}/data/{rest}").get("data")
    if not isinstance(data, dict) or key not in data:
        raise VaultError(f"the secret {path} in Vault has no key {key}")
    return str(data[key])


def _revealed(password: Password | None) -> str | None:
    return None if password is None else password.value


def _reasons(error: HTTPError) -> str:
    """What Vault says of it; never what it was sent."""
    try:
        errors = json.load(error).get("errors") or []
    except (ValueError, OSError, AttributeError):
        return ""
    text = " ".join(" ".join(str(one) for one in errors).split())[:200]
    return f": {text}" if text else ""

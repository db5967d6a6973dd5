"""A key of Vault's transit engine as master key: it never leaves Vault, which wraps and unwraps with it."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from ottla.runtime.vault import Vault, VaultError
from ottla.schema.definition import Password, SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig


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
            raise SettingError(setting, f"{setting}: {error} (encryption.vault.…)") from None
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


def _revealed(password: Password | None) -> str | None:
    return None if password is None else password.value

"""A key of a PKCS#11 token (an HSM) as master key. Needs `pip install "ottla[pkcs11]"`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from ottla.schema.definition import Password, SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

_IV_BYTES = 16


class TokenKey:
    """An AES key on a token; see `KeySource`. It wraps by AES-CBC with padding, which every token can do; that what
    comes out is the key that went in, the ring's check value says.
    """

    def __init__(self, library: str, token: str, label: str, pin: str | None, setting: str) -> None:
        self.name = f"pkcs11:{token}/{label}"
        self._library = library
        self._token = token
        self._label = label
        self._pin = pin
        self._setting = setting

    @classmethod
    def of(cls, config: BrokerConfig, place: str, setting: str) -> TokenKey:
        """What `pkcs11:TOKEN/LABEL` and the settings `encryption.pkcs11.…` name. Raises `SettingError`."""
        token, _, label = place.partition("/")
        if not token or not label:
            raise SettingError(setting, f"{setting}: pkcs11: is followed by TOKEN/LABEL, such as pkcs11:ottla/master")
        library = config["encryption.pkcs11.library"]
        if library is None:
            raise SettingError(
                setting, f"{setting} names a key on a token, but encryption.pkcs11.library (a .so file) is not set"
            )
        pin: Password | None = config["encryption.pkcs11.pin"]
        return cls(library, token, label, None if pin is None else pin.value, setting)

    def wrap(self, key: bytes) -> bytes:
        iv = secrets.token_bytes(_IV_BYTES)
        return iv + self._with_key("encrypt", key, iv)

    def unwrap(self, wrapped: bytes) -> bytes:
        return self._with_key("decrypt", wrapped[_IV_BYTES:], wrapped[:_IV_BYTES])

    def _with_key(self, operation: str, data: bytes, iv: bytes) -> bytes:
        try:
            import pkcs11
        except ImportError:
            raise SettingError(
                self._setting, f'{self._setting}: a PKCS#11 token needs `pip install "ottla[pkcs11]"`'
            ) from None
        try:
            library = pkcs11.lib(self._library)
        except (RuntimeError, OSError, pkcs11.PKCS11Error) as error:
            raise self._error(f"cannot load encryption.pkcs11.library {self._library}", error) from None
        try:
            token = library.get_token(token_label=self._token)
            with token.open(user_pin=self._pin) as session:
                key: Any = session.get_key(object_class=pkcs11.ObjectClass.SECRET_KEY, label=self._label)
                found = getattr(key, operation)(data, mechanism=pkcs11.Mechanism.AES_CBC_PAD, mechanism_param=iv)
                return bytes(found)
        except pkcs11.NoSuchToken:
            raise self._error(f"{self._library} has no token with the label {self._token}") from None
        except pkcs11.NoSuchKey:
            raise self._error(f"the token {self._token} has no AES key with the label {self._label}") from None
        except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLenRange, pkcs11.exceptions.PinInvalid):
            raise self._error(f"encryption.pkcs11.pin is not the PIN of the token {self._token}") from None
        except pkcs11.PKCS11Error as error:
            raise self._error(f"the token {self._token} refused", error) from None

    def _error(self, text: str, error: BaseException | None = None) -> SettingError:
        reason = "" if error is None else f": {str(error) or type(error).__name__}"
        return SettingError(self._setting, f"{self._setting}: {text}{reason}")

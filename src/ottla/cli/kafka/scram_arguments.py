"""`--add-scram 'SCRAM-SHA-256=[name=alice,password=secret]'` of kafka-storage, and the credential it stands for."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64decode
from binascii import Error as Base64Error
from typing import NamedTuple

_MECHANISMS = {"SCRAM-SHA-256": (1, "sha256"), "SCRAM-SHA-512": (2, "sha512")}
_DEFAULT_ITERATIONS = _MINIMUM_ITERATIONS = 4096
_MAXIMUM_ITERATIONS = 16384
_INT32 = 1 << 31


class ScramArgumentError(Exception):
    """The argument makes no sense; the text is Kafka's."""


class ScramCredential(NamedTuple):
    """What the broker keeps of a password."""

    name: str
    mechanism: int
    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


def scram_credential(argument: str) -> ScramCredential:
    """The credential of one argument. Raises `ScramArgumentError`."""
    mechanism, parts = _parts(argument.strip())
    number, algorithm = _MECHANISMS[mechanism]
    name = parts.pop("name", None)
    if name is None:
        raise ScramArgumentError("You must supply 'name' to add-scram")
    given_salt = parts.pop("salt", None)
    salt = None if given_salt is None else _base64(given_salt, f"Failed to decode given salt: {given_salt}")
    iterations = _iterations(parts.pop("iterations", None))
    password, salted = parts.pop("password", None), parts.pop("saltedpassword", None)
    salted_password = None
    if password is None:
        if salted is None:
            raise ScramArgumentError("You must supply one of 'password' or 'saltedpassword' to add-scram")
        if salt is None:
            raise ScramArgumentError("You must supply 'salt' with 'saltedpassword' to add-scram")
        salted_password = _base64(salted, f"Failed to decode given saltedPassword: {salted}")
    if parts:
        raise ScramArgumentError(f"Unknown SCRAM configurations: {', '.join(sorted(parts))}")
    for wrong, relation, bound in (
        (iterations < _MINIMUM_ITERATIONS, ">=", _MINIMUM_ITERATIONS),
        (iterations > _MAXIMUM_ITERATIONS, "<=", _MAXIMUM_ITERATIONS),
    ):
        if wrong:
            java_name = mechanism.replace("-", "_")
            raise ScramArgumentError(
                f"The 'iterations' value must be {relation} {bound} for add-scram using {java_name}"
            )
    if salt is None:
        salt = os.urandom(32)
    if salted_password is None:
        salted_password = hashlib.pbkdf2_hmac(algorithm, (password or "").encode(), salt, iterations)
    client_key = hmac.digest(salted_password, b"Client Key", algorithm)
    return ScramCredential(
        name,
        number,
        salt,
        hashlib.new(algorithm, client_key).digest(),
        hmac.digest(salted_password, b"Server Key", algorithm),
        iterations,
    )


def _parts(text: str) -> tuple[str, dict[str, str]]:
    mechanism, equals, config = text.partition("=")
    if not equals:
        raise ScramArgumentError(f"Failed to find equals sign in SCRAM argument '{text}'")
    if mechanism not in _MECHANISMS:
        raise ScramArgumentError(f"The add-scram mechanism {mechanism} is not supported.")
    if not config.startswith("["):
        raise ScramArgumentError("Expected configuration string to start with [")
    if not config.endswith("]"):
        raise ScramArgumentError("Expected configuration string to end with ]")
    parts = {}
    for part in config[1:-1].split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ScramArgumentError(f"No equals sign found in SCRAM component: {part}")
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        parts[name] = value
    return mechanism, parts


def _base64(text: str, message: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise ScramArgumentError(message) from None


def _iterations(text: str | None) -> int:
    if text is None:
        return _DEFAULT_ITERATIONS
    try:
        value = int(text)
        if "_" in text or not -_INT32 <= value < _INT32:
            raise ValueError
    except ValueError:
        raise ScramArgumentError(f"Failed to parse iterations count: {text}") from None
    return value

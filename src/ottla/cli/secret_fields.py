"""What of metadata records nobody is shown: values of sensitive settings, and what SCRAM verifies passwords with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ottla.cli.profiles import is_secret

_SECRET_FIELDS = frozenset({"salt", "storedKey", "serverKey", "saltedPassword", "hmac"})


def without_secrets(kind: str, fields: Mapping[str, Any], word: str) -> dict[str, Any]:
    """The fields of a record of a kind (`ConfigRecord`), `word` in place of each secret."""
    hides_value = kind == "ConfigRecord" and is_secret(str(fields.get("name", "")))
    return {
        name: word if name in _SECRET_FIELDS or (hides_value and name == "value") else value
        for name, value in fields.items()
    }

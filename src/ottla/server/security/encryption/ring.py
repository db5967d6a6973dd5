"""The key-encryption keys of a data directory, wrapped by a master key: the file `.ottla-keys`."""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import b64decode, b64encode
from typing import Final, NamedTuple

from ottla.runtime.disk import Disk
from ottla.schema.definition import SettingError
from ottla.server.security.encryption.sources import SETTING, KeySource

RING: Final = ".ottla-keys"
REQUEST: Final = ".ottla-keys.request"
"""Somebody wants the key rotated by the node that has the directory, which removes the file when that is done."""

_VERSION = 1
_KEY_BYTES = 32
_ID_BYTES = 16


class RingKey(NamedTuple):
    """A key-encryption key as it is stored. `check` tells whether what was unwrapped is it; times are wall clock."""

    key_id: bytes
    created_ms: int
    source: str
    wrapped: bytes
    check: str
    retired_ms: int | None = None


class Ring:
    """The keys of one directory: `keys` in the order of their making, the last is the current one.

    What it has in memory only (`opened`) are the keys themselves.
    """

    def __init__(self, directory: str, keys: list[RingKey]) -> None:
        self.directory = directory
        self.keys = keys
        self.opened: dict[bytes, bytes] = {}

    @property
    def path(self) -> str:
        return f"{self.directory}/{RING}"

    @property
    def current_id(self) -> bytes:
        """The id of the key that new files get."""
        return self.keys[-1].key_id

    @classmethod
    def read(cls, disk: Disk, directory: str) -> Ring | None:
        """The ring of a directory, None when it has none. Raises `SettingError` when it is damaged, `DiskError`."""
        path = f"{directory}/{RING}"
        if not disk.exists(path):
            return None
        try:
            content = json.loads(disk.read(path))
            if content["version"] != _VERSION:
                raise SettingError(SETTING, f"{path} is of a newer release (version {content['version']})")
            keys = [
                RingKey(
                    bytes.fromhex(key["id"]),
                    int(key["created_ms"]),
                    str(key["source"]),
                    b64decode(key["wrapped"]),
                    str(key["check"]),
                    key.get("retired_ms"),
                )
                for key in content["keys"]
            ]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            keys = []
        if not keys:
            raise SettingError(SETTING, f"the ring of keys {path} is damaged; put back a copy of it")
        return cls(directory, keys)

    def write(self, disk: Disk) -> None:
        """Atomically and durably. Raises `DiskError`."""
        keys = [
            {
                "id": key.key_id.hex(),
                "created_ms": key.created_ms,
                "source": key.source,
                "wrapped": b64encode(key.wrapped).decode(),
                "check": key.check,
                "retired_ms": key.retired_ms,
            }
            for key in self.keys
        ]
        content = {"version": _VERSION, "keys": keys}
        disk.replace(self.path, json.dumps(content, indent=1).encode() + b"\n")

    def open(self, sources: list[KeySource]) -> bool:
        """Unwrap all keys; whether some were wrapped by another master key than the first, and now are by it.

        Raises `SettingError`, which says which key is wanted.
        """
        changed = False
        by_name = {source.name: source for source in sources}
        for index, key in enumerate(self.keys):
            source = by_name.get(key.source)
            if source is None:
                given = ", ".join(by_name) or "none"
                raise SettingError(
                    SETTING,
                    f"{self.directory} is encrypted: its key {key.key_id.hex()} is wrapped by the master key "
                    f"{key.source}, and {SETTING} gives {given}",
                )
            opened = source.unwrap(key.wrapped)
            if len(opened) != _KEY_BYTES or not hmac.compare_digest(
                _check(opened).encode(), key.check.encode("utf-8", "replace")
            ):
                raise SettingError(
                    SETTING,
                    f"{self.directory}: what {key.source} unwraps is not the key {key.key_id.hex()}; is it another "
                    "key of the same name?",
                )
            self.opened[key.key_id] = opened
            if source is not sources[0]:
                self.keys[index] = key._replace(source=sources[0].name, wrapped=sources[0].wrap(opened))
                changed = True
        return changed

    def rotate(self, source: KeySource, now_ms: int) -> bytes:
        """Make a new current key; its id. The ring is not written yet. Raises `SettingError`."""
        key_id, key = secrets.token_bytes(_ID_BYTES), secrets.token_bytes(_KEY_BYTES)
        made = RingKey(key_id, now_ms, source.name, source.wrap(key), _check(key))
        retired = [one if one.retired_ms else one._replace(retired_ms=now_ms) for one in self.keys]
        self.keys = [*retired, made]
        self.opened[key_id] = key
        return key_id

    def drop(self, before_ms: int) -> bool:
        """Forget the keys retired before a time, which no file needs; whether there were any. Not written yet."""
        kept = [key for key in self.keys if key.retired_ms is None or key.retired_ms >= before_ms]
        dropped = len(self.keys) - len(kept)
        self.keys = kept
        self.opened = {key.key_id: self.opened[key.key_id] for key in kept}
        return dropped > 0


def _check(key: bytes) -> str:
    return hmac.digest(key, b"ottla key check", "sha256")[:8].hex()

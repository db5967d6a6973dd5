"""The first page of an encrypted file: wrapped data key, twice, and the extents. Bytes in, bytes out."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ottla.core.binary import Buffer
from ottla.runtime.encryption.keystream import FOREVER, Extents, Keystream

HEADER_BYTES: Final = 4096
MAGIC: Final = b"\x89OTTLA\r\n"
KEY_ID_BYTES: Final = 16
DATA_KEY_BYTES: Final = 64

RandomBytes = Callable[[int], bytes]
FindKey = Callable[[bytes], bytes | None]
"""Key id → key-encryption key, None for one that nobody knows."""

_VERSION = 1
_IS_SEALED = 1
_SLOT = Struct(">8sBB2xI16s12sQ32s")  # magic, version, flags, sequence, key id, nonce, sealed size, seal
_WRAPPED_BYTES = DATA_KEY_BYTES + 16
_END = b"END\xff"  # the last byte of a slot that was written completely
_SLOT_BYTES = _SLOT.size + _WRAPPED_BYTES + len(_END)
_SLOT_PLACES = (0, 256)

_ENTRY = Struct(">QQ16s")  # start, end, nonce; then the code
_CODE_BYTES = 16
_ENTRY_BYTES = _ENTRY.size + _CODE_BYTES
_ENTRIES_AT = 512
MAXIMUM_EXTENTS: Final = (HEADER_BYTES - _ENTRIES_AT) // _ENTRY_BYTES


class HeaderError(Exception):
    """A header that cannot be used; the text completes "file …: "."""


class Seal(NamedTuple):
    """That a file was written whole: its size, and the code over its ciphertext."""

    size: int
    code: bytes


class Write(NamedTuple):
    """Bytes to be written into a file's header."""

    position: int
    data: bytes


class Header:
    """The keys and extents of one file. `extents` is replaced, never changed: any thread may take it."""

    __slots__ = ("_code_key", "_data_key", "entries", "key_id", "keystream", "seal", "sequence")

    def __init__(self, data_key: bytes, key_id: bytes, *, sequence: int = 0, seal: Seal | None = None) -> None:
        self._data_key = data_key
        self._code_key = data_key[32:]
        self.keystream = Keystream(data_key[:32])
        self.key_id = key_id
        self.sequence = sequence
        self.seal = seal
        self.entries = 0
        """Places of extents that are used."""

    @classmethod
    def new(cls, key_id: bytes, random_bytes: RandomBytes) -> Header:
        """With a data key and a first extent of its own."""
        header = cls(random_bytes(DATA_KEY_BYTES), key_id)
        header.keystream.extents = Extents((0,), (int.from_bytes(random_bytes(16)),))
        header.entries = 1
        return header

    def seal_for(self, ciphertext: Buffer) -> Seal:
        """The seal of a file with this content."""
        return Seal(len(ciphertext), hmac.digest(self._code_key, b"content" + bytes(ciphertext), "sha256"))

    def is_sealed_as(self, ciphertext: Buffer) -> bool:
        """Whether this is the content that was sealed."""
        if self.seal is None:
            return True
        found = self.seal_for(ciphertext)
        return found.size == self.seal.size and hmac.compare_digest(found.code, self.seal.code)

    def decrypt_in_place(self, data: memoryview, position: int) -> None:
        """Make plain bytes of what stands at this position of the inner disk's file."""
        self.keystream.decrypt_in_place(data, position - HEADER_BYTES)

    def page(self, key: bytes, random_bytes: RandomBytes) -> bytes:
        """The whole header of a new file, the data key wrapped by `key`."""
        page = bytearray(HEADER_BYTES)
        slot = self._slot(self.key_id, key, random_bytes)
        page[: len(slot)] = slot
        entry = self._entry(0, 0, FOREVER, self.keystream.extents.nonces[0])
        page[_ENTRIES_AT : _ENTRIES_AT + len(entry)] = entry
        return bytes(page)

    def rewrapped(self, key_id: bytes, key: bytes, random_bytes: RandomBytes) -> list[Write]:
        """What to write, one after the other and each durable before the next, so that `key` wraps the data key."""
        self.sequence += 1
        slot = self._slot(key_id, key, random_bytes)
        return [Write(place, slot) for place in reversed(_SLOT_PLACES)]

    def add_extent(self, start: int, end: int, random_bytes: RandomBytes) -> Write | None:
        """A new nonce for the bytes from `start` to `end`, and what says so; None when there is no place left."""
        if self.entries >= MAXIMUM_EXTENTS:
            return None
        nonce = int.from_bytes(random_bytes(16))
        position = _ENTRIES_AT + self.entries * _ENTRY_BYTES
        entry = self._entry(self.entries, start, end, nonce)
        self.entries += 1
        self.keystream.extents = self.keystream.extents.over(start, end, nonce)
        return Write(position, entry)

    def _slot(self, key_id: bytes, key: bytes, random_bytes: RandomBytes) -> bytes:
        nonce = random_bytes(12)
        seal = self.seal or Seal(0, bytes(32))
        flags = 0 if self.seal is None else _IS_SEALED
        fixed = _SLOT.pack(MAGIC, _VERSION, flags, self.sequence, key_id, nonce, seal.size, seal.code)
        return fixed + AESGCM(key).encrypt(nonce, self._data_key, fixed) + _END

    def _entry(self, index: int, start: int, end: int, nonce: int) -> bytes:
        entry = _ENTRY.pack(start, end, nonce.to_bytes(16))
        return entry + self._code(index, entry)

    def _code(self, index: int, entry: bytes) -> bytes:
        return hmac.digest(self._code_key, b"extent%d " % index + entry, "sha256")[:_CODE_BYTES]

    def read_extents(self, page: bytes) -> None:
        """Take the extents of the header's page; those that a crash has torn do not count."""
        extents = Extents((0,), (0,))
        for index in range(MAXIMUM_EXTENTS):
            place = _ENTRIES_AT + index * _ENTRY_BYTES
            raw = page[place : place + _ENTRY_BYTES]
            if not any(raw):
                continue
            self.entries = index + 1
            entry = raw[: _ENTRY.size]
            if hmac.compare_digest(raw[_ENTRY.size :], self._code(index, entry)):
                start, end, nonce = _ENTRY.unpack(entry)
                extents = extents.over(start, end, int.from_bytes(nonce))
        self.keystream.extents = extents


def is_void(page: bytes) -> bool:
    """Whether a file that begins so was never written completely (or not at all)."""
    if not any(page):
        return True
    if not page.startswith(MAGIC):
        return MAGIC.startswith(page)
    return (len(page) < _SLOT_BYTES or page[_SLOT_BYTES - 1] == 0 or len(page) < HEADER_BYTES) and not any(
        page[_SLOT_PLACES[1] : _ENTRIES_AT]
    )


def is_encrypted(page: bytes) -> bool:
    """Whether a file that begins so is encrypted."""
    return page.startswith(MAGIC)


def read_key_id(page: bytes) -> bytes | None:
    """The id of the key that the data key is wrapped by, which needs no key; None when the file is not encrypted."""
    slots = [_SLOT.unpack(slot[: _SLOT.size]) for slot in _complete_slots(page)]
    return max(slots, key=lambda slot: slot[3])[4] if slots else None


def read_header(page: bytes, find_key: FindKey) -> Header:
    """The header of an encrypted file. Raises `HeaderError`."""
    found: Header | None = None
    unknown: bytes | None = None
    for slot in _complete_slots(page):
        fixed = slot[: _SLOT.size]
        _, version, flags, sequence, key_id, nonce, sealed_size, seal = _SLOT.unpack(fixed)
        if version != _VERSION:
            raise HeaderError(f"it is encrypted in the way of a newer release (version {version})")
        key = find_key(key_id)
        if key is None:
            unknown = key_id
            continue
        try:
            data_key = AESGCM(key).decrypt(nonce, slot[_SLOT.size : -len(_END)], fixed)
        except InvalidTag:
            continue
        if found is None or sequence > found.sequence:
            sealed = Seal(sealed_size, seal) if flags & _IS_SEALED else None
            found = Header(data_key, key_id, sequence=sequence, seal=sealed)
    if found is None:
        if unknown is not None:
            raise HeaderError(f"it is encrypted with key {unknown.hex()}, which is not among the directory's keys")
        raise HeaderError("its encryption header is damaged")
    found.read_extents(page)
    return found


def _complete_slots(page: bytes) -> list[bytes]:
    slots = [page[place : place + _SLOT_BYTES] for place in _SLOT_PLACES]
    return [slot for slot in slots if slot.startswith(MAGIC) and slot.endswith(_END) and len(slot) == _SLOT_BYTES]

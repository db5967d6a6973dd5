"""AES-256 in counter mode over a file: which keystream belongs to which byte."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from ottla.core.binary import Buffer

PAGE_BYTES: Final = 4096
FOREVER: Final = 2**63
"""The end of an extent that has none."""

_BLOCK_BYTES = 16
_ZEROS = bytes(_BLOCK_BYTES)
_COUNTERS = 2**128


class Extents(NamedTuple):
    """Nonces by where they begin to count: `nonces[i]` from `starts[i]` to the next start."""

    starts: tuple[int, ...]
    nonces: tuple[int, ...]

    def over(self, start: int, end: int, nonce: int) -> Extents:
        """These, with `nonce` from `start` to `end`."""
        pieces = [piece for piece in zip(self.starts, self.nonces, strict=True) if piece[0] < start]
        pieces.append((start, nonce))
        if end < FOREVER:
            pieces.append((end, self.nonces[bisect_right(self.starts, end) - 1]))
            pieces += [piece for piece in zip(self.starts, self.nonces, strict=True) if piece[0] > end]
        return Extents(tuple(start for start, _ in pieces), tuple(nonce for _, nonce in pieces))


class Keystream:
    """What a file is encrypted and decrypted with. `extents` is replaced, never changed: any thread may read."""

    __slots__ = ("_aes", "_idle", "extents")

    def __init__(self, key: bytes) -> None:
        self._aes = AES(key)
        self._idle: list[CipherContext] = []  # to make one takes ten times as long as to have it start elsewhere
        self.extents = Extents((0,), (0,))

    def stream(self, position: int) -> CipherContext:
        """A stream that encrypts one piece after the other from `position` on, where the last extent is valid."""
        return self._encryptor(position, self.extents.nonces[-1])

    def apply(self, source: Buffer, target: bytearray | memoryview, position: int) -> None:
        """Encrypt, or decrypt, all of `source`, which stands at `position` of the file, into `target` (or itself)."""
        starts, nonces = self.extents
        index = bisect_right(starts, position) - 1
        size = len(source)
        if index + 1 == len(starts) or starts[index + 1] >= position + size:
            self._apply(source, target, position, nonces[index])
            return
        inputs, outputs = memoryview(source), memoryview(target)
        done = 0
        while done < size:
            end = starts[index + 1] - position if index + 1 < len(starts) else size
            end = min(end, size)
            self._apply(inputs[done:end], outputs[done:end], position + done, nonces[index])
            done, index = end, index + 1

    def decrypted(self, data: bytes | bytearray, position: int) -> bytearray:
        """The plain text of ciphertext at `position`; in place where that can be."""
        plain = data if isinstance(data, bytearray) else bytearray(data)
        self.decrypt_in_place(plain, position)
        return plain

    def decrypt_in_place(self, data: bytearray | memoryview, position: int) -> None:
        """Make plain text of ciphertext at `position`."""
        lost = _lost_pages(data, position)
        self.apply(data, data, position)
        for start, end in lost:
            data[start:end] = bytes(end - start)

    def decrypted_bytes(self, data: bytes, position: int) -> bytes:
        """`decrypted`, as bytes."""
        starts, nonces = self.extents
        index = bisect_right(starts, position) - 1
        if index + 1 < len(starts) or _lost_pages(data, position):
            return bytes(self.decrypted(data, position))
        encryptor = self._encryptor(position, nonces[index])
        plain = encryptor.update(data)
        self._idle.append(encryptor)
        return plain

    def _apply(self, source: Buffer, target: bytearray | memoryview, position: int, nonce: int) -> None:
        encryptor = self._encryptor(position, nonce)
        encryptor.update_into(source, target)
        self._idle.append(encryptor)

    def _encryptor(self, position: int, nonce: int) -> CipherContext:
        counter = (nonce + position // _BLOCK_BYTES) % _COUNTERS
        try:
            encryptor = self._idle.pop()
            encryptor.reset_nonce(counter.to_bytes(16))
        except IndexError:
            encryptor = Cipher(self._aes, CTR(counter.to_bytes(16))).encryptor()
        if skip := position % _BLOCK_BYTES:
            encryptor.update(_ZEROS[:skip])
        return encryptor


def _lost_pages(data: bytes | bytearray | memoryview, position: int) -> list[tuple[int, int]]:
    """Where `data` has zeros at the beginning of a page: ciphertext never has sixteen of them."""
    lost: list[tuple[int, int]] = []
    size = len(data)
    first = -position % PAGE_BYTES
    beginnings = bytes(data[first::PAGE_BYTES])
    index = -1
    while (index := beginnings.find(0, index + 1)) >= 0:
        start = first + index * PAGE_BYTES
        if data[start : start + _BLOCK_BYTES] == _ZEROS:
            end = start + _BLOCK_BYTES
            page_end = min(start + PAGE_BYTES, size)
            while end < page_end and not any(data[end : min(end + _BLOCK_BYTES, page_end)]):
                end = min(end + _BLOCK_BYTES, page_end)
            lost.append((start, end))
    return lost

"""Inputs that are nearly right: valid bytes, changed in the ways in which bytes lie."""

from __future__ import annotations

from random import Random

INTERESTING = (
    b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x00", b"\x00\x00\x00\x01",
    b"\xff\xff", b"\x7f\xff", b"\x80\x00", b"\xff", b"\x7f", b"\x80", b"\x00", b"\x01",
    b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x07", b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff", b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xff" * 10, b"\x80" * 20,
    b"\n", b"\r\n", b"\x00" * 64, b"=", b",", b"\"", b"\\", b"(", b"*", b"${", b"../", b"\xed\xa0\x80", b"\xc0\x80",
    b"\x1b[2J", b"%s", b"-----BEGIN", b"999999999999999999999",
)  # fmt: skip
"""Lengths and counts at their limits, and characters that mean something somewhere."""

LONGEST = 256 * 1024


def mutate(data: bytes, other: bytes, random: Random) -> bytes:
    """One to eight changes; `other` is a second valid input, to take pieces from."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        _change(changed, other, random)
    return bytes(changed[:LONGEST])


def _change(data: bytearray, other: bytes, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    match random.randrange(9):
        case 0 if data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        case 1 if data:
            data[at % len(data)] = random.randrange(256)
        case 2:
            piece = random.choice(INTERESTING)
            data[at : at + len(piece)] = piece
        case 3:
            data[at:at] = random.choice(INTERESTING)
        case 4:
            del data[at : at + random.randrange(1, 17)]
        case 5:
            del data[at:]
        case 6:
            piece = bytes(data[at : at + random.randrange(1, 65)])
            data[at:at] = piece * random.choice((1, 2, 16, 200))
        case 7 if other:
            start = random.randrange(len(other))
            data[at:] = other[start:]
        case _:
            data[at:at] = random.randbytes(random.randrange(1, 9))

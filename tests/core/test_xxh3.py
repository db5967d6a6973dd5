"""XXH3 against values of the reference implementation, at the lengths where the algorithm changes."""

from __future__ import annotations

import pytest

from ottla.core.xxh3 import xxh3_64, xxh3_64_signed


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, 0x2D06800538D394C2),
        (1, 0xC44BDFF4074EECDB),
        (3, 0x5F4299FC161C9CBB),
        (4, 0x60DAB036A58211F2),
        (8, 0x3A1C2D7C85AF88F8),
        (9, 0xE9612598145BB9DC),
        (16, 0x8355E3A6F61770DB),
        (17, 0x9EF341A99DE37328),
        (128, 0x85C6174C7FF4C46B),
        (129, 0xEC7642B431BA3E5A),
        (240, 0x375A384D957FE865),
        (241, 0x02E8CD95421C6D02),
        (1025, 0xE95C42288F28186E),
    ],
)
def test_agrees_with_the_reference(length: int, expected: int) -> None:
    data = bytes(position % 251 for position in range(length))
    assert xxh3_64(data) == expected
    assert xxh3_64_signed(data) == expected - (1 << 64 if expected >> 63 else 0)

"""Hashes against what Java and librdkafka compute."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

MURMUR2 = json.loads((Path(__file__).parent / "testdata" / "batches.json").read_text())["murmur2"]
# librdkafka's own test vectors, as absolute values.
FNV1A = {
    b"kafka": 0xD33C4E1,
    b"giberish123456789": 0x77A58295,
    b"1234": 0x23BDD03,
    b"234": 0x2DEA3CD2,
    b"34": 0x740FA83E,
    b"4": 0x310CA263,
    b"": 0x7EE3623B,
}


@pytest.mark.parametrize("text", MURMUR2)
def test_murmur2_is_javas(hot: SimpleNamespace, text: str) -> None:
    key = text.encode()
    assert hot.hashing.murmur2(key) == MURMUR2[text]
    assert hot.hashing.murmur2_partition(key, 1000) == (MURMUR2[text] & 0x7FFFFFFF) % 1000


@pytest.mark.parametrize("key", FNV1A)
def test_fnv1a_is_librdkafkas(hot: SimpleNamespace, key: bytes) -> None:
    assert hot.hashing.fnv1a(key) == FNV1A[key]
    assert hot.hashing.fnv1a_partition(key, 7) == FNV1A[key] % 7


def test_crc32_partition_is_the_rest_of_the_checksum(hot: SimpleNamespace) -> None:
    assert hot.hashing.crc32_partition(b"key", 7) == zlib.crc32(b"key") % 7


def test_many_keys_get_the_partitions_of_each(hot: SimpleNamespace) -> None:
    random_source = random.Random(7)
    keys = [None if index % 9 == 0 else random_source.randbytes(index % 40) for index in range(300)]
    expected = [-1 if key is None else hot.hashing.murmur2_partition(key, 12) for key in keys]
    assert list(hot.hashing.murmur2_partitions(keys, 12)) == expected
    assert list(hot.hashing.murmur2_partitions([], 12)) == []


@pytest.mark.parametrize("function", ["murmur2_partition", "crc32_partition", "fnv1a_partition", "murmur2_partitions"])
def test_topic_without_partitions_is_refused(hot: SimpleNamespace, function: str) -> None:
    with pytest.raises(ValueError, match="at least one partition"):
        getattr(hot.hashing, function)(b"k" if function != "murmur2_partitions" else [b"k"], 0)


def test_other_types_are_refused(hot: SimpleNamespace) -> None:
    with pytest.raises(TypeError):
        hot.hashing.murmur2(None)

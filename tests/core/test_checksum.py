import importlib
from importlib.machinery import PathFinder

import crc32c as package
import pytest

from ottla.core import checksum


@pytest.fixture
def reloaded():
    """The module as another installation would load it; afterwards it is as it was."""
    yield lambda: importlib.reload(checksum)
    importlib.reload(checksum)


def test_the_function_is_crc32c():
    # The check value of the Castagnoli polynomial.
    assert checksum.crc32c(b"123456789") == 0xE3069283
    assert checksum.crc32c(b"") == 0


def test_a_checksum_is_continued_and_any_buffer_is_taken():
    whole = checksum.crc32c(b"123456789")
    assert checksum.crc32c(memoryview(bytearray(b"6789")), checksum.crc32c(b"12345")) == whole


@pytest.mark.parametrize("size", [1, 7, 61, 4096, 100_003])
def test_it_agrees_with_the_package(size):
    data = bytes(range(251)) * (size // 251 + 1)
    assert checksum.crc32c(data[:size]) == package.crc32c(data[:size])


@pytest.mark.parametrize("missing", ["crc32c", "crc32c._crc32c"])
def test_a_package_that_is_built_differently_is_imported_whole(monkeypatch, reloaded, missing):
    find_spec = PathFinder.find_spec

    def not_there(name, path=None, target=None):
        return None if name == missing else find_spec(name, path, target)

    monkeypatch.setattr(PathFinder, "find_spec", not_there)
    assert checksum._extension() is None
    assert reloaded().crc32c is package.crc32c


def test_the_extension_module_is_found(reloaded):
    assert checksum._extension() is not None

"""CRC-32C (Castagnoli), the checksum of record batches and producer snapshots: `crc32c(data, value=0) -> int`.

The package `crc32c` computes it in hardware. Its `__init__` also looks up its own version, which loads
`importlib.metadata` and the whole `email` package: a fifth of the start of a broker. So the extension module inside is
loaded by itself, and the package only where that is not possible. Everything in Ottla takes the function from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from crc32c import crc32c

__all__ = ["crc32c"]


def _extension() -> ModuleType | None:
    """The package's extension module, None when this release of the package is built differently."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    package = PathFinder.find_spec("crc32c")
    if package is None or package.submodule_search_locations is None:
        return None
    spec = PathFinder.find_spec("crc32c._crc32c", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module if hasattr(module, "crc32c") else None


if not TYPE_CHECKING:
    _module = _extension()
    if _module is None:
        import crc32c as _module
    crc32c = _module.crc32c

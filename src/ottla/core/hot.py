"""Which modules are hot, and which form of them is in use.

A hot module is a plain `.py` file that is compiled when Ottla is installed, if that is possible (see setup.py and
docs/decisions/compiled-modules.md). This list is the only place that says which; the build and the tests read it. A
compiled module carries the hash of the source it was made from, so that an extension that is older than the file beside
it can be told.
"""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

HOT_MODULES = (
    "ottla.records.columns",
    "ottla.records.hashing",
    "ottla.records.reader",
    "ottla.records.writer",
)

PACKAGE_INTERFACES = tuple(
    name.replace(".", "/") + ".pxd" for name in sorted({*HOT_MODULES, "ottla.records.memory"})
)
"""The files of C declarations, relative to the source directory: each extension may depend on all of them."""

SOURCE_HASH = "__compiled_from__"
"""The attribute that only compiled modules have."""


def source_hash(directory: Path, module: str) -> str:
    """A hash of what the module is compiled from, below the source `directory`."""
    digest = hashlib.sha256()
    for path in (module.replace(".", "/") + ".py", *PACKAGE_INTERFACES):
        digest.update((directory / path).read_bytes())
    return digest.hexdigest()[:16]


def compiled_modules() -> list[str]:
    """The hot modules that are extensions in this process; imports them all."""
    return [name for name in HOT_MODULES if hasattr(import_module(name), SOURCE_HASH)]


def stale_modules() -> list[str]:
    """The compiled ones whose source has changed since."""
    directory = Path(__file__).parents[2]
    return [
        name
        for name in compiled_modules()
        if getattr(import_module(name), SOURCE_HASH) != source_hash(directory, name)
    ]


def load_pure() -> dict[str, ModuleType]:
    """All hot modules once more from their `.py` files, by name: beside the compiled ones, and not in `sys.modules`.

    They know each other, and everything else as usual. For tests and benchmarks that compare the forms.
    """
    directory = Path(__file__).parents[2]
    before = {name: sys.modules.pop(name, None) for name in HOT_MODULES}
    pure: dict[str, ModuleType] = {}
    finder = _PureFinder(directory)
    sys.meta_path.insert(0, finder)
    try:
        for name in HOT_MODULES:
            pure[name] = import_module(name)
    finally:
        sys.meta_path.remove(finder)
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
    return pure


class _PureFinder:
    """Finds the `.py` file of a hot module where an extension stands beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in HOT_MODULES:
            return None
        return spec_from_file_location(name, self._directory / (name.replace(".", "/") + ".py"))

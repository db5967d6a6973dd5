"""Which modules are hot, and which form of them is in use.

A hot module is a plain `.py` file that is compiled when Ottla is installed, if that is possible (see setup.py and
docs/decisions/compiled-modules.md). This list is the only place that says which; the build and the tests read it. A
compiled module carries the hash of the source it was made from, so that an extension that is older than the file beside
it can be told.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

HOT_MODULES = (
    "ottla.client.producer.appending",
    "ottla.client.producer.batches",
    "ottla.records.columns",
    "ottla.records.hashing",
    "ottla.records.reader",
    "ottla.records.writer",
)

SHARED_DECLARATIONS = ("ottla/records/memory.pxd",)
"""Files of C declarations that belong to no hot module."""

_CIMPORT = re.compile(r"^from (ottla[\w.]*) cimport (\w+)", re.MULTILINE)

SOURCE_HASH = "__compiled_from__"
"""The attribute that only compiled modules have."""


def declarations(module: str) -> str:
    """The file of C declarations of a hot module, relative to the source directory."""
    return module.replace(".", "/") + ".pxd"


def source_hash(directory: Path, module: str) -> str:
    """A hash of all that the module is compiled from, below the source `directory`: what it cimports included."""
    digest = hashlib.sha256((directory / (module.replace(".", "/") + ".py")).read_bytes())
    files = [declarations(module)]
    for file in files:
        content = (directory / file).read_bytes()
        digest.update(content)
        for package, name in _CIMPORT.findall(content.decode()):
            wanted = declarations(package)
            if not (directory / wanted).exists():
                wanted = declarations(f"{package}.{name}")
            if wanted not in files:
                files.append(wanted)
    return digest.hexdigest()[:16]


def compiled_modules() -> list[str]:
    """The hot modules that are extensions in this process; imports them all."""
    return [name for name in HOT_MODULES if hasattr(import_module(name), SOURCE_HASH)]


def stale_modules() -> list[str]:
    """The compiled ones whose source has changed since."""
    directory = Path(__file__).parents[2]
    return [
        name for name in compiled_modules() if getattr(import_module(name), SOURCE_HASH) != source_hash(directory, name)
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
            package, _, last = name.rpartition(".")
            if module is None:
                sys.modules.pop(name, None)
                vars(sys.modules[package]).pop(last, None)
            else:
                sys.modules[name] = module
                setattr(sys.modules[package], last, module)
    return pure


class _PureFinder:
    """Finds the `.py` file of a hot module where an extension stands beside it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in HOT_MODULES:
            return None
        return spec_from_file_location(name, self._directory / (name.replace(".", "/") + ".py"))

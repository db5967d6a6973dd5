"""Compiling the hot modules, when that is possible: everything else about the package is in pyproject.toml.

Hot modules (`HOT_MODULES` in src/ottla/core/hot.py) are plain Python modules with a `.pxd` file of C types beside them.
Where Cython (a build requirement) and a C compiler are there, `pip install` makes extension modules of them; otherwise
the `.py` files do the same work, slower. OTTLA_PURE=1 in the environment of the installation leaves them as they are.
Numbers, and how to make another module a hot one: docs/decisions/compiled-modules.md.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
SOURCE = ROOT / "src"
COPIES = Path("build") / "hot"  # relative: setuptools wants it so

sys.path.insert(0, str(SOURCE))

from ottla.core.hot import HOT_MODULES, SHARED_DECLARATIONS, SOURCE_HASH, declarations, source_hash  # noqa: E402

# An extension type cannot have the base Generic; subscripts work by `__class_getitem__`.
GENERIC_BASE = re.compile(r"^(class \w+)\(Generic\[[^]]*\]\):$", re.MULTILINE)
DIRECTIVES = {
    "language_level": "3",
    "annotation_typing": False,  # the .pxd files alone say what is a C type
    "cdivision": True,
    "nonecheck": True,  # None where an object of a C class belongs is an error, as in plain Python, and no crash
    "embedsignature": False,
}
COMPILER_ARGUMENTS = [] if sys.platform == "win32" else ["-O2", "-g0", "-fwrapv"]


def write_when_changed(path: Path, text: str) -> None:
    """An unchanged file keeps its time, and is not compiled again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def copy_of(module: str) -> str:
    """Write what is compiled: the module's source, and the hash that says which source that was."""
    relative = Path(*module.split("."))
    text = GENERIC_BASE.sub(r"\1:", (SOURCE / relative).with_suffix(".py").read_text())
    copy = (COPIES / relative).with_suffix(".py")
    write_when_changed(copy, f'{text}\n{SOURCE_HASH} = "{source_hash(SOURCE, module)}"\n')
    for parent in list(relative.parents)[:-1]:
        write_when_changed(COPIES / parent / "__init__.py", "")
    return str(copy)


def extensions() -> list[Extension]:
    """The extension modules to build: none when this is not wanted, or there is no Cython."""
    if os.environ.get("OTTLA_PURE", "0") not in ("", "0"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    for path in (*SHARED_DECLARATIONS, *map(declarations, HOT_MODULES)):
        write_when_changed(COPIES / path, (SOURCE / path).read_text())
    hot = [Extension(module, [copy_of(module)], extra_compile_args=COMPILER_ARGUMENTS) for module in HOT_MODULES]
    made: list[Extension] = cythonize(
        hot, include_path=[str(COPIES)], compiler_directives=DIRECTIVES, quiet=True, show_all_warnings=False
    )
    for extension in made:
        extension.optional = True  # what does not compile stays plain Python; said before, cythonize() forgets it
    return made


setup(ext_modules=extensions(), options={"build_ext": {"parallel": os.cpu_count() or 1}})

"""The compiled modules are those of the files beside them, and loaded only where they are needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ottla.core import hot
from tests.conftest import require

SOURCE = Path(hot.__file__).parents[2]
REPOSITORY = Path(__file__).parents[2]


def test_compiled_modules_are_made_of_the_source_beside_them() -> None:
    assert hot.stale_modules() == [], "these were edited after they were compiled: run `make compile`"


def test_hot_modules_are_compiled() -> None:
    missing = sorted(set(hot.HOT_MODULES) - set(hot.compiled_modules()))
    if missing:
        require(f"the compiled form of {', '.join(missing)} (make compile)")


@pytest.mark.parametrize("name", hot.HOT_MODULES)
def test_hash_follows_source_and_declarations(name: str, tmp_path: Path) -> None:
    files = [str(path.relative_to(SOURCE)) for path in (SOURCE / "ottla").rglob("*.pxd")] + [
        name.replace(".", "/") + ".py"
    ]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((SOURCE / file).read_bytes())
    before = hot.source_hash(tmp_path, name)
    assert before == hot.source_hash(SOURCE, name)
    for file in (name.replace(".", "/") + ".py", hot.declarations(name), hot.declarations("ottla.records.memory")):
        content = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(content + b"\n")
        assert hot.source_hash(tmp_path, name) != before
        (tmp_path / file).write_bytes(content)


def test_both_forms_offer_the_same_names() -> None:
    pure = hot.load_pure()
    for name in hot.HOT_MODULES:
        module = import_module(name)
        assert not hasattr(pure[name], hot.SOURCE_HASH)
        assert sys.modules[name] is module
        public = {key for key, value in vars(pure[name]).items() if getattr(value, "__module__", None) == name}
        missing = {key for key in public if not key.startswith("_")} - set(vars(module))
        assert not missing, f"{name}: declare them as cpdef, not cdef"


def test_hot_modules_need_no_compiler_and_no_cython_at_run_time() -> None:
    names = ", ".join(hot.HOT_MODULES)
    program = f"import sys\nimport {names}\nprint([name for name in sys.modules if name.lower().startswith('cython')])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert [name for name in eval(printed.stdout) if name.lower() in ("cython", "cython.shadow")] == []


def test_every_declaration_file_is_listed() -> None:
    found = {str(path.relative_to(SOURCE)) for path in (SOURCE / "ottla").rglob("*.pxd")}
    assert found == {*hot.SHARED_DECLARATIONS, *map(hot.declarations, hot.HOT_MODULES)}


def test_a_compiler_that_fails_leaves_plain_python(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "setup.py", tmp_path)
    files = [*hot.SHARED_DECLARATIONS, *map(hot.declarations, hot.HOT_MODULES), "ottla/core/hot.py"]
    for file in (*files, *(name.replace(".", "/") + ".py" for name in hot.HOT_MODULES)):
        (tmp_path / "src" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "src" / file, tmp_path / "src" / file)
    built = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=tmp_path,
        env={**os.environ, "CC": "/bin/false", "OTTLA_PURE": "0"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert built.returncode == 0, built.stderr
    assert f'"{hot.HOT_MODULES[0]}" failed' in built.stderr + built.stdout
    assert not [*(tmp_path / "src").rglob("*.so")]

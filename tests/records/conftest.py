"""Both forms of the hot modules, for the tests that take the fixture `hot`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import SimpleNamespace

import pytest

from ottla.core.hot import HOT_MODULES, SOURCE_HASH, load_pure, stale_modules
from tests.conftest import require

RECORD_MODULES = [name for name in HOT_MODULES if name.startswith("ottla.records.")]


@cache
def form(name: str) -> SimpleNamespace:
    if name == "compiled" and (stale := set(stale_modules()) & set(RECORD_MODULES)):
        pytest.fail(f"{', '.join(sorted(stale))}: edited after it was compiled, run `make compile`", pytrace=False)
    modules = load_pure() if name == "pure" else {module: import_module(module) for module in RECORD_MODULES}
    return SimpleNamespace(**{module.rpartition(".")[2]: modules[module] for module in RECORD_MODULES}, form=name)


@pytest.fixture(params=["pure", "compiled"])
def hot(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The modules `writer`, `reader`, `columns` and `hashing` in one of their forms."""
    modules = form(request.param)
    if request.param == "compiled" and not hasattr(modules.writer, SOURCE_HASH):
        require("the compiled modules (make compile)")
    return modules

"""The accumulator on both forms of its hot module."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from ottla.core.hot import SOURCE_HASH, load_pure, stale_modules
from tests.conftest import require

HOT = ("ottla.client.producer.appending", "ottla.client.producer.batches")
ACCUMULATOR = "ottla.client.producer.accumulator"


@cache
def _pure() -> ModuleType:
    """`accumulator` once more, on the plain `appending`."""
    origin = import_module(ACCUMULATOR).__file__
    assert origin is not None
    pure = load_pure()
    compiled = {name: sys.modules[name] for name in HOT}
    sys.modules.update({name: pure[name] for name in HOT})
    try:
        spec = importlib.util.spec_from_file_location("pure_accumulator", Path(origin))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.modules.update(compiled)
    return module


@pytest.fixture(scope="module", params=["pure", "compiled"])
def hot(request: pytest.FixtureRequest) -> ModuleType:
    """The module `accumulator`, its hot part in one of its forms."""
    if request.param == "pure":
        return _pure()
    if not all(hasattr(import_module(name), SOURCE_HASH) for name in HOT):
        require("the compiled modules (make compile)")
    elif stale := set(stale_modules()) & set(HOT):
        pytest.fail(f"{', '.join(sorted(stale))}: edited after it was compiled, run `make compile`", pytrace=False)
    return import_module(ACCUMULATOR)

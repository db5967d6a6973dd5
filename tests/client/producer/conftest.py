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

APPENDING = "ottla.client.producer.appending"
ACCUMULATOR = "ottla.client.producer.accumulator"


@cache
def _pure() -> ModuleType:
    """`accumulator` once more, on the plain `appending`."""
    compiled = sys.modules.get(APPENDING)
    origin = import_module(ACCUMULATOR).__file__
    assert origin is not None
    sys.modules[APPENDING] = load_pure()[APPENDING]
    try:
        spec = importlib.util.spec_from_file_location("pure_accumulator", Path(origin))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        if compiled is not None:
            sys.modules[APPENDING] = compiled
    return module


@pytest.fixture(scope="module", params=["pure", "compiled"])
def hot(request: pytest.FixtureRequest) -> ModuleType:
    """The module `accumulator`, its hot part in one of its forms."""
    if request.param == "pure":
        return _pure()
    appending = import_module(APPENDING)
    if not hasattr(appending, SOURCE_HASH):
        require("the compiled modules (make compile)")
    elif APPENDING in stale_modules():
        pytest.fail(f"{APPENDING}: edited after it was compiled, run `make compile`", pytrace=False)
    return import_module(ACCUMULATOR)

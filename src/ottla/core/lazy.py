"""Names that a package offers and loads on first use: what its `__getattr__` and `__dir__` do (PEP 562)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def load(name: str, namespace: dict[str, Any], homes: Mapping[str, str]) -> Any:
    """The object `name` of the package with this namespace; `homes` says in which module each name lives.

    A home that ends in the name itself stands for the module: `{"aio": "ottla.aio"}`.
    """
    home = homes.get(name)
    package = namespace["__name__"]
    if home is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    module = import_module(home)
    value = module if home == f"{package}.{name}" else getattr(module, name)
    namespace[name] = value
    return value

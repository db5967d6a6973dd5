"""What is offered by name and loaded on first use: names of a package (`__getattr__`, PEP 562), methods of a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


class LazyMethod:
    """A method that `find` loads; the first use of it puts the method itself in its place."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner = owner
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        method = self._find()
        if vars(self._owner)[self._name] is self:  # a test may have put its own there meanwhile
            setattr(self._owner, self._name, method)
        return method.__get__(instance, owner)

"""What assignors take and give, and where to find one by its name.

An assignor is ``assign(members, partition_counts)``. It gives every member (in the order of ``members``) its partitions
of topics that it subscribes to. It is handed topics that exist only, and decides by its arguments alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import NamedTuple

from ottla.server.coordinator.modern_group import Assignment


class MemberSpec(NamedTuple):
    """A member as an assignor sees it: ``target`` is its part of the last target assignment."""

    topic_ids: frozenset[bytes]
    target: Assignment
    instance_id: str | None = None
    rack_id: str | None = None


#: Members by id, and the number of partitions of each topic that somebody subscribes to.
Assignor = Callable[[Mapping[str, MemberSpec], Mapping[bytes, int]], dict[str, Assignment]]

_MODULES = {"uniform": "uniform", "range": "ranges", "simple": "simple"}


def assignor_named(name: str) -> Assignor:
    """The assignor that clients and settings call by that name."""
    module = import_module(f"ottla.server.coordinator.assignors.{_MODULES[name]}")
    assign: Assignor = module.assign
    return assign


def ordered(partitions: Mapping[bytes, set[int]]) -> Assignment:
    """The assignment with its partitions ascending; topics without any are left out."""
    return {topic_id: tuple(sorted(indexes)) for topic_id, indexes in partitions.items() if indexes}

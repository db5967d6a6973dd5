"""Who depends on whom, and whether that goes in a circle: Adya's G0 and G1c for lists that are appended to.

A partition is a list, its order is the order of its offsets. A transaction that appended right behind another one
depends on it by writing (ww); one that read what another one wrote depends on it by reading (wr).

Kafka does not isolate writers: records of transactions that are open at the same time lie as they came, so two of them
may be in one order here and in the other one there (G0), and so may cycles with a read in them be closed by writes. A
cycle of reads alone can not be: what is read was committed before the reader was.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

Graph = dict[str, dict[str, str]]
"""Node → node that depends on it → what to tell about it."""


def find_cycle(*graphs: Graph) -> list[str] | None:
    """One cycle of all graphs together, as a list of what leads from one node to the next; None when there is none."""
    state: dict[str, int] = {}  # 1: on the path, 2: done
    starts = list(dict.fromkeys(node for graph in graphs for node in graph))
    for start in starts:
        if start in state:
            continue
        path = [start]
        ways = [_ways(start, graphs)]
        state[start] = 1
        while ways:
            target = next(ways[-1], None)
            if target is None:
                ways.pop()
                state[path.pop()] = 2
            elif state.get(target) == 1:
                return _tell([*path[path.index(target) :], target], graphs)
            elif target not in state:
                state[target] = 1
                path.append(target)
                ways.append(_ways(target, graphs))
    return None


def _ways(node: str, graphs: tuple[Graph, ...]) -> Iterator[str]:
    for graph in graphs:
        yield from graph.get(node, ())


def _tell(cycle: list[str], graphs: tuple[Graph, ...]) -> list[str]:
    found = []
    for source, target in pairwise(cycle):
        reason = next(graph[source][target] for graph in graphs if target in graph.get(source, ()))
        found.append(f"{source} before {target}: {reason}")
    return found

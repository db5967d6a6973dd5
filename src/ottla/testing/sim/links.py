"""What happens to bytes between two hosts: nothing, or something.

A link goes one way. Bytes on a link that is cut do not arrive, and are not lost either: TCP sends them again, so that
they come late, after the link is whole again. A reset is sent once only. When it gets lost, the other side has half a
connection, and learns of it from what it sends next; or never.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.testing.sim.network import SimulatedTransport

HOST: contextvars.ContextVar[str] = contextvars.ContextVar("host", default="")
"""Where a program runs. Programs that are not told share one host."""


@dataclass(slots=True, eq=False)
class Link:
    """From one host to another. `cuts` counts the faults that cut it; `delay_s` is the mean of what comes on top of
    the usual delay; `bytes_per_s` 0 is as fast as you like.
    """

    cuts: int = 0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    held: list[tuple[SimulatedTransport, bytes]] = field(default_factory=list)
    """What was sent while it was cut, in order: the sending side and the piece."""


class Links:
    """All links, and the hosts that are reached by none. `cut`, `heal` count: a link is whole when both are even."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, str], Link] = {}
        self._unreachable: dict[str, int] = {}
        self.powerless: set[str] = set()
        """Hosts that are off: not even a reset comes from them."""

    def link(self, source: str, target: str) -> Link:
        """The one from `source` to `target`, whose faults may be changed."""
        found = self._links.get((source, target))
        if found is None:
            found = self._links[source, target] = Link(cuts=self._unreachable.get(target, 0))
        return found

    def cut(self, source: str, target: str) -> None:
        """Nothing from `source` arrives at `target` any more."""
        self.link(source, target).cuts += 1

    def heal(self, source: str, target: str) -> list[tuple[SimulatedTransport, bytes]]:
        """Take back one `cut`; what is to be sent again when it was the last."""
        return self._mend(self.link(source, target))

    def hold(self, target: str) -> None:
        """Nothing arrives at `target` any more, wherever it comes from."""
        self._unreachable[target] = self._unreachable.get(target, 0) + 1
        for (_, to), link in self._links.items():
            if to == target:
                link.cuts += 1

    def let_through(self, target: str) -> list[tuple[SimulatedTransport, bytes]]:
        """Take back one `hold`; what is to be sent again when it was the last."""
        self._unreachable[target] -= 1
        found = []
        for (_, to), link in list(self._links.items()):
            if to == target:
                found += self._mend(link)
        return found

    def _mend(self, link: Link) -> list[tuple[SimulatedTransport, bytes]]:
        assert link.cuts > 0, "nothing to heal"
        link.cuts -= 1
        if link.cuts:
            return []
        held, link.held = link.held, []
        return held

"""A network of their own for the nodes of a cluster on this machine, in which lines can be cut and made bad.

Every node lives in a network namespace, joined to a bridge by a pair of virtual interfaces; clients are at the bridge.
It needs root, `ip` and `tc`. `isolated` runs the program again in namespaces of its own, so that nothing of it is left
when it ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

BRIDGE = "ottla0"
INSIDE = "CHAOS_INSIDE"


def is_possible() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "tc", "unshare"))):
        return False
    script = "ip link add ottla9 type bridge && ip link add ottla8 type veth peer name ottla7"
    return subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, check=False).returncode == 0


def isolated(module: str, arguments: Sequence[str]) -> int | None:
    """Run `python -m module` in its own namespaces and return its exit code; None when this is that run already."""
    if INSIDE in os.environ:
        _run("mount", "-t", "tmpfs", "none", "/run/netns" if os.path.isdir("/run/netns") else "/run")
        os.makedirs("/run/netns", exist_ok=True)
        _run("ip", "link", "set", "lo", "up")
        return None
    command = ["unshare", "--net", "--mount", sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


class Network:
    """The bridge and the nodes' namespaces; call it in isolation."""

    def __init__(self, nodes: Sequence[int]) -> None:
        self.nodes = list(nodes)
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", "10.77.0.1/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for node in nodes:
            _run("ip", "netns", "add", _space(node))
            _run("ip", "link", "add", _line(node), "type", "veth", "peer", "name", "eth0", "netns", _space(node))
            _run("ip", "link", "set", _line(node), "master", BRIDGE)
            _run("ip", "link", "set", _line(node), "up")
            self._inside(node, "ip", "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
            self._inside(node, "ip", "link", "set", "lo", "up")
            self._inside(node, "ip", "link", "set", "eth0", "up")
        probe = ["tc", "qdisc", "replace", "dev", _line(self.nodes[0]), "root", "netem", "delay", "0ms"]
        self.can_slow_down = subprocess.run(probe, capture_output=True, check=False).returncode == 0
        """Whether the kernel has netem."""

    def address(self, node: int) -> str:
        return f"10.77.0.{10 + node}"

    def prefix(self, node: int) -> tuple[str, ...]:
        """Runs a command where the node lives."""
        return "ip", "netns", "exec", _space(node)

    def cut(self, node: int) -> None:
        """Nothing goes to the node, nothing comes from it."""
        _run("ip", "link", "set", _line(node), "down")

    def cut_between(self, node: int, other: int, *, one_way: bool) -> None:
        """Nothing goes from one node to the other; nor back, unless `one_way`. Clients reach both."""
        # An address that no interface has: packets vanish without anybody being told.
        lost = ("lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent")
        self._inside(node, "ip", "neigh", "replace", self.address(other), *lost)
        if not one_way:
            self._inside(other, "ip", "neigh", "replace", self.address(node), *lost)

    def slow_down(self, node: int, *, delay_ms: int, jitter_ms: int, loss_percent: float) -> None:
        """What goes to the node is late, out of order, or lost."""
        parameters = ["delay", f"{delay_ms}ms", f"{jitter_ms}ms", "loss", f"{loss_percent}%"]
        _run("tc", "qdisc", "replace", "dev", _line(node), "root", "netem", *parameters)

    def heal(self) -> None:
        """Everything as it was."""
        for node in self.nodes:
            _run("ip", "link", "set", _line(node), "up")
            if self.can_slow_down:
                subprocess.run(["tc", "qdisc", "del", "dev", _line(node), "root"], capture_output=True, check=False)
            self._inside(node, "ip", "neigh", "flush", "dev", "eth0", "nud", "permanent")

    def _inside(self, node: int, *command: str) -> None:
        _run(*self.prefix(node), *command)


def _space(node: int) -> str:
    return f"node{node}"


def _line(node: int) -> str:
    return f"line{node}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")

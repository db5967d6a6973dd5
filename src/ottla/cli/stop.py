"""`ottla stop`: ends the node of a data directory, or of a process id, and waits until it is gone."""

from __future__ import annotations

import os
import signal
import time
from argparse import ArgumentParser, Namespace

from ottla.cli.errors import CommandError
from ottla.cli.numbers import positive, whole
from ottla.cli.output import Output, add_output_arguments
from ottla.cli.running import DEFAULT_DATA, find_node, is_alive

_LOOK_AGAIN_S = 0.02


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla stop`."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--data", metavar="DIR", help=f"the node's data directory ({DEFAULT_DATA})")
    which.add_argument("--pid", type=whole(1), metavar="PID", help="the node's process")
    parser.add_argument(
        "--timeout", type=positive(86_400, "seconds"), default=60.0, metavar="SECONDS", help="how long to wait (60)"
    )
    parser.add_argument("--kill", action="store_true", help="kill it when it has not ended by then")
    parser.add_argument("--if-running", action="store_true", help="no failure when none runs")
    add_output_arguments(parser)


def run(options: Namespace) -> int:
    """Stop it; raises `CommandError` when there is none, or when it does not end."""
    output = Output(options)
    data = options.data or DEFAULT_DATA
    if options.pid is not None:
        pid, told = _checked(options.pid), f"node with pid {options.pid}"
    else:
        node = find_node(data)
        if node is None:
            if options.if_running:
                output.done(f"no node runs on {data}", json={"stopped": False, "data": data})
                return 0
            raise CommandError(f"no node runs on {data}")
        pid, told = node.pid, f"node on {data} (pid {node.pid})"
    began_s = time.monotonic()
    how = _end(pid, options.timeout, kill=options.kill)
    seconds = time.monotonic() - began_s
    output.done(
        f"{told} {how} after {seconds:.1f} s",
        json={"stopped": True, "pid": pid, "killed": how == "killed", "seconds": round(seconds, 3)},
    )
    return 0


def _end(pid: int, timeout_s: float, *, kill: bool) -> str:
    """Ask the process to end, and wait for it. Says how it ended."""
    _signal(pid, signal.SIGTERM)
    if _is_gone(pid, timeout_s):
        return "stopped"
    if not kill:
        raise CommandError(
            f"the node (pid {pid}) has not ended within {timeout_s:g} s; wait longer with --timeout, or --kill it"
        )
    _signal(pid, signal.SIGKILL)
    if not _is_gone(pid, 10.0):
        raise CommandError(f"the node (pid {pid}) cannot be killed")
    return "killed"


def _is_gone(pid: int, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while is_alive(pid):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has ended by itself
    except PermissionError:
        raise CommandError(f"not allowed to stop process {pid}; it belongs to another user") from None


def _checked(pid: int) -> int:
    """A process that may be a node: not any process should be ended because of a mistyped number."""
    if not is_alive(pid):
        raise CommandError(f"there is no process {pid}")
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return pid  # no such file system: it cannot be told
    if not any(b"ottla" in word for word in words):
        raise CommandError(f"process {pid} is no Ottla node")
    return pid

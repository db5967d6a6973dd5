"""Which node runs on a data directory: what `ottla start` leaves there while it runs, read by `stop` and `status`.

The file `ottla.node` has `name=value` lines. It is only believed while the directory's lock is held: what a crash left
behind names a process that may be anybody by now.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import NamedTuple

from ottla.cli.errors import CommandError

DEFAULT_DATA = "./ottla-data"
NODE_FILE = "ottla.node"
LOCK = ".lock"


class RunningNode(NamedTuple):
    """A node that runs on this machine."""

    pid: int
    data: str
    version: str
    started_ms: int
    bootstrap_servers: str
    http: str | None = None


def find_node(data: str) -> RunningNode | None:
    """The node that runs on the data directory, or None. Raises `CommandError` when something else holds it."""
    if not os.path.isdir(data):
        return None
    if not is_locked(data):
        return None
    try:
        with open(f"{data}/{NODE_FILE}", encoding="utf-8") as file:
            fields = dict(line.rstrip("\n").split("=", 1) for line in file if "=" in line)
        return RunningNode(
            int(fields["pid"]),
            data,
            fields["version"],
            int(fields["started_ms"]),
            fields["bootstrap_servers"],
            fields.get("http") or None,
        )
    except FileNotFoundError:
        raise CommandError(
            f"{data} is in use, but not by `ottla start`, or by one that starts or ends now; stop it by its own means"
        ) from None
    except (OSError, ValueError, KeyError):
        raise CommandError(f"cannot make sense of {data}/{NODE_FILE}; stop the node with --pid PID") from None


def is_locked(data: str) -> bool:
    """Whether a process, this or another, holds the lock of a data directory."""
    try:
        number = os.open(f"{data}/{LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CommandError(f"cannot look at {data}/{LOCK}: {(error.strerror or str(error)).lower()}") from None
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return True
        raise
    finally:
        os.close(number)
    return False


def is_alive(pid: int) -> bool:
    """Whether there is such a process; a dead one that nobody has waited for yet counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # While other threads of a dead one still end, its files are open and its locks held.
        return fields[0] != b"Z" or int(fields[17]) > 1
    except (OSError, IndexError, ValueError):
        return True

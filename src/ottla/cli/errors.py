"""What goes wrong, told in one line: `ottla: error: …` on standard error."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
"""Ended by Ctrl-C without a clean stop; the shell's own code for it."""


class CommandError(Exception):
    """A command cannot do what it was asked; the text is for the user."""


def complain(message: str) -> None:
    """Print one line on standard error."""
    print(f"ottla: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def suggestion(name: str, candidates: Iterable[str], otherwise: str = "") -> str:
    """`did you mean orders?`, or what to say when nothing known is like it."""
    from ottla.schema.definition import nearest

    found = nearest(name, list(candidates))
    return f"did you mean {found}?" if found else otherwise


def describe(error: BaseException) -> str:
    """The line that tells a user why a command failed; an error that nobody foresaw is named, OTTLA_DEBUG=1 shows more.

    Errors of the clients say what to do themselves.
    """
    if isinstance(error, CommandError):
        return str(error)
    # Whoever raised one of these has imported its module already; nobody else has to.
    for module, name in (("ottla.client.errors", "KafkaError"), ("ottla.schema.definition", "SettingError")):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason.lower()}" if error.filename else reason
    if os.environ.get("OTTLA_DEBUG"):
        import traceback

        traceback.print_exception(error)
    return f"unexpected {type(error).__name__}: {error} (OTTLA_DEBUG=1 shows where)"


def explain(error: BaseException) -> str | None:
    """The line that tells a user why a node does not run, or None for an error that nobody foresaw."""
    # A node that got far enough to raise one of these has imported their modules already.
    from ottla.runtime.disk import DiskError, DiskLockedError
    from ottla.schema.definition import SettingError
    from ottla.server.broker.listener import ListenError
    from ottla.server.log.errors import LogError
    from ottla.server.metadata.delta import MetadataError
    from ottla.server.raft.metadata_log import MetadataLogError

    if isinstance(error, DiskLockedError):
        return f"the data directory {_directory(error.path)} is in use by another broker (lock file {error.path})"
    if isinstance(error, DiskError):
        return _disk_line(error)
    if isinstance(error, ListenError):
        return _listen_line(error.errno, error.address, str(error))
    lifecycle = sys.modules.get("ottla.server.broker.lifecycle")
    if lifecycle is not None and isinstance(error, lifecycle.LifecycleError):
        return str(error)
    http = sys.modules.get("ottla.runtime.http")
    if http is not None and isinstance(error, http.HttpListenError):
        return f"{error}; choose another address with --set http.listeners=http://HOST:PORT, or none"
    if isinstance(error, SettingError | CommandError | LogError | MetadataLogError | MetadataError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    return None


def _directory(path: str) -> str:
    return path.rpartition("/")[0] or path


def _disk_line(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write to {error.filename}: {reason}; choose a writable data directory with --data DIR"
    if error.errno == errno.ENOTDIR or error.errno == errno.EEXIST:
        return f"{error.filename} cannot be a data directory: {reason}"
    return f"{error.filename}: {reason}"


def _listen_line(number: int | None, address: str, text: str) -> str:
    address = f"port {address[1:]}" if address.startswith(":") else address
    if number == errno.EADDRINUSE:
        return (
            f"{address} is already in use; stop the program that listens there, "
            "or choose another address with --set listeners=PLAINTEXT://HOST:PORT"
        )
    if number == errno.EADDRNOTAVAIL:
        return f"{address} is not an address of this machine; correct the setting listeners"
    if number in (errno.EACCES, errno.EPERM):
        return f"not allowed to listen on {address}; ports below 1024 need privileges"
    return text

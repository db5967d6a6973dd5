"""What goes wrong, told in one line: `ottla: error: …` on standard error."""

from __future__ import annotations

import errno
import sys

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
"""Ended by Ctrl-C without a clean stop; the shell's own code for it."""


class CommandError(Exception):
    """A command cannot do what it was asked; the text is for the user."""


def complain(message: str) -> None:
    """Print one line on standard error."""
    print(f"ottla: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def explain(error: BaseException) -> str | None:
    """The line that tells a user why a node does not run, or None for an error that nobody foresaw."""
    # A node that got far enough to raise one of these has imported their modules already.
    from ottla.runtime.disk import DiskError, DiskLockedError
    from ottla.schema.definition import SettingError

    if isinstance(error, DiskLockedError):
        return f"the data directory {_directory(error.path)} is in use by another broker (lock file {error.path})"
    if isinstance(error, DiskError):
        return _disk_line(error)
    if isinstance(error, SettingError | CommandError):
        return str(error)
    if isinstance(error, OSError):
        return _system_line(error)
    if type(error).__name__ in _TOLD_AS_THEY_ARE:
        return str(error)
    return None


_TOLD_AS_THEY_ARE = ("LogError",)
"""Errors of the server whose text is already one line for the operator."""


def _directory(path: str) -> str:
    return path.rpartition("/")[0] or path


def _disk_line(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write to {error.filename}: {reason}; choose a writable data directory with --data DIR"
    if error.errno == errno.ENOTDIR or error.errno == errno.EEXIST:
        return f"{error.filename} cannot be a data directory: {reason}"
    return f"{error.filename}: {reason}"


def _system_line(error: OSError) -> str:
    """Mostly what binding a listener can meet; asyncio puts the address into the text."""
    text = error.strerror or str(error)
    address = _address(text)
    if error.errno == errno.EADDRINUSE:
        return (
            f"{address} is already in use; stop the program that listens there, "
            "or choose another address with --set listeners=PLAINTEXT://HOST:PORT"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is not an address of this machine; correct the setting listeners"
    if error.errno in (errno.EACCES, errno.EPERM) and address != _SOME_ADDRESS:
        return f"not allowed to listen on {address}; ports below 1024 need privileges"
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{text}"


_SOME_ADDRESS = "the address"


def _address(text: str) -> str:
    """`127.0.0.1:9092` of `… bind on address ('127.0.0.1', 9092): …`."""
    _, found, rest = text.partition("address ('")
    if not found:
        return _SOME_ADDRESS
    host, _, rest = rest.partition("', ")
    port = rest.partition(")")[0].partition(",")[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

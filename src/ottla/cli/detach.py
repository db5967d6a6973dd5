"""`ottla start --detach`: a node that goes on when the terminal is closed.

The node is a process in a session of its own, with its log in a file. This one waits until it is ready, says what it
said, and ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace

from ottla.cli.errors import CommandError

LOG_FILE = "ottla.log"
_ERROR = "ottla: error: "


def start_detached(options: Namespace, data: str) -> int:
    """Start it, and wait until it is ready. Raises `CommandError` with the reason when it does not start."""
    path = options.log_file or os.path.join(data, LOG_FILE)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        log = open(path, "ab")  # noqa: SIM115 (the node keeps it)
    except OSError as error:
        raise CommandError(f"cannot write the log {path}: {(error.strerror or str(error)).lower()}") from None
    with log:
        before = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "ottla", "start", *_arguments(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode(errors="replace").strip()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        raise
    process.stdout.close()
    if not line:
        process.wait()
        raise CommandError(_reason(path, before))
    print(f"{line}, pid {process.pid}, log in {path}")
    process.returncode = 0  # it goes on without us: nobody has to be warned of that
    return 0


def _arguments(options: Namespace) -> list[str]:
    arguments = [f"--set={assignment}" for assignment in options.assignments]
    given = {
        "--config": options.config,
        "--data": options.data,
        "--log-level": options.log_level,
        "--log-format": options.log_format,
        "--brokers": options.brokers,
        "--secure": options.secure,
        "--port": options.port,
        "--host": options.host,
        "--rack": options.rack,
    }
    return arguments + [f"{name}={value}" for name, value in given.items() if value is not None]


def _reason(path: str, start: int) -> str:
    """Why the node did not start, from its log."""
    with open(path, "rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    told = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return told[-1] if told else f"the node ended while it started; see {path}"

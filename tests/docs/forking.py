"""`ottla` for shell scripts without its start-up: a server with the modules loaded forks a process for each command.

What a command is given stays its own: arguments, directory, environment, standard streams, exit code. Run as a program
with the path of a socket this is the server; `CLIENT` is what stands in PATH.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

MODULES = (
    "ottla.cli.main",
    "ottla.cli.consume.reading",
    "ottla.cli.consume.printing",
    "ottla.cli.produce.sending",
    "ottla.cli.groups.actions",
    "ottla.client.admin.blocking",
    "ottla.client.consumer.blocking",
    "ottla.client.producer.blocking",
)
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
wanted = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(wanted).to_bytes(4, "big")], [0, 1, 2])
server.sendall(wanted)
code = server.recv(1)
sys.exit(code[0] if code else 70)
"""


@contextmanager
def forked_ottla(directory: Path) -> Iterator[Path]:
    """A directory for PATH with an `ottla` that is quick to start."""
    path = directory / "socket"
    client = directory / "ottla"
    client.write_text(CLIENT.format(python=sys.executable, path=str(path)))
    client.chmod(0o755)
    with subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        try:
            yield directory
        finally:
            server.terminate()


def serve(path: str) -> None:
    """Until it is killed."""
    for module in MODULES:
        import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _attend(connection)
            connection.close()


def _attend(connection: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as file:
        arguments, directory, environment = json.loads(file.read(int.from_bytes(head, "big")))
    child = os.fork()
    if child == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        os._exit(_run(arguments))
    for stream in streams:
        os.close(stream)
    with suppress(OSError):
        connection.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF]))
    os._exit(0)


def _run(arguments: list[str]) -> int:
    from ottla.cli.main import main

    code = main(arguments)
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])

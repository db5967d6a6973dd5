"""Where commands get passwords from: the terminal, a file, or chance. Never from an argument: arguments are in the
history of the shell and in the list of processes."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace

from ottla.cli.errors import CommandError

LENGTH = 24
"""Of a generated password: letters and digits with 142 bits of chance in them."""


def add_password_arguments(parser: ArgumentParser) -> None:
    """Declare `--password-file` and `--generate`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-p", "--password-file", metavar="FILE", help="where the password is, a line; - is the standard input"
    )
    group.add_argument("-g", "--generate", action="store_true", help="make a password, and show it once")


def password_of(options: Namespace, user: str) -> str:
    """The password that the options ask for. Raises `CommandError`."""
    return generate_password() if options.generate else read_password(options.password_file, user)


def generate_password() -> str:
    """A password that nobody guesses, and that every properties file takes as it is."""
    import secrets
    import string

    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(LENGTH))


def read_password(path: str | None, user: str) -> str:
    """The password from a file, the standard input (`-`), or the terminal, twice. Raises `CommandError`."""
    if path is None:
        if not sys.stdin.isatty():
            raise CommandError(
                "no terminal to ask for the password on; say --password-file FILE (- to pipe it in), or --generate"
            )
        from getpass import getpass

        password = getpass(f"Password of {user}: ")
        if password != getpass("Again: "):
            raise CommandError("the passwords differ; nothing was changed")
    elif path == "-":
        password = sys.stdin.readline()
    else:
        try:
            with open(path, encoding="utf-8") as file:
                password = file.readline()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CommandError(f"cannot read the file of --password-file, {path}: {reason}") from None
        except UnicodeDecodeError:
            raise CommandError(f"the file of --password-file, {path}, is not UTF-8 text") from None
    password = password.rstrip("\r\n")
    if not password:
        raise CommandError("the password is empty; nothing was changed")
    return password


def write_private(path: str, text: str | bytes, *, mode: int = 0o600, replace: bool = True) -> None:
    """Write a file that (with this mode) only its owner may read, from its first moment on. Raises `CommandError`."""
    directory, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.new")
    try:
        if not replace and os.path.exists(path):
            raise CommandError(f"{path} is there already; it is not overwritten")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None

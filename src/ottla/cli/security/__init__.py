"""`ottla security`: a broker that lets in only who belongs, with one command.

`init` makes a directory with all that takes: an authority of its own, a certificate for the node, an administrator with
a SCRAM password, truststores for clients, and a `server.properties` with a TLS listener, an authorizer and delegation
tokens. `folder` says what the files are and makes them; this module talks to people.
"""

from __future__ import annotations

import socket
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.errors import FAILURE
from ottla.cli.output import Output
from ottla.cli.passwords import generate_password, read_password

if TYPE_CHECKING:
    from ottla.cli.security.folder import Folder

run = run_action

DEFAULT_DIRECTORY = "./ottla-security"
DEFAULT_PORT = 9092
NODE_DAYS, AUTHORITY_DAYS = 397, 3650
"""A node's certificate is renewed once a year; the authority, which clients know, stays for ten."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    init = actions.add("init", _init, "Make all that a secured broker needs, and show how to reach it.", connects=False)
    _add_directory(init)
    _add_hosts(init)
    init.add_argument("--port", type=_port, default=DEFAULT_PORT, metavar="PORT", help=f"({DEFAULT_PORT})")
    init.add_argument("--admin", default="admin", metavar="NAME", help="the administrator (admin)")
    init.add_argument(
        "-p", "--password-file", metavar="FILE", help="the administrator's password; a generated one without"
    )
    init.add_argument("--force", action="store_true", help="make a new authority and certificate, where there are some")
    renew = actions.add("renew", _renew, "Make a new certificate for the node; clients notice nothing.", connects=False)
    _add_directory(renew)
    _add_hosts(renew)
    check = actions.add("check", _check, "Look for what is wrong, or ends soon.", connects=False)
    _add_directory(check)


def _add_directory(parser: ArgumentParser) -> None:
    parser.add_argument("directory", nargs="?", default=DEFAULT_DIRECTORY, metavar="DIR", help=f"({DEFAULT_DIRECTORY})")


def _add_hosts(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        dest="hosts",
        help="a name or address that clients use; the first is advertised; may be repeated",
    )
    parser.add_argument(
        "--days",
        type=_days,
        default=NODE_DAYS,
        metavar="N",
        help=f"of the certificate ({NODE_DAYS})",
    )


def make_folder(
    directory: str,
    *,
    hosts: list[str],
    port: int = DEFAULT_PORT,
    days: int = NODE_DAYS,
    admin: str = "admin",
    password: str | None = None,
    force: bool = False,
) -> Folder:
    """A complete folder: what is missing is made, what is there stays (unless `force`). Raises `CommandError`."""
    from ottla.cli.security.folder import Folder

    folder = Folder(directory)
    folder.check_complete_or_new()
    folder.make_certificates(all_hosts(hosts), hosts, days=days, authority_days=AUTHORITY_DAYS, force=force)
    folder.make_administrator(admin, password or generate_password(), advertised=hosts[:1], port=port)
    folder.make_server_properties(admin, advertised=hosts[:1], port=port)
    return folder


def all_hosts(given: list[str]) -> list[str]:
    """The names of this machine and those given."""
    return list(dict.fromkeys([*given, "localhost", socket.gethostname(), "127.0.0.1", "::1"]))


def _init(options: Namespace) -> int:
    from ottla.cli.client_properties import librdkafka_of, librdkafka_text, properties_text

    output = Output(options)
    password = None if options.password_file is None else read_password(options.password_file, options.admin)
    folder = make_folder(
        options.directory,
        hosts=options.hosts,
        port=options.port,
        days=options.days,
        admin=options.admin,
        password=password,
        force=options.force,
    )
    settings = folder.admin_settings()
    java = folder.java_settings(settings)
    rdkafka = librdkafka_of(settings)
    made = [f"made {path}" for path in folder.made] or [f"all of {folder.path} is there already; nothing was changed"]
    lines = [
        *made,
        "",
        "start the broker:",
        f"  ottla start --config {folder.server_properties}",
        "be its administrator:",
        "  ottla users create alice --generate --role writer --topics 'orders-*' \\",
        f"    --command-config {folder.admin_properties}",
        "",
        f"# clients of Ottla, of Java, Kafka's tools ({folder.admin_properties})",
        properties_text(settings).rstrip(),
        "",
        "# Java before 2.7 of Kafka's clients, which cannot read PEM: instead of ssl.truststore…",
        properties_text({name: value for name, value in java.items() if settings.get(name) != value}).rstrip(),
        "",
        f"# librdkafka: confluent-kafka, kcat -F ({folder.librdkafka_properties})",
        librdkafka_text(rdkafka).rstrip(),
    ]
    output.done(
        "\n".join(lines),
        json={
            "directory": folder.path,
            "made": folder.made,
            "certificate": folder.node_summary()._asdict() | {"not_after": folder.node_summary().not_after.isoformat()},
            "server_properties": folder.server_properties,
            "client": settings,
            "java": java,
            "librdkafka": rdkafka,
        },
    )
    return 0


def _renew(options: Namespace) -> int:
    from ottla.cli.security.folder import Folder

    output = Output(options)
    folder = Folder(options.directory)
    folder.renew(all_hosts(options.hosts) if options.hosts else None, days=options.days)
    found = folder.node_summary()
    output.done(
        f"renewed {folder.node_pem}: until {found.not_after:%Y-%m-%d}, for {', '.join(found.hosts)}; a running broker "
        "takes it by itself",
        json={"certificate": folder.node_pem, "hosts": found.hosts, "not_after": found.not_after.isoformat()},
    )
    return 0


def _check(options: Namespace) -> int:
    from ottla.cli.security.folder import Folder

    output = Output(options)
    folder = Folder(options.directory)
    problems = folder.problems()
    if output.is_json:
        output.json({"directory": folder.path, "problems": problems})
    for problem in problems:
        output.note(problem)
    if not problems:
        found = folder.node_summary()
        output.line(f"all is well: the certificate is valid until {found.not_after:%Y-%m-%d}")
    return FAILURE if problems else 0


def _port(text: str) -> int:
    return _number(text, 65535, "a port")


def _days(text: str) -> int:
    return _number(text, AUTHORITY_DAYS, "a number of days")


def _number(text: str, most: int, what: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 0 < number <= most:
        raise ArgumentTypeError(f"{what} is 1 to {most}, not {text!r}")
    return number

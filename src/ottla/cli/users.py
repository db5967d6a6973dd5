"""`ottla users`: users with SCRAM credentials. Passwords are asked for or read from a file, never shown or taken as
an argument: arguments are in the history of the shell and in the list of processes."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.numbers import whole
from ottla.cli.output import Output

run = run_action

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show users and their credentials.", aliases=["ls", "describe"])
    listing.add_argument("users", nargs="*", metavar="USER", help="all that have credentials without")
    setting = actions.add("set", _set, "Give a user a password.", aliases=["create"], changes=True)
    setting.add_argument("user", metavar="USER")
    setting.add_argument(
        "-m", "--mechanism", action="append", choices=MECHANISMS, help="SCRAM-SHA-512 without; may be repeated"
    )
    setting.add_argument("-i", "--iterations", type=whole(1), default=4096, metavar="N", help="4096 to 16384 (4096)")
    setting.add_argument(
        "-p", "--password-file", metavar="FILE", help="where the password is, a line; - is the standard input"
    )
    deleting = actions.add("delete", _delete, "Take credentials away from users.", aliases=["rm"], loses=True)
    deleting.add_argument("users", nargs="+", metavar="USER")
    deleting.add_argument("-m", "--mechanism", action="append", choices=MECHANISMS, help="both without")


def _list(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        found = admin.describe_user_scram_credentials(options.users or None)
    credentials = [
        {"user": user, "mechanism": one.mechanism.name.replace("_", "-"), "iterations": one.iterations}
        for user, infos in sorted(found.items())
        for one in infos
    ]
    columns = ["user", "mechanism", "iterations"]
    output.table(None, columns, [[*one.values()] for one in credentials], json_rows=credentials)
    return 0


def _set(options: Namespace) -> int:
    from ottla.client.admin.scram import ScramMechanism, UserScramCredentialUpsertion

    output = Output(options)
    mechanisms = list(dict.fromkeys(options.mechanism or ["SCRAM-SHA-512"]))
    what = f"{' and '.join(mechanisms)} credential{'s' if len(mechanisms) > 1 else ''} of {options.user}"
    if options.dry_run:
        with open_admin(options) as admin:
            admin.describe_user_scram_credentials()  # as much as a broker tells without changing something
    else:
        password = read_password(options.password_file, options.user)
        with open_admin(options) as admin:
            admin.alter_user_scram_credentials(
                [
                    UserScramCredentialUpsertion(
                        options.user, password, ScramMechanism[mechanism.replace("-", "_")], options.iterations
                    )
                    for mechanism in mechanisms
                ]
            )
    output.done(
        f"{'would set' if options.dry_run else 'set'} {what}",
        json={"dry_run": options.dry_run, "user": options.user, "mechanisms": mechanisms},
    )
    return 0


def _delete(options: Namespace) -> int:
    from ottla.client.admin.scram import ScramMechanism, UserScramCredentialDeletion

    output = Output(options)
    chosen = {ScramMechanism[one.replace("-", "_")] for one in options.mechanism or MECHANISMS}
    with open_admin(options) as admin:
        found = admin.describe_user_scram_credentials(options.users)
        deletions = [
            UserScramCredentialDeletion(user, one.mechanism)
            for user, infos in found.items()
            for one in infos
            if one.mechanism in chosen
        ]
        without = [user for user in options.users if user not in {one.user for one in deletions}]
        if without:
            raise CommandError(f"{without[0]} has no such credential; `ottla users list` shows them")
        names = [f"{one.mechanism.name.replace('_', '-')} of {one.user}" for one in deletions]
        if not options.dry_run:
            output.confirm(f"Delete {', '.join(names)}?", options)
            admin.alter_user_scram_credentials(deletions)
    would = "would delete" if options.dry_run else "deleted"
    output.done(f"{would} {', '.join(names)}", json={"dry_run": options.dry_run, "deleted": deletions})
    return 0


def read_password(path: str | None, user: str) -> str:
    """The password from a file, the standard input (`-`), or the terminal, twice. Raises `CommandError`."""
    if path is None:
        if not sys.stdin.isatty():
            raise CommandError("no terminal to ask for the password on; say --password-file FILE, or - to pipe it in")
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
    password = password.rstrip("\r\n")
    if not password:
        raise CommandError("the password is empty; nothing was changed")
    return password

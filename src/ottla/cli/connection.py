"""Which cluster a command talks to, and how: options, profiles, the environment, a `client.properties` of Kafka.

From the strongest to the weakest: `-b` and `-X`, the file of `--command-config`, the profile, the environment
(`OTTLA_BOOTSTRAP_SERVERS`), 127.0.0.1:9092. A profile is the one of `--profile`, or of `OTTLA_PROFILE`, or the one in
use (`ottla profiles use`); the last two only while nothing else names servers, so that a profile's password never
goes to another cluster by accident.
"""

from __future__ import annotations

import os
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.cli.errors import CommandError
from ottla.cli.numbers import positive

if TYPE_CHECKING:
    from logging import LogRecord

    import ottla
    from ottla.client.settings import CommonSettings

DEFAULT_BOOTSTRAP_SERVERS = "127.0.0.1:9092"
DEFAULT_TIMEOUT_MS = 15_000
"""Who sits in front of a terminal does not wait for default.api.timeout.ms, a minute."""

_SERVERS = "bootstrap.servers"
_CONTROLLERS = "bootstrap.controllers"


def add_connection_arguments(parser: ArgumentParser, *, hidden: bool = False) -> None:
    """Declare how a cluster is reached; `hidden` leaves the options out of the help."""
    group = parser if hidden else parser.add_argument_group("connection")

    def said(text: str) -> str:
        return SUPPRESS if hidden else text

    group.add_argument(
        "-b",
        "--bootstrap-servers",
        "--bootstrap-server",
        metavar="HOST:PORT,…",
        help=said(f"brokers to start from (OTTLA_BOOTSTRAP_SERVERS; {DEFAULT_BOOTSTRAP_SERVERS})"),
    )
    profile = group.add_argument("--profile", metavar="NAME", help=said("a profile of `ottla profiles`"))
    profile.completer = complete_profiles  # type: ignore[attr-defined]
    group.add_argument(
        "--command-config", metavar="FILE", help=said("a client.properties with Kafka's settings of clients")
    )
    group.add_argument(
        "-X",
        dest="client_settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=said("a setting of the client, as security.protocol=SSL; may be repeated"),
    )
    group.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive(86_400, "seconds"),
        help=said("how long to wait for the cluster (15 s)"),
    )


def connection_settings(options: Namespace, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The client's settings by Kafka's names, with `bootstrap.servers` always (or `bootstrap.controllers`).

    Raises `CommandError` for a file that cannot be read, a profile that does not exist, a `-X` without a value.
    """
    variables = os.environ if environment is None else environment
    asked: dict[str, str] = {}
    path = getattr(options, "command_config", None)
    if path is not None:
        asked.update(read_properties(path, "--command-config"))
    asked.update(split_assignments(getattr(options, "client_settings", ()), "-X"))
    servers = getattr(options, "bootstrap_servers", None)
    if servers is not None:
        if not servers.strip():  # as with -b "$BROKERS" where that is not set: no other cluster is meant by it
            raise CommandError("-b is empty; name brokers as HOST:PORT,…, or leave it out")
        asked[_SERVERS] = servers
        asked.pop(_CONTROLLERS, None)
    settings = _profile(getattr(options, "profile", None), asked, variables) | asked
    if _SERVERS in asked:
        settings.pop(_CONTROLLERS, None)
    if not settings.get(_CONTROLLERS) and not settings.get(_SERVERS):
        settings[_SERVERS] = variables.get("OTTLA_BOOTSTRAP_SERVERS") or DEFAULT_BOOTSTRAP_SERVERS
    timeout = getattr(options, "timeout", None)
    if timeout is not None:
        settings["default.api.timeout.ms"] = str(int(timeout * 1000))
        settings.setdefault("request.timeout.ms", str(min(int(timeout * 1000), 30_000)))
    return settings


def timeout_of(options: Namespace) -> float:
    """The seconds that a cluster has to answer."""
    timeout: float | None = getattr(options, "timeout", None)
    return DEFAULT_TIMEOUT_MS / 1000 if timeout is None else timeout


def client_settings(options: Namespace, kind: type[CommonSettings]) -> dict[str, str]:
    """`connection_settings` for one kind of client: what only another kind has is left out.

    A file or a profile serves producers, consumers and this command alike. What none of them knows is left in: the
    client says what is wrong with it.
    """
    from ottla.client.settings import tables

    others = (tables.ADMIN_SETTINGS, tables.PRODUCER_SETTINGS, tables.CONSUMER_SETTINGS)
    return {
        name: value
        for name, value in connection_settings(options).items()
        if name in kind.table or not any(name in table for table in others)
    }


def open_admin(options: Namespace) -> ottla.Admin:
    """An admin client for the cluster that the options name; a context manager."""
    from ottla.client.admin.blocking import Admin
    from ottla.client.settings import AdminSettings

    tell_warnings()
    settings = client_settings(options, AdminSettings)
    if "default.api.timeout.ms" not in settings:
        settings["default.api.timeout.ms"] = str(DEFAULT_TIMEOUT_MS)
        settings.setdefault("request.timeout.ms", str(DEFAULT_TIMEOUT_MS))
    return Admin(settings.pop(_SERVERS, None), settings)


def tell_warnings() -> None:
    """What the clients log as a warning is a line on standard error, as all that a command has to say there."""
    import logging

    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("ottla: %(message)s"))
        handler.setLevel(logging.WARNING)
        handler.addFilter(_is_not_the_end)
        root.addHandler(handler)


def _is_not_the_end(record: LogRecord) -> bool:
    """A refused login or certificate is what the command ends with: told once, as its error."""
    return not getattr(record, "is_final", False)


def read_properties(path: str, option: str) -> dict[str, str]:
    """The settings in a properties file; raises `CommandError`."""
    from ottla.schema.definition import SettingError
    from ottla.schema.properties import parse_properties

    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(f"cannot read the file of {option}, {path}: {reason}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # what Java's properties files were once
    try:
        return {entry.name: entry.value for entry in parse_properties(text, path)}
    except SettingError as error:
        raise CommandError(str(error)) from None


def split_assignments(assignments: list[str] | tuple[str, ...], option: str) -> dict[str, str]:
    """`["a=1", "b=2"]` as a dictionary; raises `CommandError` for one without `=`."""
    found = {}
    for assignment in assignments:
        name, separator, value = assignment.partition("=")
        if not separator or not name.strip():
            raise CommandError(f"{option} takes KEY=VALUE, not {name!r}")
        found[name.strip()] = value.strip()
    return found


def complete_profiles(**_: object) -> list[str]:
    """Names of profiles, for the shell's completion."""
    from ottla.cli.profiles import Profiles

    return sorted(Profiles.load().profiles)


def _profile(given: str | None, asked: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    names_servers = _SERVERS in asked or _CONTROLLERS in asked
    name = given
    if name is None and not names_servers:
        name = variables.get("OTTLA_PROFILE")
    if name is None and (names_servers or variables.get("OTTLA_BOOTSTRAP_SERVERS")):
        return {}
    from ottla.cli.profiles import Profiles, config_path

    if name is None and not os.path.exists(config_path(variables)):  # the common case: tomllib stays out
        return {}
    profiles = Profiles.load(variables)
    name = name or profiles.in_use
    return {} if not name else profiles.get(name)

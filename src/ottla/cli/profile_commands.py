"""`ottla profiles`: names for clusters, so that nobody types addresses and passwords again.

    ottla profiles add live -b live-1:9093 -X security.protocol=SASL_SSL -X sasl.mechanism=PLAIN \\
        -X sasl.username=alice --ask sasl.password
    ottla profiles use live
"""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, Namespace

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import complete_profiles, read_properties, split_assignments
from ottla.cli.errors import CommandError
from ottla.cli.output import Output
from ottla.cli.profiles import HIDDEN, Profiles, is_secret

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    actions.add("list", _list, "Show the profiles.", aliases=["ls"], connects=False)
    showing = actions.add("show", _show, "Show the settings of a profile, but for passwords.", connects=False)
    _add_name(showing, required=False)
    adding = actions.add("add", _add, "Add a profile, or change one.", connects=False)
    adding.add_argument("name", metavar="NAME")
    adding.add_argument("-b", "--bootstrap-servers", metavar="HOST:PORT,…", help="brokers to start from")
    adding.add_argument("--command-config", metavar="FILE", help="take the settings of a client.properties")
    adding.add_argument(
        "-X", dest="client_settings", metavar="KEY=VALUE", action="append", default=[], help="a setting of the clients"
    )
    adding.add_argument(
        "--ask", metavar="KEY", action="append", default=[], help="ask for this setting, as sasl.password; not shown"
    )
    adding.add_argument("--use", action="store_true", help="and use it from now on")
    adding.add_argument("--replace", action="store_true", help="forget what the profile has been")
    using = actions.add("use", _use, "Use a profile wherever none is named.", connects=False)
    _add_name(using, required=False)
    using.add_argument("--none", action="store_true", help="use no profile from now on")
    removing = actions.add("remove", _remove, "Forget a profile.", aliases=["rm"], loses=True, connects=False)
    _add_name(removing)


def _add_name(parser: ArgumentParser, *, required: bool = True) -> None:
    action: Action = parser.add_argument("name", metavar="NAME", **({} if required else {"nargs": "?"}))  # type: ignore[arg-type]
    action.completer = complete_profiles  # type: ignore[attr-defined]


def _list(options: Namespace) -> int:
    profiles = Profiles.load()
    rows, json_rows = [], []
    for name in sorted(profiles.profiles):
        settings = profiles.get(name)
        servers = settings.get("bootstrap.servers") or settings.get("bootstrap.controllers")
        protocol = settings.get("security.protocol", "PLAINTEXT")
        in_use = name == profiles.in_use
        rows.append([name, "in use" if in_use else None, servers, protocol])
        json_rows.append({"name": name, "in_use": in_use, "settings": _shown(settings)})
    Output(options).table(None, ["profile", "state", "servers", "security"], rows, json_rows=json_rows)
    return 0


def _show(options: Namespace) -> int:
    profiles = Profiles.load()
    name = options.name or profiles.in_use
    if name is None:
        raise CommandError("no profile is in use; name one, `ottla profiles list` shows them")
    shown = _shown(profiles.get(name))
    output = Output(options)
    if output.is_json:
        output.json({"name": name, "in_use": name == profiles.in_use, "settings": shown})
    else:
        output.table(None, ["setting", "value"], sorted(shown.items()))
    return 0


def _shown(settings: dict[str, str]) -> dict[str, str]:
    return {name: HIDDEN if is_secret(name) else value for name, value in settings.items()}


def _add(options: Namespace) -> int:
    profiles = Profiles.load()
    is_new = options.name not in profiles.profiles
    settings = {} if is_new or options.replace else profiles.get(options.name)
    if options.command_config is not None:
        settings.update(read_properties(options.command_config, "--command-config"))
    settings.update(split_assignments(options.client_settings, "-X"))
    if options.bootstrap_servers:
        settings["bootstrap.servers"] = options.bootstrap_servers
    if not settings.get("bootstrap.servers") and not settings.get("bootstrap.controllers"):
        raise CommandError("which cluster? Name its brokers with -b HOST:PORT, or a --command-config that does")
    for name in options.ask:
        settings[name] = _ask(name)
    _check(settings)
    profiles.profiles[options.name] = dict(settings)
    if options.use or (is_new and len(profiles.profiles) == 1):
        profiles.in_use = options.name
    profiles.save()
    used = ", in use from now on" if profiles.in_use == options.name else ""
    Output(options).done(
        f"{'added' if is_new else 'changed'} profile {options.name}{used}",
        json={"name": options.name, "in_use": profiles.in_use == options.name, "settings": _shown(settings)},
    )
    return 0


def _check(settings: dict[str, str]) -> None:
    """Misspelt names are told of now, not at the first use. Raises `KafkaError`."""
    from ottla.client.settings import AdminSettings, tables

    others = {*tables.PRODUCER_SETTINGS, *tables.CONSUMER_SETTINGS} - {*tables.ADMIN_SETTINGS}
    AdminSettings.of(None, {name: value for name, value in settings.items() if name not in others}, {})


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        value = sys.stdin.readline().rstrip("\r\n")
    else:
        from getpass import getpass

        value = getpass(f"{name}: ")
    if not value:
        raise CommandError(f"{name} is empty; nothing was changed")
    return value


def _use(options: Namespace) -> int:
    profiles = Profiles.load()
    if options.none == (options.name is not None):
        raise CommandError("name the profile to use, or say --none")
    if options.name is not None:
        profiles.get(options.name)
    profiles.in_use = options.name
    profiles.save()
    text = "no profile is in use" if options.name is None else f"profile {options.name} is in use"
    Output(options).done(text, json={"in_use": options.name})
    return 0


def _remove(options: Namespace) -> int:
    output = Output(options)
    profiles = Profiles.load()
    profiles.get(options.name)
    if not options.dry_run:
        output.confirm(f"Forget profile {options.name} with its settings?", options)
        del profiles.profiles[options.name]
        if profiles.in_use == options.name:
            profiles.in_use = None
        profiles.save()
    would = "would remove" if options.dry_run else "removed"
    output.done(f"{would} profile {options.name}", json={"dry_run": options.dry_run, "removed": options.name})
    return 0

"""`ottla quotas`: how much users, clients and addresses may have."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin
from ottla.cli.errors import CommandError
from ottla.cli.output import Output
from ottla.cli.topics import settings_of, shown_setting
from ottla.cli.units import setting_meaning

if TYPE_CHECKING:
    from ottla.client.admin.quotas import ClientQuotaEntity, QuotaName

run = run_action

QUOTAS = (
    "producer_byte_rate",
    "consumer_byte_rate",
    "request_percentage",
    "controller_mutation_rate",
    "connection_creation_rate",
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show quotas.", aliases=["ls", "describe"])
    _add_entity(listing, "all of them without; '*' is any name")
    setting = actions.add("set", _set, "Set quotas of a user, a client id, both together, or an address.", changes=True)
    _add_entity(setting, "'default' for all without their own")
    action = setting.add_argument("quotas", nargs="+", metavar="QUOTA=VALUE", help=f"{', '.join(QUOTAS)}")
    action.completer = lambda **_: [f"{name}=" for name in QUOTAS]  # type: ignore[attr-defined]
    unset = actions.add("unset", _unset, "Remove quotas.", aliases=["delete"], changes=True)
    _add_entity(unset, "'default' for all without their own")
    unset.add_argument("quotas", nargs="*", metavar="QUOTA", help="all that there are without")


def _add_entity(parser: ArgumentParser, text: str) -> None:
    parser.add_argument("-u", "--user", metavar="NAME", help=f"a user; {text}")
    parser.add_argument("-c", "--client-id", metavar="NAME", help="a client id")
    parser.add_argument("-i", "--ip", metavar="ADDRESS", help="an address")


def _name(text: str | None) -> str | QuotaName | None:
    from ottla.client.admin.quotas import ANY, DEFAULT

    return DEFAULT if text in ("default", "") else ANY if text == "*" else text


def _entity(options: Namespace) -> ClientQuotaEntity:
    from ottla.client.admin.quotas import ANY, ClientQuotaEntity

    entity = ClientQuotaEntity(_name(options.user), _name(options.client_id), _name(options.ip))
    if entity == ClientQuotaEntity():
        raise CommandError("whose quotas? Name a --user, a --client-id, both, or an --ip")
    if ANY in entity:
        raise CommandError("'*' is for looking; a quota is for a name, or for 'default'")
    return entity


def _list(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        found = admin.describe_client_quotas(
            user=_name(options.user), client_id=_name(options.client_id), ip=_name(options.ip)
        )
    rows, json_rows = [], []
    for entity, quotas in sorted(found.items(), key=lambda item: str(item[0])):
        for name, value in sorted(quotas.items()):
            rows.append([str(entity), name, _number(value), setting_meaning(name, _number(value))])
        json_rows.append({"entity": _json_entity(entity), "quotas": quotas})
    output.table(None, ["entity", "quota", "value", "meaning"], rows, json_rows=json_rows)
    return 0


def _json_entity(entity: ClientQuotaEntity) -> dict[str, str | None]:
    """As Kafka's own tools have it: null is the default."""
    named = {"user": entity.user, "client-id": entity.client_id, "ip": entity.ip}
    return {kind: name if isinstance(name, str) else None for kind, name in named.items() if name is not None}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _set(options: Namespace) -> int:
    entity = _entity(options)
    wanted: dict[str, float | None] = {}
    for name, text in settings_of(options.quotas, "set").items():
        _check(name)
        try:
            wanted[name] = float(text.removesuffix("%"))
        except ValueError:
            raise CommandError(f"{name} takes a number, as 1000000, 10MiB or 50, not {text!r}") from None
    return _alter(options, entity, wanted)


def _unset(options: Namespace) -> int:
    entity = _entity(options)
    for name in options.quotas:
        _check(name)
    return _alter(options, entity, dict.fromkeys(options.quotas))


def _check(name: str) -> None:
    if name not in QUOTAS:
        from ottla.cli.errors import suggestion

        raise CommandError(f"there is no quota {name!r}; {suggestion(name, QUOTAS, 'there are ' + ', '.join(QUOTAS))}")


def _alter(options: Namespace, entity: ClientQuotaEntity, wanted: dict[str, float | None]) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        before = admin.describe_client_quotas(user=entity.user, client_id=entity.client_id, ip=entity.ip, strict=True)
        had = before.get(entity, {})
        if not wanted:
            wanted = dict.fromkeys(had)
        if not wanted:
            raise CommandError(f"{entity} has no quotas")
        admin.alter_client_quotas({entity: wanted}, validate_only=options.dry_run)
    texts = [f"{name} {_shown(name, had.get(name))} → {_shown(name, value)}" for name, value in sorted(wanted.items())]
    would = "would change" if options.dry_run else "changed"
    output.done(
        f"{would} {entity}: {', '.join(texts)}",
        json={"dry_run": options.dry_run, "entity": _json_entity(entity), "quotas": wanted, "before": had},
    )
    return 0


def _shown(name: str, value: float | None) -> str:
    return "(none)" if value is None else shown_setting(name, _number(value)).partition("=")[2]

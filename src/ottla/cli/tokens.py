"""`ottla tokens`: delegation tokens (KIP-48), to log in with for a while instead of a password.

A token is named by its id; its HMAC, which is the password, is looked up where one has to show it, so it is on no
command line.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import TYPE_CHECKING

from ottla.cli.acls import principal_text
from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import connection_settings, open_admin
from ottla.cli.errors import CommandError
from ottla.cli.output import Column, Output
from ottla.cli.passwords import write_private
from ottla.cli.roles import split_names
from ottla.cli.units import parse_duration_ms

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.tokens import DelegationToken

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add("list", _list, "Show the tokens that you may see.", aliases=["ls", "describe"])
    listing.add_argument("--owner", action="append", default=[], metavar="NAME", help="only those of alice")
    creating = actions.add("create", _create, "Make a token, and show how to log in with it.", changes=True)
    creating.add_argument("--owner", metavar="NAME", help="for somebody else, whom you may make tokens for")
    creating.add_argument(
        "--renewer", action="append", default=[], metavar="NAME,…", help="who may renew and end it, besides its owner"
    )
    creating.add_argument("--max-lifetime", metavar="TIME", help="12h, 7d; what the cluster allows without")
    creating.add_argument("-o", "--client-config", metavar="FILE", help="write the client's settings there (mode 0600)")
    renewing = actions.add("renew", _renew, "Let a token live longer.", changes=True)
    renewing.add_argument("token", metavar="ID")
    renewing.add_argument("--for", dest="period", metavar="TIME", help="12h; what the cluster has by default without")
    ending = actions.add("expire", _expire, "End a token: at once, or after some time.", loses=True, aliases=["delete"])
    ending.add_argument("token", metavar="ID")
    ending.add_argument("--in", dest="period", metavar="TIME", help="so much later, as 10m; at once without")


def _list(options: Namespace) -> int:
    output = Output(options)
    owners = [principal_text(name) for name in split_names(options.owner)]
    with open_admin(options) as admin:
        tokens = admin.describe_delegation_token(owners or None)
    columns: list[str | Column] = [Column("token", "cyan"), "owner", "requester", "renewers", "expires", "ends"]
    rows = [
        [
            one.token_id,
            str(one.owner),
            str(one.requester),
            [str(renewer) for renewer in one.renewers],
            _date(one.expiry_timestamp_ms),
            _date(one.max_timestamp_ms),
        ]
        for one in sorted(tokens, key=lambda one: (one.owner, one.issue_timestamp_ms))
    ]
    output.table(None, columns, rows, json_rows=[_public(one) for one in tokens])
    return 0


def _create(options: Namespace) -> int:
    from base64 import b64encode

    from ottla.cli.client_properties import properties_text, scram_settings

    output = Output(options)
    owner = None if options.owner is None else principal_text(options.owner)
    renewers = [principal_text(name) for name in split_names(options.renewer)]
    lifetime_ms = None if options.max_lifetime is None else parse_duration_ms(options.max_lifetime)
    connection = connection_settings(options)
    with open_admin(options) as admin:
        if options.dry_run:
            admin.describe_delegation_token([])  # as much as a broker tells without making one
            output.done(f"would make a token of {owner or 'yours'}", json={"dry_run": True, "owner": owner})
            return 0
        token = admin.create_delegation_token(owner=owner, renewers=renewers, max_lifetime_ms=lifetime_ms)
    mechanism = connection.get("sasl.mechanism", "")
    mechanism = mechanism if mechanism.startswith("SCRAM-") else "SCRAM-SHA-512"
    hmac = b64encode(token.hmac).decode()
    settings = scram_settings(connection, token.token_id, hmac, mechanism, token=True)
    renewed, ends = _date(token.expiry_timestamp_ms), _date(token.max_timestamp_ms)
    lines = [f"made token {token.token_id} of {token.owner}: to be renewed before {renewed}, ends {ends}"]
    if options.client_config:
        write_private(options.client_config, properties_text(settings), replace=False)
        lines.append(f"settings to log in with it: {options.client_config}")
    else:
        lines += ["", "# client.properties: Java's clients, Kafka's tools, Ottla's", properties_text(settings).rstrip()]
    output.done("\n".join(lines), json={"dry_run": False, **_public(token), "settings": settings})
    return 0


def _renew(options: Namespace) -> int:
    output = Output(options)
    period_ms = None if options.period is None else parse_duration_ms(options.period)
    with open_admin(options) as admin:
        token = _find(admin, options.token)
        expiry_ms = token.expiry_timestamp_ms
        if not options.dry_run:
            expiry_ms = admin.renew_delegation_token(token.hmac, renew_period_ms=period_ms)
    said = "would renew" if options.dry_run else "renewed"
    until = "" if options.dry_run else f" until {_date(expiry_ms)}"
    output.done(
        f"{said} {token.token_id} of {token.owner}{until}",
        json={"dry_run": options.dry_run, "token": token.token_id, "expiry_timestamp_ms": expiry_ms},
    )
    return 0


def _expire(options: Namespace) -> int:
    output = Output(options)
    period_ms = None if options.period is None else parse_duration_ms(options.period)
    with open_admin(options) as admin:
        token = _find(admin, options.token)
        expiry_ms = token.expiry_timestamp_ms
        if not options.dry_run:
            output.confirm(f"End the token {token.token_id} of {token.owner}?", options)
            expiry_ms = admin.expire_delegation_token(token.hmac, expiry_period_ms=period_ms)
    which = f"{token.token_id} of {token.owner}"
    if options.dry_run:
        said = f"would end {which}"
    else:
        said = f"ended {which}" if period_ms is None else f"{which} ends {_date(expiry_ms)}"
    output.done(
        said,
        json={"dry_run": options.dry_run, "token": token.token_id, "expiry_timestamp_ms": expiry_ms},
    )
    return 0


def _find(admin: ottla.Admin, token_id: str) -> DelegationToken:
    for token in admin.describe_delegation_token():
        if token.token_id == token_id:
            return token
    raise CommandError(f"there is no token {token_id} that you may see; `ottla tokens list` shows which there are")


def _public(token: DelegationToken) -> dict[str, object]:
    """All but the HMAC."""
    return {
        "token": token.token_id,
        "owner": str(token.owner),
        "requester": str(token.requester),
        "renewers": [str(one) for one in token.renewers],
        "issue_timestamp_ms": token.issue_timestamp_ms,
        "expiry_timestamp_ms": token.expiry_timestamp_ms,
        "max_timestamp_ms": token.max_timestamp_ms,
    }


def _date(timestamp_ms: int) -> str:
    return f"{datetime.fromtimestamp(timestamp_ms / 1000):%Y-%m-%d %H:%M:%S}"

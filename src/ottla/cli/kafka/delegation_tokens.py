"""kafka-delegation-tokens: tokens to log in with, for oneself or for others (KIP-48)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import ToolError, ToolParser, guarded, java_list, load_properties, open_admin
from ottla.cli.kafka.jopt import LONG, Option, OptionSet

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.tokens import DelegationToken, KafkaPrincipal

_PURPOSE = "This tool helps to create, renew, expire, or describe delegation tokens."
_ROW = (15, 30, 15, 15, 25, 15, 15, 15)


class Parser(ToolParser):
    """The options of kafka-delegation-tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts("bootstrap-server", "REQUIRED: brokers of the cluster.", takes="required")
        self.config = self.accepts(
            "command-config",
            "REQUIRED: a file with settings of the admin client; only who is authenticated may have tokens.",
            takes="required",
        )
        self.create = self.accepts("create", "Make a token, which --renewer-principal may renew.")
        self.renew = self.accepts("renew", "Renew a token, for --renew-time-period.")
        self.expire = self.accepts("expire", "End a token, after --expiry-time-period.")
        self.describe = self.accepts("describe", "Describe tokens, those of --owner-principal or all that may be seen.")
        self.owner = self.accepts("owner-principal", "Whose token, as principalType:name.", takes="optional")
        self.renewer = self.accepts("renewer-principal", "Who may renew it, as principalType:name.", takes="optional")
        self.max_life_time = self.accepts(
            "max-life-time-period",
            "How long it may live in milliseconds; -1: as delegation.token.max.lifetime.ms of the cluster says.",
            takes="optional",
            type=LONG,
        )
        self.renew_time = self.accepts(
            "renew-time-period",
            "For how long in milliseconds; -1: as delegation.token.expiry.time.ms of the cluster says.",
            takes="optional",
            type=LONG,
        )
        self.expiry_time = self.accepts(
            "expiry-time-period", "After how many milliseconds; -1: at once.", takes="optional", type=LONG
        )
        self.hmac = self.accepts("hmac", "The HMAC of the token.", takes="optional")

    def check(self, arguments: Sequence[str], options: OptionSet) -> None:
        """End with the usage for what is missing or does not go together."""
        self.help_or_version(arguments, options, _PURPOSE)
        if sum(options.has(one) for one in (self.create, self.renew, self.expire, self.describe)) != 1:
            self.usage_error("Command must include exactly one action: --create, --renew, --expire or --describe")
        self.require(options, self.server, self.config)
        for option in (self.max_life_time, self.renew_time, self.expiry_time):
            if options.has(option) and options.value(option) is None:
                raise ToolError(f"--{option.names[0]} needs a number of milliseconds")
        for action, needed in (
            (self.create, (self.max_life_time,)),
            (self.renew, (self.hmac, self.renew_time)),
            (self.expire, (self.hmac, self.expiry_time)),
        ):
            if options.has(action):
                self.require(options, *needed)
        self.refuse(options, self.create, (self.hmac, self.renew_time, self.expiry_time))
        self.refuse(options, self.renew, (self.renewer, self.max_life_time, self.expiry_time, self.owner))
        self.refuse(options, self.expire, (self.renew, self.max_life_time, self.renew_time, self.owner))
        self.refuse(options, self.describe, (self.renew_time, self.max_life_time, self.hmac, self.expiry_time))


def run(arguments: list[str]) -> int:
    """Run the tool."""
    return guarded(lambda: _run(arguments))


def _run(arguments: list[str]) -> None:
    parser = Parser()
    options = parser.parse(arguments)
    parser.check(arguments, options)
    settings = load_properties(options.value(parser.config))
    with open_admin(settings | {"bootstrap.servers": options.value(parser.server)}) as admin:
        if options.has(parser.create):
            _create(admin, parser, options)
        elif options.has(parser.renew):
            hmac, period = options.value(parser.hmac), options.value(parser.renew_time)
            print(f"Calling renew token operation with hmac :{hmac} , renew-time-period :{period}")
            expiry = admin.renew_delegation_token(_decoded(hmac), renew_period_ms=period)
            print(f"Completed renew operation. New expiry date : {_date(expiry)}", end="")
        elif options.has(parser.expire):
            hmac, period = options.value(parser.hmac), options.value(parser.expiry_time)
            print(f"Calling expire token operation with hmac :{hmac} , expire-time-period :{period}")
            expiry = admin.expire_delegation_token(_decoded(hmac), expiry_period_ms=period)
            print(f"Completed expire operation. New expiry date : {_date(expiry)}", end="")
        else:
            _describe(admin, _principals(options, parser.owner))


def _create(admin: Admin, parser: Parser, options: OptionSet) -> None:
    renewers = _principals(options, parser.renewer)
    life_time = options.value(parser.max_life_time)
    print(f"Calling create token operation with renewers :{java_list(renewers)} , max-life-time-period :{life_time}")
    owners = _principals(options, parser.owner)
    token = admin.create_delegation_token(
        renewers=renewers, owner=owners[0] if owners else None, max_lifetime_ms=life_time
    )
    print(f"Created delegation token with tokenId : {token.token_id}")
    _print_tokens([token])


def _describe(admin: Admin, owners: list[KafkaPrincipal]) -> None:
    if owners:
        print(f"Calling describe token operation for owners: {java_list(owners)}")
    else:
        print("Calling describe token operation for current user.")
    tokens = admin.describe_delegation_token(owners)
    print(f"Total number of tokens : {len(tokens)}", end="")
    _print_tokens(tokens)


def _print_tokens(tokens: Sequence[DelegationToken]) -> None:
    heads = ("TOKENID", "HMAC", "OWNER", "REQUESTER", "RENEWERS", "ISSUEDATE", "EXPIRYDATE", "MAXDATE")
    rows: list[Sequence[object]] = [heads]
    rows += [
        (
            token.token_id,
            base64.b64encode(token.hmac).decode(),
            token.owner,
            token.requester,
            java_list(token.renewers),
            *map(_date, (token.issue_timestamp_ms, token.expiry_timestamp_ms, token.max_timestamp_ms)),
        )
        for token in tokens
    ]
    for row in rows:
        print("\n" + " ".join(f"{cell!s:<{width}}" for cell, width in zip(row, _ROW, strict=True)))


def _date(timestamp_ms: int) -> str:
    return f"{datetime.fromtimestamp(timestamp_ms // 1000):%Y-%m-%dT%H:%M}"


def _principals(options: OptionSet, option: Option) -> list[KafkaPrincipal]:
    return [principal(text.strip()) for text in options.values(option)] if options.has(option) else []


def principal(text: str) -> KafkaPrincipal:
    """`User:alice`. Raises `ToolError`."""
    from ottla.client.admin.tokens import KafkaPrincipal

    kind, colon, name = text.partition(":")
    if not colon:
        raise ToolError(f"expected a string in format principalType:principalName but got {text}")
    return KafkaPrincipal(kind, name)


def _decoded(hmac: str) -> bytes:
    if len(hmac) == 1:
        raise ToolError("Input byte[] should at least have 2 bytes for base64 bytes")
    try:
        return base64.b64decode(hmac, validate=True)
    except (binascii.Error, ValueError):
        wrong = next((one for one in hmac if not (one.isalnum() or one in "+/=")), None)
        if wrong is not None:
            raise ToolError(f"Illegal base64 character {ord(wrong):x}") from None
        raise ToolError("Input byte array has incorrect ending byte or wrong length") from None

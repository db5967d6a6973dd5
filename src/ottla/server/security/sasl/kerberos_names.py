"""From a Kerberos principal to a short name: `sasl.kerberos.principal.to.local.rules` (auth_to_local, as in Kafka).

    DEFAULT                          the first part of a principal of the broker's own realm
    RULE:[2:$1@$0](nn@.*)s/.*/hdfs/  principals with two parts, put together as $1@$0 ($0: the realm) and matched by the
                                     whole expression in parentheses: what s/from/to/ makes of that; with g everywhere,
                                     with /L or /U at the end in lower or upper case

The first rule that applies decides. What it makes must be a plain name; a principal that no rule applies to is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ottla.security.errors import SecurityConfigError

SETTING: Final = "sasl.kerberos.principal.to.local.rules"

_PRINCIPAL: Final = re.compile(r"([^/@]+)(?:/([^/@]*))?@([^/@]+)")
_RULE: Final = re.compile(r"RULE:\[(\d+):([^\]]*)\](?:\(([^)]*)\))?(?:s/([^/]*)/([^/]*)/(g)?)?/?([LU])?")
_PARAMETER: Final = re.compile(r"\$(\d*)")
_JAVA_GROUP: Final = re.compile(r"\\(.)|\$(\d)")


class NoRuleError(Exception):
    """A principal has no short name; a reason for the broker's log."""


class KerberosName(NamedTuple):
    """`primary/instance@REALM`."""

    primary: str
    instance: str | None
    realm: str

    @classmethod
    def parse(cls, text: str) -> KerberosName:
        """Raises `NoRuleError` for what has more parts, or none."""
        found = _PRINCIPAL.fullmatch(text)
        if found is None or not text.isprintable():
            raise NoRuleError("it is no principal with one or two parts and a realm")
        return cls(found[1], found[2], found[3])


class ShortNames:
    """The rules of one listener. Raises `SecurityConfigError` for one that cannot be read."""

    def __init__(self, rules: Sequence[str], default_realm: str) -> None:
        self._rules = [_parse(rule.strip(), default_realm) for rule in rules]

    def of(self, principal: str) -> str:
        """The short name of a principal. Raises `NoRuleError`."""
        name = KerberosName.parse(principal)
        parts = [name.realm, name.primary, *([] if name.instance is None else [name.instance])]
        for rule in self._rules:
            short = rule(parts)
            if short is not None:
                return short
        raise NoRuleError(f"no rule of {SETTING} applies")


Rule = Callable[[list[str]], str | None]
"""[realm, first part, second part] → a name, or None where the rule does not apply."""


def _parse(text: str, default_realm: str) -> Rule:
    if text == "DEFAULT":
        return lambda parts: _plain(parts[1]) if parts[0] == default_realm else None
    found = _RULE.fullmatch(text)
    if found is None:
        raise SecurityConfigError(
            SETTING,
            f"{SETTING}: {text!r} is no rule. It takes DEFAULT and RULE:[n:string](regexp)s/pattern/replacement/g/L.",
        )
    count, form = int(found[1]), found[2]
    for number in _PARAMETER.findall(form):
        if not number or int(number) > count:
            raise SecurityConfigError(SETTING, f"{SETTING}: {text!r} uses ${number}, which principals of {count} lack.")
    try:
        wanted = None if found[3] is None else re.compile(found[3])
        pattern = None if found[4] is None else re.compile(found[4])
        replacement = _template(found[5] or "")
        if pattern is not None:
            pattern.sub(replacement, "")
    except (re.error, IndexError) as error:
        raise SecurityConfigError(SETTING, f"{SETTING}: {text!r} has a bad expression: {error}.") from None
    times = 0 if found[6] else 1
    case = found[7]

    def apply(parts: list[str]) -> str | None:
        if len(parts) - 1 != count:
            return None
        name = _PARAMETER.sub(lambda parameter: parts[int(parameter[1])], form)
        if wanted is not None and not wanted.fullmatch(name):
            return None
        if pattern is not None:
            name = pattern.sub(replacement, name, count=times)
        _plain(name)
        return name.lower() if case == "L" else name.upper() if case == "U" else name

    return apply


def _template(text: str) -> str:
    r"""Java's replacement (`$1`, `\x`) as Python's."""

    def part(found: re.Match[str]) -> str:
        return found[1].replace("\\", "\\\\") if found[1] is not None else f"\\g<{found[2]}>"

    # What Java takes literally must not be an escape of Python's: only its own escapes have backslashes.
    return _JAVA_GROUP.sub(part, text)


def _plain(name: str) -> str:
    if not name or "/" in name or "@" in name:
        raise NoRuleError(f"a rule of {SETTING} makes of it what is no plain name")
    return name

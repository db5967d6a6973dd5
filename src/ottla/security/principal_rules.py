"""`ssl.principal.mapping.rules` (KIP-371): principals from the subjects of certificates.

    rules = PrincipalRules.parse("RULE:^CN=(.*?),OU=Ops.*$/$1/L, DEFAULT")
    rules.name("CN=Alice,OU=Ops,O=Example") == "alice"

The first rule whose pattern matches the whole subject counts. `RULE:pattern/replacement/` may end in L or U, for lower
and upper case; a slash or backslash that is meant is escaped with a backslash; `DEFAULT` takes the subject as it is.
Patterns are Java's regular expressions; what Python writes otherwise and is in use (named groups) is translated, and a
pattern that only Java can read is refused when it is configured.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_RULE: Final = re.compile(
    r"""
    \s* (?:
        (?P<default> DEFAULT )
      | RULE: (?P<pattern> (?: \\. | [^\\/] )* ) / (?P<replacement> (?: \\. | [^\\/] )* ) / (?P<case> [LU]? )
        (?P<rest> .*? )
      | (?P<nothing> .*? )
    ) \s* (?: ,\s* | $ )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMED_GROUP: Final = re.compile(r"\(\?<(?=[A-Za-z])")
_REFERENCE: Final = re.compile(r"\\(.)|\$(?:(\d+)|\{(\w+)\})", re.DOTALL)


class NoMatchingRuleError(Exception):
    """No rule applies to a subject: who has this certificate does not belong here."""


class _Rule(NamedTuple):
    pattern: re.Pattern[str] | None  # None for DEFAULT
    replacement: str = ""
    case: str = ""


class PrincipalRules:
    """Rules in their order."""

    __slots__ = ("_rules", "text")

    def __init__(self, text: str, rules: list[_Rule]) -> None:
        self.text = text
        self._rules = rules

    @classmethod
    def parse(cls, text: str) -> PrincipalRules:
        """Raises ValueError, with a sentence, for a rule that cannot be understood."""
        rules = []
        text = text.strip()
        position = 0
        while position < len(text):
            found = _RULE.match(text, position)
            assert found is not None  # `nothing` matches anything
            if found["default"]:
                rules.append(_Rule(None))
            elif found["rest"]:
                raise ValueError(f"'{found['rest']}' behind the last slash of a rule is neither L nor U")
            elif found["pattern"] is not None:
                rules.append(_rule(found))
            elif found["nothing"]:
                raise ValueError(
                    f"'{found['nothing']}' is neither DEFAULT nor RULE:pattern/replacement/ with L or U behind it"
                )
            position = max(found.end(), position + 1)
        return cls(text, rules)

    def name(self, subject: str) -> str:
        """The name of a principal. Raises NoMatchingRuleError."""
        for rule in self._rules:
            if rule.pattern is None:
                return subject
            if rule.pattern.fullmatch(subject):
                name = rule.pattern.sub(lambda match: _expand(rule.replacement, match), subject)  # noqa: B023 (at once)
                return name.lower() if rule.case == "L" else name.upper() if rule.case == "U" else name
        raise NoMatchingRuleError(f"no rule of ssl.principal.mapping.rules applies to {subject!r}")

    def __repr__(self) -> str:
        return f"PrincipalRules({self.text!r})"


def _rule(found: re.Match[str]) -> _Rule:
    try:
        pattern = re.compile(_NAMED_GROUP.sub("(?P<", found["pattern"]))
    except re.error as error:
        raise ValueError(f"'{found['pattern']}' is no regular expression that can be used here: {error}") from None
    for _, digits, named in _REFERENCE.findall(found["replacement"]):
        if named and named not in pattern.groupindex:
            raise ValueError(f"'{found['pattern']}' has no group ${{{named}}}")
        if digits and not digits.startswith("0") and not pattern.groups:
            raise ValueError(f"'{found['pattern']}' has no group ${digits}")
    return _Rule(pattern, found["replacement"], found["case"])


def _expand(replacement: str, match: re.Match[str]) -> str:
    """Java's way with replacements: `$12` is group 12, or group 1 and a 2; a group that is not there is a text."""
    groups = match.re.groups

    def one(reference: re.Match[str]) -> str:
        literal, digits, named = reference.groups()
        if literal is not None:
            return str(literal)
        if named is not None:
            return match[named] or ""
        size = 1
        while size < len(digits) and int(digits[: size + 1]) <= groups:
            size += 1
        number = int(digits[:size])
        return (match[number] or "") + digits[size:] if number <= groups else f"${digits}"

    return _REFERENCE.sub(one, replacement)

"""What a token's claims must say, and what they say of the client. The signature is somebody else's business."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

Claims = Mapping[str, Any]

_LONGEST_NAME: Final = 512
_MOST_GROUPS: Final = 1000


class TokenRefusedError(Exception):
    """A token is not believed; why is for the broker's log, and never holds the token."""


class BearerToken(NamedTuple):
    """What is used of a token that is believed."""

    name: str
    """Who the client is: the principal without its type."""
    expires_ms: int
    """Wall clock."""
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What `sasl.oauthbearer.*` asks of tokens."""

    issuer: str | None = None
    """None: any or none."""
    audiences: tuple[str, ...] = ()
    """One of them must be in `aud`. Empty: then no token that is meant for somebody is believed, as in Kafka."""
    clock_skew_ms: int = 30_000
    subject_claim: str = "sub"
    scope_claim: str = "scope"
    groups_claim: str | None = None
    """A claim's name, or a path into claims: `/realm_access/roles` (RFC 6901)."""
    required_scopes: tuple[str, ...] = ()
    needs_issued_at: bool = True

    def judge(self, claims: Claims, now_ms: int) -> BearerToken:
        """What the claims say at a time (wall clock, milliseconds). Raises `TokenRefusedError`."""
        expires_ms = self._check_times(claims, now_ms)
        self._check_issuer(claims)
        self._check_audience(claims)
        name = _name(claims, self.subject_claim)
        scopes = _texts(claims.get(self.scope_claim), self.scope_claim, splits=True)
        if len(set(scopes)) != len(scopes):
            raise TokenRefusedError(f"the claim {self.scope_claim} names a scope twice")
        missing = [scope for scope in self.required_scopes if scope not in scopes]
        if missing:
            raise TokenRefusedError(f"the scope {missing[0]} is missing")
        return BearerToken(name, expires_ms, self._groups(claims), scopes)

    def _check_times(self, claims: Claims, now_ms: int) -> int:
        expires_ms = _time_ms(claims, "exp")
        issued_ms = _time_ms(claims, "iat")
        starts_ms = _time_ms(claims, "nbf")
        if expires_ms is None:
            raise TokenRefusedError("the token has no exp: it would never end")
        if issued_ms is None and self.needs_issued_at:
            raise TokenRefusedError("the token has no iat")
        if now_ms - self.clock_skew_ms >= expires_ms:
            raise TokenRefusedError(f"the token ended {_seconds(now_ms - expires_ms)} ago")
        if starts_ms is not None and now_ms + self.clock_skew_ms < starts_ms:
            raise TokenRefusedError(f"the token begins only in {_seconds(starts_ms - now_ms)}")
        if max(issued_ms or 0, starts_ms or 0) > expires_ms:
            raise TokenRefusedError("the token ends before it begins")
        return expires_ms

    def _check_issuer(self, claims: Claims) -> None:
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise TokenRefusedError(f"the token is not from {self.issuer}")

    def _check_audience(self, claims: Claims) -> None:
        audiences = _texts(claims.get("aud"), "aud")
        if self.audiences and not set(audiences) & set(self.audiences):
            raise TokenRefusedError(f"the token is not for {' or '.join(self.audiences)}")
        if audiences and not self.audiences:
            raise TokenRefusedError(
                "the token is for somebody (aud), but sasl.oauthbearer.expected.audience is not set"
            )

    def _groups(self, claims: Claims) -> tuple[str, ...]:
        if self.groups_claim is None:
            return ()
        value: Any = claims
        if self.groups_claim.startswith("/"):
            for part in self.groups_claim[1:].split("/"):
                value = value.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(value, Mapping) else None
        else:
            value = claims.get(self.groups_claim)
        groups = tuple(dict.fromkeys(_texts(value, self.groups_claim)))
        if len(groups) > _MOST_GROUPS:
            # A part of them would do harm: what is denied to one of the others would be allowed.
            raise TokenRefusedError(f"the claim {self.groups_claim} has more than {_MOST_GROUPS} groups")
        return groups


def _name(claims: Claims, claim: str) -> str:
    value = claims.get(claim)
    name = value.strip() if isinstance(value, str) else ""
    if not name:
        raise TokenRefusedError(f"the claim {claim} does not say who the client is")
    _check_text(name, claim)
    return name


def _texts(value: Any, claim: str, *, splits: bool = False) -> tuple[str, ...]:
    """A claim that is a text or a list of texts; with `splits` a text may hold several, with spaces between them."""
    if value is None:
        return ()
    items: Iterable[Any] = value if isinstance(value, list) else value.split() if _splits(value, splits) else [value]
    texts = []
    for item in items:
        text = item.strip() if isinstance(item, str) else ""
        if not text:
            raise TokenRefusedError(f"the claim {claim} is neither a text nor a list of texts")
        _check_text(text, claim)
        texts.append(text)
    return tuple(texts)


def _splits(value: Any, splits: bool) -> bool:
    return splits and isinstance(value, str)


def _check_text(text: str, claim: str) -> None:
    if len(text) > _LONGEST_NAME or not text.isprintable():
        raise TokenRefusedError(f"the claim {claim} has a text that is too long or not printable")


def _time_ms(claims: Claims, claim: str) -> int | None:
    value = claims.get(claim)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TokenRefusedError(f"the claim {claim} is no time")
    if not 0 <= value < 1e12:
        raise TokenRefusedError(f"the claim {claim} is no time")
    return int(value * 1000)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.0f} s"

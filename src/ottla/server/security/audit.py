"""Who did what from where, and whether they were let: events for the audit log, counted so that they do not drown it.

    audit.authentication("10.1.2.3", "CLIENTS", "SCRAM-SHA-512", None, ok=False, reason="wrong password")
    audit.authorization(context, AclOperation.WRITE, ResourceType.TOPIC, "orders", allowed=True)
    lines = audit.take(now_ms)      # every second or so, by who writes them

Three kinds of events:

- *Changes* that were allowed (CREATE, DELETE, ALTER, …): each of them, one line.
- *Refusals*, and authentications: the first one at once; the same again within an interval (same principal, address,
  operation, resource, reason) is counted, and told with its count when the interval ends.
- *Access* that was allowed (READ, WRITE, …): the same; so a producer that runs for a day is one line an interval and
  topic. What is counted are checks: a connection that goes on producing to one topic is checked once an interval.
  DESCRIBE that was allowed is no event: every Metadata request asks for it.

Memory and rate are bounded: at most `most_keys` different events are remembered in an interval, and at most
`most_queued` lines between two calls of `take`. What is above is counted, by kind, and the count is an event itself:
a log that leaves something out says so. Refusals, which cost a stranger nothing, leave a quarter of the room to all
else.

A core: the clock is handed in, nothing here waits or writes. `docs/security.md` describes the lines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from ottla.core.acl import AclOperation, ResourceType

if TYPE_CHECKING:
    from ottla.server.security.session import Session

CHANGES: Final = (
    AclOperation.CREATE,
    AclOperation.DELETE,
    AclOperation.ALTER,
    AclOperation.ALTER_CONFIGS,
    AclOperation.CREATE_TOKENS,
)
"""Operations of which every single one that was allowed is told."""

SILENT: Final = (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
"""Operations that are no event when they were allowed."""

LONGEST_TEXT: Final = 512
"""Characters of what a client may choose freely; the rest is cut off."""

# As bits: the hash of an enumeration's member takes longer than all the rest.
_CHANGES = sum(1 << operation for operation in CHANGES)
_SILENT = sum(1 << operation for operation in SILENT)

_Key = tuple[object, ...]


class Asker(Protocol):
    """What is looked at of a request's context."""

    principal: str
    client_host: str
    client_id: str | None
    listener_name: str


class Audit:
    """Collects events until `take` is called. `allowed` chooses what of the allowed is told: "changes", "access"."""

    def __init__(
        self,
        now_ms: Callable[[], int],
        *,
        node_id: int,
        interval_ms: int = 60_000,
        most_queued: int = 10_000,
        most_keys: int = 10_000,
        allowed: Iterable[str] = ("changes", "access"),
    ) -> None:
        self.dropped = 0
        """Events of which nobody has written anything, since the start."""
        self.events = 0
        """Events that were noted, since the start, each repetition too."""
        self.written = 0
        """Lines that were written, as who writes them tells."""
        self.lost = 0
        """Events that were taken and could not be written, as who writes them tells."""
        self.intervals = 0
        """Intervals of counting that have ended: who remembers decisions asks again in each, so that it is told."""
        self._now_ms = now_ms
        self._node_id = node_id
        self._interval_ms = interval_ms
        self._most_queued = most_queued
        self._most_keys = most_keys
        chosen = frozenset(allowed)
        self._tells_changes = "changes" in chosen
        self._tells_access = "access" in chosen
        self._queue: list[dict[str, Any]] = []
        self._seen: dict[_Key, _Repeats] = {}
        self._interval_ends_ms: int | None = None
        self._left_out: dict[str, int] = {}

    def authentication(
        self,
        host: str,
        listener: str,
        mechanism: str,
        principal: str | None,
        ok: bool,
        reason: str = "",
        client_id: str | None = None,
    ) -> None:
        """Somebody has logged in, or tried. `principal` is None when it is not known; `reason` holds no secret."""
        self.events += 1
        if principal is not None:
            principal = _cut(principal)
        key = ("authentication", host, listener, mechanism, principal, ok, reason)
        repeats = self._seen.get(key)
        if repeats is not None:
            repeats.count += 1
            return
        event: dict[str, Any] = {"event": "authentication", "result": "ok" if ok else "failed"}
        if principal is not None:
            event["principal"] = principal
        event |= {"host": host, "listener": listener, "mechanism": mechanism}
        if client_id is not None:
            event["client_id"] = _cut(client_id)
        if reason:
            event["reason"] = _cut(reason)
        self._first(key, event)

    def authorization(
        self,
        context: Asker,
        operation: AclOperation,
        resource_type: ResourceType,
        name: str,
        allowed: bool,
        reason: str = "",
    ) -> None:
        """Whether this request may do this was decided."""
        if allowed:
            bit = 1 << operation
            if bit & _SILENT:
                return
            if bit & _CHANGES:
                if self._tells_changes:
                    self.events += 1
                    self._put(_authorized(context, operation, resource_type, name, allowed, reason))
                return
            if not self._tells_access:
                return
        self.events += 1
        if len(name) > LONGEST_TEXT:
            name = _cut(name)
        key = (context.principal, context.client_host, operation + 0, resource_type + 0, name, allowed)
        repeats = self._seen.get(key)
        if repeats is not None:
            repeats.count += 1
        else:
            self._first(key, _authorized(context, operation, resource_type, name, allowed, reason))

    def change(self, context: Asker, what: str) -> None:
        """Something was changed whose resource says too little: which rule, whose password. One line each."""
        if self._tells_changes:
            self.events += 1
            self._put({"event": "change", "result": "ok", **_asker(context), "what": _cut(what)})

    def note(self, what: str, **fields: str | int) -> None:
        """Something else that has to be told: the log was opened, a key was changed."""
        self.events += 1
        self._put({"event": what, **fields})

    def take(self, now_ms: int) -> list[dict[str, Any]]:
        """The events to write, oldest first; ends the interval of counting when its time has come."""
        if self._interval_ends_ms is not None and now_ms >= self._interval_ends_ms:
            self._end_interval(now_ms)
        taken, self._queue = self._queue, []
        if self._left_out:
            left_out, self._left_out = self._left_out, {}
            count = sum(left_out.values())
            self.dropped += count
            taken.append(
                self._stamped({"event": "audit", "reason": "events were left out", "count": count, **left_out})
            )
        return taken

    def finish(self) -> list[dict[str, Any]]:
        """All that is left to tell, counts of an interval that has not ended among it: for a broker that stops."""
        now_ms = self._now_ms()
        self._end_interval(now_ms)
        return self.take(now_ms)

    def _first(self, key: _Key, event: dict[str, Any]) -> None:
        if len(self._seen) >= _room(self._most_keys, event):
            self._leave_out(event)
            return
        if self._interval_ends_ms is None:
            self._interval_ends_ms = self._now_ms() + self._interval_ms
        self._seen[key] = _Repeats(event)
        self._put(event)

    def _put(self, event: dict[str, Any]) -> None:
        if len(self._queue) >= _room(self._most_queued, event):
            self._leave_out(event)
        else:
            self._queue.append(self._stamped(event))

    def _leave_out(self, event: dict[str, Any]) -> None:
        kind = f"{event['event']}_{event.get('result', 'noted')}"
        self._left_out[kind] = self._left_out.get(kind, 0) + event.get("count", 1)

    def _stamped(self, event: dict[str, Any]) -> dict[str, Any]:
        return {"time_ms": self._now_ms(), "node": self._node_id, **event}

    def _end_interval(self, now_ms: int) -> None:
        """Tell the counts. What did not happen again is forgotten, and is a first time when it comes back."""
        self.intervals += 1
        kept = {}
        for key, repeats in self._seen.items():
            if repeats.count:
                self._put({**repeats.event, "count": repeats.count})
                repeats.count = 0
                kept[key] = repeats
        self._seen = kept
        self._interval_ends_ms = now_ms + self._interval_ms if kept else None


class _Repeats:
    """How often an event has come again since it was told."""

    __slots__ = ("count", "event")

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event
        self.count = 0


def _room(places: int, event: dict[str, Any]) -> int:
    """How many of the places may be taken before this event: refusals leave a quarter free. They cost a stranger
    nothing, and must not be a curtain for what somebody does meanwhile who got in."""
    return places - places // 4 if event.get("result") in ("failed", "denied") else places


def encode_lines(events: Iterable[dict[str, Any]]) -> bytes:
    """Events as lines of JSON in ASCII: whatever a client calls itself, a line is a line, and shows as it is."""
    return b"".join(_line(event) for event in events)


def _line(event: dict[str, Any]) -> bytes:
    content = {"time": _utc(event["time_ms"]), **event}
    del content["time_ms"]
    return json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"


def _utc(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _authorized(
    context: Asker, operation: AclOperation, resource_type: ResourceType, name: str, allowed: bool, reason: str
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event": "authorization",
        "result": "allowed" if allowed else "denied",
        **_asker(context),
        "operation": operation.name,
        "resource_type": resource_type.name,
        "resource": _cut(name),
    }
    if reason:
        event["reason"] = _cut(reason)
    return event


def _asker(context: Asker) -> dict[str, Any]:
    event: dict[str, Any] = {
        "principal": _cut(context.principal),
        "host": context.client_host,
        "listener": context.listener_name,
        "client_id": _cut(context.client_id or ""),
    }
    session: Session | None = getattr(context, "session", None)
    if session is not None:
        if session.groups:
            event["groups"] = [_cut(group) for group in session.groups[:16]]
        if session.token_id is not None:
            event["token_id"] = _cut(session.token_id)
    api = getattr(context, "api_name", None)
    if api:
        event["api"] = api
    return event


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"

"""When brokers were last heard of, and how far each has followed the metadata (KIP-631).

This is not in the log: a new controller starts afresh, and gives everybody a whole session to find it. All else that is
known of a broker (fenced, shutting down) is in the image.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.server.metadata.image import BrokerImage


class _Session:
    """One incarnation of a broker. `contact_ms` is None before its first heartbeat."""

    __slots__ = ("broker_epoch", "contact_ms", "metadata_offset", "registered_offset", "shutdown_offset")

    def __init__(self, broker_epoch: int, registered_offset: int) -> None:
        self.broker_epoch = broker_epoch
        self.registered_offset = registered_offset
        self.contact_ms: int | None = None
        self.metadata_offset = -1
        self.shutdown_offset = -1


class Heartbeats:
    """Sessions of registered brokers; times are milliseconds of a monotonic clock.

    A broker that was never heard of has no session: it cannot expire, and another one may take its id.
    """

    __slots__ = ("_sessions", "session_timeout_ms")

    def __init__(self, session_timeout_ms: int) -> None:
        self.session_timeout_ms = session_timeout_ms
        self._sessions: dict[int, _Session] = {}

    def claim(self, brokers: Iterable[BrokerImage], offset: int, now_ms: int) -> None:
        """This node became the active controller with the metadata up to `offset`."""
        for broker in brokers:
            session = self._sessions[broker.broker_id] = _Session(broker.broker_epoch, offset)
            if not broker.fenced:
                session.contact_ms = now_ms
            if broker.in_controlled_shutdown:
                session.shutdown_offset = offset

    def registered(self, broker: BrokerImage, offset: int) -> None:
        """A new incarnation's registration is in the log, at `offset` or before."""
        self._sessions[broker.broker_id] = _Session(broker.broker_epoch, offset)

    def unregistered(self, broker_id: int) -> None:
        """It is no broker of the cluster any more."""
        self._sessions.pop(broker_id, None)

    def forget(self, broker_id: int) -> None:
        """The incarnation that was heard of is known to be gone."""
        session = self._sessions.get(broker_id)
        if session is not None:
            session.contact_ms = None

    def shuts_down(self, broker_id: int, offset: int) -> None:
        """Its leaderships moved with the record at `offset`, which the others must have seen before it may go."""
        session = self._sessions[broker_id]
        if session.shutdown_offset < 0:
            session.shutdown_offset = offset

    def heard(self, broker_id: int, broker_epoch: int, now_ms: int) -> None:
        """A heartbeat came, before anything is known of whether it is valid."""
        session = self._sessions.get(broker_id)
        if session is not None and session.broker_epoch == broker_epoch:
            session.contact_ms = now_ms

    def let_go(self, broker_id: int) -> None:
        """The broker may stop, and is not expected to be heard of again."""
        self._sessions[broker_id].contact_ms = None

    def has_reached(self, broker_id: int, metadata_offset: int) -> None:
        """How far the broker says it has followed the metadata."""
        self._sessions[broker_id].metadata_offset = metadata_offset

    def is_alive(self, broker_id: int, now_ms: int) -> bool:
        """The broker was heard of within the session timeout."""
        session = self._sessions.get(broker_id)
        if session is None or session.contact_ms is None:
            return False
        return now_ms <= session.contact_ms + self.session_timeout_ms

    def last_contact_ms(self, broker_id: int) -> int | None:
        """When the broker was last heard of; None when it never was."""
        session = self._sessions.get(broker_id)
        return None if session is None else session.contact_ms

    def is_caught_up(self, broker_id: int, metadata_offset: int) -> bool:
        """The broker has seen its own registration, and so everything that happened while it was away."""
        return metadata_offset >= self._sessions[broker_id].registered_offset

    def may_stop(self, broker_id: int, active: Iterable[int]) -> bool:
        """All active brokers know that they have to do without it."""
        shutdown_offset = self._sessions[broker_id].shutdown_offset
        return all(self._sessions[other].metadata_offset >= shutdown_offset for other in active)

    def expired(self, unfenced: Iterable[int], now_ms: int) -> int | None:
        """The unfenced broker that has been silent for longest, when that is longer than the session timeout."""
        broker_id = self._longest_silent(unfenced)
        return None if broker_id is None or self.is_alive(broker_id, now_ms) else broker_id

    def deadline_ms(self, unfenced: Iterable[int]) -> int | None:
        """When to look for an expired session next; None without any."""
        broker_id = self._longest_silent(unfenced)
        if broker_id is None:
            return None
        contact_ms = self._sessions[broker_id].contact_ms
        return None if contact_ms is None else contact_ms + self.session_timeout_ms + 1

    def _longest_silent(self, unfenced: Iterable[int]) -> int | None:
        sessions = self._sessions
        known = [
            (contact_ms, broker_id)
            for broker_id in unfenced
            if broker_id in sessions and (contact_ms := sessions[broker_id].contact_ms) is not None
        ]
        return min(known)[1] if known else None

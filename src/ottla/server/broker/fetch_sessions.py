"""Incremental fetch sessions (KIP-227): what a client fetches is remembered, so that both sides send only what changed.

Theory of operation. A full fetch (session id 0, epoch 0) asks for a session; the cache creates one if there is room,
keeps the partitions in the client's order and answers its id. Further requests carry (id, epoch 1, 2, …) and list only
partitions that were added, changed or forgotten; answers list only partitions with something new. Epoch -1 closes the
session and fetches without one.

The cache has a fixed number of slots. A full cache makes room by evicting the session idle for more than two minutes,
else one worth less than the newcomer: followers' sessions (privileged) are worth more than consumers', more partitions
more than fewer, and a session younger than two minutes is safe from equals. When nothing can go, the answer has session
id 0 and the client goes on with full fetches.

A session is its owner's, the principal it was made for: for others it is not there, so that nobody can guess an id and
change what somebody else fetches. (What may be read is asked with each request, whoever has the session.)

Sans-I/O: time is an argument (milliseconds, any steady origin), randomness is handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from random import Random

    from ottla.protocol.messages.fetch import FetchPartition, ForgottenTopic, PartitionData
    from ottla.server.broker.follower_fetch import FollowerFetches
    from ottla.server.replication.partition import Partition

    TopicKey = str | bytes

INVALID_SESSION_ID = 0
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
MAX_EPOCH = 2**31 - 1
EVICTION_MS = 120_000


def next_epoch(epoch: int) -> int:
    """The epoch the client must send after `epoch`; wraps to 1, because 0 asks for a new session."""
    return 1 if epoch == MAX_EPOCH else epoch + 1


class FetchedPartition:
    """One partition somebody fetches: the request's parameters and, in a session, what was last answered."""

    __slots__ = ("high_watermark", "log_start_offset", "partition", "request", "topic")

    def __init__(self, topic: TopicKey, request: FetchPartition) -> None:
        self.topic = topic  # the name, or the 16-byte id from Fetch v13 on
        self.request = request
        self.partition: Partition | None = None  # where it was read last
        self.high_watermark = -1
        self.log_start_offset = -1

    def wanted_now(self, request: FetchPartition) -> None:
        """A request lists it with these parameters. Who fetches in another leader epoch may have put aside the last
        answer, which was of the one before: it is told all again.
        """
        if request.current_leader_epoch != self.request.current_leader_epoch:
            self.forget_answer()
        self.request = request

    def has_news(self, data: PartitionData) -> bool:
        """True when `data` must be in an incremental answer; remembers what the client will then know."""
        news = bool(data.records) or data.preferred_read_replica >= 0 or data.diverging_epoch.epoch >= 0
        if data.error_code:
            # Answered always; and once the error is gone the partition must be answered again, whatever its high
            # watermark.
            self.high_watermark = -1
            return True
        if data.high_watermark != self.high_watermark:
            self.high_watermark = data.high_watermark
            news = True
        if data.log_start_offset != self.log_start_offset:
            self.log_start_offset = data.log_start_offset
            news = True
        return news

    def knows_otherwise(self, data: PartitionData) -> bool:
        """True when `data` has another high watermark, or log start, than was answered last."""
        return data.high_watermark != self.high_watermark or data.log_start_offset != self.log_start_offset

    def forget_answer(self) -> None:
        """The last answer was not sent: the client knows nothing of this partition."""
        self.high_watermark = self.log_start_offset = -1


class FetchSession:
    """One client's session.  `epoch` is what its next request must carry.  `partitions` is in fetch order.

    `watch` is where a follower's session looks at them (`follower_fetch`); `owner` the principal that it is for.
    """

    __slots__ = (
        "created_ms",
        "epoch",
        "last_used_ms",
        "owner",
        "partitions",
        "privileged",
        "session_id",
        "uses_topic_ids",
        "watch",
    )

    def __init__(
        self, session_id: int, *, privileged: bool, uses_topic_ids: bool, now_ms: int, owner: str = ""
    ) -> None:
        self.session_id = session_id
        self.owner = owner
        self.epoch = 1
        self.privileged = privileged
        self.uses_topic_ids = uses_topic_ids
        self.created_ms = now_ms
        self.last_used_ms = now_ms
        self.partitions: dict[tuple[TopicKey, int], FetchedPartition] = {}
        self.watch: FollowerFetches | None = None

    def update(
        self, fetched: Iterable[tuple[TopicKey, FetchPartition]], forgotten: Iterable[tuple[TopicKey, int]]
    ) -> None:
        """Take over an incremental request: new partitions go to the end, changed ones keep their place, forgotten ones
        go.
        """
        partitions = self.partitions
        for topic, request in fetched:
            key = (topic, request.partition)
            cached = partitions.get(key)
            if cached is None:
                partitions[key] = FetchedPartition(topic, request)
            else:
                cached.wanted_now(request)
        for forgotten_key in forgotten:
            partitions.pop(forgotten_key, None)

    def rotate(self, served: Iterable[FetchedPartition]) -> None:
        """Move partitions that just got records to the end, so that a small max_bytes starves none."""
        partitions = self.partitions
        for entry in served:
            key = (entry.topic, entry.request.partition)
            if partitions.get(key) is entry:
                del partitions[key]
                partitions[key] = entry

    @property
    def value(self) -> tuple[bool, int, int]:
        """What it is worth when slots are short: the smaller is evicted first."""
        return (self.privileged, len(self.partitions), self.session_id)


class FetchSessionCache:
    """The sessions of one broker, at most `slots` of them."""

    __slots__ = ("_random", "_sessions", "evictions", "slots")

    def __init__(self, slots: int, random: Random) -> None:
        self.slots = slots
        self.evictions = 0
        self._random = random
        self._sessions: OrderedDict[int, FetchSession] = OrderedDict()  # least recently used first

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def partition_count(self) -> int:
        """Partitions remembered over all sessions."""
        return sum(len(session.partitions) for session in self._sessions.values())

    def get(self, session_id: int) -> FetchSession | None:
        """The session, without touching it."""
        return self._sessions.get(session_id)

    def close(self, session_id: int, owner: str = "") -> None:
        """Forget a session of this owner; unknown ids are fine."""
        session = self._sessions.get(session_id)
        if session is not None and session.owner == owner:
            self._forget(session)

    def _forget(self, session: FetchSession) -> None:
        del self._sessions[session.session_id]
        if session.watch is not None:
            session.watch.close()

    def resume(self, session_id: int, epoch: int, *, uses_topic_ids: bool, owner: str = "") -> FetchSession:
        """The session an incremental request names, at exactly this epoch.

        Raises ApiError FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, or FETCH_SESSION_TOPIC_ID_ERROR when
        the session was made with topic names and the request uses ids, or the other way round.
        """
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner:
            raise ApiError(ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
        if session.epoch != epoch:
            raise ApiError(ErrorCode.INVALID_FETCH_SESSION_EPOCH)
        if session.uses_topic_ids is not uses_topic_ids:
            raise ApiError(ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR)
        return session

    def advance(self, session: FetchSession, now_ms: int) -> None:
        """Count one accepted request: the epoch goes on, the session becomes the most recently used."""
        session.epoch = next_epoch(session.epoch)
        session.last_used_ms = now_ms
        self._sessions.move_to_end(session.session_id)

    def create(
        self, size: int, *, privileged: bool, uses_topic_ids: bool, now_ms: int, owner: str = ""
    ) -> FetchSession | None:
        """A new empty session that is going to hold `size` partitions, or None when there is no slot for it."""
        if len(self._sessions) >= self.slots and not self._make_room(privileged, size, now_ms):
            return None
        session_id = self._new_id()
        session = FetchSession(
            session_id, privileged=privileged, uses_topic_ids=uses_topic_ids, now_ms=now_ms, owner=owner
        )
        self._sessions[session_id] = session
        return session

    def _new_id(self) -> int:
        while True:
            session_id = self._random.randint(1, MAX_EPOCH)
            if session_id not in self._sessions:
                return session_id

    def _make_room(self, privileged: bool, size: int, now_ms: int) -> bool:
        if not self._sessions:
            return False
        oldest = next(iter(self._sessions.values()))
        if now_ms - oldest.last_used_ms > EVICTION_MS:
            self._evict(oldest)
            return True
        # A privileged newcomer may push out any unprivileged session, everybody else only those past their protected
        # youth.
        candidates = [
            session
            for session in self._sessions.values()
            if now_ms - session.created_ms > EVICTION_MS or (privileged and not session.privileged)
        ]
        if not candidates:
            return False
        cheapest = min(candidates, key=lambda session: session.value)
        if (privileged, size) <= cheapest.value[:2]:
            return False
        self._evict(cheapest)
        return True

    def _evict(self, session: FetchSession) -> None:
        self._forget(session)
        self.evictions += 1


def forgotten_partitions(topics: Iterable[ForgottenTopic], *, uses_topic_ids: bool) -> list[tuple[TopicKey, int]]:
    """The keys of a request's forgotten_topics_data."""
    return [
        (topic.topic_id if uses_topic_ids else topic.topic, partition)
        for topic in topics
        for partition in topic.partitions
    ]

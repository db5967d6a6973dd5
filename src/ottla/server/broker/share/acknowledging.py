"""Acknowledgements as requests carry them: checked, handed to the share partitions, and their outcome collected."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.share.delivery import RENEW, Acknowledgement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ottla.server.broker.share.hosted import HostedSharePartition
    from ottla.server.broker.share.sessions import PartitionKey
    from ottla.server.broker.share.share_partitions import SharePartitions
    from ottla.server.metadata.image import TopicsImage

_FIRST_RENEW_VERSION = 2


class AcknowledgementBatch(Protocol):
    """`AcknowledgementBatch` of ShareFetch and ShareAcknowledge: both offsets inclusive, one type, or one for each."""

    first_offset: int
    last_offset: int
    acknowledge_types: list[int]


class Outcome(NamedTuple):
    """What became of the acknowledgements of one partition."""

    code: ErrorCode
    message: str | None


_DONE = Outcome(ErrorCode.NONE, None)


class Acknowledgements:
    """The acknowledgements of one request. `outcomes` is complete once `outstanding` is zero; `on_done` is called when
    that happens after `apply`.
    """

    __slots__ = ("denied", "is_renew", "on_done", "outcomes", "outstanding", "version")

    def __init__(self, version: int, *, is_renew: bool, on_done: Callable[[], None]) -> None:
        self.version = version
        self.is_renew = is_renew and version >= _FIRST_RENEW_VERSION
        self.on_done = on_done
        self.denied: frozenset[str | bytes] = frozenset()
        """Ids of topics that the member may not read."""
        self.outcomes: dict[PartitionKey, Outcome] = {}
        self.outstanding = 0

    def apply(
        self,
        share: SharePartitions,
        topics: TopicsImage,
        group_id: str,
        member_id: str,
        partitions: Iterable[tuple[PartitionKey, Sequence[AcknowledgementBatch]]],
    ) -> None:
        """Hand them over; what has to be written first is outstanding afterwards."""
        for key, batches in partitions:
            try:
                topic = topics.by_id.get(key[0])
                if topic is None:
                    raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID)
                acknowledgements = self._checked(batches)
                if key[0] in self.denied:
                    raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
                if key[1] not in topic.partitions:
                    raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                self.outcomes[key] = _DONE
                if acknowledgements:
                    self._hand_over(share.existing(group_id, *key), key, member_id, acknowledgements)
            except ApiError as error:
                self.outcomes[key] = Outcome(error.code, error.message)

    def _hand_over(
        self,
        hosted: HostedSharePartition | None,
        key: PartitionKey,
        member_id: str,
        acknowledgements: list[Acknowledgement],
    ) -> None:
        if hosted is None or hosted.core is None:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        change = hosted.core.acknowledge(member_id, acknowledgements, hosted.now_ms())
        for one in acknowledgements:
            hosted.group.acknowledged[one.type] += one.end_offset - one.first_offset
        if change is not None:
            self.outstanding += 1
            change.on_settled = partial(self._settled, key)
            hosted.schedule_write()

    def _settled(self, key: PartitionKey, code: ErrorCode) -> None:
        self.outstanding -= 1
        if code is not ErrorCode.NONE:
            self.outcomes[key] = Outcome(code, code.message)
        if not self.outstanding:
            self.on_done()

    def _checked(self, batches: Sequence[AcknowledgementBatch]) -> list[Acknowledgement]:
        """Runs of one type each. Raises ApiError INVALID_REQUEST for what no client may send."""
        previous = -1
        checked: list[Acknowledgement] = []
        highest = RENEW if self.version >= _FIRST_RENEW_VERSION else RENEW - 1
        for batch in batches:
            first, last, types = batch.first_offset, batch.last_offset, batch.acknowledge_types
            count = last - first + 1
            if (
                count < 1
                or first < previous
                or not types
                or (len(types) > 1 and len(types) != count)
                or min(types) < 0
                or max(types) > highest
                or (RENEW in types and not self.is_renew)
            ):
                raise ApiError(ErrorCode.INVALID_REQUEST)
            previous = last
            if len(types) == 1:
                checked.append(Acknowledgement(first, last + 1, types[0]))
                continue
            start = 0
            for position in range(1, count + 1):
                if position == count or types[position] != types[start]:
                    checked.append(Acknowledgement(first + start, first + position, types[start]))
                    start = position
        return checked

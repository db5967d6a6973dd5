"""Batches of records into images, metadata transactions kept whole (KIP-868)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata.delta import MetadataDelta, MetadataError
from ottla.server.metadata.image import MetadataImage


class RecordLoader:
    """Collects records until `take()` asks for what they amount to.

    Records between BeginTransaction and EndTransaction are held back until the end, and forgotten on AbortTransaction
    (or when the log ends first: the next leader starts with an abort). `offset`, `epoch` and `timestamp_ms` of the
    image are those of the last batch outside an open transaction.
    """

    __slots__ = ("_delta", "_epoch", "_held", "_offset", "_timestamp_ms", "image")

    def __init__(self, image: MetadataImage) -> None:
        self.image = image
        self._delta: MetadataDelta | None = None
        self._held: list[Any] | None = None
        self._offset, self._epoch, self._timestamp_ms = image.offset, image.epoch, image.timestamp_ms

    @property
    def in_transaction(self) -> bool:
        """A BeginTransaction has not been ended yet."""
        return self._held is not None

    @property
    def has_records(self) -> bool:
        """Something was added since the last `take()`."""
        return self._delta is not None

    def adopt(self, image: MetadataImage) -> None:
        """Go on from `image`, made of the present one by somebody who has ended an open transaction first."""
        assert self._delta is None, "records would be lost"
        self.image = image
        self._held = None
        self._offset, self._epoch, self._timestamp_ms = image.offset, image.epoch, image.timestamp_ms

    def add(self, records: Iterable[Any], last_offset: int, epoch: int, timestamp_ms: int) -> None:
        """Replay one batch whose last record has `last_offset`."""
        delta = self._delta
        if delta is None:
            delta = self._delta = MetadataDelta(self.image)
        replay = delta.replay
        for record in records:
            kind = type(record)
            if kind is messages.BeginTransactionRecord:
                if self._held is not None:
                    raise MetadataError("a metadata transaction begins inside another one")
                self._held = []
            elif kind is messages.EndTransactionRecord or kind is messages.AbortTransactionRecord:
                if self._held is None:
                    raise MetadataError("a metadata transaction ends that did not begin")
                if kind is messages.EndTransactionRecord:
                    for held in self._held:
                        replay(held)
                self._held = None
            elif self._held is not None:
                self._held.append(record)
            else:
                replay(record)
        if self._held is None:
            self._offset, self._epoch, self._timestamp_ms = last_offset, epoch, timestamp_ms

    def take(self) -> tuple[MetadataDelta, MetadataImage]:
        """The delta since the last `take()` and the image after it, which is the base of what follows."""
        delta = self._delta or MetadataDelta(self.image)
        self._delta = None
        self.image = delta.apply(self._offset, self._epoch, self._timestamp_ms)
        return delta, self.image

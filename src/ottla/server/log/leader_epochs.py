"""Where each leader epoch of a partition starts (KIP-101), kept in its `leader-epoch-checkpoint`."""

from __future__ import annotations

from bisect import bisect_right

from ottla.runtime.disk import Disk
from ottla.server.log.checkpoint import format_leader_epochs, write_unsynced

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochs:
    """Epochs and their start offsets, both strictly ascending.

    Changes are written at once but not fsynced: what a crash takes is found again in the batches above the recovery
    point, so it is enough that a flush makes the file durable before that point moves (`unsynced`). While a log is
    recovered nothing is written: half of what the batches tell would look like all of it after another crash.
    """

    __slots__ = ("_disk", "_epochs", "_in_file", "_path", "_starts", "latest", "unsynced")

    def __init__(
        self, disk: Disk, path: str, entries: list[tuple[int, int]] | None = None, *, deferred: bool = False
    ) -> None:
        self._disk = disk
        self._path = path
        self._epochs = [epoch for epoch, _ in entries or ()]
        self._starts = [start for _, start in entries or ()]
        self.latest = self._epochs[-1] if self._epochs else UNDEFINED_EPOCH
        self.unsynced = False
        # What the file has, while changes are kept from it.
        self._in_file = list(entries or ()) if deferred else None

    @property
    def path(self) -> str:
        """The checkpoint file."""
        return self._path

    def relocate(self, path: str) -> None:
        """The file is there now."""
        self._path = path

    def entries(self) -> list[tuple[int, int]]:
        """(epoch, start offset), ascending."""
        return list(zip(self._epochs, self._starts, strict=True))

    def end_recovery(self) -> None:
        """Make the file, durably, what the batches say; from now on each change is written."""
        in_file, self._in_file = self._in_file, None
        if in_file != self.entries():
            self._disk.replace(self._path, format_leader_epochs(self.entries()))
        self.unsynced = False

    def assign(self, epoch: int, start_offset: int) -> None:
        """Records of `epoch` begin at `start_offset`; entries which contradict that are dropped."""
        if epoch < 0:
            return
        if self._epochs and epoch == self.latest and start_offset >= self._starts[-1]:
            return
        kept = [entry for entry in self.entries() if entry[0] < epoch and entry[1] < start_offset]
        self._change([*kept, (epoch, start_offset)])

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """The largest known epoch not above `epoch` and where it ends; (-1, -1) when that can not be said."""
        if epoch == UNDEFINED_EPOCH or not self._epochs or epoch > self.latest:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == self.latest:
            return epoch, log_end_offset
        higher = bisect_right(self._epochs, epoch)
        if higher == 0:
            return epoch, self._starts[0]
        return self._epochs[higher - 1], self._starts[higher]

    def epoch_for_offset(self, offset: int) -> int:
        """The epoch that the record at `offset` was written in; -1 when it is not known."""
        index = bisect_right(self._starts, offset) - 1
        return self._epochs[index] if index >= 0 else UNDEFINED_EPOCH

    def truncate_from_end(self, end_offset: int) -> None:
        """Forget epochs that start at or after `end_offset`."""
        if self._starts and self._starts[-1] >= end_offset:
            self._change([entry for entry in self.entries() if entry[1] < end_offset])

    def truncate_from_start(self, start_offset: int) -> None:
        """The log starts at `start_offset` now: earlier epochs go, the one it lies in starts there."""
        index = bisect_right(self._starts, start_offset) - 1
        if index < 0 or (index == 0 and self._starts[0] == start_offset):
            return
        entries = self.entries()[index:]
        entries[0] = entries[0][0], start_offset
        self._change(entries)

    def clear(self) -> None:
        """Forget everything."""
        if self._epochs:
            self._change([])

    def _change(self, entries: list[tuple[int, int]]) -> None:
        """Write the file first: when the disk is full, the append that needs the new epoch is refused, and tried again
        as if nothing had happened.
        """
        if self._in_file is None:
            write_unsynced(self._disk, self._path, format_leader_epochs(entries))
        self._epochs = [epoch for epoch, _ in entries]
        self._starts = [start for _, start in entries]
        self.latest = self._epochs[-1] if self._epochs else UNDEFINED_EPOCH
        self.unsynced = True

"""`client-metrics.jsonl` in the first data directory: one line of JSON for each push, newest at the end.

When the file has grown to `MAX_FILE_BYTES` it becomes `client-metrics.jsonl.1` in place of the one before, so that both
together never take more than twice that.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ottla.runtime.disk import DiskError
from ottla.runtime.env import Env

FILE_NAME: Final = "client-metrics.jsonl"
MAX_FILE_BYTES: Final = 16 * 1024 * 1024
_MAX_PENDING_BYTES: Final = 4 * 1024 * 1024

logger = logging.getLogger(__name__)


class MetricsFile:
    """Appends lines in order, in a worker thread, as many at once as have come in the meantime.

    A disk that fails or is too slow costs lines, which is said once in the log until it works again.
    """

    def __init__(self, env: Env, directory: str) -> None:
        self.path = f"{directory}/{FILE_NAME}"
        self._env = env
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._complained = False

    def write(self, line: bytes) -> None:
        """Have a line (without its end) written soon."""
        if self._pending and self._pending_bytes + len(line) > _MAX_PENDING_BYTES:
            self._complain("the disk is too slow")
            return
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())

    async def close(self) -> None:
        """Wait until everything is written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        try:
            while self._pending:
                data = b"".join(line + b"\n" for line in self._pending)
                self._pending.clear()
                self._pending_bytes = 0
                await self._env.run_blocking(self._append, data)
                self._complained = False
        except DiskError as error:
            self._complain(str(error))
        finally:
            self._writing = None

    def _append(self, data: bytes) -> None:
        disk = self._env.disk
        if disk.exists(self.path) and disk.size(self.path) + len(data) > MAX_FILE_BYTES:
            disk.rename(self.path, f"{self.path}.1")
        file = disk.open(self.path, create=True)
        try:
            file.append(data)
        finally:
            file.close()

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("client metrics are lost, %s cannot be written: %s", self.path, reason)

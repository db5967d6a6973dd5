"""The audit log as a file: one line of JSON for each event, and the file changed when it has grown. Only its owner may
read it.

Events may go elsewhere as well, or instead (`tell`): `broker.audit_topic` has them in a topic.

Once a second what was collected is appended in a worker thread; the event loop never waits for the disk. When the file
is larger than `audit.log.max.bytes` it becomes `<file>.1`, what was that `<file>.2`, and so on; the oldest goes.

A disk that fails costs lines and nothing else: they are counted, the log says so once, and the first line that can be
written again tells how many are missing. What is collected meanwhile is bounded by `Audit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ottla.runtime.disk import DiskError
from ottla.schema.definition import SettingError
from ottla.server.security.audit import Audit, encode_lines

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S: Final = 1.0


class AuditLog:
    """Writes what `audit` collects. `open` before anything is written, `close` when the last request is answered."""

    def __init__(self, config: BrokerConfig, env: Env) -> None:
        self.path: str | None = config["audit.log.file"]
        self.tell: Callable[[list[dict[str, Any]]], None] | None = None
        """Gets all events as well, once a second; must not wait."""
        self.audit = Audit(
            env.clock.now_ms,
            node_id=config.node_id,
            interval_ms=config["audit.log.interval.ms"],
            most_queued=config["audit.log.max.events.per.second"],
            allowed=config["audit.log.allowed"],
        )
        self._env = env
        self._max_bytes: int = config["audit.log.max.bytes"]
        self._max_files: int = config["audit.log.max.files"]
        self._unwritten = 0
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Write the first line. Raises SettingError when the file cannot be written."""
        self.audit.note("started")
        if self.path is not None:
            events = self.audit.take(self._env.clock.now_ms())
            try:
                await self._env.run_blocking(self._append, self.path, events)
            except DiskError as error:
                raise SettingError(
                    "audit.log.file", f"audit.log.file: {self.path} cannot be written: {error.strerror}"
                ) from error
            self.audit.written += len(events)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Write what is left, counts of the interval under way among it."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        await task
        self.audit.note("stopped")
        await self._write(self.audit.finish())

    async def flush(self) -> None:
        """Write, and tell, what was collected so far."""
        await self._write(self.audit.take(self._env.clock.now_ms()))

    @property
    def lost(self) -> int:
        """Events that were collected and could not be written, since the start."""
        return self.audit.lost

    def abort(self) -> None:
        """Stop writing, as a killed process does."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), FLUSH_INTERVAL_S)
            except TimeoutError:
                pass
            if self.path is not None or self.tell is not None:
                await self._write(self.audit.take(self._env.clock.now_ms()))

    async def _write(self, events: list[dict[str, Any]]) -> None:
        if not events:
            return
        if self.tell is not None:
            self.tell(events)
        if self.path is None:
            return
        if self._unwritten:
            events = [{**events[0], **_LOST, "count": self._unwritten}, *events]
        try:
            await self._env.run_blocking(self._append, self.path, events)
        except DiskError as error:
            if not self._unwritten:
                logger.error("audit events are lost, %s cannot be written: %s", self.path, error)
            count = sum(event["event"] not in _OWN for event in events)
            self._unwritten += count
            self.audit.lost += count
        else:
            self._unwritten = 0
            self.audit.written += len(events)

    def _append(self, path: str, events: list[dict[str, Any]]) -> None:
        disk = self._env.disk
        data = encode_lines(events)
        if disk.exists(path) and disk.size(path) + len(data) > self._max_bytes:
            self._change_files(path)
        is_new = not disk.exists(path)
        file = disk.open(path, create=True)
        if is_new:
            disk.make_private(path)
        try:
            file.append(data)
        finally:
            file.close()

    def _change_files(self, path: str) -> None:
        disk = self._env.disk
        names = [path, *(f"{path}.{number}" for number in range(1, self._max_files))]
        if disk.exists(names[-1]):
            disk.remove(names[-1])
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if disk.exists(newer):
                disk.rename(newer, older)


_LOST: Final = {"event": "audit", "reason": "events could not be written"}
_OWN: Final = ("audit", "started", "stopped")

"""Certificates are renewed while a node runs: when their files change on disk, and when settings say so."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.security.tls import RenewedContext

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0
"""How often files are looked at: a few calls of `stat`, in a worker thread."""


class Certificates:
    """All of a node's TLS contexts. `config` gives the settings as they are now."""

    def __init__(self, env: Env, config: Callable[[], BrokerConfig], contexts: list[RenewedContext]) -> None:
        self._env = env
        self._config = config
        self._contexts = contexts
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at the files."""
        self._task = asyncio.ensure_future(self._watch())

    def look_now(self) -> None:
        """Settings may have changed."""
        self._changed.set()

    async def check(self, config: BrokerConfig) -> None:
        """Raise SettingError unless every context could be made with these settings."""
        for context in self._contexts:
            await self._env.run_blocking(context.check, config)

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            for context in self._contexts:
                try:
                    await self._env.run_blocking(context.renew, self._config())
                except Exception:
                    logger.exception("the certificates of %s cannot be looked at", context.name)

"""Log lines about what clients send: so many in a while, then their number; or a bad client could fill the disk."""

from __future__ import annotations

import logging
from typing import Final

LINES: Final = 20
INTERVAL_S: Final = 10.0


class Complaints:
    """Lets `LINES` lines of a kind through in `INTERVAL_S`; the first of the next interval tells how many were not."""

    __slots__ = ("_lines", "_logger", "_since", "suppressed")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._since = float("-inf")
        self._lines = 0
        self.suppressed = 0
        """Lines of this interval that were not written."""

    def log(self, now: float, level: int, message: str, *arguments: object) -> None:
        """Write a line, unless there were too many; `now` in seconds, steady."""
        if now - self._since >= INTERVAL_S:
            self._since = now
            self._lines = 0
            suppressed, self.suppressed = self.suppressed, 0
            if suppressed:
                self._logger.warning("%d lines as those before were left out", suppressed)
        self._lines += 1
        if self._lines <= LINES:
            self._logger.log(level, message, *arguments)
        else:
            self.suppressed += 1

"""Ctrl-C and SIGTERM between two batches, not within one: what was shown is also what is committed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self


class Interrupts:
    """A context in which both signals are a `KeyboardInterrupt`. The second one is never held back: somebody may write
    to a pipe that nobody reads."""

    def __init__(self) -> None:
        self._holds = False
        self._came = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """A signal that comes in here takes effect at the end."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
        if self._came:
            raise KeyboardInterrupt

    def _on_signal(self, number: int, frame: object) -> None:
        if self._holds and not self._came:
            self._came = True
            return
        self._came = True
        raise KeyboardInterrupt

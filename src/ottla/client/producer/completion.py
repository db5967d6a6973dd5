"""The outcome of a call that takes longer than its caller may wait."""

from __future__ import annotations

from collections.abc import Callable

from ottla.client.errors import KafkaError


class Completion:
    """Done or not, with an error or without. Callbacks run where it is completed, or at once when it is already."""

    __slots__ = ("_callbacks", "abandoned", "done", "error", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        """The call, as the user wrote it: "commit()"."""
        self.done = False
        self.error: KafkaError | None = None
        self.abandoned = False
        """The caller's time ran out first. The operation goes on, and the same call again takes it up."""
        self._callbacks: list[Callable[[Completion], None]] = []

    def complete(self, error: KafkaError | None = None) -> None:
        """The first outcome counts."""
        if self.done:
            return
        self.done = True
        self.error = error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_callback(self, callback: Callable[[Completion], None]) -> None:
        if self.done:
            callback(self)
        else:
            self._callbacks.append(callback)

    def __repr__(self) -> str:
        state = "under way" if not self.done else "done" if self.error is None else f"failed: {self.error}"
        return f"<Completion {self.what} {state}>"

"""What an active controller does unasked: it fences brokers that fell silent, and every so often holds elections and
removes delegation tokens that are over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from ottla.core.errors import ApiError
from ottla.server.controller.controller import ControllerCore
from ottla.server.controller.result import Result

_LATE_S: Final = 0.5
"""A timer that rings so much late tells that the whole process stood still, not that brokers did."""
_HEARING_S: Final = 0.1
"""For so long heartbeats that came meanwhile are read before anybody is fenced."""

Submit = Callable[[Callable[[], Result]], tuple[Any, "asyncio.Future[None] | None"]]

_log = logging.getLogger(__name__)


class PeriodicRounds:
    """Timers of one leadership. Sessions are watched by their deadline, so that a broker is fenced as soon as its
    session is over; where no session can end, nothing wakes up."""

    def __init__(self, core: ControllerCore, submit: Submit, wall_ms: Callable[[], int]) -> None:
        """`submit` decides and appends; it raises ApiError when that cannot be, and the next round tries again."""
        self._core = core
        self._submit = submit
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self._session_timer: asyncio.TimerHandle | None = None
        self._timers: dict[Callable[[], Result], asyncio.TimerHandle] = {}
        config = core.config
        if config["auto.leader.rebalance.enable"]:
            self._every(config["leader.imbalance.check.interval.seconds"], core.balance_leaders)
        self._every(config["unclean.leader.election.interval.ms"] / 1000, core.elect_uncleanly)
        if config["delegation.token.secret.key"] is not None:
            interval_s = config["delegation.token.expiry.check.interval.ms"] / 1000
            self._every(interval_s, lambda: core.expire_delegation_tokens(wall_ms()))
        self.watch_sessions()

    def stop(self) -> None:
        """The leadership is over."""
        self._is_over = True
        if self._session_timer is not None:
            self._session_timer.cancel()
            self._session_timer = None
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def watch_sessions(self) -> None:
        """See to it that the end of the next session is noticed; to be called when somebody was heard of."""
        if self._session_timer is not None or self._is_over:
            return
        deadline_ms = self._core.session_deadline_ms()
        if deadline_ms is not None:
            self._fence_at(deadline_ms / 1000)

    def _fence_at(self, at_s: float) -> None:
        if not self._is_over:
            self._session_timer = self._loop.call_at(at_s, self._fence, at_s)

    def _fence(self, deadline_s: float) -> None:
        self._session_timer = None
        if self._loop.time() - deadline_s > _LATE_S:
            self._fence_at(self._loop.time() + _HEARING_S)
            return
        try:
            while (broker_id := self._run(lambda: self._core.fence_expired(self._now_ms()))) is not None:
                _log.warning("broker %d is fenced, its session has timed out", broker_id)
        except ApiError as error:
            _log.warning("brokers that fell silent could not be fenced: %s", error.message)
            self._fence_at(self._loop.time() + _HEARING_S)
            return
        self.watch_sessions()

    def _now_ms(self) -> int:
        # A timer set for a millisecond must find it come, whatever the division has made of it.
        return int(self._loop.time() * 1000 + 0.001)

    def _every(self, interval_s: float, command: Callable[[], Result]) -> None:
        self._wait(interval_s, interval_s, command)

    def _wait(self, delay_s: float, interval_s: float, command: Callable[[], Result]) -> None:
        if not self._is_over:
            self._timers[command] = self._loop.call_later(delay_s, self._round, interval_s, command)

    def _round(self, interval_s: float, command: Callable[[], Result]) -> None:
        more = False
        try:
            more = self._run(command)
        except ApiError as error:
            _log.warning("what was due had to be put off: %s", error.message)
        self._wait(0 if more else interval_s, interval_s, command)

    def _run(self, command: Callable[[], Result]) -> Any:
        response, _ = self._submit(command)
        return response

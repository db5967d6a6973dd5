"""What is counted of requests: how many, which errors their answers held, where the time went.

Counts are exact. Times are taken of a sample where there are many requests: all of them until a period has had enough,
then every eighth, and so on, each weighing as much as it stands for: those whose number in its `Route` has no bit in
common with the mask of the route.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ottla.core.histogram import Histogram

if TYPE_CHECKING:
    from ottla.protocol.message import Message
    from ottla.server.broker.broker import RequestContext
    from ottla.server.broker.dispatch import Route

ENOUGH_SAMPLES: Final = 256
"""Per period; with each such number the sample becomes thinner."""
_MASKS: Final = (0, 7, 63, 255)

_MS: Final = 1e-6

CountErrors = Callable[[Any, dict[int, int]], bool]


class RequestMetrics:
    """One API's, over all versions and listeners. `times_all` asks for the times of every request.

    `failed` counts answers that held at least one error, `errors` each error, by code. Times are recorded in
    nanoseconds and shown in milliseconds.
    """

    __slots__ = (
        "errors",
        "failed",
        "local",
        "mask",
        "name",
        "queue",
        "remote",
        "request_bytes",
        "response_queue",
        "routes",
        "samples",
        "send",
        "throttle",
        "times_all",
        "total",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.mask = 0
        self.times_all = False
        self.routes: list[Route] = []
        self.samples = 0
        self.failed = 0
        self.errors: dict[int, int] = {}
        self.queue = Histogram(_MS)
        self.local = Histogram(_MS)
        self.remote = Histogram(_MS)
        self.response_queue = Histogram(_MS)
        self.send = Histogram(_MS)
        self.total = Histogram(_MS)
        self.throttle = Histogram()
        self.request_bytes = Histogram()

    def record(self, timing: Timing) -> None:
        """Take over a finished request."""
        weight = timing.weight
        self.queue.record(timing.started_ns - timing.arrived_ns, weight)
        self.local.record(timing.local_ns, weight)
        self.remote.record(timing.remote_ns, weight)
        self.response_queue.record(timing.response_queue_ns, weight)
        self.send.record(timing.send_ns, weight)
        self.total.record(timing.total_ns, weight)
        self.request_bytes.record(timing.request_bytes, weight)
        self.samples += 1
        if self.samples % ENOUGH_SAMPLES == 0:
            step = min(self.samples // ENOUGH_SAMPLES, len(_MASKS) - 1)
            self._thin_out(max(self.mask, _MASKS[step]))

    def add(self, route: Route) -> None:
        """One more version, or listener."""
        self.routes.append(route)
        route.mask = 0 if self.times_all else self.mask

    def watch(self, times_all: bool) -> None:
        """Whether every request is to be timed, since it is logged."""
        self.times_all = times_all
        self._thin_out(self.mask)

    def _thin_out(self, mask: int) -> None:
        self.mask = mask
        for route in self.routes:
            route.mask = 0 if self.times_all else mask

    def turn(self, now_ms: int) -> None:
        """Begin new periods where they are over; a busy API goes on with a sample, a quiet one is timed throughout."""
        if self.total.turn(now_ms):
            counted = self.samples * (1 if self.times_all else self.mask + 1)
            fitting = (mask for mask in _MASKS if counted <= ENOUGH_SAMPLES * (mask + 1))
            self._thin_out(next(fitting, _MASKS[-1]))
            self.samples = 0
        for histogram in self.histograms:
            histogram.turn(now_ms)

    @property
    def histograms(self) -> tuple[Histogram, ...]:
        """All of them but the total time."""
        return (
            self.queue,
            self.local,
            self.remote,
            self.response_queue,
            self.send,
            self.throttle,
            self.request_bytes,
        )


class Timing:
    """One timed request on its way. Times in nanoseconds of a steady clock.

    arrived ─queue─ started ─local─ paused ─remote─ resumed ─local─ ended ─response queue─ sending ─send─ sent
    """

    __slots__ = (
        "arrived_ns",
        "client",
        "client_id",
        "correlation_id",
        "local_ns",
        "remote_ns",
        "request_bytes",
        "response_queue_ns",
        "route",
        "send_ns",
        "started_ns",
        "total_ns",
        "weight",
    )

    def __init__(
        self, route: Route, context: RequestContext, arrived_ns: int, started_ns: int, request_bytes: int
    ) -> None:
        self.route = route
        self.weight = route.mask + 1
        self.client_id = context.client_id
        self.client = context.client_host
        self.correlation_id = context.correlation_id
        self.arrived_ns = arrived_ns
        self.started_ns = started_ns
        self.local_ns = 0
        self.remote_ns = 0
        self.request_bytes = request_bytes
        self.response_queue_ns = self.send_ns = self.total_ns = 0

    def pause(self, now_ns: int) -> None:
        """The handler waits."""
        self.local_ns = now_ns - self.started_ns

    def resume(self, now_ns: int) -> None:
        """What it waited for is there."""
        self.remote_ns = now_ns - self.started_ns - self.local_ns

    def end(self, now_ns: int) -> None:
        """The response is made."""
        self.local_ns = now_ns - self.started_ns - self.remote_ns

    def sent(self, sending_ns: int, now_ns: int) -> None:
        """It was handed to the socket, which began at `sending_ns`."""
        self.response_queue_ns = sending_ns - self.started_ns - self.remote_ns - self.local_ns
        self.send_ns = now_ns - sending_ns
        self.total_ns = now_ns - self.arrived_ns


def error_counter(cls: type[Message]) -> CountErrors | None:
    """A function that adds the error codes in a response to a dict and tells whether there were any.

    It is compiled, since it sees every response: loops over those parts that have a place for an error, and nothing
    else. None for a response that has none.
    """
    lines = _looking(cls, "message", 1)
    if not lines:
        return None
    source = ["def count(message, errors):", "    found = False", *lines, "    return found"]
    namespace: dict[str, Any] = {}
    exec("\n".join(source), namespace)
    counter: CountErrors = namespace["count"]
    return counter


def _looking(cls: type[Message], variable: str, depth: int) -> list[str]:
    """The lines that look at one message, or part of one, in a variable."""
    indent = "    " * depth
    lines: list[str] = []
    for field in cls.FIELDS:
        value = f"{variable}.{field.name}"
        if field.name.endswith("error_code"):
            lines += [
                f"{indent}if code := {value}:",
                f"{indent}    errors[code] = errors.get(code, 0) + 1",
                f"{indent}    found = True",
            ]
        elif field.struct is not None:
            part = f"part_{depth}"
            is_list = field.type == "array"
            if inner := _looking(field.struct, part, depth + 1):
                lines.append(f"{indent}for {part} in {value} or ():" if is_list else f"{indent}if {part} := {value}:")
                lines += inner
    return lines

"""How a broker becomes, stays and ceases to be part of its cluster, without I/O (KIP-631).

    core.begin(now_ms)
    for effect in core.on_time(now_ms): ...          # SendRegistration | SendHeartbeat | GiveUp
    core.registration_answered(token, response, now_ms)

The broker registers, with a new incarnation id for each start, until the controller gives it a broker epoch. Then it
sends heartbeats, one at a time. It asks to be unfenced when it has followed the metadata up to its own registration
and is ready to serve; the controller decides.

What it must stay correct under:

- Answers are lost, late, or come twice: each request has a token, and only the answer to the newest one counts.
  Registering twice with one incarnation id is the same registration.
- It is fenced while it runs (its heartbeats did not arrive for a while): it asks to be unfenced with every heartbeat.
  What it may not do meanwhile it learns from the metadata, as everybody does.
- The controller does not know its epoch (STALE_BROKER_EPOCH): it was unregistered, or another process took its id. It
  registers again, with its last epoch as the one that it left in order: its logs are what they were. While the other
  process is alive that is refused (DUPLICATE_BROKER_REGISTRATION), and nothing it says under the old epoch counts.

`deadline_ms` says when `on_time` has something to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ERRORS, ErrorCode

if TYPE_CHECKING:
    from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatResponse
    from ottla.protocol.messages.broker_registration import BrokerRegistrationResponse

SOON_MS: Final = 20
"""First pause between heartbeats while the broker waits for the controller to let it in, or go; doubled each time, up
to the usual interval."""
LONGEST_REFUSED_MS: Final = 500
"""Between attempts to register while an earlier incarnation counts as alive: it will soon not."""


class BrokerState(IntEnum):
    """Where a broker is in its life; the numbers are those of Kafka's metric."""

    NOT_RUNNING = 0
    STARTING = 1
    RECOVERY = 2
    RUNNING = 3
    PENDING_CONTROLLED_SHUTDOWN = 6
    SHUTTING_DOWN = 7


@dataclass(frozen=True, slots=True)
class SendRegistration:
    """Register, having left `previous_broker_epoch` in order (-1: none)."""

    token: int
    previous_broker_epoch: int


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """Tell the controller what the broker wants; the shell adds how far it has followed the metadata."""

    token: int
    broker_epoch: int
    want_fence: bool
    want_shut_down: bool
    offline_log_dirs: tuple[bytes, ...]
    is_caught_up: bool
    """It has followed the metadata once, so that it knows its own settings."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The broker cannot go on; one line says why."""

    reason: str


Effect = SendRegistration | SendHeartbeat | GiveUp


@dataclass(frozen=True, slots=True)
class LifecycleSettings:
    """The settings of the same names."""

    heartbeat_interval_ms: int
    registration_timeout_ms: int
    directory_failure_timeout_ms: int


class LifecycleCore:
    """The state of one broker. `broker_epoch` is that of the newest registration, -1 before the first."""

    def __init__(self, settings: LifecycleSettings, previous_broker_epoch: int) -> None:
        self.state = BrokerState.NOT_RUNNING
        self.broker_epoch = -1
        self.is_registered = False
        """The controller knows `broker_epoch`, as far as this broker knows."""
        self.is_fenced = True
        self.was_unfenced = False
        self.is_caught_up = False
        self.is_ready = False
        """Asks to be unfenced."""
        self.last_error = ErrorCode.NONE
        self._settings = settings
        self._previous_broker_epoch = previous_broker_epoch
        self._offline: dict[bytes, int | None] = {}
        """Failed directories → until when the controller has to hear of them; None: it has."""
        self._newest_token = 0
        self._in_flight: Effect | None = None
        self._next_ms: int | None = None
        """When to ask next; None while something is in flight, and when there is nothing to ask for any more."""
        self._at_once = False
        """Ask again as soon as what is in flight is answered."""
        self._metadata_offset = -1
        self._registration_deadline_ms: int | None = None
        self._pause_ms = SOON_MS

    # What the shell asks for

    @property
    def deadline_ms(self) -> int | None:
        """When `on_time` is to be called next; None: not before something else happens."""
        candidates = [self._next_ms, self._registration_deadline_ms, *self._offline.values()]
        return min((one for one in candidates if one is not None), default=None)

    def on_time(self, now_ms: int) -> list[Effect]:
        """What is due."""
        if self.state in (BrokerState.NOT_RUNNING, BrokerState.SHUTTING_DOWN):
            return []
        if self._registration_deadline_ms is not None and now_ms >= self._registration_deadline_ms:
            self._registration_deadline_ms = None
            return [self._give_up(self._registration_failure())]
        for directory, deadline_ms in self._offline.items():
            if deadline_ms is not None and now_ms >= deadline_ms:
                return [self._give_up(f"no controller could be told that directory {directory.hex()} failed")]
        if self._next_ms is None or now_ms < self._next_ms:
            return []
        self._next_ms = None
        self._newest_token += 1
        effect: SendRegistration | SendHeartbeat
        if self.is_registered:
            effect = SendHeartbeat(
                self._newest_token,
                self.broker_epoch,
                want_fence=not self.is_ready,
                want_shut_down=self.state == BrokerState.PENDING_CONTROLLED_SHUTDOWN,
                offline_log_dirs=tuple(self._offline),
                is_caught_up=self.is_caught_up,
            )
        else:
            effect = SendRegistration(self._newest_token, self._previous_broker_epoch)
        self._in_flight = effect
        return [effect]

    # What the node does

    def begin(self, now_ms: int) -> None:
        """Register."""
        assert self.state == BrokerState.NOT_RUNNING
        self.state = BrokerState.STARTING
        self._registration_deadline_ms = now_ms + self._settings.registration_timeout_ms
        self._next_ms = now_ms

    def adopt(self, broker_epoch: int, now_ms: int) -> None:
        """The broker was registered and unfenced in one step: it is alone, with the controller in its own process."""
        assert self.state == BrokerState.NOT_RUNNING
        self.state = BrokerState.RUNNING
        self.broker_epoch = broker_epoch
        self.is_registered = self.is_ready = self.was_unfenced = self.is_caught_up = True
        self.is_fenced = False
        self._next_ms = now_ms + self._settings.heartbeat_interval_ms

    def ready(self, now_ms: int) -> None:
        """Everything is there that clients need: ask to be unfenced."""
        self.is_ready = True
        self._ask_soon(now_ms)

    def metadata_advanced(self, offset: int, now_ms: int) -> None:
        """The broker has followed the metadata up to and including `offset`."""
        before, self._metadata_offset = self._metadata_offset, offset
        if self.is_registered and self.is_fenced and before < self.broker_epoch <= offset:
            self._ask_soon(now_ms)

    def directory_failed(self, directory_id: bytes, now_ms: int) -> None:
        """Tell the controller, from now on with every heartbeat."""
        if directory_id not in self._offline:
            self._offline[directory_id] = now_ms + self._settings.directory_failure_timeout_ms
            self._ask_soon(now_ms)

    def has_news(self, now_ms: int) -> None:
        """There is something new to tell with a heartbeat."""
        self._ask_soon(now_ms)

    def begin_controlled_shutdown(self, now_ms: int) -> None:
        """Have others take over what this broker leads. A broker that does not serve yet just stops."""
        if self.state == BrokerState.RUNNING:
            self.state = BrokerState.PENDING_CONTROLLED_SHUTDOWN
            self._pause_ms = SOON_MS
            self._ask_soon(now_ms)
        elif self.state != BrokerState.PENDING_CONTROLLED_SHUTDOWN:
            self.shut_down()

    def shut_down(self) -> None:
        """Nothing is sent any more, and nothing that comes counts."""
        self.state = BrokerState.SHUTTING_DOWN
        self._in_flight = None
        self._next_ms = None
        self._registration_deadline_ms = None
        self._offline = dict.fromkeys(self._offline)

    # What comes of requests

    def registration_answered(self, token: int, response: BrokerRegistrationResponse, now_ms: int) -> None:
        """The controller has decided about a registration."""
        if not self._settles(token):
            return
        code = self.last_error = _code(response.error_code)
        if code != ErrorCode.NONE:
            interval_ms = self._settings.heartbeat_interval_ms
            if code == ErrorCode.DUPLICATE_BROKER_REGISTRATION:
                interval_ms = min(interval_ms, LONGEST_REFUSED_MS)
            self._schedule_after_failure(now_ms, interval_ms)
            return
        self.broker_epoch = response.broker_epoch
        self.is_registered = True
        self.is_fenced = True
        self._registration_deadline_ms = None
        self._pause_ms = SOON_MS
        # The first heartbeat is of use when the broker has seen its registration. Until then it only says: I am here.
        has_followed = self._metadata_offset >= self.broker_epoch
        self._schedule(now_ms, 0 if has_followed else self._settings.heartbeat_interval_ms)

    def heartbeat_answered(self, token: int, response: BrokerHeartbeatResponse, now_ms: int) -> None:
        """The controller has heard a heartbeat."""
        sent = self._in_flight
        if not self._settles(token):
            return
        assert isinstance(sent, SendHeartbeat)
        code = self.last_error = _code(response.error_code)
        interval_ms = self._settings.heartbeat_interval_ms
        if code == ErrorCode.STALE_BROKER_EPOCH:
            self._forget_registration(now_ms)
            return
        if code != ErrorCode.NONE:
            self._schedule_after_failure(now_ms, interval_ms)
            return
        self._acknowledge(sent.offline_log_dirs)
        self.is_fenced = response.is_fenced
        if self.state == BrokerState.STARTING and response.is_caught_up:
            self.state = BrokerState.RECOVERY
            self.is_caught_up = True
        if self.state == BrokerState.RECOVERY and not response.is_fenced:
            self.state = BrokerState.RUNNING
            self.was_unfenced = True
        if sent.want_shut_down and response.should_shut_down:
            self.shut_down()
            return
        if sent.want_shut_down or (self.is_fenced and (self.is_ready or not self.is_caught_up)):
            interval_ms, self._pause_ms = min(self._pause_ms, interval_ms), 2 * self._pause_ms
        else:
            self._pause_ms = SOON_MS
        self._schedule(now_ms, interval_ms)

    def failed(self, token: int, now_ms: int) -> None:
        """No controller answered."""
        if self._settles(token):
            self._schedule_after_failure(now_ms, self._settings.heartbeat_interval_ms)

    def check_invariants(self) -> None:
        """Assert what must hold after every event (tests, simulation)."""
        idle = self.state in (BrokerState.NOT_RUNNING, BrokerState.SHUTTING_DOWN)
        assert idle == (self._in_flight is None and self._next_ms is None), "a broker always has something to ask"
        assert idle or self._in_flight is None or self._next_ms is None, "one request at a time"
        assert self.broker_epoch >= 0 or not self.is_registered
        assert self.is_registered or self.is_fenced or idle
        if self.state == BrokerState.RUNNING:
            assert self.was_unfenced

    # Parts

    def _settles(self, token: int) -> bool:
        """Whether this is about the request in flight, which it then is no more."""
        in_flight = self._in_flight
        if in_flight is None or isinstance(in_flight, GiveUp) or in_flight.token != token:
            return False
        self._in_flight = None
        return True

    def _ask_soon(self, now_ms: int) -> None:
        if isinstance(self._in_flight, SendHeartbeat):
            self._at_once = True  # what is under way does not say it
        elif self._in_flight is None and self.is_registered and self.state != BrokerState.SHUTTING_DOWN:
            self._next_ms = now_ms

    def _schedule(self, now_ms: int, interval_ms: int) -> None:
        at_once, self._at_once = self._at_once, False
        self._next_ms = now_ms if at_once else now_ms + interval_ms

    def _schedule_after_failure(self, now_ms: int, interval_ms: int) -> None:
        self._at_once = False  # never at once after a failure
        self._next_ms = now_ms + interval_ms

    def _forget_registration(self, now_ms: int) -> None:
        self.is_registered = False
        self.is_fenced = True
        self._previous_broker_epoch = self.broker_epoch
        if self.state == BrokerState.PENDING_CONTROLLED_SHUTDOWN:
            self.shut_down()  # the cluster does without it already
        else:
            self._schedule(now_ms, 0)

    def _acknowledge(self, directories: Iterable[bytes]) -> None:
        for directory in directories:
            self._offline[directory] = None

    def _registration_failure(self) -> str:
        timeout_ms = self._settings.registration_timeout_ms
        why = (
            "no active controller was found"
            if self.last_error == ErrorCode.NONE
            else (f"the controller answers {self.last_error.name} ({self.last_error.message.rstrip('.')})")
        )
        return f"the broker could not register within {timeout_ms} ms (initial.broker.registration.timeout.ms): {why}"

    def _give_up(self, reason: str) -> GiveUp:
        self.shut_down()
        return GiveUp(reason)


def _code(code: int) -> ErrorCode:
    return ERRORS.get(code, ErrorCode.UNKNOWN_SERVER_ERROR)

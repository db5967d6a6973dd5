"""How a broker becomes, stays and ceases to be part of its cluster: by hand, and against a controller that one cannot
always hear."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatResponse
from ottla.protocol.messages.broker_registration import BrokerRegistrationResponse
from ottla.server.broker.lifecycle_core import (
    BrokerState,
    Effect,
    GiveUp,
    LifecycleCore,
    LifecycleSettings,
    SendHeartbeat,
    SendRegistration,
)

SETTINGS = LifecycleSettings(
    heartbeat_interval_ms=2000, registration_timeout_ms=60_000, directory_failure_timeout_ms=30_000
)


class Driver:
    """One core, answered by hand."""

    def __init__(self, previous_broker_epoch: int = -1) -> None:
        self.core = LifecycleCore(SETTINGS, previous_broker_epoch)
        self.now_ms = 1000
        self.core.begin(self.now_ms)

    def step(self) -> Effect | None:
        """What is due now; at most one thing."""
        effects = self.core.on_time(self.now_ms)
        self.core.check_invariants()
        assert len(effects) <= 1
        return effects[0] if effects else None

    def heartbeat(self) -> SendHeartbeat:
        effect = self.step()
        assert isinstance(effect, SendHeartbeat), effect
        return effect

    def next(self) -> Effect | None:
        """Go to the next deadline."""
        deadline_ms = self.core.deadline_ms
        assert deadline_ms is not None
        self.now_ms = max(self.now_ms, deadline_ms)
        return self.step()

    def registered(self, token: int, epoch: int = 7, error: ErrorCode = ErrorCode.NONE) -> None:
        self.core.registration_answered(
            token, BrokerRegistrationResponse(error_code=error, broker_epoch=epoch), self.now_ms
        )
        self.core.check_invariants()

    def heard(self, token: int, **fields: object) -> None:
        self.core.heartbeat_answered(token, BrokerHeartbeatResponse(**fields), self.now_ms)  # type: ignore[arg-type]
        self.core.check_invariants()

    def run_up(self, epoch: int = 7) -> None:
        """To RUNNING."""
        first = self.step()
        assert isinstance(first, SendRegistration)
        self.core.metadata_advanced(epoch, self.now_ms)
        self.registered(first.token, epoch)
        self.core.ready(self.now_ms)
        self.heard(self.heartbeat().token, is_caught_up=True, is_fenced=False)
        assert self.core.state == BrokerState.RUNNING


def test_from_nothing_to_serving_takes_one_registration_and_one_heartbeat() -> None:
    driver = Driver(previous_broker_epoch=3)
    registration = driver.step()
    assert registration == SendRegistration(1, 3)
    assert driver.step() is None, "one request at a time"
    driver.core.ready(driver.now_ms)
    driver.registered(1, epoch=7)
    assert driver.step() is None, "it has not seen its registration"
    driver.core.metadata_advanced(6, driver.now_ms)
    assert driver.step() is None
    driver.core.metadata_advanced(9, driver.now_ms)
    heartbeat = driver.heartbeat()
    assert (heartbeat.broker_epoch, heartbeat.want_fence, heartbeat.want_shut_down) == (7, False, False)
    assert not heartbeat.is_caught_up
    driver.heard(heartbeat.token, is_caught_up=True, is_fenced=False)
    assert driver.core.state == BrokerState.RUNNING
    assert driver.core.deadline_ms == driver.now_ms + 2000
    later = driver.next()
    assert isinstance(later, SendHeartbeat)
    assert later.is_caught_up


def test_broker_that_is_not_ready_stays_fenced_and_says_so() -> None:
    driver = Driver()
    driver.core.metadata_advanced(7, driver.now_ms)
    driver.registered(driver.step().token)  # type: ignore[union-attr]
    heartbeat = driver.heartbeat()
    assert heartbeat.want_fence
    driver.heard(heartbeat.token, is_caught_up=True)
    assert driver.core.state == BrokerState.RECOVERY
    assert driver.core.is_caught_up
    driver.core.ready(driver.now_ms)
    heartbeat = driver.heartbeat()
    assert not heartbeat.want_fence
    driver.heard(heartbeat.token, is_caught_up=True, is_fenced=False)
    assert driver.core.state == BrokerState.RUNNING


def test_broker_that_waits_to_be_let_in_asks_again_soon() -> None:
    driver = Driver()
    driver.core.ready(driver.now_ms)
    driver.core.metadata_advanced(7, driver.now_ms)
    driver.registered(driver.step().token)  # type: ignore[union-attr]
    pauses = []
    effect: Effect | None = driver.heartbeat()
    for _ in range(9):
        assert isinstance(effect, SendHeartbeat)
        driver.heard(effect.token)
        begin_ms = driver.now_ms
        effect = driver.next()
        pauses.append(driver.now_ms - begin_ms)
    assert pauses == [20, 40, 80, 160, 320, 640, 1280, 2000, 2000]


def test_id_that_is_still_taken_is_tried_again() -> None:
    driver = Driver()
    driver.registered(driver.step().token, -1, ErrorCode.DUPLICATE_BROKER_REGISTRATION)  # type: ignore[union-attr]
    assert driver.core.deadline_ms == driver.now_ms + 500
    effect = driver.next()
    assert isinstance(effect, SendRegistration)
    driver.registered(effect.token, 12)
    assert driver.core.broker_epoch == 12


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ErrorCode.NONE, "no active controller was found"),
        (ErrorCode.INCONSISTENT_CLUSTER_ID, "the controller answers INCONSISTENT_CLUSTER_ID (The cluster id"),
    ],
)
def test_broker_that_cannot_register_gives_up_and_says_why(error: ErrorCode, why: str) -> None:
    driver = Driver()
    effect: Effect | None = driver.step()
    while not isinstance(effect, GiveUp):
        if isinstance(effect, SendRegistration):
            if error:
                driver.registered(effect.token, -1, error)
            else:
                driver.core.failed(effect.token, driver.now_ms)
        effect = driver.next()
    assert driver.now_ms == 61_000
    assert "within 60000 ms (initial.broker.registration.timeout.ms): " + why in effect.reason
    assert driver.core.state == BrokerState.SHUTTING_DOWN
    assert driver.core.deadline_ms is None


def test_fenced_while_running_it_goes_on_asking() -> None:
    driver = Driver()
    driver.run_up()
    effect = driver.next()
    assert isinstance(effect, SendHeartbeat)
    driver.heard(effect.token, is_caught_up=False, is_fenced=True)
    assert driver.core.state == BrokerState.RUNNING
    assert driver.core.is_fenced
    begin_ms = driver.now_ms
    effect = driver.next()
    assert driver.now_ms == begin_ms + 20
    assert isinstance(effect, SendHeartbeat)
    assert not effect.want_fence
    driver.heard(effect.token, is_caught_up=True, is_fenced=False)
    assert not driver.core.is_fenced


def test_unknown_epoch_makes_it_register_again_with_the_last_one_as_left_in_order() -> None:
    driver = Driver()
    driver.run_up(epoch=7)
    effect = driver.next()
    assert isinstance(effect, SendHeartbeat)
    driver.heard(effect.token, error_code=ErrorCode.STALE_BROKER_EPOCH)
    assert driver.core.is_fenced
    registration = driver.step()
    assert isinstance(registration, SendRegistration)
    assert registration.previous_broker_epoch == 7
    driver.registered(registration.token, -1, ErrorCode.DUPLICATE_BROKER_REGISTRATION)
    registration = driver.next()
    assert isinstance(registration, SendRegistration)
    assert registration.previous_broker_epoch == 7
    driver.registered(registration.token, 30)
    assert driver.step() is None
    driver.core.metadata_advanced(31, driver.now_ms)
    heartbeat = driver.heartbeat()
    assert (heartbeat.broker_epoch, heartbeat.want_fence) == (30, False)
    driver.heard(heartbeat.token, is_caught_up=True, is_fenced=False)
    assert (driver.core.state, driver.core.is_fenced) == (BrokerState.RUNNING, False)
    assert driver.core.deadline_ms == driver.now_ms + 2000, "the limit of the first registration is long gone"


def test_only_the_newest_request_is_answered() -> None:
    driver = Driver()
    first = driver.step()
    assert isinstance(first, SendRegistration)
    driver.core.failed(first.token, driver.now_ms)
    second = driver.next()
    assert isinstance(second, SendRegistration)
    driver.registered(first.token, 5)
    assert driver.core.broker_epoch == -1
    driver.registered(second.token, 8)
    driver.registered(second.token, 9)
    driver.core.failed(second.token, driver.now_ms)
    assert driver.core.broker_epoch == 8


def test_failed_directory_is_told_at_once_and_from_then_on() -> None:
    driver = Driver()
    driver.run_up()
    driver.core.directory_failed(b"d" * 16, driver.now_ms)
    heartbeat = driver.heartbeat()
    assert heartbeat.offline_log_dirs == (b"d" * 16,)
    driver.core.directory_failed(b"e" * 16, driver.now_ms)
    assert driver.step() is None
    driver.heard(heartbeat.token, is_fenced=False)
    heartbeat = driver.heartbeat()
    assert heartbeat.offline_log_dirs == (b"d" * 16, b"e" * 16)
    driver.heard(heartbeat.token, is_fenced=False)
    for _ in range(20):
        effect = driver.next()
        assert isinstance(effect, SendHeartbeat)
        assert effect.offline_log_dirs == (b"d" * 16, b"e" * 16)
        driver.heard(effect.token, is_fenced=False)


def test_broker_whose_failed_directory_nobody_hears_of_gives_up() -> None:
    driver = Driver()
    driver.run_up()
    driver.core.directory_failed(b"d" * 16, driver.now_ms)
    failed_ms = driver.now_ms
    effect: Effect | None = driver.step()
    while not isinstance(effect, GiveUp):
        if isinstance(effect, SendHeartbeat):
            driver.core.failed(effect.token, driver.now_ms)
        effect = driver.next()
    assert driver.now_ms == failed_ms + 30_000
    assert b"d".hex() * 16 in effect.reason


def test_controlled_shutdown_asks_until_it_may_go() -> None:
    driver = Driver()
    driver.run_up()
    driver.core.begin_controlled_shutdown(driver.now_ms)
    driver.core.begin_controlled_shutdown(driver.now_ms)
    heartbeat: Effect | None = driver.heartbeat()
    for _ in range(3):
        assert isinstance(heartbeat, SendHeartbeat)
        assert heartbeat.want_shut_down
        assert not heartbeat.want_fence
        driver.heard(heartbeat.token, is_fenced=False)
        assert driver.core.state == BrokerState.PENDING_CONTROLLED_SHUTDOWN
        heartbeat = driver.next()
    assert isinstance(heartbeat, SendHeartbeat)
    assert driver.now_ms == 1000 + 20 + 40 + 80
    driver.heard(heartbeat.token, should_shut_down=True)
    assert driver.core.state == BrokerState.SHUTTING_DOWN
    assert driver.core.deadline_ms is None


def test_heartbeat_under_way_is_no_answer_to_the_wish_to_stop() -> None:
    driver = Driver()
    driver.run_up()
    before = driver.next()
    assert isinstance(before, SendHeartbeat)
    driver.core.begin_controlled_shutdown(driver.now_ms)
    assert driver.step() is None
    driver.heard(before.token, should_shut_down=True)
    assert driver.core.state == BrokerState.PENDING_CONTROLLED_SHUTDOWN
    assert driver.heartbeat().want_shut_down


def test_broker_that_does_not_serve_yet_stops_at_once() -> None:
    driver = Driver()
    driver.core.begin_controlled_shutdown(driver.now_ms)
    assert driver.core.state == BrokerState.SHUTTING_DOWN
    assert driver.step() is None


def test_stopping_broker_that_was_forgotten_does_not_come_back() -> None:
    driver = Driver()
    driver.run_up()
    driver.core.begin_controlled_shutdown(driver.now_ms)
    driver.heard(driver.heartbeat().token, error_code=ErrorCode.STALE_BROKER_EPOCH)
    assert driver.core.state == BrokerState.SHUTTING_DOWN


def test_lone_broker_is_running_from_the_start() -> None:
    core = LifecycleCore(SETTINGS, -1)
    core.adopt(4, 0)
    core.check_invariants()
    assert (core.state, core.is_fenced, core.broker_epoch) == (BrokerState.RUNNING, False, 4)
    assert core.on_time(1999) == []
    (effect,) = core.on_time(2000)
    assert isinstance(effect, SendHeartbeat)
    assert (effect.want_fence, effect.is_caught_up) == (False, True)


# Against a model of the controller


@dataclass
class Registered:
    incarnation: str
    epoch: int
    contact_ms: int | None = None
    fenced: bool = True
    stopping: bool = False


@dataclass
class ModelController:
    """KIP-631 in a few lines: one broker id, and whoever uses it."""

    session_ms: int = 9000
    offset: int = 0
    broker: Registered | None = None
    log: list[str] = field(default_factory=list)

    def expire(self, now_ms: int) -> None:
        broker = self.broker
        if broker is not None and not broker.fenced and now_ms - (broker.contact_ms or 0) > self.session_ms:
            broker.fenced = True
            self.offset += 1

    def register(self, incarnation: str, now_ms: int) -> BrokerRegistrationResponse:
        known = self.broker
        if known is not None and known.incarnation == incarnation:
            return BrokerRegistrationResponse(broker_epoch=known.epoch)
        if known is not None and known.contact_ms is not None and now_ms - known.contact_ms <= self.session_ms:
            return BrokerRegistrationResponse(error_code=ErrorCode.DUPLICATE_BROKER_REGISTRATION)
        self.offset += 1
        self.broker = Registered(incarnation, self.offset)
        return BrokerRegistrationResponse(broker_epoch=self.offset)

    def heartbeat(self, sent: SendHeartbeat, offset: int, now_ms: int) -> BrokerHeartbeatResponse:
        broker = self.broker
        if broker is None or broker.epoch != sent.broker_epoch:
            return BrokerHeartbeatResponse(error_code=ErrorCode.STALE_BROKER_EPOCH)
        broker.contact_ms = now_ms
        caught_up = offset >= broker.epoch
        may_stop = False
        if broker.fenced and sent.want_shut_down:
            may_stop = True
        elif broker.fenced and not sent.want_fence and caught_up:
            broker.fenced = False
            self.offset += 1
        elif sent.want_shut_down:
            may_stop, broker.stopping = broker.stopping, True
            self.offset += 1
        return BrokerHeartbeatResponse(is_caught_up=caught_up, is_fenced=broker.fenced, should_shut_down=may_stop)


class World:
    """A broker and a controller, with a network between them that a seed has spoiled."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.controller = ModelController()
        patient = LifecycleSettings(2000, registration_timeout_ms=600_000, directory_failure_timeout_ms=600_000)
        self.core = LifecycleCore(patient, -1)
        self.now_ms = 0
        self.loss = 0.3
        self.events: list[tuple[int, int, object]] = []
        self.followed = 0
        self.registrations = 0
        self.core.begin(0)

    def at(self, delay_ms: int, action: object) -> None:
        self.events.append((self.now_ms + delay_ms, len(self.events), action))

    def send(self, effect: Effect) -> None:
        assert not isinstance(effect, GiveUp), effect
        self.registrations += isinstance(effect, SendRegistration)
        offset = self.followed
        random = self.random
        copies = random.choice((1, 1, 2))
        for _ in range(copies):
            if random.random() >= self.loss:
                self.at(random.randint(1, 60), lambda: self.arrive(effect, offset))
        self.at(4000, lambda: self.core.failed(effect.token, self.now_ms))

    def arrive(self, effect: SendRegistration | SendHeartbeat, offset: int) -> None:
        if isinstance(effect, SendRegistration):
            registered = self.controller.register("ours", self.now_ms)
            for delay_ms in self.delays():
                self.at(delay_ms, lambda: self.core.registration_answered(effect.token, registered, self.now_ms))
        else:
            heard = self.controller.heartbeat(effect, offset, self.now_ms)
            for delay_ms in self.delays():
                self.at(delay_ms, lambda: self.core.heartbeat_answered(effect.token, heard, self.now_ms))

    def delays(self) -> list[int]:
        random = self.random
        if random.random() < self.loss:
            return []
        return [random.choice((1, 30, 5000)) for _ in range(random.choice((1, 1, 2)))]

    def accident(self) -> None:
        """Something that happens to a broker."""
        controller = self.controller
        match self.random.randrange(4):
            case 0:
                controller.broker = None  # somebody unregisters it
            case 1:
                if controller.broker is not None and controller.broker.incarnation != "ours":
                    controller.broker.contact_ms = self.now_ms  # the other one goes on
                elif not controller.register("another", self.now_ms).error_code and controller.broker is not None:
                    controller.broker.contact_ms = self.now_ms
            case 2:
                self.core.directory_failed(self.random.randbytes(16), self.now_ms)
            case 3:
                self.loss = self.random.choice((0.0, 0.3, 0.8))

    def run_until(self, end_ms: int) -> None:
        while self.now_ms < end_ms:
            candidates = [self.events[0][0]] if self.events else []
            if self.core.deadline_ms is not None:
                candidates.append(self.core.deadline_ms)
            self.now_ms = max(self.now_ms, min([*candidates, end_ms]))
            self.controller.expire(self.now_ms)
            if self.random.random() < 0.5:
                self.followed = self.controller.offset
                self.core.metadata_advanced(self.followed, self.now_ms)
            self.events.sort(key=lambda event: event[:2])
            while self.events and self.events[0][0] <= self.now_ms:
                self.events.pop(0)[2]()  # type: ignore[operator]
                self.events.sort(key=lambda event: event[:2])
                self.core.check_invariants()
            for effect in self.core.on_time(self.now_ms):
                self.send(effect)
            self.core.check_invariants()
            self.check()

    def check(self) -> None:
        """A broker believes itself known under an epoch only if the controller once gave it that."""
        assert self.core.broker_epoch <= self.controller.offset


@pytest.mark.parametrize("block", range(4))
def test_whatever_happens_it_serves_again_when_the_network_does(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        world = World(seed)
        world.core.ready(0)
        world.loss = 0.2
        world.run_until(30_000)
        for _ in range(12):
            world.accident()
            world.run_until(world.now_ms + world.random.choice((10, 1500, 12_000)))
        world.loss = 0.0
        world.run_until(world.now_ms + 30_000)
        controller, core = world.controller, world.core
        assert controller.broker is not None, seed
        assert controller.broker.incarnation == "ours", seed
        assert (core.state, core.is_fenced, controller.broker.fenced) == (BrokerState.RUNNING, False, False), seed
        assert core.broker_epoch == controller.broker.epoch, seed
        core.begin_controlled_shutdown(world.now_ms)
        world.run_until(world.now_ms + 20_000)
        assert core.state == BrokerState.SHUTTING_DOWN, seed

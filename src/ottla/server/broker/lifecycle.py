"""A broker's life in its cluster: the shell of `lifecycle_core`.

    lifecycle = BrokerLifecycle(config, channel, metadata, description)
    await lifecycle.register()       # known to the cluster, fenced
    await lifecycle.catch_up()       # the image has all that happened while this broker was away
    ...                              # partitions are opened, listeners are bound
    await lifecycle.unfence()        # the cluster lets it lead, and clients may come
    ...
    await lifecycle.leave(timeout_ms)    # others lead what it led: it may stop

`register`, `catch_up` and `unfence` raise LifecycleError when the cluster does not let the broker in, and so does
`failed` later on. Where registration and unfencing were one step, because the broker is alone with its controller,
`adopt` takes the place of all three.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest
from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener
from ottla.server.broker.controller_channel import ControllerUnavailableError
from ottla.server.broker.lifecycle_core import (
    BrokerState,
    GiveUp,
    LifecycleCore,
    LifecycleSettings,
    SendHeartbeat,
    SendRegistration,
)
from ottla.server.metadata.features import SUPPORTED_FEATURES
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.controller_channel import ControllerChannel
    from ottla.server.metadata.cluster import ClusterMetadata
    from ottla.server.metadata.image import Endpoint

logger = logging.getLogger(__name__)

_FIRST_WITH_CORDONED = 30
"""metadata.version 4.3-IV0, from which on heartbeats tell cordoned directories (KIP-1066)."""


class LifecycleError(Exception):
    """The broker cannot be, or stay, part of its cluster; one line for whoever started it says why."""


@dataclass(frozen=True, slots=True)
class BrokerDescription:
    """What a broker says about itself when it registers; `log_dirs` maps paths to directory ids.

    `previous_broker_epoch` is what the clean shutdown marker holds, -1 without one.
    """

    broker_id: int
    cluster_id: str
    incarnation_id: bytes
    endpoints: tuple[Endpoint, ...]
    log_dirs: Mapping[str, bytes]
    rack: str | None = None
    previous_broker_epoch: int = -1


class BrokerLifecycle:
    """One broker's registration, heartbeats and end.

    `failed` is set, with a LifecycleError, when the broker cannot go on.
    """

    def __init__(
        self,
        config: BrokerConfig,
        channel: ControllerChannel,
        metadata: ClusterMetadata,
        description: BrokerDescription,
    ) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._channel = channel
        self._metadata = metadata
        self._description = description
        self._request_timeout_ms: int = config["broker.session.timeout.ms"]
        settings = LifecycleSettings(
            heartbeat_interval_ms=config["broker.heartbeat.interval.ms"],
            registration_timeout_ms=config["initial.broker.registration.timeout.ms"],
            directory_failure_timeout_ms=config["log.dir.failure.timeout.ms"],
        )
        self._core = LifecycleCore(settings, description.previous_broker_epoch)
        self._timer: asyncio.TimerHandle | None = None
        self._request: asyncio.Task[None] | None = None
        self._heard_at_s = 0.0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._cordoned: list[str] = []
        self._told_refusal = 0
        metadata.subscribe_progress(self._metadata_advanced)

    # State

    @property
    def broker_epoch(self) -> int:
        """Epoch of the newest registration; -1 before the first."""
        return self._core.broker_epoch

    @property
    def state(self) -> BrokerState:
        """For metrics."""
        return self._core.state

    @property
    def is_fenced(self) -> bool:
        """What the controller said last."""
        return self._core.is_fenced

    # Life

    async def register(self) -> None:
        """Become known to the cluster; heartbeats follow. Raises LifecycleError."""
        self._core.begin(self._now_ms())
        self._metadata_advanced(self._metadata.offset)
        await self._reached(lambda: self._core.broker_epoch >= 0)
        logger.info("registered as broker %d, epoch %d", self._description.broker_id, self._core.broker_epoch)

    def adopt(self, broker_epoch: int) -> None:
        """The broker is registered and unfenced already: alone in its cluster, with the controller in its process."""
        self._core.adopt(broker_epoch, self._now_ms())
        self._run()

    async def catch_up(self) -> None:
        """Wait until the image has what happened before the registration. Raises LifecycleError."""
        await self._reached(lambda: self._core.is_caught_up)

    async def unfence(self) -> None:
        """Ask to be let in, and wait for it. Raises LifecycleError."""
        self._core.ready(self._now_ms())
        self._run()
        await self._reached(lambda: self._core.was_unfenced)

    def directory_failed(self, directory_id: bytes) -> None:
        """A data directory is gone, and with it the replicas there."""
        self._core.directory_failed(directory_id, self._now_ms())
        self._run()

    def follow_settings(self, config: BrokerConfig) -> None:
        """Tell of cordoned.log.dirs when they were changed."""
        if config["cordoned.log.dirs"] != self._cordoned:
            self._cordoned = list(config["cordoned.log.dirs"])
            self._core.has_news(self._now_ms())
            self._run()

    def others_wait(self) -> None:
        """Another broker may stop only when all have seen that it wants to: say so now, not with the next heartbeat."""
        self._core.has_news(self._now_ms())
        self._run()

    async def leave(self, timeout_ms: int, *, silence_ms: int | None = None) -> bool:
        """Controlled shutdown: have others lead what this broker leads. Whether that was done in time, which is over
        early when no controller has said anything for `silence_ms`.
        """
        self._core.begin_controlled_shutdown(self._now_ms())
        self._run()
        loop = asyncio.get_running_loop()
        self._heard_at_s = loop.time()
        end_s = self._heard_at_s + timeout_ms / 1000
        left = asyncio.ensure_future(self._reached(lambda: self._core.state == BrokerState.SHUTTING_DOWN))
        try:
            while not left.done():
                deadline_s = end_s if silence_ms is None else min(end_s, self._heard_at_s + silence_ms / 1000)
                if loop.time() >= deadline_s:
                    logger.warning("no controller lets this broker go; it stops all the same")
                    return False
                await asyncio.wait((left,), timeout=deadline_s - loop.time())
            return left.exception() is None
        finally:
            left.cancel()

    async def stop(self) -> None:
        """Say nothing more."""
        self._core.shut_down()
        if self._timer is not None:
            self._timer.cancel()
        request, self._request = self._request, None
        if request is not None:
            request.cancel()
            await asyncio.wait([request])
        self._wake()

    # Driving the core

    def _now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def _metadata_advanced(self, offset: int) -> None:
        self._core.metadata_advanced(offset, self._now_ms())
        self._run()

    def _run(self) -> None:
        """Carry out what is due, and come again when the next thing is."""
        core = self._core
        for effect in core.on_time(self._now_ms()):
            match effect:
                case SendRegistration():
                    self._request = asyncio.ensure_future(self._register(effect))
                case SendHeartbeat():
                    self._request = asyncio.ensure_future(self._send_heartbeat(effect))
                case GiveUp(reason):
                    self._fail(reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = core.deadline_ms
        if deadline_ms is not None:
            # Not before its millisecond has come, or it would come again and again until then.
            self._timer = asyncio.get_running_loop().call_at((deadline_ms + 1) / 1000, self._run)
        self._wake()

    async def _register(self, effect: SendRegistration) -> None:
        description = self._description
        request = BrokerRegistrationRequest(
            broker_id=description.broker_id,
            cluster_id=description.cluster_id,
            incarnation_id=description.incarnation_id,
            listeners=[
                Listener(name=one.name, host=one.host, port=one.port, security_protocol=one.security_protocol)
                for one in description.endpoints
            ],
            features=[
                Feature(name=name, min_supported_version=lowest, max_supported_version=highest)
                for name, (lowest, highest) in SUPPORTED_FEATURES.items()
            ],
            rack=description.rack,
            log_dirs=sorted(description.log_dirs.values()),
            previous_broker_epoch=effect.previous_broker_epoch,
        )
        response = await self._ask(request)
        if response is None:
            self._core.failed(effect.token, self._now_ms())
        else:
            self._core.registration_answered(effect.token, response, self._now_ms())
            self._tell_refusal(response.error_code)
        self._run()

    def _tell_refusal(self, code: int) -> None:
        """Once, however often it is tried."""
        if code and code != self._told_refusal:
            if code == ErrorCode.DUPLICATE_BROKER_REGISTRATION:
                logger.info(
                    "not registered yet: a broker %d counts as alive, this one's last process or another one with its "
                    "node.id; the controller waits broker.session.timeout.ms for its next heartbeat",
                    self._description.broker_id,
                )
            elif code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED:
                logger.error("not registered: this broker needs ClusterAction on the cluster, see above")
            else:
                logger.info("not registered yet: %s", self._core.last_error.name)
        self._told_refusal = code

    async def _send_heartbeat(self, effect: SendHeartbeat) -> None:
        metadata = self._metadata
        request = BrokerHeartbeatRequest(
            broker_id=self._description.broker_id,
            broker_epoch=effect.broker_epoch,
            current_metadata_offset=metadata.offset,
            want_fence=effect.want_fence,
            want_shut_down=effect.want_shut_down,
            offline_log_dirs=list(effect.offline_log_dirs),
        )
        if effect.is_caught_up and metadata.image.metadata_version >= _FIRST_WITH_CORDONED:
            self._cordoned = list(metadata.config["cordoned.log.dirs"])
            paths = self._description.log_dirs
            request.cordoned_log_dirs = [paths[path] for path in self._cordoned if path in paths]
        was_fenced = self._core.is_fenced
        response = await self._ask(request)
        if response is None:
            self._core.failed(effect.token, self._now_ms())
        else:
            self._core.heartbeat_answered(effect.token, response, self._now_ms())
            self._tell(was_fenced)
        self._run()

    async def _ask(self, request: Any) -> Any | None:
        try:
            response = await self._channel.request(request, timeout_ms=self._request_timeout_ms)
        except (ControllerUnavailableError, PeerError) as error:
            logger.warning("%s", error)
            return None
        self._heard_at_s = asyncio.get_running_loop().time()
        return response

    def _tell(self, was_fenced: bool) -> None:
        core = self._core
        if not core.is_registered and core.state != BrokerState.SHUTTING_DOWN:
            logger.warning("the controller does not know this broker any more: registering again")
        elif core.is_fenced and not was_fenced and core.state == BrokerState.RUNNING:
            logger.warning("this broker was fenced: its heartbeats did not arrive in time")

    def _fail(self, reason: str) -> None:
        logger.error("%s", reason)
        if not self.failed.done():
            self.failed.set_exception(LifecycleError(reason))
            self.failed.exception()  # whoever waits for it is told; nobody has to

    # Waiting

    async def _reached(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, done))
        self._wake()
        await done

    def _wake(self) -> None:
        """Let those go on whose condition holds, and those who wait in vain."""
        still = []
        ended = self._core.state == BrokerState.SHUTTING_DOWN
        for condition, done in self._waiting:
            if done.done():
                continue
            if condition():
                done.set_result(None)
            elif ended:
                error = self.failed.exception() if self.failed.done() else None
                done.set_exception(error or LifecycleError("the broker is stopping"))
            else:
                still.append((condition, done))
        self._waiting = still

"""Brokers that died, noticed by their connections instead of by the end of their sessions.

When a process ends, its system closes its connections and refuses new ones. So a controller whose connection from a
broker breaks tries to reach that broker, and fences it when it is refused: nobody is there. Any other outcome says
nothing (a frozen process accepts, a cut line is silent), and then the session decides, as in Apache Kafka. A controller
that has just become active asks after all brokers, since it may have been their machine that took the last one down.

Fencing is always safe: a broker that lives all the same says so with its next heartbeat.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import BrokerImage
    from ottla.server.raft.metadata_log import LeaderAndEpoch

_PATIENCE_S: Final = 1.0
"""An answer to a connection that takes longer is none."""
_PAUSES_S: Final = (0.0, 0.02, 0.2)
"""Before each attempt: the sockets of a process that ends are not all closed at the same moment."""

_log = logging.getLogger(__name__)


class Departures:
    """Looks after brokers that may be gone; for nodes with a controller."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._looking: dict[int, asyncio.Task[None]] = {}

    def watch(self, broker_id: int, broker_epoch: int, context: RequestContext) -> None:
        """A heartbeat came on this connection: when it breaks, look."""
        context.when_closed("broker", partial(self._look_soon, broker_id, broker_epoch))

    def leader_changed(self, leader: LeaderAndEpoch) -> None:
        """Look after everybody when this node becomes the active controller."""
        if leader.leader_id != self._broker.node_id:
            return
        for broker in list(self._broker.image.brokers.values()):
            if broker.broker_id != self._broker.node_id:
                self._look_soon(broker.broker_id, broker.broker_epoch)

    def stop(self) -> None:
        """Look no more."""
        for task in self._looking.values():
            task.cancel()
        self._looking.clear()

    def _look_soon(self, broker_id: int, broker_epoch: int) -> None:
        if broker_id in self._looking or self._registered(broker_id, broker_epoch) is None:
            return
        task = self._looking[broker_id] = asyncio.get_running_loop().create_task(self._look(broker_id, broker_epoch))
        task.add_done_callback(partial(self._looked, broker_id))

    def _looked(self, broker_id: int, task: asyncio.Task[None]) -> None:
        if self._looking.get(broker_id) is task:
            del self._looking[broker_id]

    def _registered(self, broker_id: int, broker_epoch: int) -> BrokerImage | None:
        """The registration, while it is that of a broker in use and this node decides about it."""
        controller = self._broker.existing_controller
        registered = self._broker.image.brokers.get(broker_id)
        if controller is None or not controller.is_active or registered is None:
            return None
        return None if registered.fenced or registered.broker_epoch != broker_epoch else registered

    async def _look(self, broker_id: int, broker_epoch: int) -> None:
        registered = self._registered(broker_id, broker_epoch)
        if registered is None or not registered.endpoints:
            return
        between_brokers = self._broker.config.inter_broker_listener_name
        endpoint = registered.endpoints.get(between_brokers) or next(iter(registered.endpoints.values()))
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            if await _is_refused(endpoint.host, endpoint.port):
                break
        else:
            return
        controller = self._broker.existing_controller
        if controller is not None and self._registered(broker_id, broker_epoch) is not None:
            try:
                controller.broker_departed(broker_id, broker_epoch)
            except ApiError as error:
                _log.warning("broker %d is gone, and could not be fenced: %s", broker_id, error.message)


async def _is_refused(host: str, port: int) -> bool:
    """Whether the machine is there, and nobody listens."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    transport.abort()
    return False

"""A controller tells the active one who it is, where it listens and what features it knows (KIP-919)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ERRORS, ErrorCode
from ottla.protocol.messages.controller_registration import ControllerRegistrationRequest, Feature, Listener
from ottla.schema.listeners import SECURITY_PROTOCOL_IDS
from ottla.schema.quorum import advertised_controller_listeners
from ottla.server.broker.controller_channel import ControllerUnavailableError
from ottla.server.metadata.features import SUPPORTED_FEATURES
from ottla.server.node.identity import hostname
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.controller_channel import ControllerChannel
    from ottla.server.metadata.cluster import ClusterMetadata

logger = logging.getLogger(__name__)

_FIRST_WITH_REGISTRATION: Final = 15
"""metadata.version 3.7-IV0."""
TIMEOUT_MS: Final = 60_000
PAUSE_S: Final = 1.0


class ControllerRegistration:
    """Registers when the cluster is known and does not know this incarnation, until it does."""

    def __init__(
        self, config: BrokerConfig, channel: ControllerChannel, metadata: ClusterMetadata, incarnation_id: bytes
    ) -> None:
        self._config = config
        self._channel = channel
        self._metadata = metadata
        self._incarnation_id = incarnation_id
        self._task: asyncio.Task[None] | None = None
        metadata.subscribe_progress(self._look)

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()

    def _look(self, _: int) -> None:
        image = self._metadata.image
        if self._task is not None or image.metadata_version < _FIRST_WITH_REGISTRATION:
            return
        self._task = asyncio.ensure_future(self._register())

    def _is_registered(self) -> bool:
        found = self._metadata.image.controllers.get(self._metadata.node_id)
        return found is not None and found.incarnation_id == self._incarnation_id

    async def _register(self) -> None:
        while not self._is_registered():
            try:
                response = await self._channel.request(self._request(), timeout_ms=TIMEOUT_MS)
            except (ControllerUnavailableError, PeerError) as error:
                logger.info("this controller is not registered yet: %s", error)
            else:
                if response.error_code:
                    code = ERRORS.get(response.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
                    logger.warning("this controller is not registered yet: %s", response.error_message or code.name)
            await asyncio.sleep(PAUSE_S)

    def _request(self) -> ControllerRegistrationRequest:
        listeners = advertised_controller_listeners(self._config)
        name = "" if all(listener.host for listener in listeners) else hostname()
        return ControllerRegistrationRequest(
            controller_id=self._metadata.node_id,
            incarnation_id=self._incarnation_id,
            listeners=[
                Listener(
                    name=one.name,
                    host=one.host or name,
                    port=one.port,
                    security_protocol=SECURITY_PROTOCOL_IDS[one.protocol],
                )
                for one in listeners
            ],
            features=[
                Feature(name=feature, min_supported_version=lowest, max_supported_version=highest)
                for feature, (lowest, highest) in SUPPORTED_FEATURES.items()
            ],
        )

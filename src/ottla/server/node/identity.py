"""What a node is called, by itself and by others."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from ottla.schema.listeners import SECURITY_PROTOCOL_IDS
from ottla.server.controller.alone import BrokerRegistration
from ottla.server.metadata.image import Endpoint

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.log.directories import LogDirectories
    from ottla.server.node.front import Front

NODE_CLIENT_ID: Final = "ottla-node-"
"""What a node calls itself in requests to other nodes, before its id."""


def hostname() -> str:
    """What other machines call this one, for listeners on all addresses."""
    return socket.getfqdn()


def reachable(host: str) -> str:
    """An address to connect to for one that stands for all of them."""
    if host in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def registration_of(
    config: BrokerConfig, front: Front, directories: LogDirectories, incarnation_id: bytes
) -> BrokerRegistration:
    """What the broker says about itself: where it is reached, by the ports that are bound, and where its data is."""
    ports = {listener.name: listener.port for listener in front.listeners}
    # Finding out one's own name may take a name server's time: only where a listener needs it.
    named = all(listener.host for listener in config.advertised_listeners)
    return BrokerRegistration(
        broker_id=config.node_id,
        incarnation_id=incarnation_id,
        endpoints=tuple(
            Endpoint(
                name=listener.name,
                host=listener.host,
                port=listener.port,
                security_protocol=SECURITY_PROTOCOL_IDS[listener.protocol],
            )
            for listener in config.advertise("" if named else hostname(), ports)
        ),
        log_dirs=tuple(directories.directory_ids),
        rack=config["broker.rack"],
        previous_broker_epoch=directories.previous_broker_epoch,
    )

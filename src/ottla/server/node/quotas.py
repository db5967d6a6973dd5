"""Client quotas of the image, handed to those who enforce them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ottla.server.broker.quotas.client_quotas import ClientQuotas, connection_rates, has_client_quotas

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.connection_limits import ConnectionLimits
    from ottla.server.metadata.image import MetadataImage

logger = logging.getLogger(__name__)

Rates = Mapping[str | None, int]


def apply_quotas(broker: Broker, limits: ConnectionLimits, image: MetadataImage) -> asyncio.Task[None] | None:
    """Have the broker enforce the image's quotas, from the next request and the next connection on.

    Quotas of addresses that are given as host names take effect once the names are found: that is the task, if any.
    """
    quotas = image.client_quotas
    if not has_client_quotas(quotas):
        broker.quotas = None
    else:
        if broker.quotas is None:
            loop = asyncio.get_running_loop()
            broker.quotas = ClientQuotas(broker.config, lambda: int(loop.time() * 1000), broker.env.work_ns)
        broker.quotas.update(quotas)
    rates = connection_rates(quotas)
    addresses = {host: rate for host, rate in rates.items() if host is None or _is_address(host)}
    limits.set_address_rates(addresses)
    if len(addresses) == len(rates):
        return None
    names = [host for host in rates if host is not None and host not in addresses]
    return asyncio.ensure_future(_find(names, rates, addresses, limits))


async def _find(names: list[str], rates: Rates, addresses: dict[str | None, int], limits: ConnectionLimits) -> None:
    """Look host names up; a name stands for its first address, and an address given as such goes before a name."""
    loop = asyncio.get_running_loop()
    for name in names:
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            logger.warning("the connection quota of %s is without effect: %s", name, error)
            continue
        addresses.setdefault(str(found[0][4][0]), rates[name])
    limits.set_address_rates(addresses)


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False

"""Names and addresses of brokers (`client.dns.lookup`, KIP-302, KIP-602)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable

from ottla.client.model import Node

_FAMILIES = {"any": socket.AF_UNSPEC, "v4": socket.AF_INET, "v6": socket.AF_INET6}


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[host]:port`, as the settings have checked it."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bootstrap_nodes(addresses: Iterable[str]) -> dict[int, Node]:
    """Bootstrap servers by negative ids: -1, -2 …"""
    return {-index: Node(-index, *split_address(address)) for index, address in enumerate(addresses, 1)}


def _is_literal(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


async def resolve(host: str, port: int, family: str) -> list[str]:
    """The addresses of a name, in the order the resolver prefers; OSError when there is none."""
    if _is_literal(host):
        return [host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=_FAMILIES.get(family, socket.AF_UNSPEC), type=socket.SOCK_STREAM
        )
    except UnicodeError as error:  # a label of the name is empty or too long
        raise OSError(f"{host!r} cannot be the name of a host") from error
    except RuntimeError as error:  # the interpreter is on its way out and starts no threads any more
        raise OSError(str(error)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def canonical_addresses(addresses: Iterable[str], family: str) -> list[str]:
    """Each bootstrap address replaced by the canonical names of all it resolves to; as it is when it does not."""
    loop = asyncio.get_running_loop()
    expanded: list[str] = []
    for address in addresses:
        host, port = split_address(address)
        try:
            for ip in await resolve(host, port, family):
                name, _ = await loop.getnameinfo((ip, port), socket.NI_NUMERICSERV)
                expanded.append(join_address(name, port))
        except OSError:
            expanded.append(address)
    return list(dict.fromkeys(expanded))

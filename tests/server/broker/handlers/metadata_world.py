"""A broker with a real controller on a memory disk, asked through the bytes of any version."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Any

from ottla.core.errors import ApiError
from ottla.protocol.codec import decode, encode
from ottla.server.broker.api_table import APIS
from ottla.server.broker.broker import Broker, RequestContext
from ottla.server.broker.dispatch import Route
from ottla.server.controller.result import Result
from ottla.server.controller.service import Controller
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.raft.opening import open_metadata_log
from tests.server.controller.worlds import registration
from tests.server.raft.worlds import DIRECTORY, VOTER, config, new_env


class World:
    """`ask` sends a request at a version and gives the response as a client of that version reads it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.controller = broker.controller

    async def ask(self, request: Any, version: int, *, listener_name: str = "PLAINTEXT") -> Any:
        api = APIS[request.API_KEY]
        handlers = import_module(api.handler_module)
        request = decode(type(request), version, encode(request, version))
        context = RequestContext(listener_name=listener_name, api_version=version)
        try:
            response = handlers.handle(self.broker, request, context)
            if inspect.isawaitable(response):
                response = await response
        except ApiError as error:
            response = Route(api, version).failure(request, context, error)
        encoded = encode(response, version)
        quick = getattr(handlers, "handle_quickly", None)
        for _ in range(2 if quick else 0):  # what is encoded now, what was kept
            body = bytearray(encode(request, version))
            assert quick(self.broker, body, 0, len(body), context) in (None, encoded)
        return decode(type(response), version, encoded)

    async def write(self, *records: Any) -> None:
        """Put records into the log, whatever the controller thinks of them."""
        await self.controller._execute(lambda: Result(list(records), None))


def run(test: Callable[[World], Awaitable[None]], settings: Mapping[str, object] | None = None) -> None:
    """Run a test with a new broker, node 1, registered on the listener PLAINTEXT as host-1:9092."""

    async def main() -> None:
        env = new_env()
        configuration = config(**(settings or {}))
        log, bootstrap = open_metadata_log(configuration, env, DIRECTORY, VOTER)
        metadata = ClusterMetadata(configuration, env, node_id=VOTER.node_id)
        controller = Controller(configuration, env, log, metadata, bootstrap=bootstrap)
        await log.start(metadata)
        await controller.register_own_broker(registration())
        parts: dict[str, Any] = {"replicas": None, "log_directories": None, "coordinators": None}
        broker = Broker(
            node_id=1,
            cluster_id="cluster",
            config=metadata.config,
            env=env,
            metadata=metadata,
            metadata_log=log,
            controller=controller,
            **parts,
        )
        await test(World(broker))
        await controller.stop()
        await log.stop()

    asyncio.run(main())


def versions(api_key: int) -> range:
    """All versions of an API that are served."""
    return range(APIS[api_key].min_version, APIS[api_key].max_version + 1)

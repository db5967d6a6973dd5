"""Which broker coordinates a group, a transactional id or a share group: asked once, kept until it is wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.client.errors import ConnectionFailedError, KafkaError, KafkaTimeoutError, error_for
from ottla.client.model import Node
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest

if TYPE_CHECKING:
    from ottla.client.network.cluster import Cluster

GROUP, TRANSACTION, SHARE = 0, 1, 2
_BATCHED = 4
"""First version that answers several keys (KIP-699)."""
_FIRST_VERSION = {GROUP: 0, TRANSACTION: 1, SHARE: 6}
_LARGEST_ID = 2**31 - 1


def coordinator_connection_id(node_id: int) -> int:
    """The id under which a broker is addressed as coordinator of groups: a connection of its own."""
    return _LARGEST_ID - node_id


def broker_id(node_id: int) -> int:
    """The broker that a node id means, be it the broker's own or a coordinator's connection."""
    return _LARGEST_ID - node_id if node_id > _LARGEST_ID // 2 else node_id


class CoordinatorLookup:
    """The coordinators found so far. Lookups of one moment share a request, those of one key a result."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._found: dict[tuple[int, str], int] = {}
        self._nodes: dict[int, Node] = {}
        self._wanted: dict[int, dict[str, asyncio.Future[int]]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order in which they began

    def node(self, node_id: int) -> Node | None:
        """Where a coordinator's connection goes."""
        return self._nodes.get(node_id)

    async def find(self, key_type: int, key: str, timeout_ms: int) -> int:
        """The node id to send to. Retried while the coordinator is being elected or loaded."""
        cluster = self._cluster
        deadline_ms = cluster.now_ms() + timeout_ms
        attempt = 0
        while True:
            found = self._found.get((key_type, key))
            if found is not None:
                return found
            left_ms = deadline_ms - cluster.now_ms()
            try:
                async with asyncio.timeout(max(0, left_ms) / 1000):
                    return await asyncio.shield(self._look_up(key_type, key))
            except TimeoutError as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                problem: BaseException = error
            except KafkaError as error:
                if not error.retriable:
                    raise
                problem = error
            delay_ms = cluster.backoff.delay_ms(attempt)
            attempt += 1
            if cluster.now_ms() + delay_ms >= deadline_ms:
                what = str(problem) if isinstance(problem, KafkaError) else "there was no answer."
                raise KafkaTimeoutError(
                    f"the coordinator of {key!r} was not found within {timeout_ms} ms: {what}"
                ) from problem
            await asyncio.sleep(delay_ms / 1000)

    def forget(self, key_type: int, key: str) -> None:
        self._found.pop((key_type, key), None)

    def forget_node(self, node_id: int) -> None:
        """A connection to the node failed: it may be gone, and its groups elsewhere."""
        for known in [known for known, found in self._found.items() if found == node_id]:
            del self._found[known]

    def clear(self, error: KafkaError) -> list[asyncio.Task[None]]:
        """The client closes, or starts over. Returns lookups that are being cancelled."""
        self._found.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for wanted in self._wanted.values():
            for future in wanted.values():
                _settle(future, error)
        self._wanted.clear()
        return tasks

    def _look_up(self, key_type: int, key: str) -> asyncio.Future[int]:
        wanted = self._wanted.setdefault(key_type, {})
        future = wanted.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = wanted[key] = loop.create_future()
            if len(wanted) == 1:
                task = loop.create_task(self._ask(key_type))
                self._tasks[task] = None
                task.add_done_callback(self._tasks.pop)
        return future

    async def _ask(self, key_type: int) -> None:
        await asyncio.sleep(0)  # others of this moment come along
        wanted = self._wanted.pop(key_type, {})
        try:
            node_id = await self._cluster.any_node(self._cluster.settings.request_timeout_ms)
            versions = self._cluster.api_versions(node_id)
            batched = versions is None or versions.get(ApiKey.FIND_COORDINATOR, (0, 0))[1] >= _BATCHED
            if batched and not await self._ask_for_all(node_id, key_type, wanted):
                batched = False
            if not batched:
                await asyncio.gather(*(self._ask_for_one(node_id, key_type, key, wanted[key]) for key in wanted))
        except KafkaError as error:
            for future in wanted.values():
                _settle(future, error)
        finally:
            for future in wanted.values():
                _settle(future, ConnectionFailedError("the lookup was given up.", hint=""))

    async def _ask_for_all(self, node_id: int, key_type: int, wanted: dict[str, asyncio.Future[int]]) -> bool:
        """False when the broker turned out to be too old for it."""
        least = max(_BATCHED, _FIRST_VERSION.get(key_type, _BATCHED))
        request = FindCoordinatorRequest(key_type=key_type, coordinator_keys=list(wanted))
        try:
            response = await self._cluster.request(node_id, request, min_version=least)
        except KafkaError as error:
            if error.code is ErrorCode.UNSUPPORTED_VERSION and key_type in (GROUP, TRANSACTION):
                return False
            raise
        for found in response.coordinators:
            future = wanted.get(found.key)
            if future is not None:
                node = Node(found.node_id, found.host, found.port)
                self._answered(key_type, found.key, future, node, found.error_code, found.error_message)
        for key, future in wanted.items():
            _settle(future, error_for(ErrorCode.COORDINATOR_NOT_AVAILABLE, f"the answer says nothing of {key!r}."))
        return True

    async def _ask_for_one(self, node_id: int, key_type: int, key: str, future: asyncio.Future[int]) -> None:
        request = FindCoordinatorRequest(key=key, key_type=key_type)
        try:
            response = await self._cluster.request(
                node_id, request, min_version=_FIRST_VERSION.get(key_type, 1), max_version=_BATCHED - 1
            )
        except KafkaError as error:
            _settle(future, error)
            return
        node = Node(response.node_id, response.host, response.port)
        self._answered(key_type, key, future, node, response.error_code, response.error_message)

    def _answered(
        self, key_type: int, key: str, future: asyncio.Future[int], node: Node, code: int, message: str | None
    ) -> None:
        if code:
            _settle(future, error_for(code, message))
            return
        node_id = node.id if key_type == TRANSACTION else coordinator_connection_id(node.id)
        self._nodes[node_id] = node
        self._found[key_type, key] = node_id
        if not future.done():
            future.set_result(node_id)


def _settle(future: asyncio.Future[int], error: KafkaError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()

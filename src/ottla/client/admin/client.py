"""The admin client as coroutines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self, Unpack

from ottla.client.admin.areas import AllCalls
from ottla.client.admin.routing import Routing
from ottla.client.instruments import Instrumented, Instruments
from ottla.client.model import TopicPartition
from ottla.client.settings import AdminSettings

if TYPE_CHECKING:
    from types import TracebackType

    from ottla.client.settings.names import AdminNames

CLOSE_TIMEOUT_S = 5.0


class Admin(Instrumented, AllCalls):
    """Looks after a cluster: topics, settings, groups, transactions, access rules, quotas, the cluster itself.

        async with ottla.aio.Admin("localhost:9092") as admin:
            await admin.create_topics(NewTopic("orders", num_partitions=6))

    Every call takes `timeout_s` (default: default.api.timeout.ms) and is repeated until then when a broker cannot
    answer now. A call about several items returns `{item: result}`, and raises when any item failed: `error.errors`
    has the failures by item, `error.results` the rest. Calls may run at the same time. See `ottla.admin` for the types.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | None = None,
        settings: Mapping[str, object] | None = None,
        /,
        **names: Unpack[AdminNames],
    ) -> None:
        """No I/O. `settings` by Kafka's (or librdkafka's) dotted names, `names` with `_` for `.`: `retries=3`.

        `bootstrap_controllers` instead of `bootstrap_servers` talks to the controllers of the metadata quorum
        directly, which answer calls about the cluster itself only (KIP-919).
        """
        found = AdminSettings.of(bootstrap_servers, settings, names)
        self.settings = found
        self._instruments = Instruments(found, "admin-client")
        self._cluster = self._instruments.cluster
        self._leaders: dict[TopicPartition, int] = {}
        self._uses_controllers = bool(found.bootstrap_controllers)
        self._routing = Routing(
            self._cluster,
            timeout_ms=found.default_api_timeout_ms,
            request_timeout_ms=found.request_timeout_ms,
            retries=found.retries,
            on_call=self._instruments.start,
        )

    async def client_instance_id(self, *, timeout_s: float | None = None) -> str:
        """The id under which the cluster knows this client's metrics (KIP-714)."""
        return await self._instruments.client_instance_id(self._routing.deadline(timeout_s).left_ms / 1000)

    async def close(self, timeout_s: float | None = None) -> None:
        """End all connections. Calls still under way raise `ClientClosedError`."""
        try:
            await self._instruments.close()
        finally:
            await self._cluster.close(int((CLOSE_TIMEOUT_S if timeout_s is None else timeout_s) * 1000))

    async def exit_now(self) -> None:
        """The interpreter exits."""
        await self._cluster.close(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

"""The task that carries out requests: it repeats, forgets coordinators that moved, and leaves nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ottla.client.errors import (
    AuthorizationError,
    ClientClosedError,
    ConnectionFailedError,
    FatalProducerError,
    KafkaError,
    KafkaTimeoutError,
)
from ottla.client.producer.transaction_requests import TransactionRequests
from ottla.client.producer.transaction_state import State
from ottla.client.producer.transactions import ProducerState
from ottla.core.errors import ErrorCode
from ottla.protocol.message import Request, Response
from ottla.protocol.messages.heartbeat import HeartbeatResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.testing.sim.env import simulate

Script = list[Response | KafkaError]


class ScriptedCluster:
    """Answers requests with what the script says, one after the other; nothing left: never."""

    def __init__(self, script: Script, *, lookups: Script | None = None) -> None:
        self.script = script
        self.lookups = lookups or []
        self.calls: list[str] = []

    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def finalized_feature(self, name: str) -> int:
        assert name == "transaction.version"
        return 2

    async def any_node(self, timeout_ms: int) -> int:
        return 1

    async def coordinator(self, key_type: int, key: str, timeout_ms: int) -> int:
        self.calls.append(f"find {key_type} {key}")
        if self.lookups and isinstance(error := self.lookups.pop(0), KafkaError):
            raise error
        return 2

    def forget_coordinator(self, key_type: int, key: str) -> None:
        self.calls.append(f"forget {key_type} {key}")

    async def request(
        self,
        node_id: int,
        request: Request,
        *,
        timeout_ms: int | None = None,
        min_version: int | None = None,
        max_version: int | None = None,
    ) -> Response:
        self.calls.append(f"{type(request).__name__} to {node_id}")
        if not self.script:
            await asyncio.sleep(1e9)
        found = self.script.pop(0)
        if isinstance(found, KafkaError):
            raise found
        return found


GIVEN = InitProducerIdResponse(producer_id=7, producer_epoch=0)
MOVED = InitProducerIdResponse(error_code=ErrorCode.NOT_COORDINATOR)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    simulate(lambda env: main(), seed=1)


def test_it_asks_again_until_it_knows() -> None:
    async def main() -> None:
        cluster = ScriptedCluster([ConnectionFailedError("gone"), MOVED, GIVEN])
        progress: list[State] = []
        state = ProducerState("id")
        requests = TransactionRequests(cluster, state, on_progress=lambda: progress.append(state.state))
        await requests.wait(state.init_transactions(), 10_000)
        assert cluster.calls == ["find 1 id", "InitProducerIdRequest to 2", "forget 1 id"] * 2 + [
            "find 1 id",
            "InitProducerIdRequest to 2",
        ]
        assert state.uses_transactions_v2
        assert progress[-1] is State.READY
        await requests.close()

    run(main)


def test_a_producer_without_transactions_asks_anybody() -> None:
    async def main() -> None:
        cluster = ScriptedCluster([GIVEN])
        state = ProducerState()
        requests = TransactionRequests(cluster, state)
        requests.start()
        assert not state.may_send(("t", 0))  # type: ignore[arg-type]
        await asyncio.sleep(1)
        assert cluster.calls == ["InitProducerIdRequest to 1"]
        assert state.producer_id == 7
        await requests.close()

    run(main)


def test_who_waits_too_long_may_wait_again() -> None:
    async def main() -> None:
        cluster = ScriptedCluster([], lookups=[KafkaTimeoutError("nobody")] * 20)
        state = ProducerState("id")
        requests = TransactionRequests(cluster, state)
        with pytest.raises(KafkaTimeoutError, match=r"call init_transactions\(\) again"):
            await requests.wait(state.init_transactions(), 500)
        waiting = asyncio.ensure_future(requests.wait(state.init_transactions(), None))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        cluster.lookups.clear()
        cluster.script.append(GIVEN)
        await requests.wait(state.init_transactions(), 500)
        state.begin()
        await requests.close()

    run(main)


def test_an_error_of_the_search_reaches_the_caller() -> None:
    async def main() -> None:
        refused = AuthorizationError("no", code=ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        cluster = ScriptedCluster([GIVEN], lookups=[refused])
        state = ProducerState("id")
        requests = TransactionRequests(cluster, state)
        with pytest.raises(AuthorizationError):
            await requests.wait(state.init_transactions(), 500)
        await requests.wait(state.init_transactions(), 500)
        await requests.close()

    run(main)


def test_closing_wakes_who_waits() -> None:
    async def main() -> None:
        state = ProducerState("id")
        requests = TransactionRequests(ScriptedCluster([]), state)
        waiting = asyncio.ensure_future(requests.wait(state.init_transactions(), None))
        await asyncio.sleep(1)
        await requests.close()
        with pytest.raises(ClientClosedError):
            await waiting

    run(main)


def test_a_fault_of_ours_is_an_error_of_the_callers(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        state = ProducerState("id")
        requests = TransactionRequests(ScriptedCluster([HeartbeatResponse()]), state)
        with pytest.raises(FatalProducerError, match="unexpected"):
            await requests.wait(state.init_transactions(), 500)
        assert "unexpectedly" in caplog.text
        await requests.close()

    run(main)

"""Looking up positions beside a subscription that changes meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.client.consumer import lookups
from ottla.client.consumer.offsets import Found
from ottla.client.consumer.positions import PartitionState, Stage
from ottla.client.consumer.resets import LATEST
from ottla.client.errors import error_for
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode

TP = TopicPartition("t", 0)


def resetting() -> PartitionState:
    state = PartitionState(TP)
    state.stage, state.reset = Stage.RESETTING, LATEST
    return state


def test_a_partition_that_was_lost_and_is_back_does_not_care_about_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = resetting(), resetting()
    partitions = {TP: before}

    async def refused(*_: Any, **__: Any) -> Found[Any]:
        partitions[TP] = after
        found: Found[Any] = Found()
        found.failed[TP] = error_for(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return found

    async def main() -> None:
        cluster: Any = SimpleNamespace(now_ms=lambda: 0, backoff=SimpleNamespace(delay_ms=lambda attempts: 100))
        settings: Any = SimpleNamespace(request_timeout_ms=1000, isolation_level="read_committed")
        subscription: Any = SimpleNamespace(partitions=partitions)
        rounds = lookups.Lookups(
            cluster, settings, subscription, None, LATEST, committed=None, moved=lambda: None, fail=pytest.fail
        )
        await rounds._round(Stage.RESETTING, [before])

    monkeypatch.setattr(lookups, "list_offsets_round", refused)
    asyncio.run(main())
    assert after.attempts == 0

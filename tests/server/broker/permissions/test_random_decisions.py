"""Every API in every version, asked of an authorizer that changes its mind: all is answered, and nothing breaks."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Mapping
from random import Random

import pytest

from ottla.core.acl import AclOperation, ResourceType
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.server.security.authorizer import Authorizer
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.test_random_requests import ADDRESS, SETTINGS, Memory, ask_for_everything
from tests.simulation.wire_client import WireClient

ALLOWED = 0.8


class Moody(Authorizer):
    """Decides by chance, each time anew."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__(settings)
        self.random = Random(1)
        self.is_open = True
        self.denied = 0

    def authorize(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
        name: str,
    ) -> bool:
        allowed = self.is_open or self.random.random() < ALLOWED
        self.denied += not allowed
        return allowed


@pytest.mark.parametrize("seed", range(2))
def test_every_request_is_answered_whatever_is_permitted(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    async def main(env: SimulatedEnv) -> list[str]:
        node = Node(BrokerConfig.of(SETTINGS | {"authorizer.class.name": f"{__name__}:Moody"}), env)
        await node.start()
        authorizer = node.broker.authorizer
        assert isinstance(authorizer, Moody)
        memory: Memory = defaultdict(lambda: deque(maxlen=5))
        async with WireClient.connected(ADDRESS) as client:
            topics = [CreatableTopic(name=name, num_partitions=2, replication_factor=1) for name in ("jobs", "orders")]
            response = await client.ask(CreateTopicsRequest(topics=topics), 7, CreateTopicsResponse)
            memory["uuid", "topic_id"] += [topic.topic_id for topic in response.topics]
        authorizer.random = Random(seed)
        authorizer.is_open = False
        problems = await asyncio.gather(*[ask_for_everything(memory, f"{seed} {number}") for number in range(2)])
        assert authorizer.denied > 100
        await node.stop()
        return [problem for found in problems for problem in found]

    caplog.set_level(logging.WARNING)
    problems = simulate(main, seed=seed)
    assert not problems, "\n".join(problems)
    worst = [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert not worst, [record.getMessage() for record in worst]

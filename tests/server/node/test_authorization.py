"""A node with an authorizer: ACLs through its APIs, what is in force after a restart, plug-ins, what a node says."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ottla.core.acl import AclOperation, ResourceType
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_acls import AclCreation, CreateAclsRequest, CreateAclsResponse
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_acls import DeleteAclsFilter, DeleteAclsRequest, DeleteAclsResponse
from ottla.protocol.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.server.node.node import Node
from ottla.server.security.standard_authorizer import STANDARD_AUTHORIZER
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS, CONTROLLER = "127.0.0.1:9092", "127.0.0.1:9093"
SETTINGS: dict[str, object] = {"listeners": f"PLAINTEXT://{ADDRESS}", "log.dirs": "/data"}
SECURED = {"authorizer.class.name": STANDARD_AUTHORIZER, "super.users": "User:admin"}
OPEN_TO_CLIENTS = SECURED | {"super.users": "User:admin;User:ANONYMOUS"}

Ask = Callable[[Any, int, Any], Awaitable[Any]]


def acl(
    name: str, operation: int = AclOperation.READ, *, kind: int = ResourceType.TOPIC, **changes: Any
) -> AclCreation:
    values = {"principal": "User:ANONYMOUS", "host": "*", "permission_type": 3, **changes}
    return AclCreation(resource_type=kind, resource_name=name, operation=operation, **values)


async def live(
    env: SimulatedEnv, settings: dict[str, object], life: Callable[[Node, Ask], Awaitable[None]], address: str = ADDRESS
) -> None:
    node = Node(BrokerConfig.of(SETTINGS | settings), env)
    try:
        await node.start()
        async with WireClient.connected(address) as client:
            await life(node, client.ask)
    finally:
        await node.stop()


def run(*lives: tuple[dict[str, object], Callable[[Node, Ask], Awaitable[None]]], address: str = ADDRESS) -> None:
    async def main(env: SimulatedEnv) -> None:
        for settings, life in lives:
            await live(env, settings, life, address)

    simulate(main, seed=1)


async def described(ask: Ask, **changes: Any) -> list[tuple[str, int]]:
    anything: dict[str, Any] = dict.fromkeys(("resource_name_filter", "principal_filter", "host_filter"))
    codes = dict.fromkeys(("resource_type_filter", "pattern_type_filter", "operation", "permission_type"), 1)
    request = DescribeAclsRequest(**anything | codes | changes)
    response: DescribeAclsResponse = await ask(request, 3, DescribeAclsResponse)
    assert response.error_code == ErrorCode.NONE
    return [(resource.resource_name, acl.operation) for resource in response.resources for acl in resource.acls]


async def created(ask: Ask, *creations: AclCreation) -> list[int]:
    response: CreateAclsResponse = await ask(CreateAclsRequest(creations=list(creations)), 3, CreateAclsResponse)
    return [result.error_code for result in response.results]


async def new_topic(ask: Ask, name: str) -> int:
    wanted = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    response = await ask(CreateTopicsRequest(topics=[wanted]), 5, CreateTopicsResponse)
    code: int = response.topics[0].error_code
    return code


def test_acls_are_created_described_and_deleted_and_outlive_a_restart() -> None:
    async def first(node: Node, ask: Ask) -> None:
        assert await created(ask, acl("orders"), acl("kafka", kind=ResourceType.CLUSTER), acl("")) == [
            ErrorCode.NONE,
            ErrorCode.INVALID_REQUEST,
            ErrorCode.INVALID_REQUEST,
        ]
        assert await created(ask, acl("payments", AclOperation.WRITE, resource_pattern_type=4)) == [0]

    async def second(node: Node, ask: Ask) -> None:
        assert await described(ask) == [("orders", 3), ("payments", 4)]
        assert await described(ask, resource_name_filter="payments-eu", pattern_type_filter=2) == [("payments", 4)]
        wanted = DeleteAclsFilter(
            resource_type_filter=ResourceType.TOPIC,
            resource_name_filter="orders",
            pattern_type_filter=1,
            principal_filter=None,
            host_filter=None,
            operation=AclOperation.READ,
            permission_type=1,
        )
        response: DeleteAclsResponse = await ask(DeleteAclsRequest(filters=[wanted]), 3, DeleteAclsResponse)
        [result] = response.filter_results
        assert [(one.resource_name, one.principal) for one in result.matching_acls] == [("orders", "User:ANONYMOUS")]
        assert await described(ask) == [("payments", 4)]

    run((OPEN_TO_CLIENTS, first), (OPEN_TO_CLIENTS, second))


def test_what_acls_allow_is_in_force_at_once_and_after_a_restart() -> None:
    async def open_to_all(node: Node, ask: Ask) -> None:
        assert await created(ask, acl("new", AclOperation.CREATE)) == [ErrorCode.NONE]

    async def secured(node: Node, ask: Ask) -> None:
        [known] = node.broker.image.acls.values()
        assert await new_topic(ask, "new") == ErrorCode.NONE
        assert await new_topic(ask, "other") == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        assert await created(ask, acl("other", AclOperation.CREATE)) == [ErrorCode.CLUSTER_AUTHORIZATION_FAILED]
        await node.broker.controller.create_acls([known._replace(resource_name="other")])
        assert await new_topic(ask, "other") == ErrorCode.NONE

    run((OPEN_TO_CLIENTS, open_to_all), (SECURED, secured))


@pytest.mark.parametrize("address", [ADDRESS, CONTROLLER])
def test_without_an_authorizer_there_are_no_acls(address: str) -> None:
    listeners = {
        "listeners": f"PLAINTEXT://{ADDRESS},CONTROLLER://{CONTROLLER}",
        "controller.listener.names": "CONTROLLER",
    }

    async def life(node: Node, ask: Ask) -> None:
        assert node.broker.authorizer is None
        request = DescribeAclsRequest(resource_type_filter=1, pattern_type_filter=1, operation=1, permission_type=1)
        response: DescribeAclsResponse = await ask(request, 3, DescribeAclsResponse)
        assert (response.error_code, response.error_message) == (
            ErrorCode.SECURITY_DISABLED,
            "No Authorizer is configured on the broker",
        )
        assert await created(ask, acl("orders"), acl("payments")) == [ErrorCode.SECURITY_DISABLED] * 2
        wanted = DeleteAclsFilter(resource_type_filter=1, pattern_type_filter=1, operation=1, permission_type=1)
        deleted: DeleteAclsResponse = await ask(DeleteAclsRequest(filters=[wanted]), 3, DeleteAclsResponse)
        assert deleted.filter_results[0].error_code == ErrorCode.SECURITY_DISABLED

    run((listeners, life), address=address)


def test_codes_that_stand_for_nothing_end_the_connection() -> None:
    async def life(node: Node, ask: Ask) -> None:
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await created(ask, acl("orders", AclOperation.UNKNOWN))

    run((OPEN_TO_CLIENTS, life))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"authorizer.class.name": "com.example.Mine"}, "is no authorizer that Ottla has; use org.apache.kafka"),
        ({"authorizer.class.name": "kafka.security.authorizer.AclAuthorizer"}, "was removed with ZooKeeper"),
        ({"authorizer.class.name": "no_such_module:Mine"}, "cannot be loaded: No module named 'no_such_module'"),
        ({"authorizer.class.name": "json:Mine"}, "json:Mine cannot be loaded"),
        ({"authorizer.class.name": "json:JSONDecoder"}, "is not derived from"),
        ({"authorizer.class.name": STANDARD_AUTHORIZER, "super.users": "admin"}, "write Type:name, mostly User:admin"),
    ],
)
def test_a_node_with_a_wrong_authorizer_says_so_and_does_not_start(settings: dict[str, object], text: str) -> None:
    async def life(node: Node, ask: Ask) -> None:
        raise AssertionError("it started")

    with pytest.raises(SettingError, match=re.escape(text)) as refused:
        run((settings, life))
    assert "\n" not in str(refused.value)


def test_the_class_of_the_documentation_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[3] / "docs" / "authorization.md").read_text()
    module = ModuleType("office_hours")
    exec(text.partition("```python\n")[2].partition("```")[0], module.__dict__)
    monkeypatch.setitem(sys.modules, "office_hours", module)
    hour = 12
    monkeypatch.setattr(module.OfficeHours, "hour", lambda self: hour)
    settings = {
        "authorizer.class.name": "office_hours:OfficeHours",
        "authorizer.plugin.closes": "17",
        "allow.everyone.if.no.acl.found": "true",
    }

    async def life(node: Node, ask: Ask) -> None:
        nonlocal hour
        assert await new_topic(ask, "a") == ErrorCode.NONE
        hour = 17
        assert await new_topic(ask, "b") == ErrorCode.TOPIC_AUTHORIZATION_FAILED
        hour = 9
        assert await new_topic(ask, "b") == ErrorCode.NONE

    run((settings, life))


def test_a_node_that_may_not_act_as_one_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A second broker whose principal, here nobody's, is no super user."""

    async def main(env: SimulatedEnv) -> None:
        cluster = {"controller.listener.names": "CONTROLLER", "cluster.id": "AAAAAAAAAAAAAAAAAAAAAA"} | SECURED
        first = Node(
            BrokerConfig.of(
                cluster
                | {
                    "listeners": f"PLAINTEXT://{ADDRESS},CONTROLLER://{CONTROLLER}",
                    "log.dirs": "/first",
                    "controller.quorum.voters": f"1@{CONTROLLER}",
                }
            ),
            env,
        )
        second = Node(
            BrokerConfig.of(
                cluster
                | {
                    "process.roles": "broker",
                    "node.id": "2",
                    "listeners": "PLAINTEXT://127.0.0.1:9192",
                    "log.dirs": "/second",
                    "controller.quorum.voters": f"1@{CONTROLLER}",
                }
            ),
            env,
        )
        await first.start()
        start = asyncio.ensure_future(second.start())
        await asyncio.wait([start], timeout=10)
        assert not start.done()
        start.cancel()
        await asyncio.wait([start])
        await second.stop()
        await first.stop()

    simulate(main, seed=1)
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 2, said
    [at_first] = [line for line in said if "asks as nodes of the cluster do" in line]
    assert "'User:ANONYMOUS' at 127.0.0.1" in at_first
    assert "ottla acls allow 'User:ANONYMOUS' cluster-action cluster" in at_first
    [at_second] = [line for line in said if "takes no Fetch from this node" in line]
    assert "super.users of every node" in at_second

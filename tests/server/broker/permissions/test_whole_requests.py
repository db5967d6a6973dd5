"""Requests that are let through or refused as a whole: each API, with and without what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import pytest

from ottla.core.acl import AclOperation
from ottla.core.errors import ErrorCode
from ottla.protocol import apis
from ottla.protocol.apis import ApiKey
from ottla.server.broker.api_table import CONTROLLER_APIS
from tests.server.broker.permissions.worlds import (
    ALTER,
    ALTER_CONFIGS,
    CLUSTER,
    CLUSTER_ACTION,
    DELETE,
    DESCRIBE,
    DESCRIBE_CONFIGS,
    GROUP,
    READ,
    TOPIC,
    TRANSACTIONAL_ID,
    WRITE,
    Guarded,
    Permission,
    image_of,
    on,
)

GROUP_DENIED = ErrorCode.GROUP_AUTHORIZATION_FAILED
CLUSTER_DENIED = ErrorCode.CLUSTER_AUTHORIZATION_FAILED
TOPIC_DENIED = ErrorCode.TOPIC_AUTHORIZATION_FAILED
ID_DENIED = ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

READS, DESCRIBES_ORDERS = on(READ, GROUP, "g"), on(DESCRIBE, TOPIC, "orders")
ACTS, ALTERS, DESCRIBES = on(CLUSTER_ACTION, CLUSTER), on(ALTER, CLUSTER), on(DESCRIBE, CLUSTER)
WRITES_ID = on(WRITE, TRANSACTIONAL_ID, "t")


class Case(NamedTuple):
    """An API, fields of its request, and all that it needs; `code` is the refusal without any of it."""

    key: ApiKey
    fields: dict[str, Any]
    needs: list[Permission]
    code: ErrorCode
    version: int | None = None


def message(key: ApiKey, /, **fields: Any) -> Any:
    return apis.APIS[key].request_class()(**fields)


G = {"group_id": "g"}
T = {"transactional_id": "t"}
CASES = [
    Case(ApiKey.JOIN_GROUP, G, READS, GROUP_DENIED),
    Case(ApiKey.JOIN_GROUP, G, READS, GROUP_DENIED, 2),
    Case(ApiKey.SYNC_GROUP, G | {"protocol_type": "consumer", "protocol_name": "range"}, READS, GROUP_DENIED),
    Case(ApiKey.HEARTBEAT, G, READS, GROUP_DENIED),
    Case(ApiKey.LEAVE_GROUP, G, READS, GROUP_DENIED),
    Case(ApiKey.LEAVE_GROUP, G, READS, GROUP_DENIED, 2),
    Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, G, READS, GROUP_DENIED),
    Case(
        ApiKey.CONSUMER_GROUP_HEARTBEAT,
        G | {"subscribed_topic_names": ["orders"]},
        [*READS, *DESCRIBES_ORDERS],
        GROUP_DENIED,
    ),
    Case(ApiKey.SHARE_GROUP_HEARTBEAT, G, READS, GROUP_DENIED),
    Case(
        ApiKey.SHARE_GROUP_HEARTBEAT,
        G | {"subscribed_topic_names": ["orders"]},
        [*READS, *DESCRIBES_ORDERS],
        GROUP_DENIED,
    ),
    Case(ApiKey.STREAMS_GROUP_HEARTBEAT, G, READS, GROUP_DENIED),
    Case(ApiKey.STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE, G, READS, GROUP_DENIED),
    Case(ApiKey.SHARE_FETCH, G | {"member_id": "m"}, READS, GROUP_DENIED),
    Case(ApiKey.SHARE_ACKNOWLEDGE, G | {"member_id": "m"}, READS, GROUP_DENIED),
    Case(ApiKey.OFFSET_DELETE, G, on(DELETE, GROUP, "g"), GROUP_DENIED),
    Case(ApiKey.ALTER_SHARE_GROUP_OFFSETS, G, READS, GROUP_DENIED),
    Case(ApiKey.DELETE_SHARE_GROUP_OFFSETS, G, on(DELETE, GROUP, "g"), GROUP_DENIED),
    Case(ApiKey.END_TXN, T, WRITES_ID, ID_DENIED),
    Case(ApiKey.ADD_OFFSETS_TO_TXN, G | T, [*WRITES_ID, *READS], ID_DENIED),
    Case(ApiKey.INIT_PRODUCER_ID, T, WRITES_ID, ID_DENIED),
    Case(ApiKey.FIND_COORDINATOR, {"key": "g"}, on(DESCRIBE, GROUP, "g"), GROUP_DENIED, 3),
    Case(ApiKey.FIND_COORDINATOR, {"key": "t", "key_type": 1}, on(DESCRIBE, TRANSACTIONAL_ID, "t"), ID_DENIED, 3),
    Case(ApiKey.FIND_COORDINATOR, {"coordinator_keys": ["g:x:0"], "key_type": 2}, ACTS, CLUSTER_DENIED),
    Case(ApiKey.OFFSET_FETCH, G | {"topics": []}, on(DESCRIBE, GROUP, "g"), GROUP_DENIED, 7),
    Case(ApiKey.DESCRIBE_LOG_DIRS, {}, DESCRIBES, CLUSTER_DENIED),
    Case(ApiKey.LIST_CONFIG_RESOURCES, {}, on(DESCRIBE_CONFIGS, CLUSTER), CLUSTER_DENIED),
    Case(ApiKey.DESCRIBE_CLIENT_QUOTAS, {}, on(DESCRIBE_CONFIGS, CLUSTER), CLUSTER_DENIED),
    Case(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, {}, DESCRIBES, CLUSTER_DENIED),
    Case(ApiKey.DESCRIBE_ACLS, {}, DESCRIBES, CLUSTER_DENIED),
    Case(ApiKey.ELECT_LEADERS, {}, ALTERS, CLUSTER_DENIED),
    Case(ApiKey.ALTER_PARTITION_REASSIGNMENTS, {}, ALTERS, CLUSTER_DENIED),
    Case(ApiKey.LIST_PARTITION_REASSIGNMENTS, {}, DESCRIBES, CLUSTER_DENIED),
    Case(ApiKey.UPDATE_FEATURES, {}, ALTERS, CLUSTER_DENIED),
    Case(ApiKey.UNREGISTER_BROKER, {}, ALTERS, CLUSTER_DENIED),
    Case(ApiKey.DESCRIBE_QUORUM, {}, DESCRIBES, CLUSTER_DENIED),
    Case(ApiKey.ADD_RAFT_VOTER, {}, ALTERS, CLUSTER_DENIED),
    Case(ApiKey.REMOVE_RAFT_VOTER, {}, ALTERS, CLUSTER_DENIED),
    Case(ApiKey.ADD_PARTITIONS_TO_TXN, {"transactions": []}, ACTS, CLUSTER_DENIED),
]


def codes(response: Any) -> Iterator[int]:
    """Every error code anywhere in an answer, but those that say that all is well."""
    for name in response.__slots__:
        value = getattr(response, name)
        if name.endswith("error_code"):
            yield from [value] if value else []
        elif isinstance(value, list):
            for element in value:
                if hasattr(element, "__slots__"):
                    yield from codes(element)


def ask(case: Case, *allowed: Permission) -> tuple[Guarded, Any]:
    world = Guarded(*allowed)
    return world, world.ask(message(case.key, **case.fields), case.version)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.key.name}-{case.version}-{len(case.needs)}")
def test_without_its_permissions_a_request_is_refused_and_handled_by_nobody(case: Case) -> None:
    world, response = ask(case)
    assert set(codes(response)) == {case.code}
    assert world.seen == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.key.name}-{case.version}-{len(case.needs)}")
def test_with_them_it_is_handled_as_it_came(case: Case) -> None:
    world, response = ask(case, *case.needs)
    assert list(codes(response)) == []
    (seen,) = world.seen
    assert all(getattr(seen, name) == value for name, value in case.fields.items())


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case.needs) > 1], ids=lambda case: f"{case.key.name}-{case.version}"
)
def test_each_of_several_permissions_is_needed(case: Case) -> None:
    for missing in case.needs:
        world, response = ask(case, *[one for one in case.needs if one != missing])
        assert list(codes(response))
        assert world.seen == []


SHARE_STATE = [
    ApiKey.INITIALIZE_SHARE_GROUP_STATE,
    ApiKey.READ_SHARE_GROUP_STATE,
    ApiKey.WRITE_SHARE_GROUP_STATE,
    ApiKey.DELETE_SHARE_GROUP_STATE,
    ApiKey.READ_SHARE_GROUP_STATE_SUMMARY,
]


@pytest.mark.parametrize("key", SHARE_STATE)
def test_the_state_of_share_groups_is_for_brokers(key: ApiKey) -> None:
    messages = vars(import_module(f"ottla.protocol.messages.{apis.APIS[key].module}"))
    (name,) = (name for name in messages if name.endswith("Data") and name != "PartitionData")
    topic = messages[name](topic_id=bytes(15) + b"\7", partitions=[messages["PartitionData"](partition=3)])
    request = message(key, group_id="g", topics=[topic])
    world = Guarded()
    response = world.ask(request)
    assert [(one.partition, one.error_code) for one in response.results[0].partitions] == [(3, CLUSTER_DENIED)]
    assert world.seen == []
    world = Guarded(*ACTS)
    world.ask(request)
    assert world.seen


CONTROLLERS = [
    key
    for key in CONTROLLER_APIS
    if key
    not in (
        ApiKey.API_VERSIONS,
        ApiKey.CREATE_TOPICS,
        ApiKey.DELETE_TOPICS,
        ApiKey.DESCRIBE_CONFIGS,
        ApiKey.ALTER_CONFIGS,
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
        ApiKey.CREATE_PARTITIONS,
        ApiKey.CREATE_DELEGATION_TOKEN,
        ApiKey.RENEW_DELEGATION_TOKEN,
        ApiKey.EXPIRE_DELEGATION_TOKEN,
        ApiKey.SASL_HANDSHAKE,
        ApiKey.SASL_AUTHENTICATE,
    )
]
OTHER_THAN_ACTION = {
    ApiKey.ELECT_LEADERS: ALTER,
    ApiKey.ALTER_PARTITION_REASSIGNMENTS: ALTER,
    ApiKey.UPDATE_FEATURES: ALTER,
    ApiKey.DESCRIBE_CLUSTER: ALTER,
    ApiKey.UNREGISTER_BROKER: ALTER,
    ApiKey.ADD_RAFT_VOTER: ALTER,
    ApiKey.REMOVE_RAFT_VOTER: ALTER,
    ApiKey.CREATE_ACLS: ALTER,
    ApiKey.DELETE_ACLS: ALTER,
    ApiKey.ALTER_USER_SCRAM_CREDENTIALS: ALTER,
    ApiKey.LIST_PARTITION_REASSIGNMENTS: DESCRIBE,
    ApiKey.DESCRIBE_QUORUM: DESCRIBE,
    ApiKey.DESCRIBE_ACLS: DESCRIBE,
    ApiKey.ALTER_CLIENT_QUOTAS: ALTER_CONFIGS,
}


@pytest.mark.parametrize("key", CONTROLLERS, ids=lambda key: ApiKey(key).name)
def test_what_controllers_are_asked_needs_permission_for_the_cluster(key: ApiKey) -> None:
    operation = OTHER_THAN_ACTION.get(key, CLUSTER_ACTION)
    request = apis.APIS[key].request_class()()
    others = [one for one in AclOperation if one > AclOperation.ALL and one != operation]
    world = Guarded(*[permission for one in others for permission in on(one, CLUSTER)])
    response = world.ask(request, at_controller=True)
    assert response is None or set(codes(response)) <= {CLUSTER_DENIED}
    assert world.seen == []
    world = Guarded(*on(operation, CLUSTER))
    world.ask(request, at_controller=True)
    assert len(world.seen) == 1


def test_what_is_not_enabled_is_said_before_anything_else() -> None:
    image = image_of()._replace(features={})
    for key in (
        ApiKey.CONSUMER_GROUP_HEARTBEAT,
        ApiKey.SHARE_GROUP_HEARTBEAT,
        ApiKey.STREAMS_GROUP_HEARTBEAT,
        ApiKey.SHARE_FETCH,
        ApiKey.SHARE_ACKNOWLEDGE,
    ):
        response = Guarded(image=image).ask(message(key, group_id="g"))
        assert response.error_code == ErrorCode.UNSUPPORTED_VERSION, key
    response = Guarded().ask(message(ApiKey.SYNC_GROUP, group_id="g", protocol_type=None, protocol_name=None))
    assert response.error_code == ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_markers_may_be_written_by_brokers_and_by_administrators() -> None:
    for permission in (*ACTS, *ALTERS):
        world = Guarded(permission)
        world.ask(message(ApiKey.WRITE_TXN_MARKERS))
        assert len(world.seen) == 1
    world = Guarded(*DESCRIBES)
    world.ask(message(ApiKey.WRITE_TXN_MARKERS))
    assert world.seen == []


def test_producer_ids_without_a_transaction() -> None:
    request = message(ApiKey.INIT_PRODUCER_ID, transactional_id=None)
    world = Guarded()
    response = world.ask(request)
    assert (response.error_code, response.producer_id, response.producer_epoch) == (CLUSTER_DENIED, -1, -1)
    for permission in (*on(AclOperation.IDEMPOTENT_WRITE, CLUSTER), *on(WRITE, TOPIC, "hardcode")):
        world = Guarded(permission)
        world.ask(request)
        assert len(world.seen) == 1


def test_two_phase_commit_needs_a_permission_of_its_own() -> None:
    request = message(ApiKey.INIT_PRODUCER_ID, transactional_id="t", enable_2pc=True)
    assert Guarded(*WRITES_ID).ask(request, 6).error_code == ID_DENIED
    world = Guarded(*WRITES_ID, *on(AclOperation.TWO_PHASE_COMMIT, TRANSACTIONAL_ID, "t"))
    world.ask(request, 6)
    assert len(world.seen) == 1


def test_who_may_do_everything_needs_nothing() -> None:
    for case in CASES:
        world = Guarded()
        world.ask(message(case.key, **case.fields), case.version, principal="User:admin")
        assert len(world.seen) == 1

"""Every method of Kafka's Admin client is there, in both clients, and everything it takes and gives is public."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from enum import Enum
from importlib import import_module
from pathlib import Path

import pytest

import ottla
import ottla.admin
import ottla.aio
import ottla.client.admin
from ottla.client.admin.areas import AREAS
from ottla.client.admin.calls import AdminCalls

KAFKA_METHODS = """
abortTransaction addRaftVoter alterClientQuotas alterConsumerGroupOffsets alterPartitionReassignments
alterReplicaLogDirs alterShareGroupOffsets alterStreamsGroupOffsets alterUserScramCredentials clientInstanceId close
createAcls createDelegationToken createPartitions createTopics deleteAcls deleteConsumerGroupOffsets
deleteConsumerGroups deleteRecords deleteShareGroupOffsets deleteShareGroups deleteStreamsGroupOffsets
deleteStreamsGroups deleteTopics describeAcls describeClassicGroups describeClientQuotas describeCluster
describeConfigs describeConsumerGroups describeDelegationToken describeFeatures describeLogDirs describeMetadataQuorum
describeProducers describeReplicaLogDirs describeShareGroups describeStreamsGroups describeTopics describeTransactions
describeUserScramCredentials electLeaders expireDelegationToken fenceProducers forceTerminateTransaction
incrementalAlterConfigs listClientMetricsResources listConfigResources listConsumerGroupOffsets listConsumerGroups
listGroups listOffsets listPartitionReassignments listShareGroupOffsets listStreamsGroupOffsets listTopics
listTransactions metrics registerMetricForSubscription removeMembersFromConsumerGroup removeRaftVoter
renewDelegationToken unregisterBroker unregisterMetricFromSubscription updateFeatures
"""

CONVENIENCES = {"set_config", "describe_api_versions"}
ADMIN = "ottla.client.admin"


def kafka_methods() -> list[str]:
    return [snake_case(name) for name in KAFKA_METHODS.split()]


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def public_methods(cls: type) -> dict[str, typing.Any]:
    return {name: method for name, method in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_")}


ASYNC, BLOCKING = public_methods(ottla.aio.Admin), public_methods(ottla.Admin)


@pytest.mark.parametrize("name", kafka_methods())
def test_a_method_of_kafkas_admin_is_there(name: str) -> None:
    assert name in ASYNC
    assert name in BLOCKING


def test_both_clients_have_the_same_methods_and_no_others() -> None:
    wanted = {*kafka_methods(), *CONVENIENCES}
    assert set(BLOCKING) == wanted
    assert set(ASYNC) == wanted | {"exit_now"}


@pytest.mark.parametrize("area", AREAS)
def test_the_table_has_all_methods_of_an_area(area: str) -> None:
    module, _, name = area.partition(".")
    methods = vars(getattr(import_module(f"{ADMIN}.{module}"), name))
    assert AREAS[area].split() == [one for one in methods if not one.startswith("__")]


def test_every_area_is_in_the_table() -> None:
    directory = Path(ottla.client.admin.__path__[0])
    found = {
        f"{path.stem}.{name}"
        for path in directory.glob("*.py")
        for name, value in vars(import_module(f"{ADMIN}.{path.stem}")).items()
        if inspect.isclass(value) and issubclass(value, AdminCalls) and value.__module__ == f"{ADMIN}.{path.stem}"
    }
    assert found - {"calls.AdminCalls", "areas.AllCalls", "client.Admin"} == set(AREAS)


def test_a_method_may_be_overridden_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(ottla.aio.Admin):
        async def list_topics(self, **_: object) -> typing.Any:
            return super().list_topics

    assert Mine.list_topics is not ottla.aio.Admin.list_topics
    monkeypatch.setattr(ottla.aio.Admin, "create_acls", None)
    assert ottla.aio.Admin.create_acls is None


@pytest.mark.parametrize("name", list(BLOCKING))
def test_the_blocking_call_is_the_other_one_without_await(name: str) -> None:
    blocking, coroutine = BLOCKING[name], ASYNC[name]
    assert inspect.signature(blocking) == inspect.signature(coroutine)
    assert blocking.__doc__ == coroutine.__doc__
    assert blocking.__doc__
    assert not inspect.iscoroutinefunction(blocking)


@pytest.mark.parametrize("name", [name for name, method in ASYNC.items() if inspect.iscoroutinefunction(method)])
def test_every_call_can_be_given_a_time(name: str) -> None:
    if name != "exit_now":
        parameter = inspect.signature(ASYNC[name]).parameters["timeout_s"]
        assert parameter.default is None
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY or name == "close"


@pytest.mark.parametrize("name", ottla.admin.__all__)
def test_a_public_name_is_where_the_table_says(name: str) -> None:
    assert getattr(ottla.admin, name) is not None
    assert name in dir(ottla.admin)


def test_all_argument_and_result_types_are_public() -> None:
    for module in [import_module(f"{ADMIN}.{area.partition('.')[0]}") for area in AREAS]:
        for name, value in vars(module).items():
            is_type = inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
            if is_type and (dataclasses.is_dataclass(value) or issubclass(value, tuple | Enum)):
                assert name in ottla.admin.__all__, f"{module.__name__}.{name}"


def test_results_are_plain_and_frozen() -> None:
    for name in ottla.admin.__all__:
        value = getattr(ottla.admin, name)
        if dataclasses.is_dataclass(value):
            assert value.__dataclass_params__.frozen, name  # type: ignore[attr-defined]
            assert "__slots__" in vars(value), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NewTopics"):
        ottla.admin.NewTopics  # type: ignore[attr-defined]  # noqa: B018


def test_importing_ottla_loads_nothing_of_the_admin_client() -> None:
    import subprocess
    import sys

    program = (
        "import sys, ottla; ottla.admin; loaded = [name for name in sys.modules if name.startswith('ottla.client')];"
        "assert not loaded, loaded; ottla.admin.NewTopic; assert 'ottla.client.admin.scram' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

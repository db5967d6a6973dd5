"""Every API carries an injected error where Kafka's clients look for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Message
from ottla.protocol.messages.create_acls import CreateAclsRequest
from ottla.protocol.messages.share_fetch import ShareFetchRequest
from ottla.server.broker.api_table import APIS, Api
from ottla.testing import Cluster
from ottla.testing.refusals import Path, places
from tests.testing.raw_client import RawClient, request_class, response_class, sample

ALL = [api for _, api in sorted(APIS.items())]
ONE_OF_MANY = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
FIRST_METADATA_BY_ID = 12
WHOLE = ErrorCode.REQUEST_TIMED_OUT
RULES = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}
"""So that rules can be made; who may do everything is not asked for them."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(topics=["orders"], settings=RULES) as cluster:
        cluster.committed("anybody's")  # so that there is a coordinator of groups
        yield cluster


def codes(message: Message, path: Path = ()) -> dict[Path, set[int]]:
    """All error codes in a message, by their place."""
    found: dict[Path, set[int]] = {}
    for field in message.FIELDS:
        value = getattr(message, field.name)
        if field.name in ("error_code", "partition_error_code"):
            found.setdefault(path, set()).add(value)
        elif field.type == "array" and field.struct is not None:
            for one in value or ():
                for place, some in codes(one, (*path, field.name)).items():
                    found.setdefault(place, set()).update(some)
    return found


def answered(cluster: Cluster, api: Api, version: int, code: ErrorCode) -> dict[Path, set[int]]:
    topic_id = cluster.thread().node.broker.image.topics.by_name["orders"].topic_id
    if api.name == "Metadata" and version < FIRST_METADATA_BY_ID:
        topic_id = ZERO_UUID
    request = sample(request_class(api), version, topic_id)
    if isinstance(request, ShareFetchRequest):
        request.member_id = "AAAAAAAAAAAAAAAAAAAAAA"
        request.topics[0].partitions[0].acknowledgement_batches = []
    if api.name == "DeleteAcls":
        with RawClient(cluster.bootstrap_servers) as client:
            client.ask(sample(CreateAclsRequest, version, topic_id), version)
    with cluster.faults.fail(api.name, code) as fault, RawClient(cluster.bootstrap_servers) as client:
        response = client.ask(request, version)
        assert fault.hits == 1, response
    return codes(response)


def levels(api: Api, version: int) -> list[Path]:
    return places(response_class(api), version)


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_every_api_and_version_carries_an_error_of_the_whole_request(cluster: Cluster, api: Api) -> None:
    for version in range(api.min_version, api.max_version + 1):
        found = answered(cluster, api, version, WHOLE)
        highest = levels(api, version)[0]
        if api.name == "Metadata":
            highest = ("topics",)
        assert found.get(highest) == {WHOLE}, (version, found)


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_every_api_and_version_carries_an_error_of_one_topic_or_partition(cluster: Cluster, api: Api) -> None:
    for version in range(api.min_version, api.max_version + 1):
        found = answered(cluster, api, version, ONE_OF_MANY)
        assert [place for place, some in found.items() if ONE_OF_MANY in some], (version, found)
        if any(levels(api, version)) and api.name not in ("LeaveGroup", "ListPartitionReassignments"):
            assert ONE_OF_MANY not in found.get((), ()), (version, found)

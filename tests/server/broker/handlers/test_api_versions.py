"""ApiVersions: the table of APIs, the features, and who is sent away."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.server.broker.api_table import APIS
from ottla.server.metadata.features import SUPPORTED_FEATURES
from ottla.server.metadata.image import BrokerImage, MetadataImage
from tests.server.broker.support import NODE_ID, Client, FixedMetadata, listening, make_broker, run

FEATURES = {"metadata.version": (7, 30), "group.version": (0, 1)}
IMAGE = MetadataImage(
    offset=12,
    features={"metadata.version": 29, "group.version": 1, "transaction.version": 1, "odd.version": 1},
    brokers={NODE_ID: BrokerImage(NODE_ID, 1, bytes(16), {}, FEATURES)},
)


async def ask(version: int, **fields: object) -> ApiVersionsResponse:
    request = ApiVersionsRequest(**fields)  # type: ignore[arg-type]
    if version >= 3:
        request.client_software_name = str(fields.get("client_software_name", "some-client"))
        request.client_software_version = str(fields.get("client_software_version", "1.2.3"))
    async with listening(make_broker(metadata=FixedMetadata(IMAGE))) as listener:
        client = await Client.connect(listener.port)
        response: ApiVersionsResponse = await client.call(request, version)
        await client.close()
        return response


@pytest.mark.parametrize("version", range(6))
def test_what_the_table_lists_is_advertised(version: int) -> None:
    response = run(ask(version))
    listed = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
    assert listed == {key: (api.advertised_min, api.max_version) for key, api in APIS.items()}
    assert listed[0] == (0, 13), "librdkafka wants to see Produce from 0 on"
    assert response.error_code == 0


@pytest.mark.parametrize("version", range(6))
def test_features_that_may_be_off_are_for_clients_that_know_of_them(version: int) -> None:
    response = run(ask(version))
    supported = {item.name: (item.min_version, item.max_version) for item in response.supported_features}
    finalized = {item.name: (item.min_version_level, item.max_version_level) for item in response.finalized_features}
    if version < 3:
        assert (supported, finalized) == ({}, {})
    else:
        assert supported == (FEATURES if version >= 4 else {"metadata.version": (7, 30)})
        served = {name: (level, level) for name, level in IMAGE.features.items() if name in SUPPORTED_FEATURES}
        assert finalized == {**served, "kraft.version": (1, 1)}, "of features, what is served"
        assert response.finalized_features_epoch == 12


@pytest.mark.parametrize(
    ("name", "version", "good"),
    [
        ("librdkafka", "2.3.0", True),
        ("a", "1", True),
        ("apache-kafka-java", "4.4.0-SNAPSHOT", True),
        ("", "1", False),
        ("-dash", "1", False),
        ("dash-", "1", False),
        ("with space", "1", False),
        ("name", "1\n", False),
        ("name", "ü", False),
    ],
)
def test_names_of_client_software_must_be_plain(name: str, version: str, good: bool) -> None:
    response = run(ask(3, client_software_name=name, client_software_version=version))
    assert response.error_code == (0 if good else ErrorCode.INVALID_REQUEST)
    assert bool(response.api_keys) == good


@pytest.mark.parametrize(
    ("cluster_id", "node_id", "welcome"),
    [(None, -1, True), ("cluster", NODE_ID, True), ("other", NODE_ID, False), ("cluster", NODE_ID + 1, False)],
)
def test_a_client_that_meant_another_broker_is_sent_back_to_its_bootstrap_servers(
    cluster_id: str | None, node_id: int, welcome: bool
) -> None:
    response = run(ask(5, cluster_id=cluster_id, node_id=node_id))
    assert response.error_code == (0 if welcome else ErrorCode.REBOOTSTRAP_REQUIRED)

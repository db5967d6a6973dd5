"""A broker without a controller and a node with one: what clients ask the first is carried out by the second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import decode, encode
from ottla.protocol.headers import encode_request_header
from ottla.protocol.message import Response
from ottla.protocol.messages.alter_configs import AlterConfigsRequest
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest
from ottla.protocol.messages.envelope import EnvelopeRequest, EnvelopeResponse
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.principal_data import DefaultPrincipalData
from ottla.schema.listeners import Listener as ListenerAddress
from ottla.server.broker.api_table import APIS, CONTROLLER_APIS
from ottla.server.broker.broker import Broker, CloseConnectionError, RequestContext
from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.controller_channel import ControllerChannel
from ottla.server.broker.dispatch import Router
from ottla.server.broker.forwarding import forward
from ottla.server.broker.listener import Listener
from ottla.server.broker.principals import (
    UNKNOWN_TOKEN,
    address_bytes,
    address_of,
    introduce,
    principal_bytes,
    principal_of,
)
from ottla.server.controller.service import Controller
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.peers.peers import Peers
from ottla.server.raft.opening import open_metadata_log
from ottla.server.security.groups import GROUPS_TAG
from ottla.server.security.session import Session
from tests.server.broker.support import Client
from tests.server.controller.worlds import registration
from tests.server.peers.fake_node import FakeNode
from tests.server.raft.worlds import DIRECTORY, VOTER, config, new_env

TOPIC, BROKER, LOGGER = ConfigResourceType.TOPIC, ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER
BROKER_ID = 2


class Locator:
    """Who leads, as the test says."""

    def __init__(self, address: tuple[str, int] | None) -> None:
        self.address = address
        self.kraft_version = 1

    def leader_address(self) -> tuple[str, int] | None:
        return self.address


class World:
    """Node 1 has the controller, listening; node 2 is a broker that shares its image, and has a listener for clients.

    `seen` is what the controller's handlers were asked, and by whom.
    """

    def __init__(self, controller: Broker, controllers: Listener, broker: Broker, clients: Listener) -> None:
        self.controller, self.controllers = controller, controllers
        self.broker, self.clients = broker, clients
        self.seen: list[tuple[str, RequestContext]] = []
        controllers.router.intercept(self._note)

    def _note(self, route: Any, handle: Any, broker: Broker, request: Any, context: RequestContext) -> Any:
        if route.api.key != ApiKey.API_VERSIONS:
            self.seen.append((route.api.name, context))
        return handle(broker, request, context)

    async def client(self) -> Client:
        return await Client.connect(self.clients.port)


def run(test: Callable[[World], Coroutine[Any, Any, None]], **settings: object) -> None:
    async def main() -> None:
        env = new_env()
        configuration = config(**settings)
        log, bootstrap = open_metadata_log(configuration, env, DIRECTORY, VOTER)
        metadata = ClusterMetadata(configuration, env, node_id=VOTER.node_id)
        controller = Controller(configuration, env, log, metadata, bootstrap=bootstrap)
        await log.start(metadata)
        await controller.register_own_broker(registration())
        parts: dict[str, Any] = {
            "cluster_id": "cluster",
            "config": configuration,
            "env": env,
            "metadata": metadata,
            "replicas": None,
            "log_directories": None,
            "coordinators": None,
        }
        first = Broker(node_id=1, metadata_log=log, controller=controller, **parts)
        limits = ConnectionLimits.from_config(configuration)
        first.controller_router = Router(CONTROLLER_APIS)
        controllers = Listener(
            first, ListenerAddress("CONTROLLER", "PLAINTEXT", "127.0.0.1", 0), first.controller_router, limits
        )
        await controllers.start()
        locator: Any = Locator(("127.0.0.1", controllers.port))
        second = Broker(node_id=BROKER_ID, metadata_log=locator, controller=None, **parts)
        peers = Peers(client_id="ottla-2")
        second.channel = ControllerChannel(lambda: peers, locator, Random(1))
        clients = Listener(second, ListenerAddress("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 0), Router(), limits)
        await clients.start()
        try:
            await asyncio.wait_for(test(World(first, controllers, second, clients)), 30)
        finally:
            await clients.close(1.0)
            await peers.close()
            await controllers.close(1.0)
            await controller.stop()
            await log.stop()

    asyncio.run(main())


def new_topic(name: str, partitions: int = 1) -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=[CreatableTopic(name=name, num_partitions=partitions, replication_factor=1)])


@pytest.mark.parametrize("version", range(2, 8))
def test_client_hears_what_the_controller_says(version: int) -> None:
    async def test(world: World) -> None:
        client = await world.client()
        made = await client.call(new_topic("a", 3), version)
        again = await client.call(new_topic("a", 3), version)
        assert [one.topics[0].error_code for one in (made, again)] == [0, ErrorCode.TOPIC_ALREADY_EXISTS]
        assert len(world.broker.image.topics.by_name["a"].partitions) == 3
        assert [name for name, _ in world.seen] == ["Envelope", "CreateTopics"] * 2
        await client.close()

    run(test)


def test_controller_acts_in_the_name_of_the_client() -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await client.call(new_topic("a"), 7)
        (_, envelope), (_, inner) = world.seen
        assert envelope.client_id == "ottla-2"
        assert (inner.client_id, inner.principal, inner.client_host) == ("test", "User:ANONYMOUS", "127.0.0.1")
        assert (inner.listener_name, inner.api_version, inner.is_for_controller) == ("CONTROLLER", 7, True)
        await client.close()

    run(test)


def test_several_clients_at_once_get_each_its_own_answer() -> None:
    async def test(world: World) -> None:
        clients = [await world.client() for _ in range(5)]
        answers = await asyncio.gather(
            *(client.call(new_topic(f"t{number}"), 7) for number, client in enumerate(clients))
        )
        assert [answer.topics[0].name for answer in answers] == [f"t{number}" for number in range(5)]
        assert not any(answer.topics[0].error_code for answer in answers)
        for client in clients:
            await client.close()

    run(test)


def test_refusal_of_the_whole_request_is_in_the_words_of_its_api() -> None:
    async def test(world: World) -> None:
        client = await world.client()
        response = await client.call(DeleteTopicsRequest(topic_names=["nope"]), 5)
        assert [(one.name, one.error_code) for one in response.responses] == [
            ("nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        ]
        await client.close()

    run(test)


def test_topics_named_for_the_first_time_are_made_by_the_controller() -> None:
    async def test(world: World) -> None:
        client = await world.client()
        request = MetadataRequest(topics=[MetadataRequestTopic(name="new")], allow_auto_topic_creation=True)
        response = await client.call(request, 12)
        assert [(one.name, one.error_code, len(one.partitions)) for one in response.topics] == [("new", 0, 4)]
        assert [name for name, _ in world.seen] == ["Envelope", "CreateTopics"]
        await client.close()

    run(test, num_partitions=4)


def test_topic_that_nobody_can_make_is_unknown() -> None:
    async def test(world: World) -> None:
        world.broker.metadata_log.address = None  # type: ignore[attr-defined]
        client = await world.client()
        request = MetadataRequest(topics=[MetadataRequestTopic(name="new")], allow_auto_topic_creation=True)
        response = await client.call(request, 12)
        assert response.topics[0].error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        assert response.brokers
        await client.close()

    run(test, request_timeout_ms=100)


def test_without_a_controller_the_request_times_out() -> None:
    async def test(world: World) -> None:
        world.broker.metadata_log.address = None  # type: ignore[attr-defined]
        client = await world.client()
        response = await client.call(new_topic("a"), 7)
        assert response.topics[0].error_code == ErrorCode.REQUEST_TIMED_OUT
        await client.close()

    run(test, request_timeout_ms=100)


def alter(*resources: tuple[int, str, str, str]) -> IncrementalAlterConfigsRequest:
    return IncrementalAlterConfigsRequest(
        resources=[
            AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[AlterableConfig(name=key, config_operation=0, value=value)],
            )
            for kind, name, key, value in resources
        ]
    )


def test_loggers_are_changed_here_and_all_else_where_the_controller_is() -> None:
    async def test(world: World) -> None:
        client = await world.client()
        await client.call(new_topic("a"), 7)
        world.seen.clear()
        request = alter(
            (LOGGER, "1", "ottla.nobody", "INFO"),
            (TOPIC, "a", "retention.ms", "7"),
            (BROKER, "1", "log.cleaner.threads", "2"),
            (BROKER, "2", "log.cleaner.threads", "2"),
            (TOPIC, "nope", "retention.ms", "7"),
            (LOGGER, "2", "ottla.nobody", "LOUD"),
        )
        response = await client.call(request, 1)
        refused = ErrorCode.INVALID_REQUEST
        assert [one.error_code for one in response.responses] == [
            refused,
            0,
            refused,
            0,
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            ErrorCode.INVALID_CONFIG,
        ]
        assert [one.resource_name for one in response.responses] == ["1", "a", "1", "2", "nope", "2"]
        assert world.broker.image.config_of(TOPIC, "a") == {"retention.ms": "7"}
        assert world.broker.image.config_of(BROKER, "2") == {"log.cleaner.threads": "2"}
        assert [name for name, _ in world.seen] == ["Envelope", "IncrementalAlterConfigs"]
        world.seen.clear()
        only_here = await client.call(alter((LOGGER, "1", "ottla.nobody", "INFO")), 1)
        assert only_here.responses[0].error_code == refused
        assert not world.seen
        assert (await client.call(AlterConfigsRequest(), 2)).responses == []
        await client.close()

    run(test)


def test_controller_is_asked_for_settings_of_any_broker() -> None:
    async def test(world: World) -> None:
        client = await Client.connect(world.controllers.port)
        request = alter((BROKER, "7", "log.cleaner.threads", "2"), (LOGGER, "7", "ottla.nobody", "INFO"))
        response = await client.call(request, 1)
        assert [one.error_code for one in response.responses] == [0, ErrorCode.INVALID_REQUEST]
        await client.close()

    run(test)


def test_each_kind_of_listener_offers_its_own() -> None:
    async def test(world: World) -> None:
        for port, apis in ((world.controllers.port, CONTROLLER_APIS), (world.clients.port, APIS)):
            client = await Client.connect(port)
            request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
            response = await client.call(request, 4)
            assert {one.api_key for one in response.api_keys} == set(apis)
            assert "metadata.version" in {one.name for one in response.supported_features}
            await client.close()
        client = await Client.connect(world.clients.port)
        client.send(EnvelopeRequest(), 0)
        assert await client.is_closed(), "clients may speak in their own name only"
        await client.close()

    run(test)


@pytest.mark.parametrize(
    ("to_controller", "endpoint_type", "version", "code"),
    [
        (False, 1, 2, ErrorCode.NONE),
        (True, 2, 2, ErrorCode.NONE),
        (True, 1, 2, ErrorCode.MISMATCHED_ENDPOINT_TYPE),
        (False, 2, 1, ErrorCode.MISMATCHED_ENDPOINT_TYPE),
        (False, 3, 1, ErrorCode.UNSUPPORTED_ENDPOINT_TYPE),
        (True, 1, 0, ErrorCode.INVALID_REQUEST),
    ],
)
def test_nodes_describe_those_of_their_kind(
    to_controller: bool, endpoint_type: int, version: int, code: ErrorCode
) -> None:
    async def test(world: World) -> None:
        client = await Client.connect(world.controllers.port if to_controller else world.clients.port)
        response = await client.call(DescribeClusterRequest(endpoint_type=endpoint_type), version)
        assert response.error_code == code
        if not code:
            assert response.endpoint_type == endpoint_type
            assert [one.broker_id for one in response.brokers] == ([] if to_controller else [1])
        await client.close()

    run(test)


# The envelope itself


def envelope(
    request: Any, version: int, *, principal: bytes | None = principal_bytes("User:alice"), host: bytes = bytes(4)
) -> EnvelopeRequest:
    header = encode_request_header(request.API_KEY, version, 77, "alice's client")
    return EnvelopeRequest(
        request_data=header + encode(request, version), request_principal=principal, client_host_address=host
    )


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (envelope(new_topic("a"), 7), ErrorCode.NONE),
        (envelope(new_topic("a"), 7, host=address_bytes("::1")), ErrorCode.NONE),
        (envelope(new_topic("a"), 7, host=b"abc"), ErrorCode.INVALID_REQUEST),
        (envelope(new_topic("a"), 7, principal=None), ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE),
        (envelope(new_topic("a"), 7, principal=b"\0\1"), ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE),
        (envelope(new_topic("a"), 7, principal=b"\0\0\xff"), ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE),
        (envelope(MetadataRequest(), 12), ErrorCode.INVALID_REQUEST),
        (
            EnvelopeRequest(
                request_data=encode_request_header(19, 99, 1, None),
                request_principal=principal_bytes("User:a"),
                client_host_address=bytes(4),
            ),
            ErrorCode.UNSUPPORTED_VERSION,
        ),
        (
            EnvelopeRequest(
                request_data=b"\0", request_principal=principal_bytes("User:a"), client_host_address=bytes(4)
            ),
            ErrorCode.UNSUPPORTED_VERSION,
        ),
    ],
)
def test_refused_envelopes(sent: EnvelopeRequest, code: ErrorCode) -> None:
    async def test(world: World) -> None:
        client = await Client.connect(world.controllers.port)
        response = await client.call(sent, 0)
        assert response.error_code == code
        assert (response.response_data is None) == bool(code)
        if not code:
            data = bytes(response.response_data)
            assert data[:5] == b"\0\0\0\x4d\0"
            assert decode(CreateTopicsResponse, 7, data, 5).topics[0].name == "a"
            inner = world.seen[1][1]
            assert (inner.principal, inner.client_id) == ("User:alice", "alice's client")
            assert inner.client_host in ("0.0.0.0", "::1")
        await client.close()

    run(test)


def test_controller_that_is_not_active_sends_the_broker_on() -> None:
    async def test(world: World) -> None:
        world.controller.controller._resign()
        client = await Client.connect(world.controllers.port)
        response = await client.call(envelope(new_topic("a"), 7), 0)
        assert response.error_code == ErrorCode.NOT_CONTROLLER
        await client.close()

    run(test)


def introduced(data: bytes) -> RequestContext:
    context = RequestContext()
    introduce(context, data)
    return context


def test_groups_and_tokens_of_a_login_come_along() -> None:
    groups = ("staff", "night shift", "a\0b", 'quoted "name"', "größe")
    context = introduced(principal_bytes("User:alice", Session("User:alice", groups, mechanism="PLAIN")))
    assert context.principal == "User:alice"
    assert context.session == Session("User:alice", groups)
    context = introduced(principal_bytes("User:alice", Session("User:alice", token_id="secret")))
    assert context.session is not None
    assert (context.session.groups, context.session.token_id) == ((), UNKNOWN_TOKEN)
    assert introduced(principal_bytes("User:alice", Session("User:alice"))).session is None
    assert introduced(principal_bytes("User:alice")).session is None
    assert principal_of(principal_bytes("User:alice", Session("User:alice", groups))) == "User:alice"


@pytest.mark.parametrize("groups", [b"[", b"5", b"\xff", b"[5]", b'"staff"', b"[" * 100_000])
def test_groups_that_cannot_be_read_are_refused(groups: bytes) -> None:
    data = DefaultPrincipalData(type="User", name="alice")
    data.unknown_tags = ((GROUPS_TAG, groups),)
    with pytest.raises(ApiError) as refused:
        introduced(b"\0\0" + encode(data, 0))
    assert refused.value.code == ErrorCode.PRINCIPAL_DESERIALIZATION_FAILURE


def test_principals_and_addresses_come_back_as_they_were() -> None:
    assert principal_bytes("User:alice") == b"\0\0\5User\6alice\0\0"
    assert principal_of(principal_bytes("User:a:b")) == "User:a:b"
    for host in ("127.0.0.1", "::1", "fe80::1"):
        assert address_of(address_bytes(host)) == host
    assert address_of(address_bytes("fe80::1%eth0")) == "fe80::1"
    assert address_of(address_bytes("simulated-host")) == "0.0.0.0"


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (EnvelopeResponse(error_code=ErrorCode.UNSUPPORTED_VERSION), CloseConnectionError),
        (EnvelopeResponse(error_code=ErrorCode.CLUSTER_AUTHORIZATION_FAILED), ErrorCode.UNKNOWN_SERVER_ERROR),
        (EnvelopeResponse(), ErrorCode.UNKNOWN_SERVER_ERROR),
        (EnvelopeResponse(response_data=b"\0\0\0\1\0"), ErrorCode.UNKNOWN_SERVER_ERROR),
        (EnvelopeResponse(response_data=b"\0\0\0\x63\0\1"), ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_what_the_client_hears_when_the_envelope_fails(answer: EnvelopeResponse, raised: Any) -> None:
    async def test(world: World) -> None:
        node = FakeNode(lambda request, version: answer)
        world.broker.metadata_log.address = await node.start()  # type: ignore[attr-defined]
        context = RequestContext(api_version=7, correlation_id=99)
        assert world.broker.channel is not None
        expected = ApiError if isinstance(raised, ErrorCode) else raised
        with pytest.raises(expected) as failure:
            await forward(world.broker.channel, world.broker, new_topic("a"), context)
        if isinstance(raised, ErrorCode):
            assert isinstance(failure.value, ApiError)
            assert failure.value.code == raised
        await node.stop()

    run(test)


def test_leadership_that_moves_meanwhile_is_followed() -> None:
    """The node asked is the controller, until it decides; then the other one is."""

    async def test(world: World) -> None:
        made: list[Any] = []

        def answer(request: Any, version: int) -> Response:
            made.append(request)
            response = CreateTopicsResponse(topics=[])
            return EnvelopeResponse(response_data=(5).to_bytes(4, "big") + b"\0" + encode(response, 7))

        node = FakeNode(answer)
        address = await node.start()
        locator = Locator(address)
        peers = Peers(client_id="ottla-1")
        world.controller.channel = ControllerChannel(lambda: peers, locator, Random(1))
        route = Router().find(ApiKey.CREATE_TOPICS, 7)
        context = RequestContext(api_version=7, correlation_id=5)
        request = new_topic("a")
        controller = world.controller.controller
        coroutine = route.handle(world.controller, request, context)
        controller._resign()
        assert (await coroutine).topics == []  # type: ignore[misc, union-attr]
        assert len(made) == 1
        await peers.close()
        await node.stop()

    run(test)

"""An authorizer that knows what it is told, and routes whose handlers only say that they were asked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ottla.core.acl import CLUSTER_NAME, AclOperation, ResourceType
from ottla.core.errors import ApiError
from ottla.protocol.codec import decode, encode
from ottla.server.broker.api_table import APIS, CONTROLLER_APIS
from ottla.server.broker.broker import Broker, RequestContext
from ottla.server.broker.dispatch import Route
from ottla.server.broker.permissions.table import guard
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage, PartitionImage, TopicImage, TopicsImage
from ottla.server.security.authorizer import Authorizer
from tests.server.broker.support import FixedMetadata, make_broker

Permission = tuple[AclOperation, ResourceType, str]

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
TRANSACTIONAL_ID = ResourceType.TRANSACTIONAL_ID
READ, WRITE, CREATE, DELETE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.DELETE
ALTER, DESCRIBE, CLUSTER_ACTION = AclOperation.ALTER, AclOperation.DESCRIBE, AclOperation.CLUSTER_ACTION
DESCRIBE_CONFIGS, ALTER_CONFIGS = AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS
FEATURES = {"share.version": 1, "group.version": 1, "streams.version": 1}


class ToldAuthorizer(Authorizer):
    """Allows what is in `allowed` to everybody, and to `admin` everything."""

    def __init__(self, allowed: Iterable[Permission] = ()) -> None:
        super().__init__({})
        self.allowed = set(allowed)
        self.asked: list[Permission] = []
        self.version = 0

    def authorize(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
        name: str,
    ) -> bool:
        self.asked.append((operation, resource_type, name))
        return principal == "User:admin" or (operation, resource_type, name) in self.allowed

    def allow(self, *permissions: Permission) -> None:
        self.allowed.update(permissions)
        assert self.version is not None
        self.version += 1


def on(operation: AclOperation, resource_type: ResourceType, *names: str) -> list[Permission]:
    """Permissions for an operation on each of the names; for one on the cluster none is needed."""
    return [(operation, resource_type, name) for name in names or (CLUSTER_NAME,)]


def id_of(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def image_of(*names: str, partitions: int = 1) -> MetadataImage:
    """Topics with these names, led by broker 1, and all kinds of groups enabled."""
    all_of = {index: PartitionImage((1,), (1,), 1, 0, 0) for index in range(partitions)}
    by_name = {name: TopicImage(name, id_of(name), all_of) for name in names}
    topics = TopicsImage(by_name, {topic.topic_id: topic for topic in by_name.values()})
    return EMPTY_IMAGE._replace(topics=topics, features=FEATURES)


class Guarded:
    """A broker whose handlers answer with `answer`, behind the checks of the table. `seen` is what came to them."""

    def __init__(
        self,
        *allowed: Permission,
        image: MetadataImage | None = None,
        answer: Callable[[Any], Any] | None = None,
        settings: dict[str, object] | None = None,
    ) -> None:
        self.authorizer = ToldAuthorizer(allowed)
        metadata = FixedMetadata(image or image_of("orders", "secrets"))
        self.broker: Broker = make_broker(settings, metadata=metadata)
        self.broker.authorizer = self.authorizer
        self.seen: list[Any] = []
        self._answer = answer

    def ask(
        self, request: Any, version: int | None = None, *, at_controller: bool = False, principal: str = "User:alice"
    ) -> Any:
        """The response as a client reads it, also when it refuses the whole; None when there is none."""
        return asyncio.run(self._ask(request, version, at_controller, principal))

    async def _ask(self, request: Any, version: int | None, at_controller: bool, principal: str) -> Any:
        apis = CONTROLLER_APIS if at_controller else APIS
        api = apis[request.API_KEY]
        version = api.max_version if version is None else version
        route = Route(api, version)
        route.handle = self._handle
        guard(route)
        context = RequestContext(principal=principal, client_host="10.0.0.1", api_version=version)
        context.apis = apis
        request = decode(type(request), version, encode(request, version))
        try:
            response = route.handle(self.broker, request, context)
            if inspect.isawaitable(response):
                response = await response
            elif hasattr(response, "outcome"):
                response = await response.outcome()
        except ApiError as error:
            response = route.failure(request, context, error)
        if response is None:
            return None
        return decode(type(response), version, encode(response, version))

    def _handle(self, broker: Broker, request: Any, context: RequestContext) -> Any:
        self.seen.append(request)
        if self._answer is not None:
            return self._answer(request)
        api = (CONTROLLER_APIS if context.is_for_controller else APIS)[request.API_KEY]
        return Route(api, context.api_version).response_class()


class PluggedAuthorizer(ToldAuthorizer):
    """The same as a plug-in of a node, with which everybody may do everything at first."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        super().__init__()
        self.is_open = True

    def authorize(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
        name: str,
    ) -> bool:
        return super().authorize(principal, groups, host, operation, resource_type, name) or self.is_open

    def close(self, *allowed: Permission) -> None:
        """From now on nobody may do more than this."""
        self.is_open = False
        self.allowed = set(allowed)
        self.allow()


PLUGIN = f"{__name__}:{PluggedAuthorizer.__name__}"

"""What handlers ask that know more than the request tells: of fetch sessions, of what members subscribe to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.server.broker.authorization import (
    CLUSTER_NAME,
    AclOperation,
    ResourceType,
    allowed_names,
    allows,
    allows_cluster,
    tell_allowed,
)
from ottla.server.broker.permissions.checks import DENIED
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


class Visible:
    """A look-up of topics in which those that the client may not read are not found."""

    __slots__ = ("_denied", "_find")

    def __init__(self, find: Callable[[Any], Any], denied: frozenset[str | bytes]) -> None:
        self._find = find
        self._denied = denied

    def get(self, topic: Any) -> Any:
        """The topic by its name or id; None when it is hidden, or not there."""
        return None if topic in self._denied else self._find(topic)


def denied_topics(broker: Broker, context: RequestContext, topics: Iterable[str | bytes]) -> frozenset[str | bytes]:
    """Those of the topics, by name or by id, that the client may not read. Ids of no topic are not among them."""
    name_of = broker.image.topics.name_of
    denied = set()
    for topic in set(topics):
        name = name_of(topic) if isinstance(topic, bytes) else topic
        if name is not None and not allows(broker, context, AclOperation.READ, ResourceType.TOPIC, name):
            denied.add(topic)
    return frozenset(denied)


def asker(broker: Broker, context: RequestContext, operation: AclOperation) -> Callable[[str], bool] | None:
    """Whether this client may do something with topics, for who wants to know after the request; None: it may."""
    authorizer = broker.authorizer
    if authorizer is None or context.is_internal:
        return None
    principal, host = context.principal, context.client_host
    groups = context.session.groups if context.session is not None else ()
    return lambda name: authorizer.authorize(principal, groups, host, operation, ResourceType.TOPIC, name)


def not_creatable(broker: Broker, context: RequestContext, names: Iterable[str]) -> list[str]:
    """Those of the topics that the client may not create, though it may describe them."""
    names = list(names)
    if allows_cluster(broker, context, AclOperation.CREATE, audited=False):
        tell_allowed(broker, context, AclOperation.CREATE, ResourceType.TOPIC, names)
        return []
    allowed = allowed_names(broker, context, AclOperation.CREATE, ResourceType.TOPIC, names)
    return [name for name in names if name not in allowed]


def settings_of(broker: Broker, resource: Any) -> tuple[ResourceType, str] | None:
    """What one needs permission for to see or change the settings of a resource; None: there is no such resource."""
    kind = resource.resource_type
    if kind == ConfigResourceType.TOPIC:
        return ResourceType.TOPIC, resource.resource_name
    if kind == ConfigResourceType.GROUP:
        return ResourceType.GROUP, resource.resource_name
    if kind in (ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER, ConfigResourceType.CLIENT_METRICS):
        return ResourceType.CLUSTER, CLUSTER_NAME
    return None


def refused_alteration(broker: Broker, context: RequestContext, resource: Any) -> ErrorCode | None:
    """Why the client may not change the settings of a resource. Loggers of controllers are the cluster's own affair."""
    found = settings_of(broker, resource)
    if found is None:
        return None
    operation = AclOperation.ALTER_CONFIGS
    if context.is_for_controller and resource.resource_type == ConfigResourceType.BROKER_LOGGER:
        operation = AclOperation.CLUSTER_ACTION
    return None if allows(broker, context, operation, *found) else DENIED[found[0]]

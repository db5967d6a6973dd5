"""What handlers ask before they do something: may this client do that?

Without an authorizer the answer is yes, and costs one comparison; handlers on the hot path make it themselves
(`broker.authorizer is None`). What this node asks of itself is not checked.

An authorizer decides about one resource at a time; an answer about many topics has some of each, so handlers ask for
the names that are allowed, and refuse the others one by one. Decisions are told to the audit log, except those that
only filter what is shown or tell clients what they could do: those are no attempts.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final, Literal

from ottla.core.acl import CLUSTER_NAME, AclOperation, ResourceType, all_operations
from ottla.core.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

logger = logging.getLogger(__name__)

_MOST_REFUSED_NODES = 100
"""Told of in the log; who asks under ever new names must not fill it."""

__all__ = [
    "CLUSTER_NAME",
    "IF_ALLOWED",
    "AclOperation",
    "ResourceType",
    "allowed_names",
    "allows",
    "allows_any",
    "allows_cluster",
    "operations_of",
    "require_cluster",
    "tell_allowed",
    "tell_changes",
]

IF_ALLOWED: Final = "if allowed"
"""For `audited`: a question of which only the yes is of interest; after a no something else is asked."""

Audited = bool | Literal["if allowed"]


def allows(
    broker: Broker,
    context: RequestContext,
    operation: AclOperation,
    resource_type: ResourceType,
    name: str,
    *,
    audited: Audited = True,
) -> bool:
    """Whether the client may do this with one resource. `audited`: it is an attempt, which the audit log may tell.

    Raises AuthorizerNotReadyError, which answers the whole request.
    """
    authorizer = broker.authorizer
    if authorizer is None or context.is_internal:
        return True
    session = context.session
    groups = session.groups if session is not None else ()
    allowed = authorizer.authorize(context.principal, groups, context.client_host, operation, resource_type, name)
    if allowed:
        authorizer.allowed_count += 1
    else:
        authorizer.denied_count += 1
    if audited is True or (audited and allowed):
        if broker.audit is not None:
            broker.audit.authorization(context, operation, resource_type, name, allowed)
        if not allowed and operation == AclOperation.CLUSTER_ACTION:
            _tell_refused_node(broker, context)
    return allowed


def _tell_refused_node(broker: Broker, context: RequestContext) -> None:
    """Once for each principal: where this is a node of the cluster, the cluster does not work until somebody acts."""
    known = broker.refused_nodes
    if context.principal not in known and len(known) < _MOST_REFUSED_NODES:
        known.add(context.principal)
        logger.error(
            "%r at %s asks as nodes of the cluster do, and may not; if it is one, name it in super.users of every "
            "node, or give it an ACL: ottla acls allow %r cluster-action cluster",
            context.principal,
            context.client_host,
            context.principal,
        )


def allowed_names(
    broker: Broker,
    context: RequestContext,
    operation: AclOperation,
    resource_type: ResourceType,
    names: Iterable[str],
    *,
    audited: Audited = True,
) -> Collection[str]:
    """Those of the resources that the client may do this with; without an authorizer `names` as they are.

    Good for `in`; the order is that of `names`.
    """
    if broker.authorizer is None or context.is_internal:
        return names if isinstance(names, Collection) else list(names)
    return {
        name: None
        for name in dict.fromkeys(names)
        if allows(broker, context, operation, resource_type, name, audited=audited)
    }


def tell_allowed(
    broker: Broker, context: RequestContext, operation: AclOperation, resource_type: ResourceType, names: Iterable[str]
) -> None:
    """Tell the audit log what is done by a permission on the whole cluster, which names nothing."""
    if broker.audit is not None and broker.authorizer is not None and not context.is_internal:
        for name in names:
            broker.audit.authorization(context, operation, resource_type, name, True, "by permission on the cluster")


def tell_changes(broker: Broker, context: RequestContext, changes: Iterable[str]) -> None:
    """To the audit log: what was changed, where the resource that was asked for does not say it."""
    if broker.audit is not None and not context.is_internal:
        for what in changes:
            broker.audit.change(context, what)


def allows_cluster(
    broker: Broker, context: RequestContext, operation: AclOperation, *, audited: Audited = True
) -> bool:
    """Whether the client may do this with the cluster."""
    return allows(broker, context, operation, ResourceType.CLUSTER, CLUSTER_NAME, audited=audited)


def require_cluster(broker: Broker, context: RequestContext, operation: AclOperation) -> None:
    """Raises ApiError CLUSTER_AUTHORIZATION_FAILED when the client may not do this with the cluster."""
    if not allows(broker, context, operation, ResourceType.CLUSTER, CLUSTER_NAME):
        raise ApiError(
            ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
            f"{context.principal} needs {operation.name} permission on the cluster.",
        )


def allows_any(broker: Broker, context: RequestContext, operation: AclOperation, resource_type: ResourceType) -> bool:
    """Whether the client may do this with any resource of that type at all (KIP-679)."""
    authorizer = broker.authorizer
    if authorizer is None or context.is_internal:
        return True
    groups = context.session.groups if context.session is not None else ()
    return authorizer.authorize_by_resource_type(
        context.principal, groups, context.client_host, operation, resource_type
    )


def operations_of(broker: Broker, context: RequestContext, resource_type: ResourceType, name: str) -> int:
    """All that the client may do with the resource, as the bit field of `authorized_operations` (KIP-430)."""
    authorizer = broker.authorizer
    if authorizer is None or context.is_internal:
        return all_operations(resource_type)
    groups = context.session.groups if context.session is not None else ()
    return authorizer.operations(context.principal, groups, context.client_host, resource_type, name)

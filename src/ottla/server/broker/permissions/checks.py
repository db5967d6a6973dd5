"""The kinds of checks: on the whole request, on each thing in it, on what the answer shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.authorization import (
    IF_ALLOWED,
    AclOperation,
    ResourceType,
    allowed_names,
    allows,
    allows_cluster,
)
from ottla.server.broker.broker import DelayedResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Handle, Route

DENIED = {
    ResourceType.TOPIC: ErrorCode.TOPIC_AUTHORIZATION_FAILED,
    ResourceType.GROUP: ErrorCode.GROUP_AUTHORIZATION_FAILED,
    ResourceType.CLUSTER: ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ResourceType.TRANSACTIONAL_ID: ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ResourceType.DELEGATION_TOKEN: ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
}

Resource = tuple[ResourceType, str]
ResourceOf = Callable[["Broker", Any], Resource | None]
"""The resource that an item of a request is about; None: the handler has something else to say of it."""


class Check(Protocol):
    """Stands in front of a handler, which it may call."""

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """The response, as a handler gives it. Raises ApiError."""


@dataclass(frozen=True, slots=True)
class Within:
    """The handler asks by itself; `text` says for what."""

    text: str

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Nothing is in the way."""
        return handle(broker, request, context)


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Everybody may ask; `why` they may."""

    why: str

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Nothing is in the way."""
        return handle(broker, request, context)


@dataclass(frozen=True, slots=True)
class First:
    """`check` raises ApiError for what is wrong whoever asks, so that it is said before anything else."""

    check: Callable[[Broker, Any, RequestContext], None]

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Let it through, or refuse it."""
        self.check(broker, request, context)
        return handle(broker, request, context)


class Cluster:
    """The request needs one of these operations on the cluster."""

    __slots__ = ("operations",)

    def __init__(self, *operations: AclOperation) -> None:
        self.operations = operations

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Let it through, or refuse all of it."""
        last = self.operations[-1]
        for operation in self.operations:
            # Only the last refusal is one: the others are questions.
            if allows_cluster(broker, context, operation, audited=operation is last or IF_ALLOWED):
                return handle(broker, request, context)
        raise ApiError(
            ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
            f"{context.principal} needs {last.name} permission on the cluster.",
        )


@dataclass(frozen=True, slots=True)
class Named:
    """The request needs an operation on the one resource that it names in `field`."""

    resource_type: ResourceType
    operation: AclOperation
    field: str

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Let it through, or refuse all of it."""
        # A null name is nobody's resource.
        if not allows(broker, context, self.operation, self.resource_type, getattr(request, self.field) or ""):
            raise ApiError(DENIED[self.resource_type])
        return handle(broker, request, context)


@dataclass(frozen=True, slots=True)
class All:
    """The request needs an operation on every topic that `names` finds in it."""

    operation: AclOperation
    names: Callable[[Any], Iterable[str]]

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Let it through, or refuse all of it."""
        names = set(self.names(request))
        if names and len(allowed_names(broker, context, self.operation, ResourceType.TOPIC, sorted(names))) < len(
            names
        ):
            raise ApiError(ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        return handle(broker, request, context)


@dataclass(frozen=True, slots=True)
class Each:
    """Each item of the request needs an operation on its resource; those without it are refused one by one.

    The items are in the request's field `items`, their answers in the response's field `answers`. `unless`: with this
    operation on the cluster, no item is looked at. `explained`: a refusal has a text. `refuse` makes the answer of
    an item where the API's refusal is for the whole; then the handler is asked even if no item is left, because it has
    something to say of the whole.
    """

    operation: AclOperation
    items: str
    answers: str
    resource_of: ResourceOf
    unless: AclOperation | None = None
    explained: bool = False
    refuse: Callable[[Any, ErrorCode], Any] | None = None

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Have the rest of it handled."""
        if context.is_internal or (self.unless and allows_cluster(broker, context, self.unless, audited=IF_ALLOWED)):
            return handle(broker, request, context)
        decided: dict[Resource | None, bool] = {None: True}
        kept: list[Any] = []
        denied: dict[ErrorCode, list[Any]] = {}
        for item in getattr(request, self.items) or ():
            resource = self.resource_of(broker, item)
            if resource not in decided:
                assert resource is not None
                decided[resource] = allows(broker, context, self.operation, *resource)
            if decided[resource]:
                kept.append(item)
            else:
                assert resource is not None
                denied.setdefault(DENIED[resource[0]], []).append(item)
        if not denied:
            return handle(broker, request, context)
        refused: list[Any] = []
        for code, items in denied.items():
            if self.refuse is not None:
                refused += [self.refuse(item, code) for item in items]
                continue
            text = code.message if self.explained else None
            refused += refusals(route, with_field(request, self.items, items), context, code, self.answers, text)
        if not kept and self.refuse is None:
            return route.response_class(**{self.answers: refused})
        response = handle(broker, with_field(request, self.items, kept), context)
        return then(response, partial(with_more, self.answers, refused))


@dataclass(frozen=True, slots=True)
class Shown:
    """What the answer may show; `change` takes out the rest of it."""

    change: Callable[[Broker, RequestContext, Any, Any], Any]
    """(broker, context, request, response) → response."""

    def __call__(self, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext) -> Any:
        """Have it answered first."""
        response = handle(broker, request, context)
        return response if context.is_internal else then(response, partial(self.change, broker, context, request))


def by_name(resource_type: ResourceType, field: str | None = None) -> ResourceOf:
    """Items that are names, or have theirs in a field."""
    if field is None:
        return lambda broker, item: (resource_type, item)
    name_of = attrgetter(field)
    return lambda broker, item: (resource_type, name_of(item))


def then(response: Any, change: Callable[[Any], Any]) -> Any:
    """What a handler gave, changed when it is there. No answer stays none."""
    if response is None:
        return None
    if isinstance(response, DelayedResponse):
        return _then_delayed(response, change)
    if isinstance(response, Awaitable):
        return _then_awaited(response, change)
    return change(response)


def _then_delayed(inner: DelayedResponse, change: Callable[[Any], Any]) -> DelayedResponse:
    outer = DelayedResponse(inner.cancel)

    def arrived(done: DelayedResponse) -> None:
        if done.error is not None:
            outer.fail(done.error)
        else:
            outer.respond_with(lambda: change(done.response))

    if inner.done:
        arrived(inner)
    else:
        inner.on_done = arrived
    return outer


async def _then_awaited(response: Awaitable[Any], change: Callable[[Any], Any]) -> Any:
    return then(await response, change)


def refusals(
    route: Route, request: Any, context: RequestContext, code: ErrorCode, field: str, text: str | None = None
) -> list[Any]:
    """How the API refuses each item of a request: what its answer has in `field` then."""
    response: Any = route.error_response(request, context, code, text)
    found: list[Any] = getattr(response, field)
    return found


def with_field(message: Any, field: str, value: Any) -> Any:
    """The message with another value in one field."""
    changed = copy(message)
    setattr(changed, field, value)
    return changed


def with_more(field: str, more: Sequence[Any], response: Any) -> Any:
    """The response with further answers; one that refuses the whole needs none."""
    if getattr(response, "error_code", 0):
        return response
    return with_field(response, field, [*getattr(response, field), *more])

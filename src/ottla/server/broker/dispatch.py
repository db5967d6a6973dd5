"""From a request's (key, version) to the functions that decode, handle and encode it, found once and kept."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib import import_module
from struct import Struct
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import Decoder, Encoder, decoder, encoder
from ottla.protocol.headers import response_header_version
from ottla.server.broker.api_table import APIS, Api
from ottla.server.broker.request_metrics import RequestMetrics, error_counter

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.request_log import RequestLog

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    Handle = Callable[[Broker, Any, RequestContext], Any | Awaitable[Any] | None]
    Interceptor = Callable[["Route", Handle, Broker, Any, RequestContext], Any | Awaitable[Any] | None]
    """Answers a request in the place of the route's handler, which it may call. See `Handler` for what it returns."""
    Guard = Callable[["Route"], None]
    """Puts checks of permissions in front of a route's handler (`ottla.server.broker.permissions`)."""

# Size and correlation id; then, in the newer form, an empty tag section.
_PACK_HEADER = Struct(">ii").pack
_PACK_TAGGED_HEADER = Struct(">iix").pack


class UnsupportedRequestError(Exception):
    """A request for an API or a version that is not served: the connection is closed, as Kafka does."""


class Route:
    """One API in one version.  `requests` counts what came in, `failures` the handler's unexpected errors."""

    __slots__ = (
        "_intercepted",
        "api",
        "count_errors",
        "decode",
        "encode",
        "error_response",
        "failures",
        "handle",
        "header_bytes",
        "mask",
        "metrics",
        "pack_header",
        "quick",
        "requests",
        "response_class",
        "throttled_response",
        "version",
    )

    def __init__(
        self, api: Api, version: int, metrics: RequestMetrics | None = None, guard: Guard | None = None
    ) -> None:
        messages = import_module(api.message_module)
        handlers = import_module(api.handler_module)
        self.api = api
        self.version = version
        self.handle: Callable[[Broker, Any, RequestContext], Any | Awaitable[Any] | None] = handlers.handle
        self.error_response = getattr(handlers, "error_response", None) or self._top_level_error
        self.quick: Callable[[Broker, bytearray, int, int, RequestContext], Any] | None
        self.quick = getattr(handlers, "handle_quickly", None)
        self.throttled_response: Callable[[Broker, Any, Any], Any] | None
        self.throttled_response = getattr(handlers, "throttled_response", None)
        self.response_class: type[Any] = getattr(messages, f"{api.name}Response")
        self.decode: Decoder[Any] = decoder(getattr(messages, f"{api.name}Request"), version)
        self.encode: Encoder[Any] = encoder(self.response_class, version)
        tagged = response_header_version(api.key, version) == 1
        self.pack_header = _PACK_TAGGED_HEADER if tagged else _PACK_HEADER
        self.header_bytes = 5 if tagged else 4
        self.requests = 0
        self.failures = 0
        self.metrics = metrics or RequestMetrics(api.name)
        # A request is timed when `requests & mask` is zero; see `request_metrics`.
        self.mask = 0
        self.metrics.add(self)
        self.count_errors = error_counter(self.response_class)
        self._intercepted: tuple[Any, Any] | None = None
        if guard is not None:
            guard(self)
        if api.forwarded:
            # What is checked is checked where it is decided.
            self.handle = partial(at_controller, self.handle)

    def intercept(self, interceptor: Interceptor | None) -> None:
        """Let requests go through this instead of the handler; None: to the handler again."""
        if self._intercepted is None:
            self._intercepted = self.handle, self.quick
        self.handle, self.quick = self._intercepted
        if interceptor is not None:
            self.handle, self.quick = partial(_intercept, interceptor, self, self.handle), None

    def name_requests(self) -> None:
        """Say in the context of each request which API it is, for the audit log."""
        self.handle = _named(self.api.name, self.handle)
        if self.quick is not None:
            self.quick = _named(self.api.name, self.quick)

    def failure(self, request: Any, context: RequestContext, error: BaseException) -> Any | None:
        """The response to a request whose handler raised; None when only closing the connection says it."""
        if isinstance(error, ApiError):
            return self.error_response(request, context, error.code, error.message)
        self.failures += 1
        logger.error(
            "%s v%d of client %r at %s failed",
            self.api.name,
            self.version,
            context.client_id,
            context.client_host,
            exc_info=error,
        )
        return self.error_response(request, context, ErrorCode.UNKNOWN_SERVER_ERROR, None)

    def _top_level_error(
        self, request: Any, context: RequestContext, code: ErrorCode, message: str | None
    ) -> Any | None:
        """A response with this code in its top-level error_code; None when the response has no such field."""
        names = self.response_class.__slots__
        if "error_code" not in names:
            return None
        response = self.response_class(error_code=code)
        if "error_message" in names and message is not None:
            response.error_message = message
        return response


class Router:
    """The routes of one listener, by ``api_key << 16 | version``; `routes` may be read directly by the hot path.

    `apis` is one of the tables in `api_table`. `unstable_versions`: those that Apache Kafka has not settled yet are
    served as well. `metrics` are those of the APIs that were asked for, by key, for several routers together. `log` is
    there while requests, or slow ones, are logged. `guard` is set before the first request, if permissions are checked.
    """

    __slots__ = ("_interceptor", "_names_requests", "_unstable_versions", "apis", "guard", "log", "metrics", "routes")

    def __init__(
        self,
        apis: Mapping[int, Api] = APIS,
        *,
        unstable_versions: bool = False,
        metrics: dict[int, RequestMetrics] | None = None,
    ) -> None:
        self.apis = apis
        self.routes: dict[int, Route] = {}
        self.metrics: dict[int, RequestMetrics] = {} if metrics is None else metrics
        self.log: RequestLog | None = None
        self.guard: Guard | None = None
        self._interceptor: Interceptor | None = None
        self._names_requests = False
        self._unstable_versions = unstable_versions

    def intercept(self, interceptor: Interceptor | None) -> None:
        """Let every request go through this instead of its handler: the seam for faults in tests.

        It changes routes, so that nothing is asked on the way of a request when there is no interceptor.
        """
        self._interceptor = interceptor
        for route in self.routes.values():
            route.intercept(interceptor)

    def name_requests(self) -> None:
        """Let handlers know, by `RequestContext.api_name`, which API they serve; said before the first request."""
        self._names_requests = True
        for route in self.routes.values():
            route.name_requests()

    def find(self, api_key: int, version: int) -> Route:
        """The route, loading handler and codecs on first use. Raises UnsupportedRequestError for what is not served."""
        route = self.routes.get(api_key << 16 | version)
        if route is None:
            api = self.apis.get(api_key)
            if api is None:
                raise UnsupportedRequestError(f"API key {api_key} is not served")
            highest = api.newest_version if self._unstable_versions else api.max_version
            if not api.min_version <= version <= highest:
                raise UnsupportedRequestError(f"version {version} of {api.name} is not served")
            metrics = self.metrics.get(api_key)
            if metrics is None:
                metrics = self.metrics[api_key] = RequestMetrics(api.name)
                metrics.times_all = self.log is not None
            route = self.routes[api_key << 16 | version] = Route(api, version, metrics, self.guard)
            if self._names_requests:
                route.name_requests()
            if self._interceptor is not None:
                route.intercept(self._interceptor)
        return route


def at_controller(own: Handle, broker: Broker, request: Any, context: RequestContext) -> Any | Awaitable[Any] | None:
    """The answer of `own` where the active controller is: on this node, or wherever the request is forwarded to."""
    channel = broker.channel
    if channel is None:
        return own(broker, request, context)  # the controller of this process is the only one
    # Imported here: a node that is a cluster of its own forwards nothing.
    from ottla.server.broker import forwarding

    return forwarding.at_controller(own, channel, broker, request, context)


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def named(*arguments: Any) -> Any:
        arguments[-1].api_name = name  # the context
        return function(*arguments)

    return named


def _intercept(
    interceptor: Interceptor, route: Route, handle: Handle, broker: Broker, request: Any, context: RequestContext
) -> Any | Awaitable[Any] | None:
    context.produce_shapes = None  # what `handle_quickly` has noted of an earlier request is not about this one
    return interceptor(route, handle, broker, request, context)

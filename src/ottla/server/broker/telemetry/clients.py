"""Which client instances there are, and what each may do next: the state machine of KIP-714's broker side.

A client instance is forgotten when its connection closes, or when it has been silent for three push intervals (a minute
at least); the same id then starts afresh, and gets the same subscription id for the same subscriptions. When the
subscriptions change, an instance's next request finds it with another subscription id: its push is refused with
UNKNOWN_SUBSCRIPTION_ID, upon which it asks again at once.

A push may come as soon as the client has asked (clients spread their first pushes over half to one and a half
intervals), then once in an interval; a client that ends may push once more at any time, and nothing after that.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ONE_UUID, ZERO_UUID, uuid_to_text
from ottla.protocol.messages.push_telemetry import PushTelemetryRequest
from ottla.records.compression import Codec
from ottla.server.broker.telemetry.subscriptions import Subscription, Wanted, subscriptions_of, wanted_of
from ottla.server.metadata.image import ConfigResource

MAX_INSTANCES: Final = 16_384
_SHORTEST_EXPIRY_MS: Final = 60_000
_INTERVALS_TO_EXPIRY: Final = 3
_NEVER: Final = -(1 << 62)
_ASK_AGAIN: Final = (ErrorCode.UNKNOWN_SUBSCRIPTION_ID, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
"""Refusals of a push upon which the client shall ask at once."""
_CODECS: Final = frozenset(map(int, Codec))


class ClientInstance:
    """One client as the broker knows it; `client` holds what `match` can look at, `has_asked` says that it has not
    pushed since it asked. Times in epoch milliseconds."""

    __slots__ = (
        "client",
        "expires_at_ms",
        "has_asked",
        "instance_id",
        "last_error",
        "last_request_ms",
        "revision",
        "subscription_id",
        "terminating",
        "wanted",
    )

    def __init__(self, instance_id: bytes, client: Mapping[str, str], wanted: Wanted, revision: int) -> None:
        self.instance_id = instance_id
        self.client = client
        self.wanted = wanted
        self.revision = revision
        self.subscription_id = _subscription_id(instance_id, wanted)
        self.last_request_ms = _NEVER
        self.has_asked = False
        self.last_error = ErrorCode.NONE
        self.terminating = False
        self.expires_at_ms = 0


class ClientInstances:
    """The core: `ask` and `check_push` raise `ApiError` for a refusal."""

    def __init__(self, max_payload_bytes: int, new_id: Callable[[], bytes]) -> None:
        """`new_id` makes ids for clients that have none yet."""
        self.max_payload_bytes = max_payload_bytes
        self._new_id = new_id
        self._configs: Mapping[ConfigResource, Mapping[str, str]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._revision = 0
        self.unknown_subscription_count = 0
        self._instances: OrderedDict[bytes, ClientInstance] = OrderedDict()
        """Least recently heard of first."""

    def __len__(self) -> int:
        return len(self._instances)

    def update(self, configs: Mapping[ConfigResource, Mapping[str, str]]) -> None:
        """Take note of the image's settings; costs nothing while they are the same object."""
        if configs is self._configs:
            return
        self._configs = configs
        subscriptions = subscriptions_of(configs)
        if subscriptions != self._subscriptions:
            self._subscriptions = subscriptions
            self._revision += 1

    def ask(self, instance_id: bytes, client: Mapping[str, str], now_ms: int) -> ClientInstance:
        """A client asks what to push; its instance, with a new id when it came with none."""
        instance = self._instance(self._new_id() if instance_id == ZERO_UUID else instance_id, client, now_ms)
        if now_ms - instance.last_request_ms < instance.wanted.interval_ms and instance.last_error not in _ASK_AGAIN:
            raise _too_early(instance)
        instance.last_request_ms = now_ms
        instance.has_asked = True
        instance.last_error = ErrorCode.NONE
        return instance

    def check_push(self, request: PushTelemetryRequest, client: Mapping[str, str], now_ms: int) -> ClientInstance:
        """The instance that pushes, when it may."""
        if request.client_instance_id in (ZERO_UUID, ONE_UUID):
            raise ApiError(ErrorCode.INVALID_REQUEST, "A push needs a client instance id.")
        instance = self._instance(request.client_instance_id, client, now_ms)
        try:
            self._check_push(instance, request, now_ms)
            instance.last_error = ErrorCode.NONE
        except ApiError as error:
            instance.last_error = error.code
            raise
        finally:
            instance.terminating = request.terminating
        return instance

    def forget(self, instance_id: bytes) -> None:
        """Its connection is gone."""
        self._instances.pop(instance_id, None)

    def _check_push(self, instance: ClientInstance, request: PushTelemetryRequest, now_ms: int) -> None:
        if instance.terminating:
            raise ApiError(ErrorCode.INVALID_REQUEST, "The client has said that its last push was the last.")
        if instance.has_asked or now_ms - instance.last_request_ms >= instance.wanted.interval_ms:
            instance.last_request_ms = now_ms
            instance.has_asked = False
        elif not request.terminating:
            raise _too_early(instance)
        if request.subscription_id != instance.subscription_id:
            self.unknown_subscription_count += 1
            raise ApiError(ErrorCode.UNKNOWN_SUBSCRIPTION_ID, ErrorCode.UNKNOWN_SUBSCRIPTION_ID.message)
        if request.compression_type not in _CODECS:
            raise ApiError(
                ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"There is no compression type {request.compression_type}."
            )
        if len(request.metrics) > self.max_payload_bytes:
            raise ApiError(ErrorCode.TELEMETRY_TOO_LARGE, ErrorCode.TELEMETRY_TOO_LARGE.message)

    def _instance(self, instance_id: bytes, client: Mapping[str, str], now_ms: int) -> ClientInstance:
        instances = self._instances
        instance = instances.get(instance_id)
        if instance is not None and instance.expires_at_ms <= now_ms:
            instance = None
        if instance is None or instance.revision != self._revision:
            known = {"client_instance_id": uuid_to_text(instance_id), **client}
            known = dict(instance.client) if instance is not None else known
            instance = ClientInstance(
                instance_id, known, wanted_of(self._subscriptions.values(), known), self._revision
            )
            instances[instance_id] = instance
        instances.move_to_end(instance_id)
        expiry_ms = max(_SHORTEST_EXPIRY_MS, _INTERVALS_TO_EXPIRY * instance.wanted.interval_ms)
        instance.expires_at_ms = now_ms + expiry_ms
        self._make_room(now_ms)
        return instance

    def _make_room(self, now_ms: int) -> None:
        """Drop what has expired at the old end, and the oldest when there are too many."""
        instances = self._instances
        while len(instances) > 1:
            oldest = next(iter(instances.values()))
            if oldest.expires_at_ms > now_ms and len(instances) <= MAX_INSTANCES:
                return
            instances.popitem(last=False)


def _too_early(instance: ClientInstance) -> ApiError:
    text = f"The next request is due after the push interval of {instance.wanted.interval_ms} ms."
    return ApiError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, text)


def _subscription_id(instance_id: bytes, wanted: Wanted) -> int:
    """The same for the same client and metrics, whichever broker says it; a signed 32-bit number."""
    value = zlib.crc32(f"{','.join(wanted.metrics)} {wanted.interval_ms}".encode()) ^ zlib.crc32(instance_id)
    return value - (1 << 32) if value >> 31 else value

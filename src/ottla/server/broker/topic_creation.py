"""Topics that this broker has made: those a client names for the first time, and the internal ones.

The broker says how they are to be (by its own configuration, as Kafka's brokers do), and the active controller makes
them. What a client's request leads to is asked for in the client's name, so that its quotas count.

The answer leaves when this broker has the new topic in its metadata, with its leaders, or after a short wait without.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.core.topics import OFFSETS_TOPIC, SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC
from ottla.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from ottla.server.broker.quotas.mutations import mutation_quota

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.controller.result import Charge

LONGEST_WAIT_S: Final = 1.0
"""For the metadata to follow."""
_REQUEST_VERSION: Final = 7


class InternalTopic(NamedTuple):
    """How an internal topic is made: the broker settings with `prefix` give its size, `settings` are its own."""

    prefix: str
    settings: Mapping[str, str]
    has_min_isr: bool


INTERNAL: Final[Mapping[str, InternalTopic]] = {
    OFFSETS_TOPIC: InternalTopic(
        "offsets.topic", {"cleanup.policy": "compact", "compression.type": "producer"}, has_min_isr=False
    ),
    TRANSACTIONS_TOPIC: InternalTopic(
        "transaction.state.log", {"cleanup.policy": "compact", "compression.type": "uncompressed"}, has_min_isr=True
    ),
    SHARE_STATE_TOPIC: InternalTopic(
        "share.coordinator.state.topic",
        {"cleanup.policy": "delete", "compression.type": "producer", "retention.ms": "-1"},
        has_min_isr=True,
    ),
}


def automatic_topic(name: str, config: BrokerConfig, broker_count: int) -> CreatableTopic:
    """A topic as this broker wants it; -1 leaves a size to the controller's defaults."""
    internal = INTERNAL.get(name)
    if internal is None:
        return CreatableTopic(
            name=name,
            num_partitions=_chosen(config, "num.partitions"),
            replication_factor=_chosen(config, "default.replication.factor"),
        )
    prefix = internal.prefix
    settings = {**internal.settings, "segment.bytes": str(config[f"{prefix}.segment.bytes"])}
    if internal.has_min_isr:
        settings["min.insync.replicas"] = str(config.adapted(f"{prefix}.min.isr", broker_count))
    return CreatableTopic(
        name=name,
        num_partitions=config[f"{prefix}.num.partitions"],
        replication_factor=config.adapted(f"{prefix}.replication.factor", broker_count),
        configs=[CreatableTopicConfig(name=setting, value=value) for setting, value in settings.items()],
    )


def _chosen(config: BrokerConfig, setting: str) -> int:
    return -1 if config.is_default(setting) else int(config[setting])


async def create_automatically(
    broker: Broker, names: Iterable[str], context: RequestContext | None = None
) -> dict[str, ErrorCode]:
    """Make topics, in the name of the client that asks in `context`; each one's error code.

    TOPIC_ALREADY_EXISTS is as good as NONE: somebody else was faster, and the topic can be used. Raises ApiError, among
    others REQUEST_TIMED_OUT when there is no active controller.
    """
    count = len(broker.image.brokers)
    request = CreateTopicsRequest(
        topics=[automatic_topic(name, broker.config, count) for name in names],
        timeout_ms=broker.config["request.timeout.ms"],
    )
    response = await create_topics(broker, request, context)
    return {topic.name: ERRORS.get(topic.error_code, ErrorCode.UNKNOWN_SERVER_ERROR) for topic in response.topics}


async def create_topics(
    broker: Broker, request: CreateTopicsRequest, context: RequestContext | None = None
) -> CreateTopicsResponse:
    """Answer a CreateTopics of this broker's own, or in the name of a client. Raises ApiError."""
    from ottla.server.broker.local_controller import is_active

    if broker.channel is None or is_active(broker):
        quota = None if context is None else mutation_quota(broker, context, strict_since=0)
        charge: Charge | None = None if quota is None else quota.charge
        try:
            return await broker.controller.create_topics(request, charge=charge)
        except ApiError as error:
            if error.code != ErrorCode.NOT_CONTROLLER or broker.channel is None:
                raise
    response = await _created_elsewhere(broker, request, context)
    made = [topic.name for topic in response.topics if topic.error_code in _THERE]
    await _follow(broker, made)
    return response


_THERE = (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)


async def _created_elsewhere(
    broker: Broker, request: CreateTopicsRequest, context: RequestContext | None
) -> CreateTopicsResponse:
    from ottla.server.broker.broker import RequestContext
    from ottla.server.broker.controller_channel import ControllerUnavailableError
    from ottla.server.broker.forwarding import forward
    from ottla.server.peers.errors import PeerError

    channel = broker.channel
    assert channel is not None
    if context is not None:
        inner = RequestContext(
            listener_name=context.listener_name,
            principal=context.principal,
            client_host=context.client_host,
            api_version=_REQUEST_VERSION,
            client_id=context.client_id,
        )
        inner.session = context.session
        forwarded: CreateTopicsResponse = await forward(channel, broker, request, inner)
        return forwarded
    try:
        response: CreateTopicsResponse = await channel.request(request, timeout_ms=request.timeout_ms)
    except (ControllerUnavailableError, PeerError) as error:
        raise ApiError(ErrorCode.REQUEST_TIMED_OUT, str(error)) from None
    return response


async def _follow(broker: Broker, names: list[str]) -> None:
    """Wait until this broker knows the topics as well."""
    metadata = broker.metadata
    try:
        async with asyncio.timeout(LONGEST_WAIT_S):
            while any(name not in metadata.image.topics.by_name for name in names):
                await metadata.wait_for(metadata.offset + 1)
    except TimeoutError:
        pass  # who asked finds out, and asks again

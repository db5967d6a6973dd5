"""Brokers come and go, and what that means for who leads which partition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.server.metadata.features import SUPPORTED_FEATURES
from ottla.server.metadata.image import NO_LEADER, Endpoint, MetadataImage, PartitionImage

_FENCE: Final = 1
_UNFENCE: Final = -1


@dataclass(frozen=True, slots=True)
class BrokerRegistration:
    """What a broker says about itself when it starts.

    `incarnation_id` is new with every start of the process. `previous_broker_epoch` is what the clean shutdown marker
    holds (-1: none): when it is the epoch of the last registration, nothing of the logs can have been lost.
    """

    broker_id: int
    incarnation_id: bytes
    endpoints: tuple[Endpoint, ...]
    log_dirs: tuple[bytes, ...]
    rack: str | None = None
    previous_broker_epoch: int = -1
    features: Mapping[str, tuple[int, int]] = field(default_factory=lambda: SUPPORTED_FEATURES)


def register_records(image: MetadataImage, registration: BrokerRegistration, offset: int) -> list[Any]:
    """The broker is there and unfenced, under the epoch `offset`: the offset that the first of these records will get.

    Every other broker that the image believes alive is fenced: a quorum of one hears from nobody else. Partitions get
    leaders accordingly; those that this broker led through an unclean stop get a new leader epoch, by which clients
    notice that records which were not flushed may be gone.
    """
    broker_id = registration.broker_id
    known = image.brokers.get(broker_id)
    clean = known is not None and known.broker_epoch == registration.previous_broker_epoch
    records: list[Any] = [
        messages.RegisterBrokerRecord(
            broker_id=broker_id,
            incarnation_id=registration.incarnation_id,
            broker_epoch=offset,
            end_points=[
                messages.BrokerEndpoint(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol)
                for e in registration.endpoints
            ],
            features=[
                messages.BrokerFeature(name=name, min_supported_version=lowest, max_supported_version=highest)
                for name, (lowest, highest) in registration.features.items()
            ],
            rack=registration.rack,
            fenced=True,
            log_dirs=list(registration.log_dirs),
        ),
        messages.BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=offset, fenced=_UNFENCE),
    ]
    records += [
        messages.BrokerRegistrationChangeRecord(
            broker_id=other.broker_id, broker_epoch=other.broker_epoch, fenced=_FENCE
        )
        for other in image.brokers.values()
        if other.broker_id != broker_id and not other.fenced
    ]
    records += election_records(image, lambda replica: replica == broker_id, renew=None if clean else broker_id)
    return records


def fence_records(image: MetadataImage, broker_id: int) -> list[Any]:
    """The broker goes away in an orderly way; its leaderships stay, for it is the one to come back."""
    broker = image.brokers.get(broker_id)
    if broker is None or broker.fenced:
        return []
    return [
        messages.BrokerRegistrationChangeRecord(broker_id=broker_id, broker_epoch=broker.broker_epoch, fenced=_FENCE)
    ]


def unregister_records(image: MetadataImage, broker_id: int, own_id: int) -> list[Any]:
    """The broker leaves every ISR and then the cluster. Its replicas stay assigned, as Kafka keeps them: it may come
    back, or they may be moved.

    Raises ApiError: BROKER_ID_NOT_REGISTERED, and INVALID_REQUEST for the node that decides this, which would only
    lose its partitions: it serves as long as it runs.
    """
    broker = image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker ID {broker_id} is not currently registered")
    if broker_id == own_id:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Broker {broker_id} is running, it cannot be unregistered")

    def is_active(replica: int) -> bool:
        other = image.brokers.get(replica)
        return replica != broker_id and other is not None and other.is_active

    records: list[Any] = []
    for topic in image.topics.by_id.values():
        for index, partition in topic.partitions.items():
            change: dict[str, Any] = {}
            if partition.leader == broker_id:
                change = elect(partition, is_active) or {}
            elif broker_id in partition.isr and len(partition.isr) > 1:
                change = {"isr": [member for member in partition.isr if member != broker_id]}
            if change:
                records.append(messages.PartitionChangeRecord(partition_id=index, topic_id=topic.topic_id, **change))
    records.append(messages.UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker.broker_epoch))
    return records


def election_records(
    image: MetadataImage, is_active: Callable[[int], bool], *, renew: int | None = None
) -> list[messages.PartitionChangeRecord]:
    """New leaders for all partitions whose leader is not active, or that have none and could.

    `renew` names an active leader whose partitions get a new leader epoch all the same.
    """
    records = []
    for topic in image.topics.by_id.values():
        for index, partition in topic.partitions.items():
            leader = partition.leader
            if leader != NO_LEADER and is_active(leader):
                if leader == renew:
                    records.append(
                        messages.PartitionChangeRecord(partition_id=index, topic_id=topic.topic_id, leader=leader)
                    )
                continue
            change = elect(partition, is_active)
            if change is not None:
                records.append(messages.PartitionChangeRecord(partition_id=index, topic_id=topic.topic_id, **change))
    return records


def elect(partition: PartitionImage, is_active: Callable[[int], bool]) -> dict[str, Any] | None:
    """The change that gives a partition without an active leader the best there is; None when nothing changes.

    From the ISR by order of preference, else from the eligible leader replicas (KIP-966), else, when both are empty,
    the last known leader. Without any, the partition has no leader, and its ISR stays as it was.
    """
    preferred = [replica for replica in partition.replicas if is_active(replica)]
    for replica in preferred:
        if replica in partition.isr:
            isr = [member for member in partition.isr if is_active(member)]
            return {"leader": replica, **({"isr": isr} if len(isr) < len(partition.isr) else {})}
    eligible = [replica for replica in preferred if replica in partition.eligible_leader_replicas]
    if not eligible and not partition.isr and not partition.eligible_leader_replicas:
        eligible = [replica for replica in partition.last_known_elr if is_active(replica)]
    if eligible:
        leader = eligible[0]
        remaining = [replica for replica in partition.eligible_leader_replicas if replica != leader]
        return {"leader": leader, "isr": [leader], "eligible_leader_replicas": remaining, "last_known_elr": []}
    return None if partition.leader == NO_LEADER else {"leader": NO_LEADER}

"""A node that is a whole cluster: its broker is registered and unfenced in one go, and need not be heard of.

Apart from that it is a broker like any other: when a second one registers, `brokers` has the rules for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ottla.protocol.messages import metadata_records as messages
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.features import ELR_VERSION, SUPPORTED_FEATURES
from ottla.server.metadata.image import Endpoint, MetadataImage

if TYPE_CHECKING:
    from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest

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

    def as_request(self, cluster_id: str) -> BrokerRegistrationRequest:
        """The same on the wire."""
        from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, Feature, Listener

        return BrokerRegistrationRequest(
            broker_id=self.broker_id,
            cluster_id=cluster_id,
            incarnation_id=self.incarnation_id,
            listeners=[
                Listener(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol)
                for e in self.endpoints
            ],
            features=[
                Feature(name=name, min_supported_version=lowest, max_supported_version=highest)
                for name, (lowest, highest) in self.features.items()
            ],
            rack=self.rack,
            log_dirs=list(self.log_dirs),
            previous_broker_epoch=self.previous_broker_epoch,
        )


def is_alone(image: MetadataImage, broker_id: int, *, is_clean: bool) -> bool:
    """Whether registration and unfencing can be decided together: nobody else is there to take anything over, and no
    replica may have lost what made it eligible."""
    if any(other.broker_id != broker_id and not other.fenced for other in image.brokers.values()):
        return False
    return is_clean or not image.topics.by_id or not image.features.get(ELR_VERSION, 0)


def register_alone(state: ClusterState, registration: BrokerRegistration, offset: int) -> Result:
    """The only broker is there and unfenced, under the epoch `offset`: the offset that the first of these records will
    get; the response is this epoch.

    Its partitions keep their leader; after an unclean stop those it led get a new leader epoch, by which clients notice
    that records which were not flushed may be gone.
    """
    image, broker_id = state.image, registration.broker_id
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
    if not image.topics.by_id:
        return Result(records, offset, atomic=False)
    from ottla.server.controller.decisions import Decisions

    decisions = Decisions(image, state.config, joining=broker_id)
    decisions.elect(state.index.leaderless())
    records += decisions.records
    if not clean:
        records += [
            messages.PartitionChangeRecord(partition_id=index, topic_id=topic_id, leader=broker_id)
            for topic_id, index in state.index.in_sync(broker_id)
            if image.topics.by_id[topic_id].partitions[index].leader == broker_id
        ]
    return Result(records, offset, atomic=False)


def leave_alone(state: ClusterState, broker_id: int) -> Result:
    """The only broker goes away in an orderly way; its leaderships stay, for it is the one to come back."""
    broker = state.image.brokers.get(broker_id)
    if broker is None or broker.fenced:
        return Result([], None)
    record = messages.BrokerRegistrationChangeRecord(
        broker_id=broker_id, broker_epoch=broker.broker_epoch, fenced=_FENCE
    )
    return Result([record], None)

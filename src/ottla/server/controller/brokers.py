"""Brokers come and go (KIP-631), and what that means for who leads which partition.

A broker registers, fenced, under a new epoch; it sends heartbeats, is unfenced when it has followed the metadata up to
its registration, and fenced again when it is silent for `broker.session.timeout.ms`. Who wants to stop says so, and is
let go when others lead its partitions and every active broker knows. A fenced broker is in no ISR it is not the last
member of, and leads nothing.
"""

from __future__ import annotations

from typing import Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse
from ottla.server.controller.decisions import Decisions
from ottla.server.controller.partitions import FIRST_WITH_DIRECTORIES, RESERVED_DIRECTORIES
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.features import ELR_VERSION, KRAFT_VERSION
from ottla.server.metadata.image import METADATA_VERSION, BrokerImage, MetadataImage

_FENCE: Final = 1
_UNFENCE: Final = -1
_IN_CONTROLLED_SHUTDOWN: Final = 1
_FIRST_WITH_CORDONED: Final = 30  # 4.3-IV0, KIP-1066
_FIRST_WITH_CLEAN_SHUTDOWN: Final = 3
"""The version of BrokerRegistration that tells whether the broker stopped cleanly."""


# Registration


def register(
    state: ClusterState, request: BrokerRegistrationRequest, *, api_version: int, offset: int, now_ms: int
) -> Result:
    """BrokerRegistration; a new incarnation gets the epoch `offset`, the offset its first record will have.

    The registration is the last record: when the controller fails before it, the broker registers again, and what an
    earlier incarnation left is cleaned up again. Raises ApiError: INCONSISTENT_CLUSTER_ID,
    DUPLICATE_BROKER_REGISTRATION while another incarnation is alive, BROKER_ID_NOT_REGISTERED for brokers of ZooKeeper
    clusters, INVALID_REGISTRATION for directories, UNSUPPORTED_VERSION for features.
    """
    image = state.image
    broker_id = request.broker_id
    known = image.brokers.get(broker_id)
    if state.cluster_id is not None and request.cluster_id != state.cluster_id:
        text = f"Expected cluster ID {state.cluster_id}, but got cluster ID {request.cluster_id}"
        raise ApiError(ErrorCode.INCONSISTENT_CLUSTER_ID, text)
    is_same = known is not None and known.incarnation_id == request.incarnation_id
    if known is not None and not is_same and state.heartbeats.is_alive(broker_id, now_ms):
        raise ApiError(
            ErrorCode.DUPLICATE_BROKER_REGISTRATION,
            f"Another broker is registered with id {broker_id}, and it is alive. If the broker was only restarted, "
            "try again when its session has timed out.",
        )
    if request.is_migrating_zk_broker:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, "Brokers of ZooKeeper clusters cannot be registered.")
    has_directories = image.metadata_version >= FIRST_WITH_DIRECTORIES
    if has_directories:
        _check_directories(image, broker_id, request.log_dirs)
    _check_features(state, request)
    records: list[Any] = []
    epoch = offset
    if known is not None and is_same:
        epoch = known.broker_epoch
    else:
        tells = api_version >= _FIRST_WITH_CLEAN_SHUTDOWN
        clean = tells and known is not None and known.broker_epoch == request.previous_broker_epoch
        records += _clean_up(state, broker_id, clean=clean)
    records.append(
        messages.RegisterBrokerRecord(
            broker_id=broker_id,
            incarnation_id=request.incarnation_id,
            broker_epoch=epoch,
            end_points=[
                messages.BrokerEndpoint(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol)
                for e in request.listeners
            ],
            features=[
                messages.BrokerFeature(
                    name=one.name,
                    min_supported_version=one.min_supported_version,
                    max_supported_version=one.max_supported_version,
                )
                for one in request.features
            ],
            rack=request.rack,
            fenced=known.fenced if known is not None and is_same else True,
            in_controlled_shutdown=known is not None and is_same and known.in_controlled_shutdown,
            log_dirs=list(request.log_dirs) if has_directories else [],
        )
    )
    return Result(records, BrokerRegistrationResponse(broker_epoch=epoch), atomic=False)


def _clean_up(state: ClusterState, broker_id: int, *, clean: bool) -> list[Any]:
    """What a new incarnation means for the partitions of the last one. That one may not even be registered any more:
    replicas stay assigned to a broker that was unregistered."""
    decisions = Decisions(state.image, state.config, leaving=broker_id)
    if state.image.features.get(ELR_VERSION, 0) and not clean:
        decisions.remove_after_unclean_shutdown(broker_id, state.index.in_sync(broker_id))
        decisions.remove_after_unclean_shutdown(broker_id, state.index.eligible(broker_id))
    else:
        decisions.remove_from_isr(broker_id, state.index.in_sync(broker_id))
    return decisions.records


def _check_directories(image: MetadataImage, broker_id: int, directories: list[bytes]) -> None:
    reason = None
    if not directories:
        reason = "No directories specified in request"
    elif any(int.from_bytes(directory, "big") < RESERVED_DIRECTORIES for directory in directories):
        reason = "Reserved directory ID in request"
    elif len(set(directories)) < len(directories):
        reason = "Duplicate directory ID in request"
    else:
        for other in image.brokers.values():
            shared = set(directories).intersection(other.log_dirs) if other.broker_id != broker_id else ()
            if shared:
                reason = f"Broker {other.broker_id} is already registered with directory {min(shared).hex()}"
    if reason is not None:
        raise ApiError(ErrorCode.INVALID_REGISTRATION, reason)


def _check_features(state: ClusterState, request: BrokerRegistrationRequest) -> None:
    """The broker must be able to work at every finalized level."""
    finalized = {**state.image.features, KRAFT_VERSION: state.kraft_version}
    ranges = {one.name: (one.min_supported_version, one.max_supported_version) for one in request.features}
    asked = [*ranges, *(name for name, level in finalized.items() if level and name not in ranges)]
    for name in asked:
        lowest, highest = ranges.get(name, (0, 0))
        level = finalized.get(name, 0)
        if not lowest <= level <= highest:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"Unable to register because the broker does not support finalized version {level} of {name}. "
                f"The broker wants a version between {lowest} and {highest}, inclusive.",
            )
    if METADATA_VERSION not in ranges:
        raise ApiError(ErrorCode.INVALID_REGISTRATION, f"Request features do not contain '{METADATA_VERSION}'")


# Heartbeats


def heartbeat(state: ClusterState, request: BrokerHeartbeatRequest, now_ms: int) -> Result:
    """BrokerHeartbeat. Raises ApiError STALE_BROKER_EPOCH when it is not of the registered incarnation."""
    broker_id = request.broker_id
    state.heartbeats.heard(broker_id, request.broker_epoch, now_ms)
    broker = state.registered(broker_id, request.broker_epoch)
    is_fenced, in_shutdown, may_stop = _next_state(state, broker, request)
    records: list[Any] = []
    if is_fenced and not broker.fenced:
        records += fence(state, broker)
    elif not is_fenced and broker.fenced:
        records += unfence(state, broker)
    elif in_shutdown and not broker.in_controlled_shutdown:
        decisions = Decisions(state.image, state.config, leaving=broker_id)
        decisions.remove_from_isr(broker_id, state.index.in_sync(broker_id))
        change = _registration_change(broker, in_controlled_shutdown=_IN_CONTROLLED_SHUTDOWN)
        records += [change, *decisions.records]
    state.heartbeats.has_reached(broker_id, request.current_metadata_offset)
    records += _directory_changes(state, broker, request, {_key(record) for record in records})
    if may_stop:
        # Its next incarnation need not wait, as with Kafka, until this one's session is over.
        state.heartbeats.let_go(broker_id)
    response = BrokerHeartbeatResponse(
        is_caught_up=state.heartbeats.is_caught_up(broker_id, request.current_metadata_offset),
        is_fenced=is_fenced,
        should_shut_down=may_stop,
    )
    return Result(records, response, atomic=False)


def _next_state(state: ClusterState, broker: BrokerImage, request: BrokerHeartbeatRequest) -> tuple[bool, bool, bool]:
    """Whether the broker is to be fenced, to be in controlled shutdown, and to stop now."""
    broker_id = broker.broker_id
    if broker.fenced:
        if request.want_shut_down:
            return True, False, True
        ready = not request.want_fence and state.heartbeats.is_caught_up(broker_id, request.current_metadata_offset)
        return not ready, False, False
    leads = state.index.leaderships.get(broker_id, 0) > 0
    if broker.in_controlled_shutdown:
        active = [other.broker_id for other in state.image.brokers.values() if other.is_active]
        done = not leads and state.heartbeats.may_stop(broker_id, active)
        return done, not done, done
    if request.want_fence:
        return True, False, request.want_shut_down
    if request.want_shut_down:
        return not leads, leads, not leads
    return False, False, False


def _directory_changes(
    state: ClusterState, broker: BrokerImage, request: BrokerHeartbeatRequest, decided: set[Any]
) -> list[Any]:
    """Directories that failed take their replicas out of ISR and leadership (KIP-858); cordoned ones are noted."""
    image = state.image
    records: list[Any] = []
    offline = set(request.offline_log_dirs).intersection(broker.log_dirs)
    if offline and image.metadata_version >= FIRST_WITH_DIRECTORIES:
        decisions = Decisions(image, state.config, leaving=broker.broker_id)
        affected = [
            key
            for key in state.index.in_sync(broker.broker_id)
            if key not in decided and state.directory_of(key, broker.broker_id) in offline
        ]
        decisions.remove_from_isr(broker.broker_id, affected)
        online = [directory for directory in broker.log_dirs if directory not in offline]
        records += [*decisions.records, _registration_change(broker, log_dirs=online)]
    cordoned = request.cordoned_log_dirs
    if cordoned is None or image.metadata_version < _FIRST_WITH_CORDONED:
        return records
    if set(cordoned) != set(broker.cordoned_log_dirs or ()):
        records.append(_registration_change(broker, cordoned_log_dirs=list(cordoned)))
    return records


def _key(record: Any) -> Any:
    """The partition that a record changes, if it changes one."""
    return (record.topic_id, record.partition_id) if isinstance(record, messages.PartitionChangeRecord) else None


# Fencing and leaving


def fence(state: ClusterState, broker: BrokerImage) -> list[Any]:
    """The broker leaves every ISR and leadership, and is fenced last."""
    decisions = Decisions(state.image, state.config, leaving=broker.broker_id)
    decisions.remove_from_isr(broker.broker_id, state.index.in_sync(broker.broker_id))
    return [*decisions.records, _registration_change(broker, fenced=_FENCE)]


def unfence(state: ClusterState, broker: BrokerImage) -> list[Any]:
    """The broker may lead: what has no leader gets one, if it is this broker that was missing."""
    decisions = Decisions(state.image, state.config, joining=broker.broker_id)
    decisions.elect(state.index.leaderless())
    return [_registration_change(broker, fenced=_UNFENCE), *decisions.records]


def fence_expired(state: ClusterState, now_ms: int) -> Result:
    """Fence the broker that has been silent for longest, if its session is over; the response is its id, or None.

    One at a time, so that the leaders of its partitions are not sought among brokers that are gone as well.
    """
    broker_id = state.heartbeats.expired(state.unfenced(), now_ms)
    if broker_id is None:
        return Result([], None)
    return Result(fence(state, state.image.brokers[broker_id]), broker_id, atomic=False)


def fence_departed(state: ClusterState, broker_id: int, broker_epoch: int) -> Result:
    """Fence a broker of which it is known that this incarnation has ended; the response is whether there was need."""
    broker = state.image.brokers.get(broker_id)
    if broker is None or broker.fenced or broker.broker_epoch != broker_epoch:
        return Result([], False)
    return Result(fence(state, broker), True, atomic=False)


def unregister(state: ClusterState, broker_id: int) -> Result:
    """The broker leaves every ISR and then the cluster. Its replicas stay assigned, as Kafka keeps them: it may come
    back, or they may be moved.

    Raises ApiError: BROKER_ID_NOT_REGISTERED, and INVALID_REQUEST for the running broker of the node that decides
    this, which would only lose its partitions.
    """
    broker = state.image.brokers.get(broker_id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker ID {broker_id} is not currently registered")
    if broker_id == state.node_id and not broker.fenced:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Broker {broker_id} is running, it cannot be unregistered")
    decisions = Decisions(state.image, state.config, leaving=broker_id)
    decisions.remove_from_isr(broker_id, state.index.in_sync(broker_id))
    # It stays eligible where it was: whoever registers with its id and other disks is no longer, from then on.
    record = messages.UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=broker.broker_epoch)
    return Result([*decisions.records, record], None, atomic=False)


def _registration_change(broker: BrokerImage, **changes: Any) -> messages.BrokerRegistrationChangeRecord:
    return messages.BrokerRegistrationChangeRecord(
        broker_id=broker.broker_id, broker_epoch=broker.broker_epoch, **changes
    )

"""UpdateFeatures: which levels may follow which, and what each needs (KIP-584, KIP-1022).

All features of a request change, or none. A level must be in the range of this node and of every registered broker.
`metadata.version` goes down only as far as no record changed its form; `kraft.version` never does. With eligible leader
replicas on, `min.insync.replicas` is a setting of the cluster alone, so that all agree on it (KIP-966).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.controller_registration import (
    ControllerRegistrationRequest,
    ControllerRegistrationResponse,
)
from ottla.protocol.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from ottla.schema.config import BrokerConfig
from ottla.server.controller.min_isr import MIN_ISR, cluster_min_isr
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.features import ELR_VERSION, FEATURES, KRAFT_VERSION, SUPPORTED_FEATURES
from ottla.server.metadata.image import METADATA_VERSION, ConfigResourceType, MetadataImage

UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3
"""Upgrade types of UpdateFeatures."""

_CHANGED_RECORDS: Final = (7, 8, 11, 13, 14, 15, 17, 23, 30)
"""Levels of metadata.version that brought a record, or a version of one, which the level before cannot read."""
_REQUIRED_METADATA_VERSIONS: Final[Mapping[tuple[str, int], int]] = {(ELR_VERSION, 1): 23}
_LAST_VERSION_WITH_RESULTS: Final = 1
_FIRST_WITH_CONTROLLERS: Final = 15  # 3.7-IV0, KIP-919


class FeaturesUpdate(NamedTuple):
    """The response, and whether the metadata log is to move to kraft.version 1, which is no metadata record."""

    response: UpdateFeaturesResponse
    upgrades_kraft: bool = False


def update_features(state: ClusterState, request: UpdateFeaturesRequest, *, api_version: int) -> Result:
    """The records of an UpdateFeatures request; the response is a `FeaturesUpdate`."""
    image, config, kraft_version = state.image, state.config, state.kraft_version
    levels = {**image.features, KRAFT_VERSION: kraft_version}
    wanted = {**levels, **{update.feature: update.max_version_level for update in request.feature_updates}}
    # Of a feature that is named twice, the last mention counts.
    updates = {update.feature: update for update in request.feature_updates}
    records: list[Any] = []
    try:
        for update in updates.values():
            _check(state, update, levels.get(update.feature, 0), wanted)
            if update.feature != KRAFT_VERSION:
                records.append(messages.FeatureLevelRecord(name=update.feature, feature_level=update.max_version_level))
    except ApiError as error:
        text = f"The update failed for all features since the following feature had an error: {error.message}"
        return Result([], FeaturesUpdate(UpdateFeaturesResponse(error_code=error.code, error_message=text)))
    response = UpdateFeaturesResponse(error_message=None)
    if api_version <= _LAST_VERSION_WITH_RESULTS:
        response.results = [
            UpdatableFeatureResult(feature=update.feature, error_message=None) for update in request.feature_updates
        ]
    upgrades_kraft = wanted[KRAFT_VERSION] > kraft_version
    if request.validate_only:
        return Result([], FeaturesUpdate(response))
    if wanted.get(ELR_VERSION, 0) > 0 and ELR_VERSION in updates:
        records = [*_min_isr_of_the_cluster(image, config), *records]
    if upgrades_kraft:
        records.append(messages.NoOpRecord())  # so that the answer waits for the commit of the log's own records
    return Result(records, FeaturesUpdate(response, upgrades_kraft))


def register_controller(image: MetadataImage, request: ControllerRegistrationRequest) -> Result:
    """ControllerRegistration: what a controller can do, so that no level is finalized that it cannot follow.

    Raises ApiError UNSUPPORTED_VERSION below metadata.version 3.7-IV0.
    """
    if image.metadata_version < _FIRST_WITH_CONTROLLERS:
        text = "The current metadata.version is too old to support controller registrations."
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, text)
    record = messages.RegisterControllerRecord(
        controller_id=request.controller_id,
        incarnation_id=request.incarnation_id,
        zk_migration_ready=False,
        end_points=[
            messages.ControllerEndpoint(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol)
            for e in request.listeners
        ],
        features=[
            messages.ControllerFeature(
                name=one.name,
                min_supported_version=one.min_supported_version,
                max_supported_version=one.max_supported_version,
            )
            for one in request.features
        ],
    )
    return Result([record], ControllerRegistrationResponse(error_message=None))


def _check(state: ClusterState, update: FeatureUpdateKey, current: int, wanted: Mapping[str, int]) -> None:
    """Raise ApiError INVALID_UPDATE_VERSION unless the feature may go from `current` to the level asked for."""
    name, level, kind = update.feature, update.max_version_level, update.upgrade_type
    if update.allow_downgrade and level < current:
        kind = SAFE_DOWNGRADE  # how version 0 says it
    if not UPGRADE <= kind <= UNSAFE_DOWNGRADE:
        raise _refusal(name, level, "The controller does not support the given upgrade type.")
    if level < 0:
        raise _refusal(name, level, "A feature version cannot be less than 0.")
    _check_supported(state, name, level)
    if level < current and kind == UPGRADE:
        text = "Can't downgrade the version of this feature without setting the upgrade type to a downgrade."
        raise _refusal(name, level, text)
    if level > current and kind != UPGRADE:
        raise _refusal(name, level, "Can't downgrade to a newer version.")
    if name == KRAFT_VERSION:
        if level < current:
            raise _refusal(name, level, "Can't downgrade the version of this feature.")
    elif name == METADATA_VERSION:
        _check_metadata_version(level, current, unsafe=kind == UNSAFE_DOWNGRADE)
    else:
        required = _REQUIRED_METADATA_VERSIONS.get((name, level), FEATURES[METADATA_VERSION].lowest if level else 0)
        if wanted.get(METADATA_VERSION, 0) < required:
            text = f"{name} could not be set to {level} because it depends on {METADATA_VERSION} level {required}"
            raise _refusal(name, level, text)


def _check_supported(state: ClusterState, name: str, level: int) -> None:
    """Every broker, fenced or not, and every controller must be able to work at the level."""
    if name not in FEATURES:
        raise _refusal(name, level, "There is no such feature.")
    image = state.image
    ranges = [("This controller", SUPPORTED_FEATURES.get(name, (0, 0)))]
    ranges += [(f"Broker {one.broker_id}", one.features.get(name, (0, 0))) for one in image.brokers.values()]
    with_controllers = image.metadata_version >= _FIRST_WITH_CONTROLLERS
    if with_controllers:
        ranges += [
            (f"Controller {one.controller_id}", one.features.get(name, (0, 0)))
            for one in image.controllers.values()
            if one.controller_id != state.node_id
        ]
    for who, (lowest, highest) in ranges:
        if not lowest <= level <= highest:
            only = f"only supports versions {lowest}-{highest}." if highest else "does not support this feature."
            raise _refusal(name, level, f"{who} {only}")
    unknown = set(state.voters) - {state.node_id, *image.controllers}
    if with_controllers and unknown:
        reason = f"controller {min(unknown)} has not registered, and may not support this feature"
        raise _refusal(name, level, reason)


def _check_metadata_version(level: int, current: int, *, unsafe: bool) -> None:
    if any(level < changed <= current for changed in _CHANGED_RECORDS):
        reason = (
            "Unsafe metadata downgrade is not supported in this version."
            if unsafe
            else "Refusing to perform the requested downgrade because it might delete metadata information."
        )
        text = f"Unsupported {METADATA_VERSION} downgrade from {current} to {level}. {reason}"
        raise ApiError(ErrorCode.INVALID_UPDATE_VERSION, text)


def _refusal(name: str, level: int, reason: str) -> ApiError:
    text = f"Invalid update version {level} for feature {name}. {reason}"
    return ApiError(ErrorCode.INVALID_UPDATE_VERSION, text)


def _min_isr_of_the_cluster(image: MetadataImage, config: BrokerConfig) -> list[messages.ConfigRecord]:
    """One value for all brokers, in the metadata, and none of a single broker."""
    broker = int(ConfigResourceType.BROKER)
    records = []
    if MIN_ISR not in image.config_of(broker, ""):
        records.append(cluster_min_isr(config))
    records += [
        messages.ConfigRecord(resource_type=broker, resource_name=name, name=MIN_ISR, value=None)
        for (resource_type, name), settings in image.configs.items()
        if resource_type == broker and name and MIN_ISR in settings
    ]
    return records

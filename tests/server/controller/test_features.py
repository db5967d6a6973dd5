"""UpdateFeatures: which levels may follow which; the records; kraft.version, which is not one of them."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import metadata_records as records
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.server.controller.configs import DELETE, SET, Change
from ottla.server.controller.features import FeaturesUpdate
from ottla.server.controller.result import Result
from ottla.server.metadata.features import ELR_VERSION, FEATURES
from tests.server.controller.worlds import World, registration

UPGRADE, SAFE, UNSAFE = 1, 2, 3
BROKER = 4


class Cluster(World):
    """A core with metadata.version 30; `update` gives code and text."""

    def __init__(self, *brokers, kraft_version: int = 1, **settings: object) -> None:
        super().__init__(*brokers, **settings)
        self.kraft_version = kraft_version
        self.do(Result([records.FeatureLevelRecord(name="metadata.version", feature_level=30)], None))

    def answer(self, *updates: tuple[str, int, int], version: int = 2, **fields: object) -> FeaturesUpdate:
        keys = [
            FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=kind) for name, level, kind in updates
        ]
        request = UpdateFeaturesRequest(feature_updates=keys, **fields)
        result = self.core.update_features(request, api_version=version, kraft_version=self.kraft_version)
        update = self.do(result)
        assert isinstance(update, FeaturesUpdate)
        return update

    def update(self, *updates: tuple[str, int, int], **fields: object) -> tuple[int, str]:
        response = self.answer(*updates, **fields).response
        return response.error_code, response.error_message or ""

    def level(self, name: str = "metadata.version") -> int:
        return self.core.image.features.get(name, 0)


@pytest.mark.parametrize(
    ("name", "level", "kind", "text"),
    [
        ("metadata.version", 29, UPGRADE, "Can't downgrade the version of this feature without"),
        ("metadata.version", 29, SAFE, "might delete metadata information"),
        ("metadata.version", 29, UNSAFE, "Unsafe metadata downgrade is not supported"),
        ("metadata.version", 31, SAFE, "Can't downgrade to a newer version"),
        ("metadata.version", 32, UPGRADE, "This controller only supports versions 7-31"),
        ("metadata.version", 6, SAFE, "only supports versions 7-31"),
        ("metadata.version", 0, UNSAFE, "only supports versions 7-31"),
        ("metadata.version", -1, SAFE, "cannot be less than 0"),
        ("metadata.version", 31, 0, "does not support the given upgrade type"),
        ("metadata.version", 31, 4, "does not support the given upgrade type"),
        ("no.such.feature", 1, UPGRADE, "There is no such feature"),
        ("no.such.feature", 0, SAFE, "There is no such feature"),
        ("kraft.version", 0, SAFE, "Can't downgrade the version of this feature."),
        ("kraft.version", 2, UPGRADE, "only supports versions 0-1"),
    ],
)
def test_refusals(name: str, level: int, kind: int, text: str) -> None:
    cluster = Cluster()
    code, message = cluster.update((name, level, kind))
    assert code == ErrorCode.INVALID_UPDATE_VERSION
    assert message.startswith("The update failed for all features since")
    assert text in message
    assert cluster.level() == 30


def test_metadata_version_goes_up_and_down_where_records_keep_their_form() -> None:
    cluster = Cluster()
    assert cluster.update(("metadata.version", 31, UPGRADE))[0] == 0
    assert cluster.level() == 31
    assert cluster.update(("metadata.version", 30, SAFE))[0] == 0
    assert cluster.level() == 30
    cluster.do(Result([records.FeatureLevelRecord(name="metadata.version", feature_level=29)], None))
    assert cluster.update(("metadata.version", 24, SAFE))[0] == 0, "24 to 29 brought no record"
    assert cluster.update(("metadata.version", 22, SAFE))[0] == ErrorCode.INVALID_UPDATE_VERSION


def test_all_features_of_a_request_or_none() -> None:
    cluster = Cluster()
    updates = [("metadata.version", 31, UPGRADE), ("no.such.feature", 1, UPGRADE)]
    assert cluster.update(*updates)[0] == ErrorCode.INVALID_UPDATE_VERSION
    assert cluster.level() == 30
    assert cluster.update(("metadata.version", 31, UPGRADE), validate_only=True)[0] == 0
    assert cluster.level() == 30


def test_only_the_first_versions_answer_for_each_feature() -> None:
    for version, results in ((0, 1), (1, 1), (2, 0)):
        response = Cluster().answer(("metadata.version", 31, UPGRADE), version=version).response
        assert (response.error_code, len(response.results)) == (0, results)
        response = Cluster().answer(("metadata.version", 40, UPGRADE), version=version).response
        assert len(response.results) == 0


def test_version_0_asks_for_a_downgrade_with_a_flag() -> None:
    cluster = Cluster()
    cluster.update(("metadata.version", 31, UPGRADE))
    key = FeatureUpdateKey(feature="metadata.version", max_version_level=30, allow_downgrade=True)
    request = UpdateFeaturesRequest(feature_updates=[key])
    update = cluster.do(cluster.core.update_features(request, api_version=0, kraft_version=1))
    assert (update.response.error_code, cluster.level()) == (0, 30)


def test_every_registered_broker_must_support_a_level() -> None:
    old = registration(2, features={"metadata.version": (7, 30), ELR_VERSION: (0, 1)})
    cluster = Cluster(registration(1), old)
    assert "Broker 2 only supports versions 7-30" in cluster.update(("metadata.version", 31, UPGRADE))[1]
    assert cluster.update((ELR_VERSION, 1, UPGRADE))[0] == 0


def test_a_feature_needs_its_metadata_version() -> None:
    cluster = Cluster()
    cluster.do(Result([records.FeatureLevelRecord(name="metadata.version", feature_level=22)], None))
    assert "depends on metadata.version level 23" in cluster.update((ELR_VERSION, 1, UPGRADE))[1]
    # In one request they may come together.
    assert cluster.update(("metadata.version", 23, UPGRADE), (ELR_VERSION, 1, UPGRADE))[0] == 0
    assert (cluster.level(), cluster.level(ELR_VERSION)) == (23, 1)


def test_eligible_leader_replicas_make_min_isr_a_setting_of_the_cluster() -> None:
    cluster = Cluster(min_insync_replicas=2)
    own = [((BROKER, "1"), [Change("min.insync.replicas", SET, "3")])]
    assert cluster.do(cluster.core.alter_configs(own, replace=False, validate_only=False))[0].code == 0
    assert cluster.update((ELR_VERSION, 1, UPGRADE))[0] == 0
    image = cluster.core.image
    assert image.config_of(BROKER, "") == {"min.insync.replicas": "2"}
    assert image.config_of(BROKER, "1") == {}
    removed = [((BROKER, ""), [Change("min.insync.replicas", DELETE, None)])]
    for resources in (own, removed):
        (answer,) = cluster.do(cluster.core.alter_configs(resources, replace=False, validate_only=False))
        assert answer.code == ErrorCode.INVALID_CONFIG
        assert "while ELR is enabled" in (answer.text or "")
    assert cluster.update((ELR_VERSION, 0, SAFE))[0] == 0
    assert cluster.do(cluster.core.alter_configs(removed, replace=False, validate_only=False))[0].code == 0


def test_kraft_version_is_left_to_the_log() -> None:
    cluster = Cluster(kraft_version=0)
    update = cluster.answer(("kraft.version", 1, UPGRADE))
    assert (update.response.error_code, update.upgrades_kraft) == (0, True)
    assert "kraft.version" not in cluster.core.image.features
    assert not cluster.answer(("kraft.version", 1, UPGRADE), validate_only=True).upgrades_kraft
    assert not Cluster().answer(("kraft.version", 1, UPGRADE)).upgrades_kraft


def test_every_feature_that_is_served_can_be_finalized_and_taken_back() -> None:
    cluster = Cluster()
    for name, feature in FEATURES.items():
        if feature.initial is not None and feature.lowest == 0 and name != "kraft.version":
            assert cluster.update((name, feature.highest, UPGRADE))[0] == 0
            assert cluster.level(name) == feature.highest
            assert cluster.update((name, 0, SAFE))[0] == 0
            assert name not in cluster.core.image.features

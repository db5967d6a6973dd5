"""`ottla features`: the levels of the cluster's features, raised after an update of all brokers (KIP-584)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin, split_assignments
from ottla.cli.errors import CommandError, suggestion
from ottla.cli.kafka.feature_versions import METADATA_VERSION, METADATA_VERSIONS
from ottla.cli.numbers import whole
from ottla.cli.output import Column, Output

if TYPE_CHECKING:
    from ottla.client.admin.clusters import FeatureMetadata, FeatureUpdate, UpgradeType

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    listing = actions.add(
        "list", _list, "Show features, their levels, and what the brokers could.", aliases=["describe"]
    )
    listing.add_argument("-n", "--node", type=whole(), metavar="BROKER", help="what this broker supports")
    upgrade = actions.add("upgrade", _upgrade, "Raise the levels of features.", changes=True)
    upgrade.add_argument(
        "levels", nargs="*", metavar="FEATURE=LEVEL", help="as metadata.version=4.3 or group.version=1"
    )
    upgrade.add_argument(
        "--latest", action="store_true", help="all that are below what the brokers support, but for kraft.version"
    )
    downgrade = actions.add("downgrade", _downgrade, "Lower the levels of features.", loses=True)
    downgrade.add_argument("levels", nargs="+", metavar="FEATURE=LEVEL", help="0 switches a feature off")
    downgrade.add_argument("--unsafe", action="store_true", help="even where metadata is lost by it")


def _list(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        found = admin.describe_features(node_id=options.node)
    rows, json_rows = [], []
    for name in sorted({*found.supported, *found.finalized}):
        supported = found.supported.get(name)
        level = _level(found, name)
        able = None if supported is None else f"{supported.min_version} to {supported.max_version}"
        rows.append([name, level, level_name(name, level), able])
        json_rows.append(
            {
                "feature": name,
                "level": level,
                "release": level_name(name, level),
                "supported_min": None if supported is None else supported.min_version,
                "supported_max": None if supported is None else supported.max_version,
                "epoch": found.finalized_epoch,
            }
        )
    output.table(None, [Column("feature", "cyan"), "level", "release", "supported"], rows, json_rows=json_rows)
    return 0


def _level(found: FeatureMetadata, name: str) -> int:
    finalized = found.finalized.get(name)
    return 0 if finalized is None else finalized.max_version


def _upgrade(options: Namespace) -> int:
    from ottla.client.admin.clusters import FeatureUpdate, UpgradeType

    if options.latest == bool(options.levels):
        raise CommandError("say which features, as metadata.version=4.3, or --latest")
    with open_admin(options) as admin:
        found = admin.describe_features()
        if options.latest:
            wanted = {
                name: FeatureUpdate(supported.max_version)
                for name, supported in found.supported.items()
                # The quorum's own format is changed on purpose, not in passing.
                if name != "kraft.version" and supported.max_version > _level(found, name)
            }
        else:
            wanted = _wanted(options.levels, found, UpgradeType.UPGRADE)
        if wanted:
            admin.update_features(wanted, validate_only=options.dry_run)
    return _told(options, found, wanted)


def _downgrade(options: Namespace) -> int:
    from ottla.client.admin.clusters import UpgradeType

    kind = UpgradeType.UNSAFE_DOWNGRADE if options.unsafe else UpgradeType.SAFE_DOWNGRADE
    with open_admin(options) as admin:
        found = admin.describe_features()
        wanted = _wanted(options.levels, found, kind)
        if not options.dry_run:
            names = ", ".join(f"{name} to {update.max_version_level}" for name, update in wanted.items())
            lost = "; metadata may be lost" if options.unsafe else ""
            Output(options).confirm(f"Lower {names}{lost}?", options)
        admin.update_features(wanted, validate_only=options.dry_run)
    return _told(options, found, wanted)


def _wanted(levels: Sequence[str], found: FeatureMetadata, kind: UpgradeType) -> dict[str, FeatureUpdate]:
    from ottla.client.admin.clusters import FeatureUpdate

    wanted = {}
    for name, text in split_assignments(list(levels), "a feature").items():
        known = {*found.supported, *found.finalized}
        if name not in known:
            hint = suggestion(name, known, "`ottla features list` shows them")
            raise CommandError(f"the brokers know no feature {name!r}; {hint}")
        wanted[name] = FeatureUpdate(parse_level(name, text), kind)
    return wanted


def parse_level(name: str, text: str) -> int:
    """`30`, `4.3-IV0`, `4.3` (its last level) of metadata.version; a number of any other. Raises `CommandError`."""
    if text.isdigit():
        return int(text)
    if name == METADATA_VERSION:
        for level, release in sorted(METADATA_VERSIONS.items(), reverse=True):
            if text.upper() == release or text == release.partition("-")[0]:
                return level
        raise CommandError(f"there is no metadata.version {text!r}; write a level, 4.3-IV0 or 4.3")
    raise CommandError(f"a level of {name} is a number, not {text!r}")


def level_name(name: str, level: int) -> str | None:
    """Kafka's name of a level, where it has one."""
    return METADATA_VERSIONS.get(level) if name == METADATA_VERSION else None


def _told(options: Namespace, found: FeatureMetadata, wanted: dict[str, FeatureUpdate]) -> int:
    changed = {name: {"from": _level(found, name), "to": one.max_version_level} for name, one in wanted.items()}
    would = "would change" if options.dry_run else "changed"
    lines = [f"{would} {name}: {one['from']} → {one['to']}" for name, one in changed.items()]
    text = "\n".join(lines) or "nothing to change: all features are at the highest level"
    Output(options).done(text, json={"dry_run": options.dry_run, "changed": changed})
    return 0

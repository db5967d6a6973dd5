"""Which topics and partitions a command means: names, patterns (`orders-*`), partitions (`orders:0,2-4`)."""

from __future__ import annotations

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ottla.cli.errors import CommandError
from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    import ottla

COMPLETION_TIMEOUT_S = 1.5
"""As long as somebody who pressed Tab may be kept waiting."""


def add_topics_argument(parser: ArgumentParser, *, partitions: bool = False, required: bool = True) -> None:
    """Declare `TOPIC…`, with `partitions` also `TOPIC:PARTITIONS`."""
    action: Action = parser.add_argument(
        "topics",
        nargs="+" if required else "*",
        metavar="TOPIC[:PARTITIONS]" if partitions else "TOPIC",
        help=("names or patterns ('orders-*')" + (", with partitions ('orders:0,2-4')" if partitions else ""))
        + ("" if required else "; all topics without"),
    )
    action.completer = complete_topics  # type: ignore[attr-defined]


def is_pattern(name: str) -> bool:
    """Whether a name of a topic or group is a pattern; legal names of topics have none of these characters."""
    return any(character in name for character in "*?[")


def matching(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """The names that a pattern matches, sorted; all of them without patterns."""
    from fnmatch import fnmatchcase

    known = sorted(names)
    return [name for name in known if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def select_topics(
    admin: ottla.Admin, given: Sequence[str], *, internal: bool = False, missing_ok: bool = False
) -> list[str]:
    """The topics meant: names as they are given, patterns looked up, all of the cluster's when none is given.

    Raises `CommandError` when a pattern matches nothing, unless `missing_ok`. Names are not checked for existence.
    """
    if given and not any(map(is_pattern, given)):
        return list(dict.fromkeys(given))
    known = admin.list_topics(list_internal=True)
    if not given:
        return sorted(name for name, topic in known.items() if internal or not topic.is_internal)
    found: dict[str, None] = {}
    for one in given:
        if not is_pattern(one):
            found[one] = None
            continue
        # A pattern means the internal topics only when it says so.
        visible = [name for name, topic in known.items() if internal or one.startswith("_") or not topic.is_internal]
        matches = matching([one], visible)
        if not matches and not missing_ok:
            raise CommandError(f"no topic matches {one!r}; `ottla topics list` shows them")
        found.update(dict.fromkeys(matches))
    return list(found)


def select_partitions(admin: ottla.Admin, given: Sequence[str], *, internal: bool = False) -> list[TopicPartition]:
    """The partitions meant by `orders`, `orders:1,3-5`, `orders-*`; those of all topics when nothing is given.

    Raises `CommandError` for a partition that a topic does not have, `KafkaError` for a topic that does not exist.
    """
    numbers: dict[str, list[int] | None] = {}
    for one in given:
        name, separator, text = one.partition(":")
        numbers[name] = parse_partitions(text, one) if separator else None
    selected: dict[TopicPartition, None] = {}
    names = {name: select_topics(admin, [name], internal=internal) for name in numbers}
    if not given:
        names = {"": select_topics(admin, (), internal=internal)}
    described = admin.describe_topics(list(dict.fromkeys(topic for topics in names.values() for topic in topics)))
    for name, topics in names.items():
        wanted = numbers.get(name)
        for topic in topics:
            known = [partition.partition for partition in described[topic].partitions]
            for partition in known if wanted is None else wanted:
                if partition not in known:
                    raise CommandError(f"{topic} has no partition {partition}: it has {len(known)}, from 0 on")
                selected[TopicPartition(topic, partition)] = None
    return list(selected)


def parse_partitions(text: str, whole: str) -> list[int]:
    """`0,2-4` as numbers; raises `CommandError` naming the whole argument."""
    found: list[int] = []
    for part in text.split(","):
        low, separator, high = part.partition("-")
        try:
            first, last = int(low), int(high) if separator else int(low)
        except ValueError:
            first, last = 1, 0
        if not 0 <= first <= last or last - first > 1_000_000:
            raise CommandError(f"{whole!r}: partitions are numbers and ranges, as in orders:0,2-4")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def complete_topics(*, parsed_args: Namespace | None = None, **_: object) -> list[str]:
    """Names of topics, for the shell's completion; none when the cluster does not answer at once."""
    with _completing(parsed_args) as admin:
        return sorted(admin.list_topics(timeout_s=COMPLETION_TIMEOUT_S))


def complete_groups(*, parsed_args: Namespace | None = None, **_: object) -> list[str]:
    """Names of groups of all kinds, for the shell's completion."""
    with _completing(parsed_args) as admin:
        return sorted(group.group_id for group in admin.list_groups(timeout_s=COMPLETION_TIMEOUT_S))


def complete_topic_settings(*, prefix: str = "", **_: object) -> list[str]:
    """Names of settings of topics with `=`, for the shell's completion."""
    from ottla.schema.topic import TOPIC_SETTINGS

    return [f"{name}=" for name in TOPIC_SETTINGS]


def _completing(options: Namespace | None) -> ottla.Admin:
    import logging

    from ottla.cli.connection import open_admin

    logging.disable(logging.CRITICAL)
    return open_admin(Namespace(**{**vars(options or Namespace()), "timeout": COMPLETION_TIMEOUT_S}))

"""Subscriptions by regular expression (KIP-848): which topics they match, and when to find out again.

What an expression matches is written down, so that a restart does not move partitions. It is found out by a timed
command of its own, a moment after a heartbeat saw the need, for all expressions of a group at once: one rebalance
rather than several.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.group import ConsumerGroup, ResolvedRegex
from ottla.server.coordinator.consumer.member import ConsumerMember
from ottla.server.coordinator.group_machine import GroupContext
from ottla.server.coordinator.result import CoordinatorRecord, Instant, Result

if TYPE_CHECKING:
    from ottla.core.regex import Regex

logger = logging.getLogger(__name__)

MayDescribe = Callable[[str], bool]

#: Expressions whose matches are remembered, so that one new topic does not mean ten thousand matches.
MAX_REMEMBERED = 32
#: Kafka's fixed pause between two resolutions of one group.
MIN_REFRESH_INTERVAL_MS = 10_000


class RegexChange(Enum):
    """What a heartbeat did to the member's expression."""

    NONE = auto()
    #: It has another one, of which it is not known yet what it matches.
    UNRESOLVED = auto()
    #: It has another one that is resolved, or none any more: time for a new epoch.
    RESOLVED = auto()


class Regexes:
    """The expressions of the groups of one machine."""

    def __init__(self, context: GroupContext) -> None:
        self._context = context
        #: Metadata offset since which there are no new topics.
        self._topics_version = context.image.offset
        #: Expression → the names it was tried on, and those that it matched; the last used comes last.
        self._matches: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        #: Which topics the member may know whose request is being handled; None: all of them.
        self.may_describe: MayDescribe | None = None

    def topics_created(self) -> None:
        """Expressions may match more with the image of now."""
        self._topics_version = self._context.image.offset

    def heartbeat(
        self,
        group: ConsumerGroup,
        before: ConsumerMember,
        after: ConsumerMember,
        now: Instant,
        records: list[CoordinatorRecord],
    ) -> RegexChange:
        """Take over the member's expression and see whether it is time to resolve.

        ApiError INVALID_REGULAR_EXPRESSION when nobody has it yet and it is none.
        """
        change = RegexChange.NONE
        old, new = before.subscribed_topic_regex or "", after.subscribed_topic_regex or ""
        is_unknown = False
        if before.subscribed_topic_regex != after.subscribed_topic_regex:
            change = RegexChange.UNRESOLVED
            if old and group.regex_subscriptions[old] == 1:
                records.append(consumer_records.regular_expression_tombstone(group.group_id, old))
            if new and not group.regex_subscriptions[new]:
                _compiled(new)
                is_unknown = True
            elif (new and new in group.resolved_regexes) or (not new and old):
                change = RegexChange.RESOLVED
        if is_unknown or group.regex_subscriptions:
            self._schedule_if_needed(group, old, new, is_unknown, now)
        return change

    def _schedule_if_needed(self, group: ConsumerGroup, old: str, new: str, is_unknown: bool, now: Instant) -> None:
        if group.regex_resolution_scheduled:
            return
        last = next(iter(group.resolved_regexes.values()), None)
        # What was found out in the future was so before the clock was set back, and says nothing.
        if last is not None and last.timestamp_ms <= now.wall_ms <= last.timestamp_ms + MIN_REFRESH_INTERVAL_MS:
            return
        subscribed = set(group.regex_subscriptions)
        if old and old != new and group.regex_subscriptions[old] == 1:
            subscribed.discard(old)
        if new:
            subscribed.add(new)
        if not subscribed:
            return
        needed = (
            is_unknown
            or last is None
            or len(subscribed) != len(group.resolved_regexes)
            or last.version < self._topics_version
            or now.wall_ms > last.timestamp_ms + self._context.settings.consumer_regex_refresh_interval_ms
        )
        if needed:
            group.regex_resolution_scheduled = True
            group_id, may_describe = group.group_id, self.may_describe
            self._context.timers.schedule(now.monotonic_ms, lambda now: self._resolve(group_id, may_describe, now))

    def _resolve(self, group_id: str, may_describe: MayDescribe | None, now: Instant) -> Result[None]:
        """Find out what the group's expressions match, and start a new epoch when that changed.

        As in Kafka, it is what the member may know whose request has led to it, for all members.
        """
        group = self._context.groups.get(group_id)
        if not isinstance(group, ConsumerGroup):
            return Result(None)
        group.regex_resolution_scheduled = False
        image = self._context.image
        names = frozenset(image.topics.by_name)
        records = []
        removed, added = [], []
        for regex in group.regex_subscriptions:
            topics = self._matched(regex, names)
            if may_describe is not None:
                topics = frozenset(filter(may_describe, topics))
            resolved = ResolvedRegex(topics, image.offset, now.wall_ms)
            records.append(consumer_records.regular_expression(group_id, regex, resolved))
            before = group.resolved_regexes.get(regex)
            known = frozenset[str]() if before is None else before.topics
            if known != resolved.topics:
                removed.append(known)
                added.append(resolved.topics)
        metadata_hash = group.metadata_hash_after(removed, added)
        if removed or metadata_hash != group.metadata_hash:
            epoch = group.group_epoch + 1
            records.append(consumer_records.group_epoch(group_id, epoch, metadata_hash))
            group.metadata_refreshed(epoch)
            logger.info("group %s: epoch %d, expressions match other topics", group_id, epoch)
        return Result(None, records)

    def _matched(self, regex: str, names: frozenset[str]) -> frozenset[str]:
        """The topics of now that it matches; only names that are new since it was last asked for are looked at."""
        looked_at, known = self._matches.pop(regex, (frozenset(), frozenset()))
        try:
            new = filter(_compiled(regex).matches, names - looked_at)
            matched = (known & names).union(new)
        except (ApiError, ValueError) as error:
            # A Kafka of another version accepted it, or it takes too long to match.
            logger.warning("the regular expression %r matches nothing: %s", regex, getattr(error, "message", error))
            return frozenset()
        if len(self._matches) >= MAX_REMEMBERED:
            del self._matches[next(iter(self._matches))]
        self._matches[regex] = names, matched
        return matched


def _compiled(regex: str) -> Regex:
    # Imported with the first expression: few groups have any.
    from ottla.server.coordinator.topic_regex import topic_regex

    return topic_regex(regex)

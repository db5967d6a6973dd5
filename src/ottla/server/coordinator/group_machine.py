"""What the machines of consumer, share and streams groups get from their shard, and what the shard asks of them.

A machine creates and changes groups of one kind in the shard's dict. It is imported when its first group appears, so a
broker whose clients use one protocol carries the code of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ottla.core.errors import ErrorCode
from ottla.server.coordinator.group import Group
from ottla.server.coordinator.result import Completions, CoordinatorRecord, Instant
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.timers import Timers

if TYPE_CHECKING:
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

#: `ConfigResourceType.GROUP` as a plain number, which is quicker to hash.
GROUP_RESOURCE = 32

#: Typed settings of one group, by Kafka's names (`ottla.schema.group`), for the metadata of now.
GroupConfigs = Callable[["MetadataImage", str], Mapping[str, Any]]


class GroupContext:
    """A shard's surroundings, shared by its machines. ``new_id`` gives fresh uuids as text."""

    __slots__ = ("_configs", "_known_configs", "completions", "groups", "image", "new_id", "settings", "timers")

    def __init__(
        self, settings: GroupSettings, image: MetadataImage, configs: GroupConfigs, new_id: Callable[[], str]
    ) -> None:
        self.settings = settings
        self.image = image
        self.new_id = new_id
        #: All groups of whatever kind: an id names one group.
        self.groups: dict[str, Group] = {}
        self.timers = Timers()
        self.completions: Completions = []
        self._configs = configs
        self._known_configs: dict[str | None, Mapping[str, Any]] = {}

    def config_of(self, group_id: str) -> Mapping[str, Any]:
        """The group's settings, typed: its own, else the broker's; times in milliseconds as their names say.

        Groups without settings of their own, which are nearly all, share one mapping.
        """
        key = group_id if (GROUP_RESOURCE, group_id) in self.image.configs else None
        known = self._known_configs.get(key)
        if known is None:
            known = self._known_configs[key] = self._configs(self.image, group_id)
        return known

    def metadata_changed(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over a commit of metadata."""
        self.image = image
        if delta.changed_configs:
            self._known_configs.clear()


class GroupMachine(Protocol):
    """The state machine of all groups of one kind in one shard; constructed with the shard's `GroupContext`."""

    def replay(self, record: CoordinatorRecord) -> None:
        """Apply one record of this kind of groups."""

    def loaded(self, now: Instant) -> None:
        """Everything in the log was replayed: sessions start to run."""

    def metadata_changed(self, delta: MetadataDelta, now: Instant) -> list[CoordinatorRecord]:
        """The context has a new image; what has to be written because of it."""

    def unload(self, code: ErrorCode) -> None:
        """The shard ends here: refuse what is parked."""

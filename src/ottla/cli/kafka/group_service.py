"""What `kafka-consumer-groups`, `kafka-share-groups` and `kafka-streams-groups` do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from ottla.cli.kafka.group_offsets import chosen
from ottla.cli.kafka.hash_order import hash_ordered_items
from ottla.cli.kafka.offset_resets import OffsetResets
from ottla.cli.kafka.tables import columns, widest
from ottla.cli.kafka.thrown import by_future, by_runtime
from ottla.client.admin.groups import GroupState

if TYPE_CHECKING:
    from ottla.cli.kafka.jopt import Option, OptionSet
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.groups import GroupListing


class GroupOptions(Protocol):
    """The options that all three have, and what of them was given."""

    given: OptionSet
    list: Option
    describe: Option
    delete: Option
    reset_offsets: Option
    all_groups: Option
    group: Option
    state: Option
    timeout: Option


Options = TypeVar("Options", bound=GroupOptions)


class GroupService(ABC, Generic[Options]):
    """The actions. `LISTED`, as arguments of `Admin.list_groups`, says which groups the tool is about; `STATES` are
    those that such groups can be in.
    """

    LISTED: ClassVar[Mapping[str, Any]]
    STATES: ClassVar[tuple[str, ...]]

    def __init__(self, options: Options, admin: Admin) -> None:
        self._options = options
        self._given = options.given
        self._admin = admin
        self._timeout_s = options.given.value(options.timeout) / 1000
        self._resets = OffsetResets(admin, self._timeout_s)

    def act(self) -> None:
        """Do what the command line says. Raises `ToolError`."""
        options, given = self._options, self._given
        if given.has(options.list):
            self._list()
        elif given.has(options.describe):
            self._describe()
        elif given.has(options.delete):
            self._delete()
        elif given.has(options.reset_offsets):
            self._reset_offsets()
        else:
            self._delete_offsets()

    @abstractmethod
    def _describe(self) -> None: ...

    @abstractmethod
    def _delete(self) -> None: ...

    @abstractmethod
    def _reset_offsets(self) -> None: ...

    @abstractmethod
    def _delete_offsets(self) -> None: ...

    def _listings(self, **filters: Any) -> list[GroupListing]:
        found = self._admin.list_groups(timeout_s=self._timeout_s, **self.LISTED, **filters)
        return [listing for _, listing in hash_ordered_items({listing.group_id: listing for listing in found})]

    def _all_listings(self) -> list[GroupListing]:
        with by_runtime("listGroups"):
            return self._listings()

    def _groups(self) -> list[str]:
        if self._given.has(self._options.all_groups):
            return [listing.group_id for listing in self._all_listings()]
        return list(self._given.values(self._options.group))

    def _list(self) -> None:
        if not self._given.has(self._options.state):
            print("".join(f"{listing.group_id}\n" for listing in self._all_listings()), end="")
            return
        states = chosen(self._given.value(self._options.state), self.STATES, "state")
        with by_future("listGroups"):
            listings = self._listings(states=[GroupState(one) for one in states])
        _print_states_of(listings)


def _print_states_of(listings: Sequence[GroupListing]) -> None:
    width = widest(15, [listing.group_id for listing in listings])
    print(columns([width], ["GROUP", "STATE"]))
    for listing in listings:
        print(columns([width], [listing.group_id, (listing.state or GroupState.UNKNOWN).value]))

"""Faults by plain calls: what can go wrong between a client and its brokers, made to go wrong.

    with cluster.faults.fail("Produce", code="NOT_LEADER_OR_FOLLOWER", times=3) as fault:
        shop.order(...)
        fault.wait_hit()

Each call returns a `Fault`: it ends with its `with` block, with `clear()`, or when it has struck as often as it was to.
A broker that is restarted has the faults that are there.

Everything happens at the broker, below what clients can see: a refused request is answered as Kafka answers it, a
connection that is dropped is closed, one that is cut off is open and silent. The helpers of the cluster itself
(`create_topic`, `records` …) go past faults of requests and lines; those of disks they meet like everybody.
"""

from __future__ import annotations

import errno
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from ottla.client.errors import ConfigError, IllegalStateError
from ottla.core.errors import ErrorCode
from ottla.server.broker.api_table import APIS
from ottla.testing.board import Board
from ottla.testing.disk import OPERATIONS, TAKES_SPACE, DiskFault
from ottla.testing.injection import Effect, Fault, Filter, RequestFault
from ottla.testing.layout import client_id_of
from ottla.testing.lines import Cut
from ottla.testing.subjects import Target, subjects

if TYPE_CHECKING:
    from ottla.testing.disk import ClusterDisk
    from ottla.testing.runner import BrokerThread

Apis = str | int | Iterable[str | int] | None
"""An API by name or number, several of them, or None: every one."""

_API_NUMBERS = {api.name.lower(): key for key, api in APIS.items()}
_CODES = {code.name: code for code in ErrorCode if code is not ErrorCode.NONE}
_ERRNO = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES, "EROFS": errno.EROFS}


class Faulty(Protocol):
    """What faults want of a cluster."""

    threads: list[BrokerThread | None]

    @property
    def disks(self) -> Sequence[ClusterDisk]:
        """One for each broker, whether it runs or not."""


class Faults:
    """The faults of a cluster. May be used from every thread but the brokers'."""

    def __init__(self, cluster: Faulty) -> None:
        self._cluster = cluster
        self._active: list[Fault] = []
        self._boards: dict[int, tuple[BrokerThread, Board]] = {}
        self._appliers: dict[Fault, _Part] = {}
        self._count = 0
        self._lock = threading.RLock()

    # Requests

    def fail(
        self,
        api: Apis,
        code: str | int,
        *,
        times: int | None = 1,
        after: int = 0,
        topic: str | None = None,
        partition: int | None = None,
        group: str | None = None,
        client_id: str | None = None,
        message: str | None = None,
        broker: int | None = None,
    ) -> Fault:
        """Answer the next `times` requests (None: all) of an API with an error code, after sparing the first `after`.

        The code stands where the API carries it: for each partition, topic or group, or at the top. What the request
        asked for is not done; with `topic` or `partition` only for these, the rest of the request is served.
        `message` is for APIs that carry one.
        """
        found = _code(code)
        requests = _filter(api, topic, partition, group, client_id)
        text = f"fail {_text(api)} with {found.name}"
        return self._add_requests(text, requests, Effect(code=found, message=message), times, after, broker)

    def delay(
        self,
        api: Apis,
        seconds: float,
        *,
        times: int | None = None,
        after: int = 0,
        when: str = "request",
        topic: str | None = None,
        partition: int | None = None,
        group: str | None = None,
        client_id: str | None = None,
        broker: int | None = None,
    ) -> Fault:
        """Let requests of an API wait for `seconds` of the cluster's clock, before they are handled or (with
        `when="response"`) before they are answered. As in Kafka, what follows on the same connection waits too.
        """
        requests = _filter(api, topic, partition, group, client_id)
        seconds = _seconds(seconds)
        effect = Effect(delay_request_s=seconds) if _is_request(when) else Effect(delay_response_s=seconds)
        return self._add_requests(f"delay {_text(api)} by {seconds:g} s", requests, effect, times, after, broker)

    def drop(
        self,
        api: Apis,
        *,
        times: int | None = 1,
        after: int = 0,
        when: str = "request",
        topic: str | None = None,
        partition: int | None = None,
        group: str | None = None,
        client_id: str | None = None,
        broker: int | None = None,
    ) -> Fault:
        """Close the connection instead of handling a request, or (with `when="response"`) after handling it: what was
        to be done is done, and the client never hears.
        """
        requests = _filter(api, topic, partition, group, client_id)
        is_request = _is_request(when)
        effect = Effect(drop_request=True) if is_request else Effect(drop_response=True)
        text = f"drop the connection {'at' if is_request else 'after'} {_text(api)}"
        return self._add_requests(text, requests, effect, times, after, broker)

    # Lines

    def stall(self, seconds: float | None = None, *, broker: int | None = None) -> Fault:
        """The broker accepts connections and answers nothing, for so many seconds of the cluster's clock or until
        `resume()`. Then it answers what has come in meanwhile. Each hit is a connection.
        """
        return self._add_cut("stall", frozenset(), frozenset(), seconds, broker)

    def resume(self) -> None:
        """The end of every stall."""
        self._clear(lambda fault: fault.text.startswith("stall"))

    def partition(
        self,
        *,
        client_id: str | Iterable[str] = (),
        address: str | Iterable[str] = (),
        brokers: Iterable[Iterable[int]] | None = None,
        broker: int | None = None,
        seconds: float | None = None,
    ) -> Fault:
        """Cut clients off, by client id or by address (host, or host:port); without either, all. Their connections stay
        open, and nothing gets through either way, until `heal()` or for so many seconds.

        `brokers` instead are groups of brokers, `[[0], [1, 2]]`: members of different groups do not reach each other,
        clients reach all of them. A broker in no group reaches everybody.
        """
        if brokers is not None:
            if client_id or address or broker is not None:
                raise ConfigError("a partition is between brokers or from clients, not both.", hint="Use two faults.")
            return self._add_split([list(group) for group in brokers], seconds)
        ids, addresses = _strings(client_id), _strings(address)
        who = ", ".join(sorted(ids | addresses)) or "everybody"
        return self._add_cut(f"partition {who}", ids, addresses, seconds, broker)

    def heal(self) -> None:
        """The end of every partition."""
        self._clear(lambda fault: fault.text.startswith("partition"))

    def refuse_connections(self, *, broker: int | None = None) -> Fault:
        """Nobody listens at the broker's port any more; connections that are there stay. Hits are not counted: it is
        the operating system that refuses.
        """
        return self._add("refuse connections", None, _Refusing(), broker)

    # Disks

    def disk_full(self, *, broker: int | None = None) -> Fault:
        """No space is left: what would take some fails (a Produce with KAFKA_STORAGE_ERROR), until `disk_free()`."""
        return self._add_disk("disk full", broker, operations=TAKES_SPACE, number=errno.ENOSPC)

    def disk_free(self) -> None:
        """There is space again."""
        self._clear(lambda fault: fault.text == "disk full")

    def disk_slow(
        self, seconds: float, *, operations: Collection[str] = OPERATIONS, broker: int | None = None
    ) -> Fault:
        """Every operation of the disk takes so many real seconds longer; `operations` limits it to some kinds, such as
        {"sync"}. Where the broker does not use a thread for it, it stands still meanwhile.
        """
        text = f"disk slower by {_seconds(seconds):g} s"
        return self._add_disk(text, broker, operations=operations, pause_s=seconds)

    def disk_fail(
        self, error: str = "EIO", *, operations: Collection[str] = OPERATIONS, broker: int | None = None
    ) -> Fault:
        """Operations of the disk fail. As in Kafka a directory that fails is out of service until a restart, and a
        broker without any directory gives up.
        """
        number = _ERRNO.get(error.upper())
        if number is None:
            raise ConfigError(f"unknown error of a disk: {error!r}.", hint=f"Known are {', '.join(_ERRNO)}.")
        return self._add_disk(f"disk fails with {error.upper()}", broker, operations=operations, number=number)

    # All of them

    @property
    def active(self) -> list[Fault]:
        """Faults that can strike, the oldest first."""
        with self._lock:
            self._active = [fault for fault in self._active if fault.is_active]
            return list(self._active)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.active)

    def clear(self) -> None:
        """Nothing is wrong any more."""
        self._clear(lambda fault: True)

    def attach(self, broker: int) -> None:
        """A broker has been started: give it the faults that are there. For the cluster."""
        with self._lock:
            self.detach(broker)
            for fault in self.active:
                part = self._appliers.get(fault)
                if part is not None and part.is_for(broker):
                    self._apply(part, broker)

    def detach(self, broker: int) -> None:
        """A broker has ended. For the cluster."""
        with self._lock:
            found = self._boards.pop(broker, None)
            if found is not None:
                found[1].give_up()

    # Within

    def _clear(self, is_meant: Callable[[Fault], bool]) -> None:
        for fault in list(self._appliers):
            if is_meant(fault):
                fault.clear()

    def _add_requests(
        self, text: str, requests: Filter, effect: Effect, times: int | None, after: int, broker: int | None
    ) -> Fault:
        if times is not None and times < 1:
            raise ConfigError(f"a fault strikes once at least, not {times} times.", hint="times=None is always.")
        target = requests.target
        described = [f"{name} {value}" for name, value in zip(target._fields, target, strict=True) if value is not None]
        if requests.client_id is not None:
            described.append(f"client {requests.client_id}")
        if times is not None:
            described.append("once" if times == 1 else f"{times} times")
        text = ", ".join((text, *described))
        fault = RequestFault(text, times, self._withdraw, requests=requests, effect=effect, after=after)
        return self._put(fault, _Requests(fault), broker)

    def _add_cut(
        self,
        text: str,
        client_ids: frozenset[str],
        addresses: frozenset[str],
        seconds: float | None,
        broker: int | None,
    ) -> Fault:
        if seconds is not None:
            text = f"{text} for {_seconds(seconds):g} s"
        fault = Fault(text, None, self._withdraw)
        return self._put(fault, _Cutting(fault, client_ids, addresses, seconds), broker)

    def _add_split(self, groups: list[list[int]], seconds: float | None) -> Fault:
        count = len(self._cluster.threads)
        named = [index for group in groups for index in group]
        if count == 1:
            raise ConfigError("this cluster has one broker, so there are no lines between brokers to cut.", hint="")
        if len(groups) < 2 or len(set(named)) < len(named) or not all(0 <= index < count for index in named):
            raise ConfigError(
                f"brokers is two or more groups of different brokers, counted from 0 to {count - 1}: not {groups!r}.",
                hint="[[0], [1, 2]] cuts the first broker off.",
            )
        text = f"partition brokers {' from '.join(','.join(map(str, group)) for group in groups)}"
        if seconds is not None:
            text = f"{text} for {_seconds(seconds):g} s"
        fault = Fault(text, None, self._withdraw)
        return self._put(fault, _Splitting(fault, groups, seconds), None)

    def _add_disk(self, text: str, broker: int | None, **options: Any) -> Fault:
        fault = Fault(text, None, self._withdraw)
        try:
            trouble = DiskFault(on_strike=fault.take, **options)
        except ValueError as error:
            raise ConfigError(str(error), hint="") from None
        return self._put(fault, _Storage(trouble), broker)

    def _add(self, text: str, times: int | None, part: _Part, broker: int | None) -> Fault:
        return self._put(Fault(text, times, self._withdraw), part, broker)

    def _put(self, fault: Fault, part: _Part, broker: int | None) -> Fault:
        count = len(self._cluster.threads)
        if broker is not None and not 0 <= broker < count:
            raise ConfigError(f"there is no broker {broker}: this cluster has {count}, counted from 0.", hint="")
        with self._lock:
            self._count += 1
            fault.number = self._count
            part.broker = broker
            self._active = self.active
            self._active.append(fault)
            self._appliers = {one: kept for one, kept in self._appliers.items() if one.is_active}
            self._appliers[fault] = part
            for index in range(count):
                if part.is_for(index):
                    self._apply(part, index)
        return fault

    def _withdraw(self, fault: Fault) -> None:
        with self._lock:
            part = self._appliers.pop(fault, None)
            if fault in self._active:
                self._active.remove(fault)
            if part is None:
                return
            for index in range(len(self._cluster.threads)):
                if part.is_for(index):
                    part.withdraw_disk(self._cluster.disks[index])
                    if (found := self._board(index)) is not None:
                        thread, board = found
                        with suppress(IllegalStateError):  # it has ended meanwhile
                            thread.run(part.withdraw(board))

    def _apply(self, part: _Part, broker: int) -> None:
        part.apply_disk(self._cluster.disks[broker])
        if (found := self._board(broker)) is not None:
            thread, board = found
            thread.run(part.apply(board))

    def _board(self, broker: int) -> tuple[BrokerThread, Board] | None:
        """The running broker, and what is wrong with it."""
        thread = self._cluster.threads[broker]
        if thread is None or not thread.is_running:
            return None
        found = self._boards.get(broker)
        if found is None or found[0] is not thread:
            found = self._boards[broker] = thread, thread.call(Board, thread.node)
        return found


class _Part:
    """How a fault comes to a broker and leaves it. The coroutines run on the broker's event loop."""

    broker: int | None = None

    def is_for(self, broker: int) -> bool:
        """Whether it is about this broker."""
        return self.broker is None or self.broker == broker

    async def apply(self, board: Board) -> None:
        """From now on."""

    async def withdraw(self, board: Board) -> None:
        """No more."""

    def apply_disk(self, disk: ClusterDisk) -> None:
        """What it does to the disk, also of a broker that does not run."""

    def withdraw_disk(self, disk: ClusterDisk) -> None:
        """The end of that."""


class _Requests(_Part):
    def __init__(self, fault: RequestFault) -> None:
        self._fault = fault

    async def apply(self, board: Board) -> None:
        board.add_fault(self._fault)

    async def withdraw(self, board: Board) -> None:
        board.remove_fault(self._fault)


class _Cutting(_Part):
    def __init__(
        self, fault: Fault, client_ids: frozenset[str], addresses: frozenset[str], seconds: float | None
    ) -> None:
        self._fault = fault
        self._who = client_ids, addresses
        self._seconds = seconds
        self._cuts: dict[Board, Cut] = {}

    async def apply(self, board: Board) -> None:
        who = self.who(board)
        if who is None:
            return
        cut = self._cuts[board] = Cut(*who, on_held=self._fault.take)
        board.add_cut(cut)
        if self._seconds is not None:
            board.loop.call_later(self._seconds, self._over, board)

    def who(self, board: Board) -> tuple[frozenset[str], frozenset[str]] | None:
        """Client ids and addresses that are cut off from this broker; None: nobody."""
        return self._who

    async def withdraw(self, board: Board) -> None:
        self._heal(board)

    def _over(self, board: Board) -> None:
        self._fault.expire()
        self._heal(board)

    def _heal(self, board: Board) -> None:
        cut = self._cuts.pop(board, None)
        if cut is not None:
            board.remove_cut(cut)


class _Splitting(_Cutting):
    def __init__(self, fault: Fault, groups: list[list[int]], seconds: float | None) -> None:
        super().__init__(fault, frozenset(), frozenset(), seconds)
        self._groups = groups

    def who(self, board: Board) -> tuple[frozenset[str], frozenset[str]] | None:
        own = next((group for group in self._groups if board.node_id - 1 in group), None)
        if own is None:
            return None
        others = [index for group in self._groups if group is not own for index in group]
        return frozenset(client_id_of(index + 1) for index in others), frozenset()


class _Refusing(_Part):
    async def apply(self, board: Board) -> None:
        await board.refuse_connections()

    async def withdraw(self, board: Board) -> None:
        await board.accept_connections()


class _Storage(_Part):
    def __init__(self, trouble: DiskFault) -> None:
        self._trouble = trouble

    def apply_disk(self, disk: ClusterDisk) -> None:
        disk.lift(self._trouble)
        disk.impose(self._trouble)

    def withdraw_disk(self, disk: ClusterDisk) -> None:
        disk.lift(self._trouble)


# What callers say


def _filter(api: Apis, topic: str | None, partition: int | None, group: str | None, client_id: str | None) -> Filter:
    keys = None if api is None else frozenset(_api(one) for one in _several(api))
    target = Target(topic, partition, group)
    for key in keys or ():
        found = APIS[key]
        known = subjects(getattr(import_module(found.message_module), f"{found.name}Request"))
        for name, value in zip(target._fields, target, strict=True):
            if value is not None and name not in known:
                raise ConfigError(f"{found.name} requests name no {name}, so none would ever fit {value!r}.", hint="")
    return Filter(keys, target, client_id)


def _several(api: str | int | Iterable[str | int]) -> Iterable[str | int]:
    return (api,) if isinstance(api, str | int) else api


def _text(api: Apis) -> str:
    return "every API" if api is None else ", ".join(APIS[_api(one)].name for one in _several(api))


def _api(api: str | int) -> int:
    """The number of an API. Raises `ConfigError`, with the name that is nearest."""
    if isinstance(api, str) and not api.isdecimal():
        number = _API_NUMBERS.get(api.replace("_", "").lower(), -1)
    else:
        number = int(api)
    if number not in APIS:
        near = get_close_matches(str(api).replace("_", "").lower(), _API_NUMBERS, 1, 0.5)
        hint = f"Did you mean {APIS[_API_NUMBERS[near[0]]].name}?" if near else "Names are Kafka's, such as Produce."
        raise ConfigError(f"no API of a broker: {api!r}.", hint=hint)
    return number


def _code(code: str | int) -> ErrorCode:
    """An error code. Raises `ConfigError`, with the name that is nearest."""
    name = str(code).upper()
    number = name.removeprefix("-")
    if isinstance(code, str) and not number.isdecimal():
        found = _CODES.get(name.removesuffix("_EXCEPTION")) or _CODES.get(name)
    else:
        found = next((one for one in _CODES.values() if one == int(code)), None)
    if found is None:
        near = get_close_matches(name, _CODES, 1, 0.5)
        hint = f"Did you mean {near[0]}?" if near else "Names are Kafka's, such as REQUEST_TIMED_OUT."
        raise ConfigError(f"no error code of Kafka: {code!r}.", hint=hint)
    return found


def _is_request(when: str) -> bool:
    if when not in ("request", "response"):
        raise ConfigError(f'when is "request" or "response", not {when!r}.', hint="")
    return when == "request"


def _seconds(seconds: float) -> float:
    if not (isinstance(seconds, int | float) and seconds >= 0 and math.isfinite(seconds)):
        raise ConfigError(f"not a number of seconds: {seconds!r}.", hint="")
    return seconds


def _strings(given: str | Iterable[str]) -> frozenset[str]:
    return frozenset((given,) if isinstance(given, str) else given)

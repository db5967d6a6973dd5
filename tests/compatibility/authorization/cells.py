"""What is asked, by whom: rows of the matrix, and the cells that they make."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ottla.core.acl import CLUSTER_NAME, AclOperation, AclPermissionType, PatternType, ResourceType
from ottla.protocol.message import Message
from ottla.server.broker.api_table import APIS, CONTROLLER_APIS

TOPIC, GROUP, CLUSTER = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.CLUSTER
TRANSACTIONAL_ID, TOKEN, USER = ResourceType.TRANSACTIONAL_ID, ResourceType.DELEGATION_TOKEN, ResourceType.USER
READ, WRITE, CREATE, DELETE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.DELETE
ALTER, DESCRIBE, ALL = AclOperation.ALTER, AclOperation.DESCRIBE, AclOperation.ALL
DESCRIBE_CONFIGS, ALTER_CONFIGS = AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS
CLUSTER_ACTION, IDEMPOTENT_WRITE = AclOperation.CLUSTER_ACTION, AclOperation.IDEMPOTENT_WRITE

SHARED_TOPIC, SHARED_GROUP = "orders", "staff"
OTHER_CLUSTER = "AAAAAAAAAAAAAAAAAAAAAA"
NO_TOPIC_ID = bytes(16)
PASSWORD = "secret"

Need = tuple[AclOperation, ResourceType]
Values = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One request: `build` gives the fields of the message. `label` tells it from others of the same API."""

    api: str
    needs: tuple[Need, ...]
    build: Callable[[Cell], Values]
    label: str = ""
    version: int | None = None
    """The newest that both serve, unless another one is asked for."""
    on_controller: bool = False
    owns_topic: bool = False
    """The request changes the topic, or its name must not be taken: `True` makes one for each cell."""
    hides: bool = False
    """Who may not is not refused, but shown less."""
    makes_topic: bool = False
    """The request makes the topic, which is not there before."""
    before: tuple[str, Callable[[Cell], Values]] | None = None
    """What a super user asks first, so that there is something: an API, and the fields of its message."""

    @property
    def name(self) -> str:
        return f"{self.api}{f' ({self.label})' if self.label else ''}{' at a controller' if self.on_controller else ''}"


@dataclass(frozen=True)
class Cell:
    """One row, asked by one user. `ids` maps topics to their ids on the broker that is asked."""

    row: Row
    user: str
    variant: str
    allowed: tuple[Need, ...]
    denied: tuple[Need, ...] = ()
    may_all: bool = False
    ids: dict[str, bytes] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    """Whatever else differs between brokers: cluster id, incarnation."""

    @property
    def topic(self) -> str:
        return f"topic-{self.user}" if self.row.owns_topic or self.row.makes_topic else SHARED_TOPIC

    @property
    def topic_id(self) -> bytes:
        return self.ids.get(self.topic, NO_TOPIC_ID)

    @property
    def group(self) -> str:
        return f"group-{self.user}"

    @property
    def transactional_id(self) -> str:
        return f"transaction-{self.user}"

    def acls(self) -> Iterator[tuple[int, str, int, str, str, int, int]]:
        principal = f"User:{self.user}"
        if self.may_all:
            for kind in ResourceType:
                if kind > ResourceType.ANY:
                    name = CLUSTER_NAME if kind == CLUSTER else "*"
                    yield kind, name, PatternType.LITERAL, principal, "*", ALL, AclPermissionType.ALLOW
        for needs, permission in ((self.allowed, AclPermissionType.ALLOW), (self.denied, AclPermissionType.DENY)):
            for operation, kind in needs:
                for name in self._names(kind):
                    yield kind, name, PatternType.LITERAL, principal, "*", operation, permission

    def _names(self, kind: ResourceType) -> list[str]:
        if kind == GROUP:
            return [self.group, SHARED_GROUP]
        return [
            {
                TOPIC: self.topic,
                CLUSTER: CLUSTER_NAME,
                TRANSACTIONAL_ID: self.transactional_id,
                TOKEN: "token",
                USER: "User:owner",
            }[kind]
        ]


def cells(rows: Iterable[Row]) -> list[Cell]:
    """What is asked: all users are there from the start, so that no answer waits for an ACL."""
    found: list[Cell] = []
    for number, row in enumerate(rows):
        user = f"u{number}"
        found.append(Cell(row, f"{user}none", "no ACL", ()))
        found.append(Cell(row, f"{user}all", "allowed", row.needs))
        for index, need in enumerate(row.needs):
            others = tuple(one for one in row.needs if one != need)
            if others:
                found.append(Cell(row, f"{user}but{index}", f"allowed, but not {text_of(need)}", others))
            found.append(Cell(row, f"{user}deny{index}", f"denied {text_of(need)}", (), (need,), may_all=True))
    return found


def text_of(need: Need) -> str:
    operation, kind = need
    return f"{operation.name} on {kind.name}"


def message(api: str, kind: str) -> type[Message]:
    found = next(one for one in (*APIS.values(), *CONTROLLER_APIS.values()) if one.name == api)
    cls: type[Message] = getattr(importlib.import_module(found.message_module), api + kind)
    return cls


def make(cls: type[Message], values: Values) -> Any:
    """A message from plain values; what it has no field for is left out, so that builders serve several APIs."""
    given: Values = {}
    for one in cls.FIELDS:
        if one.name in values:
            value = values[one.name]
            if one.struct is not None and value is not None:
                is_list = isinstance(value, list)
                value = [make(one.struct, each) for each in value] if is_list else make(one.struct, value)
            given[one.name] = value
    return cls(**given)

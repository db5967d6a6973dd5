"""The port between the broker and who decides what a principal may do.

`StandardAuthorizer` (`ottla.server.security.standard_authorizer`) evaluates the cluster's ACLs as Apache Kafka's does.
A class of a user's own takes its place with `authorizer.class.name=module:Class`: it derives from `Authorizer`, or from
`StandardAuthorizer` to add to what ACLs say.

An authorizer is a core: no I/O, no clock, no threads. It is asked on the event loop, in the middle of a request, so it
answers at once. What it has to know of the cluster, the ACLs, it is told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ottla.core.acl import OPERATIONS_OF, AclOperation, AclPermissionType, PatternType, ResourceType
from ottla.core.errors import ApiError, ErrorCode

__all__ = [
    "SAMPLE_NAME",
    "Acl",
    "AclOperation",
    "AclPermissionType",
    "Authorizer",
    "AuthorizerNotReadyError",
    "PatternType",
    "ResourceType",
]

Acl: TypeAlias = tuple[int, str, int, str, str, int, int]
"""Resource type, resource name, pattern type, principal, host, operation, permission type: the fields of `AclImage`."""

SAMPLE_NAME = "hardcode"
"""A resource that nobody has in mind: who may do something with it may do it with resources in general. Apache Kafka
asks with this very name, so an ACL for it would have the same effect there."""


class AuthorizerNotReadyError(ApiError):
    """The ACLs have not been read from the metadata log yet; super users are served meanwhile.

    Kafka has no error code for it, clients see UNKNOWN_SERVER_ERROR.
    """

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNKNOWN_SERVER_ERROR, "The authorizer is not yet ready to handle requests.")


class Authorizer(ABC):
    """Decides who may do what.

    `principal` is `Type:name`, `groups` the names of the groups its login told (LDAP, token claims), `host` the
    client's address as text. `name` is the literal name of a resource, never a pattern.
    """

    version: int | None = None
    """As long as it is the same, the same question has the same answer, and who asks may keep it. None: nobody may."""

    allowed_count = 0
    """Questions of requests that were answered with yes."""

    denied_count = 0
    """And with no."""

    def __init__(self, settings: Mapping[str, str | None]) -> None:  # noqa: B027  (need not have any)
        """`settings`: the node's configuration as given, for settings of the authorizer's own."""

    @abstractmethod
    def authorize(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
        name: str,
    ) -> bool:
        """Whether it is allowed. Raises AuthorizerNotReadyError."""

    def authorize_by_resource_type(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
    ) -> bool:
        """Whether it is allowed with any resource of that type (KIP-679)."""
        return self.authorize(principal, groups, host, operation, resource_type, SAMPLE_NAME)

    def operations(
        self, principal: str, groups: tuple[str, ...], host: str, resource_type: ResourceType, name: str
    ) -> int:
        """All that is allowed with a resource, as a bit field: an operation's bit is its code (KIP-430)."""
        return sum(
            1 << operation
            for operation in OPERATIONS_OF[resource_type]
            if self.authorize(principal, groups, host, operation, resource_type, name)
        )

    def load(self, acls: Mapping[bytes, Acl]) -> None:  # noqa: B027  (need not care)
        """Hear of all ACLs of the cluster, by id: at the start, and when a snapshot takes the place of the log."""

    def change(self, added: Mapping[bytes, Acl], removed: Iterable[bytes]) -> None:  # noqa: B027  (need not care)
        """Hear of ACLs that came and went. An id is never used twice."""

    def describe(self) -> dict[str, Any]:
        """What a person may want to know of it: numbers for metrics and logs."""
        return {}

"""Which ACLs are meant: what DescribeAcls lists and DeleteAcls removes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from ottla.core.acl import ANYTHING, AclOperation, AclPermissionType, PatternType, ResourceType
from ottla.server.security.authorizer import Acl

_A = TypeVar("_A", bound=Acl)


class AclFilter(NamedTuple):
    """Codes as on the wire; None, and the codes called ANY, match everything.

    A name matches patterns of just this name; with the pattern type MATCH all that apply to the resource of that name.
    """

    resource_type: int
    resource_name: str | None
    pattern_type: int
    principal: str | None
    host: str | None
    operation: int
    permission_type: int

    @property
    def has_zero_codes(self) -> bool:
        """Whether a code is 0, which stands for nothing: Kafka reads no such request."""
        return not (self.resource_type and self.pattern_type and self.operation and self.permission_type)

    def matching(self, acls: Mapping[bytes, _A]) -> dict[bytes, _A]:
        """Those that are meant, in the order of `acls`."""
        return {acl_id: acl for acl_id, acl in acls.items() if self.matches(acl)}

    def matches(self, acl: Acl) -> bool:
        """Whether this one is meant."""
        resource_type, name, pattern_type, principal, host, operation, permission_type = acl
        return (
            self.resource_type in (ResourceType.ANY, resource_type)
            and self.operation in (AclOperation.ANY, operation)
            and self.permission_type in (AclPermissionType.ANY, permission_type)
            and self.principal in (None, principal)
            and self.host in (None, host)
            and self._matches_pattern(pattern_type, name)
        )

    def _matches_pattern(self, pattern_type: int, name: str) -> bool:
        if self.pattern_type not in (PatternType.ANY, PatternType.MATCH, pattern_type):
            return False
        wanted = self.resource_name
        if wanted is None or wanted == name:
            return True
        if self.pattern_type != PatternType.MATCH:
            return False
        return wanted.startswith(name) if pattern_type == PatternType.PREFIXED else name == ANYTHING


def rule_text(acl: Acl) -> str:
    """An ACL as people read it, in a line: `ALLOW User:bob from *: WRITE on TOPIC orders (LITERAL)`."""
    resource_type, name, pattern_type, principal, host, operation, permission_type = acl
    return (
        f"{AclPermissionType(permission_type).name} {principal} from {host}: {AclOperation(operation).name} on "
        f"{ResourceType(resource_type).name} {name} ({PatternType(pattern_type).name})"
    )


def is_known(enum: type[ResourceType | PatternType | AclOperation | AclPermissionType], code: int) -> bool:
    """Whether the code stands for something."""
    return code != 0 and code in enum._value2member_map_

"""Adding and removing ACLs (KIP-140, KIP-290): Kafka's checks, in Kafka's order.

An ACL that is there already is created once more without a record. A request that would write more than
`MOST_RECORDS` is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from ottla.core.acl import AclOperation, AclPermissionType, PatternType, ResourceType
from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.server.controller.configs import ACCEPTED, Refusal
from ottla.server.controller.result import Result
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import AclImage, MetadataImage
from ottla.server.security.acl_filter import AclFilter, is_known
from ottla.server.security.acl_index import network_of

MOST_RECORDS: Final = 10_000
"""Records of one request, as in Kafka."""


class Removal(NamedTuple):
    """What a filter has removed, or why it was refused."""

    refusal: Refusal
    acls: Sequence[AclImage] = ()


class AclCommands:
    """The commands on ACLs; made for the first of them. `uuid` gives ids."""

    def __init__(self, image: MetadataImage, uuid: Callable[[], bytes]) -> None:
        self._uuid = uuid
        self._acls = image.acls
        # There may be very many: whether one exists is not looked for in all of them each time.
        self._existing = set(image.acls.values())

    def follow(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over what was committed, or is about to be."""
        before, self._acls = self._acls, image.acls
        for acl_id, acl in delta.changed_acls.items():
            if acl is not None:
                self._existing.add(acl)
            elif acl_id in before:
                self._existing.discard(before[acl_id])

    def create(self, acls: Sequence[AclImage]) -> Result:
        """CreateAcls; the response is a Refusal (or ACCEPTED) for each. Raises ApiError POLICY_VIOLATION."""
        records: dict[AclImage, messages.AccessControlEntryRecord] = {}
        answers: list[Refusal] = []
        for acl in acls:
            try:
                _check(acl)
            except ApiError as error:
                answers.append(Refusal(error.code, error.message))
                continue
            answers.append(ACCEPTED)
            if acl not in self._existing and acl not in records:
                records[acl] = messages.AccessControlEntryRecord(id=self._uuid(), **acl._asdict())
        if len(records) > MOST_RECORDS:
            raise ApiError(ErrorCode.POLICY_VIOLATION, "Unable to perform excessively large batch operation.")
        return Result(list(records.values()), answers)

    def delete(self, filters: Sequence[AclFilter]) -> Result:
        """DeleteAcls; the response is a Removal for each filter. Raises ApiError INVALID_REQUEST for too many."""
        gone: dict[bytes, None] = {}
        removals: list[Removal] = []
        for wanted in filters:
            try:
                _check_filter(wanted)
            except ApiError as error:
                removals.append(Removal(Refusal(error.code, error.message)))
                continue
            found = wanted.matching(self._acls)
            gone.update(dict.fromkeys(found))
            if len(gone) > MOST_RECORDS:
                raise _invalid(f"Cannot remove more than {MOST_RECORDS} acls in a single delete operation.")
            removals.append(Removal(ACCEPTED, list(found.values())))
        records: list[Any] = [messages.RemoveAccessControlEntryRecord(id=acl_id) for acl_id in gone]
        return Result(records, removals)


def _check(acl: AclImage) -> None:
    """Raise ApiError INVALID_REQUEST for what cannot be an ACL."""
    if not is_known(ResourceType, acl.resource_type) or acl.resource_type == ResourceType.ANY:
        raise _invalid(f"Invalid resourceType {_name(ResourceType, acl.resource_type)}")
    if acl.pattern_type not in (PatternType.LITERAL, PatternType.PREFIXED):
        raise _invalid(f"Invalid patternType {_name(PatternType, acl.pattern_type)}")
    if not is_known(AclOperation, acl.operation) or acl.operation == AclOperation.ANY:
        raise _invalid(f"Invalid operation {_name(AclOperation, acl.operation)}")
    if acl.permission_type not in (AclPermissionType.DENY, AclPermissionType.ALLOW):
        raise _invalid(f"Invalid permissionType {_name(AclPermissionType, acl.permission_type)}")
    if not acl.resource_name:
        raise _invalid("Resource name should not be empty")
    if ":" not in acl.principal:
        raise _invalid(
            f"Could not parse principal from `{acl.principal}` (no colon is present separating the principal type from "
            "the principal name)"
        )
    try:
        network_of(acl.host)
    except ValueError:
        # Apache Kafka would take it, and never match it.
        raise _invalid(f"Invalid host `{acl.host}`: not a network such as 10.0.0.0/8") from None


def _check_filter(wanted: AclFilter) -> None:
    if not (is_known(ResourceType, wanted.resource_type) and is_known(PatternType, wanted.pattern_type)):
        raise _invalid("Unknown patternFilter.")
    if not (is_known(AclOperation, wanted.operation) and is_known(AclPermissionType, wanted.permission_type)):
        raise _invalid("Unknown entryFilter.")


def _name(enum: type[IntEnum], code: int) -> str:
    found = enum._value2member_map_.get(code)
    return "UNKNOWN" if found is None else found.name


def _invalid(text: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, text)

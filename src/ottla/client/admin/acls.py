"""Access rules (KIP-140, prefixed since KIP-290)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import known, outcome, settle
from ottla.client.admin.routing import AnyNode, Target
from ottla.client.errors import KafkaError, error_for
from ottla.core.acl import AclOperation as AclOperation
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_acls import AclCreation, CreateAclsRequest, CreateAclsResponse
from ottla.protocol.messages.delete_acls import (
    DeleteAclsFilter,
    DeleteAclsFilterResult,
    DeleteAclsRequest,
    DeleteAclsResponse,
)
from ottla.protocol.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse


class AclResourceType(IntEnum):
    """What a rule protects. ANY is for filters; UNKNOWN is what a newer broker knows and we do not."""

    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class AclPatternType(IntEnum):
    """How the resource's name is meant. MATCH (what would apply to this name) and ANY are for filters."""

    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class AclPermission(IntEnum):
    """Whether a rule allows or denies. ANY is for filters."""

    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


class AclBinding(NamedTuple):
    """A rule: this principal, from this host, may (or may not) do this with these resources."""

    resource_type: AclResourceType
    resource_name: str
    """Name, prefix, or `*`; `kafka-cluster` for the cluster."""
    principal: str
    """`User:alice`, or `User:*` for everybody."""
    operation: AclOperation
    permission: AclPermission = AclPermission.ALLOW
    pattern_type: AclPatternType = AclPatternType.LITERAL
    host: str = "*"

    def __str__(self) -> str:
        return (
            f"{self.permission.name} {self.principal} from {self.host} {self.operation.name} on "
            f"{self.pattern_type.name} {self.resource_type.name} {self.resource_name}"
        )


class AclFilter(NamedTuple):
    """Which rules are meant; by default all. None and ANY match everything."""

    resource_type: AclResourceType = AclResourceType.ANY
    resource_name: str | None = None
    principal: str | None = None
    operation: AclOperation = AclOperation.ANY
    permission: AclPermission = AclPermission.ANY
    pattern_type: AclPatternType = AclPatternType.ANY
    host: str | None = None


class AclCalls(AdminCalls):
    """Calls about access rules."""

    async def describe_acls(
        self, acl_filter: AclFilter | None = None, *, timeout_s: float | None = None
    ) -> list[AclBinding]:
        """The rules that match (all, without a filter). A cluster without authorizer raises SECURITY_DISABLED."""
        wanted = acl_filter or AclFilter()

        async def ask(target: Target) -> list[AclBinding]:
            request = DescribeAclsRequest(
                resource_type_filter=int(wanted.resource_type),
                resource_name_filter=wanted.resource_name,
                pattern_type_filter=int(wanted.pattern_type),
                principal_filter=wanted.principal,
                host_filter=wanted.host,
                operation=int(wanted.operation),
                permission_type=int(wanted.permission),
            )
            response = await target.request(request, DescribeAclsResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return [
                AclBinding(
                    known(AclResourceType, resource.resource_type),
                    resource.resource_name,
                    acl.principal,
                    known(AclOperation, acl.operation),
                    known(AclPermission, acl.permission_type),
                    known(AclPatternType, resource.pattern_type),
                    acl.host,
                )
                for resource in response.resources
                for acl in resource.acls
            ]

        return await self._routing.run_one("describe_acls", AnyNode(), ask, timeout_s)

    async def create_acls(self, acls: AclBinding | Iterable[AclBinding], *, timeout_s: float | None = None) -> None:
        """Add rules. One that is there already stays as it is."""
        bindings = [acls] if isinstance(acls, AclBinding) else list(acls)

        async def ask(target: Target, asked: list[AclBinding]) -> dict[AclBinding, KafkaError | None]:
            refused = {acl: error for acl in asked if (error := _refused(acl)) is not None}
            keys = [acl for acl in asked if acl not in refused]
            if not keys:
                return dict(refused)
            request = CreateAclsRequest(
                creations=[
                    AclCreation(
                        resource_type=int(acl.resource_type),
                        resource_name=acl.resource_name,
                        resource_pattern_type=int(acl.pattern_type),
                        principal=acl.principal,
                        host=acl.host,
                        operation=int(acl.operation),
                        permission_type=int(acl.permission),
                    )
                    for acl in keys
                ]
            )
            response = await target.request(request, CreateAclsResponse)
            return refused | {
                acl: outcome(result.error_code, result.error_message, None)
                for acl, result in zip(keys, response.results, strict=False)
            }

        await self._routing.run("create_acls", bindings, AnyNode(), ask, timeout_s)

    async def delete_acls(
        self, filters: AclFilter | Iterable[AclFilter], *, timeout_s: float | None = None
    ) -> dict[AclFilter, list[AclBinding]]:
        """Remove the rules that match; returns them by filter."""
        wanted = [filters] if isinstance(filters, AclFilter) else list(filters)

        async def ask(target: Target, keys: list[AclFilter]) -> dict[AclFilter, list[AclBinding] | KafkaError]:
            request = DeleteAclsRequest(
                filters=[
                    DeleteAclsFilter(
                        resource_type_filter=int(one.resource_type),
                        resource_name_filter=one.resource_name,
                        pattern_type_filter=int(one.pattern_type),
                        principal_filter=one.principal,
                        host_filter=one.host,
                        operation=int(one.operation),
                        permission_type=int(one.permission),
                    )
                    for one in keys
                ]
            )
            response = await target.request(request, DeleteAclsResponse)
            return {one: _deleted(result) for one, result in zip(keys, response.filter_results, strict=False)}

        return await self._routing.run("delete_acls", wanted, AnyNode(), ask, timeout_s)


def _refused(acl: AclBinding) -> KafkaError | None:
    """A rule says what it is about; ANY, MATCH and UNKNOWN do not."""
    vague = [
        one.name
        for one in (acl.resource_type, acl.pattern_type, acl.operation, acl.permission)
        if one.name in ("ANY", "MATCH", "UNKNOWN")
    ]
    if vague:
        return error_for(ErrorCode.INVALID_REQUEST, f"A rule cannot be for {', '.join(vague)}.")
    return None


def _deleted(result: DeleteAclsFilterResult) -> list[AclBinding] | KafkaError:
    if result.error_code:
        return error_for(result.error_code, result.error_message)
    outcomes: dict[AclBinding, KafkaError | None] = {}
    for acl in result.matching_acls:
        binding = AclBinding(
            known(AclResourceType, acl.resource_type),
            acl.resource_name,
            acl.principal,
            known(AclOperation, acl.operation),
            known(AclPermission, acl.permission_type),
            known(AclPatternType, acl.pattern_type),
            acl.host,
        )
        outcomes[binding] = outcome(acl.error_code, acl.error_message, None)
    try:
        return list(settle(outcomes))
    except KafkaError as error:
        return error


def operations(bits: int) -> frozenset[AclOperation] | None:
    """The operations of a response's bit field; None where the broker was not asked or does not tell."""
    if bits == -(2**31):
        return None
    return frozenset(operation for operation in AclOperation if operation > 2 and bits >> operation & 1)

"""Quotas of users, clients and addresses (KIP-546, KIP-612)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import outcome
from ottla.client.admin.routing import AnyNode, Target
from ottla.client.errors import KafkaError, error_for
from ottla.protocol.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasRequestEntryData,
    AlterClientQuotasResponse,
    EntityData,
    OpData,
)
from ottla.protocol.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)


class QuotaName(Enum):
    """What stands for a name where there is none."""

    DEFAULT = "default"
    """All that have no quota of their own."""
    ANY = "any"
    """In a filter: any name, and the default."""


DEFAULT = QuotaName.DEFAULT
ANY = QuotaName.ANY


class ClientQuotaEntity(NamedTuple):
    """Whom a quota is for: a user, a client id, both together, or an address. `DEFAULT` for all without their own."""

    user: str | QuotaName | None = None
    client_id: str | QuotaName | None = None
    ip: str | QuotaName | None = None

    def __str__(self) -> str:
        named = {"user": self.user, "client-id": self.client_id, "ip": self.ip}
        return " ".join(
            f"{kind} {'(default)' if name is DEFAULT else name}" for kind, name in named.items() if name is not None
        )


class QuotaCalls(AdminCalls):
    """Calls about quotas."""

    async def describe_client_quotas(
        self,
        *,
        user: str | QuotaName | None = None,
        client_id: str | QuotaName | None = None,
        ip: str | QuotaName | None = None,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> dict[ClientQuotaEntity, dict[str, float]]:
        """The quotas of matching entities, `{entity: {"producer_byte_rate": 1024.0}}`; all of them without a filter.

        Each of the three is a name, `DEFAULT`, or `ANY`. With `strict` entities that also name something else are
        left out: `user=ANY, strict=True` finds quotas of users, but not those of users with a client id.
        """
        request = DescribeClientQuotasRequest(
            components=[
                ComponentData(
                    entity_type=kind,
                    match_type=0 if isinstance(name, str) else 1 if name is DEFAULT else 2,
                    match=name if isinstance(name, str) else None,
                )
                for kind, name in (("user", user), ("client-id", client_id), ("ip", ip))
                if name is not None
            ],
            strict=strict,
        )

        async def ask(target: Target) -> dict[ClientQuotaEntity, dict[str, float]]:
            response = await target.request(request, DescribeClientQuotasResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return {
                _entity({part.entity_type: part.entity_name for part in entry.entity}): {
                    value.key: value.value for value in entry.values
                }
                for entry in response.entries or ()
            }

        return await self._routing.run_one("describe_client_quotas", AnyNode(), ask, timeout_s)

    async def alter_client_quotas(
        self,
        alterations: Mapping[ClientQuotaEntity, Mapping[str, float | None]],
        *,
        validate_only: bool = False,
        timeout_s: float | None = None,
    ) -> None:
        """Set quotas, `{ClientQuotaEntity(user="alice"): {"producer_byte_rate": 1024.0}}`; None removes one."""
        if any(ANY in (entity.user, entity.client_id, entity.ip) for entity in alterations):
            raise ValueError("ANY is for describe_client_quotas: a quota is for a name, or for DEFAULT")

        async def ask(target: Target, asked: list[ClientQuotaEntity]) -> dict[ClientQuotaEntity, KafkaError | None]:
            request = AlterClientQuotasRequest(
                entries=[
                    AlterClientQuotasRequestEntryData(
                        entity=_parts(entity),
                        ops=[
                            OpData(key=key, value=0.0 if value is None else float(value), remove=value is None)
                            for key, value in alterations[entity].items()
                        ],
                    )
                    for entity in asked
                ],
                validate_only=validate_only,
            )
            response = await target.request(request, AlterClientQuotasResponse)
            return {
                _entity({part.entity_type: part.entity_name for part in entry.entity}): outcome(
                    entry.error_code, entry.error_message, None
                )
                for entry in response.entries
            }

        await self._routing.run("alter_client_quotas", alterations, AnyNode(), ask, timeout_s)


def _parts(entity: ClientQuotaEntity) -> list[EntityData]:
    return [
        EntityData(entity_type=kind, entity_name=name if isinstance(name, str) else None)
        for kind, name in (("user", entity.user), ("client-id", entity.client_id), ("ip", entity.ip))
        if name is not None
    ]


def _entity(parts: dict[str, str | None]) -> ClientQuotaEntity:
    if unknown := parts.keys() - {"user", "client-id", "ip"}:
        raise KafkaError(f"The broker has quotas for {', '.join(sorted(unknown))}, which this client does not know.")

    def name(kind: str) -> str | QuotaName | None:
        return None if kind not in parts else DEFAULT if parts[kind] is None else parts[kind]

    return ClientQuotaEntity(name("user"), name("client-id"), name("ip"))

"""AlterClientQuotas (key 49), versions 0-1 (KIP-546): set or remove quotas of users, client ids and addresses.

Version notes. 1: flexible. Refusals, for each entity: INVALID_REQUEST (an entity or a key that there cannot be, or
twice; a value that is not above 0, has a fraction or is too large for its key; an address that nobody knows).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.protocol.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    AlterClientQuotasResponseEntryData,
    EntityData,
)
from ottla.server.controller.client_quotas import IP, QuotaAlteration

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: AlterClientQuotasRequest, context: RequestContext
) -> AlterClientQuotasResponse:
    """Have the controller decide."""
    alterations = [
        QuotaAlteration(
            tuple(sorted({part.entity_type: part.entity_name for part in entry.entity}.items())),
            [(op.key, None if op.remove else op.value) for op in entry.ops],
        )
        for entry in request.entries
    ]
    hosts = {name for entity, _ in alterations for entity_type, name in entity if entity_type == IP and name}
    answers = await broker.controller.alter_client_quotas(
        alterations,
        unknown_hosts=[host for host in sorted(hosts) if not await _is_known(host)],
        validate_only=request.validate_only,
    )
    return AlterClientQuotasResponse(
        entries=[
            AlterClientQuotasResponseEntryData(
                error_code=answer.code,
                error_message=answer.text,
                entity=[EntityData(entity_type=entity_type, entity_name=name) for entity_type, name in entity],
            )
            for entity, answer in answers.items()
        ]
    )


def error_response(
    request: AlterClientQuotasRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AlterClientQuotasResponse:
    """The code for each entity."""
    return AlterClientQuotasResponse(
        entries=[
            AlterClientQuotasResponseEntryData(error_code=code, error_message=message, entity=list(entry.entity))
            for entry in request.entries
        ]
    )


async def _is_known(host: str) -> bool:
    """Whether it is an address, or a name for one."""
    try:
        return bool(await asyncio.get_running_loop().getaddrinfo(host, None))
    except (OSError, UnicodeError):
        return False

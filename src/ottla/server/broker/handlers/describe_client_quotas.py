"""DescribeClientQuotas (key 48), versions 0-1 (KIP-546): the quotas whose entities match a filter.

A filter names types of entities, each with an exact name (match type 0), as the default (1) or however it is named (2);
an entity matches when it has all of them, and with `strict` nothing else. Version notes. 1: flexible. Refusals:
INVALID_REQUEST (a filter that cannot be), UNSUPPORTED_VERSION (a type of entity that there is not).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import QuotaEntity

_EXACT, _DEFAULT, _ANY = range(3)
_TYPES = ("user", "client-id", "ip")


def handle(
    broker: Broker, request: DescribeClientQuotasRequest, context: RequestContext
) -> DescribeClientQuotasResponse:
    """Look through the image."""
    named, any_name = _filter(request.components)
    return DescribeClientQuotasResponse(
        error_message=None,
        entries=[
            EntryData(
                entity=[EntityData(entity_type=entity_type, entity_name=name) for entity_type, name in entity],
                values=[ValueData(key=key, value=value) for key, value in values.items()],
            )
            for entity, values in broker.image.client_quotas.items()
            if _matches(entity, named, any_name, strict=request.strict)
        ],
    )


def error_response(
    request: DescribeClientQuotasRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeClientQuotasResponse:
    """No entries at all, rather than an empty list of them."""
    return DescribeClientQuotasResponse(error_code=code, error_message=message, entries=None)


def _filter(components: list[ComponentData]) -> tuple[dict[str, str | None], set[str]]:
    """Types that must have this name (None: the default), and types that must be there."""
    named: dict[str, str | None] = {}
    any_name: set[str] = set()
    for component in components:
        entity_type, match = component.entity_type, component.match
        if not entity_type:
            raise _invalid("Invalid empty entity type.")
        if entity_type in named or entity_type in any_name:
            raise _invalid(f"Entity type {entity_type} cannot appear more than once in the filter.")
        if entity_type not in _TYPES:
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {entity_type}")
        if component.match_type == _EXACT:
            if match is None:
                raise _invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
            named[entity_type] = match
        elif component.match_type in (_DEFAULT, _ANY):
            if match is not None:
                name = "MATCH_TYPE_DEFAULT" if component.match_type == _DEFAULT else "MATCH_TYPE_SPECIFIED"
                raise _invalid(f"Request specified {name}, but also specified a match string.")
            if component.match_type == _DEFAULT:
                named[entity_type] = None
            else:
                any_name.add(entity_type)
        else:
            raise _invalid(f"Unknown match type {component.match_type}")
    wanted = {*named, *any_name}
    if "ip" in wanted and len(wanted) > 1:
        raise _invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId "
            "filter component."
        )
    return named, any_name


def _matches(entity: QuotaEntity, named: dict[str, str | None], any_name: set[str], *, strict: bool) -> bool:
    parts = dict(entity)
    if strict and len(parts) != len(named) + len(any_name):
        return False
    return any_name <= parts.keys() and all(
        entity_type in parts and parts[entity_type] == name for entity_type, name in named.items()
    )


def _invalid(text: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, text)

"""Setting and removing client quotas (KIP-546): Kafka's checks, in Kafka's order.

An entity is a user, a client id, both, or an address, each by name or (None) as the default of all not named. Keys and
their types are those of `schema.quota`; every value must be above 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.schema.definition import SettingTable, SettingType
from ottla.schema.quota import CLIENT_QUOTAS, IP_QUOTAS
from ottla.server.controller.configs import ACCEPTED, Refusal
from ottla.server.controller.result import Result
from ottla.server.metadata.image import MetadataImage, QuotaEntity

USER, CLIENT_ID, IP = "user", "client-id", "ip"

_LARGEST: Final = {SettingType.INT: ("an INT", 2**31 - 1), SettingType.LONG: ("a LONG", 2**63 - 1)}
_SMALLEST_FRACTION: Final = 1e-6


class QuotaAlteration(NamedTuple):
    """What to do to one entity: each key's new value, or None to remove it. `entity` is sorted by type."""

    entity: QuotaEntity
    changes: list[tuple[str, float | None]]


Answers = dict[QuotaEntity, Refusal]
"""The outcome for each entity, in the order of the request."""


def alter_client_quotas(
    image: MetadataImage,
    alterations: Iterable[QuotaAlteration],
    *,
    unknown_hosts: Collection[str] = (),
    validate_only: bool = False,
) -> Result:
    """AlterClientQuotas; the response is `Answers`. `unknown_hosts` are the names of ip entities that stand for no
    address. An entity's quotas change as a whole or not at all."""
    records: list[messages.ClientQuotaRecord] = []
    answers: Answers = {}
    for entity, changes in alterations:
        try:
            if entity in answers or len({key for key, _ in changes}) < len(changes):
                raise _invalid(f"Ignoring duplicate entity {_text(entity)}")
            settings = _settings_for(entity, unknown_hosts)
            records += _records(image, entity, changes, settings)
            answers[entity] = ACCEPTED
        except ApiError as error:
            answers[entity] = Refusal(error.code, error.message)
    return Result([] if validate_only else list(records), answers)


def _settings_for(entity: QuotaEntity, unknown_hosts: Collection[str]) -> SettingTable:
    """The keys that such an entity can have."""
    if not entity:
        raise _invalid("Invalid empty client quota entity")
    for entity_type, name in entity:
        if entity_type not in (USER, CLIENT_ID, IP):
            raise _invalid(f"Unhandled client quota entity type: {entity_type}")
        if name == "":
            raise _invalid(f"Empty {entity_type} not supported")
    names = dict(entity)
    if IP not in names:
        return CLIENT_QUOTAS
    if len(names) > 1:
        raise _invalid("Invalid quota entity combination, IP entity should not be combined with User or ClientId")
    if names[IP] in unknown_hosts:
        raise _invalid(f"{names[IP]} is not a valid IP or resolvable host.")
    return IP_QUOTAS


def _records(
    image: MetadataImage, entity: QuotaEntity, changes: list[tuple[str, float | None]], settings: SettingTable
) -> list[messages.ClientQuotaRecord]:
    before = image.client_quotas.get(entity, {})
    records = []
    for key, value in changes:
        if value is not None:
            _check(settings, key, value)
        if before.get(key) != value:
            parts = [messages.EntityData(entity_type=entity_type, entity_name=name) for entity_type, name in entity]
            records.append(messages.ClientQuotaRecord(entity=parts, key=key, value=value or 0.0, remove=value is None))
    return records


def _check(settings: SettingTable, key: str, value: float) -> None:
    setting = settings.get(key)
    if setting is None:
        raise _invalid(f"Invalid configuration key {key}")
    if not value > 0:  # which NaN is not either
        raise _invalid(f"Quota {key} must be greater than 0")
    if setting.type in _LARGEST:
        name, largest = _LARGEST[setting.type]
        if value > largest:
            raise _invalid(f"Proposed value for {key} is too large for {name}.")
        if value % 1.0 > _SMALLEST_FRACTION:
            raise _invalid(f"{key} cannot be a fractional value.")


def _invalid(text: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, text)


def _text(entity: QuotaEntity) -> str:
    parts = ", ".join(f"{entity_type}={'null' if name is None else name}" for entity_type, name in entity)
    return f"ClientQuotaEntity(entries={{{parts}}})"

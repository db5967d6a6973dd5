"""DescribeClientQuotas and AlterClientQuotas through the bytes of every version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import alter_client_quotas as altering
from ottla.protocol.messages import describe_client_quotas as describing
from ottla.server.broker.broker import RequestContext
from ottla.server.broker.handlers import alter_client_quotas
from tests.server.broker.handlers.metadata_world import World, run, versions

EXACT, DEFAULT, ANY = range(3)
RATE = "consumer_byte_rate"


async def alter(
    world: World,
    *entries: tuple[Mapping[str, str | None], Mapping[str, float | None]],
    version: int = 1,
    dry: bool = False,
) -> list[tuple[dict[str, str | None], int, str | None]]:
    request = altering.AlterClientQuotasRequest(
        entries=[
            altering.AlterClientQuotasRequestEntryData(
                entity=[altering.EntityData(entity_type=kind, entity_name=name) for kind, name in entity.items()],
                ops=[
                    altering.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in values.items()
                ],
            )
            for entity, values in entries
        ],
        validate_only=dry,
    )
    response = await world.ask(request, version)
    return [
        ({part.entity_type: part.entity_name for part in one.entity}, one.error_code, one.error_message)
        for one in response.entries
    ]


async def describe(
    world: World, *components: tuple[str, int, str | None], strict: bool = False, version: int = 1
) -> Any:
    return await world.ask(
        describing.DescribeClientQuotasRequest(
            components=[
                describing.ComponentData(entity_type=kind, match_type=match_type, match=match)
                for kind, match_type, match in components
            ],
            strict=strict,
        ),
        version,
    )


def found(response: Any) -> list[tuple[dict[str, str | None], dict[str, float]]]:
    assert response.error_code == ErrorCode.NONE
    assert response.error_message is None
    return [
        (
            {part.entity_type: part.entity_name for part in entry.entity},
            {value.key: value.value for value in entry.values},
        )
        for entry in response.entries
    ]


@pytest.mark.parametrize("version", versions(48))
def test_what_was_set_is_found_by_every_kind_of_filter(version: int) -> None:
    alice: dict[str, str | None] = {"user": "alice"}
    anybody: dict[str, str | None] = {"user": None}
    app, both = {"client-id": "app"}, {"client-id": "app", "user": "alice"}
    address = {"ip": "10.0.0.1"}

    async def test(world: World) -> None:
        entities_set: list[dict[str, str | None]] = [alice, anybody, {**app}, {**both}]
        for number, entity in enumerate(entities_set, 1):
            assert await alter(world, (entity, {RATE: number}), version=version) == [(entity, 0, None)]
        await alter(world, (address, {"connection_creation_rate": 5.0}), version=version)

        async def entities(*components: Any, strict: bool = False) -> list[dict[str, str | None]]:
            return [entity for entity, _ in found(await describe(world, *components, strict=strict, version=version))]

        assert await entities() == [alice, anybody, app, both, address]
        assert await entities(("user", EXACT, "alice")) == [alice, both]
        assert await entities(("user", EXACT, "alice"), strict=True) == [alice]
        assert await entities(("user", DEFAULT, None)) == [anybody]
        assert await entities(("user", ANY, None)) == [alice, anybody, both]
        assert await entities(("user", ANY, None), ("client-id", EXACT, "app"), strict=True) == [both]
        assert await entities(("ip", ANY, None), strict=True) == [address]
        assert await entities(("ip", DEFAULT, None)) == []
        assert await entities(strict=True) == []
        assert found(await describe(world, ("client-id", EXACT, "app"), strict=True, version=version)) == [
            (app, {RATE: 3.0})
        ]

    run(test)


@pytest.mark.parametrize(
    ("components", "code", "text"),
    [
        ([("", ANY, None)], ErrorCode.INVALID_REQUEST, "Invalid empty entity type."),
        (
            [("user", ANY, None), ("user", EXACT, "u")],
            ErrorCode.INVALID_REQUEST,
            "Entity type user cannot appear more than once in the filter.",
        ),
        ([("group", ANY, None)], ErrorCode.UNSUPPORTED_VERSION, "Unsupported entity type group"),
        ([("user", EXACT, None)], ErrorCode.INVALID_REQUEST, "but set match string to null"),
        ([("user", DEFAULT, "u")], ErrorCode.INVALID_REQUEST, "MATCH_TYPE_DEFAULT, but also specified a match string"),
        ([("user", ANY, "u")], ErrorCode.INVALID_REQUEST, "MATCH_TYPE_SPECIFIED, but also specified a match string"),
        ([("user", 7, None)], ErrorCode.INVALID_REQUEST, "Unknown match type 7"),
        ([("ip", ANY, None), ("user", ANY, None)], ErrorCode.INVALID_REQUEST, "IP filter component should not be used"),
    ],
)
def test_filters_that_cannot_be_are_refused(components: Any, code: ErrorCode, text: str) -> None:
    async def test(world: World) -> None:
        response = await describe(world, *components)
        assert response.error_code == code
        assert text in response.error_message
        assert response.entries is None

    run(test)


def test_an_alteration_may_be_tried_only_and_is_refused_for_each_entity() -> None:
    async def test(world: World) -> None:
        entries = (({"user": "alice"}, {RATE: 5.0}), ({"user": "bob"}, {RATE: -1.0}))
        answers = await alter(world, *entries, dry=True)
        assert [code for _, code, _ in answers] == [ErrorCode.NONE, ErrorCode.INVALID_REQUEST]
        assert found(await describe(world)) == []
        await alter(world, *entries)
        assert found(await describe(world)) == [({"user": "alice"}, {RATE: 5.0})]
        assert await alter(world, ({"user": "alice"}, {RATE: None})) == [({"user": "alice"}, 0, None)]
        assert found(await describe(world)) == []

    run(test)


def test_an_address_may_be_a_name_that_somebody_knows() -> None:
    async def test(world: World) -> None:
        rate = {"connection_creation_rate": 5.0}
        answers = await alter(
            world, ({"ip": "localhost"}, rate), ({"ip": "::1"}, rate), ({"ip": "no.such.host.invalid"}, rate)
        )
        assert [code for _, code, _ in answers] == [ErrorCode.NONE, ErrorCode.NONE, ErrorCode.INVALID_REQUEST]
        assert answers[2][2] == "no.such.host.invalid is not a valid IP or resolvable host."

    run(test)


def test_a_failure_is_answered_for_each_entity() -> None:
    request = altering.AlterClientQuotasRequest(
        entries=[
            altering.AlterClientQuotasRequestEntryData(
                entity=[altering.EntityData(entity_type="user", entity_name="alice")], ops=[]
            )
        ]
    )
    error = ApiError(ErrorCode.KAFKA_STORAGE_ERROR, "the disk is full")
    response = alter_client_quotas.error_response(request, RequestContext(), error.code, error.message)
    assert [(one.error_code, one.error_message) for one in response.entries] == [(error.code, error.message)]
    assert response.entries[0].entity[0].entity_name == "alice"

"""Client quotas and SCRAM credentials, described and altered: what is taken, found and refused."""

from __future__ import annotations

from ottla.protocol.messages import alter_client_quotas as altering
from ottla.protocol.messages import describe_client_quotas as describing
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest, UserName
from tests.compatibility.differential.world import World

EXACT, DEFAULT, ANY = range(3)
PRODUCE, PERCENT, CONNECTIONS = "producer_byte_rate", "request_percentage", "connection_creation_rate"

Entity = tuple[tuple[str, str | None], ...]
Values = tuple[tuple[str, float | None], ...]


def _alter(
    world: World, label: str, *entries: tuple[Entity, Values], version: int = 1, validate_only: bool = False
) -> None:
    request = altering.AlterClientQuotasRequest(
        entries=[
            altering.AlterClientQuotasRequestEntryData(
                entity=[altering.EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
                ops=[altering.OpData(key=key, value=value or 0.0, remove=value is None) for key, value in values],
            )
            for entity, values in entries
        ],
        validate_only=validate_only,
    )
    world.ask(label, request, version)


def _components(*components: tuple[str, int, str | None]) -> list[describing.ComponentData]:
    return [
        describing.ComponentData(entity_type=kind, match_type=match_type, match=match)
        for kind, match_type, match in components
    ]


def _describe(
    world: World, label: str, *components: tuple[str, int, str | None], version: int = 1, strict: bool = False
) -> None:
    request = describing.DescribeClientQuotasRequest(components=_components(*components), strict=strict)
    world.ask(label, request, version)


def client_quotas(world: World) -> None:
    user, client = world.name("quota-user"), world.name("quota-client")
    named: Entity = (("user", user),)
    both: Entity = (("user", user), ("client-id", client))
    mine = ("user", EXACT, user)
    for version in world.versions(altering.AlterClientQuotasRequest):
        _alter(world, "set", (named, ((PRODUCE, 1e9), (PERCENT, 5000.5))), version=version)
        _alter(world, "set to the same", (named, ((PRODUCE, 1e9),)), version=version)
        _alter(world, "both", (both, (("consumer_byte_rate", 1e9),)), version=version)
        _alter(world, "validate", (named, ((PRODUCE, 1.0),)), version=version, validate_only=True)
        _alter(world, "address", ((("ip", "10.9.8.7"),), ((CONNECTIONS, 1000.0),)), version=version)
        world.settle("set", describing.DescribeClientQuotasRequest(components=_components(mine)))
        for strict in (False, True):
            _describe(world, f"named, strict {strict}", mine, version=version, strict=strict)
            _describe(world, f"client, strict {strict}", ("client-id", EXACT, client), version=version, strict=strict)
        _describe(world, "both", mine, ("client-id", ANY, None), version=version, strict=True)
        _describe(world, "default", mine, ("client-id", DEFAULT, None), version=version)
        _describe(world, "address", ("ip", EXACT, "10.9.8.7"), version=version)
        _alter(world, "remove", (named, ((PRODUCE, None), (PERCENT, None))), version=version)
        _alter(world, "remove what is not there", (named, ((PRODUCE, None), ("nonsense", None))), version=version)
        _alter(world, "remove both", (both, (("consumer_byte_rate", None),)), version=version)
        world.settle("removed", describing.DescribeClientQuotasRequest(components=_components(mine)))


def wrong_client_quotas(world: World) -> None:
    named: Entity = (("user", world.name("quota-wrong")),)
    address: Entity = (("ip", "10.9.8.7"),)
    for label, entity, values in (
        ("no entity", (), ((PRODUCE, 1.0),)),
        ("unknown type", (("group", "g"),), ((PRODUCE, 1.0),)),
        ("empty name", (("client-id", ""),), ((PRODUCE, 1.0),)),
        ("address and user", (("ip", "10.9.8.7"), ("user", "u")), ((CONNECTIONS, 1.0),)),
        ("no address", (("ip", "no.such.host.invalid"),), ((CONNECTIONS, 1.0),)),
        ("key of clients", address, ((PRODUCE, 1.0),)),
        ("key of addresses", named, ((CONNECTIONS, 1.0),)),
        ("unknown key", named, (("nonsense", 1.0),)),
        ("negative", named, ((PRODUCE, -1.0),)),
        ("fraction", named, ((PRODUCE, 1.5),)),
        ("tiny fraction", named, ((PRODUCE, 1e9 + 1e-7),)),
        ("too large for a long", named, ((PRODUCE, 1e19),)),
        ("too large for an int", address, ((CONNECTIONS, 3e9),)),
        ("infinite", named, ((PRODUCE, float("inf")),)),
        ("nothing to do", named, ()),
        ("a key twice", named, ((PRODUCE, 1e9), (PRODUCE, None))),
        ("good and bad", named, ((PRODUCE, 1e9), (PERCENT, -1.0))),
    ):
        _alter(world, label, (entity, values), validate_only=True)
    _alter(world, "an entity twice", (named, ((PRODUCE, 1e9),)), (named, ((PRODUCE, 2e9),)), validate_only=True)
    _alter(world, "none", validate_only=True)
    for label, components in (
        ("empty type", [("", ANY, None)]),
        ("unknown type", [("group", ANY, None)]),
        ("a type twice", [("user", ANY, None), ("user", EXACT, "u")]),
        ("exact without a name", [("user", EXACT, None)]),
        ("default with a name", [("user", DEFAULT, "u")]),
        ("any with a name", [("user", ANY, "u")]),
        ("address and user", [("ip", ANY, None), ("user", ANY, None)]),
    ):
        _describe(world, f"filter: {label}", *components)


def scram_credentials(world: World) -> None:
    for label, names in (("nobody", None), ("none", []), ("unknown", ["a"]), ("twice", ["a", "a"])):
        users = None if names is None else [UserName(name=name) for name in names]
        world.ask(label, DescribeUserScramCredentialsRequest(users=users), 0)
    both = [_upsertion("b", mechanism=1), _upsertion("c", iterations=8192)]
    for label, deletions, upsertions in (
        ("nothing", [], []),
        ("two users", [], both),
        ("set again", [], [_upsertion("b", mechanism=1, iterations=5000)]),
        ("no name", [], [_upsertion("")]),
        ("no such mechanism", [], [_upsertion("d", mechanism=0), _upsertion("e", mechanism=3)]),
        ("iterations", [], [_upsertion("d", iterations=4095), _upsertion("e", iterations=16385)]),
        ("twice", [], [_upsertion("d"), _upsertion("d", mechanism=1)]),
        ("deleted and set", [_deletion("b")], [_upsertion("b")]),
        ("deleted twice", [_deletion("b"), _deletion("b", 1)], []),
        ("nothing to delete", [_deletion("d")], []),
        ("of the other mechanism", [_deletion("c", 1)], []),
        ("of nobody", [_deletion("", 1)], []),
        ("of no mechanism", [_deletion("b", 9)], []),
        ("deleted", [_deletion("b", 1)], []),
    ):
        world.ask(label, AlterUserScramCredentialsRequest(deletions=deletions, upsertions=upsertions), 0)
        world.settle(f"{label}: now", DescribeUserScramCredentialsRequest(users=None), 0)


def _upsertion(name: str, *, mechanism: int = 2, iterations: int = 4096) -> ScramCredentialUpsertion:
    return ScramCredentialUpsertion(
        name=name, mechanism=mechanism, iterations=iterations, salt=b"salt", salted_password=b"salted"
    )


def _deletion(name: str, mechanism: int = 2) -> ScramCredentialDeletion:
    return ScramCredentialDeletion(name=name, mechanism=mechanism)


SCENARIOS = (client_quotas, wrong_client_quotas, scram_credentials)

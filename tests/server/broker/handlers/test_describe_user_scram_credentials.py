"""DescribeUserScramCredentials: by name, all, twice, unknown."""

from __future__ import annotations

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_user_scram_credentials import DescribeUserScramCredentialsRequest, UserName
from ottla.protocol.messages.metadata_records import UserScramCredentialRecord
from tests.server.broker.handlers.metadata_world import World, run


def test_credentials_are_described_without_their_secrets() -> None:
    async def test(world: World) -> None:
        for name, mechanism, iterations in (("alice", 1, 4096), ("alice", 2, 8192), ("bob", 2, 4096)):
            await world.write(
                UserScramCredentialRecord(
                    name=name, mechanism=mechanism, salt=b"s", stored_key=b"k", server_key=b"k", iterations=iterations
                )
            )

        async def described(*names: str) -> dict[str, tuple[int, list[tuple[int, int]]]]:
            users = [UserName(name=name) for name in names]
            response = await world.ask(DescribeUserScramCredentialsRequest(users=users or None), 0)
            assert response.error_code == ErrorCode.NONE
            return {
                one.user: (one.error_code, [(info.mechanism, info.iterations) for info in one.credential_infos])
                for one in response.results
            }

        everybody = {"alice": (0, [(1, 4096), (2, 8192)]), "bob": (0, [(2, 4096)])}
        assert await described() == everybody
        assert await described("bob") == {"bob": everybody["bob"]}
        assert await described("alice", "alice", "carol") == {
            "alice": (ErrorCode.DUPLICATE_RESOURCE, []),
            "carol": (ErrorCode.RESOURCE_NOT_FOUND, []),
        }

    run(test)

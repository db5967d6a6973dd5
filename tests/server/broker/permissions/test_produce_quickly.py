"""The short cut of Produce behind an authorizer: as permitted as the long way, whatever changes in between."""

from __future__ import annotations

from ottla.core.errors import ErrorCode
from ottla.server.broker.permissions.table import guard
from ottla.server.security.session import Session
from tests.server.broker.data_world import World, batch, world
from tests.server.broker.permissions.worlds import READ, TOPIC, TRANSACTIONAL_ID, WRITE, Permission, ToldAuthorizer, on
from tests.server.broker.support import Client, run

NOT_TOPIC = ErrorCode.TOPIC_AUTHORIZATION_FAILED


def permit(world: World, *allowed: Permission) -> ToldAuthorizer:
    authorizer = world.broker.authorizer = ToldAuthorizer(allowed)
    world.listener.router.guard = guard
    return authorizer


async def code(world: World, client: Client, **options: object) -> int:
    return (await world.produce(client, batch(b"x"), **options)).error_code  # type: ignore[arg-type]


def test_nobody_is_asked_again_before_a_permission_changes() -> None:
    async def main() -> None:
        async with world() as one:
            one.create_topic("topic")
            authorizer = permit(one, *on(WRITE, TOPIC, "topic"))
            client = await one.client()
            for _ in range(4):
                assert await code(one, client) == ErrorCode.NONE
            assert len(authorizer.asked) == 1
            authorizer.allow()
            assert await code(one, client) == ErrorCode.NONE
            assert len(authorizer.asked) == 2

    run(main())


def test_a_permission_that_is_taken_back_counts_with_the_next_request() -> None:
    async def main() -> None:
        async with world() as one:
            one.create_topic("topic")
            authorizer = permit(one, *on(WRITE, TOPIC, "topic"))
            client = await one.client()
            for _ in range(3):
                assert await code(one, client) == ErrorCode.NONE
            authorizer.allowed.clear()
            authorizer.allow()
            for _ in range(3):
                assert await code(one, client) == NOT_TOPIC
            assert one.partition().log.log_end_offset == 3
            authorizer.allow(*on(WRITE, TOPIC, "topic"))
            assert await code(one, client) == ErrorCode.NONE

    run(main())


def test_who_logs_in_again_is_asked_again() -> None:
    async def main() -> None:
        async with world() as one:
            one.create_topic("topic")
            authorizer = permit(one, *on(WRITE, TOPIC, "topic"))
            client = await one.client()
            await code(one, client)
            (connection,) = one.listener.connections
            connection.context.session = Session("User:ANONYMOUS", ("guests",))
            authorizer.allowed.clear()  # that group may not
            assert await code(one, client) == NOT_TOPIC

    run(main())


def test_answers_that_nobody_may_keep_are_asked_for_each_time() -> None:
    async def main() -> None:
        async with world() as one:
            one.create_topic("topic")
            authorizer = permit(one, *on(WRITE, TOPIC, "topic"))
            authorizer.version = None
            client = await one.client()
            for _ in range(3):
                assert await code(one, client) == ErrorCode.NONE
            assert len(authorizer.asked) == 3

    run(main())


def test_a_request_that_was_reduced_teaches_nothing() -> None:
    async def main() -> None:
        async with world() as one:
            one.create_topic("topic")
            one.create_topic("other")
            permit(one, *on(WRITE, TOPIC, "topic"))
            client = await one.client()
            for _ in range(3):
                request = one.produce_request(9, ("other", 0, batch(b"x")), ("topic", 0, batch(b"y")))
                response = await client.call(request, 9)
                codes = {answer.name: answer.partition_responses[0].error_code for answer in response.responses}
                assert codes == {"topic": ErrorCode.NONE, "other": NOT_TOPIC}
            assert one.partition("topic").log.log_end_offset == 3
            assert one.partition("other").log.log_end_offset == 0

    run(main())


def test_a_transactional_id_that_nobody_asked_about_opens_no_short_cut() -> None:
    """Records of no transaction may name any id; those of one that begin with the same bytes may not."""

    async def main() -> None:
        async with world() as one:
            one.create_topic("topic")
            authorizer = permit(one, *on(WRITE, TOPIC, "topic"))
            client = await one.client()
            for _ in range(2):
                assert await code(one, client, transactional_id="t") == ErrorCode.NONE
            asked = len(authorizer.asked)
            assert await code(one, client, transactional_id="t") == ErrorCode.NONE
            assert len(authorizer.asked) == asked + 1
            transactional = batch(b"x", producer_id=7, producer_epoch=0, base_sequence=0)
            transactional[22] |= 0x10
            answer = await one.produce(client, transactional, transactional_id="t")
            assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            assert (WRITE, TRANSACTIONAL_ID, "t") in authorizer.asked

    run(main())


def test_an_authorizer_is_asked_once_for_a_topic_however_much_of_it_a_request_has() -> None:
    """A plug-in that takes its time takes it for each topic of a request: not for partitions, and not for records."""

    async def main() -> None:
        async with world() as one:
            one.create_topic("topic", partitions=20)
            authorizer = permit(one, *on(WRITE, TOPIC, "topic"), *on(READ, TOPIC, "topic"))
            authorizer.version = None
            client = await one.client()
            parts = [("topic", index, batch(*[b"x"] * 100)) for index in range(20)]
            for _ in range(2):
                authorizer.asked.clear()
                response = await client.call(one.produce_request(9, *parts), 9)
                assert {part.error_code for part in response.responses[0].partition_responses} == {0}
                assert len(authorizer.asked) == 1
                authorizer.asked.clear()
                await one.fetch(client, {("topic", index): 0 for index in range(20)})
                assert len(authorizer.asked) == 1

    run(main())

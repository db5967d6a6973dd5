"""What was begun with a permission ends with it: long polls, and sessions that others could guess."""

from __future__ import annotations

import asyncio

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.fetch import FetchRequest
from ottla.records.validation import AppendOrigin
from ottla.server.broker.broker import RequestContext
from ottla.server.broker.handlers import fetch
from ottla.server.broker.sasl_connection import Login
from tests.server.broker.data_world import NOW_MS, World, batch, values, world
from tests.server.broker.permissions.worlds import READ, TOPIC, ToldAuthorizer, on
from tests.server.broker.share.share_world import ShareWorld
from tests.server.broker.share.share_world import run as run_share
from tests.server.broker.support import run


def append(broker: World, *contents: bytes, topic: str) -> None:
    broker.partition(topic).append(batch(*contents), -1, NOW_MS, AppendOrigin.CLIENT)


def guarded(broker: World) -> ToldAuthorizer:
    authorizer = ToldAuthorizer(on(READ, TOPIC, "orders", "secrets"))
    broker.broker.authorizer = authorizer
    return authorizer


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_fetch_that_waits_is_answered_by_the_rules_of_then(is_kept: bool) -> None:
    """Whoever is about to lose a permission could leave questions behind, with all the time in the world."""

    async def main() -> None:
        async with world() as broker:
            broker.create_topic("orders")
            broker.create_topic("secrets")
            authorizer = guarded(broker)
            if not is_kept:
                authorizer.version = None
            client = await broker.client()
            wanted = {("orders", 0): 0, ("secrets", 0): 0}
            waiting = asyncio.create_task(broker.fetch(client, wanted, version=13, max_wait_ms=60_000, min_bytes=1))
            await asyncio.sleep(0.05)
            authorizer.allowed = set(on(READ, TOPIC, "orders"))
            if is_kept:
                authorizer.allow()
            append(broker, b"told to others only", topic="secrets")
            response = await waiting
            found = {topic.topic_id: topic.partitions[0] for topic in response.responses}
            assert found[broker.topic_ids["secrets"]].error_code == ErrorCode.TOPIC_AUTHORIZATION_FAILED
            assert not found[broker.topic_ids["secrets"]].records
            append(broker, b"for us", topic="orders")
            assert values(await broker.fetch_one(client, 0, topic="orders", version=13)) == [b"for us"]

    run(main())


def test_a_fetch_waits_no_longer_than_its_session_lasts() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        login = Login(None, None)  # type: ignore[arg-type]
        assert login.longest_wait_ms(2**31 - 1) == 2**31 - 1
        login.ends_s = loop.time() + 0.2
        assert 100 < login.longest_wait_ms(2**31 - 1) <= 200
        assert login.longest_wait_ms(50) == 50
        login.ends_s = loop.time() - 1
        assert login.longest_wait_ms(500) == 0
        async with world() as broker:
            broker.create_topic("orders")
            client = await broker.client()
            await broker.fetch_one(client, 0, topic="orders")
            connection = next(iter(broker.listener.connections))
            connection.login = login
            login.ends_s = loop.time() + 0.2
            response = await broker.fetch(client, {("orders", 0): 0}, max_wait_ms=60_000)
            assert response.error_code == 0

    run(main())


def test_nobody_changes_what_another_one_fetches() -> None:
    """Ids of sessions can be guessed; what a session has in it is its owner's."""

    async def main() -> None:
        async with world() as broker:
            broker.create_topic("orders")
            append(broker, b"a", topic="orders")
            alice, eve = (
                RequestContext(principal=principal, api_version=12) for principal in ("User:alice", "User:eve")
            )
            begun = fetch.handle(broker.broker, broker.fetch_request(12, {("orders", 0): 0}, session=(0, 0)), alice)
            session = begun.session_id  # type: ignore[union-attr]
            forget = broker.fetch_request(12, {}, session=(session, 1), forgotten=[("orders", 0)])
            with pytest.raises(Exception, match="session") as refused:
                fetch.handle(broker.broker, forget, eve)
            assert refused.value.code == ErrorCode.FETCH_SESSION_ID_NOT_FOUND  # type: ignore[attr-defined]
            for epoch in (0, -1):
                fetch.handle(broker.broker, FetchRequest(session_id=session, session_epoch=epoch), eve)
            gone_on = fetch.handle(broker.broker, broker.fetch_request(12, {}, session=(session, 1)), alice)
            assert values(gone_on.responses[0].partitions[0]) == [b"a"]  # type: ignore[union-attr]
            fetch.handle(broker.broker, FetchRequest(session_id=session, session_epoch=-1), alice)
            assert broker.broker.fetch_sessions.get(session) is None

    run(main())


def test_a_member_of_a_share_group_that_waits_is_given_nothing_that_it_may_not_read_any_more() -> None:
    async def main(here: ShareWorld) -> None:
        async with here.worker("one") as one, here.worker("two") as two:
            await one.fetch()
            await two.fetch()
            authorizer = ToldAuthorizer(on(READ, TOPIC, "jobs"))
            here.node.broker.authorizer = authorizer
            waiting = asyncio.create_task(one.fetch(max_wait_ms=60_000))
            await asyncio.sleep(0.1)
            authorizer.allowed.clear()
            authorizer.allow()
            await here.produce(b"told to others only")
            assert (await waiting)[0].code is ErrorCode.TOPIC_AUTHORIZATION_FAILED
            here.node.broker.authorizer = None
            assert (await two.fetch())[0].records == {0: b"told to others only"}

    run_share(main)

"""Who is kept out, and what is held in memory, as metrics; what clients may choose stays bounded."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import ottla
from ottla.server.broker.connection_memory import RequestMemory
from ottla.server.metrics.exposition import LONGEST_VALUE, labels
from ottla.server.metrics.rates import Rates
from ottla.server.metrics.readings import security
from ottla.server.metrics.table import BEANS
from ottla.server.security.audit import Audit
from ottla.server.security.authorizer import AclOperation, ResourceType
from ottla.server.security.standard_authorizer import StandardAuthorizer
from tests.server.broker.support import Client, listening, make_broker, run
from tests.server.metrics.scraping import Observed


def test_they_are_there_where_there_is_something_to_tell() -> None:
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "queued.max.request.bytes": 200_000_000,
    }
    with Observed(topics=["first"], **settings) as observed:
        with ottla.Admin(observed.bootstrap) as admin:
            admin.create_topics("second")
        found = observed.scrape()
    assert sum(found["kafka_network_socketserver_memorypoolavailable"].values()) == 200_000_000
    assert sum(found["kafka_network_socketserver_memorypoolused"].values()) == 0
    [(who, _)] = found["kafka_server_plugins_acls_total_count"].items()
    assert ("class", "StandardAuthorizer") in who
    assert sum(found["kafka_server_plugins_authorization_allowed_rate_per_minute"].values()) > 0
    limits = {dict(who)["limit"] for who in found["kafka_network_socketserver_refusedconnectionscount"]}
    assert limits == {
        "max.connections",
        "max.connections.per.ip",
        "connection_creation_rate",
        "connections.max.idle.ms",
        "request.receive.timeout.ms",
    }
    assert "kafka_server_auditlog_eventspersec" not in found


def test_refusals_are_counted_by_their_limit() -> None:
    async def main() -> None:
        async with listening(make_broker({"max.connections.per.ip": 1})) as listener:
            first = await Client.connect(listener.port)
            second = await Client.connect(listener.port)
            assert await second.is_closed()
            scrape: Any = SimpleNamespace(listeners=(listener,))
            counts = {dict(who.pairs)["limit"]: count for who, count in security.refused(scrape)}
            assert counts["max.connections.per.ip"] == 1
            assert sum(counts.values()) == 1
            await second.close()
            await first.close()
            await asyncio.sleep(0)

    run(main())


def test_memory_decisions_and_lines() -> None:
    memory = RequestMemory(100)
    memory.take(130)
    shared = SimpleNamespace(requests=memory)
    authorizer = StandardAuthorizer({"super.users": "User:admin"})
    authorizer.denied_count = 60
    audit = Audit(lambda: 0, node_id=1)
    audit.lost, audit.dropped = 2, 3
    scrape: Any = SimpleNamespace(
        listeners=(SimpleNamespace(limits=SimpleNamespace(shared=shared)),) * 2,
        broker=SimpleNamespace(authorizer=authorizer, audit=audit),
        rates=Rates(0),
        now_ms=60_000,
        image=SimpleNamespace(acls={}),
    )
    assert security.request_memory_used(scrape) == 130
    assert security.request_memory_available(scrape) == 0
    shared.requests = None
    assert security.request_memory_available(scrape) == 2**63 - 1
    [bean] = [bean for bean in BEANS if bean.name == "authorization-denied-rate-per-minute"]
    [(_, rate)] = bean.read(scrape)
    assert rate > 0
    [bean] = [bean for bean in BEANS if bean.name == "DroppedEventsPerSec"]
    assert [value for _, value in bean.read(scrape)] == [5]


def test_decisions_are_counted_where_requests_ask() -> None:
    from ottla.server.broker.authorization import allows
    from ottla.server.broker.broker import RequestContext

    broker = make_broker()
    broker.authorizer = authorizer = StandardAuthorizer({"super.users": "User:admin"})
    authorizer.load({})
    for principal in ("User:admin", "User:bob", "User:bob"):
        context = RequestContext(principal=principal)
        allows(broker, context, AclOperation.READ, ResourceType.TOPIC, "orders")
    assert (authorizer.allowed_count, authorizer.denied_count) == (1, 2)


def test_values_of_labels_are_as_long_as_names_of_topics_at_most() -> None:
    long = [labels(("client_id", "x" * 30_000 + end)) for end in "ab"]
    values = [dict(one.pairs)["client_id"] for one in long]
    assert len(set(values)) == 2
    assert all(len(value) <= LONGEST_VALUE for value in values)
    assert labels(("topic", "t" * 249)).pairs == (("topic", "t" * 249),)
    assert labels(("client_id", "x" * 30_000 + "a")) is long[0]

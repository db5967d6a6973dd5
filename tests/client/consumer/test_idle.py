"""Members that have nothing to do: who waits in a poll for longer than max.poll.interval.ms is alive."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

import ottla
from ottla import TopicPartition, aio
from ottla.client.errors import CommitFailedError

PROTOCOLS = pytest.mark.parametrize("protocol", ["classic", "consumer"])
INTERVAL_MS = 300
WAIT_S = 0.8


def member(bootstrap: str, name: str, protocol: str) -> dict[str, object]:
    with ottla.Admin(bootstrap) as admin:
        admin.create_topics([ottla.admin.NewTopic(name, 2)])
    return {
        "bootstrap_servers": bootstrap,
        "group_id": name,
        "group_protocol": protocol,
        "max_poll_interval_ms": INTERVAL_MS,
        "auto_offset_reset": "earliest",
    }


@PROTOCOLS
def test_a_long_poll_is_a_sign_of_life(
    quick_bootstrap: str, name: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = member(quick_bootstrap, name, protocol)
    with ottla.Consumer(topics=[name], **settings) as consumer:  # type: ignore[arg-type]
        assert len(consumer.poll(WAIT_S)) == 0
        assert len(consumer.assignment()) == 2
        assert len(consumer.poll(WAIT_S)) == 0
        assert len(consumer.assignment()) == 2
        with ottla.Producer(quick_bootstrap) as producer:
            producer.send(name, "value")
        assert len(consumer.poll(10)) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@PROTOCOLS
def test_a_long_poll_of_a_task_is_a_sign_of_life(
    quick_bootstrap: str, name: str, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = member(quick_bootstrap, name, protocol)

    async def main() -> None:
        async with aio.Consumer(topics=[name], **settings) as consumer:  # type: ignore[arg-type]
            assert len(await consumer.poll(WAIT_S)) == 0
            assert len(consumer.assignment()) == 2
            assert len(await consumer.poll(WAIT_S)) == 0
            assert len(consumer.assignment()) == 2

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_topic_that_is_not_there_is_told_of_once(
    quick_bootstrap: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ottla.Consumer(
        quick_bootstrap,
        group_id=name,
        group_protocol="consumer",
        topics=[name],
        allow_auto_create_topics=False,
        auto_offset_reset="earliest",
        metadata_max_age_ms=100,
    ) as consumer:
        consumer.poll(1.5)
        consumer.poll(0.5)
        line = f"topic {name} does not exist; its records are waited for. Create it, or check its name."
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [line]
        with ottla.Producer(quick_bootstrap) as producer:
            producer.send(name, "value")
        assert len(consumer.poll(10)) == 1


@PROTOCOLS
def test_who_works_for_too_long_is_told_so_by_commit(quick_bootstrap: str, name: str, protocol: str) -> None:
    settings = member(quick_bootstrap, name, protocol)
    with ottla.Producer(quick_bootstrap) as producer:
        producer.send(name, "value", partition=0)
    with ottla.Consumer(topics=[name], enable_auto_commit=False, **settings) as consumer:  # type: ignore[arg-type]
        assert len(consumer.poll(10)) == 1
        time.sleep(3 * INTERVAL_MS / 1000)
        with pytest.raises(CommitFailedError, match=f"took {name}-0 away while records of it were worked on. Poll"):
            consumer.commit()
        assert len(consumer.poll(10)) == 1
        consumer.commit()
        assert consumer.committed([TopicPartition(name, 0)])

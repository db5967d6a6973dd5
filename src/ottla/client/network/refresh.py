"""Keeps the metadata fresh in the background, and lets callers wait for it: the shell around `MetadataState`."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ottla.client.errors import (
    AuthorizationError,
    BootstrapError,
    ClientClosedError,
    KafkaError,
    KafkaTimeoutError,
    UnknownTopicError,
    error_for,
)
from ottla.client.model import Node
from ottla.client.network.addresses import join_address
from ottla.client.network.metadata import ClusterMetadata, TopicMetadata
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest

if TYPE_CHECKING:
    from ottla.client.network.cluster import Cluster
    from ottla.client.network.link import BrokerLink

CONTROLLERS = 2
"""DescribeCluster's endpoint type of controllers (KIP-919)."""
logger = logging.getLogger("ottla.client")


class MetadataRefresh:
    """One task that asks when `MetadataState` says so; a list of those who wait for what comes of it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._state = cluster.metadata_state
        self._task: asyncio.Task[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._problem: KafkaError | None = None
        """What the last attempt failed with."""
        self._attempts = 0
        """Attempts that have ended."""
        self._asks_for_all = False
        """A request for everything of interest is on its way."""

    # For those who wait

    async def bootstrapped(self, timeout_ms: int) -> None:
        """The brokers are known. `BootstrapError` when none of the bootstrap servers says who they are."""
        cluster = self._cluster
        self._start()
        if self._state.snapshot.brokers:
            return
        deadline_ms = cluster.now_ms() + timeout_ms
        attempts = self._attempts
        while not self._state.snapshot.brokers:
            self._raise_useless(attempts)
            if not await self._next(deadline_ms):
                raise self._out_of_time(timeout_ms)

    async def refreshed(self, timeout_ms: int) -> ClusterMetadata:
        """A full refresh that was begun after this call."""
        cluster, state = self._cluster, self._state
        self._start()
        deadline_ms = cluster.now_ms() + timeout_ms
        # An answer that is on its way already was asked for before.
        wanted = state.successes + (2 if self._asks_for_all else 1)
        attempts = self._attempts
        while state.successes < wanted:
            self._raise_useless(attempts)
            state.request_update(reset_backoff=True)
            self.wake()
            if not await self._next(deadline_ms):
                raise self._out_of_time(timeout_ms)
        return state.snapshot

    async def topic(self, name: str, timeout_ms: int) -> TopicMetadata:
        """The topic, when it is there."""
        cluster, state = self._cluster, self._state
        self._start()
        deadline_ms = cluster.now_ms() + timeout_ms
        answers, attempts = state.answers, self._attempts
        while True:
            cluster.interest((name,))  # again, as somebody may have replaced what is of interest
            topic = state.snapshot.topics.get(name)
            if topic is not None and not topic.error:
                if state.snapshot.brokers:
                    return topic
            elif topic is not None:
                # An error that was there before says what was; it takes another answer to say what is.
                if state.answers > answers and not topic.error.retriable:
                    raise _topic_error(topic)
                state.request_update()
                self.wake()
            elif state.answers > answers:
                state.request_update()
                self.wake()
            self._raise_useless(attempts)
            if not await self._next(deadline_ms):
                topic = state.snapshot.topics.get(name)
                is_unknown = topic is None and state.answers > answers
                if is_unknown or (topic is not None and topic.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
                    raise UnknownTopicError(f"topic {name!r} does not exist (waited {timeout_ms} ms).")
                if topic is not None and topic.error:
                    raise KafkaTimeoutError(f"topic {name!r} is not ready after {timeout_ms} ms: {topic.error.message}")
                raise self._out_of_time(timeout_ms, f"nothing was heard of topic {name!r}")

    def wake(self) -> None:
        """There may be something to ask for."""
        if self._task is None and not self._cluster.is_closed and self._cluster.is_bound:
            self._start()
        alarm = self._alarm
        if alarm is not None and not alarm.done():
            alarm.set_result(None)

    def link_failed(self, link: BrokerLink, error: KafkaError) -> None:
        """A connection failed: the metadata that led to it may be out of date."""
        if error.code is ErrorCode.REBOOTSTRAP_REQUIRED and self._cluster.rebootstraps:
            self._state.demand_rebootstrap()
            self.wake()
        elif link.node.id >= 0:
            self._state.request_update()
            self.wake()

    def close(self, error: KafkaError) -> list[asyncio.Task[None]]:
        """Whoever waits gets `error`. Returns the task, which is being cancelled."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._problem = error
        self._notify()
        return [] if task is None else [task]

    def _raise_useless(self, attempts: int) -> None:
        if self._cluster.is_closed:
            raise ClientClosedError("the client was closed.")
        if self._attempts > attempts and self._problem is not None and not self._problem.retriable:
            raise self._problem

    def _out_of_time(self, timeout_ms: int, what: str = "") -> KafkaError:
        cluster, problem = self._cluster, self._problem
        if not self._state.snapshot.brokers:
            tried = []
            for node in cluster.bootstrap.values():
                address = join_address(node.host, node.port)
                reason = cluster.reachability.reason(address)
                tried.append(reason or f"{address} has not answered yet.")
            name = "bootstrap.controllers" if cluster.controllers else "bootstrap.servers"
            error: KafkaError = BootstrapError(
                f"no server of {name} could be used within {timeout_ms} ms: {' '.join(tried)}",
                hint=BootstrapError.default_hint,
            )
        else:
            why = f": {problem.message}" if problem is not None else "."
            error = KafkaTimeoutError(f"{what or 'no metadata was received'} within {timeout_ms} ms{why}")
        error.__cause__ = problem
        return error

    async def _next(self, deadline_ms: int) -> bool:
        """Wait for the end of an attempt; False when time is up before."""
        left_ms = deadline_ms - self._cluster.now_ms()
        if left_ms <= 0:
            return False
        waiter = self._cluster.bind().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(left_ms / 1000):
                await waiter
        except TimeoutError:
            if waiter in self._waiters:  # not when it was told at the last moment
                self._waiters.remove(waiter)
                return False
        return True

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # The task

    def _start(self) -> None:
        loop = self._cluster.bind()
        if self._cluster.is_closed:
            raise ClientClosedError("the client was closed.")
        if self._task is None:
            self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        cluster, state = self._cluster, self._state
        await cluster.expand_bootstrap()
        while True:
            wait_ms = state.next_update_in_ms(cluster.now_ms())
            if wait_ms > 0:
                await self._sleep(wait_ms)
                continue
            try:
                await self._attempt()
            except KafkaError as error:
                self._problem = error
                state.failed(cluster.now_ms())
            except Exception:
                logger.exception("Metadata could not be refreshed, which should not happen")
                state.failed(cluster.now_ms())
            self._asks_for_all = False
            self._attempts += 1
            self._notify()

    async def _sleep(self, wait_ms: int) -> None:
        loop = self._cluster.bind()
        self._alarm = loop.create_future()
        timer = loop.call_later(wait_ms / 1000, self.wake)
        try:
            await self._alarm
        finally:
            timer.cancel()
            self._alarm = None

    async def _attempt(self) -> None:
        cluster, state = self._cluster, self._state
        now_ms = cluster.now_ms()
        if state.should_rebootstrap(now_ms):
            cluster.rebootstrap("there has been no metadata for too long, or a broker asked for it")
        node_id = cluster.least_loaded_node()
        if node_id is None and state.snapshot.brokers and cluster.rebootstraps and not cluster.has_ready_node():
            cluster.rebootstrap("no broker can be reached", keep_ready=True)
            node_id = cluster.least_loaded_node()
        if node_id is None:
            state.failed(now_ms)  # all are in backoff, or have asked for a pause
            return
        asked = state.attempt(now_ms)
        self._asks_for_all = asked.is_full
        before = state.snapshot
        if cluster.controllers:
            await self._ask_controllers(node_id)
        else:
            response = await cluster.request(node_id, asked.request, min_version=asked.min_version)
            if response.error_code == ErrorCode.REBOOTSTRAP_REQUIRED and cluster.rebootstraps:
                state.failed(cluster.now_ms())
                state.demand_rebootstrap()
                return
            versions = cluster.api_versions(node_id) or {}
            version = min(versions.get(ApiKey.METADATA, (0, 0))[1], APIS[ApiKey.METADATA].latest_stable_version)
            state.answered(asked, response, version, cluster.now_ms())
        self._problem = None
        if state.snapshot is not before:
            cluster.metadata_changed()

    async def _ask_controllers(self, node_id: int) -> None:
        request = DescribeClusterRequest(endpoint_type=CONTROLLERS)
        response = await self._cluster.request(node_id, request, min_version=1)
        if response.error_code:
            raise error_for(response.error_code, response.error_message)
        nodes = [Node(broker.broker_id, broker.host, broker.port, broker.rack) for broker in response.brokers]
        self._state.nodes_described(nodes, response.cluster_id, response.controller_id, self._cluster.now_ms())


def _topic_error(topic: TopicMetadata) -> KafkaError:
    error = error_for(topic.error, f"topic {topic.name!r}: {topic.error.message}")
    if topic.error is ErrorCode.TOPIC_AUTHORIZATION_FAILED:
        return AuthorizationError(f"not authorized for topic {topic.name!r}.", code=topic.error)
    return error

"""Brokers on threads end as a whole, wherever and however: threads, ports, sockets and objects."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
import weakref
from random import Random

import pytest

from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.testing import Cluster
from ottla.testing.clock import ClusterClock
from ottla.testing.pool import Pool
from ottla.testing.runner import BrokerThread

pytestmark = pytest.mark.filterwarnings("error")


def port_of(cluster: Cluster) -> int:
    return int(cluster.bootstrap_servers.rpartition(":")[2])


def test_a_thread_that_gets_no_event_loop_says_so() -> None:
    def no_loop() -> asyncio.AbstractEventLoop:
        raise OSError("too many open files")

    config = BrokerConfig.of({"listeners": "PLAINTEXT://127.0.0.1:0", "log.dirs": "/data"})
    thread = BrokerThread(config, Env(MemoryDisk(), ClusterClock(), Random(0)), loop_factory=no_loop)
    with pytest.raises(OSError, match="too many open files"):
        thread.start()
    assert not thread.is_running


def test_nothing_is_left_of_a_cluster_that_could_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cluster = Cluster(settings={"listeners": f"PLAINTEXT://127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(OSError, match="in use"):
            cluster.start()
        gone = weakref.ref(cluster)
        del cluster
        gc.collect()
        assert gone() is None


def test_nobody_gets_the_port_of_a_broker_that_was_killed() -> None:
    with Cluster() as cluster:
        cluster.kill()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port_of(cluster)))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(cluster)))
        cluster.kill()
        cluster.restart()
        socket.create_connection(("127.0.0.1", port_of(cluster))).close()
        cluster.kill()
        port = port_of(cluster)
    socket.create_server(("127.0.0.1", port)).close()


def test_a_broker_that_refuses_connections_and_is_killed_leaves_no_socket_open() -> None:
    with Cluster() as cluster:
        cluster.faults.refuse_connections()
        cluster.kill()
        cluster.restart()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port_of(cluster)))
        cluster.kill()
    del cluster
    gc.collect()


def test_a_cluster_that_is_found_forgotten_on_its_own_thread_ends() -> None:
    cluster = Cluster().start()
    thread = cluster.thread()
    gc.disable()  # it is to be found there, and not by whoever makes the next objects
    try:
        circle: list[object] = [cluster]
        circle.append(circle)
        del cluster, circle
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            thread.call(gc.collect)
            thread._thread.join(10)
    finally:
        gc.enable()
    assert not thread.is_running
    assert [str(one.message) for one in seen if one.category is ResourceWarning] == [
        "unclosed Cluster: use `with`, or stop()"
    ]


def test_a_cluster_that_can_not_be_made_as_new_is_no_matter_of_the_test_after_the_next() -> None:
    pool = Pool()
    cluster = pool.fresh({})
    cluster.kill()
    cluster._release_port(0)
    with socket.create_server(("127.0.0.1", port_of(cluster))), pytest.raises(OSError, match="in use"):
        pool.fresh({})
    assert pool.fresh({}) is not cluster
    pool.close()

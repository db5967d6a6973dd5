"""Raft nodes on one virtual-time loop, each with a disk of its own; requests go between them as the bytes that they
would be on the wire, after a while, unless the network is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random
from typing import Any

from ottla.protocol.apis import APIS
from ottla.protocol.codec import decode, encode
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.peers.errors import PeerError
from ottla.server.raft.alone import LocalVoter
from ottla.server.raft.formatting import METADATA_DIRECTORY, format_directory
from ottla.server.raft.node import RaftNode
from ottla.server.raft.opening import open_metadata_log
from ottla.server.raft.voters import Voter
from ottla.testing.sim.env import SimulatedEnv, VirtualClock
from tests.server.raft.worlds import DIRECTORY, topic

CLUSTER_ID = "cluster"
LISTENER = "CONTROLLER"
PORT = 9093


class Link:
    """A node's `Peers`: an address is the name of the host, which is `node-<id>`."""

    def __init__(self, world: World, node_id: int) -> None:
        self._world = world
        self._node_id = node_id

    async def send(
        self, address: tuple[str, int], message: Any, *, timeout_ms: int, channel: str = "", version: int | None = None
    ) -> Any:
        world = self._world
        other = int(address[0].removeprefix("node-"))
        version = APIS[message.API_KEY].latest_stable_version if version is None else version
        body = encode(message, version)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await world.travel(self._node_id, other)
                machine = world.machines[other]
                if machine.node is None:
                    raise PeerError("nobody listens.")
                world.requests.append((self._node_id, other, type(message).__name__))
                request = decode(type(message), version, bytearray(body))
                response = await machine.node.request(request, version=version, listener=LISTENER)
                data = encode(response, version)
                await world.travel(other, self._node_id)
                return decode(type(response), version, bytearray(data))
        except TimeoutError:
            raise PeerError("no answer in time.") from None


class Machine:
    """One node's disk, and the node while it runs."""

    def __init__(self, world: World, node_id: int, settings: dict[str, object]) -> None:
        self.node_id = node_id
        self.disk = MemoryDisk()
        self.disk.make_directories(DIRECTORY)
        self.node: RaftNode | None = None
        self.metadata: ClusterMetadata | None = None
        self.led: list[int] = []
        self._world = world
        self._settings = settings

    async def start(self) -> None:
        """Open the log and join."""
        loop = asyncio.get_running_loop()
        world = self._world
        env = SimulatedEnv(loop, Random(world.random.random()), self.disk, VirtualClock(loop))
        config = BrokerConfig.of(self._settings)
        voter = LocalVoter(self.node_id, directory_id(self.node_id), CLUSTER_ID)
        link: Any = Link(world, self.node_id)
        node, _ = open_metadata_log(config, env, DIRECTORY, voter, link)
        assert isinstance(node, RaftNode)
        metadata = self.metadata = ClusterMetadata(config, env, node_id=self.node_id)
        metadata.subscribe_leader(
            lambda leader: self.led.append(leader.epoch) if leader.leader_id == self.node_id else None
        )
        self.node = node
        await node.start(metadata)
        metadata.start_snapshots(node)

    async def stop(self) -> None:
        """In order."""
        node, metadata = self.node, self.metadata
        assert node is not None
        assert metadata is not None
        await metadata.stop_snapshots()
        await node.stop()
        self.node = None

    def kill(self) -> None:
        """As if the power had gone: nothing of it runs any more, and what was not flushed may be lost."""
        node = self.node
        assert node is not None
        self.node = None
        node._is_stopping = True
        if node._timer is not None:
            node._timer.cancel()
        for task in node._tasks:
            task.cancel()
        self.disk.crash(self._world.random)

    @property
    def topics(self) -> set[str]:
        assert self.metadata is not None
        return set(self.metadata.image.topics.by_name)


class World:
    """Machines by node id. `cut` are pairs of nodes that cannot reach each other."""

    def __init__(self, seed: int, voters: Iterable[int], observers: Iterable[int] = (), **settings: object) -> None:
        self.random = Random(seed)
        self.machines: dict[int, Machine] = {}
        self.cut: set[frozenset[int]] = set()
        self.requests: list[tuple[int, int, str]] = []
        self.voters = list(voters)
        self._settings = {name.replace("_", "."): value for name, value in settings.items()}
        servers = ",".join(f"node-{one}:{PORT}" for one in self.voters)
        for node_id in self.voters:
            machine = self.add(node_id, servers, is_controller=True)
            known = [Voter(one, directory_id(one), ((LISTENER, f"node-{one}", PORT),)) for one in self.voters]
            format_directory(machine.disk, DIRECTORY, known, (), 1)
            machine.disk.sync_directory("/")
        for node_id in observers:
            self.add(node_id, servers, is_controller=False)

    def add(self, node_id: int, servers: str, *, is_controller: bool) -> Machine:
        """A machine that is not started yet."""
        settings: dict[str, object] = {
            "node.id": node_id,
            "process.roles": "controller" if is_controller else "broker",
            "listeners": f"{LISTENER}://node-{node_id}:{PORT}" if is_controller else f"PLAINTEXT://node-{node_id}:9092",
            "controller.listener.names": LISTENER,
            "controller.quorum.bootstrap.servers": servers,
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": DIRECTORY,
            **self._settings,
        }
        machine = self.machines[node_id] = Machine(self, node_id, settings)
        machine.disk.make_directories(f"{DIRECTORY}/{METADATA_DIRECTORY}")
        return machine

    async def travel(self, sender: int, receiver: int) -> None:
        """A message on its way; on a link that is cut it never comes."""
        await asyncio.sleep(self.random.uniform(0.0002, 0.004))
        if frozenset((sender, receiver)) in self.cut:
            await asyncio.sleep(3600)

    def isolate(self, node_id: int) -> None:
        """Cut a node off from all others."""
        self.cut |= {frozenset((node_id, other)) for other in self.machines if other != node_id}

    @property
    def leaders(self) -> list[Machine]:
        """The nodes that were told that they lead."""
        return [one for one in self.machines.values() if one.node is not None and one.node.is_leader]

    async def until(self, condition: Any, patience_s: float = 60.0) -> Any:
        """The condition's value once it is true."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while not (value := condition()):
            assert loop.time() < deadline, "waited for nothing"
            await asyncio.sleep(0.01)
        return value

    async def leader(self, *others_than: int) -> Machine:
        """Wait for a leader, and for it to be told."""
        found: list[Machine] = await self.until(lambda: [one for one in self.leaders if one.node_id not in others_than])
        return max(found, key=lambda one: one.led[-1])

    async def write(self, machine: Machine, *names: str) -> None:
        """Create topics, one record batch for each; they are committed after that."""
        node = machine.node
        assert node is not None
        epoch = node.leader.epoch
        last_offset = -1
        for name in names:
            last_offset = node.append(epoch, [topic(name)], 1000)
        await node.wait_committed(last_offset + 1)

    async def start(self, *node_ids: int) -> None:
        """Start these machines, or all."""
        await asyncio.gather(*(self.machines[one].start() for one in node_ids or tuple(self.machines)))

    async def stop(self) -> None:
        """Stop all that run, after which every link works."""
        self.cut.clear()
        await asyncio.gather(*(one.stop() for one in self.machines.values() if one.node is not None))


def directory_id(node_id: int) -> bytes:
    """The id of a node's metadata directory."""
    return bytes([node_id] * 16)

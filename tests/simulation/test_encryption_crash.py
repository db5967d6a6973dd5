"""Encrypted data on a disk that crashes: what was promised for plain files holds for encrypted ones.

A crash may also come while files are converted, in either direction, and while keys are rotated.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from random import Random
from typing import Any

import pytest

from ottla.runtime.encryption.disk import EncryptedDisk
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.server.security.encryption.ring import REQUEST
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation import test_log_crash, test_node_crash
from tests.simulation.log_world import World

VARIABLE = "A_MASTER_KEY"
ENCRYPTED = {"encryption.key": f"env:{VARIABLE}"}


class OneKey:
    """Encrypts everything with the same key."""

    def current(self, path: str) -> tuple[bytes, bytes] | None:
        return bytes(16), bytes(32)

    def find(self, key_id: bytes) -> bytes | None:
        return bytes(32)


class CrashingDisk(EncryptedDisk):
    """An encrypted disk that forgets what it knew when the machine below crashes; faults are those of the machine."""

    def __init__(self, machine: MemoryDisk, seed: object) -> None:
        super().__init__(machine, OneKey(), random_bytes=Random(f"bytes {seed}").randbytes)
        object.__setattr__(self, "machine", machine)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.machine, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name == "is_cold":
            self.machine.is_cold = bool(value)
        else:
            super().__setattr__(name, value)

    def crash(self, random: Random) -> None:
        self.machine.crash(random)
        self._contents.clear()
        self._recent.clear()


@pytest.mark.parametrize("seed", range(10))
def test_flushed_records_survive_crashes_on_an_encrypted_disk(seed: int) -> None:
    disk: Any = CrashingDisk(MemoryDisk(), seed)
    world = World(f"encrypted {seed}", disk)
    dice = Random(f"encrypted crash {seed}")
    for _ in range(test_log_crash.LIVES):
        disk.crash_at(dice.choice((dice.randint(1, 30), dice.randint(1, 400))))
        try:
            test_log_crash.live(world, 120)
        except SimulatedCrashError:
            pass
        disk.crash(dice)
    test_log_crash.live(world, 20)


def run_lives(seed: int, settings: dict[str, object], *, loses_power: bool, turns: Collection[bool]) -> MemoryDisk:
    """A node that ends at any operation of its disk; each start turns encryption on or off, or rotates the key."""
    dice = Random(f"encrypted node {seed}")
    disk = MemoryDisk()
    journal = test_node_crash.Journal()

    def live(number: int) -> None:
        chosen = settings | ENCRYPTED | {"encryption.enabled": dice.choice(list(turns))}

        async def run(env: SimulatedEnv) -> None:
            await test_node_crash.live(env, journal, chosen)

        simulate(run, seed=seed * 10 + number, disk=disk)

    for number in range(test_node_crash.LIVES):
        disk.crash_at(dice.choice((dice.randint(1, 60), dice.randint(1, 600))))
        try:
            live(number)
        except SimulatedCrashError:
            pass
        if loses_power:
            disk.crash(dice)
        else:
            disk.restart_process()
        if disk.is_directory("/data") and dice.random() < 0.5:
            disk.replace(f"/data/{REQUEST}", b"rotate\n")
    live(9)
    assert any(journal.acknowledged)
    return disk


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, secrets.token_bytes(32).hex())


@pytest.mark.parametrize("seed", range(2))
def test_acknowledged_and_flushed_records_survive_when_the_power_is_lost(seed: int) -> None:
    run_lives(seed, {"log.flush.interval.messages": 1}, loses_power=True, turns=(True,))


@pytest.mark.parametrize("seed", range(2))
def test_the_power_may_be_lost_while_files_are_converted_and_keys_rotated(seed: int) -> None:
    run_lives(100 + seed, {"log.flush.interval.messages": 1}, loses_power=True, turns=(True, False))


@pytest.mark.parametrize("seed", range(2))
def test_the_process_may_be_killed_while_files_are_converted_and_keys_rotated(seed: int) -> None:
    run_lives(200 + seed, {}, loses_power=False, turns=(True, False))

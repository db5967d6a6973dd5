"""The environment of a node, and the event loop of a process."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import threading
from random import Random

import pytest

from ottla.runtime.disk import DiskError
from ottla.runtime.env import Env, real_env
from ottla.runtime.loop import loop_factory, run
from ottla.runtime.memory_disk import MemoryDisk
from ottla.runtime.real_disk import RealDisk


class FixedClock:
    def now_ms(self) -> int:
        return 5


def test_blocking_work_runs_in_other_threads_and_hands_on_results_and_errors() -> None:
    async def main() -> None:
        env = real_env()
        assert await env.run_blocking(threading.get_ident) != threading.get_ident()
        assert await env.run_blocking(max, 3, 9) == 9
        with pytest.raises(DiskError):
            await env.run_blocking(env.disk.read, "/does/not/exist")
        both = threading.Barrier(2)
        await asyncio.gather(env.run_blocking(both.wait), env.run_blocking(both.wait))
        env.close()
        assert await env.run_blocking(max, 1, 2) == 2
        env.close()
        env.close()

    run(main())


def test_real_env_has_a_disk_and_a_clock() -> None:
    env = real_env()
    assert isinstance(env.disk, RealDisk)
    assert env.clock.now_ms() > 1_700_000_000_000


def test_uuids_are_version_4_and_make_no_text_with_a_leading_dash() -> None:
    env = Env(MemoryDisk(), FixedClock(), Random(1))
    made = {env.random_uuid() for _ in range(500)}
    assert len(made) == 500
    for raw in made:
        assert raw[6] >> 4 == 4
        assert raw[8] >> 6 == 2
        assert not base64.urlsafe_b64encode(raw).startswith(b"-")
    assert Env(MemoryDisk(), FixedClock(), Random(1)).random_uuid() in made


def test_loop_is_asyncios_own_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is asyncio.new_event_loop

    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run(main()).startswith("asyncio")


def test_imports_stay_small() -> None:
    program = (
        "import sys, ottla.runtime.env, ottla.runtime.real_disk, ottla.records.validation\n"
        "print(sorted({'cramjam', 'uvloop', 'ottla.protocol.codec'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"

"""The processes of a cluster on one machine: begun, listened to, started again, stopped in order.

A node that ends by itself, killed or failed, is told of and started again, after a second, then after twice as long
each time; one that ended before it was ever ready takes the whole cluster down, because its reason (a port that is
taken, a setting) is for the user. A node that was stopped in order (`ottla stop --data ./ottla-data/broker-2`) stays
stopped. When none runs any more the cluster has ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from typing import Final

from ottla.cli.errors import FAILURE, INTERRUPTED, complain
from ottla.cli.local_cluster.plan import Member, Plan
from ottla.version import VERSION

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0
QUIET_S: Final = 60.0
"""A node that ran for so long begins anew with the shortest pause."""
_ERROR: Final = "ottla: error: "
_LINE_LIMIT: Final = 1024 * 1024


def supervise(plan: Plan, options: Namespace) -> int:
    """Run the nodes until a signal, or until none is left; returns the exit code."""
    return asyncio.run(Supervisor(plan, options).run())


class _Child:
    """One node, through all its lives."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.process: asyncio.subprocess.Process | None = None
        self.is_ready = False
        self.was_ready = False
        self.reason = ""
        self.pause_s = FIRST_PAUSE_S
        self.done = False

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """The nodes of a plan."""

    def __init__(self, plan: Plan, options: Namespace) -> None:
        self._plan = plan
        self._children = [_Child(member) for member in plan.members]
        self._arguments = arguments_of(options)
        self._is_json = options.log_format == "json"
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._exit_code = 0
        self._width = max(len(child.member.name) for child in self._children)

    async def run(self) -> int:
        """Begin all of them, say that they are ready, wait for the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        node_file = None
        lives = [asyncio.create_task(self._live(child)) for child in self._children]
        announcing = asyncio.create_task(self._announce())
        told = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((told, announcing), return_when=asyncio.FIRST_COMPLETED)
            if announcing.done():
                node_file = announcing.result()
                everybody = asyncio.gather(*lives)
                await asyncio.wait((told, everybody), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            announcing.cancel()
            told.cancel()
            await self._stop_all()
            await asyncio.gather(*lives, announcing, told, return_exceptions=True)
            if node_file is not None:
                from ottla.cli.start import remove_node_file

                remove_node_file(node_file)
        return self._exit_code

    async def _announce(self) -> str | None:
        from ottla.cli.start import seconds_since_process_start, write_node_file

        await self._ready.wait()
        plan = self._plan
        node_file = write_node_file(plan.root, plan.bootstrap_servers)
        count = len(plan.members)
        print(
            f"ottla {VERSION} ready in {seconds_since_process_start():.2f} s: {count} "
            f"broker{'' if count == 1 else 's'}, kafka on {plan.bootstrap_servers}, data in {plan.root}",
            flush=True,
        )
        return node_file

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set() and number is signal.SIGINT:
            for child in self._children:
                _signal(child, signal.SIGKILL)
            os._exit(INTERRUPTED)
        self._stopping.set()

    async def _live(self, child: _Child) -> None:
        """Start a node again and again, as long as it should run."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began_s = loop.time()
            code = await self._run_once(child)
            child.is_ready = False
            if self._stopping.is_set():
                break
            if code == 0:
                self._say(child, "stopped; it starts again with the cluster")
                break
            if not child.was_ready:
                self._give_up(child, code)
                break
            if loop.time() - began_s > QUIET_S:
                child.pause_s = FIRST_PAUSE_S
            self._say(child, f"{_ending(code)}{child.reason and ': '}{child.reason}; starting it again")
            try:
                await asyncio.wait_for(self._stopping.wait(), child.pause_s)
            except TimeoutError:
                child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)
        child.done = True

    async def _run_once(self, child: _Child) -> int:
        child.reason = ""
        process = child.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ottla", "start", "--config", self._plan.properties_file(child.member)),
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            start_new_session=True,  # Ctrl-C is for us alone: we stop them in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        await asyncio.gather(self._listen(child, process.stdout), self._pass_on(child, process.stderr))
        return await process.wait()

    async def _listen(self, child: _Child, stdout: asyncio.StreamReader) -> None:
        async for line in _lines(stdout):
            if " ready in " in line:
                child.is_ready = child.was_ready = True
                if self._ready.is_set():
                    self._say(child, f"is back, pid {child.process.pid if child.process else '?'}")
                elif all(one.is_ready for one in self._children):
                    self._ready.set()

    async def _pass_on(self, child: _Child, stderr: asyncio.StreamReader) -> None:
        async for line in _lines(stderr):
            if line.startswith(_ERROR):
                child.reason = line.removeprefix(_ERROR)
            else:
                self._write(child, line)

    def _give_up(self, child: _Child, code: int) -> None:
        if not self._stopping.is_set():
            complain(f"{child.member.name} did not start: {child.reason or _ending(code)}")
            self._exit_code = FAILURE
            self._stopping.set()

    async def _stop_all(self) -> None:
        """Brokers that are no controllers first: they need one to go in order. Then the controllers, all at once."""
        for is_controller in (False, True):
            group = [one for one in self._children if (one.member.controller_port is not None) == is_controller]
            await asyncio.gather(*(_stop(child) for child in group))

    def _say(self, child: _Child, text: str) -> None:
        pid = "" if child.process is None else f" (pid {child.process.pid})"
        print(f"ottla: {child.member.name}{pid} {text}", file=sys.stderr, flush=True)

    def _write(self, child: _Child, line: str) -> None:
        name = child.member.name
        if self._is_json and line.startswith("{"):
            print(f'{{"node": "{name}", {line[1:]}', file=sys.stderr, flush=True)
        else:
            print(f"{name:<{self._width}} | {line}", file=sys.stderr, flush=True)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    while line := await stream.readline():
        yield line.decode(errors="replace").rstrip("\n")


async def _stop(child: _Child) -> None:
    _signal(child, signal.SIGTERM)
    if child.process is not None:
        await child.process.wait()


def _signal(child: _Child, number: signal.Signals) -> None:
    if child.is_running:
        assert child.process is not None
        try:
            child.process.send_signal(number)
        except ProcessLookupError:
            pass  # it has ended in this moment


def _ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _end_with_parent() -> None:
    """Runs in the child before the node: when this process is killed, its nodes stop in order."""
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM))


def arguments_of(options: Namespace) -> list[str]:
    """What every node is given of the cluster's own options."""
    arguments = [f"--set={assignment}" for assignment in options.assignments]
    given = {"--log-level": options.log_level, "--log-format": options.log_format}
    return arguments + [f"{name}={value}" for name, value in given.items() if value is not None]

"""The background loop of blocking clients: threads, interrupts, forks and the end of the interpreter."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest

import ottla
from ottla.client.errors import BootstrapError, ClientClosedError, IllegalStateError, KafkaTimeoutError
from ottla.client.portal import Portal, portal


@pytest.fixture
def own():
    made = Portal()
    yield made
    made.close()
    made.loop.close()


async def double(value):
    await asyncio.sleep(0)
    return 2 * value


def test_results_and_errors_come_back(own):
    async def fail():
        raise ValueError("no")

    assert own.run(double(21)) == 42
    assert own.call(max, 1, 2) == 2
    with pytest.raises(ValueError, match="no"):
        own.run(fail())


def test_there_is_one_for_the_process():
    found = []
    threads = [threading.Thread(target=lambda: found.append(portal())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1
    assert portal().run(double(1)) == 2


def test_many_threads_share_it(own):
    results = []

    def work(start):
        results.extend(own.run(double(number)) for number in range(start, start + 50))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [2 * number for number in range(400)]


def test_the_context_of_the_caller_comes_along(own):
    variable = contextvars.ContextVar("variable")
    variable.set("caller's")

    async def look():
        return variable.get()

    assert own.run(look()) == "caller's"


def test_time_runs_out_and_the_coroutine_is_cancelled(own):
    ended = []

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(KafkaTimeoutError, match=r"not done within 0\.02 s"):
        own.run(wait(), 0.02)
    assert ended == [True]
    assert own.run(double(1), 10) == 2


def test_a_blocking_call_on_the_loop_itself_is_an_error_not_a_deadlock(own):
    async def nested():
        return own.run(double(1))

    with pytest.raises(IllegalStateError, match="wait for itself"):
        own.run(nested())


def test_call_soon_does_not_wait(own):
    called = threading.Event()
    own.call_soon(called.set)
    assert called.wait(10)


def test_clients_finish_at_the_end_and_later_calls_say_so(own):
    class Client:
        ended = False

        async def exit_now(self):
            await asyncio.sleep(0.01)
            self.ended = True

    client, dead = Client(), Client()
    own.register(client)
    own.register(dead)
    del dead
    own.close()
    assert client.ended
    with pytest.raises(ClientClosedError):
        own.run(double(1))


def script(text: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    head = "import asyncio, os, signal, sys, threading, time\nfrom ottla.client import portal as module\n"
    head += "from ottla.client.portal import portal\n"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", head + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_exit_without_close_neither_hangs_nor_forgets_the_client():
    done = script("""
        class Client:
            async def exit_now(self):
                await asyncio.sleep(0.05)
                print("finished", flush=True)
        client = Client()
        portal().register(client)
        async def forever():
            await asyncio.sleep(1000)
        portal().call_soon(lambda: asyncio.ensure_future(forever()))
        print("main ends", flush=True)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "main ends\nfinished\n", "")


def test_exit_waits_for_other_threads_and_serves_them_meanwhile():
    done = script("""
        class Client:
            async def exit_now(self):
                print("finished", flush=True)
        client = Client()
        portal().register(client)
        async def work(): return 7
        def later():
            time.sleep(0.2)
            print(portal().run(work()), flush=True)
        threading.Thread(target=later).start()
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\nfinished\n", "")


def test_a_client_that_does_not_finish_is_left():
    done = script("""
        module.EXIT_TIMEOUT_S = 0.1
        class Client:
            async def exit_now(self):
                await asyncio.sleep(1000)
        class Broken:
            async def exit_now(self):
                raise ValueError("broken")
        clients = Client(), Broken()
        for client in clients:
            portal().register(client)
        portal().run(asyncio.sleep(0))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_exit_by_an_exception_is_clean_too():
    done = script("""
        portal().run(asyncio.sleep(0))
        sys.exit(3)
    """)
    assert (done.returncode, done.stderr) == (3, "")


def test_interrupt_cancels_the_call_and_reaches_the_caller():
    done = script("""
        async def wait():
            threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                raise
        try:
            portal().run(wait())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        async def work(): return 7
        print(portal().run(work()))
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cancelled\ninterrupted\n7\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork on this system")
def test_a_forked_child_is_told_and_may_make_its_own():
    done = script("""
        from ottla.client.errors import ClientForkedError
        class Client:
            async def exit_now(self):
                print("finished in", "parent" if os.getpid() == parent else "child", flush=True)
        parent = os.getpid()
        client = Client()
        mine = portal()
        mine.register(client)
        async def work(): return 7
        mine.run(work())
        child = os.fork()
        if child == 0:
            for call in (lambda: mine.run(work()), lambda: mine.call_soon(print)):
                try:
                    call()
                except ClientForkedError as error:
                    print(error, flush=True)
            print("child", portal().run(work()), flush=True)
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print("parent", mine.run(work()), portal() is mine, status, flush=True)
    """)
    told = "this client was made before the process forked. Make clients after the fork, one for each process.\n"
    assert done.stderr == ""
    assert done.stdout == f"{told}{told}child 7\nparent 7 True 0\nfinished in parent\n"


def test_an_interrupt_before_the_call_is_handed_over_leaves_nothing_behind(own, monkeypatch):
    post, interrupted = own._post, []

    def interrupt_once(function, *arguments):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        post(function, *arguments)

    monkeypatch.setattr(own, "_post", interrupt_once)
    with pytest.raises(KeyboardInterrupt):
        own.run(double(1))  # "never awaited" would be a warning, and warnings are errors
    assert own.run(double(1)) == 2


def test_a_loop_that_is_gone_leaves_no_coroutine_behind():
    made = Portal()
    made.close()
    made.loop.close()
    made._is_closed = False
    with pytest.raises(ClientClosedError):
        made.run(double(1))


@pytest.mark.parametrize("kind", ["ShareConsumer", "Admin"])
def test_a_client_that_is_forgotten_is_closed_and_told_of(kind):
    settings = {"group_id": "g", "topics": ["t"]} if kind == "ShareConsumer" else {}
    client = getattr(ottla, kind)("127.0.0.1:1", **settings)
    instruments = client._instruments
    if kind == "ShareConsumer":
        assert client.poll(0.05) == []
    else:
        with pytest.raises(BootstrapError):
            client.list_topics(timeout_s=0.05)
    with warnings.catch_warnings(record=True, action="always") as told:
        del client
        gc.collect()
    assert [str(one.message) for one in told] == [f"unclosed {kind}: use `with`, or close()"]
    until = time.monotonic() + 10
    while instruments.is_working() and time.monotonic() < until:
        time.sleep(0.01)
    assert not instruments.is_working()


def test_a_client_that_was_never_used_may_be_forgotten():
    client = ottla.Admin("127.0.0.1:1")
    del client
    gc.collect()


def test_a_callback_that_exits_does_not_end_the_loop_of_all_clients(own):
    def leave():
        raise SystemExit(3)

    own.call_soon(leave)
    assert own.run(double(4)) == 8
    own.call_soon(leave)
    assert own.run(double(5)) == 10

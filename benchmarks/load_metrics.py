"""What metrics cost: processor time of the broker for a request, with a scrape every second and without, in turns.

    python -m benchmarks.load_metrics [--lives 6] [--rounds 25] [--requests 6000] [--base DIR]

`--base` is a checkout to compare with, from before there were metrics. The broker runs on its own; the load is made by
plain sockets, so that the broker is what is busy. Processor time is what is compared: it does not mind neighbours.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.brokers import OttlaBroker, free_port
from benchmarks.load_throughput import IN_FLIGHT
from benchmarks.payloads import payloads
from benchmarks.wire import FETCH, PRODUCE, Connection, check_produce, fetch_body, produce_body, record_batch


class Variant(OttlaBroker):
    """A broker of a checkout, with or without HTTP."""

    def __init__(self, directory: Path, source: Path | None, http_port: int | None) -> None:
        settings = {} if source is not None else {"http.listeners": ""}
        if http_port is not None:
            settings["http.listeners"] = f"http://127.0.0.1:{http_port}"
        super().__init__(directory, settings=settings)
        self.source = source
        self.http_port = http_port

    def command(self) -> list[str]:
        # A checkout from before there was `http.listeners` does not know it.
        command = super().command()
        if self.source is not None:
            at = command.index("http.listeners=")
            del command[at - 1 : at + 1]
        return command

    def environment(self) -> dict[str, str]:
        found = super().environment()
        if self.source is not None:
            found["PYTHONPATH"] = str(self.source / "src")
        return found

    @property
    def cpu_s(self) -> float:
        """Processor time so far, to the nanosecond where the kernel tells."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9


@contextlib.contextmanager
def scraped(port: int | None, every_s: float = 1.0) -> Iterator[list[float]]:
    """Scrape the whole time; how long each took."""
    took: list[float] = []
    stopping = threading.Event()

    def scrape() -> None:
        while not stopping.is_set():
            begin = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                answer.read()
            took.append(time.perf_counter() - begin)
            stopping.wait(every_s)

    thread = threading.Thread(target=scrape)
    if port is not None:
        thread.start()
    try:
        yield took
    finally:
        stopping.set()
        if port is not None:
            thread.join()


def produce(batch: int, broker: Variant, topic: str, requests: int) -> None:
    """Batches of so many bytes, five in flight."""
    values = payloads(100)
    data = record_batch(values[: max(1, batch // 108)])
    body = produce_body(topic, [(0, data)])
    sent = received = 0
    with Connection(broker.bootstrap) as connection:
        while received < requests:
            while sent < requests and sent - received < IN_FLIGHT:
                connection.send(PRODUCE, 3, body)
                sent += 1
            check_produce(connection.receive())
            received += 1


def fetch(broker: Variant, topic: str, requests: int) -> None:
    """The same 64 KB again and again."""
    body = fetch_body(topic, {0: 0}, partition_max_bytes=65_536)
    with Connection(broker.bootstrap) as connection:
        for _ in range(requests):
            connection.call(FETCH, 4, body)


IDLE_S = 10
LOADS: tuple[tuple[str, Callable[[Variant, str, int], None], int], ...] = (
    ("produce, 1 record", partial(produce, 1), 1),
    ("produce, 16 KB", partial(produce, 16_384), 4),
    ("fetch, 64 KB", fetch, 4),
)
"""Each with the share of the requests that it gets."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--base", type=Path)
    options = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    for life in range(options.lives):
        # Two processes of one program differ by some percent, too: where things lie in memory.
        with tempfile.TemporaryDirectory() as directory:
            variants = {
                "counted": Variant(Path(directory) / "counted", None, None),
                "scraped": Variant(Path(directory) / "scraped", None, free_port()),
            }
            if options.base is not None:
                variants = {"base": Variant(Path(directory) / "base", options.base, None), **variants}
            with contextlib.ExitStack() as running:
                for broker in variants.values():
                    broker.start()
                    running.callback(broker.stop)
                    with Connection(broker.bootstrap) as connection:
                        connection.metadata(["load"], auto_create=True)
                    running.enter_context(scraped(broker.http_port))
                measure(variants, options.rounds, options.requests, found)
                if life == options.lives - 1:
                    report(found, list(variants))
                    idle(variants)


def measure(
    variants: dict[str, Variant], rounds: int, requests: int, found: dict[tuple[str, str], list[float]]
) -> None:
    """Every load on every broker, in turns; microseconds of processor time for a request."""
    for number in range(rounds + 1):
        for load, run, share in LOADS:
            count = requests // share
            for name, broker in variants.items():
                before = broker.cpu_s
                run(broker, "load", count)
                if number:
                    found.setdefault((load, name), []).append((broker.cpu_s - before) / count * 1e6)


def idle(variants: dict[str, Variant]) -> None:
    """What they use when no client asks."""
    for name, broker in variants.items():
        before = broker.cpu_s
        time.sleep(IDLE_S)
        print(f"{name}: {100 * (broker.cpu_s - before) / IDLE_S:.2f} % of a core when nothing is asked of it")


def report(found: dict[tuple[str, str], list[float]], names: list[str]) -> None:
    """Lower quartiles, and how they compare: what neighbours on the machine add is never negative."""
    for load in dict.fromkeys(load for load, _ in found):
        first = found[load, names[0]]
        line = f"{load:38}"
        for name in names:
            values = found[load, name]
            line += f"  {name} {_low(values):8.2f} ({100 * (_low(values) / _low(first) - 1):+5.1f} %)"
        print(line)


def _low(values: list[float]) -> float:
    return statistics.quantiles(values, n=4)[0]


if __name__ == "__main__":
    main()

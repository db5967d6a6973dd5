"""`ottla mock`: a Kafka in memory for tests in any language, with faults and a clock that can be skipped over HTTP."""

from __future__ import annotations

import asyncio
import json
import signal
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ottla.cli.errors import CommandError, explain

if TYPE_CHECKING:
    from ottla.testing.cluster import Cluster

KAFKA_PORT = 9092
HTTP_PORT = 8090


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla mock`."""
    parser.add_argument(
        "--port", type=_port, default=KAFKA_PORT, metavar="PORT", help=f"of Kafka ({KAFKA_PORT}); 0 takes a free one"
    )
    parser.add_argument(
        "--brokers", type=_count, default=1, metavar="N", help="so many brokers, at ports one after the other (1)"
    )
    parser.add_argument(
        "--http", type=_port, default=HTTP_PORT, metavar="PORT", help=f"of HTTP ({HTTP_PORT}); 0 takes a free one"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="the address to listen on (127.0.0.1); 0.0.0.0 is all"
    )
    parser.add_argument(
        "--advertise", metavar="HOST", help="what clients are told to connect to, where it is not the same"
    )
    parser.add_argument(
        "-t",
        "--topic",
        action="append",
        default=[],
        dest="topics",
        metavar="NAME[:PARTITIONS]",
        help="a topic that is there from the start, and again after a reset; may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="KEY=VALUE",
        help="a broker's setting; may be repeated",
    )
    parser.add_argument("--data", metavar="DIR", help="keep data in a directory instead of in memory")
    parser.add_argument("--json", action="store_true", help="print the addresses as JSON")


def run(options: Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from ottla.testing.cluster import Cluster

    several = options.brokers > 1
    if several and (options.host != "127.0.0.1" or options.advertise):
        raise CommandError("--host and --advertise are for one broker; several listen on 127.0.0.1")
    cluster = Cluster(
        options.brokers,
        data=options.data,
        settings=_assigned(options) if several else _settings(options),
        topics=_topics(options.topics),
        port=options.port if several else 0,
    )
    try:
        asyncio.run(_serve(cluster, options))
    except OSError as error:
        raise CommandError(_reason(error)) from None
    return 0


async def _serve(cluster: Cluster, options: Namespace) -> None:
    from ottla.testing.mock import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await asyncio.to_thread(cluster.start)
    try:
        if not stop.is_set():
            await serve(cluster, options.host, options.http, lambda port: _tell(cluster, options, port), stop)
    finally:
        await asyncio.to_thread(cluster.stop)


def _tell(cluster: Cluster, options: Namespace, http_port: int) -> None:
    """The one line that says where everything is."""
    host = options.advertise or ("127.0.0.1" if options.host in ("0.0.0.0", "::", "") else options.host)
    ports = [address.rpartition(":")[2] for address in cluster.bootstrap_servers.split(",")]
    kafka = ",".join(f"{_bracketed(host)}:{port}" for port in ports)
    http = f"http://{_bracketed(host)}:{http_port}"
    if options.json:
        print(json.dumps({"bootstrap_servers": kafka, "http": http}), flush=True)
    else:
        print(f"ottla mock ready: kafka on {kafka}, faults on {http}", flush=True)


def _settings(options: Namespace) -> dict[str, object]:
    everywhere = options.host in ("0.0.0.0", "::", "")
    settings: dict[str, object] = {}
    if options.port or everywhere or options.host != "127.0.0.1" or options.advertise:
        # One port for the whole life: a broker that is restarted comes back where it was.
        port = options.port or _free_port(options.host)
        settings["listeners"] = f"PLAINTEXT://{_bracketed(options.host)}:{port}"
        if options.advertise or everywhere:
            advertised = _bracketed(options.advertise or "127.0.0.1")
            settings["advertised.listeners"] = f"PLAINTEXT://{advertised}:{port}"
    return settings | _assigned(options)


def _assigned(options: Namespace) -> dict[str, object]:
    settings: dict[str, object] = {}
    for assignment in options.assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise CommandError(f"--set wants KEY=VALUE, not {assignment!r}")
        settings[name.strip()] = value.strip()
    return settings


def _topics(given: list[str]) -> dict[str, int]:
    topics = {}
    for text in given:
        name, colon, count = text.partition(":")
        if not name or (colon and not (count.isdecimal() and int(count))):
            raise CommandError(f"--topic wants NAME or NAME:PARTITIONS, not {text!r}")
        topics[name] = int(count or 1)
    return topics


def _free_port(host: str) -> int:
    import socket

    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as found:
        port: int = found.getsockname()[1]
    return port


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reason(error: OSError) -> str:
    from ottla.runtime.http import HttpListenError

    if isinstance(error, HttpListenError):
        return f"{error}; choose another one with --http PORT"
    return explain(error) or str(error)


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 0 < number <= 9:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"1 to 9 brokers, not {text!r}")
    return number


def _port(text: str) -> int:
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number <= 65535:
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"no port: {text!r}")
    return number

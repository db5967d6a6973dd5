"""`ottla start`: from the settings to a running node, and its clean end."""

from __future__ import annotations

import gc
import os
import signal
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ottla.cli.errors import FAILURE, INTERRUPTED, CommandError, complain, explain
from ottla.schema.config import BrokerConfig, Given
from ottla.schema.definition import SettingError
from ottla.version import VERSION

if TYPE_CHECKING:
    from ottla.server.node.node import Node

DEFAULT_HTTP = "http://127.0.0.1:8080"
"""Where metrics and health are, unless somebody says otherwise; when it is taken, a warning says so."""

_LOADED = time.monotonic()


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla start`."""
    parser.add_argument("--config", metavar="FILE", help="a properties file with Kafka's settings (server.properties)")
    parser.add_argument(
        "--data", metavar="DIR", help="the data directory (log.dirs); ./ottla-data when nothing says so"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="assignments",
        help="a setting; may be repeated. It wins over the file, and KAFKA_… and OTTLA_… variables win over it",
    )
    parser.add_argument(
        "--brokers", type=_count, metavar="N", help="a cluster of so many brokers on this machine (docs/cluster.md)"
    )
    parser.add_argument(
        "--port", type=_port, metavar="PORT", help="of the first of --brokers (9092); 0 takes free ones"
    )
    parser.add_argument("--host", metavar="HOST", help="the address that --brokers listen on (127.0.0.1)")
    parser.add_argument("--rack", metavar="RACK,…", help="broker.rack of --brokers, in turn (this machine's name)")
    parser.add_argument(
        "--secure",
        metavar="DIR",
        help="let in only who belongs: certificates, administrator and settings of this directory, which is made where "
        "there is none (`ottla security init`)",
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error (logging.level)")
    parser.add_argument("--log-format", metavar="FORMAT", help="text or json (logging.format)")
    parser.add_argument(
        "--detach", action="store_true", help="run in the background; `ottla stop` ends it, `ottla status` shows it"
    )
    parser.add_argument("--log-file", metavar="FILE", help="where the log of --detach goes (ottla.log with the data)")


def _refuse_of_several(options: Namespace) -> None:
    """What only several brokers are given; one broker has settings for it."""
    listener = f"listeners=PLAINTEXT://{options.host or '127.0.0.1'}:{options.port or 9092}"
    for name, setting in (("port", listener), ("host", listener), ("rack", f"broker.rack={options.rack}")):
        if getattr(options, name) is not None:
            raise CommandError(f"--{name} is for --brokers; for one broker: --set {setting}")


def run(options: Namespace) -> int:
    """Run a node until it is told to stop; returns the exit code."""
    # Nearly all that is made until the node is ready stays as long as the process: looking for garbage in it would be
    # a tenth of the start. See `_settle` for what happens then.
    gc.disable()
    try:
        if options.secure is not None and options.brokers is None:
            _secure(options)
        if options.brokers is not None:
            from ottla.cli import local_cluster

            return local_cluster.run(options)
        _refuse_of_several(options)
        config = load_config(options, os.environ)
        _refuse_cluster(config.log_dirs[0])
        if options.detach:
            from ottla.cli.detach import start_detached

            return start_detached(options, config.log_dirs[0])
        if options.log_file:
            raise CommandError("--log-file is for --detach; the log is on standard error otherwise")
        from ottla.cli.logs import configure_logging

        configure_logging(config["logging.level"], config["logging.format"])
        try:
            return _run_node(config)
        except Exception as error:
            complain(explain(error) or _unforeseen(error, config))
            return FAILURE
    finally:
        gc.enable()


def _secure(options: Namespace) -> None:
    """Take the settings of the directory, and make it where there is none."""
    from ottla.cli.security import DEFAULT_PORT, make_folder
    from ottla.cli.security.folder import Folder

    for name in ("config", "data"):
        if getattr(options, name) is not None:
            raise CommandError(f"--secure is for one broker with data and settings of its own; leave --{name} out")
    settings = Folder(options.secure).server_properties
    if (options.port is not None or options.host is not None) and os.path.exists(settings):
        raise CommandError(f"{settings} says where the broker listens; leave --port and --host out, or change it there")
    hosts = [] if options.host is None else [options.host]
    folder = make_folder(options.secure, hosts=hosts, port=options.port or DEFAULT_PORT)
    if folder.made:
        print(f"made {folder.path}: its administrator logs in with {folder.admin_properties}", flush=True)
    options.config, options.secure, options.port, options.host = folder.server_properties, None, None, None


def _refuse_cluster(data: str) -> None:
    """A single broker must not put its data among those of a cluster."""
    if os.path.exists(f"{data}/ottla.cluster"):
        raise CommandError(
            f"{data} holds a cluster: start it with --brokers, or one of its brokers with --config "
            f"{data}/broker-1/server.properties"
        )


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 0 < number <= 100:
        raise ArgumentTypeError(f"a cluster has 1 to 100 brokers here, not {text!r}")
    return number


def _port(text: str) -> int:
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number <= 65535:
        raise ArgumentTypeError(f"no port: {text!r}")
    return number


def load_config(options: Namespace, environment: Mapping[str, str]) -> BrokerConfig:
    """The configuration that the options and the environment describe; raises `CommandError`."""
    given = {
        "log.dirs": Given(options.data or "", "--data"),
        "logging.level": Given(options.log_level or "", "--log-level"),
        "logging.format": Given(options.log_format or "", "--log-format"),
    }
    try:
        return BrokerConfig.load(
            properties=None if options.config is None else read_config(options.config),
            properties_name=options.config or "",
            assignments=options.assignments,
            environment=environment,
            options={name: value for name, value in given.items() if value.text},
            defaults={"http.listeners": DEFAULT_HTTP},
            read_text=_read_text,
            read_secret=_read_secret,
        )
    except SettingError as error:
        raise CommandError(str(error)) from None


def read_config(path: str) -> str:
    """The text of a properties file; raises `CommandError`."""
    try:
        return _read_text(path)
    except OSError as error:
        raise CommandError(
            f"cannot read the file of --config, {path}: {(error.strerror or str(error)).lower()}"
        ) from None


def _read_secret(parameters: Mapping[str, str], path: str, key: str) -> str:
    from ottla.runtime.vault import secret_of

    return secret_of(parameters, path, key)


def _read_text(path: str) -> str:
    """A file's text; properties files were Latin-1 once, and are UTF-8 mostly."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _run_node(config: BrokerConfig) -> int:
    from ottla.runtime.env import real_env
    from ottla.runtime.loop import run as run_loop
    from ottla.server.node.node import Node

    async def serve() -> None:
        await serve_until_signal(Node(config, real_env()), config)

    run_loop(serve())
    return 0


async def serve_until_signal(node: Node, config: BrokerConfig) -> None:
    """Start the node, say that it is ready, wait for SIGTERM or SIGINT, stop it.

    A signal while it is starting stops it as well; a second Ctrl-C ends the process at once. Raises why the node could
    not start, or could not go on; it is stopped then too.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set() and number is signal.SIGINT:
            os._exit(INTERRUPTED)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    starting = loop.create_task(node.start())
    told = loop.create_task(stopping.wait())
    node_file = None
    try:
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            _settle()
            _warn_without_effect(config)
            node_file = write_node_file(config.log_dirs[0], node.bootstrap_servers)
            print(_ready_line(node), flush=True)
            assert node.failed is not None
            await asyncio.wait((node.failed, told), return_when=asyncio.FIRST_COMPLETED)
            if node.failed.done():
                raise node.failed.result()
    finally:
        told.cancel()
        starting.cancel()
        await asyncio.gather(starting, told, return_exceptions=True)
        if node_file is not None:
            remove_node_file(node_file)  # while the directory is still ours
        await node.stop()


def write_node_file(data: str, bootstrap_servers: str) -> str | None:
    """Tell `ottla stop` and `ottla status` who runs here; see `ottla.cli.running`, which reads it."""
    path = f"{data}/ottla.node"
    fields = {
        "pid": os.getpid(),
        "version": VERSION,
        "started_ms": int(time.time() * 1000),
        "bootstrap_servers": bootstrap_servers,
    }
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{name}={value}\n" for name, value in fields.items())
    except OSError:  # a full disk is no reason not to run
        return None
    return path


def remove_node_file(path: str) -> None:
    """The node is about to end."""
    try:
        os.unlink(path)
    except OSError:
        pass  # the directory may be gone, or have failed


def _settle() -> None:
    """Let the garbage collector work from here on, and only on what is made from here on."""
    gc.freeze()
    gc.enable()


def _ready_line(node: Node) -> str:
    return f"ottla {VERSION} ready in {seconds_since_process_start():.2f} s: {node.ready_line()}"


def _warn_without_effect(config: BrokerConfig) -> None:
    names = config.without_effect()
    if names:
        import logging

        logging.getLogger(__name__).warning("settings taken without effect: %s", ", ".join(names))


def _unforeseen(error: Exception, config: BrokerConfig) -> str:
    if config["logging.level"] == "debug":
        import traceback

        traceback.print_exception(error)
    return f"unexpected {type(error).__name__}: {error} (--log-level debug shows where)"


def seconds_since_process_start() -> float:
    """How long this process has been there, from the kernel's books; without them, since this module was loaded."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields: list[Any] = file.read().rpartition(b")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _LOADED

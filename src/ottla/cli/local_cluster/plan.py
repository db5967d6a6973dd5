"""Which nodes a cluster on one machine has: decided at the first start, kept in `ottla.cluster`."""

from __future__ import annotations

import errno
import json
import os
import socket
from argparse import Namespace
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from ottla.cli.client_properties import properties_text
from ottla.cli.errors import CommandError
from ottla.cli.passwords import write_private
from ottla.cli.running import find_node

if TYPE_CHECKING:
    from ottla.cli.security.cluster import ClusterSecurity

FILE: Final = "ottla.cluster"
PORT: Final = 9092
CONTROLLER_PORTS_ABOVE: Final = 10_000
"""A controller listens so far above its broker: 19092 beside 9092."""
HTTP_PORT: Final = 8080
MOST_CONTROLLERS: Final = 3
OWN_SETTINGS: Final = (
    "advertised.listeners",
    "broker.id",
    "broker.rack",
    "cluster.id",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "listeners",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "node.id",
    "process.roles",
)
"""What the plan sets for each node."""


@dataclass(frozen=True)
class Member:
    """A node of the cluster."""

    node_id: int
    port: int
    controller_port: int | None = None
    directory_id: str | None = None
    """Of a controller that the quorum begins with."""

    @property
    def name(self) -> str:
        return f"broker-{self.node_id}"


@dataclass(frozen=True)
class Plan:
    """The cluster. `racks` are given to the brokers in turn; `has_begun` when all directories were formatted once."""

    root: str
    cluster_id: str
    host: str
    members: tuple[Member, ...]
    racks: tuple[str, ...] = ()
    has_begun: bool = False
    security: ClusterSecurity | None = None
    """None: anybody may come in."""
    secured_by: str | None = None
    """The directory of `--secure` that the cluster began with."""

    @property
    def controllers(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.controller_port is not None)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{bracketed(self.host)}:{member.port}" for member in self.members)

    def directory(self, member: Member) -> str:
        """Where a node has its data."""
        return os.path.join(self.root, member.name)

    def properties_file(self, member: Member) -> str:
        """The generated settings of a node."""
        return os.path.join(self.directory(member), "server.properties")


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def make_plan(root: str, options: Namespace) -> Plan:
    """The plan of the directory, with as many brokers as asked for; nothing is written."""
    if os.path.exists(os.path.join(root, "meta.properties")):
        raise CommandError(f"{root} holds the data of a single broker; choose another directory with --data")
    host = options.host or "127.0.0.1"
    racks = tuple(filter(None, (rack.strip() for rack in (options.rack or socket.gethostname()).split(","))))
    kept = read_plan(root)
    if kept is None:
        return _new_plan(root, options.brokers, host, PORT if options.port is None else options.port, racks)
    if options.brokers < len(kept.members):
        raise CommandError(
            f"the cluster in {root} has {len(kept.members)} brokers: start it with --brokers {len(kept.members)}, or "
            "choose another directory with --data"
        )
    first = kept.members[0]
    if options.port not in (None, first.port):
        raise CommandError(
            f"the cluster in {root} has its ports from {first.port} on; leave --port out, or choose another directory "
            "with --data"
        )
    if options.host not in (None, kept.host):
        raise CommandError(f"the cluster in {root} is on {kept.host}; leave --host out")
    return replace(kept, racks=racks, members=(*kept.members, *_more(kept, options.brokers)))


def _new_plan(root: str, count: int, host: str, port: int, racks: tuple[str, ...]) -> Plan:
    from ottla.cli.kafka.storage_format import random_id
    from ottla.core.ids import uuid_to_text

    controllers = MOST_CONTROLLERS if count >= MOST_CONTROLLERS else 1
    if port == 0:
        ports = free_ports(host, count + controllers)
    else:
        ports = [port + number for number in range(count)]
        above = CONTROLLER_PORTS_ABOVE if ports[-1] + CONTROLLER_PORTS_ABOVE <= 65535 else count
        ports += [port + above + number for number in range(controllers)]
    if ports[-1] > 65535 or max(ports) > 65535:
        raise CommandError(f"there are not as many ports from {port} on; choose a lower one with --port")
    members = tuple(
        Member(number + 1, ports[number], ports[count + number], uuid_to_text(random_id()))
        if number < controllers
        else Member(number + 1, ports[number])
        for number in range(count)
    )
    for member in members:
        if os.path.exists(os.path.join(root, member.name)):
            raise CommandError(
                f"{root} holds {member.name}, but not {FILE}, which says what cluster it is of; choose another "
                "directory with --data"
            )
    return Plan(root, uuid_to_text(random_id()), host, members, racks)


def _more(kept: Plan, count: int) -> Iterable[Member]:
    last = kept.members[-1]
    taken = {member.controller_port for member in kept.members}
    port = max(member.port for member in kept.members)
    for number in range(1, count - len(kept.members) + 1):
        port += 1
        while port in taken:
            port += 1
        yield Member(last.node_id + number, port)


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody has now, all of them different."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server((host, 0), family=family)) for _ in range(count)]
        return [one.getsockname()[1] for one in found]


def check_free(plan: Plan) -> None:
    """Raises `CommandError` when a broker runs already, or somebody else has its port: nothing is written then, so
    that another choice can be made.
    """
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    for member in plan.members:
        directory = plan.directory(member)
        if (node := find_node(directory)) is not None:
            raise CommandError(f"{member.name} runs already (pid {node.pid}): `ottla stop --data {directory}` ends it")
        for port in filter(None, (member.port, member.controller_port)):
            try:
                socket.create_server((plan.host, port), family=family).close()
            except socket.gaierror:
                raise CommandError(f"nobody knows the address {plan.host!r}; correct --host") from None
            except OSError as error:
                raise CommandError(_why_not(plan, port, error)) from None


def _why_not(plan: Plan, port: int, error: OSError) -> str:
    address = f"{bracketed(plan.host)}:{port}"
    if error.errno == errno.EADDRINUSE:
        other = (
            "; this cluster has had its ports since its first start"
            if plan.has_begun
            else ", or choose other ports with --port (0 takes free ones)"
        )
        return f"{address} is already in use; stop the program that listens there{other}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{plan.host} is not an address of this machine; correct --host"
    return f"cannot listen on {address}: {(error.strerror or str(error)).lower()}"


def read_plan(root: str) -> Plan | None:
    """The plan that was kept in a directory; None when there is none."""
    path = os.path.join(root, FILE)
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        members = tuple(Member(**member) for member in fields["brokers"])
        return Plan(
            root,
            fields["cluster_id"],
            fields["host"],
            members,
            has_begun=fields["has_begun"],
            secured_by=fields.get("secured_by"),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandError(f"cannot make sense of {path}: {error}") from None


def prepare(plan: Plan, options: Namespace) -> None:
    """Keep the plan, format the directories that are new, and write the settings of every node."""
    try:
        os.makedirs(plan.root, exist_ok=True)
        _keep(plan)
        _format(plan)
        _keep(replace(plan, has_begun=True))
        for member in plan.members:
            write_private(plan.properties_file(member), _properties(plan, member, options))
    except OSError as error:
        raise CommandError(f"cannot write to {error.filename or plan.root}: {error.strerror or error}") from None


def _keep(plan: Plan) -> None:
    fields = {
        "cluster_id": plan.cluster_id,
        "has_begun": plan.has_begun,
        "secured_by": plan.secured_by,
        "host": plan.host,
        "brokers": [asdict(member) for member in plan.members],
    }
    path = os.path.join(plan.root, FILE)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(fields, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


def _format(plan: Plan) -> None:
    """What `ottla storage format --initial-controllers …` does, for every node that has no data yet.

    A controller whose data is gone has forgotten how it voted: it does not get its old place in the quorum back, and
    is added again by its operator.
    """
    new = [member for member in plan.members if not _is_formatted(plan, member)]
    if not new:
        return
    from ottla.cli.kafka.storage_format import Format, InitialVoter
    from ottla.core.ids import uuid_from_text
    from ottla.runtime.real_disk import RealDisk

    voters = tuple(
        InitialVoter(member.node_id, plan.host, member.controller_port or 0, uuid_from_text(member.directory_id or ""))
        for member in plan.controllers
    )
    for member in new:
        directory = plan.directory(member)
        os.makedirs(directory, exist_ok=True)
        Format(
            node_id=member.node_id,
            cluster_id=plan.cluster_id,
            directories=[directory],
            metadata_log_directory=directory,
            controller_listener_name="CONTROLLER",
            voters=voters if member.directory_id is not None and not plan.has_begun else (),
            has_dynamic_quorum=True,
            scram=() if plan.security is None else plan.security.credentials(),
        ).run(RealDisk(), _say_nothing)


def _is_formatted(plan: Plan, member: Member) -> bool:
    return os.path.exists(os.path.join(plan.directory(member), "meta.properties"))


def _say_nothing(text: str) -> None:
    """The plan is told of when the cluster is ready."""


def _properties(plan: Plan, member: Member, options: Namespace) -> str:
    """The settings of a node: the user's file, then what makes it this node of this cluster."""
    from ottla.cli.start import read_config

    text = ""
    if options.config is not None:
        text = f"{read_config(options.config)}\n\n"
    host = bracketed(plan.host)
    protocol = "PLAINTEXT" if plan.security is None else "SASL_SSL"
    listeners = [f"{protocol}://{host}:{member.port}"]
    if member.controller_port is not None:
        listeners.append(f"CONTROLLER://{host}:{member.controller_port}")
    servers = ",".join(f"{host}:{one.controller_port}" for one in plan.controllers)
    count = len(plan.members)
    replicas, in_sync = str(min(count, 3)), "2" if count >= 3 else "1"
    shared = {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }
    own = {
        "node.id": str(member.node_id),
        "process.roles": "broker" if member.controller_port is None else "broker,controller",
        "listeners": ",".join(listeners),
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": servers,
        "log.dirs": plan.directory(member),
        "http.listeners": _http(member),
    }
    if plan.security is not None:
        own |= plan.security.settings()
    if plan.racks:
        own["broker.rack"] = plan.racks[(member.node_id - 1) % len(plan.racks)]
    head = "# Written by `ottla start --brokers` at every start: change settings with its --set and --config.\n"
    before = "".join(f"{name}={value}\n" for name, value in shared.items())
    after = properties_text(own)
    return f"{head}{before}\n{text}{after}"


def _http(member: Member) -> str:
    """Where a node tells of itself; nowhere when somebody has the port already."""
    port = HTTP_PORT + member.node_id - 1
    try:
        with socket.create_server(("127.0.0.1", port)):
            return f"http://127.0.0.1:{port}"
    except OSError:
        return ""

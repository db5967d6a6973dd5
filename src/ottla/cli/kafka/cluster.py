"""kafka-cluster: the cluster's id, its endpoints, and brokers that are gone for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser
from ottla.cli.kafka.common import (
    ToolError,
    bootstrap_settings,
    guarded,
    java_message,
    java_text,
    load_properties,
    open_admin,
)

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.model import Node


def run(arguments: list[str]) -> int:
    """Run the tool."""
    parser = _parser()
    try:
        values = parser.parse(arguments)
    except ArgumentError as error:
        parser.report(error)
        return 1
    return guarded(lambda: _run(values))


def _parser() -> ArgumentParser:
    parser = ArgumentParser("kafka-cluster", default_help=True, description="The Kafka cluster tool.")
    commands = parser.add_subparsers(dest="command")
    cluster_id = commands.add_parser("cluster-id", help="Print the id of the cluster.")
    unregister = commands.add_parser("unregister", help="Forget a broker that will not come back.")
    endpoints = commands.add_parser("list-endpoints", help="List where brokers or controllers listen.")
    for one in (cluster_id, unregister, endpoints):
        connection = one.add_mutually_exclusive_group(required=True)
        connection.add_argument("--bootstrap-server", "-b", help="Brokers of the cluster, as host:port,host:port.")
        connection.add_argument("--bootstrap-controller", "-C", help="Controllers of the cluster, as host:port.")
        one.add_argument("--config", help="(DEPRECATED) The same as --command-config.")
        one.add_argument("--command-config", "-c", help="A file with settings of the admin client.")
    unregister.add_argument("--id", "-i", type=INTEGER, required=True, help="The id of the broker to forget.")
    endpoints.add_argument("--include-fenced-brokers", action="store_true", help="List brokers that are down, too.")
    return parser


def _run(values: dict[str, Any]) -> None:
    config = values["command_config"]
    if values["config"] is not None:
        if config is not None:
            raise ToolError("--config and --command-config cannot be specified together.")
        print(
            "Option --config has been deprecated and will be removed in a future version. Use --command-config instead."
        )
        config = values["config"]
    settings = load_properties(config) if config is not None else {}
    settings |= bootstrap_settings(values["bootstrap_server"], values["bootstrap_controller"])
    with open_admin(settings) as admin:
        if values["command"] == "cluster-id":
            print(f"Cluster ID: {admin.describe_cluster().cluster_id}")
        elif values["command"] == "unregister":
            _unregister(admin, values["id"])
        else:
            _list_endpoints(admin, values["bootstrap_controller"] is not None, values["include_fenced_brokers"])


def _unregister(admin: Admin, broker_id: int) -> None:
    from ottla.client.errors import UnsupportedVersionError

    try:
        admin.unregister_broker(broker_id)
    except UnsupportedVersionError:
        print("The target cluster does not support the broker unregistration API.")
    else:
        print(f"Broker {broker_id} is no longer registered.")


def _list_endpoints(admin: Admin, controllers: bool, include_fenced: bool) -> None:
    from ottla.cli.kafka.hash_order import hash_ordered
    from ottla.client.errors import UnsupportedVersionError

    if controllers and include_fenced:
        raise ToolError("The option --include-fenced-brokers is only supported with --bootstrap-server option")
    try:
        nodes = admin.describe_cluster(include_fenced_brokers=include_fenced).nodes
    except UnsupportedVersionError as error:
        print(java_message(error))
        return
    host = max((len(node.host) for node in nodes), default=100)
    rack = max((len(node.rack) for node in nodes if node.rack is not None), default=10)
    widths = (10, host, 10, rack, 15) if controllers else (10, host, 10, rack, 10, 15)
    heads = ["ID", "HOST", "PORT", "RACK", *(() if controllers else ("STATE",)), "ENDPOINT_TYPE"]
    _print_row(widths, heads)
    for node in hash_ordered(sorted(nodes), lambda node: node.id):
        _print_row(widths, _cells(node, controllers))


def _cells(node: Node, controllers: bool) -> list[str]:
    cells = [str(node.id), node.host, str(node.port), java_text(node.rack)]
    return [*cells, "controller"] if controllers else [*cells, "fenced" if node.fenced else "unfenced", "broker"]


def _print_row(widths: Sequence[int], cells: Sequence[str]) -> None:
    print(" ".join(f"{cell:<{width}}" for width, cell in zip(widths, cells, strict=True)))

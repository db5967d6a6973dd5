"""kafka-verifiable-share-consumer: consumes as a member of a share group, and tells of everything that happens."""

from __future__ import annotations

from typing import Any

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import ToolError, java_message, open_admin
from ottla.cli.kafka.console_options import Stopped, close_quietly, stopped_by_signals
from ottla.cli.kafka.share_client import share_settings
from ottla.cli.kafka.tool_log import log_error, log_line
from ottla.cli.kafka.verifiable import add_command_config, config_file, tell, text

_SOURCE = "org.apache.kafka.tools.VerifiableShareConsumer"
_MODES = ("auto", "async", "sync")
_POLL_S = 5.0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "verifiable-share-consumer",
        default_help=True,
        description="Reads a topic as a member of a share group, and writes what happens (records, acknowledged "
        "offsets) to standard output, as lines of JSON.",
    )
    add = parser.add_argument
    connection = parser.add_mutually_exclusive_group("Connection Group", "How the brokers are reached", required=True)
    connection.add_argument(
        "--bootstrap-server",
        required=True,
        metavar="HOST1:PORT1[,HOST2:PORT2[...]]",
        help="The server(s) to connect to, as HOST1:PORT1,HOST2:PORT2,...",
    )
    add("--topic", required=True, metavar="TOPIC", help="The topic to read.")
    add("--group-id", required=True, metavar="GROUP-ID", help="The share group")
    add(
        "--max-messages",
        type=INTEGER,
        default=-1,
        metavar="MAX-MESSAGES",
        help="How many acknowledged records; -1 for no end",
    )
    add("--verbose", action="store_true", metavar="VERBOSE", help="Tell of each record")
    add(
        "--acknowledgement-mode",
        default="auto",
        metavar="ACKNOWLEDGEMENT-MODE",
        help="How records are acknowledged: 'auto', 'sync' or 'async'",
    )
    add(
        "--offset-reset-strategy",
        default="",
        metavar="OFFSET-RESET-STRATEGY",
        help="Where the group begins: 'earliest' or 'latest'",
    )
    add_command_config(parser)
    return parser


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    try:
        values = parser.parse(arguments)
        mode = values["acknowledgement_mode"].upper()
        if mode.lower() not in _MODES:
            name = f"{_SOURCE}.AcknowledgementMode"
            raise ToolError(f"No enum constant {name}.{mode}")
        settings = {
            **config_file(parser, values, "consumer"),
            "group.id": values["group_id"],
            "bootstrap.servers": values["bootstrap_server"],
        }
    except HelpShown:
        return 1
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    return _VerifiableShareConsumer(values, mode, settings).run()


class _VerifiableShareConsumer:
    def __init__(self, values: dict[str, Any], mode: str, settings: dict[str, str]) -> None:
        from ottla.client.share.blocking import ShareConsumer

        self._values = values
        self._mode = mode
        self._settings = settings
        self._maximum: int = values["max_messages"]
        self._acknowledged = 0
        self._consumer: ShareConsumer[Any, Any] = ShareConsumer(share_settings(settings), on_acknowledgement=self._told)

    def run(self) -> int:
        code = 0
        try:
            with stopped_by_signals():
                self._run()
        except Stopped as stopped:
            code = stopped.exit_code
        except Exception as error:  # told, as Kafka's tool does
            log_error(_SOURCE, "Error during processing, terminating share consumer process: ", error)
        close_quietly(self._consumer.close)
        tell("shutdown_complete")
        return code

    def _run(self) -> None:
        tell("startup_complete")
        if self._values["offset_reset_strategy"]:
            self._set_strategy(self._values["offset_reset_strategy"].lower())
        self._consumer.subscribe([self._values["topic"]])
        while not 0 <= self._maximum <= self._acknowledged:
            records = self._consumer.poll(_POLL_S)
            if not records:
                continue
            self._received(records)
            if self._mode == "ASYNC":
                self._consumer.commit_async()
            elif self._mode == "SYNC":
                self._commit()

    def _set_strategy(self, strategy: str) -> None:
        from ottla.admin import ConfigResource

        kind = strategy.partition(":")[0]
        if strategy not in ("earliest", "latest") and kind != "by_duration":
            raise ToolError(f"Unknown share auto offset reset strategy: {strategy}")
        admin_settings = {name: value for name, value in self._settings.items() if name != "group.id"}
        with open_admin(admin_settings) as admin:
            admin.set_config(ConfigResource.group(self._values["group_id"]), {"share.auto.offset.reset": strategy})
        tell("offset_reset_strategy_set", offsetResetStrategy=kind)

    def _received(self, records: list[Any]) -> None:
        found: dict[tuple[str, int], list[Any]] = {}
        for record in records:
            found.setdefault((record.topic, record.partition), []).append(record)
        summaries: list[dict[str, object]] = []
        for (topic, partition), taken in found.items():
            offsets = sorted({record.offset for record in taken})
            summaries.append({"topic": topic, "partition": partition, "count": len(offsets), "offsets": offsets})
            for record in taken if self._values["verbose"] else ():
                tell(
                    "record_data",
                    key=text(record.key),
                    value=text(record.value),
                    topic=topic,
                    partition=partition,
                    offset=record.offset,
                )
        tell("records_consumed", count=len(records), partitions=summaries)

    def _commit(self) -> None:
        for partition, error in self._consumer.commit().items():
            if error is not None:
                log_line("ERROR", _SOURCE, f"Failed to commit offset synchronously for topic partition: {partition}")

    def _told(self, offsets: Any, error: Exception | None) -> None:
        """What became of acknowledgements; in the client's own thread."""
        partitions: list[dict[str, object]] = [
            {"topic": each.topic, "partition": each.partition, "count": len(found), "offsets": sorted(found)}
            for each, found in offsets.items()
        ]
        count = sum(len(found) for found in offsets.values())
        if error is not None:
            tell("offsets_acknowledged", count=count, partitions=partitions, success=False, error=java_message(error))
            return
        tell("offsets_acknowledged", count=count, partitions=partitions, success=True)
        self._acknowledged += count

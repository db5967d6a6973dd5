"""Apache Kafka's command line tools: `ottla kafka-topics …` is `kafka-topics.sh …`.

The options are Kafka's, and so is what is printed, because scripts read it: standard output byte for byte, the messages
on standard error, the exit code. What Java adds on its own (stack traces, log lines) is left out. Descriptions in the
help are ours, its layout is Kafka's. Where that holds, and where not, says `docs/kafka-tools.md`, which is made by
comparing with the real ones.

A tool is a module with `run(arguments: list[str]) -> int`. Options are read as the tool's library in Java does it:
`jopt.py` and `argparse4j.py`; what tools have in common is in `common.py`.
"""

from __future__ import annotations

import sys
from importlib import import_module

TOOLS = {
    "kafka-acls": "ottla.cli.kafka.acls",
    "kafka-broker-api-versions": "ottla.cli.kafka.broker_api_versions",
    "kafka-client-metrics": "ottla.cli.kafka.client_metrics",
    "kafka-cluster": "ottla.cli.kafka.cluster",
    "kafka-configs": "ottla.cli.kafka.configs",
    "kafka-console-consumer": "ottla.cli.kafka.console_consumer",
    "kafka-console-producer": "ottla.cli.kafka.console_producer",
    "kafka-console-share-consumer": "ottla.cli.kafka.console_share_consumer",
    "kafka-consumer-groups": "ottla.cli.kafka.consumer_groups",
    "kafka-consumer-perf-test": "ottla.cli.kafka.consumer_perf_test",
    "kafka-delegation-tokens": "ottla.cli.kafka.delegation_tokens",
    "kafka-delete-records": "ottla.cli.kafka.delete_records",
    "kafka-dump-log": "ottla.cli.kafka.dump_log",
    "kafka-e2e-latency": "ottla.cli.kafka.e2e_latency",
    "kafka-features": "ottla.cli.kafka.features",
    "kafka-get-offsets": "ottla.cli.kafka.get_offsets",
    "kafka-groups": "ottla.cli.kafka.groups",
    "kafka-jmx": "ottla.cli.kafka.jmx",
    "kafka-leader-election": "ottla.cli.kafka.leader_election",
    "kafka-log-dirs": "ottla.cli.kafka.log_dirs",
    "kafka-metadata-quorum": "ottla.cli.kafka.metadata_quorum",
    "kafka-metadata-shell": "ottla.cli.kafka.metadata_shell",
    "kafka-producer-perf-test": "ottla.cli.kafka.producer_perf_test",
    "kafka-reassign-partitions": "ottla.cli.kafka.reassign_partitions",
    "kafka-replica-verification": "ottla.cli.kafka.replica_verification",
    "kafka-share-consumer-perf-test": "ottla.cli.kafka.share_consumer_perf_test",
    "kafka-share-groups": "ottla.cli.kafka.share_groups",
    "kafka-storage": "ottla.cli.kafka.storage",
    "kafka-streams-application-reset": "ottla.cli.kafka.streams_application_reset",
    "kafka-streams-groups": "ottla.cli.kafka.streams_groups",
    "kafka-topics": "ottla.cli.kafka.topics",
    "kafka-transactions": "ottla.cli.kafka.transactions",
    "kafka-verifiable-consumer": "ottla.cli.kafka.verifiable_consumer",
    "kafka-verifiable-producer": "ottla.cli.kafka.verifiable_producer",
    "kafka-verifiable-share-consumer": "ottla.cli.kafka.verifiable_share_consumer",
}
"""Each tool's name without `.sh`, and its module."""


def run(name: str, arguments: list[str]) -> int:
    """Run a tool; returns its exit code. What nobody caught becomes one line, as the JVM's own, and 1."""
    from ottla.cli.kafka.common import ToolExit, uncaught

    tool = import_module(TOOLS[name])
    try:
        code: int = tool.run(arguments)
    except ToolExit as leaving:
        return leaving.code
    except BrokenPipeError:
        raise  # `| head` has seen enough
    except Exception as error:
        print(uncaught(error), file=sys.stderr)
        return 1
    return code

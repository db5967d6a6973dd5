"""kafka-transactions."""

from __future__ import annotations

from typing import Any

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-transactions"
CLASS = "org.apache.kafka.tools.TransactionsCommand"

_open: list[Any] = []
NUMBERS = (r"\d+",)
"""Producer ids go on from run to run, and times are what they are; so does what pads them."""
PADDING = (r"\d+", r" +", r"\t")


def transactions(place: Place) -> None:
    """One transaction that was committed, and one that is open."""
    import ottla
    from ottla.admin import NewTopic

    place.admin.create_topics(NewTopic("tools-a", 2))
    for number, name in enumerate(("tools-done", "tools-open")):
        producer = ottla.Producer(place.bootstrap, transactional_id=name, transaction_timeout_ms=60_000)
        _open.append(producer)
        producer.begin_transaction()
        producer.send("tools-a", b"value", partition=number)
        producer.flush()
        if name == "tools-done":
            producer.commit_transaction()


def abandon() -> None:
    """End what is open."""
    while _open:
        producer = _open.pop()
        try:
            producer.abort_transaction()
        except Exception:  # it was ended by the tool, or never begun
            pass
        producer.close()


SCENARIOS = [
    Scenario(
        "help",
        "",
        "-h",
        "--help",
        "--version",
        "-v",
        "--bootstrap-server {bootstrap}",
        "--bootstrap-server {bootstrap} nonsense",
        "--bootstrap-server {bootstrap} abort --help",
        "--bootstrap-server {bootstrap} find-hanging -h",
        "--bootstrap-server {bootstrap} list --help",
        "--bootstrap-server {bootstrap} describe --help",
        "--bootstrap-server {bootstrap} describe-producers --help",
        "--bootstrap-server {bootstrap} forceTerminateTransaction --help",
        remove=(r" \(Commit:\w+\)",),  # of Kafka's sources
        bare=True,
        quick=True,
    ),
    Scenario(
        "mistakes",
        "describe",
        "describe --transactional-id tools-nobody",
        "describe-producers --topic tools-a",
        "describe-producers --topic tools-a --partition x",
        "abort --topic tools-a",
        "abort --topic tools-a --partition 0",
        "abort --topic tools-a --partition 0 --start-offset 7777",
        "abort --topic tools-a --partition 0 --producer-id 5",
        "abort --topic tools-a --partition 0 --producer-id 5 --producer-epoch 70000",
        "abort --topic tools-a --partition 0 --producer-id 5 --producer-epoch 7",
        "find-hanging",
        "find-hanging --broker-id 1 --partition 0",
        "find-hanging --topic tools-nobody",
        "find-hanging --max-transaction-timeout x",
        "forceTerminateTransaction",
        "--command-config {directory}/nobody.properties list",
        setup=transactions,
        teardown=abandon,
    ),
    Scenario(
        "what is not there",
        *(
            f"--command-config {{directory}}/quick.properties {line}"
            for line in (
                "describe-producers --topic tools-nobody --partition 0",
                "describe-producers --topic tools-a --partition 9",
                "describe-producers --topic tools-a --partition 0 --broker-id 77",
                "abort --topic tools-nobody --partition 0 --start-offset 0",
            )
        ),
        setup=transactions,
        teardown=abandon,
        files={"quick.properties": "default.api.timeout.ms=2000\nrequest.timeout.ms=1000\n"},
        differs="what is not there is told of at once; Kafka's tool waits for it for a minute",
    ),
    Scenario(
        "views",
        "list",
        "list --transactional-id-pattern tools-.*",
        "list --transactional-id-pattern nobody",
        "list --transactional-id-pattern '['",
        "list --duration-filter 3600000",
        "list --duration-filter -1",
        "describe --transactional-id tools-open",
        "describe --transactional-id tools-done",
        "describe-producers --topic tools-a --partition 0",
        "describe-producers --topic tools-a --partition 1",
        "describe-producers --topic tools-a --partition 1 --broker-id 1",
        "find-hanging --topic tools-a",
        "find-hanging --topic tools-a --partition 1",
        "find-hanging --topic tools-a --max-transaction-timeout 0",
        "find-hanging --topic tools-a --max-transaction-timeout -5",
        "--command-config {directory}/client.properties list",
        setup=transactions,
        teardown=abandon,
        ignore=PADDING,
        files={"client.properties": "client.id=tools\n"},
        quick=True,
    ),
    Scenario(
        "abort",
        "abort --topic tools-a --partition 1 --start-offset 0",
        "describe-producers --topic tools-a --partition 1",
        "abort --topic tools-a --partition 1 --start-offset 0",
        "abort --topic tools-a --partition 1 --producer-id 5 --producer-epoch 7 --coordinator-epoch -1",
        setup=transactions,
        teardown=abandon,
        ignore=PADDING,
    ),
    Scenario(
        "end a transaction",
        "forceTerminateTransaction --transactionalId tools-open",
        Step("describe --transactional-id tools-open", settle_ms=500),
        setup=transactions,
        teardown=abandon,
        ignore=PADDING,
    ),
]

"""kafka-replica-verification. It runs until it is ended."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario
from tests.compatibility.tool_scenarios.group_setups import topics

TOOL = "kafka-replica-verification"
CLASS = "org.apache.kafka.tools.ReplicaVerificationTool"

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
RUN = "--broker-list {bootstrap} --report-interval-ms 700 --max-wait-ms 500"


def filled(place: Place) -> None:
    """Topics with records."""
    topics(place)


SCENARIOS = [
    Scenario(
        "help and mistakes",
        "",
        "--help",
        "--version",
        "--nonsense",
        "--broker-list nonsense",
        "--broker-list {bootstrap} --time x",
        "--broker-list {bootstrap} --topics-include '['",
        "--broker-list {bootstrap} --topics-include tools-nobody",
        bare=True,
        setup=filled,
        quick=True,
    ),
    *(
        Scenario(
            f"verify {name}",
            f"{RUN} --topics-include 'tools-(a|b)' {options}",
            bare=True,
            setup=filled,
            process=True,
            timeout_s=5,
            ignore=[
                rf"(\n?{TIME}: max lag is 0 for partition tools-[ab]-\d at offset {end} among 4 partitions)+",
                TIME,
            ],
        )
        for name, options, end in (
            ("from the end", "", r"\d"),
            ("from the beginning", "--time -2 --fetch-size 100", r"\d"),
        )
    ),
]

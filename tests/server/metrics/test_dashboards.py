"""Every query of the dashboards in the repository finds its series on a broker under load."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.metrics.scraping import Observed, Samples, load

DIRECTORY = Path(__file__).parents[3] / "dashboards"
_SELECTOR = re.compile(r"([a-z_][a-z0-9_]*)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)(=~|!~|!=|=)"([^"]*)"')

# On one broker, in a test: there while there is something to tell, or always the same.
_STEADY = re.compile(
    r"kafka_brokers|.*eventqueueprocessingtimems|.*remotetimems|.*offline.*|.*underreplicated.*|.*brokerstate|.*_throttle_time|.*logcleaner.*|.*linux_disk.*|"
    r"jvm_gc.*|.*invalidmessagecrc.*|.*throttletimems|.*streams_group_rebalance_count|.*logflush.*|"
    r"process_resident_memory_bytes|jvm_memory.*"
)


def queries() -> Iterator[tuple[str, str]]:
    for path in sorted(DIRECTORY.glob("*.json")):
        dashboard: dict[str, Any] = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]


def variables() -> Iterator[str]:
    for path in sorted(DIRECTORY.glob("*.json")):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["query"]["query"]


def selected(samples: Samples, name: str, matchers: str) -> dict[Any, float]:
    """The samples that a selector finds, on one scraped broker; variables stand for everything."""
    found = {}
    for labels, value in samples.get(name, {}).items():
        own = {"instance": "here", **dict(labels)}
        for label, operator, wanted in _MATCHER.findall(matchers):
            text = own.get(label, "")
            pattern = ".*" if wanted.startswith("$") else wanted
            matches = re.fullmatch(pattern, text) is not None if "~" in operator else text == wanted
            if matches is operator.startswith("!"):
                break
        else:
            found[labels] = value
    return found


@pytest.fixture(scope="module")
def looks() -> list[Samples]:
    with Observed(topics=["first"]) as observed:
        found = [observed.scrape()]
        with load(observed.bootstrap):
            found.append(observed.scrape())
    return found


def test_there_are_dashboards() -> None:
    assert len(list(queries())) > 40


@pytest.mark.parametrize("expression", [pytest.param(expression, id=name) for name, expression in queries()])
def test_every_query_finds_series_that_move(looks: list[Samples], expression: str) -> None:
    before, during = looks
    selectors = _SELECTOR.findall(expression)
    assert selectors, expression
    for name, matchers in selectors:
        found = selected(during, name, matchers)
        may_be_absent = 'error!="NONE"' not in matchers and name.startswith("burrow_kafka_consumer_partition_status")
        assert found or may_be_absent, (name, matchers)
        if not _STEADY.fullmatch(name):
            assert found != selected(before, name, matchers), (name, matchers)


@pytest.mark.parametrize("query", list(variables()))
def test_every_variable_finds_values(looks: list[Samples], query: str) -> None:
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
    assert match is not None
    name, label = match.groups()
    assert name in looks[1]
    assert label == "instance" or any(label in dict(labels) for labels in looks[1][name])


def test_panels_do_not_overlap() -> None:
    for path in DIRECTORY.glob("*.json"):
        panels = json.loads(path.read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            assert place["x"] + place["w"] <= 24
            taken |= cells

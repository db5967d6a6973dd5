"""The reference pages say what the code says.  `OTTLA_REWRITE=1 pytest tests/docs` writes them anew; read the diff."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from ottla.server.broker.api_table import APIS, CONTROLLER_APIS, Api

DOCS = Path(__file__).resolve().parents[2] / "docs"

APIS_HEAD = """\
# The APIs a node serves

What stands here is advertised by ApiVersions; anything else is not answered, and a client knows before it asks.
Versions are Apache Kafka 4.4's. Produce is advertised from version 0, as Apache Kafka does, because librdkafka judges a
broker by it, and answered from version 3.

| key | API | versions | what it does |
| ---: | --- | --- | --- |
"""

CONTROLLERS_HEAD = """\

## On listeners of controllers

Nodes of the cluster ask these, and clients that were given controllers as their bootstrap servers (KIP-919). What
brokers forward to the active controller comes in an Envelope.

| key | API | versions | what it does |
| ---: | --- | --- | --- |
"""


def api_row(api: Api) -> str:
    handler = importlib.import_module(api.handler_module)
    assert handler.__doc__, f"{api.handler_module} has no docstring"
    # Every handler's docstring begins "Name (key N), versions A-B: what it does."
    summary = " ".join(handler.__doc__.split("\n\n")[0].split()).partition(": ")[2].rstrip(".")
    assert summary, f"{api.handler_module} does not say what it does"
    return f"| {api.key} | {api.name} | {api.min_version}-{api.max_version} | {summary} |\n"


def check(page: str, expected: str) -> None:
    path = DOCS / page
    if os.environ.get("OTTLA_REWRITE"):
        path.write_text(expected)
    assert path.read_text() == expected, f"docs/{page} is out of date: OTTLA_REWRITE=1 pytest tests/docs"


def test_api_page_lists_what_is_served() -> None:
    brokers = "".join(api_row(APIS[key]) for key in sorted(APIS))
    controllers = "".join(api_row(CONTROLLER_APIS[key]) for key in sorted(CONTROLLER_APIS))
    check("apis.md", APIS_HEAD + brokers + CONTROLLERS_HEAD + controllers)


@pytest.mark.parametrize("api", [*APIS.values(), *CONTROLLER_APIS.values()], ids=lambda api: api.name)
def test_every_advertised_api_has_a_handler_and_messages(api: Api) -> None:
    messages = importlib.import_module(api.message_module)
    request = getattr(messages, f"{api.name}Request")
    assert hasattr(messages, f"{api.name}Response")
    assert callable(importlib.import_module(api.handler_module).handle)
    low, high = request.VALID_VERSIONS
    assert low <= api.min_version <= api.max_version <= high

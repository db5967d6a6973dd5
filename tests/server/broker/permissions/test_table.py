"""The table of checks: complete, and in words."""

from __future__ import annotations

import pytest

from ottla.server.broker.api_table import APIS, CONTROLLER_APIS
from ottla.server.broker.permissions.table import CHECKS, described

HANDLERS = sorted({api.handler for api in (*APIS.values(), *CONTROLLER_APIS.values())})


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_api_has_checks_and_says_which(handler: str) -> None:
    assert CHECKS[handler]
    assert described(handler)


def test_there_are_no_checks_of_what_is_not_served() -> None:
    assert set(CHECKS) == set(HANDLERS)


def test_checks_in_words() -> None:
    assert described("heartbeat") == "READ on the group"
    assert described("write_txn_markers") == "ALTER on the cluster or CLUSTER_ACTION on the cluster"
    assert described("offset_commit") == "READ on the group; READ on each"
    assert described("api_versions").startswith("none: ")

"""The table of checks is complete."""

from __future__ import annotations

import pytest

from ottla.server.broker.api_table import APIS, CONTROLLER_APIS
from ottla.server.broker.permissions.table import CHECKS

HANDLERS = sorted({api.handler for api in (*APIS.values(), *CONTROLLER_APIS.values())})


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_api_has_checks(handler: str) -> None:
    assert CHECKS[handler]


def test_there_are_no_checks_of_what_is_not_served() -> None:
    assert set(CHECKS) == set(HANDLERS)

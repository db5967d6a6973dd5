"""Apache Kafka's and Ottla's nodes in one cluster, and the table of docs/migrate.md, which says what is checked here.

`OTTLA_REWRITE=1 pytest tests/compatibility/test_mixed_cluster.py -k guide` writes the table anew; read the diff. What
has brackets there takes too long here: `python -m tests.compatibility.mixed_brokers "quorum of both"`, and
`python -m tests.compatibility.mixed_quorum a_whole_cluster_is_replaced`, which needs three JVMs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.brokers import KAFKA_HOME
from tests.compatibility import mixed_brokers, mixed_quorum, mixed_secure
from tests.compatibility.mixed import running
from tests.conftest import require

pytestmark = pytest.mark.xdist_group("kafka")

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "migrate.md"
TABLE = re.compile(r"^\| what works \|.*?\n\n", re.MULTILINE | re.DOTALL)
LAYOUTS = {"Kafka's": "kafka controller", "Ottla's": "ottla controller", "both": "quorum of both"}
"""By whose the controllers are."""
LONG = "a_whole_cluster_is_replaced"
SHORT = ("brokers_register_and_serve", "each_follows_the_other", "leaders_change_places", "transactions_on_either")
"""What is run with controllers of both kinds; the controllers' own checks have such a quorum too."""
RUN = [(layout, check) for layout in LAYOUTS for check in mixed_brokers.CHECKS if layout != "both" or check in SHORT]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_brokers_of_both_kinds(layout: str, tmp_path: Path) -> None:
    """One cluster, one check after the other: each leaves topics that the next ones find."""
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    with running(LAYOUTS[layout], tmp_path) as mixed:
        for name in (check for where, check in RUN if where == layout):
            mixed_brokers.CHECKS[name](mixed)


@pytest.mark.parametrize("check", [name for name in mixed_quorum.CHECKS if name != LONG])
def test_controllers_of_both_kinds(tmp_path: Path, check: str) -> None:
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    mixed_quorum.CHECKS[check](tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("layout", mixed_secure.LAYOUTS)
def test_both_kinds_where_only_those_get_in_who_belong(layout: str, tmp_path: Path) -> None:
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    with running(layout, tmp_path, is_secure=True) as mixed:
        for check in mixed_secure.CHECKS:
            check(mixed)


def test_the_guide_says_what_is_checked() -> None:
    text = GUIDE.read_text()
    expected = table()
    if os.environ.get("OTTLA_REWRITE"):
        GUIDE.write_text(TABLE.sub(lambda _: expected, text))
        return
    (found,) = TABLE.findall(text)
    assert found == expected, "docs/migrate.md: OTTLA_REWRITE=1 writes the table anew"


def table() -> str:
    """A row for each check: its first line, and on whose controllers it is run."""
    lines = [f"| what works | {' | '.join(LAYOUTS)} |", "| --- | --- | --- | --- |"]
    for name, check in mixed_brokers.CHECKS.items():
        cells = ["yes" if (layout, name) in RUN else "(yes)" for layout in LAYOUTS]
        lines.append(f"| {_first_line(check)} | {' | '.join(cells)} |")
    lines += [f"| TLS, SCRAM, ACLs: {_first_line(check)} | yes | yes | |" for check in mixed_secure.CHECKS]
    for name, controllers_check in mixed_quorum.CHECKS.items():
        lines.append(f"| {_first_line(controllers_check)} | | | {'(yes)' if name == LONG else 'yes'} |")
    return "\n".join(lines) + "\n\n"


def _first_line(check: Callable[..., None]) -> str:
    assert check.__doc__ is not None
    return check.__doc__.splitlines()[0].removesuffix(".")

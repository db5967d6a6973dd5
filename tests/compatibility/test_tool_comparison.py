"""Our command line tools print what Apache Kafka's print: the quick part of the comparison, on our own broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compatibility.compare_tools import Comparer, tool_modules
from tests.compatibility.drivers import Java
from tests.compatibility.tool_scenarios import Scenario

pytestmark = pytest.mark.xdist_group("tools")

QUICK = [
    pytest.param(tool, scenario, id=f"{tool}: {scenario.name}")
    for tool, module in tool_modules().items()
    for scenario in [one for one in module.SCENARIOS if one.quick and one.only in ("", "ottla") and not one.process][:1]
]
"""The first quick scenario of each tool; `compare_tools` runs all."""


@pytest.fixture(scope="module")
def comparer(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Comparer]]:
    """One for the module, made with the first test that has a JVM."""
    made: list[Comparer] = []
    yield made
    for one in made:
        one.close()


@pytest.mark.parametrize(("tool", "scenario"), QUICK)
def test_prints_what_apache_kafkas_tool_prints(
    tool: str,
    scenario: Scenario,
    comparer: list[Comparer],
    java: Java,
    bootstrap: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if not comparer:
        comparer.append(Comparer(java, "ottla", bootstrap, tmp_path_factory.mktemp("tools")))
    differences = [found for found in comparer[0].compare(tool_modules()[tool], scenario) if found is not None]
    assert not [found for found in differences if not found.known], "\n".join(found.text() for found in differences)

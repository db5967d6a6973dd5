"""Every API that is served, with and without permission: Ottla's answers beside Apache Kafka's, in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.brokers import KAFKA_HOME
from tests.compatibility.authorization.cells import Cell, cells
from tests.compatibility.authorization.controller_rows import NOT_ASKED, ROWS
from tests.compatibility.authorization.matrix import AUTHORIZATION_CODES, DOCUMENT, codes, compare, documented, served
from tests.compatibility.authorization.matrix import table as documented_table
from tests.conftest import require

CELLS = cells(ROWS)

TELLS_IDS = "AlterShareGroupOffsets"
"""Here Apache Kafka tells the id of a topic to those who may not read it. Ottla does not."""

Answers = tuple[dict[str, Any], dict[str, Any]]


def test_every_api_is_in_the_matrix() -> None:
    asked = {(row.api, row.on_controller) for row in ROWS}
    assert sorted(name for name, at in served() if (name, at) not in asked and name not in NOT_ASKED) == []
    assert asked <= served().keys()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of Ottla and of Apache Kafka, by user."""
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    directory: Path = tmp_path_factory.mktemp("matrix")
    ottla, kafka = compare(directory, CELLS)
    return ottla, kafka


@pytest.mark.xdist_group("kafka")
class TestMatrix:
    def test_both_answer_alike(self, answers: Answers) -> None:
        ottla, kafka = answers
        different = [
            f"{cell.row.name}: {cell.variant}: {ottla[cell.user]}, Apache Kafka: {kafka[cell.user]}"
            for cell in CELLS
            if ottla[cell.user] != kafka[cell.user]
            and not (cell.row.api == TELLS_IDS and ottla[cell.user] == _without_ids(kafka[cell.user]))
        ]
        assert not different, "\n".join(different)

    @pytest.mark.parametrize("variant", ["no ACL", "allowed"])
    def test_requests_need_what_the_matrix_says(self, answers: Answers, variant: str) -> None:
        """Without it the answer has a refusal, or less in it; with it there is none."""
        ottla, _ = answers
        wrong = [
            f"{cell.row.name}: {ottla[cell.user]}"
            for cell in CELLS
            if cell.variant == variant
            and cell.row.needs
            and ottla[cell.user] != "not served"
            and not _is_plausible(cell, ottla)
        ]
        assert not wrong, "\n".join(wrong)

    def test_the_documentation_has_the_table(self, answers: Answers) -> None:
        text = DOCUMENT.read_text()
        assert text == documented(text, documented_table(CELLS, answers[1]))


def _is_plausible(cell: Cell, answers: dict[str, Any]) -> bool:
    refused = bool(codes(answers[cell.user]) & AUTHORIZATION_CODES)
    if cell.variant == "allowed":
        # What else is asked in the same request may be refused all the same, or looks as if it were.
        return not refused or cell.row.hides or cell.row.label in ("by cluster", "logger")
    without = answers[cell.user]
    return refused or cell.row.hides or without != answers[cell.user.replace("none", "all")]


def _without_ids(answer: dict[str, Any]) -> dict[str, Any]:
    topics = [
        {name: value for name, value in topic.items() if name != "topic_id"} for topic in answer.get("responses", ())
    ]
    return {**answer, "responses": topics}

"""The examples of the clients' guides, in the order in which they stand there, against a broker of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.docs.test_examples import ADDRESS, DOCS, blocks

# Other clients warn of this and that; ours must not.
PAGES = {"clients.md": "error", "coming-from-other-clients.md": "default"}


@pytest.mark.parametrize(("page", "warnings"), PAGES.items())
def test_examples_of_a_page_run_one_after_the_other(
    page: str, warnings: str, make_broker: MakeBroker, tmp_path: Path
) -> None:
    broker = make_broker()
    script = tmp_path / "page.py"
    found = blocks("python", DOCS / page)
    assert found
    script.write_text("\n\n".join(found).replace(ADDRESS, broker.bootstrap))
    done = subprocess.run(
        [sys.executable, "-W", warnings, str(script)], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

"""A certificate that is not valid now is served, as Kafka does, and the log says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ottla.schema.config import BrokerConfig
from ottla.server.security.tls import RenewedContext
from tests.cli.doctor.authority import write_key_store


@pytest.mark.parametrize(
    ("begins", "ends", "told"),
    [(-30, 400, ""), (-30, 3, "ends on"), (-30, -1, "ended on"), (2, 400, "is not valid before")],
)
def test_times_are_told(begins: int, ends: int, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    write_key_store(tmp_path / "node.pem", now + timedelta(days=begins), now + timedelta(days=ends))
    config = BrokerConfig.of({"ssl.keystore.location": str(tmp_path / "node.pem")})
    RenewedContext(config, "SSL", "SSL", is_server=True)
    assert [told in record.getMessage() for record in caplog.records] == ([True] if told else [])

"""The settings of docs/sasl.md, as they stand there, let in who they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ottla.schema.config import BrokerConfig
from ottla.server.broker.sasl_listener import SaslListener
from ottla.server.node.peer_security import outgoing_security
from tests.server.broker.support import make_broker, run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sasl.md"
BLOCKS = re.findall(r"^```properties\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
CLUSTER = "process.roles=broker,controller\ncontroller.listener.names=CONTROLLER\nnode.id=1\n"


@pytest.mark.parametrize(("block", "user"), list(zip(BLOCKS, ["alice", "node"], strict=True)))
def test_settings_of_the_guide(block: str, user: str) -> None:
    text = block if "CONTROLLER" not in block else CLUSTER + "controller.quorum.bootstrap.servers=c:9093\n" + block
    config = BrokerConfig.load(properties=text + "log.dirs=/data\n")
    password = {"alice": "alice's secret", "node": "between nodes"}[user]
    broker = make_broker()
    broker.config = config

    async def log_in() -> str:
        listener = SaslListener(broker, "CLIENTS" if user == "alice" else "CONTROLLER", None)  # type: ignore[arg-type]
        step = await listener.begin("PLAIN", "host").respond(f"\0{user}\0{password}".encode())
        assert step.session is not None
        return step.session.principal

    assert run(log_in()) == f"User:{user}"
    if user == "node":
        assert outgoing_security(config, broker.env) is not None

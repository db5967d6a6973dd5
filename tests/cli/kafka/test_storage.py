"""kafka-storage: what it writes is what a node starts on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ottla.cli.kafka import run
from ottla.cli.kafka.scram_arguments import ScramArgumentError, scram_credential
from ottla.runtime.env import real_env
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node

CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:9093
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:9093
log.dirs={directory}/a,{directory}/b
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "server.properties"
    path.write_text(SETTINGS.format(directory=tmp_path))
    return str(path)


@pytest.mark.parametrize("quorum", ["--standalone", "--no-initial-controllers"])
def test_a_node_starts_with_what_was_formatted(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], quorum: str
) -> None:
    arguments = ["format", "-c", config, "-t", CLUSTER, quorum, "-r", "4.1", "-f", "group.version=0"]
    assert run("kafka-storage", arguments) == 0

    async def start_and_stop() -> None:
        settings = {
            "node.id": "1",
            "listeners": "PLAINTEXT://127.0.0.1:0",
            "log.dirs": f"{tmp_path}/a,{tmp_path}/b",
        }
        env = real_env()
        node = Node(BrokerConfig.of(settings), env)
        await node.start()
        await node.stop()
        env.close()

    asyncio.run(start_and_stop())
    capsys.readouterr()
    assert run("kafka-storage", ["info", "--config", config]) == 0
    assert f"cluster.id={CLUSTER}" in capsys.readouterr().out
    log = f"{tmp_path}/a/__cluster_metadata-0/{0:020}.log"
    assert run("kafka-metadata-shell", ["-s", log, "tree", "image/features"]) == 0
    assert capsys.readouterr().out.split() == [
        *("finalized_eligible.leader.replicas.version:", "1", "finalized_transaction.version:", "2"),
        *("metadataVersion:", "Optional[4.1-IV1]"),
    ]


def test_info_tells_what_is_there_and_what_is_wrong(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("kafka-storage", ["info", "--config", config]) == 1
    assert f"  {tmp_path}/a does not exist\n" in capsys.readouterr().out
    run("kafka-storage", ["format", "-c", config, "-t", CLUSTER, "-s"])
    capsys.readouterr()
    assert run("kafka-storage", ["info", "--config", config]) == 0
    assert f"Found metadata: {{cluster.id={CLUSTER}, directory.id=" in capsys.readouterr().out


def test_a_formatted_directory_is_not_formatted_again(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["format", "-c", config, "-t", CLUSTER, "-s"]
    assert run("kafka-storage", arguments) == 0
    assert run("kafka-storage", arguments) == 1
    assert "is already formatted. Use --ignore-formatted" in capsys.readouterr().err
    assert run("kafka-storage", [*arguments, "--ignore-formatted"]) == 0


def test_a_credential_can_be_checked_against_its_password() -> None:
    first = scram_credential("SCRAM-SHA-256=[name=alice,password=secret,salt=N3E=]")
    # The salted password of the same salt and iterations gives the same keys.
    import base64
    import hashlib

    salted = hashlib.pbkdf2_hmac("sha256", b"secret", base64.b64decode("N3E="), 4096)
    text = base64.b64encode(salted).decode()
    assert scram_credential(f"SCRAM-SHA-256=[name=alice,saltedpassword={text},salt=N3E=]") == first
    with pytest.raises(ScramArgumentError, match="You must supply 'name'"):
        scram_credential("SCRAM-SHA-256=[password=secret]")

"""kafka-dump-log."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario
from tests.compatibility.tool_scenarios.log_samples import BASE_NAME, write_all

TOOL = "kafka-dump-log"
CLASS = "org.apache.kafka.tools.DumpLogSegments"


def samples(place: Place) -> dict[str, str]:
    """Files with one of everything; their names, to be filled in."""
    write_all(place.directory)
    return {"log": f"{BASE_NAME}.log"}


def log(name: str) -> str:
    """The option that names a sample."""
    return f"--files {{directory}}/{name}/{{log}}"


INDEX = f"--files {{directory}}/{{name}}/{BASE_NAME}.index"
TIMES = f"--files {{directory}}/{{name}}/{BASE_NAME}.timeindex"

SCENARIOS = [
    Scenario(
        "help and mistakes",
        "",
        "--help",
        "--version",
        "--print-data-log",
        "--nonsense",
        "--files",
        f"{log('plain')} --max-bytes x",
        "--files {directory}/nobody.log",
        f"--files {{directory}}/nobody/{BASE_NAME}.log",
        f"--files {{directory}}/plain/{BASE_NAME}.unknown",
        "--files {directory}/plain/noextension",
        bare=True,
        setup=samples,
        quick=True,
    ),
    Scenario(
        "batches and records",
        log("plain"),
        f"{log('plain')} --deep-iteration",
        f"{log('plain')} --print-data-log",
        f"{log('plain')} --print-data-log --skip-record-metadata",
        f"{log('plain')} --deep-iteration --skip-record-metadata",
        f"{log('plain')} --max-bytes 200",
        f"{log('plain')} --max-bytes 20",
        f"{log('plain')} --print-data-log --max-message-size 100",
        f"{log('empty')} --print-data-log",
        f"{log('torn')} --print-data-log",
        f"{log('wrong-crc')}",
        f"{log('legacy')}",
        f"{log('legacy')} --print-data-log",
        "--files {directory}/plain/{log},{directory}/empty/{log},{directory}//plain/./{log}",
        bare=True,
        setup=samples,
        quick=True,
    ),
    Scenario(
        "damaged batches",
        log("zeros"),
        bare=True,
        setup=samples,
    ),
    Scenario(
        "decoders of keys and values",
        f"{log('plain')} --value-decoder-class",
        f"{log('plain')} --key-decoder-class",
        f"{log('plain')} --value-decoder-class org.apache.kafka.tools.api.StringDecoder",
        f"{log('no-keys')} --value-decoder-class org.apache.kafka.tools.api.DefaultDecoder",
        bare=True,
        setup=samples,
        ignore=[r"(?<=\[B@)[0-9a-f]+"],
        quick=True,
    ),
    Scenario(
        "records of internal topics",
        f"{log('groups')} --offsets-decoder",
        f"{log('transactions')} --transaction-log-decoder",
        f"{log('share')} --share-group-state-decoder",
        f"{log('groups')} --offsets-decoder --skip-record-metadata",
        f"{log('no-keys')} --offsets-decoder",
        bare=True,
        setup=samples,
        quick=True,
        ignore=[r"(?<=buffer due to: )[^\n]*"],
    ),
    Scenario(
        "the metadata log",
        f"{log('raft')} --cluster-metadata-decoder",
        f"{log('metadata')} --cluster-metadata-decoder",
        f"{log('metadata')} --cluster-metadata-decoder --skip-record-metadata",
        "--files {directory}/raft/00000000000000000042-0000000003.checkpoint --cluster-metadata-decoder",
        "--files {directory}/raft/bootstrap.checkpoint --cluster-metadata-decoder",
        bare=True,
        setup=samples,
        quick=True,
    ),
    Scenario(
        "where tiered segments are",
        f"{log('remote')} --remote-log-metadata-decoder",
        bare=True,
        setup=samples,
        quick=True,
    ),
    *(
        Scenario(
            f"indexes: {name}",
            INDEX.replace("{name}", name),
            f"{INDEX.replace('{name}', name)} --verify-index-only",
            f"{INDEX.replace('{name}', name)} --index-sanity-check",
            TIMES.replace("{name}", name),
            f"{TIMES.replace('{name}', name)} --verify-index-only",
            f"{TIMES.replace('{name}', name)} --index-sanity-check",
            bare=True,
            setup=samples,
            quick=name in ("plain", "index-wrong"),
        )
        for name in ("plain", "index-wrong", "index-zero", "index-none", "index-uneven", "index-down")
    ),
    Scenario(
        "producers and aborted transactions",
        f"--files {{directory}}/plain/{BASE_NAME}.snapshot",
        f"--files {{directory}}/plain/{BASE_NAME}.txnindex",
        bare=True,
        setup=samples,
        quick=True,
    ),
    Scenario(
        "a snapshot that is none",
        "--files {directory}/plain/00000000000000000001.snapshot",
        bare=True,
        setup=samples,
    ),
]

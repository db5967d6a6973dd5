"""kafka-storage."""

from __future__ import annotations

import shutil

from tests.compatibility.tool_scenarios import Place, Scenario

TOOL = "kafka-storage"
CLASS = "kafka.tools.StorageTool"

CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
NODE = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093
controller.listener.names=CONTROLLER
"""
STATIC = NODE + "controller.quorum.voters=1@127.0.0.1:9093\n"
NO_QUORUM = NODE
NODE += "controller.quorum.bootstrap.servers=127.0.0.1:9093\n"
BROKER = """\
process.roles=broker
node.id=2
listeners=PLAINTEXT://127.0.0.1:9092
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:9093
"""
VOTERS = f"1@127.0.0.1:9093:{CLUSTER},2@[::1]:9093:MvDxzVmcRsaTz33bUuRU6A"


def empty(place: Place) -> None:
    """No data directories, and settings that name one or two."""
    for name in "abc":
        shutil.rmtree(place.directory / name, ignore_errors=True)
    (place.directory / "c").unlink(missing_ok=True)
    one = f"log.dirs={place.directory}/a\n"
    files = {
        "one": NODE + one,
        "two": NODE + f"log.dirs={place.directory}/a, {place.directory}/b\n",
        "other": NODE + f"log.dirs={place.directory}/a\nmetadata.log.dir={place.directory}/b\n",
        "static": STATIC + one,
        "broker": BROKER + one,
        "unstable": NODE + one + "unstable.feature.versions.enable=true\n",
        "node-3": NODE.replace("node.id=1", "node.id=3") + f"log.dirs={place.directory}/a,{place.directory}/b\n",
        "no-quorum": NO_QUORUM + one,
        "no-roles": NODE.replace("process.roles=broker,controller\n", "") + one,
        "no-id": NODE.replace("node.id=1\n", "") + one,
        "bad-id": NODE.replace("node.id=1", "node.id=x") + one,
        "negative-id": NODE.replace("node.id=1", "node.id=-1") + one,
        "bad-role": NODE.replace("broker,controller", "broker,king") + one,
        "no-names": NODE.replace("controller.listener.names=CONTROLLER\n", "") + one,
    }
    for name, text in files.items():
        (place.directory / f"{name}.properties").write_text(text)


def damaged(place: Place) -> None:
    """Directories that are formatted, but not well."""
    empty(place)
    for name in "ab":
        (place.directory / name).mkdir()
    meta = place.directory / "a" / "meta.properties"
    meta.write_text(f"version=1\ncluster.id={CLUSTER}\nnode.id=1\ndirectory.id=MvDxzVmcRsaTz33bUuRU6A\n")
    (place.directory / "b" / "meta.properties").write_text("version=1\ncluster.id=other\nnode.id=1\n")
    (place.directory / "c").write_text("a file")
    listed = ",".join(f"{place.directory}/{name}" for name in "abcd")
    (place.directory / "all.properties").write_text(NODE + f"log.dirs={listed}\n")


def refusals() -> list[str]:
    """What is refused before anything is written."""
    features = [
        "kraft.version=0",
        "kraft.version=1",
        "group.version=9",
        "nonsense=1",
        "metadata.version=30",
        "x",
        "x=y",
    ]
    scram = [
        "x",
        "SCRAM-SHA-1=[name=a,password=b]",
        "SCRAM-SHA-256=name=a",
        "SCRAM-SHA-256=[name=a",
        "SCRAM-SHA-256=[password=b]",
        "SCRAM-SHA-256=[name=a]",
        "SCRAM-SHA-256=[name=a,password]",
        "SCRAM-SHA-256=[name=a,password=b,iterations=1]",
        "SCRAM-SHA-512=[name=a,password=b,iterations=100000]",
        "SCRAM-SHA-512=[name=a,password=b,iterations=x]",
        "SCRAM-SHA-512=[name=a,saltedpassword=b]",
        "SCRAM-SHA-512=[name=a,password=b,color=red,beer=pale]",
    ]
    voters = [
        "1",
        "@x",
        "x@y:1:z",
        "1@",
        "1@[x",
        "1@x",
        "1@x:y",
        "1@x:y:z",
        "1@x:99999:z",
        "1@x:1:z z",
        ",",
        "1@x:1:MkU3OEVBNTcwNTJENDM2Qg,1@y:2:MkU3OEVBNTcwNTJENDM2Qg",
        "-1@x:1:z",
    ]
    one = f"format --config {{directory}}/one.properties -t {CLUSTER}"
    return [
        *(f"{one} --standalone --feature {feature}" for feature in features),
        *(f"{one} --standalone --add-scram '{argument}'" for argument in scram),
        *(f"{one} --initial-controllers '{argument}'" for argument in voters),
        one,
        f"{one} --standalone --release-version 3.0",
        f"{one} --standalone --release-version 4.4",
        f"{one} --standalone --release-version 3.4 --add-scram SCRAM-SHA-256=[name=a,password=b]",
        f"{one} --standalone --release-version 4.0 --feature metadata.version=25",
        f"{one} --standalone --release-version 3.9 --feature eligible.leader.replicas.version=1",
        f"{one} --standalone --feature metadata.version=31",
        f"{one} --standalone --feature metadata.version=99",
        f"{one} --standalone --initial-controllers {VOTERS}",
        f"{one} --standalone --no-initial-controllers",
        f"format --config {{directory}}/static.properties -t {CLUSTER} --standalone",
        f"format --config {{directory}}/static.properties -t {CLUSTER} --feature kraft.version=1",
        f"format --config {{directory}}/broker.properties -t {CLUSTER} --standalone",
        *(
            f"format --config {{directory}}/{name}.properties -t {CLUSTER} --standalone"
            for name in ("no-roles", "no-id", "bad-id", "negative-id", "bad-role", "no-names", "no-quorum", "nowhere")
        ),
        "format --config {directory}/one.properties",
        f"format -t {CLUSTER}",
        "info",
        "info --config {directory}/one.properties",
        "info @{directory}/arguments.txt",
    ]


def formats(*options: str, config: str = "one") -> list[str]:
    """Format, and look."""
    return [
        f"format --config {{directory}}/{config}.properties --cluster-id {CLUSTER} {' '.join(options)}",
        f"info --config {{directory}}/{config}.properties",
    ]


SCENARIOS = [
    Scenario("help", "", "--help", "info --help", "format -h", "version-mapping -h", "feature-dependencies -h",
             "random-uuid -h", "nonsense", bare=True, quick=True),
    Scenario("standalone", *formats("--standalone"), *formats("--standalone"), *formats("-s", "--ignore-formatted"),
             *formats("-s -g", config="two"), *formats("-s -g", config="node-3"), setup=empty, bare=True, quick=True),
    Scenario("several directories", *formats("--standalone", config="two"), setup=empty, bare=True),
    Scenario("metadata apart", *formats("--standalone", config="other"), setup=empty, bare=True),
    Scenario("static quorum", *formats(config="static"), setup=empty, bare=True),
    Scenario("broker", *formats(config="broker"), setup=empty, bare=True),
    Scenario("joins later", *formats("--no-initial-controllers"), setup=empty, bare=True),
    Scenario("several voters", *formats(f"--initial-controllers {VOTERS}"), setup=empty, bare=True),
    Scenario("old release", *formats("-s -r 3.9.1 -f transaction.version=0"), setup=empty, bare=True),
    Scenario("unstable", *formats("--standalone", config="unstable"), setup=empty, bare=True),
    Scenario(
        "credentials",
        *formats(
            "-s",
            "-S 'SCRAM-SHA-256=[name=alice,iterations=8192,salt=\"N3E=\",saltedpassword=\"YCE=\"]'",
            "--add-scram 'SCRAM-SHA-512=[name=bob,salt=N3E=,password=builder]'",
        ),
        setup=empty,
        bare=True,
        quick=True,
    ),
    Scenario("refused", *refusals(), setup=empty, bare=True,
             files={"arguments.txt": "--config\nnowhere.properties\n"}),
    Scenario("damaged", "info --config {directory}/all.properties", *formats("-s -g", config="all"), setup=damaged,
             bare=True),
    Scenario(
        "versions",
        "version-mapping",
        *(f"version-mapping -r {one}" for one in ("3.3", "3.9.0", "4.0-IV2", "4.2", "4.4-IV0", "2.8", "x")),
        "version-mapping --release-version 4.1",
        *(
            f"feature-dependencies --feature {one}"
            for one in (
                "metadata.version=23", "metadata.version=99", "group.version=1", "eligible.leader.replicas.version=1",
                "kraft.version=1", "kraft.version=7", "nonsense=1", "x", "group.version=x", "group.version=99999",
            )
        ),
        "feature-dependencies --feature transaction.version=2 -f share.version=0",
        "feature-dependencies",
        bare=True,
        quick=True,
    ),
    Scenario("random-uuid", "random-uuid", bare=True, ignore=["^[A-Za-z0-9_][A-Za-z0-9_-]{21}(?=\n)"]),
]  # fmt: skip

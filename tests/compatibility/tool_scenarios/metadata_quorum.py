"""kafka-metadata-quorum."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario

TOOL = "kafka-metadata-quorum"
CLASS = "org.apache.kafka.tools.MetadataQuorumCommand"

DIRECTORY_ID = "AAAAAAAAAAAAAAAAAAAAAQ"


def controller(place: Place) -> dict[str, str]:
    """The files of a controller, and where the cluster's own one listens (nowhere for us)."""
    directory = place.directory / "controller"
    directory.mkdir(exist_ok=True)
    meta = {"version": "1", "cluster.id": "AAAAAAAAAAAAAAAAAAAAAg", "node.id": "7", "directory.id": DIRECTORY_ID}
    (directory / "meta.properties").write_text("".join(f"{name}={value}\n" for name, value in meta.items()))
    good = {
        "node.id": "7",
        "process.roles": "controller",
        "metadata.log.dir": str(directory),
        "listeners": "CONTROLLER://localhost:9093,SECOND://:9094,THIRD://[::1]:9095",
        "advertised.listeners": "CONTROLLER://controller.example:9193",
        "controller.listener.names": "CONTROLLER,SECOND,THIRD",
    }
    for name, changes in {
        "good": {},
        "no-id": {"node.id": None},
        "negative": {"node.id": "-1"},
        "broker": {"process.roles": "broker"},
        "log-dirs": {"metadata.log.dir": None, "log.dirs": f"{directory},/other"},
        "no-dir": {"metadata.log.dir": None},
        "no-names": {"controller.listener.names": None},
        "unknown-name": {"controller.listener.names": "NOBODY"},
    }.items():
        lines = [f"{key}={value}\n" for key, value in (good | changes).items() if value is not None]
        (place.directory / f"{name}.properties").write_text("".join(lines))
    return {}


ADD = "--bootstrap-server {bootstrap} --command-config {directory}/"
REMOVE = "--bootstrap-server {bootstrap} remove-controller "

SCENARIOS = [
    Scenario(
        "help",
        "",
        "--help",
        "-h",
        "--bootstrap-server {bootstrap}",
        "describe",
        "nonsense",
        "--bootstrap-server {bootstrap} --bootstrap-controller {bootstrap} describe",
        "--bootstrap-server {bootstrap} describe --help",
        "--bootstrap-server {bootstrap} add-controller --help",
        "--bootstrap-server {bootstrap} remove-controller --help",
        bare=True,
        quick=True,
    ),
    Scenario(
        "describe",
        "--bootstrap-server {bootstrap} describe",
        "--bootstrap-server {bootstrap} describe --status",
        "--bootstrap-server {bootstrap} describe --replication",
        "--bootstrap-server {bootstrap} describe --replication --human-readable",
        "--bootstrap-server {bootstrap} describe --status --replication",
        "--bootstrap-server {bootstrap} describe --status --human-readable",
        "--bootstrap-server {bootstrap} --command-config {directory}/good.properties describe --status",
        "--bootstrap-server {bootstrap} --command-config {directory}/nobody.properties describe --status",
        bare=True,
        setup=controller,
        # How far the log is, when that was, and how wide these numbers are.
        ignore=[r"(?<=HighWatermark:)( +)\d+", r"\d+ ms ago", r"\b\d{13}\b", r"(?<=\t)\d+ *(?=\t)", r" {3,}"],
        quick=True,
    ),
    Scenario(
        "a controller that may vote",
        "--bootstrap-server {bootstrap} add-controller",
        *(
            f"{ADD}{name}.properties add-controller --dry-run"
            for name in ("good", "no-id", "negative", "broker", "log-dirs", "no-dir", "no-names", "unknown-name")
        ),
        f"{ADD}good.properties add-controller",
        bare=True,
        setup=controller,
        quick=True,
    ),
    Scenario(
        "a controller that may vote no longer",
        f"{REMOVE}--controller-id 7",
        f"{REMOVE}--controller-id x --controller-directory-id {DIRECTORY_ID}",
        f"{REMOVE}--controller-id 7 --controller-directory-id {DIRECTORY_ID} --dry-run",
        f"{REMOVE}-i 7 -d {DIRECTORY_ID} --dry-run",
        f"{REMOVE}--controller-id 7 --controller-directory-id {DIRECTORY_ID}",
        f"{REMOVE}--controller-id -7 --controller-directory-id {DIRECTORY_ID}",
        f"{REMOVE}--controller-id 7 --controller-directory-id nonsense",
        f"{REMOVE}--controller-id 7 --controller-directory-id 'a b'",
        f"{REMOVE}--controller-id 7 --controller-directory-id nonsense-nonsense-nonsense",
        bare=True,
        setup=controller,
        quick=True,
    ),
]

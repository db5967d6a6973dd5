"""kafka-metadata-shell, on a copy of the cluster's own metadata log.

Kafka's tool begins when it has read the first records: now and then it shows less than there is. Not in the suite,
therefore.
"""

from __future__ import annotations

import shutil

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-metadata-shell"
CLASS = "org.apache.kafka.shell.MetadataShell"

LOG = "--snapshot {directory}/log/00000000000000000000.log"


def metadata(place: Place) -> None:
    """A metadata log with all sorts of things in it. It stays as it is from then on: a log never stops growing."""
    import ottla
    from ottla.admin import ClientQuotaEntity, ConfigResource, NewTopic

    copy = place.directory / "log"
    if copy.exists():
        return
    place.admin.create_topics([NewTopic("tools-a", 2, configs={"retention.ms": 1000}), NewTopic("tools-b.c", 1)])
    place.admin.set_config(ConfigResource.broker(""), {"log.retention.ms": "7200000"})
    place.admin.set_config(ConfigResource.group("tools-g"), {"share.auto.offset.reset": "earliest"})
    place.admin.alter_client_quotas(
        {
            ClientQuotaEntity(client_id="tools-(x)"): {"producer_byte_rate": 1e7},
            ClientQuotaEntity(user="tools-u", client_id="tools-c"): {"request_percentage": 0.5},
        }
    )
    with ottla.Producer(place.bootstrap) as producer:  # an idempotent one: the next block of producer ids is taken
        producer.send("tools-a", b"x")
    found = next(place.directory.parent.glob("**/__cluster_metadata-0"))
    shutil.copytree(found, copy)


RACE = "Kafka's tool does not wait until it has read the whole file: now and then it shows less"

COMMANDS = [
    "ls",
    "ls /",
    "ls image local nowhere",
    "ls image/features/metadataVersion image/topics",
    "ls image/topics/byName",
    "ls '' image",
    "ls image/*/byName",
    "ls 'image/{acls,scram}' 'image/???fig*'",
    "find image/features",
    "find image/topics",
    "find image/scram /image/acls/.. nowhere",
    "find",
    "cat image/provenance",
    "cat image/features/*",
    "cat image/cluster/brokers/*",
    "cat image/cluster/controllers/*",
    "cat image/topics/byName/tools-a/*",
    "cat image nowhere",
    "cat image/producerIds/nextProducerId",
    "cat",
    "tree image/topics/byName/tools-b.c image/configs image/clientQuotas",
    "tree image/acls image/delegationToken image/scram",
    "tree image/cluster",
    "tree nowhere",
    "tree 'image/clientQuotas/clientId(tools-\\\\(x\\\\))'",
    "cat image/topics/byName/tools-a/7",
    "cat image/../image/./features/metadataVersion",
    "cat '{image,local}/{provenance,version'",
    "nonsense",
    "l",
    "pwd",
    "cat --nonsense",
]

SCENARIOS = [
    Scenario(
        "help",
        *(Step(line, bare=True) for line in ("", "--help", "--nonsense", "--snapshot", "-s {directory}/nowhere ls")),
        quick=True,
    ),
    Scenario("commands", *(f"{LOG} {command}" for command in COMMANDS), setup=metadata, bare=True, differs=RACE),
    Scenario(
        "the shell itself",
        f"{LOG} cat local/version",
        f"{LOG} ls local",
        f"{LOG} cat local/commitId",
        setup=metadata,
        bare=True,
        ignore=["^(?:unknown|[0-9a-f]{16})$"],
    ),
]

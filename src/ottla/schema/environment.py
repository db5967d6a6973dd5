"""Settings from environment variables, by the rules of Kafka's container image.

`KAFKA_LOG_DIRS` is `log.dirs`: without the prefix, in lower case, with `_` for `.`, `__` for `_` and `___` for `-`.
`OTTLA_…` means the same and wins over `KAFKA_…`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

PREFIXES = ("KAFKA_", "OTTLA_")
"""In rising order of precedence."""

_NOT_SETTINGS = """
KAFKA_VERSION KAFKA_HEAP_OPTS KAFKA_LOG4J_OPTS KAFKA_OPTS KAFKA_JMX_OPTS KAFKA_JVM_PERFORMANCE_OPTS KAFKA_GC_LOG_OPTS
KAFKA_LOG4J_ROOT_LOGLEVEL KAFKA_LOG4J_LOGGERS KAFKA_TOOLS_LOG4J_LOGLEVEL KAFKA_JMX_HOSTNAME KAFKA_JMX_PORT
KAFKA_LOG4J_CMD_OPTS KAFKA_JDK_COMPATIBILITY_OPTS KAFKA_HOME KAFKA_DEBUG KAFKA_MODE KAFKA_USER KAFKA_CLASSPATH
KAFKA_MIRROR KAFKA_SCALA_VERSION OTTLA_VERSION OTTLA_HOME OTTLA_BOOTSTRAP_SERVERS OTTLA_PROFILE OTTLA_DEBUG
"""
"""They speak to Kafka's start scripts and the JVM (the image leaves them out of its properties), or our commands."""

NOT_SETTINGS = frozenset(_NOT_SETTINGS.split())

_OTHER_PURPOSES = ("OTTLA_TEST_", "OTTLA_BENCH_", "OTTLA_REQUIRE_", "OTTLA_REWRITE")
"""Variables for Ottla's own test suite and benchmarks."""


class Variable(NamedTuple):
    """A setting that an environment variable gives."""

    name: str
    value: str
    variable: str


def setting_name(variable: str) -> str:
    """The setting that a `KAFKA_…` or `OTTLA_…` variable names."""
    name = variable.split("_", 1)[1].lower()
    return name.replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")


def settings_from_environment(environment: Mapping[str, str]) -> list[Variable]:
    """The settings of an environment in rising order of precedence.

    Left out are the variables that speak to Kafka's start scripts, and those that Kubernetes sets for a service called
    `kafka` (`KAFKA_PORT`, `KAFKA_SERVICE_HOST`, `KAFKA_PORT_9092_TCP_ADDR`, …). `CLUSTER_ID` is the image's way to say
    `cluster.id`.
    """
    found = []
    if environment.get("CLUSTER_ID"):
        found.append(Variable("cluster.id", environment["CLUSTER_ID"], "CLUSTER_ID"))
    for prefix in PREFIXES:
        for variable in sorted(name for name in environment if name.startswith(prefix)):
            if variable in NOT_SETTINGS or variable.startswith(_OTHER_PURPOSES) or _is_service_link(variable):
                continue
            found.append(Variable(setting_name(variable), environment[variable], variable))
    return found


def _is_service_link(variable: str) -> bool:
    rest = variable.split("_", 1)[1]
    if rest == "PORT" or rest.startswith(("SERVICE_HOST", "SERVICE_PORT")):
        return True
    return rest.startswith("PORT_") and rest[5:6].isdecimal()

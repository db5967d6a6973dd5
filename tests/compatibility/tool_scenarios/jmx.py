"""kafka-jmx. Kafka's tool speaks JMX, ours reads the metrics endpoint: what they have in common is the help."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Scenario

TOOL = "kafka-jmx"
CLASS = "org.apache.kafka.tools.JmxTool"

_REASON = "a broker has no JMX here; the numbers come from its metrics endpoint, and are told in the same form"

SCENARIOS = [Scenario("help", "--help", "--version", "--nonsense", bare=True, quick=True)]

_OPTIONS = (
    *("--attributes", "--date-format", "--jmx-auth-prop", "--jmx-ssl-enable", "--jmx-url", "--object-name"),
    *("--one-time", "--report-format", "--reporting-interval", "--wait"),
)
NOT_COMPARED = dict.fromkeys(_OPTIONS, _REASON)

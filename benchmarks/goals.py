"""What Ottla wants to show beside Apache Kafka: the ratio Ottla / Kafka that a metric of a case must reach."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """The metrics `metric` of cases in `section` whose name `case` matches (regular expressions, whole names).

    `at_most` or `at_least` is a ratio Ottla / Kafka; with `absolute` it is a figure of Ottla's own.
    """

    section: str
    case: str
    metric: str
    at_most: float | None = None
    at_least: float | None = None
    absolute: bool = False

    def text(self) -> str:
        sign, bound = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{sign} {bound:g}" + ("" if self.absolute else "x")

    def is_met(self, value: float) -> bool:
        return value <= self.at_most if self.at_most is not None else value >= (self.at_least or 0.0)


ANY = ".*"
GOALS = (
    Goal("startup", "start", "fresh_to_produce_s", at_most=0.15),
    Goal("startup", "start", "fresh_idle_rss_mb", at_most=0.15),
    Goal("startup", "import and ready", "import_ms", at_most=30, absolute=True),
    Goal("startup", "import and ready", "(fresh|restart)_ready_s", at_most=0.4, absolute=True),
    Goal("produce-raw", ANY, "mb_s", at_least=1.5),
    Goal("produce-raw", ANY, "broker_cpu_s_per_gb", at_most=0.6),
    Goal("consume-raw", ANY, "mb_s", at_least=1.0),
    Goal("consume-raw", ANY, "broker_cpu_s_per_gb", at_most=1.0),
    Goal("small", ".* raw.*", "broker_cpu_us_per_request", at_most=0.7),
    Goal("small", ".* raw.*", "p99_ms", at_most=0.7),
    Goal("small", ".* raw.*", "p50_ms", at_most=1.0),
    Goal("e2e", ".* linger=0", "p(50|99)_ms", at_most=1.0),
    Goal("compaction", ANY, "mb_s", at_least=1.0),
    Goal("group", "join .*", "all_members_s", at_most=1.0),
    Goal("group", "10000 groups.*", "rss_mb", at_most=0.5),
    Goal("share", ANY, "jobs_s", at_least=1.0),
    Goal("txn", ANY, "txn_s", at_least=1.0),
    Goal("partitions", ANY, "create_all_leaders_s", at_most=0.3),
    Goal("(produce|consume)(-java|-rdkafka)?", ANY, "mb_s", at_least=1.0),
)


def goal_for(section: str, case: str, metric: str) -> Goal | None:
    for goal in GOALS:
        pairs = (goal.section, section), (goal.case, case), (goal.metric, metric)
        if all(re.fullmatch(pattern, name) for pattern, name in pairs):
            return goal
    return None

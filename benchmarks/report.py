"""The table: every case and metric with both brokers' medians, their ratio, and whether the goal is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.goals import goal_for
from benchmarks.measure import Measures

# What the short table shows of sections that measure more; metrics with a goal are always in it.
SHORT = {
    "produce": ("mb_s", "broker_cpu_s_per_gb"),
    "consume": ("mb_s", "broker_cpu_s_per_gb"),
    "small": ("requests_s", "p50_ms", "p99_ms", "broker_cpu_us_per_request"),
    "e2e": ("p50_ms", "p99_ms", "broker_cores"),
}


@dataclass
class Result:
    """The measures of one case, a list of repeats for each target, or the error that a target ended with."""

    section: str
    case: str
    repeats: dict[str, list[Measures]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def values(self, target: str, metric: str) -> list[float]:
        return [repeat[metric] for repeat in self.repeats.get(target, ()) if metric in repeat]

    def median(self, target: str, metric: str) -> float | None:
        values = self.values(target, metric)
        return statistics.median(values) if values else None

    def metrics(self) -> list[str]:
        found = dict.fromkeys(name for repeats in self.repeats.values() for one in repeats for name in one)
        return list(found)

    def to_json(self) -> dict[str, Any]:
        return {"section": self.section, "case": self.case, "repeats": self.repeats, "errors": self.errors}


def line(result: Result, target: str) -> str:
    """What is printed while the run goes on: min / median / max of every metric."""
    if target in result.errors:
        return f"[{result.section}] {result.case} | {target} | failed: {result.errors[target]}"
    spreads = {metric: values for metric in result.metrics() if (values := result.values(target, metric))}
    parts = [
        f"{metric} {_number(min(values))}/{_number(statistics.median(values))}/{_number(max(values))}"
        for metric, values in spreads.items()
    ]
    return f"[{result.section}] {result.case} | {target} | " + "; ".join(parts)


def table(results: list[Result], ours: str, theirs: str | None, *, everything: bool = False) -> str:
    """A markdown table, then how many goals are met and which are not."""
    lines = [f"| case | metric | {ours} | {theirs or '-'} | ratio | goal | |", "|---|---|---:|---:|---:|---:|---|"]
    met: list[str] = []
    missed: list[str] = []
    for result in results:
        for metric in _shown(result, everything):
            cells = _row(result, metric, ours, theirs, met, missed)
            lines.append(f"| {result.case} | {metric} | " + " | ".join(cells) + " |")
        for target, error in result.errors.items():
            lines.append(f"| {result.case} | | {target} failed: {error} | | | | |")
            if target == ours and any(goal_for(result.section, result.case, name) for name in _GOAL_METRICS):
                missed.append(f"{result.case}: failed")
    lines += ["", f"{len(met)} of {len(met) + len(missed)} goals met."]
    lines += [f"  not met: {text}" for text in missed]
    return "\n".join(lines)


_GOAL_METRICS = ("mb_s", "p50_ms", "p99_ms", "create_all_leaders_s", "fresh_to_produce_s", "import_ms")


def _row(
    result: Result, metric: str, ours: str, theirs: str | None, met: list[str], missed: list[str]
) -> Iterator[str]:
    mine = result.median(ours, metric)
    other = result.median(theirs, metric) if theirs else None
    ratio = mine / other if mine is not None and other else None
    goal = goal_for(result.section, result.case, metric)
    yield _number(mine)
    yield _number(other)
    yield "" if ratio is None else f"{ratio:.2f}x"
    judged = mine if goal and goal.absolute else ratio
    if goal is None or judged is None:
        yield goal.text() if goal else ""
        yield ""
        return
    is_met = goal.is_met(judged)
    described = f"{result.case}: {metric} {judged:.2f}{'' if goal.absolute else 'x'} (goal {goal.text()})"
    (met if is_met else missed).append(described)
    yield goal.text()
    yield "met" if is_met else "NOT MET"


def _shown(result: Result, everything: bool) -> list[str]:
    metrics = result.metrics()
    short = SHORT.get(result.section.split("-")[0])
    if everything or short is None:
        return metrics
    return [name for name in metrics if name in short or goal_for(result.section, result.case, name)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 1000
        else f"{value:.1f}"
        if size >= 100
        else f"{value:.2f}"
        if size >= 1
        else f"{value:.3f}"
    )

"""`ottla doctor`: what is open in a configuration, and what in it will not work.

A configuration as `ottla start` would read it (`--config`, `--set`, the environment), or with `-b` the brokers of a
cluster as they run. Each finding says what is so, why that is bad, and what to set instead. The exit code is 1 when
there is one that is critical or a warning; notices alone are 0.

`security` and `operation` look at settings, wherever they come from; `files` at what a configuration here names,
`starting` at what would stop a node.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ottla.cli.connection import add_connection_arguments, open_admin
from ottla.cli.errors import FAILURE, CommandError
from ottla.cli.output import Output, add_output_arguments

if TYPE_CHECKING:
    import ottla
    from ottla.cli.doctor.findings import Finding, Subject

_STYLES = ("bold red", "yellow", "cyan")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla doctor`."""
    parser.add_argument("--config", metavar="FILE", help="a properties file with Kafka's settings (server.properties)")
    parser.add_argument("--data", metavar="DIR", help="the data directory (log.dirs)")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="assignments", help="a setting; may be repeated"
    )
    add_connection_arguments(parser)
    add_output_arguments(parser)


def run(options: Namespace) -> int:
    """Look, and tell."""
    from ottla.cli.doctor.findings import Severity

    of_files = options.config is not None or options.data is not None or bool(options.assignments)
    is_remote = any((options.bootstrap_servers, options.profile, options.command_config))
    if of_files and is_remote:
        raise CommandError("say which: a configuration (--config, --set, --data), or a cluster (-b, --profile)")
    if is_remote:
        with open_admin(options) as admin:
            found = examine_cluster(admin)
    else:
        found = {"this configuration": examine_configuration(options)}
    _show(Output(options), found)
    worst = min((finding.severity for findings in found.values() for finding in findings), default=Severity.NOTICE)
    return FAILURE if worst < Severity.NOTICE else 0


def examine_configuration(options: Namespace) -> list[Finding]:
    """What `ottla start` with these options would run with."""
    from ottla.cli.doctor import files, starting
    from ottla.cli.doctor.findings import Finding, GivenSettings, Severity
    from ottla.cli.start import load_config

    config = load_config(Namespace(**{**vars(options), "log_level": None, "log_format": None}), os.environ)
    subject = GivenSettings("configuration", config)
    found = [*_settings(subject), *files.look(subject, options.config), *starting.look(subject)]
    if unused := config.without_effect():
        found.append(
            Finding(
                Severity.NOTICE,
                "no-effect",
                ", ".join(unused),
                "taken without effect",
                "whoever set it expects something of it",
                "take it out",
            )
        )
    return _ordered(found)


def examine_cluster(admin: ottla.Admin) -> dict[str, list[Finding]]:
    """What the brokers of a cluster say of themselves, by broker."""
    from ottla.cli.cluster import describe_all_brokers
    from ottla.cli.doctor.findings import RemoteSettings
    from ottla.client.admin.configs import ConfigResource

    brokers = sorted(broker.id for broker in describe_all_brokers(admin).nodes)
    described = admin.describe_configs([ConfigResource.broker(broker) for broker in brokers])
    found = {}
    for broker in brokers:
        entries: Any = described[ConfigResource.broker(broker)]
        entries = entries.values() if hasattr(entries, "values") else entries
        texts = {entry.name: entry.value for entry in entries}
        # A secret that is set shows as one without a value: that there is one is all that checks want to know.
        given = frozenset(entry.name for entry in entries if not entry.is_default)
        found[f"broker {broker}"] = _ordered(_settings(RemoteSettings(f"broker {broker}", texts, given)))
    return found


def _settings(subject: Subject) -> Iterator[Finding]:
    from ottla.cli.doctor import operation, security

    yield from security.look(subject)
    yield from operation.look(subject)


def _ordered(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.severity)


def _show(output: Output, found: dict[str, list[Finding]]) -> None:
    if output.is_json:
        output.json(
            [
                {"subject": subject, **finding._asdict(), "severity": finding.severity.name.lower()}
                for subject, findings in found.items()
                for finding in findings
            ]
        )
        return
    for subject, findings in found.items():
        if not findings:
            output.line(f"{subject}: nothing to complain about")
            continue
        counts = ", ".join(f"{count} {name}" for name, count in _counts(findings).items())
        output.line(f"{subject}: {counts}")
        for finding in findings:
            severity = output.styled(f"{finding.severity.name.lower():<8}", _STYLES[finding.severity])
            output.line(f"\n{severity}  {finding.where}: {finding.what}  [{finding.name}]")
            output.line(f"          {finding.why}")
            output.line(f"          → {finding.remedy}")


def _counts(findings: list[Finding]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in findings:
        name = finding.severity.name.lower()
        counts[name] = counts.get(name, 0) + 1
    return {name if name == "critical" or count == 1 else f"{name}s": count for name, count in counts.items()}

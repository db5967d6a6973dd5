"""`ottla start --brokers N`: a cluster on one machine, for a laptop or for a host with many cores.

Each broker is a process of its own, an `ottla start` with a generated `server.properties`; this process begins them,
passes their logs on, starts again what dies, and stops them in order. The first three are controllers too (with fewer
than three brokers the first one alone, because two controllers are worse than one: either of them missing would stop
the cluster).

`plan` says which nodes there are and prepares their directories, `supervisor` runs them. The second start finds in the
data directory what the first one decided, and a larger N adds brokers to it.
"""

from __future__ import annotations

import fcntl
import os
from argparse import Namespace
from dataclasses import replace

from ottla.cli.errors import CommandError
from ottla.cli.local_cluster.plan import OWN_SETTINGS, Plan, check_free, make_plan, prepare
from ottla.cli.running import DEFAULT_DATA, LOCK


def run(options: Namespace) -> int:
    """Run the cluster until it is told to stop; returns the exit code."""
    from ottla.cli.local_cluster.supervisor import supervise

    if options.secure is None:
        root = options.data or DEFAULT_DATA
    else:
        root = options.data or os.path.join(options.secure, "data")
    _refuse_own_settings(options)
    if options.detach:
        from ottla.cli.detach import start_detached

        return start_detached(options, root)
    if options.log_file:
        raise CommandError("--log-file is for --detach; the log is on standard error otherwise")
    try:
        if options.secure is not None:
            os.makedirs(options.secure, mode=0o700, exist_ok=True)
        os.makedirs(root, exist_ok=True)
        lock = open(os.path.join(root, LOCK), "ab")  # noqa: SIM115 (held as long as the cluster runs)
    except OSError as error:
        raise CommandError(
            f"cannot write to {root}: {(error.strerror or str(error)).lower()}; choose another directory with --data"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CommandError(
                f"the data directory {root} is in use by another cluster or broker: `ottla stop --data {root}` ends "
                "it, or choose another directory with --data"
            ) from None
        plan = make_plan(root, options)
        plan = _secured(plan, options)
        check_free(plan)
        prepare(plan, options)
        return supervise(plan, options)


def _secured(plan: Plan, options: Namespace) -> Plan:
    """The plan with what `--secure` says. A cluster stays as it began: one that was secured must not be opened by a
    forgotten option, and in one that was not nobody could log in."""
    if options.secure is None:
        if plan.secured_by is not None:
            raise CommandError(f"the cluster in {plan.root} is secured: start it with --secure {plan.secured_by}")
        return plan
    if plan.has_begun and plan.secured_by is None:
        raise CommandError(
            f"the cluster in {plan.root} began without --secure, so nobody could log in; choose another directory with "
            "--data"
        )
    from ottla.cli.security.cluster import ClusterSecurity

    security = ClusterSecurity.of(options.secure, plan.bootstrap_servers, plan.host)
    return replace(plan, security=security, secured_by=security.folder.path)


def _refuse_own_settings(options: Namespace) -> None:
    """What differs from broker to broker cannot be set for all of them."""
    from ottla.schema.environment import settings_from_environment

    given = {assignment.partition("=")[0].strip(): "--set" for assignment in options.assignments}
    given.update((variable.name, variable.variable) for variable in settings_from_environment(os.environ))
    for name in OWN_SETTINGS:
        if name in given:
            raise CommandError(
                f"{given[name]}: with --brokers every broker gets a {name} of its own; leave it out "
                "(--port, --host and --data choose addresses and directories)"
            )


__all__ = ["Plan", "run"]

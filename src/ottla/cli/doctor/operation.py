"""What of a configuration will not work, or will lose data, where that can be seen at once."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.cli.doctor.findings import Finding, Severity, Subject, is_open
from ottla.schema.listeners import parse_listeners, parse_protocol_map

_CRITICAL, _WARNING, _NOTICE = Severity.CRITICAL, Severity.WARNING, Severity.NOTICE


def look(subject: Subject) -> Iterator[Finding]:
    """All checks."""
    yield from _addresses(subject)
    yield from _durability(subject)
    yield from _sizes(subject)


def _addresses(subject: Subject) -> Iterator[Finding]:
    controllers = {name.upper() for name in subject.value("controller.listener.names") or ()}
    listening = {listener.name: listener for listener in subject.listeners if listener.name not in controllers}
    endpoints = subject.value("advertised.listeners")
    if not endpoints:
        for listener in listening.values():
            if listener.host in ("", "0.0.0.0", "::"):
                yield Finding(
                    _NOTICE, "advertised-hostname", listener.name, "clients are told the name of this machine",
                    "those that cannot resolve it connect once and never again",
                    f"advertised.listeners={listener.name}://name-that-clients-know:{listener.port}",
                )  # fmt: skip
        return
    protocols = parse_protocol_map(subject.value("listener.security.protocol.map"))
    for told in parse_listeners(endpoints, protocols, setting="advertised.listeners", unique_ports=False):
        own = listening.get(told.name)
        if own is not None and is_open(own.host) and not is_open(told.host):
            yield Finding(
                _WARNING, "advertised-loopback", "advertised.listeners", f"clients of {told.name} are told {told.host}",
                "clients on other machines then look for the broker on themselves",
                f"advertised.listeners={told.name}://name-that-clients-know:{told.port}",
            )  # fmt: skip


def _durability(subject: Subject) -> Iterator[Finding]:
    of_old_name = subject.is_given("log.dir") and not subject.is_given("log.dirs")
    for path in subject.value("log.dir" if of_old_name else "log.dirs") or ():
        if path == "/tmp" or path.startswith(("/tmp/", "/var/tmp/", "/dev/shm/")):
            yield Finding(
                _WARNING, "data-temporary", "log.dirs", f"{path} does not last",
                "the machine clears it, and records are gone", "log.dirs=/var/lib/ottla",
            )  # fmt: skip
    voters = subject.value("controller.quorum.voters") or ()
    factor = subject.value("default.replication.factor") or 1
    least = subject.value("min.insync.replicas") or 1
    if least > factor:
        yield Finding(
            _CRITICAL, "isr-impossible", "min.insync.replicas", f"{least} of {factor} replicas shall be in sync",
            "no producer with acks=all can write to a new topic", f"default.replication.factor={least + 1}",
        )  # fmt: skip
    elif least == factor > 1:
        yield Finding(
            _WARNING, "isr-brittle", "min.insync.replicas", f"all {factor} replicas have to be in sync",
            "one broker that restarts stops all producers", f"min.insync.replicas={least - 1}",
        )  # fmt: skip
    if len(voters) > 1:
        if factor == 1:
            yield Finding(
                _WARNING, "one-replica", "default.replication.factor", "new topics have one replica",
                "a broker that is lost takes its records with it", "default.replication.factor=3",
            )  # fmt: skip
        if len(voters) % 2 == 0:
            yield Finding(
                _NOTICE, "even-quorum", "controller.quorum.voters", f"there are {len(voters)} controllers",
                "an even number outlives no more failures than one less", "three or five controllers",
            )  # fmt: skip
    if subject.value("unclean.leader.election.enable"):
        yield Finding(
            _WARNING, "unclean-election", "unclean.leader.election.enable",
            "a replica that is behind may become leader", "what it does not have is lost, acknowledged or not",
            "unclean.leader.election.enable=false",
        )  # fmt: skip


def _sizes(subject: Subject) -> Iterator[Finding]:
    request, message = subject.value("socket.request.max.bytes"), subject.value("message.max.bytes")
    if request is not None and message is not None and request < message:
        yield Finding(
            _WARNING, "request-too-small", "socket.request.max.bytes",
            f"a request may have {request} bytes, a batch {message}",
            "the largest batches are refused with their connection", f"socket.request.max.bytes={message + 65536}",
        )  # fmt: skip
    if subject.value("unstable.api.versions.enable"):
        yield Finding(
            _NOTICE, "unstable-apis", "unstable.api.versions.enable", "versions are served that may still change",
            "clients of the next version may not understand them", "unstable.api.versions.enable=false",
        )  # fmt: skip

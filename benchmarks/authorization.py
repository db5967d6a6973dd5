"""What a decision of the authorizer costs, decided and kept, with few and with very many ACLs.

python -m benchmarks.authorization
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from ottla.core.acl import AclOperation, AclPermissionType, PatternType, ResourceType
from ottla.server.security.authorizer import Acl
from ottla.server.security.standard_authorizer import StandardAuthorizer

TOPIC, READ = ResourceType.TOPIC, AclOperation.READ


def acls(count: int) -> dict[bytes, Acl]:
    """Those of teams: each with users, topics of its own, a prefix, and a few denials."""
    random = Random(1)
    made: dict[bytes, Acl] = {}
    for number in range(count):
        team, user = number % (count // 10 or 1), random.randrange(10)
        prefixed = number % 3 == 0
        name = f"team-{team}." if prefixed else f"team-{team}.topic-{number}"
        host = "10.0.0.0/8" if number % 7 == 0 else "*"
        operation = random.choice((READ, AclOperation.WRITE, AclOperation.DESCRIBE))
        permission = AclPermissionType.DENY if number % 50 == 1 else AclPermissionType.ALLOW
        pattern = PatternType.PREFIXED if prefixed else PatternType.LITERAL
        made[number.to_bytes(16, "big")] = (
            TOPIC,
            name,
            pattern,
            f"User:team-{team}-{user}",
            host,
            operation,
            permission,
        )
    return made


def median_us(work: Callable[[int], object], times: int) -> float:
    """The median of five rounds, for each call."""
    rounds = []
    for turn in range(5):
        begin = time.perf_counter_ns()
        for number in range(times):
            work(turn * times + number)
        rounds.append((time.perf_counter_ns() - begin) / times / 1000)
    return sorted(rounds)[2]


def main() -> None:
    print(f"{'ACLs':>8} {'load ms':>9} {'decided us':>11} {'kept us':>8} {'any us':>8} {'change us':>10}")
    for count in (10, 10_000, 100_000):
        known = acls(count)
        authorizer = StandardAuthorizer({})
        begin = time.perf_counter_ns()
        authorizer.load(known)
        load_ms = (time.perf_counter_ns() - begin) / 1e6
        teams = count // 10 or 1

        def ask(number: int, authorizer: StandardAuthorizer = authorizer, teams: int = teams) -> bool:
            team = number % teams
            name = f"team-{team}.topic-{number}"
            return authorizer.authorize(f"User:team-{team}-{number % 10}", (), "10.1.2.3", READ, TOPIC, name)

        def ask_again(_: int, authorizer: StandardAuthorizer = authorizer) -> bool:
            return authorizer.authorize("User:team-0-0", (), "10.1.2.3", READ, TOPIC, "team-0.topic-1")

        def ask_any(number: int, authorizer: StandardAuthorizer = authorizer, teams: int = teams) -> bool:
            user = f"User:team-{number % teams}-{number % 10}"
            return authorizer.authorize_by_resource_type(user, (), f"10.1.2.{number}", READ, TOPIC)

        def change(number: int, authorizer: StandardAuthorizer = authorizer) -> None:
            acl = (TOPIC, f"new-{number}", PatternType.LITERAL, "User:new", "*", READ, AclPermissionType.ALLOW)
            authorizer.change({b"new%d" % number: acl}, [b"new%d" % (number - 1)])

        figures = median_us(ask, 8000), median_us(ask_again, 50_000), median_us(ask_any, 5000), median_us(change, 2000)
        print(f"{count:8} {load_ms:9.1f} {figures[0]:11.2f} {figures[1]:8.2f} {figures[2]:8.2f} {figures[3]:10.2f}")


if __name__ == "__main__":
    main()

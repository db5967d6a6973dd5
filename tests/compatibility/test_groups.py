"""Consumer groups with every client: partitions move as members come and go, commits stay, static members return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.compatibility.conftest import CLIENT_NAMES
from tests.compatibility.drivers import Client, Kcat, Member, Message, wait_until
from tests.compatibility.topics import create_topic
from tests.conftest import MakeBroker, require

pytestmark = pytest.mark.xdist_group("clients")

GROUP_CLIENTS = tuple(name for name in CLIENT_NAMES if name != "kcat")
STATIC_CLIENTS = tuple(name for name in GROUP_CLIENTS if name != "kafkajs")
RANGE_CLIENTS = STATIC_CLIENTS
COOPERATIVE_CLIENTS = ("confluent-kafka", "kafka-python", "java", "franz-go")


class Group:
    """Members of one group; all of them leave when the test is over."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self.bootstrap, self.group, self.topic = bootstrap, group, topic
        self.members: list[Member] = []

    def join(self, client: Client, strategy: str | None = None, instance: str | None = None) -> Member:
        strategy = strategy or client.strategies[0]
        member = client.join(self.bootstrap, self.group, self.topic, strategy=strategy, instance=instance)
        self.members.append(member)
        return member

    def leave(self, member: Member) -> None:
        self.members.remove(member)
        member.leave()

    def wait_until_shared(self, partitions: int) -> list[list[int]]:
        """Until every partition has exactly one owner and every member at least one; the assignments."""

        def shared() -> list[list[int]] | None:
            assignments = [member.assignment for member in self.members]
            owned = sorted(partition for assignment in assignments for partition in assignment)
            return assignments if owned == list(range(partitions)) and all(assignments) else None

        result: list[list[int]] = wait_until(shared, f"{partitions} partitions among {len(self.members)} members", 40)
        return result

    def wait_until_received(self, values: Sequence[bytes]) -> None:
        def received() -> list[bytes]:
            return sorted(value for member in self.members for value in member.received)

        wait_until(lambda: len(received()) >= len(values), f"{len(values)} records", 30)
        assert received() == sorted(values)


@pytest.fixture
def group(bootstrap: str, name: str) -> Iterator[Group]:
    group = Group(bootstrap, name, name)
    yield group
    for member in group.members:
        member.leave()


def write(client: Client, bootstrap: str, topic: str, label: str, count: int, partitions: int) -> list[bytes]:
    values = [f"{label}-{number}".encode() for number in range(count)]
    client.produce(bootstrap, topic, [Message(number % partitions, None, value) for number, value in enumerate(values)])
    return values


def rebalance(group: Group, client: Client, strategy: str, writer: Client) -> None:
    create_topic(group.bootstrap, group.topic, 4)
    first = group.join(client, strategy)
    group.wait_until_shared(4)
    second = group.join(client, strategy)
    group.wait_until_shared(4)
    group.wait_until_received(write(writer, group.bootstrap, group.topic, "both", 40, 4))
    group.leave(second)
    group.wait_until_shared(4)
    already = len(first.received)
    later = write(writer, group.bootstrap, group.topic, "one", 20, 4)
    wait_until(lambda: len(first.received) >= already + 20, "the rest of the records")
    assert sorted(first.received[already:]) == sorted(later)
    assert first.describe()["problem"] in (None, "")


@pytest.mark.parametrize("client", GROUP_CLIENTS, indirect=True)
def test_partitions_move_as_members_join_and_leave(client: Client, group: Group, clients: dict[str, Client]) -> None:
    rebalance(group, client, client.strategies[0], clients["confluent-kafka"])


@pytest.mark.parametrize("client", COOPERATIVE_CLIENTS, indirect=True)
def test_partitions_move_cooperatively(client: Client, group: Group, clients: dict[str, Client]) -> None:
    rebalance(group, client, "cooperative-sticky", clients["confluent-kafka"])


def test_clients_of_all_languages_share_one_group(group: Group, clients: dict[str, Client]) -> None:
    present = [clients[name] for name in RANGE_CLIENTS if clients[name].missing() is None]
    create_topic(group.bootstrap, group.topic, 2 * len(present))
    for client in present:
        group.join(client, "range")
    group.wait_until_shared(2 * len(present))
    writer = clients["confluent-kafka"]
    group.wait_until_received(write(writer, group.bootstrap, group.topic, "all", 60, 2 * len(present)))
    group.leave(group.members[0])
    group.wait_until_shared(2 * len(present))


@pytest.mark.parametrize("client", STATIC_CLIENTS, indirect=True)
def test_a_static_member_comes_back_without_a_rebalance(client: Client, group: Group) -> None:
    create_topic(group.bootstrap, group.topic, 4)
    strategy = client.strategies[0]
    staying = group.join(client, strategy, "staying")
    returning = group.join(client, strategy, "returning")
    group.wait_until_shared(4)
    owned, rebalances = returning.assignment, staying.describe()["rebalances"]
    group.leave(returning)
    returning = group.join(client, strategy, "returning")
    group.wait_until_shared(4)
    assert returning.assignment == owned
    assert staying.describe()["rebalances"] == rebalances


def test_any_client_goes_on_where_another_has_committed(bootstrap: str, name: str, clients: dict[str, Client]) -> None:
    create_topic(bootstrap, name, 2)
    for client_name in GROUP_CLIENTS:
        client = clients[client_name]
        require(client.missing())
        group = Group(bootstrap, name, name)
        values = write(clients["confluent-kafka"], bootstrap, name, client_name, 10, 2)
        member = group.join(client)
        group.wait_until_received(values)
        group.leave(member)


def test_kcat_reads_in_a_group_and_goes_on_where_it_was(bootstrap: str, name: str, clients: dict[str, Client]) -> None:
    kcat = clients["kcat"]
    require(kcat.missing())
    assert isinstance(kcat, Kcat)
    create_topic(bootstrap, name)

    def read(count: int) -> list[bytes]:
        settings = ["-X", "auto.offset.reset=earliest", "-X", "fetch.wait.max.ms=100"]
        return kcat.run("-b", bootstrap, "-q", "-c", str(count), *settings, "-G", name, name).splitlines()

    first = write(clients["confluent-kafka"], bootstrap, name, "first", 5, 1)
    assert read(5) == first
    second = write(clients["confluent-kafka"], bootstrap, name, "second", 5, 1)
    assert read(5) == second


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("client", ["confluent-kafka", "kafka-python", "java", "franz-go"], indirect=True)
def test_commits_and_members_survive_a_restart(
    client: Client, how: str, name: str, make_broker: MakeBroker, clients: dict[str, Client]
) -> None:
    broker = make_broker()
    create_topic(broker.bootstrap, name, 2)
    writer = clients["confluent-kafka"]
    left, staying = Group(broker.bootstrap, "left", name), Group(broker.bootstrap, "staying", name)
    before = write(writer, broker.bootstrap, name, "before", 20, 2)
    leaving = left.join(client)
    member = staying.join(client)
    left.wait_until_received(before)
    staying.wait_until_received(before)
    left.leave(leaving)
    getattr(broker, how)()
    broker.start()
    after = write(writer, broker.bootstrap, name, "after", 20, 2)
    staying.wait_until_received(before + after)
    left.join(client)
    left.wait_until_received(after)
    left.leave(left.members[0])
    staying.leave(member)

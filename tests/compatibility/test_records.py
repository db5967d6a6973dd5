"""Every client writes with every codec, and every client reads what all wrote: keys, headers, nulls, timestamps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.wire import Connection
from tests.compatibility.conftest import CLIENT_NAMES
from tests.compatibility.drivers import ALL_CODECS, Client, Message
from tests.compatibility.topics import create_topic

pytestmark = pytest.mark.xdist_group("clients")

TIMESTAMP = 1_700_000_000_000
each_client = pytest.mark.parametrize("client", CLIENT_NAMES, indirect=True)


def messages_of(client: Client, codec: str) -> list[Message]:
    """What `client` writes with `codec`: two partitions, every shape of record that this client can express."""
    label = f"{client.name}/{codec}"
    timestamp = TIMESTAMP if client.sets_timestamps else None
    plain = Message(0, f"{label}/plain".encode(), b"value", (), timestamp)
    headers: tuple[tuple[str, bytes | None], ...] = (("content-type", b"text"), ("trace", b"1"), ("trace", b"2"))
    if client.null_headers:
        headers += (("nothing", None),)
    messages = [
        plain,
        Message(1, f"{label}/headers".encode(), b"with headers", headers, timestamp and timestamp + 1),
        Message(1, None, f"{label}/no key".encode(), (), timestamp and timestamp + 2),
        Message(0, f"{label}/tombstone".encode(), None, (), timestamp and timestamp + 3),
        Message(1, f"{label}/large".encode(), f"{label} repeats itself; ".encode() * 2000, (), timestamp),
    ]
    if client.empty_fields:
        messages.append(Message(0, b"", b"", (("empty", b""), ("label", label.encode())), timestamp))
        messages.append(Message(0, f"{label}/binary".encode(), bytes(range(256)) * 5, (), timestamp))
    return messages


def comparable(messages: Sequence[Message], *, timestamps: bool = True) -> list[Message]:
    """Sorted, without offsets, with headers in the order of their names (some clients keep them in a map)."""
    result = []
    for message in messages:
        headers = tuple(sorted(message.headers, key=lambda header: header[0]))
        timestamp = message.timestamp if timestamps else None
        result.append(Message(message.partition, message.key, message.value, headers, timestamp))
    return sorted(result, key=lambda message: (message.sort_key(), str(message.headers)))


@pytest.mark.parametrize("codec", ALL_CODECS)
@each_client
def test_a_client_reads_back_what_it_wrote(client: Client, codec: str, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 2)
    messages = messages_of(client, codec)
    offsets = client.produce(bootstrap, name, messages, codec=codec)
    found = client.consume(bootstrap, name, len(messages))
    assert comparable(found, timestamps=client.sets_timestamps) == comparable(messages)
    for partition in (0, 1):
        read = [message.offset for message in found if message.partition == partition]
        assert read == list(range(len(read)))
        pairs = zip(messages, offsets, strict=bool(offsets))
        assert sorted(offset for message, offset in pairs if message.partition == partition) == (
            read if offsets else []
        )


@pytest.fixture(scope="module")
def all_written(bootstrap: str, clients: dict[str, Client]) -> tuple[str, list[Message]]:
    """A topic that holds what every client that is there wrote with every codec, and those messages."""
    topic = create_topic(bootstrap, "written-by-all-clients", 2)
    messages: list[Message] = []
    for client in clients.values():
        for codec in client.codecs if client.missing() is None else ():
            some = messages_of(client, codec)
            client.produce(bootstrap, topic, some, codec=codec)
            messages += some
    return topic, messages


@each_client
def test_a_client_reads_what_all_clients_wrote(
    client: Client, bootstrap: str, all_written: tuple[str, list[Message]]
) -> None:
    topic, messages = all_written
    found = client.consume(bootstrap, topic, len(messages), timeout=30)
    assert comparable(found, timestamps=False) == comparable(messages, timestamps=False)


@each_client
def test_an_idempotent_producer_writes_each_record_once(client: Client, bootstrap: str, name: str) -> None:
    create_topic(bootstrap, name, 2)
    messages = [Message(number // 250, b"k", f"{number:05}".encode()) for number in range(500)]
    client.produce(bootstrap, name, messages, idempotent=True)
    found = client.consume(bootstrap, name, len(messages))
    for partition in (0, 1):
        wanted = [message.value for message in messages if message.partition == partition]
        assert [message.value for message in found if message.partition == partition] == wanted


@pytest.mark.parametrize("codec", ALL_CODECS)
def test_a_topic_with_its_own_codec_is_written_with_it_and_read_by_all(
    codec: str, bootstrap: str, name: str, clients: dict[str, Client]
) -> None:
    create_topic(bootstrap, name, 1, {"compression.type": "uncompressed" if codec == "none" else codec})
    writer = clients["confluent-kafka"]
    messages = [Message(0, b"key", f"{number} ".encode() * 100, (("n", b"1"),), TIMESTAMP) for number in range(200)]
    writer.produce(bootstrap, name, messages, codec="gzip" if codec != "gzip" else "lz4")
    with Connection(bootstrap) as connection:
        written = [batch.attributes & 7 for batch in connection.read_all(name, 0)]
        assert set(written) == {ALL_CODECS.index(codec)}
    for reader in clients.values():
        if reader.name in ("confluent-kafka", "java", "franz-go") and reader.missing() is None:
            assert comparable(reader.consume(bootstrap, name, 200)) == comparable(messages)

"""What the simulations found, in its shortest form."""

from __future__ import annotations

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.message import Request
from ottla.protocol.messages.produce import ProduceRequest, ProduceResponse
from tests.simulation.workloads.client import TRANSACTION, Client
from tests.simulation.workloads.cluster import Cluster, run_cluster
from tests.simulation.workloads.producer import Ledger, TransactionalProducer, produce_request
from tests.simulation.workloads.reader import read_all

VERSION = 12


async def ask_all(client: Client, requests: list[Request]) -> list[ErrorCode]:
    """Produce requests in one write; their codes."""
    reader, writer = client.streams or await client.connect()
    writer.write(b"".join(b"".join(encode_request(request, VERSION, 1, client.name)) for request in requests))
    codes = []
    for _ in requests:
        frame = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        response = decode(ProduceResponse, VERSION, frame, 5)
        codes.append(ErrorCode(response.responses[0].partition_responses[0].error_code))
    return codes


def test_a_refused_batch_teaches_no_short_cut_to_another_partition() -> None:
    async def main(cluster: Cluster) -> None:
        client = Client(cluster, "producer")
        await client.create_topic("pair", 2)
        await client.find_coordinator("tx", TRANSACTION)
        producer = TransactionalProducer(client, Ledger(), "tx", timeout_ms=60_000, v2=True)
        await producer.start()

        def batch(partition: int, value: bytes) -> ProduceRequest:
            content = producer.batch("pair", partition, [(None, value)], transactional=True, compression=0)
            return produce_request("tx", "pair", partition, content)

        producer.begin()
        fenced = batch(0, b"refused")
        assert await ask_all(client, [batch(1, b"first..")]) == [ErrorCode.NONE]
        producer.has_begun = True
        await producer.end(is_commit=True)
        producer.begin()
        codes = await ask_all(client, [fenced, batch(1, b"second.")])
        assert codes == [ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.NONE]
        assert await ask_all(client, [batch(0, b"third..")]) == [ErrorCode.NONE]
        producer.has_begun = True
        await producer.end(is_commit=True)
        views = [await read_all(client, "pair", partition) for partition in range(2)]
        values = [[value for _, value in view.records.values()] for view in views]
        assert values == [[b"third.."], [b"first..", b"second."]]

    run_cluster(main, seed=1, cuts=0)

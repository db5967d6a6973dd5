"""Quotas for everybody, which come and go."""

from __future__ import annotations

import asyncio

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasRequestEntryData,
    AlterClientQuotasResponse,
    EntityData,
    OpData,
)
from tests.simulation.workloads.client import RETRIABLE, Client
from tests.simulation.workloads.cluster import Cluster

RATES = ("producer_byte_rate", "consumer_byte_rate")


async def change_quotas(cluster: Cluster) -> None:
    """Set and remove the default quotas of client ids until the troubles are over; then there are none."""
    client = Client(cluster, "quotas")
    dice = client.random
    while not cluster.is_calm:
        await asyncio.sleep(dice.expovariate(1 / 4))
        key = dice.choice(RATES)
        await _alter(
            client, OpData(key=key, value=float(dice.choice((500, 3_000, 50_000))), remove=dice.random() < 0.4)
        )
        cluster.count("quotas changed")
    for key in RATES:
        await _alter(client, OpData(key=key, value=0.0, remove=True))
    client.close()


async def _alter(client: Client, change: OpData) -> None:
    everybody = EntityData(entity_type="client-id", entity_name=None)
    entry = AlterClientQuotasRequestEntryData(entity=[everybody], ops=[change])
    while True:
        response = await client.insist(AlterClientQuotasRequest(entries=[entry]), 1, AlterClientQuotasResponse)
        if response.entries[0].error_code == ErrorCode.NONE:
            return
        assert response.entries[0].error_code in RETRIABLE, response
        await client.back_off()

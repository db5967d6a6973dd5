"""The core of share partitions: every state, against a model with one entry per offset, and by hand."""

from __future__ import annotations

import pytest

from tests.server.broker.share.share_model import World


@pytest.mark.parametrize("seed", range(60))
def test_ranges_agree_with_a_model_of_single_offsets(seed: int) -> None:
    world = World(seed)
    for _ in range(300):
        world.act()
    if world.writing is not None:
        world.settle()
    world.drain()

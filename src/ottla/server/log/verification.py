"""That a producer may begin a transaction in a partition: the transaction coordinator knows of it (KIP-890).

The leader starts a verification, asks the coordinator, and hands the same object in with the batch. Whatever ends the
transaction meanwhile (a marker) forgets the verification, so an answer that comes late lets nothing be written that no
marker would ever end. Once the first batch is in the log, the open transaction itself is proof enough.
"""

from __future__ import annotations


class Verification:
    """One producer's way into a transaction; it is recognised by identity, since epochs and ids come again.

    `lowest_sequence` is the lowest one that was announced: a batch beyond it waits for its predecessor, which failed
    to be verified for now. `transactions_v2`: the epoch is bumped with each transaction.
    """

    __slots__ = ("lowest_sequence", "producer_epoch", "started_ms", "transactions_v2")

    def __init__(self, started_ms: int, lowest_sequence: int, producer_epoch: int, transactions_v2: bool) -> None:
        self.started_ms = started_ms
        self.lowest_sequence = lowest_sequence
        self.producer_epoch = producer_epoch
        self.transactions_v2 = transactions_v2

    def announce(self, base_sequence: int, producer_epoch: int) -> None:
        """Another batch wants to be the first."""
        if producer_epoch > self.producer_epoch:
            self.producer_epoch = producer_epoch
            self.lowest_sequence = base_sequence
        elif producer_epoch == self.producer_epoch and base_sequence < self.lowest_sequence:
            self.lowest_sequence = base_sequence


UNVERIFIED = Verification(0, 0, 0, False)
"""Handed in where `transaction.partition.verification.enable` is off: any batch may begin a transaction."""

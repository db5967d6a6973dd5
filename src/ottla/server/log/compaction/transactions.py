"""Transactions as the cleaner meets them on its way through a log: whose data goes, whose marker may go.

Everything it sees lies below the last stable offset, so every transaction is decided, and the transaction indexes tell
ahead which ones were aborted.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.server.log.transaction_index import AbortedTransaction


class PassedTransactions:
    """Fed with batches in the order of the log.

    A marker can be discarded once no batch of its transaction was met: all of its data is gone by then. The markers of
    aborted transactions that have to stay belong into the transaction index of the segment that is written.
    """

    __slots__ = ("_aborted", "_coming", "_committed", "_observed")

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        # The next one last.
        self._coming = sorted(set(aborted), key=lambda item: item.first_offset, reverse=True)
        self._aborted: dict[int, AbortedTransaction] = {}
        self._observed: set[int] = set()
        self._committed: set[int] = set()

    def is_aborted(self, producer_id: int, last_offset: int) -> bool:
        """Pass a transactional batch of data; whether its transaction was aborted."""
        self._advance(last_offset)
        if producer_id in self._aborted:
            self._observed.add(producer_id)
            return True
        self._committed.add(producer_id)
        return False

    def end_aborted(self, producer_id: int, last_offset: int) -> AbortedTransaction | None:
        """Pass an ABORT marker; the transaction, if it has to be remembered since some of its data was met."""
        self._advance(last_offset)
        transaction = self._aborted.pop(producer_id, None)
        if producer_id in self._observed:
            self._observed.discard(producer_id)
            return transaction
        return None

    def end_committed(self, producer_id: int, last_offset: int) -> bool:
        """Pass a COMMIT marker; whether some of its data was met."""
        self._advance(last_offset)
        if producer_id in self._committed:
            self._committed.discard(producer_id)
            return True
        return False

    def _advance(self, last_offset: int) -> None:
        coming = self._coming
        while coming and coming[-1].first_offset <= last_offset:
            transaction = coming.pop()
            self._aborted.setdefault(transaction.producer_id, transaction)

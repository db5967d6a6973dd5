"""The producer: records in, batches out, exactly once and in order.

    user's thread ── appending (per record) ──> accumulator ── drain ──> sender ── Cluster ──> brokers
                          Delivery <── completion, once per batch <─────────┘

- `appending.py`: serialize (`contents.py`), choose a partition, write into the open batch. `batches.py`: batches,
  queues and deliveries. Both are hot modules.
- `accumulator.py` (core): batches per partition, memory, order, expiry. `partitioners.py`: who goes where.
- `sequences.py`, `idempotence.py`, `transactions.py` (cores): exactly once; `transaction_requests.py` talks for them.
- `sender.py`: drains, closes and sends batches on the event loop, and decides what the answers mean (`verdicts.py`).
- `client.py` is the producer of coroutines, `blocking.py` the one for threads: both append in the caller's own thread
  and share the rest. `bulk.py`: many records in one call.

Invariants: a record is in at most one batch, a batch in one place of one queue or on its way; the broker gets batches
of a partition in the order of their records; memory of a batch is accounted until nobody can read its bytes any more.
"""

"""The transaction coordinator: transactional ids, their states in ``__transaction_state``, and markers (KIP-98, 890).

``state`` is one immutable transaction, ``shard`` the commands over all of a partition (InitProducerId,
AddPartitionsToTxn, EndTxn, timeouts, expiry), ``records`` Kafka's form of them. When an end is decided and committed,
``completion`` has the markers written to every partition, however long that takes, and then the completed state;
``service`` routes. How a marker reaches a partition's leader is the port ``MarkerWriter``.

Invariant: an end that was answered is never taken back; a restart finds it prepared and writes its markers again.
"""

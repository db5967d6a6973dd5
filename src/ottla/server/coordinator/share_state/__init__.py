"""The share coordinator: the progress of share groups, persisted in ``__share_group_state`` (KIP-932).

A key is a group and a partition of a topic; its state is a start offset and batches with delivery states
(``batches``), written as snapshots and updates (``records``) by the ``shard``; the log below the oldest snapshot that
is still needed is deleted by the ``service``. State epochs and leader epochs fence writers that were replaced.
"""

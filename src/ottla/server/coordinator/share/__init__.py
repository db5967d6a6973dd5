"""Share groups (KIP-932): membership and assignment of queues, and the administration of their offsets.

``groups`` is the machine in a shard of ``__consumer_offsets``; ``service`` is the shell that also speaks to the share
coordinator (package ``share_state``), which keeps the progress of each partition. The records themselves are handed
out by `ottla.server.broker.share`.
"""

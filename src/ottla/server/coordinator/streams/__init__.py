"""Streams groups (KIP-1071): tasks of a topology, assigned by the coordinator.

``topology`` and ``topics`` say which tasks there are and which internal topics they need; ``assignor`` places active
and standby tasks on processes; ``member`` moves one member towards its target, ``target`` and ``group`` keep epochs.
``heartbeat`` is the request's way through them, ``admission`` who may join; ``service`` creates internal topics.

Invariant: an active task has one owner at any time, and never a standby on the same process.
"""

"""Classic groups: members join, one of them assigns, all sync (JoinGroup, SyncGroup, Heartbeat, LeaveGroup).

``group`` is one group and keeps it consistent, ``membership`` has the commands, ``rebalance`` decides when the group
moves from one generation to the next.
"""

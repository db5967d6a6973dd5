"""Consumer groups (KIP-848): the coordinator assigns, each member moves there at its own pace by heartbeats.

A heartbeat goes through ``checks``, ``groups`` (who joins, stays, leaves), ``update`` (what it changes: subscription,
epochs, target) and ``reconciliation`` (the member's next step towards its target: give up first, then take what others
gave up). ``records`` and ``replay`` are the durable side, ``regexes`` resolves subscriptions by expression.
``classic_members`` and ``migration`` let a group live through a change of protocol, in both directions.

Invariants: a partition has one owner at any time; a member's epoch never passes the epoch of the target; only
``replay`` changes durable state.
"""

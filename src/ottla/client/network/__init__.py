"""The way to the brokers: connections, metadata, coordinators; one `Cluster` for each client, on one event loop.

    Cluster ─┬─ MetadataState (core)      what is known of brokers and topics, and when to ask again
             ├─ CoordinatorLookup         which broker coordinates a group, transaction or share group
             └─ BrokerLink per node ─┬─ NodeState (core)     backoff, throttling, setup timeouts
                                     └─ BrokerConnection ─── protocol.connection.ClientConnection (sans-I/O)

A request goes to a node id. Its link writes it at once when the connection is ready; otherwise it waits in the link, in
order, until the connection is there, or fails together with the attempt. Nothing here repeats a request: whoever sent
it knows whether that is safe (`retry.retrying` helps). Every request ends in a response or one exception, also when the
connection is cut in the middle of a frame, the broker goes silent, or the client is closed.

Node ids: brokers have theirs; bootstrap servers, known by address only, are negative (-1, -2 …); the coordinator of a
group gets a connection of its own, as in Kafka's client, so that heartbeats never queue behind a fetch that waits for
records: `coordinator_connection_id(id)`, which `Cluster.node` translates back.

Everything runs on the loop that first waits for the cluster. `Cluster.metadata` is immutable: any thread may read it.
"""

"""The cluster's state machine: a command gives metadata records and a response.

Purpose: decide every change of the cluster's metadata: brokers, topics, partitions, settings, producer ids.

Theory of operation: `controller.ControllerCore` holds the newest image (including records that are appended but not yet
committed) and turns commands into `Result(records, response)`; replaying those records is the only way its image
changes, and a refused command gives no records. The modules beside it hold the rules. What becomes of one partition is
decided in one function, `partitions.changed`: its leader, ISR, eligible leader replicas, the end of a reassignment;
who asks it for which partitions is in `brokers` (registration, heartbeats, fencing, controlled shutdown),
`alter_partition`, `elections`, `reassignments` and `directories`. `partition_index` finds a broker's partitions,
`heartbeats` knows who was heard of when; both belong to one leadership, as `ClusterState` does. `placement`, `topics`,
`configs`, `features` and `client_quotas` are what they are called; `alone` is the short way of a node that is a whole
cluster.

`service.Controller` is the shell: active while this node leads the metadata log, it appends a command's records and
releases the response when they are committed; when leadership moves, it forgets all and refuses who waits. `periodic`
has its timers.

Invariants: one writer; commands are decided in order, each on the outcome of the one before; a response never leaves
before its records, and everything it was decided on, are committed. A leader is in the ISR, leader epochs only grow,
and whoever leads has every record that was acknowledged, unless an unclean election was allowed or asked for, or all
replicas that could have been trusted lost their disks.

Not here: reading the image for clients (handlers), carrying changes out on logs (replication), the rules of settings
(schema).
"""

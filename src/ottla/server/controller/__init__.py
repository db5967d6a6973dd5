"""The cluster's state machine: a command gives metadata records and a response.

Purpose: decide every change of the cluster's metadata: brokers, topics, partitions, settings, producer ids.

Theory of operation: `controller.ControllerCore` holds the newest image (including records that are appended but not yet
committed) and turns commands into `Result(records, response)`; replaying those records is the only way its image
changes, and a refused command gives no records. The modules beside it hold the rules: `topics`, `partitions` (who
leads), `placement` (where replicas go), `configs`, `brokers`. `service.Controller` is the shell: it appends a command's
records, publishes the new image once they are committed, and only then releases the response.

Invariants: one writer; commands are decided in order, each on the outcome of the one before; a response never leaves
before its records, and everything it was decided on, are committed; listeners see every image once, in order, before
the response does.

Not here: reading the image for clients (handlers), carrying changes out on logs (replication), the rules of settings
(schema).
"""

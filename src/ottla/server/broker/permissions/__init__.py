"""What clients need permission for, API by API, as in Apache Kafka: loaded by brokers with an authorizer only.

Theory of operation. `table` names, for every API, its *checks*. A check stands between a request and its handler, as a
function around it: it lets the request through, refuses it (ApiError), takes out of it what may not be done and adds
the refusals to the answer, or takes out of the answer what may not be seen. So a handler knows nothing of permissions,
and the table is the whole truth about who may do what.

Where a handler has to know more than its request tells (the topics of a fetch session, the pages of a list, what the
controller will be asked) it asks by itself, and the table says so (`Within`).

Invariants. An API that is not in the table is refused. Existence is hidden: who may not describe a topic by its name
gets the same answer whether there is one or not. A check that is made where a request is forwarded from is made again
where it arrives, with the client's principal. What a node asks of itself is not checked (`RequestContext.is_internal`).
"""

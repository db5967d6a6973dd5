"""The admin client: every call of Kafka's Admin API, one typed method each.

An area of the API is a module here: the types of its arguments and results, and a class with its calls
(`topics.TopicCalls`, `groups.GroupCalls`, ...). `client.Admin` is all of them on one cluster; `blocking.Admin` the same
for callers without an event loop. What users name they find in `ottla.admin`.

How a call runs (`routing`): its items (topics, groups, partitions, brokers) are *located* by a route, grouped by the
node that has to answer, asked for in one request per node, and the items whose answer says "not now" or "not here any
more" are located and asked again, with backoff, until the call's time is up.

The rule about errors, the same for all calls: a call about several items returns `{item: result}` when all went well,
and raises when any item failed. The error then has the failures by item in `error.errors` and what came of the others
in `error.results`. Its class and code are the failure's own, as long as all failures are alike, so that a handler for
one kind of error never swallows another; failures of different kinds raise a plain `KafkaError` without a code.
"""

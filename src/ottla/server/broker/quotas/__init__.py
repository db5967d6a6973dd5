"""Client quotas: how much a user, a client id or an address may use, and who has to wait (KIP-13, 124, 219, 599, 612).

Theory of operation. Quotas are metadata (`ClientQuotaRecord`); `ClientQuotas` holds those of users and client ids.
For each kind of quota `limits.LimitTable` says which entity a request belongs to, most specific first, and what its
limit is; `ledger.Ledger` keeps that entity's rate, or its token bucket. The connection asks `ClientQuotas.begin`
whether a request is metered; after the answer is made, the `Usage` it got is settled, and gives the time to wait. The
answer leaves at once and says that time (throttle_time_ms); then the connection is muted for as long, because not
every client holds back by itself.

Kinds. Bytes of Produce requests, bytes of Fetch responses, and time on the event loop (100 % is all of it) are rates
over a sliding window; partitions created and deleted are a token bucket (`mutations`); connections per address are
decided when they are accepted (`ottla.server.broker.connection_limits`).

Invariants.
- Without a quota `Broker.quotas` is None, and a request costs what it costs without this package.
- A limit holds per entity, not per connection: all clients of a user share the user's.
- Memory is bounded: entities not seen for an hour are forgotten, and the longest unseen when there are too many.
- Numbers are Kafka's: the same traffic is throttled for the same time.
"""

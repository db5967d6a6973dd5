"""Requests to other nodes of the cluster: what Raft, followers, coordinators and brokers speak with each other through.

Theory of operation. `Peers` keeps one connection for each pair of address and *channel*. Requests on a connection are
pipelined and answered in order, so whatever may wait for long (a fetch that waits for records) gets a channel of its
own, lest it hold up the rest. A connection is opened by the first request that needs it, and begins with ApiVersions:
each request then goes out in the highest version that both sides know.

Whatever goes wrong with a connection ends it, and fails all that is in flight on it with a `PeerError`; the next
request opens a new one. A request that is not answered in time is such a case: nothing behind it could be answered
either. Nothing is sent twice here, and nobody waits between attempts: whether and when to try again is the business of
who asks, who knows what a repetition would do.

`PeerSecurity` is how the listener on the other side is secured: TLS under everything, SASL between the greeting and
the first request. Who makes `Peers` knows the settings; here it is only known which channel needs what.
"""

"""Kafka's wire protocol: message declarations, the codec compiler, framing and the sans-I/O connection.

A message is declared once, as a typed class in `messages/` (`message` has the grammar). `layout` answers what is on the
wire at one version; `decoding` and `encoding` turn that into Python source, compiled at first use and kept by `codec`.
`apis` is the table of API numbers and versions, `headers` reads and writes what stands in front of every body,
`framing` puts sizes in front of that, `connection` makes requests of received bytes.

Invariants: bytes from a peer give a message or `ProtocolError`, never another exception; nothing is allocated for a
length or count before the bytes that remain allow it; what is decoded encodes to the same bytes (unless the peer used
padded varints); record sets are never copied. There is no I/O, no clock and no event loop here, and no knowledge of
what a request means.
"""

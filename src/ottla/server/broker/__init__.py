"""The broker: what stands between a client's socket and the logs, the groups and the controller.

Theory of operation. A `Listener` accepts sockets; each becomes a `Connection`, a thin asyncio shell around the sans-I/O
`ottla.protocol.connection.ServerConnection` (bytes in, requests out). `dispatch` looks the request's (key, version) up,
compiles decoder and encoder and imports the handler on first use, and calls `handlers/<api>.py:handle(broker, request,
context)`.

Invariants.
- Requests of one connection are handled one at a time, responses leave in request order; while a handler waits, nothing
  more is read from its socket.
- Everything runs on one event loop.  A handler that can answer at once is a plain function: no task, no future.
- What `api_table` lists is what ApiVersions advertises, and nothing else is served.
- Bad bytes from a peer cost that peer its connection and the log one line; they never reach another connection.
- A handler that fails unexpectedly is logged once, answered with UNKNOWN_SERVER_ERROR, and the broker goes on.
"""

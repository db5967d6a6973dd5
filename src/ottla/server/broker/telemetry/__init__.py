"""Client metrics (KIP-714): clients ask what to push, push it, and a person can read what came.

Theory of operation. A subscription is a CLIENT_METRICS config resource; `subscriptions` reads them from the metadata
image whenever it has changed. `clients.ClientInstances` is the core: it knows every client instance that has asked
lately, tells it what to push and how often, and judges its pushes. `otlp` reads the metrics, which are OpenTelemetry's
protobuf messages, and `telemetry.Telemetry` is the shell: it decompresses and decodes in a worker thread, keeps the
last push of each client, and has `metrics_file` write each push as a line of JSON.

Invariants: what a client can make the broker keep is bounded: so many instances, so many bytes of last pushes, so many
bytes of file. A payload is never unfolded beyond `telemetry.max.bytes`. Nothing here is loaded before a client asks.
"""

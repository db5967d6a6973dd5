"""What a client counts about itself, under the names that Apache Kafka's client gives its metrics.

A *sensor* takes values (a latency, a size, a number of records) and keeps two windows of them and a total; *measures*
of a sensor are the metrics: its rate, average, maximum, total. *Gauges* are asked when somebody looks. `producer.py`,
`consumer.py`, `share.py` and `network.py` say in a table which metrics there are; their methods are named after what
happened. Sensors are fed for each batch, request or poll, never for a record.

`registry.py` holds them, `telemetry.py` pushes them to the cluster when it asks for them (KIP-714), `otlp.py` writes
the format of that, and `tracing.py` is the hook for OpenTelemetry.
"""

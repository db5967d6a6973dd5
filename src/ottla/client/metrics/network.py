"""Metrics of connections: groups `<kind>-metrics` and `<kind>-node-metrics`."""

from __future__ import annotations

from ottla.client.metrics.registry import Metrics, Sensor, parse_specs

_CLIENT = parse_specs("""
connection-creation-rate connections-made rate Connections made a second.
connection-creation-total connections-made total Connections made.
connection-close-rate connections-closed rate Connections closed a second.
connection-close-total connections-closed total Connections closed.
successful-authentication-rate authentications rate Successful authentications a second.
successful-authentication-total authentications total Successful authentications.
failed-authentication-rate authentications-failed rate Failed authentications a second.
failed-authentication-total authentications-failed total Failed authentications.
successful-reauthentication-rate reauthentications rate Successful re-authentications a second.
successful-reauthentication-total reauthentications total Successful re-authentications.
failed-reauthentication-rate reauthentications-failed rate Failed re-authentications a second.
failed-reauthentication-total reauthentications-failed total Failed re-authentications.
reauthentication-latency-avg reauthentication-latency avg Milliseconds a re-authentication took, on average.
reauthentication-latency-max reauthentication-latency max Milliseconds the longest re-authentication took.
network-io-rate io rate Reads and writes of all connections a second.
network-io-total io total Reads and writes of all connections.
outgoing-byte-rate sent-bytes rate Bytes sent a second.
outgoing-byte-total sent-bytes total Bytes sent.
request-rate requests rate Requests sent a second.
request-total requests total Requests sent.
request-size-avg sent-bytes avg Size of requests in bytes, on average.
request-size-max sent-bytes max Size of the largest request in bytes.
incoming-byte-rate received-bytes rate Bytes received a second.
incoming-byte-total received-bytes total Bytes received.
response-rate responses rate Responses received a second.
response-total responses total Responses received.
""")
_NODE = parse_specs("""
outgoing-byte-rate sent-bytes rate Bytes sent to the node a second.
outgoing-byte-total sent-bytes total Bytes sent to the node.
request-rate requests rate Requests sent to the node a second.
request-total requests total Requests sent to the node.
request-size-avg sent-bytes avg Size of requests to the node in bytes, on average.
request-size-max sent-bytes max Size of the largest request to the node in bytes.
incoming-byte-rate received-bytes rate Bytes received from the node a second.
incoming-byte-total received-bytes total Bytes received from the node.
response-rate responses rate Responses received from the node a second.
response-total responses total Responses received from the node.
request-latency-avg latency avg Milliseconds from a request to its response, on average.
request-latency-max latency max Milliseconds from a request to its response, at most.
""")


class NetworkMetrics:
    """What happens on connections; `kind` is producer, consumer or admin-client."""

    def __init__(self, metrics: Metrics, kind: str) -> None:
        self._metrics = metrics
        self._kind = kind
        self._sensors = metrics.sensors(f"{kind}-metrics", _CLIENT)
        self._nodes: dict[int, dict[str, Sensor]] = {}
        self._connections = 0
        metrics.gauge(f"{kind}-metrics", "connection-count", "Open connections.", lambda: self._connections)

    def connection_created(self) -> None:
        self._connections += 1
        self._sensors["connections-made"].record(1, self._metrics.now_ms())

    def connection_closed(self) -> None:
        self._connections -= 1
        self._sensors["connections-closed"].record(1, self._metrics.now_ms())

    def authenticated(self, *, again_ms: int | None = None) -> None:
        """`again_ms` is how long a re-authentication took; None for the first authentication."""
        now_ms = self._metrics.now_ms()
        if again_ms is None:
            self._sensors["authentications"].record(1, now_ms)
        else:
            self._sensors["reauthentications"].record(1, now_ms)
            self._sensors["reauthentication-latency"].record(again_ms, now_ms)

    def authentication_failed(self, *, again: bool = False) -> None:
        name = "reauthentications-failed" if again else "authentications-failed"
        self._sensors[name].record(1, self._metrics.now_ms())

    def request_sent(self, node_id: int, size_bytes: int) -> None:
        now_ms = self._metrics.now_ms()
        for sensors in (self._sensors, self._node(node_id)):
            sensors["requests"].record(1, now_ms)
            sensors["sent-bytes"].record(size_bytes, now_ms)
        self._sensors["io"].record(1, now_ms)

    def response_received(self, node_id: int, size_bytes: int, latency_ms: float) -> None:
        now_ms = self._metrics.now_ms()
        node = self._node(node_id)
        for sensors in (self._sensors, node):
            sensors["responses"].record(1, now_ms)
            sensors["received-bytes"].record(size_bytes, now_ms)
        node["latency"].record(latency_ms, now_ms)
        self._sensors["io"].record(1, now_ms)

    def _node(self, node_id: int) -> dict[str, Sensor]:
        sensors = self._nodes.get(node_id)
        if sensors is None:
            tags = {"node-id": f"node-{node_id}"}
            sensors = self._nodes[node_id] = self._metrics.sensors(f"{self._kind}-node-metrics", _NODE, tags)
        return sensors

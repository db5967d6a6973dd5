"""BrokerHeartbeat, API key 63."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, array, boolean, int16, int32, int64


class BrokerHeartbeatRequest(Request, api_key=63, versions="0-2", flexible="0+", listeners=("controller",)):
    """A broker tells the controller how far it has come, and whether it wants to be fenced or to shut down
    (KIP-631).
    """

    broker_id: int = int32("0+", entity="brokerId")
    broker_epoch: int = int64("0+", default=-1)
    current_metadata_offset: int = int64("0+")
    want_fence: bool = boolean("0+")
    want_shut_down: bool = boolean("0+")
    offline_log_dirs: list[bytes] = array("uuid", "1+", tag=0, tagged="1+")
    cordoned_log_dirs: list[bytes] | None = array("uuid", "2+", nullable="2+", default=None, tag=1, tagged="2+")


class BrokerHeartbeatResponse(Response, api_key=63, versions="0-2", flexible="0+"):
    """Whether the broker has caught up, is fenced, and may shut down."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    is_caught_up: bool = boolean("0+", default=False)
    is_fenced: bool = boolean("0+", default=True)
    should_shut_down: bool = boolean("0+")

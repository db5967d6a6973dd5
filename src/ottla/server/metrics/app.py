"""The ASGI application behind `endpoint`: metrics, health, lag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ottla.server.metrics.beans import BURROW, CONFLUENT, EXPORTER, STRIMZI
from ottla.server.metrics.exposition import CONTENT_TYPE, pieces

if TYPE_CHECKING:
    from starlette.requests import Request

    from ottla.runtime.http import App
    from ottla.server.metrics.endpoint import Health
    from ottla.server.metrics.registry import Metrics

_DIALECTS = (CONFLUENT, STRIMZI, EXPORTER, BURROW)
_INDEX = """\
/metrics        Prometheus
/health/live    whether the process is alive
/health/ready   whether clients are served
/lag            consumer groups, /lag/GROUP one of them
"""


def make_app(health: Health) -> App:
    """The application of one node."""

    async def index(request: Request) -> Response:
        return PlainTextResponse(_INDEX)

    async def metrics(request: Request) -> Response:
        found = health.metrics()
        if found is None:
            return _not_ready(health)
        asked = request.query_params.get("names")
        dialects = None if asked is None else [name for name in asked.split(",") if name]
        if unknown := [name for name in dialects or () if name not in _DIALECTS]:
            text = f"there are no names of '{unknown[0]}'; there are {', '.join(_DIALECTS)}\n"
            return PlainTextResponse(text, status_code=400)
        return StreamingResponse(_text(found, dialects), headers={"content-type": CONTENT_TYPE})

    async def live(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(request: Request) -> Response:
        return _not_ready(health) if health.not_ready() is not None else JSONResponse({"status": "ready"})

    async def groups(request: Request) -> Response:
        found = health.metrics()
        if found is None:
            return _not_ready(health)
        await _look(found)
        reports = [_summary(found, group_id) for group_id in found.lag.group_ids]
        return JSONResponse({"groups": [report for report in reports if report is not None]})

    async def group(request: Request) -> Response:
        found = health.metrics()
        if found is None:
            return _not_ready(health)
        await _look(found)
        group_id = request.path_params["group_id"]
        report = found.lag.report(group_id, found.wall_ms)
        if report is None:
            return JSONResponse({"error": f"group {group_id} has committed nothing here"}, status_code=404)
        return JSONResponse({"status": report})

    return Starlette(
        routes=[
            Route("/", index),
            Route("/metrics", metrics),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/lag", groups),
            Route("/lag/{group_id:path}", group),
        ]
    )


async def _text(metrics: Metrics, dialects: list[str] | None) -> AsyncIterator[bytes]:
    """The exposition; between the pieces the event loop does what else there is to do."""
    for piece in pieces(metrics.families(dialects)):
        if piece:
            yield piece.encode()
        await asyncio.sleep(0)


async def _look(metrics: Metrics) -> None:
    for _ in metrics.lag.look():
        await asyncio.sleep(0)


def _summary(metrics: Metrics, group_id: str) -> dict[str, object] | None:
    report = metrics.lag.report(group_id, metrics.wall_ms)
    if report is None:
        return None
    return {name: report[name] for name in ("group", "status", "complete", "totallag", "partition_count")}


def _not_ready(health: Health) -> Response:
    reason = health.not_ready() or "the node is starting or stopping"
    return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

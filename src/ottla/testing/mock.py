"""A cluster for tests in any language: Kafka on one port, and on another one HTTP that makes things go wrong.

`app(cluster)` is the HTTP side, JSON in and JSON out; `GET /` tells what there is. A refusal is `{"error": "one line"}`
with 400 (it makes no sense), 404 (there is no such thing) or 409 (not in this state). What a request does is a method
of `Mock`, with its arguments as fields of the request's JSON or as query parameters.

Calls of the cluster block for a moment, so they run in threads, and the HTTP loop is not the brokers'.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from ottla.client.errors import ConfigError, IllegalStateError, KafkaError, KafkaTimeoutError, UnknownTopicError
from ottla.testing.faults import Faults
from ottla.version import VERSION

if TYPE_CHECKING:
    from starlette.requests import Request

    from ottla.records.reader import ConsumerRecord
    from ottla.testing.cluster import Cluster
    from ottla.testing.injection import Fault

KINDS = ("fail", "delay", "drop", "stall", "partition", "refuse_connections", "disk_full", "disk_slow", "disk_fail")
"""Faults by name: the methods of `Faults` that make one."""
MOST_RECORDS = 10_000
"""That one answer holds, unless it asks for more."""


class _Reply(NamedTuple):
    """An answer that is not simply 200."""

    status: int
    body: Any


class Mock:
    """What can be asked over HTTP. Each public method is one endpoint, its docstring tells of it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._faults: dict[int, Fault] = {}

    # About itself

    def describe(self) -> dict[str, Any]:
        """What there is: endpoints with their fields, kinds of faults with theirs."""
        return {
            "name": "ottla mock",
            "version": VERSION,
            "bootstrap_servers": self.cluster.bootstrap_servers,
            "endpoints": [
                {
                    "method": one.method,
                    "path": one.path,
                    "about": _summary(one.function),
                    "fields": _fields(one.function, besides=one.path),
                }
                for one in ENDPOINTS
            ],
            "faults": {
                kind: {"about": _summary(getattr(Faults, kind)), "fields": _fields(getattr(Faults, kind))}
                for kind in KINDS
            },
        }

    def health(self) -> _Reply:
        """Whether the brokers run; 503 when one does not."""
        brokers = [
            {"broker": index, "running": thread is not None and thread.is_running}
            for index, thread in enumerate(self.cluster.threads)
        ]
        runs = all(one["running"] for one in brokers)
        body = {
            "status": "ok" if runs else "down",
            "bootstrap_servers": self.cluster.bootstrap_servers,
            "brokers": brokers,
        }
        return _Reply(200 if runs else 503, body)

    # Faults

    def create_fault(self, fault: str, **fields: Any) -> _Reply:
        """Make something go wrong: a kind of fault, and its fields."""
        if fault not in KINDS:
            raise ConfigError(f"no kind of fault: {fault!r}.", hint=f"There are {', '.join(KINDS)}.")
        made = self._made(_call(getattr(self.cluster.faults, fault), fields, about=f"a fault of kind {fault}"))
        return _Reply(201, made.describe())

    def faults(self) -> list[dict[str, Any]]:
        """All faults since the last reset, also those that are over."""
        return [fault.describe() for _, fault in sorted(self._faults.items())]

    def fault(self, fault_id: int, wait_s: float = 0.0, hits: int = 1) -> dict[str, Any]:
        """One fault; with wait_s as soon as it has struck `hits` times, or when that time is over (408)."""
        fault = self._fault(fault_id)
        if wait_s:
            fault.wait_hit(wait_s, hits=hits)
        return fault.describe()

    def clear_fault(self, fault_id: int) -> dict[str, Any]:
        """The end of one fault."""
        fault = self._fault(fault_id)
        fault.clear()
        return fault.describe()

    def clear_faults(self) -> dict[str, Any]:
        """The end of all of them."""
        count = len(self.cluster.faults.active)
        self.cluster.faults.clear()
        return {"cleared": count}

    # Time and brokers

    def clock(self) -> dict[str, Any]:
        """The brokers' wall clock, and by how much it is ahead."""
        return {"now_ms": self.cluster.clock.now_ms(), "ahead_ms": self.cluster.clock.offset_ms}

    def skip(self, seconds: float) -> dict[str, Any]:
        """Move the brokers' clock forward; answered when what is due in that time has happened."""
        try:
            self.cluster.skip(seconds)
        except ValueError as error:
            raise ConfigError(str(error), hint="") from None
        return self.clock()

    def kill(self, broker: int, power_loss: bool = False) -> dict[str, Any]:
        """End a broker as `kill -9` would; in memory also as a power failure would."""
        self._check(broker)
        self.cluster.kill(broker, power_loss=power_loss)
        return {"broker": broker, "running": False}

    def restart(self, broker: int) -> dict[str, Any]:
        """Start a broker again, at its address and with its data."""
        self._check(broker)
        self.cluster.restart(broker)
        return {"broker": broker, "running": True, "bootstrap_servers": self.cluster.bootstrap_servers}

    def stall(self, broker: int, seconds: float | None = None) -> _Reply:
        """Let a broker accept connections and answer nothing, for so many seconds or until it resumes."""
        return self.create_fault("stall", broker=broker, seconds=seconds)

    def resume(self, broker: int) -> dict[str, Any]:
        """The end of every stall."""
        self._check(broker)
        self.cluster.faults.resume()
        return {"broker": broker, "running": True}

    def reset(self) -> dict[str, Any]:
        """As new: no topics but those of the start, no groups, no faults, real time, all brokers running."""
        self.cluster.reset()
        self._faults.clear()
        return {"bootstrap_servers": self.cluster.bootstrap_servers, "topics": self.cluster.topics()}

    # Topics

    def topics(self) -> list[dict[str, Any]]:
        """All topics with their numbers of partitions."""
        return [{"name": name, "partitions": len(self.cluster.end_offsets(name))} for name in self.cluster.topics()]

    def create_topic(self, name: str, partitions: int = 1, settings: dict[str, Any] | None = None) -> _Reply:
        """Make a topic; settings by Kafka's names."""
        self.cluster.create_topic(
            name, partitions, **{key.replace(".", "_"): one for key, one in (settings or {}).items()}
        )
        return _Reply(201, {"name": name, "partitions": partitions})

    def delete_topic(self, name: str) -> dict[str, Any]:
        """Delete a topic."""
        self.cluster.delete_topic(name)
        return {"deleted": name}

    def records(
        self,
        name: str,
        count: int | None = None,
        timeout_s: float = 5.0,
        partition: int | None = None,
        limit: int = MOST_RECORDS,
    ) -> list[dict[str, Any]]:
        """The records of a topic; with a count as soon as there are so many, or 408 after timeout_s."""
        self._check_topic(name)
        try:
            found: list[ConsumerRecord[Any, bytes]] = self.cluster.records(name, count=count, timeout_s=timeout_s)
        except AssertionError as error:
            raise KafkaTimeoutError(" ".join(str(error).split()), hint="") from None
        return [_record(one) for one in found if partition is None or one.partition == partition][:limit]

    def produce(
        self, name: str, values: list[Any], key: str | None = None, partition: int | None = None
    ) -> list[dict[str, Any]]:
        """Write records: text as it is, null as a tombstone, everything else as JSON."""
        self._check_topic(name)
        places = self.cluster.produce(name, *values, key=key, partition=partition)
        return [{"partition": place[0], "offset": place[1]} for place in places]

    # Within

    def _made(self, fault: Fault) -> Fault:
        self._faults[fault.number] = fault
        return fault

    def _fault(self, number: int) -> Fault:
        fault = self._faults.get(number)
        if fault is None:
            raise HTTPException(404, f"there is no fault {number}")
        return fault

    def _check(self, broker: int) -> None:
        if not 0 <= broker < len(self.cluster.threads):
            raise HTTPException(404, f"there is no broker {broker}")

    def _check_topic(self, name: str) -> None:
        if name not in self.cluster.topics():
            raise UnknownTopicError(f"there is no topic {name!r}.", hint="")


class _Endpoint(NamedTuple):
    method: str
    path: str
    function: Callable[..., Any]


ENDPOINTS = (
    _Endpoint("GET", "/", Mock.describe),
    _Endpoint("GET", "/health", Mock.health),
    _Endpoint("POST", "/faults", Mock.create_fault),
    _Endpoint("GET", "/faults", Mock.faults),
    _Endpoint("DELETE", "/faults", Mock.clear_faults),
    _Endpoint("GET", "/faults/{fault_id}", Mock.fault),
    _Endpoint("DELETE", "/faults/{fault_id}", Mock.clear_fault),
    _Endpoint("GET", "/clock", Mock.clock),
    _Endpoint("POST", "/clock/skip", Mock.skip),
    _Endpoint("POST", "/brokers/{broker}/kill", Mock.kill),
    _Endpoint("POST", "/brokers/{broker}/restart", Mock.restart),
    _Endpoint("POST", "/brokers/{broker}/stall", Mock.stall),
    _Endpoint("POST", "/brokers/{broker}/resume", Mock.resume),
    _Endpoint("GET", "/topics", Mock.topics),
    _Endpoint("POST", "/topics", Mock.create_topic),
    _Endpoint("DELETE", "/topics/{name}", Mock.delete_topic),
    _Endpoint("GET", "/topics/{name}/records", Mock.records),
    _Endpoint("POST", "/topics/{name}/records", Mock.produce),
    _Endpoint("POST", "/reset", Mock.reset),
)


def app(cluster: Cluster) -> Starlette:
    """The HTTP side of a cluster that runs."""
    mock = Mock(cluster)
    routes = [Route(one.path, _handler(mock, one), methods=[one.method]) for one in ENDPOINTS]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error, Exception: _error})


def _handler(mock: Mock, endpoint: _Endpoint) -> Callable[[Request], Awaitable[JSONResponse]]:
    about = f"{endpoint.method} {endpoint.path}"

    async def handle(request: Request) -> JSONResponse:
        try:
            fields = await _given(request, endpoint)
            call = partial(_call, partial(endpoint.function, mock), fields, about=about)
            answer = await run_in_threadpool(call)
        except (KafkaError, ConfigError) as error:
            return JSONResponse({"error": str(error)}, _status(error))
        if isinstance(answer, _Reply):
            return JSONResponse(answer.body, answer.status)
        return JSONResponse(answer)

    return handle


async def _given(request: Request, endpoint: _Endpoint) -> dict[str, Any]:
    """The fields of a request: from its JSON, its query and its path."""
    fields: dict[str, Any] = {}
    if endpoint.method == "POST" and (body := await request.body()).strip():
        try:
            fields = json.loads(body)
        except ValueError as error:
            raise ConfigError(f"the body is no JSON: {error}.", hint="") from None
        if not isinstance(fields, dict):
            raise ConfigError("the body is no JSON object.", hint="")
    known = inspect.signature(endpoint.function).parameters
    for name, text in (*request.query_params.items(), *request.path_params.items()):
        fields[name] = _converted(name, text, str(known[name].annotation)) if name in known else text
    return fields


def _converted(name: str, text: str, kind: str) -> Any:
    try:
        if kind.startswith("int"):
            return int(text)
        return float(text) if kind.startswith("float") else text
    except ValueError:
        raise ConfigError(f"{name} is no number: {text!r}.", hint="") from None


def _call(function: Callable[..., Any], fields: dict[str, Any], *, about: str) -> Any:
    """Call it with these arguments. Raises `ConfigError` for those that are missing, unknown, or of another kind."""
    parameters = inspect.signature(function).parameters
    takes_all = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    named = [name for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    missing = [name for name in named if parameters[name].default is inspect.Parameter.empty and name not in fields]
    if missing:
        raise ConfigError(f"{about} needs {' and '.join(missing)}.", hint="")
    unknown = [] if takes_all else sorted(set(fields) - set(named))
    if unknown:
        raise ConfigError(f"{about} has no {unknown[0]}.", hint=f"It has {', '.join(named) or 'no fields'}.")
    for name in named:
        if name in fields and not _is_of(fields[name], str(parameters[name].annotation)):
            raise ConfigError(f"{name} of {about} cannot be {json.dumps(fields[name])}.", hint="")
    return function(**fields)


_JSON_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "None": (type(None),),
    "Apis": (str, int, list, type(None)),
    "list": (list,),
    "dict": (dict,),
    "Iterable": (list,),
    "Collection": (list,),
}


def _is_of(value: Any, annotation: str) -> bool:
    """Whether a JSON value may stand where Python wants this."""
    kinds = [part.strip().partition("[")[0] for part in annotation.split("|")]
    if isinstance(value, bool):
        return "bool" in kinds
    return any(isinstance(value, _JSON_KINDS.get(kind, (object,))) for kind in kinds)


def _fields(function: Callable[..., Any], besides: str = "") -> dict[str, Any]:
    """Names of the fields, each with its default, or "required"."""
    return {
        name: "required" if one.default is inspect.Parameter.empty else _plain(one.default)
        for name, one in inspect.signature(function).parameters.items()
        if name != "self" and one.kind is not inspect.Parameter.VAR_KEYWORD and f"{{{name}}}" not in besides
    }


def _plain(default: Any) -> Any:
    return sorted(default) if isinstance(default, frozenset) else list(default) if default == () else default


def _summary(function: Callable[..., Any]) -> str:
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def _record(record: ConsumerRecord[Any, Any]) -> dict[str, Any]:
    """A record as JSON: bytes that are no text are under another name, in base64."""
    shown = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        **_bytes("key", record.key),
        **_bytes("value", record.value),
    }
    shown["headers"] = [{"name": name, **_bytes("value", value)} for name, value in record.headers]
    return shown


def _bytes(name: str, data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {name: None}
    try:
        return {name: bytes(data).decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def _status(error: KafkaError) -> int:
    if isinstance(error, UnknownTopicError):
        return 404
    if isinstance(error, KafkaTimeoutError):
        return 408
    return 409 if isinstance(error, IllegalStateError) else 400


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    text = error.detail
    if error.status_code == 405 or (error.status_code == 404 and text == "Not Found"):
        text = f"there is no {request.method} {request.url.path}; GET / tells what there is"
    return JSONResponse({"error": text}, error.status_code)


async def _error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"}, 500)


async def serve(cluster: Cluster, host: str, port: int, ready: Callable[[int], object], stop: asyncio.Event) -> None:
    """Serve HTTP for a cluster that runs until `stop` is set; `ready` is called with the port.

    Raises `HttpListenError`.
    """
    from ottla.runtime.http import serve as serve_http

    server = await serve_http(app(cluster), host, port)
    try:
        ready(server.port)
        await stop.wait()
    finally:
        await server.close()

"""kafka-jmx: a broker's metrics under the names of Kafka's MBeans.

There is no JMX here. The numbers come from the broker's metrics endpoint (`http.listeners`, `/metrics`), and are told
under the names and attributes that JMX would have; what the endpoint does not have (rates over five and fifteen
minutes, means) is not there. `--jmx-url` takes the endpoint, as `http://host:8080`; of a
`service:jmx:rmi:///jndi/rmi://host:port/jmxrmi` host and port are taken. Without it, it is http://127.0.0.1:8080.
"""

from __future__ import annotations

import base64
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ottla.cli.kafka.common import ToolError, ToolParser, java_list, java_message
from ottla.cli.kafka.java_text import SimpleDateFormat, double
from ottla.cli.kafka.jopt import BOOLEAN, INTEGER, OptionError, OptionSet

DEFAULT_URL = "http://127.0.0.1:8080"
_CONNECT_S = 10
_WAIT_S = 10
_RETRY_S = 0.1
_PERCENTILES = {"0.5": "50", "0.50": "50", "0.75": "75", "0.95": "95", "0.98": "98", "0.99": "99", "0.999": "999"}
_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_KEYS = {"clientid": "clientId", "networkprocessor": "networkProcessor", "logdirectory": "logDirectory"}
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')

Attributes = dict[str, dict[str, float]]
"""Object name → attribute → value."""


class _Parser(ToolParser):
    def __init__(self) -> None:
        super().__init__()
        self.object_name = self.accepts(
            "object-name",
            "The name of an MBean, with * and ? for any; may be given several times. All without it.",
            described_as="name",
        )
        self.attributes = self.accepts(
            "attributes", "The attributes to show, several with commas. All without it.", described_as="name"
        )
        self.interval = self.accepts(
            "reporting-interval",
            "Milliseconds between two lines; -1 for one line only.",
            type=INTEGER,
            described_as="ms",
            defaults=(2000,),
        )
        self.one_time = self.accepts(
            "one-time",
            "One line only.",
            takes="optional",
            type=BOOLEAN,
            described_as="one-time",
            defaults=(False,),
        )
        self.date_format = self.accepts(
            "date-format",
            "The format of times, as java.text.SimpleDateFormat has it.",
            described_as="format",
        )
        self.url = self.accepts(
            "jmx-url",
            "The broker's metrics endpoint.",
            described_as="service-url",
            defaults=(DEFAULT_URL,),
        )
        self.report_format = self.accepts(
            "report-format",
            "'original', 'properties', 'csv' or 'tsv'.",
            described_as="report-format",
            defaults=("original",),
        )
        self.auth = self.accepts("jmx-auth-prop", "username=password.", described_as="jmx-auth-prop")
        self.ssl = self.accepts(
            "jmx-ssl-enable",
            "Whether to connect with TLS.",
            type=BOOLEAN,
            described_as="ssl-enable",
            defaults=(False,),
        )
        self.wait = self.accepts("wait", "Wait until all the named MBeans are there.")


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = _Parser()
    try:
        options = parser.parse(arguments)
        parser.help_or_version(arguments, options, "Dump JMX values to standard output.")
        _report(parser, options)
    except OptionError as error:
        print(error, file=sys.stderr)
        return 1
    except ToolError as error:
        print(java_message(error), file=sys.stderr)
        return 1
    return 0


def _report(parser: _Parser, options: OptionSet) -> None:
    queries = [_Query(text) for text in options.values(parser.object_name)]
    wanted = None
    if options.has(parser.attributes):
        wanted = {each for each in options.value(parser.attributes).split(",") if each}
    times = _times(options.value(parser.date_format))
    form = options.value(parser.report_format).lower()
    interval_ms: int = options.value(parser.interval)
    source = _Source(options.value(parser.url), options.value(parser.auth), tls=options.value(parser.ssl))
    found = _find(source, queries, waits=options.has(parser.wait))
    names = [f"{name}:{attribute}" for name, attribute, _ in _values(found, wanted)]
    if not names:
        raise ToolError(f"No matched attributes for the queried objects {java_list(queries or ['null'])}.")
    keys = ["time", *sorted(names)]
    if form not in _FORMS:
        print(",".join(f'"{key}"' for key in keys))
    while True:
        started = time.monotonic()
        values = {f"{name}:{attribute}": _shown(attribute, value) for name, attribute, value in _values(found, wanted)}
        values["time"] = times(time.time_ns() // 1_000_000)
        show = _FORMS.get(form)
        if show is None:
            print(",".join(values[key] for key in keys if key in values), flush=True)
        else:
            print("\n".join(show(key, values.get(key, "null")) for key in keys), flush=True)
        if interval_ms < 0 or options.has(parser.one_time):
            return
        time.sleep(max(0.0, interval_ms / 1000 - (time.monotonic() - started)))
        found = _matching(source.read(), queries)


_FORMS: dict[str, Callable[[str, str], str]] = {
    "properties": lambda key, value: f"{key}={value}",
    "csv": lambda key, value: f'{key},"{value}"',
    "tsv": lambda key, value: f"{key}\t{value}",
}


def _shown(attribute: str, value: float) -> str:
    """Counts and most gauges are whole numbers in JMX too."""
    return str(int(value)) if attribute in ("Count", "Value") and value.is_integer() else double(value)


def _times(pattern: str | None) -> Callable[[int], str]:
    if pattern is None:
        return str
    try:
        return SimpleDateFormat(pattern).format
    except ValueError as error:
        raise ToolError(str(error)) from None


def _values(found: Attributes, wanted: set[str] | None) -> Iterator[tuple[str, str, float]]:
    for name, attributes in found.items():
        for attribute, value in attributes.items():
            if wanted is None or attribute in wanted:
                yield name, attribute, value


class _Query:
    """An object name, perhaps with wild cards: `domain:key=value,…`, and `,*` for more keys."""

    def __init__(self, text: str) -> None:
        self._text = text
        domain, colon, rest = text.partition(":")
        if not colon:
            raise ToolError(f"Domain part must be specified: {text}")
        parts = rest.split(",")
        self._open = "*" in parts
        self._domain = _pattern(domain)
        self._keys = {}
        for part in parts:
            name, equals, value = part.partition("=")
            if part == "*":
                continue
            if not equals:
                raise ToolError(f"Key properties cannot be empty: {text}")
            self._keys[name] = _pattern(value)
        self.is_pattern = "*" in text or "?" in text

    def __str__(self) -> str:
        return self._text

    def matches(self, name: str) -> bool:
        domain, _, rest = name.partition(":")
        keys = dict(part.partition("=")[::2] for part in rest.split(","))
        return (
            self._domain.fullmatch(domain) is not None
            and (self._open or keys.keys() == self._keys.keys())
            and all(key in keys and pattern.fullmatch(keys[key]) for key, pattern in self._keys.items())
        )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."))


def _matching(found: Attributes, queries: list[_Query]) -> Attributes:
    if not queries:
        return found
    return {name: values for name, values in found.items() if any(query.matches(name) for query in queries)}


def _find(source: _Source, queries: list[_Query], *, waits: bool) -> Attributes:
    """The beans that are asked for; with `waits`, all that are named must come."""
    deadline = time.monotonic() + _WAIT_S
    found = _matching(source.connect(), queries)
    while waits and queries and not any(query.is_pattern for query in queries):
        missing = [query for query in queries if not any(query.matches(name) for name in found)]
        if not missing:
            break
        if time.monotonic() >= deadline:
            raise ToolError(
                f"Could not find all requested object names after {_WAIT_S * 1000} ms. "
                f"Missing {','.join(map(str, missing))}"
            )
        print("Could not find all object names, retrying", file=sys.stderr)
        time.sleep(_RETRY_S)
        found = _matching(source.read(), queries)
    return found


class _Source:
    """The metrics endpoint of a broker."""

    def __init__(self, url: str, auth: str | None, *, tls: bool) -> None:
        self._named = url
        self._url = _endpoint(url, tls=tls)
        self._headers = {}
        if auth is not None:
            self._headers["Authorization"] = "Basic " + base64.b64encode(auth.replace("=", ":", 1).encode()).decode()
        self._beans = _bean_names()

    def connect(self) -> Attributes:
        """The first look, tried for a while. Raises `ToolError`."""
        deadline = time.monotonic() + _CONNECT_S
        while True:
            print(f"Trying to connect to JMX url: {self._named}", file=sys.stderr)
            try:
                return self.read()
            except (OSError, ValueError) as error:
                print(f"Could not connect to JMX url: {self._named}. Exception: {error}.", file=sys.stderr)
            if time.monotonic() >= deadline:
                raise ToolError(f"Could not connect to JMX url {self._named} after {_CONNECT_S * 1000} ms.")
            time.sleep(_RETRY_S)

    def read(self) -> Attributes:
        """All attributes of all beans now. Raises `OSError` and `ValueError`."""
        from urllib.request import Request, urlopen

        with urlopen(Request(self._url, headers=self._headers), timeout=_CONNECT_S) as answer:
            return attributes_of(answer.read().decode(), self._beans)


def _endpoint(url: str, *, tls: bool) -> str:
    scheme = "https" if tls else "http"
    if url.startswith("service:jmx:"):
        found = re.search(r"rmi://([^/:]*):(\d+)/jmxrmi", url)
        if found is None:
            raise ToolError(f"Unsupported protocol: {url}")
        return f"{scheme}://{found[1] or '127.0.0.1'}:{found[2]}/metrics?names=confluent"
    if not url.startswith(("http://", "https://")):
        raise ToolError(f"Service URL must start with http:// or service:jmx: {url}")
    base = url.rstrip("/").removesuffix("/metrics")
    return f"{base}/metrics?names=confluent"


class BeanName(NamedTuple):
    """The MBean behind a family of the endpoint, without its labels, and its attribute ("": that of its quantiles)."""

    object_name: str
    attribute: str


def _bean_names() -> Mapping[str, BeanName]:
    """By family, as the endpoint names them in the dialect that has every bean once."""
    from ottla.server.metrics.beans import CONFLUENT, Kind, namings
    from ottla.server.metrics.table import BEANS

    found = {}
    for bean in BEANS:
        attribute = {
            Kind.METER: "Count",
            Kind.PERCENT_METER: "OneMinuteRate",
            Kind.HISTOGRAM: "",
            Kind.ATTRIBUTE: bean.name,
            Kind.STATE: bean.name,
        }.get(bean.kind, "Value")
        name = bean.object_name.partition(" ")[0]
        for naming in namings(bean, (CONFLUENT,)):
            found[naming.name] = BeanName(name, attribute)
    return found


def attributes_of(text: str, beans: Mapping[str, BeanName]) -> Attributes:
    """What the endpoint says, under the names of MBeans."""
    found: Attributes = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample is None:
            continue
        family, labels, value = sample.groups()
        bean = beans.get(family) or beans.get(family.removesuffix("_count"))
        if bean is None:
            continue
        named = {key: re.sub(r"\\(.)", r"\1", each) for key, each in _LABEL.findall(labels or "")}
        attribute = bean.attribute
        if not attribute:
            quantile = named.pop("quantile", None)
            if quantile is not None and quantile not in _PERCENTILES:
                continue
            attribute = "Count" if quantile is None else f"{_PERCENTILES[quantile]}thPercentile"
        ending = "".join(f",{_KEYS.get(key, key)}={each}" for key, each in named.items())
        found.setdefault(bean.object_name + ending, {})[attribute] = float(value)
    return found

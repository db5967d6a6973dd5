"""Fixtures for pytest, there as soon as Ottla is installed.

| fixture | scope | what it is |
| --- | --- | --- |
| `kafka` | function | a running `Cluster`, as new for each test; the broker itself lasts for the session |
| `kafka_topic` | function | the name of a topic made for this test, in `kafka` |
| `kafka_cluster` | function | makes clusters for this test alone: `kafka_cluster(settings=…, data=…)` |
| `kafka_session` | session | a `Cluster` of its own for the whole session, never made as new |

`@pytest.mark.kafka(settings={…}, topics=[…], partitions=…, brokers=…)` on a test, class or module: settings of the
broker behind `kafka`, topics that are there when the test begins, partitions of `kafka_topic`, how many brokers there
are. Tests with the same settings share a broker. `kafka_settings` in the ini file holds settings for all of them, one
`name=value` a line.

Each worker of pytest-xdist has brokers of its own. Until a test asks for a fixture nothing but this module is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from ottla.testing.cluster import Cluster, Topics
    from ottla.testing.pool import Pool
    from ottla.testing.security import Users

_MARKER = "kafka(settings=None, topics=(), partitions=1, brokers=1): the broker of the kafka fixture (Ottla)"
_ILLEGAL = re.compile(r"[^a-zA-Z0-9._-]+")
_LONGEST_TOPIC = 249


class MakeCluster(Protocol):
    """What the fixture `kafka_cluster` is: as the constructor of `Cluster`, and it is started."""

    def __call__(
        self,
        brokers: int = 1,
        *,
        data: Path | str | None = None,
        settings: Mapping[str, object] | None = None,
        topics: Topics = (),
        security: str = "PLAINTEXT",
        users: Users = (),
    ) -> Cluster:
        """A running cluster, stopped when the test is over."""


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare `kafka_settings`; called as soon as this module is loaded."""
    _spare_rewriting(pluginmanager)
    parser.addini("kafka_settings", "settings of the brokers of Ottla's fixtures, name=value", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def _kafka_pool() -> Iterator[Pool]:
    from ottla.testing.pool import Pool

    pool = Pool()
    yield pool
    pool.close()


@pytest.fixture
def kafka(request: pytest.FixtureRequest, _kafka_pool: Pool) -> Cluster:
    """Kafka, with nothing in it: `kafka.bootstrap_servers` for the code under test, and helpers to look at it."""
    marked = _Marked(request)
    return _kafka_pool.fresh({**_ini_settings(request.config), **marked.settings}, marked.topics, marked.brokers)


@pytest.fixture
def kafka_topic(request: pytest.FixtureRequest, kafka: Cluster) -> str:
    """The name of a new topic, which says which test it is of."""
    name = _ILLEGAL.sub("-", request.node.name).strip("-.")[:_LONGEST_TOPIC] or "topic"
    kafka.add_topics({name: _Marked(request).partitions})
    return name


@pytest.fixture
def kafka_cluster(request: pytest.FixtureRequest) -> Iterator[MakeCluster]:
    """Makes clusters that are this test's alone."""
    made: list[Cluster] = []

    def make(
        brokers: int = 1,
        *,
        data: Path | str | None = None,
        settings: Mapping[str, object] | None = None,
        topics: Topics = (),
        security: str = "PLAINTEXT",
        users: Users = (),
    ) -> Cluster:
        from ottla.testing.cluster import Cluster

        merged = {**_ini_settings(request.config), **(settings or {})}
        cluster = Cluster(brokers, data=data, settings=merged, topics=topics, security=security, users=users)
        made.append(cluster)
        return cluster.start()

    yield make
    for cluster in reversed(made):
        cluster.stop()


@pytest.fixture(scope="session")
def kafka_session(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Kafka for the whole session: what is in it stays until the end."""
    from ottla.testing.cluster import Cluster

    with Cluster(settings=_ini_settings(request.config)) as cluster:
        yield cluster


def _spare_rewriting(pluginmanager: pytest.PytestPluginManager) -> None:
    """Have Ottla imported as it is.

    pytest rewrites the assertions of all modules of a distribution that has a plugin. Here these would be a whole
    broker, with nothing in it to explain to a test: several hundred milliseconds where the result cannot be kept.
    """
    marked = getattr(getattr(pluginmanager, "rewrite_hook", None), "_must_rewrite", None)
    if isinstance(marked, set):
        marked.discard("ottla")
        cache = getattr(pluginmanager.rewrite_hook, "_marked_for_rewrite_cache", None)
        if isinstance(cache, dict):
            cache.clear()


class _Marked:
    """What the markers of a test say, the nearest first."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self.settings: dict[str, object] = {}
        self.topics: Topics = ()
        self.partitions = 1
        self.brokers = 1
        for marker in reversed(list(request.node.iter_markers("kafka"))):
            self._add(**_keywords(marker))

    def _add(
        self,
        settings: Mapping[str, object] | None = None,
        topics: Topics | None = None,
        partitions: int | None = None,
        brokers: int | None = None,
    ) -> None:
        self.settings.update(settings or {})
        if topics is not None:
            self.topics = topics
        if partitions is not None:
            self.partitions = partitions
        if brokers is not None:
            self.brokers = brokers


def _keywords(marker: pytest.Mark) -> Mapping[str, Any]:
    unknown = set(marker.kwargs) - {"settings", "topics", "partitions", "brokers"}
    if marker.args or unknown:
        what = f"has no {', '.join(sorted(unknown))}" if unknown else "takes names"
        raise pytest.UsageError(f"@pytest.mark.kafka {what}: settings=…, topics=…, partitions=…, brokers=…")
    return marker.kwargs


def _ini_settings(config: pytest.Config) -> dict[str, object]:
    settings: dict[str, object] = {}
    for line in config.getini("kafka_settings"):
        name, equals, value = line.partition("=")
        if not equals:
            raise pytest.UsageError(f"kafka_settings: {line!r} should be name=value")
        settings[name.strip()] = value.strip()
    return settings

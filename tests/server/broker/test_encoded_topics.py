"""The cache of encoded topics: what may be reused, what may not, and how much is kept. (That its answers are those of
the plain way is checked by every test of Metadata: see `metadata_world`.)"""

from __future__ import annotations

from ottla.protocol.codec import decode
from ottla.protocol.messages.metadata import MetadataResponse, MetadataResponseTopic
from ottla.server.broker import encoded_topics
from ottla.server.broker.encoded_topics import EncodedTopics
from ottla.server.metadata.image import BrokerImage, MetadataImage, TopicImage, TopicsImage


class Cache:
    """A cache, and the names of the topics that it had described."""

    def __init__(self) -> None:
        self.cache = EncodedTopics()
        self.described: list[str] = []

    def _describe(self, topic: TopicImage) -> MetadataResponseTopic:
        self.described.append(topic.name)
        return MetadataResponseTopic(name=topic.name, topic_id=topic.topic_id)

    def ask(
        self,
        image: MetadataImage,
        *names: str,
        version: int = 12,
        listener: str = "A",
        operations: int = 0,
        everything: bool = False,
    ) -> list[str | None]:
        topics = None if everything else [image.topics.by_name[name] for name in names]
        body = self.cache.respond(
            MetadataResponse(cluster_id="c"), image, topics, version, listener, operations, self._describe
        )
        return [topic.name for topic in decode(MetadataResponse, version, body).topics]

    def asked_anew(self) -> list[str]:
        described, self.described = self.described, []
        return described


def image_of(*names: str) -> MetadataImage:
    by_name = {name: TopicImage(name, name.encode().ljust(16, b"."), {}) for name in names}
    brokers = {1: BrokerImage(1, 1, bytes(16), {}, {})}
    return MetadataImage(brokers=brokers, topics=TopicsImage(by_name, {}))


def test_only_what_changed_is_encoded_again() -> None:
    cache, image = Cache(), image_of("a", "b")
    assert cache.ask(image, "a", "b") == ["a", "b"]
    assert cache.asked_anew() == ["a", "b"]
    assert cache.ask(image, "b") == ["b"]
    assert cache.ask(image, everything=True) == ["a", "b"]
    assert cache.asked_anew() == []
    changed = image.topics.by_name["a"]._replace(partitions={})
    image = image._replace(topics=TopicsImage({**image.topics.by_name, "a": changed}, {}), offset=7)
    assert cache.ask(image, everything=True) == ["a", "b"]
    assert cache.asked_anew() == ["a"]
    image = image._replace(brokers=dict(image.brokers))
    assert cache.ask(image, "b") == ["b"]
    assert cache.asked_anew() == ["b"], "another set of brokers is another answer"


def test_versions_listeners_and_operations_have_answers_of_their_own() -> None:
    cache, image = Cache(), image_of("a")
    for options in ({}, {"version": 1}, {"listener": "B"}, {"operations": 5}):
        for _ in range(2):
            cache.ask(image, "a", **options)  # type: ignore[arg-type]
        assert cache.asked_anew() == ["a"]


def test_a_deleted_topic_is_not_in_the_answer_for_all() -> None:
    cache = Cache()
    image = image_of("a", "b")
    cache.ask(image, everything=True)
    fewer = image._replace(topics=TopicsImage({"b": image.topics.by_name["b"]}, {}))
    assert cache.ask(fewer, everything=True) == ["b"]


def test_counts_above_127_take_two_bytes() -> None:
    names = [f"topic-{number}" for number in range(300)]
    assert Cache().ask(image_of(*names), everything=True) == names
    assert Cache().ask(image_of(*names), everything=True, version=1) == names


def test_what_is_kept_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(encoded_topics, "MAX_BYTES", 1000)
    cache = Cache()
    names = [f"topic-{number}" for number in range(20)]
    image = image_of(*names)
    for name in names:
        assert cache.ask(image, name) == [name]
        assert cache.cache._bytes <= 1000
        assert len(cache.cache._entries) <= 4
    assert cache.ask(image, everything=True) == names, "too large to be kept, and right all the same"

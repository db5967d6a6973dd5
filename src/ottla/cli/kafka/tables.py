"""How Kafka's tools for groups lay out what they print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ottla.client.model import TopicPartition


def columns(widths: Sequence[int], cells: Iterable[object]) -> str:
    """Cells side by side, each but those beyond the widths filled up to its width; one space between them."""
    texts = [str(cell) for cell in cells]
    filled = [f"{text:<{width}}" for text, width in zip(texts, widths, strict=False)]
    return " ".join(filled + texts[len(widths) :])


def widest(least: int, texts: Iterable[object]) -> int:
    """The width of the longest text, and at least this."""
    return max([least, *(len(str(text)) for text in texts)])


def assignment_text(partitions: Iterable[TopicPartition]) -> str:
    """`topic:0,1;other:0`."""
    by_topic: dict[str, list[int]] = {}
    for topic, partition in partitions:
        by_topic.setdefault(topic, []).append(partition)
    return ";".join(sorted(f"{topic}:{','.join(map(str, sorted(numbers)))}" for topic, numbers in by_topic.items()))


def quoted_list(names: Iterable[str]) -> str:
    """`'a', 'b'`."""
    return ", ".join(f"'{name}'" for name in names)


def tabbed_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell, each followed by a tab: the other way in which some tools print."""
    lines = [headers, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join("".join(f"{cell:<{width}}\t" for cell, width in zip(line, widths, strict=True)) for line in lines)

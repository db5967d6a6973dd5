"""What `poll` returns: a list of records that knows its partitions and turns into tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.records.reader import ConsumerRecord
from ottla.serde.base import K, V

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


class Records(list[ConsumerRecord[K, V]], Generic[K, V]):
    """Consumed records: those of a partition in the order of their offsets. May be empty."""

    __slots__ = ()

    def partitions(self) -> list[TopicPartition]:
        """The partitions they come from."""
        return list(self.by_partition())

    def by_partition(self) -> dict[TopicPartition, list[ConsumerRecord[K, V]]]:
        """The records of each partition."""
        found: dict[TopicPartition, list[ConsumerRecord[K, V]]] = {}
        topic, partition, group = "", -1, []
        for record in self:
            if record.partition != partition or record.topic != topic:
                topic, partition = record.topic, record.partition
                group = found.setdefault(TopicPartition(topic, partition), [])
            group.append(record)
        return found

    def next_offsets(self) -> dict[TopicPartition, OffsetAndMetadata]:
        """What to commit when all of them are processed."""
        return {
            tp: OffsetAndMetadata(records[-1].offset + 1, "", records[-1].leader_epoch)
            for tp, records in self.by_partition().items()
        }

    def to_arrow(self) -> pyarrow.Table:
        """A `pyarrow.Table` with the columns topic, partition, offset, timestamp, key, value, and headers if there are
        any. Keys and values have the type that Arrow finds for the deserialized objects; `poll_columns` makes no such
        objects and is many times faster.
        """
        try:
            import pyarrow as pa
        except ImportError:
            raise ImportError("to_arrow() needs pyarrow: pip install ottla[arrow]") from None
        timestamps = [record.timestamp_ms if record.timestamp_ms >= 0 else None for record in self]
        columns: dict[str, Any] = {
            "topic": pa.array([record.topic for record in self], pa.string()).dictionary_encode(),
            "partition": pa.array([record.partition for record in self], pa.int32()),
            "offset": pa.array([record.offset for record in self], pa.int64()),
            "timestamp": pa.array(timestamps, pa.timestamp("ms", "UTC")),
            "key": _values(pa, [record.key for record in self]),
            "value": _values(pa, [record.value for record in self]),
        }
        if any(record.headers for record in self):
            headers = [[{"key": key, "value": value} for key, value in record.headers] for record in self]
            columns["headers"] = pa.array(headers, pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])))
        return pa.table(columns)

    def to_polars(self) -> polars.DataFrame:
        """A `polars.DataFrame` with the columns of `to_arrow`."""
        try:
            import polars
        except ImportError:
            raise ImportError("to_polars() needs polars: pip install ottla[polars,arrow]") from None
        frame = polars.from_arrow(self.to_arrow())
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_pandas(self) -> pandas.DataFrame:
        """A `pandas.DataFrame` with the columns of `to_arrow`."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame


def _values(pa: Any, values: list[Any]) -> Any:
    """Raw bytes, and columns without any value, are binary; the rest is what Arrow makes of it."""
    if all(value is None for value in values):
        return pa.array(values, pa.binary())
    return pa.array(values)

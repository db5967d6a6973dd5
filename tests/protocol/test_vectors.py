"""Messages that Apache Kafka's own classes serialized: we read the same values, and write the same bytes."""

import base64
import gzip
import json
from itertools import groupby
from pathlib import Path

import pytest

from ottla.core.ids import uuid_to_text
from ottla.protocol.catalog import all_messages
from ottla.protocol.codec import decode, encode

LINES = gzip.decompress((Path(__file__).parent / "testdata" / "vectors.tsv.gz").read_bytes()).decode().splitlines()
VECTORS = [line.split("\t") for line in LINES]

RENAMED = {
    ("TxnOffsetCommitRequest", "generationId"): "generation_id_or_member_epoch",
    ("StreamsGroupHeartbeatResponse", "acceptableRecoveryLag"): "acceptable_recovery_lag_legacy",
}
"""Fields that 4.4 calls otherwise than the release that wrote the vectors (version 0 only, for the second)."""


def test_there_are_all_vectors():
    assert len(VECTORS) == 1442


@pytest.mark.parametrize(
    ("name", "vectors"), [(name, list(group)) for name, group in groupby(VECTORS, key=lambda vector: vector[0])]
)
def test_bytes_of_apache_kafka_decode_and_encode_again(name, vectors):
    cls = all_messages()[name]
    for _, version_text, body_hex, fields in vectors:
        version = int(version_text)
        body = bytes.fromhex(body_hex)
        for buffer in (body, bytearray(body), memoryview(body)):
            message = decode(cls, version, buffer)
            assert encode(message, version) == body
        check_values(name, message, json.loads(fields))


def check_values(name, message, expected):
    fields = {field.name: field for field in message.FIELDS}
    for key, value in expected.items():
        attribute = RENAMED.get((name, key)) or attribute_of(key, fields)
        found = as_json(fields[attribute], getattr(message, attribute))
        compare(name, found, value)


def attribute_of(key, fields):
    return next(attribute for attribute in fields if attribute.replace("_", "") == key.lower())


def compare(name, found, value):
    if isinstance(value, list):
        assert len(found) == len(value)
        for one, other in zip(found, value, strict=True):
            compare(name, one, other)
    elif isinstance(value, dict):
        check_values(name, found, value)
    else:
        assert found == value


def as_json(field, value):
    if value is None or field.struct is not None:
        return value
    if field.type == "array":
        return [text_of(field.element, item) for item in value]
    return text_of(field.type, value)


def text_of(wire_type, value):
    if wire_type in ("bytes", "records"):
        return base64.b64encode(value).decode()
    return uuid_to_text(value) if wire_type == "uuid" else value

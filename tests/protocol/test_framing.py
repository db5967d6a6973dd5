import pytest

from ottla.protocol.codec import encode, encoder
from ottla.protocol.errors import ProtocolError
from ottla.protocol.framing import check_frame_size, encode_request, encode_response, frame_response
from ottla.protocol.messages.api_versions import ApiVersionsResponse
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


@pytest.mark.parametrize(("version", "header"), [(3, "00000007"), (4, "00000007 00")])
def test_response_frame(version, header):
    message = HeartbeatResponse(error_code=27)
    body = bytes.fromhex(header) + encode(message, version)
    assert encode_response(message, version, 7) == [len(body).to_bytes(4, "big") + body]


def test_answer_to_an_unsupported_api_versions_request_is_what_kafka_sends():
    (frame,) = encode_response(ApiVersionsResponse(error_code=35, api_keys=[]), 0, 7)
    assert frame == bytes.fromhex("0000000a 00000007 0023 00000000")


@pytest.mark.parametrize("version", [4, 11, 12, 18])
def test_large_record_sets_are_sent_as_they_are(version):
    records = bytearray(100_000)
    partitions = [PartitionData(records=records), PartitionData(records=records)]
    message = FetchResponse(responses=[FetchableTopicResponse(partitions=partitions)])
    parts = frame_response(encoder(FetchResponse, version), message, 1, 1 if version >= 12 else 0)
    assert sum(part is records for part in parts) == 2
    assert all(len(part) for part in parts)
    frame = b"".join(parts)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert frame.endswith(encode(message, version))


def test_request_frame():
    frame = b"".join(encode_request(HeartbeatRequest(group_id="g"), 4, 9, "me"))
    assert frame[:4] == (len(frame) - 4).to_bytes(4, "big")
    assert frame[4:17] == bytes.fromhex("000c 0004 00000009 0002 6d65 00")
    assert frame[17:] == encode(HeartbeatRequest(group_id="g"), 4)


def test_frame_size_has_limits():
    check_frame_size(0, 100)
    check_frame_size(100, 100)
    for size in (-1, 101):
        with pytest.raises(ProtocolError, match="100"):
            check_frame_size(size, 100)

import pytest

from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.codec import EncodeError, ProtocolError, encode
from ottla.protocol.headers import (
    encode_request_header,
    parse_request_header,
    request_header_version,
    response_header_version,
)
from ottla.protocol.messages.headers import RequestHeader


@pytest.mark.parametrize("client_id", [None, "", "me", "é" * 100])
def test_header_is_the_declared_message(client_id):
    for api in APIS.values():
        for version in range(api.versions[0], api.versions[1] + 1):
            header = encode_request_header(api.key, version, 77, client_id)
            declared = RequestHeader(
                request_api_key=api.key, request_api_version=version, correlation_id=77, client_id=client_id
            )
            assert header == encode(declared, request_header_version(api.key, version))
            parsed = parse_request_header(b"xx" + header + b"body", 2, 6 + len(header))
            assert parsed == (api.key, version, 77, client_id, 2 + len(header))


def test_response_header_has_tags_from_the_first_flexible_version():
    assert [response_header_version(ApiKey.FETCH, version) for version in (11, 12)] == [0, 1]
    assert [response_header_version(ApiKey.API_VERSIONS, version) for version in (0, 3, 5)] == [0, 0, 0]
    assert response_header_version(ApiKey.OFFSET_DELETE, 0) == 0


def test_future_version_of_api_versions_still_parses():
    frame = bytes.fromhex("0012 007f 00000005 0001 61 00 ffff")
    assert parse_request_header(frame, 0, len(frame)) == (18, 127, 5, "a", 12)


def test_unknown_api_parses_as_the_oldest_header():
    frame = bytes.fromhex("7fff 0001 00000005 ffff")
    assert parse_request_header(frame, 0, len(frame)) == (32767, 1, 5, None, 10)


def test_tagged_fields_are_skipped():
    frame = bytes.fromhex("0001 000c 00000005 ffff 01 05 02 6869 aa")
    assert parse_request_header(frame, 0, len(frame))[4] == len(frame) - 1


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "0001 000c 00000005",
        "0001 000b 00000005 0003 6161",
        "0001 000b 00000005 fffe",
        "0001 000b 00000005 0001 ff",
        "0001 000c 00000005 ffff",
        "0001 000c 00000005 ffff 02 00 00",
        "0001 000c 00000005 ffff 02 01 00 01 00",
    ],
)
def test_bad_header_is_a_protocol_error(frame):
    data = bytes.fromhex(frame)
    with pytest.raises(ProtocolError):
        parse_request_header(data, 0, len(data))


def test_header_that_ends_in_the_next_frame_is_cut_off():
    frame = bytes.fromhex("0001 000c 00000005 ffff 00")
    for end in range(len(frame)):
        with pytest.raises(ProtocolError):
            parse_request_header(frame, 0, end)


def test_values_out_of_range_are_misuse():
    with pytest.raises(EncodeError):
        encode_request_header(1, 1, 2**31, None)

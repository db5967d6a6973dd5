import tracemalloc
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.protocol.codec import ProtocolError, decode
from ottla.protocol.connection import (
    CLIENT_LEAP_BYTES,
    FIRST_BYTES,
    LEAP_BYTES,
    NEED_DATA,
    STREAM_BYTES,
    ClientConnection,
    ServerConnection,
)
from ottla.protocol.framing import encode_response
from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchRequest, FetchResponse, PartitionData
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

RANDOM_BYTES = Random(1).randbytes(1 << 20)


def produce_request(size, start):
    records = RANDOM_BYTES[start : start + size] if start + size <= len(RANDOM_BYTES) else RANDOM_BYTES * 5
    partition = PartitionProduceData(index=start, records=records[:size])
    return ProduceRequest(topic_data=[TopicProduceData(name="topic", partition_data=[partition])])


def frames_of(requests, version=9):
    client = ClientConnection("client")
    return [b"".join(client.send(request, version)) for request in requests]


def body_of(request):
    return bytes(memoryview(request.buffer)[request.body_offset : request.end])


def drain(connection, out):
    while (request := connection.next_request()) is not NEED_DATA:
        out.append((request.api_key, request.correlation_id, request.client_id, body_of(request)))


def feed(connection, data, cuts, out):
    """Receive `data` in pieces that end at `cuts`."""
    for start, end in pairwise([0, *sorted({*cuts, len(data)} - {0})]):
        view = memoryview(data)[start:end]
        while view:
            room = connection.get_buffer()
            assert len(room) > 0
            size = min(len(room), len(view))
            room[:size] = view[:size]
            connection.bytes_received(size)
            view = view[size:]
            drain(connection, out)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.one_of(st.integers(0, 400), st.integers(8_000, 40_000), st.sampled_from([200_000])), max_size=12),
    data=st.data(),
)
def test_any_split_of_the_stream_gives_the_same_requests(sizes, data):
    frames = frames_of(produce_request(size, 7 * position) for position, size in enumerate(sizes))
    stream = b"".join(frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    out = []
    feed(ServerConnection(), stream, cuts, out)
    assert [(key, correlation_id, client) for key, correlation_id, client, _ in out] == [
        (0, position, "client") for position in range(len(sizes))
    ]
    assert all(frame.endswith(body) for frame, (*_, body) in zip(frames, out, strict=True))
    assert [decode(ProduceRequest, 9, body) for *_, body in out] == [
        produce_request(size, 7 * position) for position, size in enumerate(sizes)
    ]


def test_byte_by_byte():
    frames = frames_of([produce_request(size, 0) for size in (0, 3, 500)])
    stream = b"".join(frames)
    out = []
    feed(ServerConnection(), stream, range(len(stream)), out)
    assert len(out) == 3


def test_all_at_once():
    frames = frames_of([produce_request(3000, 0)] * 40)
    connection = ServerConnection()
    connection.receive_data(b"".join(frames))
    out = []
    drain(connection, out)
    assert len(out) == 40
    assert connection.buffered_bytes == 0


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([10, 1000, 15_000, 17_000, 150_000]), min_size=2, max_size=10),
    pieces=st.lists(st.integers(1, 60_000), min_size=1, max_size=10),
    detach=st.booleans(),
)
def test_a_request_stays_as_it_is_while_more_is_received(sizes, pieces, detach):
    """Requests are handed out only when a lot more has come in, and each is looked at again at the last moment."""
    requests = [produce_request(size, 11 * position) for position, size in enumerate(sizes)]
    stream = memoryview(b"".join(frames_of(requests)))
    connection = ServerConnection()
    position = handed_out = 0
    held = None
    kept = []
    while handed_out < len(sizes):
        size = pieces[(position + handed_out) % len(pieces)]
        connection.receive_data(stream[position : position + size])
        position += len(stream[position : position + size])
        if held is not None:
            assert decode(ProduceRequest, 9, body_of(held)) == requests[handed_out - 1]
            if detach:
                connection.detach()
                kept.append(held)
        held = connection.next_request()
        if held is NEED_DATA:
            held = None
        else:
            handed_out += 1
    for number, request in enumerate(kept):
        assert decode(ProduceRequest, 9, body_of(request)) == requests[number]


def test_records_can_be_patched_in_the_request():
    frames = frames_of([produce_request(100, 0), produce_request(100, 0)])
    connection = ServerConnection()
    connection.receive_data(b"".join(frames))
    request = connection.next_request()
    message = decode(ProduceRequest, 9, memoryview(request.buffer)[: request.end], request.body_offset)
    message.topic_data[0].partition_data[0].records[:8] = bytes(8)
    assert RANDOM_BYTES[:20] not in body_of(request)
    assert RANDOM_BYTES[:20] in body_of(connection.next_request())


class TestMemory:
    def test_large_frame_is_received_in_place(self):
        (frame,) = frames_of([produce_request(1_000_000, 0)])
        connection = ServerConnection()
        connection.receive_data(frame[:1000])
        room = connection.get_buffer()
        assert len(room) == len(frame) - 1000
        room[:] = frame[1000:]
        connection.bytes_received(len(room))
        assert connection.next_request().buffer is room.obj

    def test_following_large_frames_use_the_same_memory(self):
        frames = frames_of([produce_request(900_000, 0)] * 3)
        connection = ServerConnection()
        buffers = []
        for frame in frames:
            connection.receive_data(frame)
            buffers.append(connection.next_request().buffer)
            assert connection.next_request() is NEED_DATA
        assert buffers[0] is buffers[1] is buffers[2]

    def test_length_prefix_alone_allocates_little(self):
        tracemalloc.start()
        connection = ServerConnection()
        connection.receive_data((100 << 20).to_bytes(4, "big") + bytes(100))
        assert connection.next_request() is NEED_DATA
        connection.get_buffer()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < LEAP_BYTES + 10 * FIRST_BYTES

    def test_buffer_grows_with_the_bytes_that_arrive(self):
        connection = ServerConnection()
        connection.receive_data((20 << 20).to_bytes(4, "big"))
        received = 4
        while received < 10 << 20:
            room = connection.get_buffer()
            assert len(connection._buffer) <= max(LEAP_BYTES, 2 * received) + FIRST_BYTES
            connection.bytes_received(len(room))
            received += len(room)

    def test_busy_connection_gets_a_larger_buffer_and_a_quiet_one_gives_it_back(self):
        connection = ServerConnection()
        frame = frames_of([produce_request(1000, 0)])[0]
        connection.receive_data(frame * 2000)
        drain(connection, [])
        assert len(connection._buffer) > FIRST_BYTES
        busy = connection.get_buffer()
        assert len(busy) <= STREAM_BYTES + len(frame) * 3000
        for _ in range(70):
            connection.receive_data(frame)
            drain(connection, [])
        assert len(connection.get_buffer()) == FIRST_BYTES

    def test_trim_gives_memory_back_at_once_but_never_under_a_request(self):
        connection = ServerConnection()
        (frame,) = frames_of([produce_request(900_000, 0)])
        connection.receive_data(frame)
        request = connection.next_request()
        connection.trim()
        assert len(connection._buffer) > 900_000
        assert body_of(request) == frame[-len(body_of(request)) :]
        assert connection.next_request() is NEED_DATA
        connection.trim()
        assert len(connection._buffer) == FIRST_BYTES


class TestRefusals:
    @pytest.mark.parametrize("size", [-1, -(2**31), 1001])
    def test_frame_size_out_of_bounds(self, size):
        connection = ServerConnection(max_frame_bytes=1000)
        connection.receive_data(size.to_bytes(4, "big", signed=True))
        assert len(connection.get_buffer()) > 0
        with pytest.raises(ProtocolError, match="1000"):
            connection.next_request()

    def test_largest_frame_is_allowed(self):
        (frame,) = frames_of([produce_request(500, 0)])
        connection = ServerConnection(max_frame_bytes=len(frame) - 4)
        connection.receive_data(frame)
        assert connection.next_request().size == len(frame) - 4

    @pytest.mark.parametrize("frame", [b"", b"\0\0\0\x03", b"\0\x12\0\x03\0\0\0\x01\0\x05abc"])
    def test_frame_without_a_whole_header(self, frame):
        connection = ServerConnection()
        connection.receive_data(len(frame).to_bytes(4, "big") + frame + bytes(100))
        with pytest.raises(ProtocolError, match=r"header|client id"):
            connection.next_request()

    def test_frame_that_is_no_request(self):
        """Tokens of the oldest SASL exchange are bare frames."""
        connection = ServerConnection()
        connection.receive_data(b"\0\0\0\x05token\0\0\0\0")
        buffer, offset, end = connection.next_frame()
        assert bytes(buffer[offset:end]) == b"token"
        _, offset, end = connection.next_frame()
        assert offset == end
        assert connection.next_frame() is NEED_DATA


class TestClient:
    def test_responses_are_matched_to_requests(self):
        client = ClientConnection("me")
        server = ServerConnection()
        server.receive_data(b"".join(client.send(HeartbeatRequest(group_id="g"), 3)))
        server.receive_data(b"".join(client.send(produce_request(5, 0), 9, expect_response=False)))
        server.receive_data(b"".join(client.send(produce_request(5, 0), 13)))
        ids = []
        while (request := server.next_request()) is not NEED_DATA:
            ids.append(request.correlation_id)
        assert client.next_response() is NEED_DATA
        stream = b"".join(encode_response(HeartbeatResponse(error_code=27), 3, ids[0]))
        produced = ProduceResponse(responses=[TopicProduceResponse(topic_id=bytes(16))])
        stream += b"".join(encode_response(produced, 13, ids[2]))
        responses = []
        for byte in stream:
            client.receive_data(bytes((byte,)))
            if (response := client.next_response()) is not NEED_DATA:
                responses.append(response)
        assert [response.body for response in responses] == [HeartbeatResponse(error_code=27), produced]
        assert [(response.api_key, response.correlation_id) for response in responses] == [(12, ids[0]), (0, ids[2])]

    @pytest.mark.parametrize("frame", ["00000004 00000009", "00000002 0000", "00000006 00000000 0000", "ffffffff"])
    def test_other_answers_are_protocol_errors(self, frame):
        client = ClientConnection()
        client.send(HeartbeatRequest(), 3)
        client.receive_data(bytes.fromhex(frame))
        with pytest.raises(ProtocolError):
            client.next_response()

    def test_answer_to_nothing_is_a_protocol_error(self):
        client = ClientConnection()
        client.receive_data(bytes.fromhex("00000004 00000000"))
        with pytest.raises(ProtocolError, match="nobody"):
            client.next_response()


def fetched(client, size, position=0):
    """A fetch response with a record set of this size, answering the next request of `client`."""
    records = memoryview(RANDOM_BYTES * (1 + (size + position) // len(RANDOM_BYTES)))[position : position + size]
    partition = PartitionData(partition_index=position, records=bytes(records))
    body = FetchResponse(responses=[FetchableTopicResponse(topic_id=bytes(16), partitions=[partition])])
    correlation_id = client._next_correlation_id
    client.send(FetchRequest(), 17)
    return body, b"".join(encode_response(body, 17, correlation_id))


def receive(client, data, out):
    view = memoryview(data)
    while view:
        room = client.get_buffer()
        assert len(room) > 0
        size = min(len(room), len(view))
        room[:size] = view[:size]
        client.bytes_received(size)
        view = view[size:]
        while (response := client.next_response()) is not NEED_DATA:
            out.append(response.body)


class TestClientMemory:
    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(
        sizes=st.lists(
            st.one_of(st.integers(0, 300), st.integers(15_000, 40_000), st.sampled_from([300_000])), max_size=8
        ),
        data=st.data(),
    )
    def test_any_split_gives_the_same_responses_and_all_of_them_stay(self, sizes, data):
        client = ClientConnection()
        made = [fetched(client, size, 7 * number) for number, size in enumerate(sizes)]
        stream = b"".join(frame for _, frame in made)
        cuts = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream)), max_size=12))})
        out = []
        for start, end in pairwise(cuts):
            receive(client, stream[start:end], out)
        assert out == [body for body, _ in made]
        assert client.in_flight == 0

    def test_received_all_at_once_without_reading(self):
        client = ClientConnection()
        made = [fetched(client, size) for size in (10, 40_000, 500, 90_000, 3)]
        client.receive_data(b"".join(frame for _, frame in made))
        assert [client.next_response().body for _ in made] == [body for body, _ in made]

    def test_a_large_response_is_received_in_place(self):
        client = ClientConnection()
        body, frame = fetched(client, 4_000_000)
        _, small = fetched(client, 10)
        out = []
        rest = frame[1000:] + small
        receive(client, frame[:1000], out)
        tracemalloc.start()
        receive(client, rest, out)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert out[0] == body
        assert peak < 100_000 + len(frame), "nothing is copied"
        records = out[0].responses[0].partitions[0].records
        assert isinstance(records, memoryview)
        assert records.nbytes == 4_000_000

    def test_a_length_alone_does_not_allocate_without_bound(self):
        client = ClientConnection()
        client.send(FetchRequest(), 17)
        tracemalloc.start()
        client.receive_data((2**31 - 1).to_bytes(4, "big") + bytes(100))
        assert client.next_response() is NEED_DATA
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < CLIENT_LEAP_BYTES + 100_000

    def test_the_limit_may_be_raised_later(self):
        client = ClientConnection(max_frame_bytes=1000)
        _, frame = fetched(client, 5000)
        client.receive_data(frame)
        with pytest.raises(ProtocolError, match="the limit is 1000"):
            client.next_response()
        assert client.unread == frame[:16]
        client.max_frame_bytes = 2**31 - 1
        assert client.next_response() is not NEED_DATA

    def test_an_unsupported_api_versions_is_read_in_version_0(self):
        client = ClientConnection()
        client.send(ApiVersionsRequest(), 4)
        refusal = ApiVersionsResponse(error_code=35, api_keys=[ApiVersion(api_key=18, min_version=0, max_version=2)])
        client.receive_data(b"".join(encode_response(refusal, 0, 0)))
        response = client.next_response()
        assert (response.api_version, response.body) == (0, refusal)

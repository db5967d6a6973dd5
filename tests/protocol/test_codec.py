import pytest

from ottla.core.binary import write_uvarint
from ottla.core.errors import ErrorCode
from ottla.protocol.codec import (
    EncodeError,
    ProtocolError,
    UnsupportedVersionError,
    decode,
    decode_prefix,
    decoder,
    encode,
    encode_into,
    encoder,
)
from ottla.protocol.encoding import LARGE_RECORDS
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.consumer_group_heartbeat import Assignment, ConsumerGroupHeartbeatResponse
from ottla.protocol.messages.describe_groups import DescribeGroupsRequest
from ottla.protocol.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)
from ottla.protocol.messages.group_records import OffsetCommitValue
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.leader_and_isr import LeaderAndIsrRequest
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.metadata_records import PartitionChangeRecord, PartitionRecord
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData


def produce(records):
    partition = PartitionProduceData(index=1, records=records)
    return ProduceRequest(acks=-1, topic_data=[TopicProduceData(name="t", partition_data=[partition])])


class TestVersions:
    @pytest.mark.parametrize("version", [-1, 2, 14, 32767])
    def test_unknown_version_has_neither_encoder_nor_decoder(self, version):
        with pytest.raises(UnsupportedVersionError, match="no version"):
            encode(ProduceRequest(), version)
        with pytest.raises(UnsupportedVersionError, match="no version"):
            decode(ProduceRequest, version, b"")

    def test_removed_message_has_no_version(self):
        with pytest.raises(UnsupportedVersionError):
            encode(LeaderAndIsrRequest(), 0)

    def test_struct_has_no_encoding_of_its_own(self):
        with pytest.raises(TypeError, match="part of a message"):
            encoder(TopicProduceData, 9)

    def test_compiled_functions_are_kept(self):
        assert decoder(ProduceRequest, 9) is decoder(ProduceRequest, 9)
        assert encoder(ProduceRequest, 9) is encoder(ProduceRequest, 9)


class TestFieldsThatAVersionLacks:
    def test_ignorable_field_is_dropped(self):
        request = FetchRequest(rack_id="r1", session_epoch=5)
        assert decode(FetchRequest, 4, encode(request, 4)) == FetchRequest()

    def test_other_field_is_refused_unless_it_has_its_default(self):
        partition = FetchPartition(last_fetched_epoch=3)
        request = FetchRequest(topics=[FetchTopic(topic="t", partitions=[partition])])
        with pytest.raises(UnsupportedVersionError, match=r"FetchPartition\.last_fetched_epoch"):
            encode(request, 11)
        partition.last_fetched_epoch = -1
        encode(request, 11)

    def test_struct_that_is_not_default_is_refused(self):
        with pytest.raises(UnsupportedVersionError, match="replica_state"):
            encode(FetchRequest(replica_state=ReplicaState(replica_id=2)), 14)
        encode(FetchRequest(replica_state=ReplicaState()), 14)

    def test_null_is_refused_where_it_is_not_allowed_yet(self):
        with pytest.raises(UnsupportedVersionError, match="topics cannot be null at version 0"):
            encode(MetadataRequest(topics=None), 0)
        assert decode(MetadataRequest, 1, encode(MetadataRequest(topics=None), 1)).topics is None
        with pytest.raises(UnsupportedVersionError, match="name cannot be null"):
            encode(MetadataRequest(topics=[MetadataRequestTopic(name=None)]), 9)

    def test_reading_gives_the_default(self):
        value = decode(OffsetCommitValue, 1, encode(OffsetCommitValue(offset=7, expire_timestamp=9), 1))
        assert (value.leader_epoch, value.expire_timestamp) == (-1, 9)


class TestTaggedFields:
    def test_defaults_are_left_out(self):
        assert encode(PartitionRecord(), 2).endswith(b"\0")
        bare = encode(PartitionRecord(), 2)
        full = encode(PartitionRecord(eligible_leader_replicas=[1], last_known_elr=[]), 2)
        # Tag 1 with one int32, tag 2 with an empty array: empty is not null, which is the default.
        assert full == bare[:-1] + bytes.fromhex("02 01 05 02 00000001 02 01 01")

    def test_fields_come_in_the_order_of_their_tags(self):
        record = PartitionChangeRecord(leader=3, isr=[3], leader_recovery_state=1)
        body = encode(record, 0)
        assert decode(PartitionChangeRecord, 0, body) == record
        assert body[20:] == bytes.fromhex("03 00 05 02 00000003 01 04 00000003 05 01 01")

    def test_unknown_tags_survive(self):
        body = encode(HeartbeatRequest(group_id="g"), 4)
        newer = body[:-1] + b"\x02\x03\x02hi\x88\x01\x00"
        request = decode(HeartbeatRequest, 4, newer)
        assert request.unknown_tags == ((3, b"hi"), (136, b""))
        assert encode(request, 4) == newer

    def test_unknown_tags_stand_between_known_ones(self):
        record = PartitionChangeRecord(isr=[1], directories=[bytes(16)])
        record.unknown_tags = ((3000, b"x"), (7_000_000, b""))
        body = encode(record, 1)
        assert decode(PartitionChangeRecord, 1, body) == record
        assert encode(decode(PartitionChangeRecord, 1, body), 1) == body

    def test_unknown_tags_are_not_written_at_fixed_versions(self):
        request = HeartbeatRequest(unknown_tags=((3, b"hi"),))
        assert decode(HeartbeatRequest, 3, encode(request, 3)).unknown_tags is None

    def test_the_same_tag_twice_is_misuse(self):
        with pytest.raises(EncodeError, match="twice"):
            encode(PartitionChangeRecord(isr=[1], unknown_tags=((0, b""),)), 0)

    @pytest.mark.parametrize(
        "tags",
        [
            b"\x02\x05\x00\x05\x00",  # twice
            b"\x02\x05\x00\x04\x00",  # descending
            b"\x01\x05\x02x",  # longer than the frame
            b"\x01\x05",  # cut off
            b"\x7f\x05\x00",  # fewer than announced
            b"\xff\xff\xff\xff\x0f",
            b"\x01\x80\x80\x80\x80\x80\x01\x00",  # a varint of six bytes
            b"\x01\x00\x03\x01\x01\x01",  # known tag, larger than its value
            b"\x01\x01\x03\x00\x00\x00\x07",  # known tag, smaller than its value
        ],
    )
    def test_bad_tag_section_is_a_protocol_error(self, tags):
        body = encode(PartitionChangeRecord(), 0)[:-1] + tags
        with pytest.raises(ProtocolError):
            decode(PartitionChangeRecord, 0, body)


class TestNullableStructs:
    def test_presence_byte(self):
        absent = encode(ConsumerGroupHeartbeatResponse(), 0)
        assert absent.endswith(b"\xff\0")
        present = ConsumerGroupHeartbeatResponse(assignment=Assignment())
        body = encode(present, 0)
        assert body.endswith(b"\x01\x01\0\0")
        assert decode(ConsumerGroupHeartbeatResponse, 0, body).assignment == Assignment()

    def test_other_presence_bytes_are_refused(self):
        body = encode(ConsumerGroupHeartbeatResponse(), 0)[:-2]
        for byte in (b"\0", b"\x02", b"\x80"):
            with pytest.raises(ProtocolError, match="presence"):
                decode(ConsumerGroupHeartbeatResponse, 0, body + byte + b"\0")


class TestRecords:
    def test_decode_gives_a_view_into_the_frame(self):
        frame = bytearray(encode(produce(b"batch"), 3))
        records = decode(ProduceRequest, 3, frame).topic_data[0].partition_data[0].records
        assert isinstance(records, memoryview)
        records[0] = ord("B")
        assert b"Batch" in frame

    @pytest.mark.parametrize("version", [4, 12])
    def test_large_record_set_is_a_part_of_its_own(self, version):
        records = memoryview(bytes(LARGE_RECORDS + 1))
        partitions = [PartitionData(partition_index=1, records=records), PartitionData(records=b"small")]
        response = FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=partitions)])
        parts = []
        encode_into(response, version, parts)
        assert [part is records for part in parts] == [False, True, False]
        assert b"".join(parts) == encode(response, version)
        assert decode(FetchResponse, version, b"".join(parts)) == response

    def test_small_record_set_is_copied(self):
        parts = []
        encode_into(produce(bytes(LARGE_RECORDS - 1)), 12, parts)
        assert len(parts) == 1

    def test_null_and_empty_are_different(self):
        for version in (3, 9):
            for records in (None, b""):
                decoded = decode(ProduceRequest, version, encode(produce(records), version))
                assert decoded.topic_data[0].partition_data[0].records == records


class TestBadBytes:
    @pytest.mark.parametrize(
        ("version", "body"),
        [
            (0, ""),
            (0, "0005 6162"),  # string longer than the frame
            (0, "fffe 00000000 0000"),  # negative length that is not null
            (0, "ffff 00000000 0000"),  # null where null is not allowed
            (0, "0001 ff 00000000 0000"),  # not UTF-8
            (0, "0001 61 00000000 0000 00"),  # trailing byte
            (4, "00 00000000 01 00 00"),  # compact null
            (4, "ffffffffff01 00"),  # overlong varint
            (4, "8180808010 61"),  # 33 bits
            (4, "0261 00000000 01 00"),  # no tag section
        ],
    )
    def test_bad_heartbeat(self, version, body):
        with pytest.raises(ProtocolError):
            decode(HeartbeatRequest, version, bytes.fromhex(body))

    def test_compact_string_is_no_longer_than_any_other(self):
        encode(HeartbeatRequest(group_id="g" * 32767), 4)
        with pytest.raises(EncodeError):
            encode(HeartbeatRequest(group_id="g" * 32768), 4)
        with pytest.raises(ProtocolError, match="32768"):
            decode(HeartbeatRequest, 4, b"\x81\x80\x02" + b"g" * 32768 + bytes(8))

    def test_array_cannot_have_more_elements_than_bytes(self):
        for version, count in ((1, "00000010"), (9, "11")):
            with pytest.raises(ProtocolError, match="more elements"):
                decode(MetadataRequest, version, bytes.fromhex(count + "00" * 6))

    def test_padded_varint_is_read_as_kafka_reads_it(self):
        assert decode(ApiVersionsRequest, 3, bytes.fromhex("828000 61 01 00")).client_software_name == "a"


class TestLargeMessages:
    """Above four megabytes the elements are counted, since each becomes an object many times its size."""

    def test_a_million_strings_are_enough(self):
        names = 1_400_000
        with pytest.raises(ProtocolError, match="more than 1000000 elements"):
            decode(DescribeGroupsRequest, 5, write_uvarint(names + 1) + b"\x03gg" * names + b"\0\0")

    def test_unknown_tags_count_as_well(self):
        tags = b"".join(write_uvarint(tag) + b"\0" for tag in range(1, 10_001))
        section = write_uvarint(10_000) + tags
        topic = bytes(16) + b"\x01" + section
        body = encode(FetchRequest(), 13)
        head, tail = body[:25], body[26:]
        with pytest.raises(ProtocolError, match="more than 1000000 elements"):
            decode(FetchRequest, 13, head + write_uvarint(151) + topic * 150 + tail)

    def test_numbers_and_records_are_free(self):
        request = produce(bytes(5 << 20))
        assert decode(ProduceRequest, 9, encode(request, 9)) == request
        request = FetchRequest(forgotten_topics_data=[ForgottenTopic(topic="t", partitions=[7] * 1_100_000)])
        assert decode(FetchRequest, 12, encode(request, 12)) == request

    def test_tag_section_has_a_limit(self):
        tags = b"".join(write_uvarint(tag) + b"\0" for tag in range(100, 10_101))
        for message, version in ((PartitionChangeRecord(), 0), (HeartbeatRequest(), 4)):
            with pytest.raises(ProtocolError, match="too many tagged fields"):
                decode(type(message), version, encode(message, version)[:-1] + write_uvarint(10_001) + tags)


class TestMisuse:
    @pytest.mark.parametrize(
        "request_",
        [
            HeartbeatRequest(generation_id=2**31),
            HeartbeatRequest(generation_id="1"),
            HeartbeatRequest(group_id=None),
            HeartbeatRequest(group_id=b"g"),
            HeartbeatRequest(group_id="\ud800"),
        ],
    )
    @pytest.mark.parametrize("version", [0, 4])
    def test_values_that_no_version_can_carry(self, request_, version):
        with pytest.raises(EncodeError, match=f"HeartbeatRequest v{version}"):
            encode(request_, version)

    def test_fixed_string_has_an_int16_length(self):
        with pytest.raises(EncodeError):
            encode(HeartbeatRequest(group_id="g" * 40000), 0)


class TestBuffers:
    def test_any_buffer_and_any_offset(self):
        body = encode(FetchRequest(topics=[FetchTopic(topic="t" * 200)], rack_id="r"), 11)
        expected = decode(FetchRequest, 11, body)
        for buffer in (b"xy" + body, bytearray(b"xy" + body), memoryview(b"xy" + body)):
            assert decode(FetchRequest, 11, buffer, 2) == expected
            assert decode_prefix(FetchRequest, 11, buffer, 2) == (expected, len(buffer))

    def test_error_codes_are_integers(self):
        body = encode(HeartbeatResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS), 0)
        assert decode(HeartbeatResponse, 0, body).error_code == ErrorCode.REBALANCE_IN_PROGRESS

    def test_tagged_struct_is_written_when_it_differs(self):
        partition = PartitionData(diverging_epoch=EpochEndOffset(epoch=1, end_offset=2), aborted_transactions=None)
        response = FetchResponse(responses=[FetchableTopicResponse(partitions=[partition])])
        assert decode(FetchResponse, 12, encode(response, 12)) == response

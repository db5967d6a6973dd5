"""ApiVersions, and requests that are not well-formed or not served: answered, or the connection closed?"""

from __future__ import annotations

import struct

from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from tests.compatibility.differential.world import World, frame


def api_versions(world: World) -> None:
    for version in world.versions(ApiVersionsRequest):
        request = ApiVersionsRequest(client_software_name="differential", client_software_version="1.0")
        world.ask("ApiVersions", request, version)
    for name, number in (
        ("", "1"),
        ("name", ""),
        ("-name", "1"),
        ("name-", "1"),
        ("na me", "1"),
        ("n", "1.0-beta"),
        ("naïve", "1"),
        ("n_m", "1"),
        ("name", "1_0"),
        ("name.", "1"),
        ("a" * 300, "1"),
    ):
        request = ApiVersionsRequest(client_software_name=name, client_software_version=number)
        world.ask(f"software {name[:20]!r} {number!r}", request, 3)


def unsupported_api_versions(world: World) -> None:
    """KIP-511: a version that the broker does not know is answered with version 0."""
    for version in (99, 6, 32767, -1):
        body = b"" if version < 3 else b"\x02a\x021\x00"
        _answered_apart_from_latest(world, f"ApiVersions v{version}", frame(ApiKey.API_VERSIONS, version, body))
    _answered_apart_from_latest(world, "v99 without a body", frame(ApiKey.API_VERSIONS, 99, b""))
    world.ask_raw("v3 without a body", frame(ApiKey.API_VERSIONS, 3, b""))
    for label, version, body in (
        ("v0 with a body", 0, b"\x00\x01\x02"),
        ("v3 and bytes behind the body", 3, b"\x02a\x021\x00\x07\x07"),
    ):
        answer = world.wire.exchange(frame(ApiKey.API_VERSIONS, version, body))
        world.note(label, answer and answer[4:10])


def _answered_apart_from_latest(world: World, label: str, data: bytes) -> None:
    """The latest version of ApiVersions ends the answer, and differs: ours is that of a later Kafka."""
    answer = world.wire.exchange(data)
    world.note(label, answer and answer[:-2])


def malformed_frames(world: World) -> None:
    metadata_v1 = struct.pack(">i", 0)
    world.ask_raw("negative size", struct.pack(">i", -1))
    world.ask_raw("size 0", struct.pack(">i", 0))
    world.ask_raw("size too large", struct.pack(">i", 104_857_601))
    world.ask_raw("header cut off", struct.pack(">ihh", 4, 3, 1))
    world.ask_raw("client id cut off", struct.pack(">ihhih", 10, 3, 1, 7, 5))
    world.ask_raw("client id longer than the frame", struct.pack(">ihhih", 12, 3, 1, 7, 500) + b"ab")
    world.ask_raw("client id not UTF-8", struct.pack(">ihhih", 14, 18, 0, 7, 4) + b"\xff\xfe\xfd\xfc")
    for key, version in ((9999, 0), (-1, 0), (ApiKey.METADATA, 99), (ApiKey.METADATA, -1), (ApiKey.PRODUCE, 2)):
        world.ask_raw(f"key {int(key)} version {version}", frame(key, version, metadata_v1))
    for key, version in ((ApiKey.FETCH, 3), (ApiKey.FETCH, 99), (ApiKey.LIST_OFFSETS, 0), (ApiKey.CREATE_TOPICS, 1)):
        world.ask_raw(f"key {int(key)} version {version}", frame(key, version, metadata_v1))
    for key in (ApiKey.LEADER_AND_ISR, ApiKey.STOP_REPLICA, ApiKey.UPDATE_METADATA, ApiKey.CONTROLLED_SHUTDOWN):
        world.ask_raw(f"key {int(key)}, gone in 4.0", frame(key, 0, b""))
    for key in (ApiKey.VOTE, ApiKey.BEGIN_QUORUM_EPOCH, ApiKey.BROKER_HEARTBEAT, ApiKey.ALLOCATE_PRODUCER_IDS):
        world.ask_raw(f"key {int(key)}, for controllers only", frame(key, 0, b""))


def malformed_bodies(world: World) -> None:
    bodies = {
        "metadata v1 empty": (ApiKey.METADATA, 1, b""),
        "metadata v1 array longer than the frame": (ApiKey.METADATA, 1, struct.pack(">i", 1000)),
        "metadata v1 huge array": (ApiKey.METADATA, 1, struct.pack(">i", 2**31 - 1)),
        "metadata v1 array -2": (ApiKey.METADATA, 1, struct.pack(">i", -2)),
        "metadata v0 null array": (ApiKey.METADATA, 0, struct.pack(">i", -1)),
        "metadata v1 null topic name": (ApiKey.METADATA, 1, struct.pack(">ih", 1, -1)),
        "metadata v1 name of length -2": (ApiKey.METADATA, 1, struct.pack(">ih", 1, -2)),
        "metadata v1 name not UTF-8": (ApiKey.METADATA, 1, struct.pack(">ih", 1, 2) + b"\xff\xfe"),
        "metadata v9 varint too long": (ApiKey.METADATA, 9, b"\xff" * 12),
        "metadata v9 tags cut off": (ApiKey.METADATA, 9, b"\x01\x00\x00\x00"),
        "find coordinator v0 null key": (ApiKey.FIND_COORDINATOR, 0, struct.pack(">h", -1)),
        "heartbeat v0 empty": (ApiKey.HEARTBEAT, 0, b""),
        "produce v3 empty": (ApiKey.PRODUCE, 3, b""),
        "fetch v4 empty": (ApiKey.FETCH, 4, b""),
        "list groups v0 with bytes behind": (ApiKey.LIST_GROUPS, 0, b"xyz"),
    }
    for label, (key, version, body) in bodies.items():
        answer = world.wire.exchange(frame(key, version, body))
        world.note(label, "closed" if answer is None else "answered")
    for label, tags in {
        "unknown tag": b"\x01\x63\x02ab",
        "unknown tags out of order": b"\x02\x64\x00\x63\x00",
        "the same tag twice": b"\x02\x63\x00\x63\x00",
        "tag longer than the frame": b"\x01\x63\x7fab",
    }.items():
        answer = world.wire.exchange(frame(ApiKey.METADATA, 11, b"\x01\x00\x00" + tags))
        world.note(label, "closed" if answer is None else "answered")


SCENARIOS = (api_versions, unsupported_api_versions, malformed_frames, malformed_bodies)

import pytest

from ottla.schema.definition import SettingError
from ottla.schema.listeners import Listener, parse_listeners, parse_protocol_map

PROTOCOLS = {"PLAINTEXT": "PLAINTEXT", "INTERNAL": "PLAINTEXT", "SSL": "SSL"}


@pytest.mark.parametrize(
    ("endpoint", "listener"),
    [
        ("PLAINTEXT://127.0.0.1:9092", Listener("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092)),
        ("internal://:0", Listener("INTERNAL", "PLAINTEXT", "", 0)),
        ("SSL://[::1]:9093", Listener("SSL", "SSL", "::1", 9093)),
        ("SSL://::1:9093", Listener("SSL", "SSL", "::1", 9093)),
        ("PLAINTEXT://my-host.example.org:65535", Listener("PLAINTEXT", "PLAINTEXT", "my-host.example.org", 65535)),
    ],
)
def test_endpoints_are_read(endpoint, listener):
    assert parse_listeners([endpoint], PROTOCOLS) == [listener]


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:9092", "PLAINTEXT://host", "PLAINTEXT://host:", "PLAINTEXT://host:x", "PLAINTEXT:host:1", "://h:1"]
    + ["PLAINTEXT://host:65536", "PLAINTEXT://host:-1", "PLAINTEXT://a/b:1", "PLAINTEXT://user@host:1", "OTHER://h:1"],
)
def test_malformed_endpoints_are_refused_by_name(endpoint):
    with pytest.raises(SettingError) as error:
        parse_listeners([endpoint], PROTOCOLS, setting="advertised.listeners")
    assert error.value.name == "advertised.listeners"
    assert str(error.value).startswith("advertised.listeners: ")


def test_names_and_ports_are_unique():
    with pytest.raises(SettingError, match="different name"):
        parse_listeners(["PLAINTEXT://a:1", "plaintext://a:2"], PROTOCOLS)
    with pytest.raises(SettingError, match="different port"):
        parse_listeners(["PLAINTEXT://a:1", "INTERNAL://b:1"], PROTOCOLS)
    with pytest.raises(SettingError, match="different port"):
        parse_listeners(["PLAINTEXT://10.0.0.1:1", "INTERNAL://10.0.0.2:1"], PROTOCOLS)
    assert len(parse_listeners(["PLAINTEXT://a:1", "INTERNAL://b:1"], PROTOCOLS, unique_ports=False)) == 2
    assert len(parse_listeners(["PLAINTEXT://:0", "INTERNAL://:0"], PROTOCOLS)) == 2
    assert len(parse_listeners(["PLAINTEXT://127.0.0.1:1", "INTERNAL://[::1]:1"], PROTOCOLS)) == 2


def test_addresses_are_written_with_brackets_for_ipv6():
    assert str(Listener("A", "PLAINTEXT", "::1", 9)) == "A://[::1]:9"
    assert Listener("A", "PLAINTEXT", "localhost", 9).address == "localhost:9"


def test_the_protocol_map_is_read():
    assert parse_protocol_map("internal:plaintext, EXTERNAL:SASL_SSL") == {
        "INTERNAL": "PLAINTEXT",
        "EXTERNAL": "SASL_SSL",
    }
    for text in ("A", "A:TLS", ":SSL", "A:SSL,a:PLAINTEXT"):
        with pytest.raises(SettingError, match=r"listener\.security\.protocol\.map"):
            parse_protocol_map(text)

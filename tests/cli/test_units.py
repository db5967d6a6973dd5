import pytest

from ottla.cli.errors import CommandError
from ottla.cli.units import (
    duration_text,
    parse_duration_ms,
    parse_size_bytes,
    parse_time_ms,
    setting_meaning,
    setting_text,
    size_text,
    time_text,
)

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("10m", 600_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("2w", 1_209_600_000),
        ("10 minutes", 600_000),
        ("1.5 s", 1500),
        ("1 day 2 hours", 93_600_000),
    ],
)
def test_durations(text, milliseconds):
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", 100), ("64KiB", 65_536), ("1GiB", 2**30), ("10MB", 10_000_000), ("512k", 524_288), ("1.5 Mi", 1_572_864)],
)
def test_sizes(text, size):
    assert parse_size_bytes(text) == size


def test_points_in_time():
    assert parse_time_ms("now", NOW) == NOW
    assert parse_time_ms("10m", NOW) == NOW - 600_000
    assert parse_time_ms("-10m", NOW) == NOW - 600_000
    assert parse_time_ms("10 minutes ago", NOW) == NOW - 600_000
    assert parse_time_ms("1700000000000", NOW) == 1_700_000_000_000
    assert parse_time_ms("2026-01-31T08:15:00Z", NOW) == 1_769_847_300_000
    assert parse_time_ms("2026-01-31T08:15:00+02:00", NOW) == 1_769_840_100_000
    assert parse_time_ms("today", NOW) - parse_time_ms("yesterday", NOW) == pytest.approx(86_400_000, abs=3_600_000)
    assert parse_time_ms(time_text(NOW), NOW) == NOW


@pytest.mark.parametrize("text", ["", "10", "x", "10x", "m", "1h30", "-"])
def test_what_is_none(text):
    for parse in (parse_duration_ms, lambda text: parse_time_ms(text, NOW)):
        with pytest.raises(CommandError, match="is no "):
            parse(text)
    if text != "10":
        with pytest.raises(CommandError, match="is no size"):
            parse_size_bytes(text)


@pytest.mark.parametrize(
    ("name", "value", "text", "meaning"),
    [
        ("retention.ms", "7d", "604800000", "7d"),
        ("retention.ms", "604800000", "604800000", "7d"),
        ("retention.ms", "-1", "-1", None),
        ("retention.ms", "soon", "soon", None),
        ("segment.bytes", "1GiB", "1073741824", "1 GiB"),
        ("producer_byte_rate", "10MB", "10000000", "9.5 MiB"),
        ("leader.replication.throttled.rate", "50MiB/s", "52428800", "50 MiB"),
        ("cleanup.policy", "compact", "compact", None),
        ("min.insync.replicas", "2", "2", None),
        ("sasl.login.refresh.min.period.seconds", "1m", "60", None),
    ],
)
def test_settings_as_people_write_them(name, value, text, meaning):
    assert setting_text(name, value) == text
    assert setting_meaning(name, text) == meaning


def test_shown_with_two_units_at_most():
    assert [duration_text(one) for one in (0, 999, 1000, 90_000, 93_601_001, 3_600_001)] == [
        "0ms",
        "999ms",
        "1s",
        "1m 30s",
        "1d 2h",
        "1h",
    ]
    assert [size_text(one) for one in (0, 1023, 1024, 1536, 2**30, 2**52)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "1.5 KiB",
        "1 GiB",
        "4096 TiB",
    ]

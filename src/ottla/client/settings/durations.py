"""ISO 8601 durations, as in `by_duration:P1DT2H`."""

from __future__ import annotations


def duration_ms(text: str) -> int:
    """The milliseconds of `PnDTnHnMn.nS`; the text has been validated."""
    import re

    match = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,9}))?S)?)?", text, re.IGNORECASE)
    if match is None:
        raise ValueError(text)
    days, hours, minutes, seconds, fraction = (part or "0" for part in match.groups())
    whole = ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1000 + int(fraction.ljust(9, "0")) // 1_000_000

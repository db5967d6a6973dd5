import io
import json
import logging

import pytest

from ottla.cli.logs import configure_logging


@pytest.fixture
def logged():
    """Configure logging as a node does, and give back what it wrote; other tests keep their handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    stream = io.StringIO()

    def configure(level, log_format):
        configure_logging(level, log_format, stream)
        return stream

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


def test_text_lines_carry_level_logger_message_and_fields(logged):
    stream = logged("info", "text")
    logging.getLogger("ottla.server.log").info("rolled %s", "x-0", extra={"offset": 5, "reason": 'size "big"'})
    time, rest = stream.getvalue().split(" ", 1)
    assert len(time) == len("2026-01-31T08:15:00.123Z")
    assert rest == 'info ottla.server.log: rolled x-0 offset=5 reason="size \\"big\\""\n'


def test_text_events_stay_on_one_line(logged):
    stream = logged("info", "text")
    logging.getLogger("a").warning("two\nlines", extra={"field": "c\nd", "empty": ""})
    assert stream.getvalue().endswith(' warning a: two\\nlines field="c\\nd" empty=""\n')
    assert stream.getvalue().count("\n") == 1


def test_json_lines_are_objects(logged):
    stream = logged("debug", "json")
    logging.getLogger("a").debug("é %d", 1, extra={"offset": 5, "path": object})
    event = json.loads(stream.getvalue())
    assert event.pop("time").endswith("Z")
    assert event == {"level": "debug", "logger": "a", "message": "é 1", "offset": 5, "path": str(object)}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_exceptions_are_told_with_their_traceback(logged, log_format):
    stream = logged("info", log_format)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("a").exception("failed")
    assert "Traceback" in stream.getvalue()
    assert "ValueError: why" in stream.getvalue()
    if log_format == "json":
        assert "ValueError: why" in json.loads(stream.getvalue())["exception"]


def test_what_is_below_the_level_is_not_logged(logged):
    stream = logged("warning", "text")
    logging.getLogger("a").info("quiet")
    assert stream.getvalue() == ""


FORGED = "x\n2026-01-31T08:15:00.123Z info ottla.server.security: alice logged in\r\x1b[2J\x9b1A\u202eevil\u2028end"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nobody_can_forge_a_line_or_repaint_the_screen(logged, log_format):
    stream = logged("info", log_format)
    logging.getLogger("a").warning("client id %s", FORGED, extra={"topic": FORGED, "short": "\x1b[0m"})
    try:
        raise ValueError(FORGED)
    except ValueError:
        logging.getLogger("a").exception("of %s", FORGED)
    text = stream.getvalue()
    assert all(character.isprintable() for character in text.replace("\n", ""))
    beginnings = [line for line in text.splitlines() if not line.startswith("    ")]
    assert len(beginnings) == 2
    if log_format == "json":
        assert json.loads(text.splitlines()[0])["topic"] == FORGED

"""`ottla encryption`: how far a data directory is encrypted, another key for it, and master keys. Needs no key itself.

A node that runs on the directory carries a rotation out at once; one that is stopped when it starts.
"""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.errors import CommandError
from ottla.cli.numbers import positive
from ottla.cli.output import Column, Output
from ottla.cli.running import DEFAULT_DATA, is_locked
from ottla.cli.units import time_text

if TYPE_CHECKING:
    from ottla.server.security.encryption.ring import Ring

run = run_action

_LOOK_AGAIN_S = 0.05


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    status = actions.add("status", _status, "Show how much is encrypted, and with which keys.", connects=False)
    rotate = actions.add("rotate", _rotate, "Have the node take a new key; files follow.", connects=False)
    rotate.add_argument(
        "--timeout", type=positive(86_400, "seconds"), default=30.0, metavar="SECONDS", help="how long to wait (30)"
    )
    for action in (status, rotate):
        action.add_argument("--data", metavar="DIR", default=DEFAULT_DATA, help=f"a data directory ({DEFAULT_DATA})")
    shown = actions.add("cat", _cat, "Write a file of a data directory to standard output, decrypted.", connects=False)
    shown.add_argument("file", metavar="FILE", help="the file; OTTLA_ENCRYPTION_KEY says where the master key is")
    made = actions.add("new-key", _new_key, "Make a master key in a new file.", connects=False)
    made.add_argument("file", metavar="FILE", help="the file; it must not exist")


def _ring(data: str) -> Ring | None:
    from ottla.runtime.real_disk import RealDisk
    from ottla.server.security.encryption.ring import Ring

    if not os.path.isdir(data):
        raise CommandError(f"{data} is no data directory; name one with --data DIR")
    return Ring.read(RealDisk(), data)


def _status(options: Namespace) -> int:
    from ottla.runtime.real_disk import RealDisk
    from ottla.server.security.encryption.scan import totals

    output = Output(options)
    ring = _ring(options.data)
    found = totals(RealDisk(), options.data)
    keys = [] if ring is None else list(reversed(ring.keys))
    known = {key.key_id for key in keys}
    rows: list[list[object]] = [
        [
            key.key_id.hex(),
            found.files[key.key_id],
            found.bytes[key.key_id],
            "current" if key is keys[0] else "old",
            key.source,
            time_text(key.created_ms),
        ]
        for key in keys
    ]
    rows += [
        [key_id.hex(), found.files[key_id], found.bytes[key_id], "unknown", None, None]
        for key_id in sorted(key_id for key_id in found.files if key_id is not None and key_id not in known)
    ]
    rows.append(["none (plain)", found.files[None], found.bytes[None], None, None, None])
    json = {
        "data": options.data,
        "encrypted": ring is not None,
        "plain_files": found.files[None],
        "plain_bytes": found.bytes[None],
        "keys": [
            {
                "id": key.key_id.hex(),
                "current": key is keys[0],
                "master_key": key.source,
                "created_ms": key.created_ms,
                "files": found.files[key.key_id],
                "bytes": found.bytes[key.key_id],
            }
            for key in keys
        ],
        "unknown_keys": [row[0] for row in rows if row[3] == "unknown"],
    }
    if output.is_json:
        output.json(json)
        return 0
    columns: list[str | Column] = [Column("key", "cyan"), "files", "bytes", "state", "master key", "made"]
    output.table(None, columns, rows)
    return 0


def _rotate(options: Namespace) -> int:
    from ottla.server.security.encryption.ring import REQUEST

    output = Output(options)
    data = options.data
    before = _ring(data)
    if before is None:
        raise CommandError(f"{data} is not encrypted; start its node with --set encryption.key=file:PATH")
    request = os.path.join(data, REQUEST)
    with open(request, "w", encoding="ascii") as file:
        file.write("rotate\n")
    if not is_locked(data):
        output.done(f"no node runs on {data}: it takes a new key when it starts", json={"rotated": False, "data": data})
        return 0
    deadline_s = time.monotonic() + options.timeout
    while os.path.exists(request):
        if time.monotonic() >= deadline_s:
            raise CommandError(
                f"the node on {data} has not taken a new key within {options.timeout:g} s; its log says why"
            )
        time.sleep(_LOOK_AGAIN_S)
    after = _ring(data)
    assert after is not None
    key_id = after.current_id.hex()
    output.done(
        f"new files are encrypted with key {key_id}; the others follow (`ottla encryption status`)",
        json={"rotated": True, "data": data, "key": key_id},
    )
    return 0


def _cat(options: Namespace) -> int:
    import sys

    from ottla.server.security.encryption.offline import content

    sys.stdout.buffer.write(content(options.file))
    sys.stdout.buffer.flush()
    return 0


def _new_key(options: Namespace) -> int:
    import secrets
    from base64 import b64encode

    output = Output(options)
    try:
        number = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandError(f"{options.file} exists already; a key that is in use must not be lost") from None
    except OSError as error:
        raise CommandError(f"cannot make {options.file}: {(error.strerror or str(error)).lower()}") from None
    with open(number, "wb") as file:
        file.write(b64encode(secrets.token_bytes(32)) + b"\n")
        file.flush()
        os.fsync(number)
    output.done(
        f"a key is in {options.file}: keep a copy in a safe place, without it the data is lost. Use it with\n"
        f"  ottla start --set encryption.key=file:{os.path.abspath(options.file)}",
        json={"file": options.file},
    )
    return 0

"""kafka-metadata-shell: walks through the metadata in a snapshot, or in a segment of the metadata log.

`ottla kafka-metadata-shell --snapshot FILE` waits for commands; `… FILE ls image/topics/byName` runs one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser, HelpShown
from ottla.cli.kafka.common import ToolError, java_error
from ottla.cli.kafka.globs import matcher
from ottla.cli.kafka.metadata_nodes import Directory, lines, root
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage

_DESCRIPTIONS = {
    "cat": "Show what is in metadata files.",
    "cd": "Go to another directory.",
    "exit": "Leave the shell.",
    "find": "Show everything below a directory.",
    "help": "Show this help.",
    "history": "Show the commands so far.",
    "ls": "Show what is in a directory.",
    "man": "Show the help of a command.",
    "pwd": "Show the directory one is in.",
    "tree": "Show what is in metadata nodes, as a tree.",
}
_SHELL_ONLY = {"cd", "exit", "help", "history", "man", "pwd"}


def run(arguments: list[str]) -> int:
    """The tool."""
    parser = ArgumentParser("kafka-metadata-shell", default_help=True, description="The Apache Kafka metadata shell")
    parser.add_argument("--snapshot", "-s", required=True, help="The file: a snapshot, or a segment of the log.")
    parser.add_argument("command", nargs="*", help="A command to run instead of waiting for some.")
    try:
        values = parser.parse(arguments)
    except HelpShown:
        return 1
    except ArgumentError as error:
        error.parser.report(error)
        return 1
    try:
        with _locked(values["snapshot"]):
            shell = Shell(_load(values["snapshot"]), is_interactive=not values["command"])
            if values["command"]:
                shell.run(values["command"])
            else:
                shell.loop()
    except ToolError as error:
        print(f"Unexpected error: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock of the data directory around the file, if it has one: no node may write while we read."""
    from ottla.runtime.disk import DiskLockedError
    from ottla.runtime.real_disk import RealDisk

    directory = os.path.dirname(os.path.dirname(path)) or "."
    lock_path = os.path.join(directory, ".lock")
    if not os.path.exists(lock_path):
        yield
        return
    try:
        lock = RealDisk().lock(lock_path)
    except DiskLockedError:
        raise ToolError(
            f"Unable to lock {os.path.abspath(directory)}. Please ensure that no broker or controller process is using "
            "this directory before proceeding.",
            "RuntimeException",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _load(path: str) -> MetadataImage:
    """What the records of one file amount to. What cannot be read ends it, with what came before."""
    from ottla.records.batch import CorruptRecordError, batches, crc_matches
    from ottla.records.record import read_batch_records
    from ottla.schema.definition import SettingError
    from ottla.server.metadata.delta import MetadataError
    from ottla.server.metadata.loader import RecordLoader
    from ottla.server.metadata.records import read_frame
    from ottla.server.security.encryption.offline import content as read_file

    try:
        content = read_file(path)
    except FileNotFoundError:
        raise ToolError(java_error(ToolError(path, "java.nio.file.NoSuchFileException"))) from None
    except SettingError as error:
        raise ToolError(str(error), "RuntimeException") from None
    except OSError as error:
        raise ToolError(java_error(ToolError(f"{path}: {error.strerror}", "java.io.IOException"))) from None
    loader = RecordLoader(EMPTY_IMAGE)
    try:
        for position, header in batches(content):
            if not crc_matches(content, position, header):
                raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
            if not header.is_control:
                records = read_batch_records(content, position, header)
                frames = [read_frame(record.value) for record in records if record.value is not None]
                loader.add(frames, header.last_offset, header.partition_leader_epoch, header.max_timestamp)
        return loader.take()[1]
    except (CorruptRecordError, MetadataError) as error:
        raise ToolError(f"{path} is damaged: {error}", "RuntimeException") from None


class Shell:
    """Commands on a metadata image. Output goes to standard output."""

    def __init__(self, image: MetadataImage, *, is_interactive: bool) -> None:
        self._root = root(image)
        self._directory = "/"
        self._is_interactive = is_interactive
        self._history: list[str] = []
        self._done = False

    # The loop

    def loop(self) -> None:
        """Read commands and run them, until `exit` or the end of the input."""
        print("Loading...\nStarting...\n[ Kafka Metadata Shell ]", flush=True)
        prompt = ">> " if sys.stdin.isatty() else ""
        if prompt:
            self._with_line_editing()
        while not self._done:
            try:
                line = input(prompt)
            except EOFError:
                return
            except KeyboardInterrupt:
                print("^C")
                continue
            if line.strip():
                self._history.append(line)
            self.run(_words(line))
            sys.stdout.flush()

    def _with_line_editing(self) -> None:
        try:
            import readline
        except ImportError:  # a Python without it: lines are read as they come
            return
        readline.set_completer_delims(" ")
        readline.set_completer(self._complete)
        readline.parse_and_bind("tab: complete")

    def _complete(self, text: str, number: int) -> str | None:
        import readline

        line = readline.get_line_buffer()[: readline.get_begidx()]
        found = self.completions(text) if line.strip() else [name for name in _DESCRIPTIONS if name.startswith(text)]
        return found[number] if number < len(found) else None

    def completions(self, text: str) -> list[str]:
        """The paths that begin like this one; directories end with a slash."""
        parent, slash, last = text.rpartition("/")
        found = self._find_literally((parent or "/") if slash else ".")
        if not isinstance(found, Directory):
            return []
        begin = parent + slash
        return [
            begin + name + ("/" if isinstance(found.child(name), Directory) else "")
            for name in found.names()
            if name.startswith(last)
        ]

    # Commands

    def run(self, words: Sequence[str]) -> None:
        """One command; what is wrong with it is printed."""
        words = list(words)
        while words and not words[-1]:
            words.pop()
        if not words:
            return
        try:
            values = self._parser().parse(words)
        except HelpShown:
            return
        except ArgumentError as error:
            print(error)
            return
        command = values["command"]
        if command != words[0]:
            print(f"invalid choice: '{words[0]}': did you mean '{command}'?")
            return
        commands: dict[str, Callable[[], None]] = {
            "cat": lambda: self._show(command, values["targets"]),
            "tree": lambda: self._show(command, values["targets"]),
            "cd": lambda: self._change(values["target"]),
            "exit": self._exit,
            "find": lambda: self._find(values["paths"] or ()),
            "help": self._help,
            "history": lambda: self._tell_history(values["numEntriesToShow"]),
            "ls": lambda: self._list(values["targets"] or ()),
            "man": lambda: self._manual(values["cmd"][0]),
            "pwd": lambda: print(self._directory),
        }
        commands[command]()

    def _parser(self) -> ArgumentParser:
        parser = ArgumentParser("", add_help=False)
        commands = parser.add_subparsers(dest="command")
        for name, description in _DESCRIPTIONS.items():
            if self._is_interactive or name not in _SHELL_ONLY:
                _add_arguments(name, commands.add_parser(name, help=description))
        return parser

    def _show(self, command: str, targets: Sequence[str]) -> None:
        for target in targets:
            found = self._glob(target)
            if not found:
                print(f"{command}: {target}: No such file or directory.")
            for _, node in found:
                if command == "cat" and isinstance(node, Directory):
                    print(f"cat: {target}: Is a directory")
                else:
                    for line in lines(node):
                        print(line)

    def _change(self, target: str | None) -> None:
        wanted = "/" if target is None else target
        found = self._glob(wanted)
        if not found:
            print(f"cd: {wanted}: no such directory.")
        for path, node in found:
            if isinstance(node, Directory):
                self._directory = "/" + "/".join(path)
            else:
                print(f"cd: {wanted}: not a directory.")

    def _exit(self) -> None:
        self._done = True

    def _find(self, paths: Sequence[str]) -> None:
        for path in _effective(paths):
            found = self._glob(path)
            if not found:
                print(f"find: {path}: no such file or directory.")
            for _, node in found:
                self._find_below(path, node)

    def _find_below(self, path: str, node: Directory | str) -> None:
        print(path)
        if isinstance(node, Directory):
            for name in node.names():
                child = node.child(name)
                assert child is not None
                self._find_below(f"{path}{name}" if path == "/" else f"{path}/{name}", child)

    def _help(self) -> None:
        print("Welcome to the Apache Kafka metadata shell.\n")
        self._parser().print_help()

    def _manual(self, name: str) -> None:
        if name not in _DESCRIPTIONS:
            print(f"man: unknown command {name}. Type help to get a list of commands.")
            return
        parser = ArgumentParser(name, add_help=False)
        _add_arguments(name, parser)
        print(f"{name}: {_DESCRIPTIONS[name]}\n")
        parser.print_help()

    def _tell_history(self, count: int | None) -> None:
        first = 0 if count is None else max(0, len(self._history) - max(0, count))
        for number, line in enumerate(self._history[first:], first):
            print(f"{number: 5d}  {line}")

    def _list(self, targets: Sequence[str]) -> None:
        files: list[str] = []
        directories: list[tuple[str, list[str]]] = []
        for target in _effective(targets):
            found = self._glob(target)
            if not found:
                print(f"ls: {target}: no such file or directory.")
            for path, node in found:
                name = path[-1] if path else "/"
                if isinstance(node, Directory):
                    directories.append((name, node.names()))
                else:
                    files.append(name)
        width = shutil.get_terminal_size().columns if self._is_interactive else None
        _print_entries("", files, width)
        named = bool(files) or len(directories) > 1
        for number, (name, children) in enumerate(directories):
            space = "\n" if files or number else ""
            _print_entries(f"{space}{name}:" if named else "", children, width)

    # Finding nodes

    def _glob(self, path: str) -> list[tuple[list[str], Directory | str]]:
        """Every node that a path with `*`, `?` and `{a,b}` stands for, with its own path."""
        found: list[tuple[list[str], Directory | str]] = [([], self._root)]
        for part in self._parts(path):
            matches = matcher(part)
            below: list[tuple[list[str], Directory | str]] = []
            for before, node in found:
                if not isinstance(node, Directory):
                    continue
                names = [part] if matches is None else [name for name in node.names() if matches(name)]
                below += [([*before, name], child) for name in names if (child := node.child(name)) is not None]
            found = below
        return found

    def _find_literally(self, path: str) -> Directory | str | None:
        node: Directory | str | None = self._root
        for part in self._parts(path):
            node = node.child(part) if isinstance(node, Directory) else None
        return node

    def _parts(self, path: str) -> list[str]:
        parts: list[str] = []
        full = path if path.startswith("/") else f"{self._directory}/{path}"
        for part in full.split("/"):
            if part == "..":
                parts[-1:] = []
            elif part not in ("", "."):
                parts.append(part)
        return parts


def _add_arguments(command: str, parser: ArgumentParser) -> None:
    if command in ("cat", "tree"):
        parser.add_argument("targets", nargs="+", help="The nodes to show.")
    elif command == "cd":
        parser.add_argument("target", nargs="?", help="The directory to go to.")
    elif command == "find":
        parser.add_argument("paths", nargs="*", help="Where to begin.")
    elif command == "history":
        parser.add_argument("numEntriesToShow", nargs="?", type=INTEGER, help="How many commands to show.")
    elif command == "ls":
        parser.add_argument("targets", nargs="*", help="The nodes to list.")
    elif command == "man":
        parser.add_argument("cmd", nargs=1, help="The command whose help to show.")


def _effective(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if path] or ["."]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:  # a quote that is not closed
        return line.split()


def _print_entries(intro: str, entries: Sequence[str], width: int | None) -> None:
    if not entries:
        return
    if intro:
        print(intro)
    widths, height = _columns(entries, width)
    for line in range(height):
        row = list(entries[line::height])
        row += [""] * (len(widths) - len(row))
        padded = [entry.ljust(size) for entry, size in zip(row[:-1], widths, strict=False)]
        last = row[-1]
        print("".join(padded) + last)


def _columns(entries: Sequence[str], width: int | None) -> tuple[list[int], int]:
    """Widths of as many columns as fit, and how many lines there are."""
    for columns in range((width or 0) // 4, 1, -1):
        height = -(-len(entries) // columns)
        widths = [
            max((len(entry) + 2 for entry in entries[column * height : (column + 1) * height]), default=0)
            for column in range(columns)
        ]
        if widths[-1] and sum(widths) <= (width or 0):
            return widths, height
    return [0], len(entries)

"""How argparse4j reads a command line."""

from __future__ import annotations

import re
from typing import Any

from ottla.cli.kafka.argparse4j import Argument, ArgumentError, ArgumentParser, Group, HelpShown, Subparsers

_NEGATIVE_NUMBER = re.compile(r"-\d+")


class Parse:
    """One walk over the words of a command line, for one parser; a sub-command's goes on where its main one ends."""

    def __init__(self, parser: ArgumentParser, words: list[str], index: int, values: dict[str, Any]) -> None:
        self.parser, self.words, self.index, self.values = parser, words, index, values
        self.separated = False
        self.used: set[Argument] = set()
        self.chosen: dict[Group, Argument] = {}
        self.collected: list[str] = []
        self.deferred: ArgumentError | None = None

    def run(self) -> ArgumentError | None:
        """Fill the values; returns the error of what is missing, which others go before."""
        parser = self.parser
        self.values.update(parser.defaults())
        position = consumed = 0
        while self.index < len(self.words):
            word = self.words[self.index]
            if self.is_flag(word) and word != "--":
                self.flag(word)
            elif word == "--" and not self.separated:
                self.separated = True
                self.index += 1
            elif position < len(parser.positionals):
                argument = parser.positionals[position]
                self.collected.append(word)
                self.index += 1
                consumed += 1
                if argument.single or consumed == argument.most:
                    position, consumed = position + 1, 0
            elif not self.separated and parser.subparsers is not None:
                self.positionals()
                self.check_required()
                return self.sub_command(parser.subparsers)
            else:
                raise ArgumentError(f"unrecognized arguments: '{' '.join(self.words[self.index :])}'", parser)
        if parser.subparsers is not None:
            raise ArgumentError("too few arguments", parser)
        self.positionals()
        self.check_required()
        return self.deferred

    def sub_command(self, commands: Subparsers) -> ArgumentError | None:
        chosen = commands.find(self.words[self.index])
        missing = Parse(chosen, self.words, self.index + 1, self.values).run()
        if commands.dest:
            self.values[commands.dest] = chosen.command
        return self.deferred or missing

    def is_flag(self, word: str) -> bool:
        if self.separated:
            return False
        return word == "--" or (
            bool(word.lstrip("-")) and word.startswith("-") and not _NEGATIVE_NUMBER.fullmatch(word)
        )

    def flag(self, word: str) -> None:
        flag, equals, value = word.partition("=")
        embedded: str | None = value if equals else None
        argument = self.parser.find_flag(flag)
        if argument is None:
            argument, flag, embedded = self.cluster(word)
        self.index += 1
        if argument is not None:
            self.choose(argument)
            self.take(argument, flag, embedded)

    def cluster(self, word: str) -> tuple[Argument | None, str, str | None]:
        """Several short options in one word; the last may have its value attached."""
        if not word.startswith("--"):
            for position, letter in enumerate(word[1:], 1):
                argument = self.parser.find_flag(f"-{letter}") if f"-{letter}" in self.parser.by_flag else None
                if argument is None:
                    break
                if argument.consumes:
                    return argument, f"-{letter}", word[position + 1 :] or None
                self.choose(argument)
                self.act(argument, None)
            else:
                return None, word, None
        error = ArgumentError(f"unrecognized arguments: '{word}'", self.parser)
        error.unknown_option = word
        raise error

    def choose(self, argument: Argument) -> None:
        self.used.add(argument)
        group = argument.group
        if group is not None and group.exclusive:
            before = self.chosen.setdefault(group, argument)
            if before is not argument:
                raise ArgumentError(f"not allowed with argument {before.textual_name}", self.parser, argument)

    def take(self, argument: Argument, flag: str, embedded: str | None) -> None:
        if not argument.consumes:
            if embedded is not None:
                raise ArgumentError(f"ignore implicit argument '{embedded}'", self.parser, argument)
            self.act(argument, None)
        elif argument.single:
            text = embedded if embedded is not None else self.next_value()
            if text is not None:
                self.act(argument, argument.convert(text, self.parser))
            elif argument.least == -1:
                raise ArgumentError("expected one argument", self.parser, argument)
            else:
                self.act(argument, argument.const)
        else:
            found = [] if embedded is None else [argument.convert(embedded, self.parser)]
            while embedded is None and len(found) < argument.most and (text := self.next_value()) is not None:
                found.append(argument.convert(text, self.parser))
            if len(found) < argument.least:
                raise ArgumentError(f"expected {argument.least} argument(s)", self.parser, argument)
            self.act(argument, found)

    def next_value(self) -> str | None:
        if self.index >= len(self.words) or self.is_flag(self.words[self.index]):
            return None
        self.index += 1
        return self.words[self.index - 1]

    def act(self, argument: Argument, value: Any) -> None:
        if callable(argument.action):
            argument.action()
        elif argument.action == "help":
            self.parser.print_help()
            raise HelpShown("Help Screen", self.parser)
        elif argument.action == "append":
            before = self.values.get(argument.dest)
            self.values[argument.dest] = [*before, value] if isinstance(before, list) else [value]
        elif argument.action == "store":
            self.values[argument.dest] = value
        else:
            self.values[argument.dest] = argument.action == "store_true"

    def positionals(self) -> None:
        """Share the collected words out among the positional arguments."""
        wanted = [1 if one.least == -1 else one.least for one in self.parser.positionals]
        if sum(wanted) > len(self.collected):
            raise ArgumentError("too few arguments", self.parser)
        taken = 0
        for number, argument in enumerate(self.parser.positionals):
            available = len(self.collected) - taken - sum(wanted[number + 1 :])
            count = min(1 if argument.least == -1 else argument.most, available)
            if count:
                texts = self.collected[taken : taken + count]
                taken += count
                found = [argument.convert(text, self.parser) for text in texts]
                self.act(argument, found[0] if argument.single else found)

    def check_required(self) -> None:
        for argument in self.parser.options:
            if argument.required and argument not in self.used:
                self.deferred = ArgumentError(f"argument {argument.textual_name} is required", self.parser)
        if self.deferred is not None:
            return
        for group in self.parser.groups:
            if group.exclusive and group.required and group not in self.chosen:
                names = "".join(f"{argument.textual_name} " for argument in group.shown)
                self.deferred = ArgumentError(f"one of the arguments {names}is required", self.parser)

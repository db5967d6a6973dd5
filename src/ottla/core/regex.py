"""Regular expressions in the syntax of RE2, matched in time linear in the text; for names in ASCII.

Clients choose these expressions and brokers run them, so the worst case counts: Python's ``re`` backtracks, and a few
dozen characters can keep it busy for hours. Here an expression becomes a nondeterministic automaton (Thompson), whose
deterministic states are built when a text first leads to them. What cannot be done that way, references back and
lookaround, is not in RE2's syntax either.

A set of characters is an int with one bit per ASCII code, and one for all other characters: these match where any
character does (``.``, ``[^a]``), and nowhere else. Topics have none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ottla.core.regex_syntax import (
    Alternation,
    Assertion,
    AssertionKind,
    Characters,
    Node,
    RegexError,
    Repetition,
    Sequence,
    parse,
)

__all__ = ["Regex", "RegexError"]

#: Counted repetitions are unrolled; what gets longer than this is refused, as RE2 does for its memory's sake.
MAX_INSTRUCTIONS: Final = 20_000
#: Longer ones are not even read: that takes time, for every character.
MAX_LENGTH: Final = 20_000
#: The deterministic states of one expression are forgotten and built anew beyond this.
MAX_STATES: Final = 1_000
#: Instructions that may be looked at to build states, in the life of an expression: a third of a second's worth. Sane
#: expressions have few states, which are built once; others would have the broker do nothing else.
MAX_WORK: Final = 2_000_000

_WORD: Final = sum(1 << code for code in range(128) if chr(code).isalnum() or code == ord("_"))


class _Split(NamedTuple):
    targets: tuple[int, ...]


class _Take(NamedTuple):
    characters: int
    target: int


class _Assert(NamedTuple):
    kind: AssertionKind
    target: int


#: Instruction 0: the expression has matched.
_MATCH: Final = 0

_State = tuple[frozenset[int], bool, bool]


class Regex:
    """A compiled expression; RegexError says what is wrong with it."""

    def __init__(self, pattern: str) -> None:
        self._program: list[_Split | _Take | _Assert | None] = [None]
        if len(pattern) > MAX_LENGTH:
            raise RegexError("the expression is too long")
        try:
            begin = self._compile(parse(pattern), _MATCH)
        except RecursionError:
            raise RegexError("too many parentheses within one another") from None
        self._begin: _State = frozenset({begin}), True, False
        #: Characters that no instruction tells apart are taken for the first of them: fewer transitions to find out.
        self._alike = self._characters_alike()
        self._next: dict[tuple[_State, str], _State] = {}
        self._accepts: dict[_State, bool] = {}
        self._work = 0

    def matches(self, text: str) -> bool:
        """Whether the expression matches the whole text. RegexError when it has taken too much work to find out."""
        state = self._begin
        transitions = self._next
        for character in text.translate(self._alike):
            following = transitions.get((state, character))
            if following is None:
                following = self._step(state, character)
            if not following[0]:
                return False
            state = following
        accepts = self._accepts.get(state)
        if accepts is None:
            accepts = self._accepts[state] = _MATCH in self._reached(state, None)
        return accepts

    def _step(self, state: _State, character: str) -> _State:
        if len(self._next) > MAX_STATES:
            self._next.clear()
            self._accepts.clear()
        taken = set()
        code = min(ord(character), 128)
        reached = self._reached(state, code)
        self._work += len(reached)
        if self._work > MAX_WORK:
            raise RegexError("it takes too long to match")
        for index in reached:
            instruction = self._program[index]
            if isinstance(instruction, _Take) and instruction.characters >> code & 1:
                taken.add(instruction.target)
        following = frozenset(taken), False, bool(_WORD >> code & 1)
        self._next[state, character] = following
        return following

    def _reached(self, state: _State, code: int | None) -> set[int]:
        """The instructions reached without taking a character, before the character of that code or the end."""
        indexes, at_begin, after_word = state
        before_word = code is not None and bool(_WORD >> code & 1)
        holds = {
            AssertionKind.BEGIN: at_begin,
            AssertionKind.END: code is None,
            AssertionKind.WORD_BOUNDARY: after_word != before_word,
            AssertionKind.NO_WORD_BOUNDARY: after_word == before_word,
        }
        reached: set[int] = set()
        waiting = list(indexes)
        while waiting:
            index = waiting.pop()
            if index in reached:
                continue
            reached.add(index)
            instruction = self._program[index]
            if isinstance(instruction, _Split):
                waiting += instruction.targets
            elif isinstance(instruction, _Assert) and holds[instruction.kind]:
                waiting.append(instruction.target)
        return reached

    def _characters_alike(self) -> dict[int, int]:
        sets = {instruction.characters for instruction in self._program if isinstance(instruction, _Take)} | {_WORD}
        first: dict[tuple[int, ...], int] = {}
        return {code: first.setdefault(tuple(each >> code & 1 for each in sets), code) for code in range(128)}

    # -- from syntax to instructions, last part first: each is given where to go on

    def _compile(self, node: Node, target: int) -> int:
        match node:
            case Characters(characters):
                return self._emit(_Take(characters, target))
            case Assertion(kind):
                return self._emit(_Assert(kind, target))
            case Sequence(parts):
                for part in reversed(parts):
                    target = self._compile(part, target)
                return target
            case Alternation(choices):
                return self._emit(_Split(tuple(self._compile(choice, target) for choice in choices)))
            case Repetition(part, least, most):
                return self._compile_repetition(part, least, most, target)

    def _compile_repetition(self, part: Node, least: int, most: int | None, target: int) -> int:
        if most is None:
            loop = self._emit(_Split((target,)))
            self._program[loop] = _Split((self._compile(part, loop), target))
            target = loop
        else:
            end = target
            for _ in range(most - least):
                target = self._emit(_Split((self._compile(part, target), end)))
        for _ in range(least):
            entry = self._compile(part, target)
            if entry == target:
                # Nothing, any number of times, is nothing: counting it out could take for ever.
                break
            target = entry
        return target

    def _emit(self, instruction: _Split | _Take | _Assert) -> int:
        if len(self._program) >= MAX_INSTRUCTIONS:
            raise RegexError("the expression is too large")
        self._program.append(instruction)
        return len(self._program) - 1

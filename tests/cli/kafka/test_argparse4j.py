"""Options and sub-commands as argparse4j reads them."""

from __future__ import annotations

import pytest

from ottla.cli.kafka.argparse4j import INTEGER, ArgumentError, ArgumentParser, HelpShown


def parser() -> ArgumentParser:
    made = ArgumentParser("kafka-thing", default_help=True, description="Does things.")
    commands = made.add_subparsers(dest="command")
    one = commands.add_parser("first-thing", help="The first.")
    group = one.add_mutually_exclusive_group(required=True)
    group.add_argument("--server", "-b", help="Where.")
    group.add_argument("--controller", "-C", help="Or where.")
    one.add_argument("--id", "-i", type=INTEGER, required=True, help="Which.")
    one.add_argument("--all", action="store_true", help="Everything.")
    one.add_argument("--feature", action="append")
    one.add_argument("--many", nargs="+")
    two = commands.add_parser("second", help="The second.")
    two.add_argument("name")
    two.add_argument("rest", nargs="*")
    return made


def test_a_command_with_its_options() -> None:
    values = parser().parse(
        ["first-thing", "-b", "a:1", "--id=3", "--feature", "x", "--feature", "y", "--many", "1", "2"]
    )
    assert values["command"] == "first-thing"
    assert (values["server"], values["controller"], values["id"], values["all"]) == ("a:1", None, 3, False)
    assert (values["feature"], values["many"]) == (["x", "y"], ["1", "2"])
    assert parser().parse(["second", "a", "b", "c"]) == {"command": "second", "name": "a", "rest": ["b", "c"]}


def test_beginnings_are_enough() -> None:
    values = parser().parse(["first", "--serv", "a:1", "-i3", "--al"])
    assert (values["command"], values["server"], values["id"], values["all"]) == ("first-thing", "a:1", 3, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "too few arguments"),
        (["third"], "invalid choice: 'third' (choose from 'first-thing', 'second')"),
        (["first-thing", "--id", "1"], "one of the arguments --server/-b --controller/-C is required"),
        (["first-thing", "-b", "a"], "argument --id/-i is required"),
        (["first-thing", "-b", "a", "-C", "b"], "argument --controller/-C: not allowed with argument --server/-b"),
        (
            ["first-thing", "-b", "a", "--id", "x"],
            "argument --id/-i: could not convert 'x' to Integer (For input string: \"x\")",
        ),
        (["first-thing", "-b"], "argument --server/-b: expected one argument"),
        (["first-thing", "--all=1"], "argument --all: ignore implicit argument '1'"),
        (["first-thing", "--nonsense"], "unrecognized arguments: '--nonsense'"),
        (["first-thing", "-b", "a", "more", "words"], "unrecognized arguments: 'more words'"),
        (["second"], "too few arguments"),
    ],
)
def test_errors(words: list[str], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parser().parse(words)
    assert str(caught.value) == message


def test_errors_are_reported_with_usage_and_near_misses(capsys: pytest.CaptureFixture[str]) -> None:
    made = parser()
    with pytest.raises(ArgumentError) as caught:
        made.parse(["secnd"])
    made.report(caught.value)
    assert capsys.readouterr().err == (
        "usage: kafka-thing [-h] {first-thing,second} ...\n"
        "kafka-thing: error: invalid  choice:  'secnd'  (choose  from 'first-thing',\n"
        "'second')\n"
        "\nDid you mean:\n\tsecond\n"
    )


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HelpShown):
        parser().parse(["--help"])
    assert capsys.readouterr().out == (
        "usage: kafka-thing [-h] {first-thing,second} ...\n"
        "\nDoes things.\n"
        "\npositional arguments:\n"
        "  {first-thing,second}\n"
        "    first-thing          The first.\n"
        "    second               The second.\n"
        "\noptional arguments:\n"
        "  -h, --help             show this help message and exit\n"
    )


def test_a_commands_help_names_what_excludes_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HelpShown):
        parser().parse(["first-thing", "-h"])
    usage = " ".join(capsys.readouterr().out.partition("\n\n")[0].split())
    assert usage == (
        "usage: kafka-thing first-thing [-h] --id ID [--all] [--feature FEATURE] [--many MANY [MANY ...]] "
        "(--server SERVER | --controller CONTROLLER)"
    )

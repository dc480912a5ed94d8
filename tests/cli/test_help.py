"""What ``--help`` says of each command, on a terminal of 80 columns."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from vse.cli.helptext import first_sentence, flowing
from vse.cli.main import app

COLUMNS = 80
ROOT: Any = get_command(app)


def commands(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk over all commands and groups, each with the words that lead to it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = [pytest.param(*one, id=" ".join(["vse", *one[0]])) for one in commands()]
LEAVES = [one for one in ALL if not hasattr(one.values[1], "commands")]


def shown(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", COLUMNS)
    ROOT.main([*path, "--help"], prog_name="vse", standalone_mode=False)
    return capsys.readouterr().out


def examples(command: Any) -> list[str]:
    """Return the lines that are to be typed."""
    return [
        line.strip() for line in (command.help or "").partition("Example")[2].splitlines() if line[:2] == "  "
    ]


def words_of(example: str) -> list[str]:
    """Return the words after ``vse`` as the shell gives them."""
    words = shlex.split(re.sub(r"\s+\(\w+\)$", "", example))
    given = itertools.takewhile(lambda word: word not in ("|", ">"), words[words.index("vse") + 1 :])
    return [word.replace("~/", f"{Path.home()}/") for word in given]


@pytest.mark.parametrize(("path", "command"), ALL)
def test_help_fits_and_names_no_types_of_python(path, command, monkeypatch, capsys):
    told = shown(path, monkeypatch, capsys)
    lines = [line.rstrip() for line in told.splitlines()]
    assert max(map(len, lines)) <= COLUMNS
    assert not re.findall(r"<(?:bool|str|int|float|list|path|dir|file)\b.*>|{.*}", told)
    for example in examples(command):
        assert f"   {example}" in lines, "an example that is broken in two cannot be copied"


@pytest.mark.parametrize(("path", "command"), LEAVES)
def test_every_command_shows_an_example_that_it_understands(path, command, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my-root-files").mkdir()
    assert examples(command)
    for example in examples(command):
        words = words_of(example)
        at, called = ROOT.make_context("vse", words, resilient_parsing=True), ROOT
        rest = [*at._protected_args, *at.args]
        while hasattr(called, "commands") and rest and rest[0] in called.commands:
            called, rest = called.commands[rest[0]], rest[1:]
        assert called is command, f"{example} is an example of another command than {' '.join(path)}"
        called.make_context(path[-1], list(rest), parent=at)


def test_prose_flows_and_examples_stand():
    text = """Do a thing. And
    another.

    More of it,
    on two lines.

    Examples:

      vse a 'b;c' --long

      vse d
    """
    assert flowing(text).split("\n") == [
        *("Do a thing. And another.", "", "", "", "More of it, on two lines.", ""),
        *("Examples:", "", "  vse a 'b;c' --long", "  vse d"),
    ]
    assert first_sentence(text) == "Do a thing."
    assert first_sentence("Look at vse.toml (as of 2.0), and at\n  more; no end") == (
        "Look at vse.toml (as of 2.0), and at more; no end"
    )

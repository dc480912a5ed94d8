"""How every command's ``--help`` reads: flowing prose, examples as they are typed, words for values."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    _Base = TyperCommand
else:
    _Base = object

_FIRST_SENTENCE = re.compile(r".*?\.(?=\s|$)", re.DOTALL)


def flowing(text: str) -> str:
    """Return a docstring whose prose may be broken anywhere; its examples (indented) stand one a line."""
    told: list[str] = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if not paragraph.startswith(" "):
            told.append(" ".join(paragraph.split("\n")))
        elif told and told[-1].startswith(" "):
            told[-1] += "\n" + paragraph
        else:
            told.append(paragraph)
    # the empty paragraph: of what comes after the first, Typer takes the indentation away if all but a first
    # line is indented, as where there are only examples
    return "\n\n".join([told[0], "", *told[1:]])


def first_sentence(text: str) -> str:
    """Return what a list of commands says of one."""
    prose = " ".join(inspect.cleandoc(text).split("\n\n")[0].split("\n"))
    found = _FIRST_SENTENCE.match(prose)
    return found[0] if found else prose


class _Reading(_Base):
    """Typer's display of a command, but for the types of Python."""

    def __init__(self, *words: Any, **more: Any) -> None:
        if told := more.get("help"):
            more |= {"help": flowing(told), "short_help": more.get("short_help") or first_sentence(told)}
        super().__init__(*words, **more)

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)
        for one in parameters:
            _in_words(one)
        return parameters

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = [self.options_metavar or ""]
        for one in self.get_params(ctx):
            if one.param_type_name == "argument":
                name = one.metavar if one.required else f"[{one.metavar}]"
                pieces.append(name if one.nargs == 1 else f"{name}...")
        return pieces


class _Command(_Reading, TyperCommand):
    """A command."""


class _Group(_Reading, TyperGroup):
    """Commands under a name."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), self.subcommand_metavar]


def _in_words(parameter: Any) -> None:
    if parameter.param_type_name == "argument":
        parameter.metavar = parameter.metavar or parameter.name.upper()
        parameter.display_type_rich = lambda ctx: None
    elif parameter.is_flag:
        parameter.metavar = ""


class Commands(typer.Typer):
    """Commands whose help is shown as above."""

    def __init__(self, *, no_args_is_help: bool = True, **more: Any) -> None:
        super().__init__(cls=_Group, no_args_is_help=no_args_is_help, **more)

    def command(self, name: str | None = None, **more: Any) -> Callable[[Any], Any]:
        return super().command(name, cls=_Command, **more)

"""Help in the language that commands speak, and click's own words around it.

The commands are written in English, as click has them: docstrings and `help=`. What is shown is
translated paragraph by paragraph as it is written out, so that English goes through click alone.
"""

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import click

from imgsync.entrypoints.translation import gettext, marked, spoken, translated

_COMMANDS = marked("Commands")
_EXTRA = re.compile(r"(?P<help>.*?)(?:^|  )\[(?P<extra>[^\[\]]*)\]", re.DOTALL)
_METAVAR = re.compile(r"(?<![\w-])[A-Z][A-Z_]+(?: RANGE)?(?![\w-])")
_LISTED = re.compile(r"(?P<before>\s*(?:\d+\s+)?)(?P<text>.*)", re.DOTALL)


def paragraphs(text: str) -> Iterator[str]:
    """What a help is translated by: paragraphs, each as one line. One that click is told to leave
    as it is (by ``\\b``) comes line by line, without what its lines begin with."""
    for part in inspect.cleandoc(text).partition("\f")[0].split("\n\n"):
        if part.startswith("\b\n"):
            yield from (_LISTED.fullmatch(line)["text"] for line in part.split("\n")[1:])  # type: ignore[index]
        else:
            yield " ".join(part.split())


def metavars(text: str) -> Iterator[str]:
    """Words in capitals, which stand for what is to be given."""
    return (found[0] for found in _METAVAR.finditer(text))


def speaks(command: click.Command) -> click.Command:
    """The command itself, whose help, with those of all below it, is in the language that commands
    speak from now on."""
    command.context_class = HelpContext
    if isinstance(command, click.Group):
        for one in command.commands.values():
            speaks(one)
    return command


class HelpContext(click.Context):
    """Writes help in the language that commands speak."""

    def make_formatter(self) -> click.HelpFormatter:
        if spoken() == "en":
            return super().make_formatter()
        return _Formatter(self, width=self.terminal_width, max_width=self.max_content_width)


class _Formatter(click.HelpFormatter):
    def __init__(self, ctx: click.Context, **sizes: Any) -> None:
        super().__init__(**sizes)
        self._ctx = ctx
        self._heading = ""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, _with_metavars(args), f"{gettext('Usage:')} ")

    def write_heading(self, heading: str) -> None:
        self._heading = heading
        super().write_heading(gettext(heading))

    def write_text(self, text: str) -> None:
        super().write_text("\n\n".join(map(_paragraph, text.split("\n\n"))))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        if self._heading == _COMMANDS:
            rows = list(rows)
            room = self.width - 6 - max(len(name) for name, _ in rows)
            told = [(name, self._first_sentence(name, said, room)) for name, said in rows]
        else:
            told = [(_with_metavars(name), _of_option(said)) for name, said in rows]
        super().write_dl(told, col_max, col_spacing)

    def _first_sentence(self, name: str, said: str, room: int) -> str:
        """Of a command's help, cut to the room there is; `said` is the English one."""
        group = self._ctx.command
        command = group.get_command(self._ctx, name) if isinstance(group, click.Group) else None
        if command is None or not command.help:
            return said
        first = next(paragraphs(command.help))
        return click.Command(name, help=gettext(first)).get_short_help_str(room)


def _paragraph(text: str) -> str:
    if not text.startswith("\b\n"):
        whole = " ".join(text.split())
        return gettext(whole)
    lines = [found for line in text.split("\n")[1:] if (found := _LISTED.fullmatch(line))]
    return "\n".join(["\b", *(one["before"] + gettext(one["text"]) for one in lines)])


def _of_option(said: str) -> str:
    found = _EXTRA.fullmatch(said)
    if found is None:
        return gettext(said)
    extra = "; ".join(translated(one) for one in found["extra"].split("; "))
    told = gettext(found["help"]) if found["help"] else ""
    return f"{told}  [{extra}]" if told else f"[{extra}]"


def _with_metavars(text: str) -> str:
    return _METAVAR.sub(lambda found: gettext(found[0]), text)

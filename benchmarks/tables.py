"""The answer to one question, as text for a terminal or for Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

NONE = "–"
"""A cell where there is no such number."""


@dataclass(slots=True)
class Answer:
    """`columns` name what is measured with its unit; `notes` tell how, and what a limit is."""

    question: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: Sequence[str] = ()

    def add(self, *cells: str) -> None:
        """Adds a row; ValueError where it does not fit the columns."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)

    def find(self, column: str, where: Mapping[str, str]) -> list[str]:
        """The cells of a column in the rows of which each column that `where` names matches its
        pattern; columns are named by patterns too. ValueError where a name fits none or several."""
        wanted = {self._at(name): pattern for name, pattern in where.items()}
        at = self._at(column)
        return [
            row[at]
            for row in self.rows
            if all(fnmatchcase(row[n], pattern) for n, pattern in wanted.items())
        ]

    def cell(self, column: str, where: Mapping[str, str]) -> str:
        """That of the one row which `find` finds; ValueError where it finds none or several."""
        (cell,) = self.find(column, where)
        return cell

    def _at(self, name: str) -> int:
        (at,) = (n for n, one in enumerate(self.columns) if fnmatchcase(one, name))
        return at

    def markdown(self) -> str:
        """A heading, the table, and the notes as a list."""
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"### {self.question}", "", self.table(), *notes, ""])

    def table(self) -> str:
        """That of `markdown` alone."""
        bars = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = (f"| {' | '.join(cells)} |\n" for cells in (self.columns, bars, *self.rows))
        return "".join(lines)

    def show(self, *, markdown: bool) -> None:
        """Prints it."""
        if markdown:
            print(self.markdown(), flush=True)
            return
        table = Table(*self.columns, box=SIMPLE, padding=0, show_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for cells in self.rows:
            table.add_row(*cells)
        # A table that is cut for a narrow terminal, or for none, would not tell its numbers.
        width = max(100, Console(width=1000).measure(table).maximum)
        console = Console(markup=False, highlight=False, width=width)
        console.print(self.question)
        console.print(table)
        for note in self.notes:
            console.print(f"* {note}")
        console.print()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Least, median and most of several runs; the value alone where there is one run."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    shown = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:,.{digits}f}" for value in shown)


def ratio(measured: float, limit: float) -> str:
    """How often the limit it is."""
    return NONE if not limit else f"{measured / limit:.2f}"

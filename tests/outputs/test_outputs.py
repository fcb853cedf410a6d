"""What the documents show of printed output is what is printed now."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from benchmarks.__main__ import main as benchmark

from tests.outputs import blocks as places
from tests.outputs.blocks import ROOT, blocks, documents, elided, rewrite, stable, words
from tests.outputs.prints import QUICK, bench, help_text, samples, soak

ELSEWHERE = {"demo", "demo-thirty"}
"""Held against the documents where the demonstration is tested, as it takes its time."""

_PRINTED = re.compile(r"<!-- printed: .*?<!-- end of printed -->", re.DOTALL)
TYPED = re.compile(r"imgsync|make |pip|python|~/|IMGSYNC_|curl |docker |echo |export |sudo |# ")
"""How a line begins that a reader is to type."""


@pytest.mark.parametrize("make", [help_text, soak, bench], ids=["help", "soak", "bench"])
def test_a_block_is_what_is_printed_now(make: Callable[[], Mapping[str, str]]) -> None:
    hold(make())


@pytest.mark.process
@pytest.mark.database
@pytest.mark.slow
def test_samples_are_what_the_commands_print_now() -> None:
    hold(samples())


def hold(made: Mapping[str, str]) -> None:
    """Each of these stands in a document, and says what was made."""
    there = [one for one in blocks() if one.name in made]
    assert {one.name for one in there} == made.keys()
    for one in there:
        assert stable(one.text) == stable(made[one.name]), f"{one.document}: make outputs"


def test_each_block_has_someone_who_makes_it() -> None:
    made = {"help", "doctor", "queue-list", "soak", "soak-faults", "bench", "bench-tables"}
    assert {one.name for one in blocks()} == {*made, "checks", *ELSEWHERE}
    assert len(QUICK) == 4


def test_the_checks_of_the_readme_are_those_of_the_project() -> None:
    (block,) = (one for one in blocks() if one.name == "checks")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = len(project["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {contracts} kept, 0 broken." in block.text
    assert "All checks passed!" in block.text
    assert re.search(r"Success: no issues found in \d+ source files", block.text)


def test_the_parts_of_the_benchmark_are_those_that_it_has() -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark(["nonsense"])
    parts = str(ended.value).partition("there are ")[2].split(", ")
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| Part | Question |")[2]
    listed = re.findall(r"^\| `(\w+)`", table.partition("\n\n")[0], re.MULTILINE)
    assert listed == parts


def test_what_a_document_shows_without_a_word_of_its_language_is_typed_or_made() -> None:
    """A fence without a language is commands, or stands where `make outputs` puts it."""
    astray = []
    for path in documents():
        if path.is_relative_to(ROOT / "docs" / "adr"):
            continue
        lines = _PRINTED.sub("", path.read_text(encoding="utf-8")).splitlines()
        fences = [at for at, line in enumerate(lines) if line.lstrip().startswith("```")]
        for start, end in zip(fences[::2], fences[1::2], strict=True):
            first = lines[start + 1].lstrip()
            if lines[start].strip() == "```" and start + 1 < end and not TYPED.match(first):
                astray.append(f"{path.relative_to(ROOT)}: {first}")
    assert astray == []


def test_what_varies_is_left_out_and_nothing_else() -> None:
    one = "Task 1 (a.jpg): scaled from 11.9 to 9.5 MB\nRun 20261128-115157-9b45.\nfirst   3.2 s  52"
    other = "Task 1 (a.jpg): scaled from 12.0 to 10 MB\nRun 20270101-000000-0000.\nfirst 13.0 s 52"
    assert stable(one) == stable(other)
    for wrong in ("Task 2", "b.jpg", "53"):
        right = {"Task 2": "Task 1", "b.jpg": "a.jpg", "53": "52"}[wrong]
        assert stable(one) != stable(other.replace(right, wrong))
    assert words(one) == words(other.replace("52", "1"))


def test_lines_that_are_alike_are_left_out() -> None:
    lines = "\n".join(["head", *(f"row {n}" for n in range(9)), "foot", "row x"])
    assert elided(lines, [r"^row \d"], most=2) == "head\nrow 0\nrow 1\n…\nrow 8\nfoot\nrow x"
    assert elided(lines, [r"^row \d"], most=0) == "head\n…\nfoot\nrow x"
    assert elided("row 1\nrow 2\nrow 3", [r"^row"], most=2) == "row 1\nrow 2\nrow 3"


def test_a_block_is_rewritten_where_more_than_what_varies_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def block(text: str) -> str:
        return f"Before.\n\n<!-- printed: x -->\n{text}<!-- end of printed -->\n\nAfter.\n"

    document = tmp_path / "page.md"
    document.write_text(block("took 1.5 s\n"))
    monkeypatch.setattr(places, "documents", lambda: [document])
    assert rewrite({"x": "took 2.5 s\n"}) == []
    assert document.read_text() == block("took 1.5 s\n")
    assert len(rewrite({"x": "took 2.5 s\n"}, all_of_them=True)) == 1
    (changed,) = rewrite({"x": "lasted 2.5 s\n"})
    assert (changed.name, changed.text) == ("x", "lasted 2.5 s\n")
    assert document.read_text() == block("lasted 2.5 s\n")
    assert rewrite({"y": "other\n"}) == []

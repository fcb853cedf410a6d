"""What the documents say of one another."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "packages" / "moysklad-emulator" / "README.md",
    *(
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if not {"_build", "reference"} & set(path.relative_to(ROOT / "docs").parts)
    ),
]


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub and others make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    astray = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            astray.append(link)
    assert astray == []


def test_the_decisions_are_listed_by_number_and_title() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    titles = [file.read_text(encoding="utf-8").partition("\n")[0] for file in ADRS]
    listed = re.findall(r"^\| \[(\d{4})\]\((.*?)\) \| (.*) \|$", index, re.MULTILINE)
    assert [(f"# {number} {title}", file) for number, file, title in listed] == [
        (title, file.name) for title, file in zip(titles, ADRS, strict=True)
    ]


@pytest.mark.parametrize("file", ADRS, ids=lambda path: path.stem)
def test_a_decision_tells_context_and_what_was_rejected(file: Path) -> None:
    headings = re.findall(r"^## (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert {"Context", "Decision", "Rejected"} <= set(headings)


def test_the_files_of_the_path_of_a_task_are_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    development = readme.partition("## Development")[2]
    rooms = "domain|application|adapters|plugins|entrypoints"
    named = re.findall(rf"`((?:{rooms})/[\w/]+(?:\.py)?)`", development)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "src" / "imgsync" / name).exists()] == []


@pytest.mark.process
@pytest.mark.parametrize("end", ["", "\n"])
def test_the_loop_over_a_table_of_franchises_reads_its_last_line(end: str, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "thirty-children.md").read_text(encoding="utf-8")
    found = re.search(r"^while .*?^done < franchises\.tsv$", text, re.MULTILINE | re.DOTALL)
    assert found
    (tmp_path / "franchises.tsv").write_text(f"Omsk\tone\nNew Perm\ttwo{end}")
    instead = 'imgsync() { echo "$IMGSYNC_TOKEN|$*"; }'
    said = subprocess.run(
        ["bash", "-c", f"{instead}\n{found[0]}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout == "one|account add --name Omsk\ntwo|account add --name New Perm\n"

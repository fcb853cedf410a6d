"""What parts of the benchmark have found, kept in a file, of which documents are made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import Answer


@dataclass(frozen=True, slots=True)
class Part:
    """`machine`: where its answers are from."""

    machine: str
    answers: Sequence[Answer]


def keep(path: Path, part: str, machine: str, answers: Sequence[Answer]) -> None:
    """In place of what the file has of this part; what it has of others stays."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[part] = {"machine": machine, "answers": [_told(one) for one in answers]}
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def kept(path: Path) -> Mapping[str, Part]:
    """By the name of the part."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Part(told["machine"], [_answer(one) for one in told["answers"]])
        for name, told in found.items()
    }


def _told(answer: Answer) -> dict[str, object]:
    return {
        "question": answer.question,
        "columns": answer.columns,
        "rows": answer.rows,
        "notes": answer.notes,
    }


def _answer(told: Mapping[str, list[list[str]]]) -> Answer:
    return Answer(
        str(told["question"]),
        tuple(map(str, told["columns"])),
        [tuple(row) for row in told["rows"]],
        tuple(map(str, told["notes"])),
    )

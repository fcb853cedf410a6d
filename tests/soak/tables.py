"""What campaigns have come to, as tables and as a file that keeps it."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from moysklad_emulator import pairwise_dialects
from tests.soak.campaign import Found, Held

COLUMNS = (
    "Database and dialect",
    "Rounds",
    "Faults",
    "Entities changed",
    "Images sent",
    "Sent twice: quiet rounds; others",
    "MB of a worker: first; last",
    "Seconds",
    "Violations",
)


@dataclass(frozen=True, slots=True)
class Campaign:
    """`legs` by dialect, one after another; `long`, beside them from the first to the last."""

    legs: Sequence[Found]
    long: Found | None = None

    @property
    def all(self) -> list[Found]:
        return [*self.legs, *((self.long,) if self.long else ())]

    @property
    def violations(self) -> list[str]:
        return [told for one in self.all for told in one.violations]

    def save(self, path: Path) -> None:
        told = {
            "legs": [_told(one) for one in self.legs],
            "long": _told(self.long) if self.long else None,
        }
        path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Campaign":
        told = json.loads(path.read_text(encoding="utf-8"))
        legs = [_found(one) for one in told["legs"]]
        return cls(legs, _found(told["long"]) if told["long"] else None)


def row(one: Found) -> list[str]:
    """Of one leg."""
    first, last = (one.held[0], one.held[-1]) if one.held else (Held(0, 0, 0), Held(0, 0, 0))
    return [
        one.name,
        str(one.rounds),
        f"{one.faults.total():,}",
        f"{one.entities:,}",
        f"{one.images:,}",
        f"{one.quiet_doubles}; {one.doubles}",
        f"{first.megabytes:.0f}; {last.megabytes:.0f}",
        f"{one.seconds:.0f}",
        str(len(one.violations)),
    ]


def leg_table(legs: Iterable[Found]) -> str:
    """A row for each leg."""
    return markdown(COLUMNS, map(row, legs))


def _told_legs(number: int) -> str:
    dialects = len(pairwise_dialects())
    if number > dialects:
        return f"{number} legs of {dialects} dialects in turn"
    return f"{number} legs, each of another dialect" if number > 1 else "1 leg"


def summary(campaign: Campaign) -> str:
    """Markdown: a row for each database and for the long leg, and the long leg's memory."""
    rows = []
    for database in ("SQLite", "PostgreSQL"):
        legs = [one for one in campaign.legs if one.name.startswith(database)]
        if legs:
            rows.append([f"{database}, {_told_legs(len(legs))}", *_sums(legs)])
    if campaign.long:
        rows.append([campaign.long.name, *_sums([campaign.long])])
    columns = (
        "Database",
        "Rounds",
        "Faults",
        "Entities changed",
        "Images sent",
        "Sent twice: quiet rounds; others",
        "Leases that came too late in quiet rounds",
        "Minutes",
        "Violations",
    )
    parts = [markdown(columns, rows)]
    if campaign.long and (spans := campaign.long.spans()):
        minutes = campaign.long.seconds / 60
        ends = [f"to {minutes * (n + 1) / len(spans):.0f}" for n in range(len(spans))]
        held = [[_processes(campaign.long), *(f"{one:.0f}" for one in spans)]]
        parts.append(markdown(("MB of its worker, by minute", *ends), held))
    return "\n\n".join(parts)


def told_faults(campaign: Campaign) -> str:
    """How often each kind was played."""
    faults: Counter[str] = Counter()
    for one in campaign.all:
        faults += one.faults
    return ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items()))


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(one) + " |" for one in rows])


def _sums(legs: Sequence[Found]) -> list[str]:
    return [
        f"{sum(one.rounds for one in legs):,}",
        f"{sum(one.faults.total() for one in legs):,}",
        f"{sum(one.entities for one in legs):,}",
        f"{sum(one.images for one in legs):,}",
        f"{sum(one.quiet_doubles for one in legs)}; {sum(one.doubles for one in legs)}",
        str(sum(one.late_leases for one in legs)),
        f"{sum(one.seconds for one in legs) / 60:.0f}",
        str(sum(len(one.violations) for one in legs)),
    ]


def _processes(one: Found) -> str:
    return "one process throughout" if one.lives == 1 else f"{one.lives} processes in turn"


def _told(one: Found) -> dict[str, Any]:
    lives = list(dict.fromkeys(held.process for held in one.held))
    held = [
        f"{now.seconds:.0f} {now.megabytes:.1f} {lives.index(now.process) + 1}" for now in one.held
    ]
    told = {each.name: getattr(one, each.name) for each in fields(one)}
    return told | {"faults": dict(sorted(one.faults.items())), "held": held}


def _found(told: dict[str, Any]) -> Found:
    held = []
    for now in told["held"]:
        seconds, megabytes, process = now.split()
        held.append(Held(float(seconds), float(megabytes), int(process)))
    return Found(**told | {"faults": Counter(told["faults"]), "held": held})

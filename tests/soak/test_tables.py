"""What a campaign has found is kept, and told in tables."""

from collections import Counter
from pathlib import Path

from moysklad_emulator import pairwise_dialects
from tests.soak.campaign import Found, Held, late_tasks
from tests.soak.tables import Campaign, leg_table, summary, told_faults


def found(name: str, *, megabytes: list[float], violations: int = 0) -> Found:
    held = [Held(60.0 * n, one, 4711) for n, one in enumerate(megabytes, 1)]
    return Found(
        name,
        rounds=len(held),
        entities=1000,
        images=2000,
        seconds=60.0 * len(held),
        faults=Counter({"kill -9": 2, "api": 1}),
        doubles=5,
        quiet_doubles=1,
        late_leases=2,
        held=held,
        violations=["round 1: not equal"] * violations,
    )


CAMPAIGN = Campaign(
    [
        found("SQLite, as documented", megabytes=[80, 90]),
        found("SQLite, 3 switches otherwise", megabytes=[80], violations=1),
        found("PostgreSQL, as documented", megabytes=[81]),
    ],
    found("PostgreSQL, one leg throughout", megabytes=[80, 100, 99, 100, 101, 100, 102] * 3),
)


def test_a_campaign_is_kept_whole_but_for_the_ids_of_processes(tmp_path: Path) -> None:
    CAMPAIGN.save(tmp_path / "found.json")
    kept = Campaign.load(tmp_path / "found.json")
    assert kept.violations == CAMPAIGN.violations == ["round 1: not equal"]
    assert summary(kept) == summary(CAMPAIGN)
    assert leg_table(kept.all) == leg_table(CAMPAIGN.all)
    assert told_faults(kept) == "api 4, kill -9 8"
    assert "4711" not in (tmp_path / "found.json").read_text()
    Campaign([]).save(tmp_path / "none.json")
    assert Campaign.load(tmp_path / "none.json").all == []


def test_the_summary_has_a_row_for_each_database_and_the_memory_of_the_long_leg() -> None:
    lines = summary(CAMPAIGN).splitlines()
    assert (
        lines[2]
        == "| SQLite, 2 legs, each of another dialect | 3 | 6 | 2,000 | 4,000 | 2; 10 | 4 | 3 | 1 |"
    )
    assert lines[3] == "| PostgreSQL, 1 leg | 1 | 3 | 1,000 | 2,000 | 1; 5 | 2 | 1 | 0 |"
    assert lines[4].startswith("| PostgreSQL, one leg throughout | 21 |")
    many = summary(Campaign([found("SQLite, as documented", megabytes=[80])] * 40)).splitlines()
    assert many[2].startswith(f"| SQLite, 40 legs of {len(pairwise_dialects())} dialects in turn |")
    assert lines[6].startswith("| MB of its worker, by minute | to 4 | to 7 |")
    assert lines[8].startswith("| one process throughout | ")


def test_memory_is_told_by_the_sixth_of_the_time() -> None:
    (one,) = [CAMPAIGN.long]
    assert one is not None
    assert one.lives == 1
    assert len(one.spans()) == 6
    assert max(one.spans()[1:]) - min(one.spans()[1:]) < 5
    assert found("short", megabytes=[80, 90]).spans() == [80, 90]


def test_tasks_whose_lease_came_too_late_are_read_from_the_log() -> None:
    told = """\
12:27:09 WARNING work: Task 7 (product 'Lamp 8' of 'c'): the lease was lost, and its work is \
dropped: another worker holds the task now
12:27:10 ERROR worker: Task 8 (product 'Lamp'), attempt 1: retrying: the write was broken off, as \
it would have outlasted the lease of its task
12:27:11 WARNING work: task 9: the lease was lost, and its work is dropped: the lease \
cannot be confirmed: the queue does not answer
12:27:12 ERROR worker: Task 10 (product 'Lamp'), attempt 1: retrying: 503 Service Unavailable
12:27:13 ERROR moysklad: the lease of nobody
"""
    assert late_tasks(told) == {7, 8, 9}

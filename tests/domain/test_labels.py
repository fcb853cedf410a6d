"""The one form in which messages name what they are about."""

import pytest

from imgsync.domain.labels import entity_label, label, lines_by_children
from imgsync.domain.tasks import TaskId

LAMP = "product 'Lamp' (code 00017)"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("product", "Lamp", "00017", "p1"), LAMP),
        (("product", "Lamp", None, "p1"), "product 'Lamp'"),
        (("product", "", "00017", "p1"), "product p1 (code 00017)"),
        (("product", "", "00017"), ""),
        (("", "Lamp", "00017", "p1"), ""),
    ],
)
def test_an_entity_is_named_as_far_as_it_is_known(given: tuple[str, ...], told: str) -> None:
    assert entity_label(*given) == told


@pytest.mark.parametrize(
    ("child", "entity", "task", "told"),
    [
        ("Omsk", LAMP, 7, f"Omsk: {LAMP}, task 7"),
        ("Omsk", LAMP, None, f"Omsk: {LAMP}"),
        ("Omsk", "", "A-7", "Omsk: task A-7"),
        ("Omsk", "", None, "Omsk"),
        ("", LAMP, 7, f"{LAMP}, task 7"),
        ("", "", "A-7", "Task A-7"),
        ("", "", None, ""),
    ],
)
def test_a_label_goes_from_the_outside_in(
    child: str, entity: str, task: TaskId | None, told: str
) -> None:
    assert label(child, entity, task) == told


def test_lines_come_child_by_child_as_people_count() -> None:
    lines = ["Shop 10: b", "Shop 2: b", "Shop: z", "Shop 10: a", "Shop 2: a"]
    assert lines_by_children(lines) == [
        *("Shop: z", "Shop 2: b", "Shop 2: a", "Shop 10: b", "Shop 10: a"),
    ]

"""A lost database is measured with the images that are really there."""

from collections.abc import Iterator

import pytest
from benchmarks.adopt import measure
from benchmarks.catalogue import Catalogue

from benchmarks import adopt

SMALL = Catalogue(entities=3, images=2, image_bytes=5000, copied=True)


@pytest.mark.slow
@pytest.mark.parametrize("permanent_links", [True, False])
def test_a_new_database_beside_an_equal_child(permanent_links: bool) -> None:
    by_size, by_hash, none = measure(SMALL, permanent_links=permanent_links)
    asked = 0 if permanent_links else 6
    assert (by_size.tasks, by_size.uploaded, by_size.child.requests) == (0, 0, 1)
    assert by_size.main.downloaded_bytes + by_size.child.downloaded_bytes < 6 * 5000
    assert (by_hash.tasks, by_hash.uploaded) == (3, 0)
    assert by_hash.main.requests - by_size.main.requests == asked
    assert by_hash.main.downloaded_bytes > 6 * 5000
    assert by_hash.child.downloaded_bytes > 6 * 5000
    assert by_hash.child.uploaded_bytes < 6 * 5000
    assert (none.tasks, none.uploaded) == (3, 6)
    assert none.child.uploaded_bytes > 6 * 5000 * 4 // 3


def test_the_table_has_every_mode_with_and_without_permanent_links(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = adopt.Use(requests=5, downloaded_bytes=1_500_000, uploaded_bytes=20_000)

    def measured(catalogue: Catalogue, *, permanent_links: bool) -> Iterator[adopt.Adoption]:
        for mode in adopt.MODES:
            yield adopt.Adoption(mode, 3, 6, main=used, child=used, seconds=0.25)

    monkeypatch.setattr(adopt, "measure", measured)
    rows = adopt.answer(SMALL).rows
    assert [row[:2] for row in rows] == [
        (mode, links) for links in ("yes", "no") for mode in ("size", "hash", "none")
    ]
    assert {row[2:] for row in rows} == {("3", "6", "5", "5", "1.50", "1.50", "0.02", "0.2")}

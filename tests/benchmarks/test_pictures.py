"""What editing a photograph takes, and that it is a photograph."""

import io
import sys

import pytest
from benchmarks.photographs import jpeg, photograph
from PIL import Image

from benchmarks import pictures

pytestmark = pytest.mark.process


def test_a_photograph_is_as_large_as_a_camera_s_and_the_same_at_every_call() -> None:
    made = jpeg(photograph(2))
    width, height = Image.open(io.BytesIO(made)).size
    assert abs(width * height - 2_000_000) < 5000
    assert 0.35 < len(made) / (width * height) < 0.55
    assert jpeg(photograph(0.5)) == jpeg(photograph(0.5))


@pytest.mark.slow
def test_each_edit_is_measured_with_one_and_two_at_once() -> None:
    shown = pictures.answer(megapixels=(0.5,))
    assert [(row[0], row[4]) for row in shown.rows] == [
        (edit, str(count)) for edit in ("fit", "convert", "optimise") for count in (1, 2)
    ]
    for edit, _, given, made, _, milliseconds, peak, _, ratio in shown.rows:
        assert int(milliseconds.replace(",", "")) > 0
        assert float(made) > 0
        if edit == "fit":
            assert float(made) < float(given)
        if sys.platform == "linux":
            assert 10 < int(peak) < 500
            assert 0 < float(ratio) < 1

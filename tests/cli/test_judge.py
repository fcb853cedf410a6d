"""The judge of these tests sees a picture that is wrong while the queue says completed."""

import pytest

from moysklad_emulator.images import NewImage
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures


def test_the_judge_sees_a_picture_that_is_cut(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", pictures(2))
    ready.ok("sync", "--main", "main", "--child", "child")
    shop.judge()
    (first, content), second = shop.images(lamp)
    cut = [(first, content[:600]), second]
    shop.child.set_images(lamp, [NewImage.create(name, data) for name, data in cut])
    with pytest.raises(AssertionError, match=r"'completed' of 'Lamp', but its pictures differ"):
        shop.judge()
    shop.unjudged = "the child was changed behind imgsync's back"

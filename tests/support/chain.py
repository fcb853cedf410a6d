"""The chain of imgsync's own transformations, on an editor that counts, and more steps between."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.plugins import hookimpl, manager
from imgsync.plugins.manager import load_plugins
from imgsync.plugins.transforming import TransformChain
from tests.support.editor import SmallEditor


class Plugin:
    """One that transforms by a function of the content and the file name."""

    def __init__(self, function: Callable[[bytes, str], Any]) -> None:
        self._function = function

    @hookimpl
    def imgsync_transform_image(self, content: bytes, filename: str) -> Any:
        return self._function(content, filename)


def chain_of(editor: SmallEditor, **plugins: Any) -> TransformChain:
    """imgsync's own steps, and those of these plugins by name."""
    points = [
        SimpleNamespace(name=name, dist=None, load=lambda plugin=plugin: plugin)
        for name, plugin in plugins.items()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "entry_points", lambda **_: points)
        made = load_plugins(editor=lambda: editor, pictures=PillowCheck).transform
    assert isinstance(made, TransformChain)
    return made

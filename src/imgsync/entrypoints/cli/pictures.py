"""What `link` and `settings` have in common: the settings of a child's pictures."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from imgsync.domain.pictures import MAX_QUALITY, MIN_QUALITY, SMALLEST_SIDE, PictureSettings
from imgsync.entrypoints.translation import gettext

_T = TypeVar("_T", bound=Callable[..., Any])
_MOST_PIXELS = 100_000
_NONE = "none"


class _Number(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A whole number within bounds, or ``none``."""

    def __init__(self, name: str, least: int, most: int) -> None:
        self.name = name
        self._least = least
        self._most = most

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"{self.name.upper()}|{_NONE}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == _NONE:
            return _NONE
        # int() would take ' 1_000 ' and digits of other scripts, too.
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            number = int(value)
            if self._least <= number <= self._most:
                return number
        bounds = gettext(
            "a whole number from %(least)s to %(most)s", least=self._least, most=self._most
        )
        raise click.BadParameter(
            gettext(
                "%(value)s is neither %(bounds)s nor '%(none)s'",
                value=repr(value),
                bounds=bounds,
                none=_NONE,
            ),
            ctx,
            param,
        )


_OPTIONS = (
    click.option(
        "--fit/--no-fit",
        default=None,
        help="Make smaller what the account would refuse as too large (on by default).",
    ),
    click.option(
        "--convert/--no-convert",
        default=None,
        help="Make JPEG or PNG of GIF, BMP, WEBP, TIFF and HEIC (on by default).",
    ),
    click.option(
        "--max-side",
        type=_Number("pixels", SMALLEST_SIDE, _MOST_PIXELS),
        help=f"Scale pictures to this longer side, {SMALLEST_SIDE} or more (default: none).",
    ),
    click.option(
        "--quality",
        type=_Number("n", MIN_QUALITY, MAX_QUALITY),
        help=f"Encode JPEG with this quality, {MIN_QUALITY} to {MAX_QUALITY} (default: none).",
    ),
    click.option(
        "--keep-metadata/--drop-metadata",
        default=None,
        help="Whether what is encoded anew keeps where and how it was taken (default: dropped).",
    ),
)


def picture_options(command: _T) -> _T:
    """Adds the options; `picture_changes` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def picture_changes(
    *,
    fit: bool | None,
    convert: bool | None,
    max_side: int | str | None,
    quality: int | str | None,
    keep_metadata: bool | None,
) -> dict[str, Any]:
    """The fields of `PictureSettings` that were given."""
    given = {
        "fit": fit,
        "convert": convert,
        "max_side": max_side,
        "quality": quality,
        "drop_metadata": None if keep_metadata is None else not keep_metadata,
    }
    return {
        name: None if value == _NONE else value
        for name, value in given.items()
        if value is not None
    }


def described(pictures: PictureSettings) -> str:
    """Such as ``made to fit, converted, 1600 pixels at most``."""
    told = [
        gettext("made to fit") if pictures.fit else gettext("not made to fit"),
        gettext("converted") if pictures.convert else gettext("not converted"),
    ]
    if pictures.max_side is not None:
        told.append(gettext("%(max_side)s pixels at most", max_side=pictures.max_side))
    if pictures.quality is not None:
        told.append(gettext("quality %(quality)s", quality=pictures.quality))
    if not pictures.drop_metadata:
        told.append(gettext("metadata kept"))
    return ", ".join(told)


def as_dict(pictures: PictureSettings) -> dict[str, object]:
    return asdict(pictures)

"""What may be done to a picture on its way, and what is known of one."""

from dataclasses import dataclass

from imgsync.domain.formats import SENDABLE

_METADATA = "keep-metadata"

MAX_QUALITY = 95
"""Best quality of a JPEG file that is asked for; a better one is larger than what it shows."""

MIN_QUALITY = 20
SMALLEST_SIDE = 64


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """What becomes of the pictures that a child receives.

    `fit`: one that the account would refuse as too large is made smaller. `convert`: one in a
    format that it does not take becomes JPEG, or PNG where it has transparency. `max_side` (pixels
    of the longer side) and `quality` (of JPEG, 20 to 95) make all of them smaller, where given.
    `drop_metadata`: what is encoded anew loses its metadata, such as where it was taken; its colour
    profile stays, and it stands as its orientation says, in any case.
    """

    fit: bool = True
    convert: bool = True
    max_side: int | None = None
    quality: int | None = None
    drop_metadata: bool = True

    def __post_init__(self) -> None:
        for name in ("fit", "convert", "drop_metadata"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"pictures.{name} is neither true nor false")
        for name, least, most in (
            ("max_side", SMALLEST_SIDE, 100_000),
            ("quality", MIN_QUALITY, MAX_QUALITY),
        ):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"pictures.{name} is no whole number from {least} to {most}")


AS_BY_DEFAULT = PictureSettings()


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """A whole picture: its format ('jpg', 'png', 'gif', 'bmp', 'webp', 'tiff', 'heic'), pixels (0
    where they are not known) and bytes."""

    format: str
    width: int
    height: int
    size: int


@dataclass(frozen=True, slots=True)
class ImageContent:
    """The content of a copied image: SHA-256, in hexadecimal, of main's file (`source`) and of the
    one that was sent (`uploaded`); `facts` of main's file.

    `plan`: what was done to it, a text that is equal whenever the same would be done; '' where it
    was sent as it came.
    """

    source: str
    uploaded: str
    facts: PictureFacts
    plan: str = ""


@dataclass(frozen=True, slots=True)
class Transformed:
    """What became of a picture on its way.

    `steps`: what is told of it, such as "converted from GIF to JPEG"; `is_fitted`: it was made
    smaller for the sake of the account's limit.
    """

    content: bytes
    steps: tuple[str, ...] = ()
    is_fitted: bool = False


def format_name(name: str) -> str:
    """A format as people write it, such as 'JPEG' of 'jpg'."""
    return {"jpg": "JPEG"}.get(name, name.upper())


def plan(settings: PictureSettings, facts: PictureFacts, others: str = "") -> str:
    """What is done to such a picture, without the account's limit of bytes: a text that is equal
    whenever the same is done, '' for one that goes as it came.

    `others`: the names and versions of the transformations that plugins bring.
    """
    steps = [f"[{others}]"] if others else []
    if facts.format not in SENDABLE:
        if settings.convert:
            steps.append("convert")
        elif not others:
            return ""  # it does not go at all
    # What a plugin makes of it may have any format and size.
    unknown = bool(others)
    if settings.max_side is not None and (unknown or is_over_side(settings, facts)):
        steps.append(f"side={settings.max_side}")
    if settings.quality is not None and (unknown or facts.format != "png"):
        steps.append(f"quality={settings.quality}")
    if steps and not settings.drop_metadata:
        steps.append(_METADATA)
    return " ".join(steps)


def is_over_side(settings: PictureSettings, facts: PictureFacts) -> bool:
    """Whether a picture is larger than these settings let it be."""
    most = settings.max_side
    return most is not None and max(facts.width, facts.height) > most


def fitted(made: str, settings: PictureSettings) -> str:
    """The plan of a picture that was made to fit the account's limit after all of `made`."""
    return f"{made}+fit" if settings.drop_metadata else f"{made}+fit {_METADATA}"


def same_plan(recorded: str, now: str, settings: PictureSettings) -> bool:
    """Whether a picture made by one plan is as it would be made by another now.

    The limit that one was made to fit is learnt, and may be another by now: it is as it would be
    made for as long as such pictures are made to fit at all.
    """
    return recorded == now or (settings.fit and recorded == fitted(now, settings))


def fingerprint(settings: PictureSettings, others: str = "") -> str:
    """The settings as a whole; of equal ones no picture is made differently. Never ''."""
    switches = (
        ("fit", settings.fit),
        ("convert", settings.convert),
        (f"side={settings.max_side}", settings.max_side is not None),
        (f"quality={settings.quality}", settings.quality is not None),
        (_METADATA, not settings.drop_metadata),
        (f"[{others}]", bool(others)),
    )
    return " ".join(text for text, on in switches if on) or "as they are"

"""Every text of the pages has a Russian one."""

import re
from importlib.resources import files
from io import BytesIO
from pathlib import Path

from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import imgsync

_WEB = Path(imgsync.__file__).parent / "entrypoints" / "web"


def test_every_text_is_translated_once() -> None:
    methods = [("**.py", "python"), ("**.html", "jinja2.ext:babel_extract")]
    keywords = {"_": None, "gettext": None, "ngettext": (1, 2)}
    wanted = {
        message[0] if isinstance(message, tuple) else message
        for _, _, message, _, _ in extract_from_dir(
            _WEB, methods, {"**.html": {"silent": "false", "trimmed": "true"}}, keywords
        )
    }
    assert len(wanted) > 50
    known: list[str] = []
    for file in (files("imgsync") / "locale" / "ru").iterdir():
        for message in read_po(BytesIO(file.read_bytes()), locale="ru"):
            if not message.id:
                continue
            texts = (message.string,) if isinstance(message.string, str) else message.string
            assert texts, message.id
            assert all(texts), message.id
            known.append(message.id if isinstance(message.id, str) else message.id[0])
    assert wanted - set(known) == set()
    assert len(known) == len(set(known))


def _russian() -> set[str]:
    said: set[str] = set()
    for file in (files("imgsync") / "locale" / "ru").iterdir():
        for message in read_po(BytesIO(file.read_bytes()), locale="ru"):
            text = message.string
            said |= {text} if isinstance(text, str) else set(text or ())
    return said


def test_the_russian_description_of_the_pages_uses_their_words() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ru" / "dashboard.md").read_text("utf-8")
    said = _russian()
    quoted = {" ".join(one.split()) for one in re.findall("«([^»]+)»", text)}
    assert len(quoted) > 20
    assert {one for one in quoted if not one.startswith("…")} - said == set()
    assert "%(num)s совпадают" in said  # «… совпадают»
    headings = set(re.findall(r"^## (.+)$", text, re.MULTILINE))
    menu = (_WEB / "templates" / "base.html").read_text("utf-8")
    names = re.findall(r'\("/[a-z]*", _\("([^"]+)"\)\)', menu)
    assert len(names) == 6
    translated = {
        str(message.id): message.string
        for file in (files("imgsync") / "locale" / "ru").iterdir()
        for message in read_po(BytesIO(file.read_bytes()), locale="ru")
    }
    assert {translated[name] for name in names} <= headings

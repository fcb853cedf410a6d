"""What went wrong, as the pages and notifications tell it to one who knows no codes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgsync
from imgsync.domain.diff import FailureCause
from imgsync.domain.model import TOKEN_ENDED
from imgsync.domain.solutions import REMOVED, SUSPENDED
from imgsync.domain.troubles import Trouble, trouble_of
from imgsync.entrypoints.advice import HAPPENED
from imgsync.entrypoints.web import words
from imgsync.entrypoints.web.auditing import action_in_words, who_in_words
from imgsync.entrypoints.web.plain import in_words, trouble_in_words

_ROOT = Path(__file__).parents[2]
_PACKAGE = Path(imgsync.__file__).parent
_REFUSED = (
    "MoySklad account 'Омск': 401 Authentication failed (code 1056) "
    "[GET /api/remap/1.2/entity/product]"
)


@pytest.fixture(autouse=True)
def _russian() -> Iterator[None]:
    words.use("ru")
    yield
    words.use("en")


@pytest.mark.parametrize(
    ("reason", "trouble"),
    [
        (_REFUSED, Trouble.REFUSED),
        ("MoySklad account 'Омск': 401 [GET /x]", Trouble.REFUSED),
        ("MoySklad account 'Омск': 429 Too many attempts (code 1048) [GET /x]", Trouble.REFUSED),
        ("MoySklad account 'Омск': 403 No access (code 1061) [GET /x]", Trouble.NO_API),
        ("MoySklad account 'Омск': 400 No space (code 51003) [POST /x]", Trouble.FULL),
        (SUSPENDED, Trouble.SUSPENDED),
        (REMOVED, Trouble.REMOVED),
        (f"waits for account 'Омск': {TOKEN_ENDED}", Trouble.ENDED),
        ("MoySklad account '401 (code)': 503 [GET /x]", None),
        ("", None),
    ],
)
def test_the_kind_of_a_trouble(reason: str, trouble: Trouble | None) -> None:
    assert trouble_of(reason) is trouble


@pytest.mark.parametrize("trouble", Trouble)
def test_each_trouble_has_words_in_both_languages(trouble: Trouble) -> None:
    russian = trouble_in_words(trouble)
    words.use("en")
    english = trouble_in_words(trouble)
    assert russian != english
    assert not russian.endswith(".")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (_REFUSED, "МойСклад больше не принимает токен или пароль этого аккаунта"),
        (
            f"Франшиза Омск: {_REFUSED}",
            "Франшиза Омск: МойСклад больше не принимает токен или пароль этого аккаунта",
        ),
        (
            f"waits for account 'Омск': {SUSPENDED}",
            "Омск: решение приостановлено в МоёмСкладе до оплаты",
        ),
        (
            "a: b.png: it does not decode: Truncated File Read",
            "a: b.png: Файл в главном аккаунте — не целое изображение.",
        ),
        (
            "big.jpg: 25.0 MB is over the limit of 10.0 MB",
            "big.jpg: Изображение больше, чем принимает аккаунт франшизы.",
        ),
        (
            "big.jpg: 900 kB is over the limit of 750 kB",
            "big.jpg: Изображение больше, чем принимает аккаунт франшизы.",
        ),
        ("something new at https://api.moysklad.ru/x", "something new at …"),
        (None, ""),
    ],
)
def test_what_is_known_is_told_in_plain_words(text: str | None, told: str) -> None:
    assert in_words(text) == told


def test_every_change_that_is_noted_has_words() -> None:
    sources = [one.read_text() for one in (_PACKAGE / "entrypoints" / "web").rglob("*.py")]
    noted = {
        action
        for text in sources
        for action in re.findall(r'\baudit\(\s*(?:call\.)?request,\s*"([^"]+)"', text)
    }
    assert {"login", "settings", "retry tasks", "link"} <= noted
    noted |= {"retry task", "cancel task", "delete task", "take up account", "let go of account"}
    assert [action for action in sorted(noted) if action_in_words(action) == action] == []


def test_who_changed_something_is_told_in_words() -> None:
    assert who_in_words("key crm") == "Программа с ключом «crm»"
    assert who_in_words("password") == "Кто-то с паролем"
    assert who_in_words("nobody logged in") == "Кто-то на самом сервере"
    assert who_in_words("solution 5f3c") == "МойСклад, для решения 5f3c"
    assert who_in_words("?") == "?"


def test_the_russian_manual_explains_what_the_pages_say() -> None:
    """Whoever reads a page finds the same words in the table of the manual."""
    manual = (_ROOT / "docs" / "ru" / "trouble.md").read_text()
    told = [trouble_in_words(one) for one in (Trouble.REFUSED, Trouble.NO_API, Trouble.FULL)]
    causes = (FailureCause.NO_PICTURE, FailureCause.TOO_LARGE, FailureCause.REFUSED)
    told += [words.gettext(HAPPENED[one]).rstrip(".") for one in causes]
    assert [one for one in told if f"| {one} |" not in manual] == []

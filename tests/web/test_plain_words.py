"""What went wrong, as the pages and notifications tell it to one who knows no codes."""

import ast
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
        # As the commands have them in Russian, and still without addresses.
        ("storage host 'a.example' answered 503", "хост изображений «…» ответил 503"),
        (
            "a: b.png: host 'c.example' leads to 10.0.0.1, which is not on the public internet",
            "a: b.png: имя «…» ведёт на … — это не адрес в интернете",
        ),
        (
            "the answer is not JSON: GET https://api.moysklad.ru/api/remap/1.2/entity/product",
            "ответ — не JSON: GET …",
        ),
        ("task 7 is held by another worker now", "задача 7 теперь у другого исполнителя"),
        (None, ""),
    ],
)
def test_what_is_known_is_told_in_plain_words(text: str | None, told: str) -> None:
    assert in_words(text) == told


_ROOMS = ("application", "adapters", "domain", "plugins")
_NOT_SHOWN = {
    "application/accounts.py", "application/miniatures.py", "application/moving.py",
    "application/probe.py", "application/shelf.py", "application/solutions.py",
    "adapters/sql/shelf.py",
    "adapters/secrets/keys.py", "adapters/secrets/parcel.py", "adapters/secrets/box.py",
    "plugins/notify.py",
}  # fmt: skip
"""What commands alone say, or no page as a text."""
_OF_PROGRAMS = {"ValueError", "RuntimeError", "PluginError", "StoreUrlError"}
"""Errors of whoever wrote a program or a configuration, and those that no one is shown."""
_OF_CALLERS = {"must be a SourceImage", "must be a tuple", "must be one of Adopt"}


def _sample(node: ast.expr) -> str:
    """A text of the code, with a 7 where it names something; '' for what is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        text = "".join(
            str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values
        )
        # What begins with the account that it is of, as in ``{whose}no image``.
        return re.sub("^7+(?=[a-z])", "", text)
    return ""


def _texts_of_errors(code: str) -> Iterator[str]:
    for call in ast.walk(ast.parse(code)):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id.endswith("Error") and call.func.id not in _OF_PROGRAMS:
            texts = map(_sample, call.args)
            yield from (one for one in texts if re.search(r"[a-z]{2,} [a-z0-9]", one))


def test_no_error_that_a_page_may_show_is_english_to_a_russian() -> None:
    english, seen = [], 0
    for room in _ROOMS:
        for file in sorted((_PACKAGE / room).rglob("*.py")):
            name = file.relative_to(_PACKAGE).as_posix()
            if name in _NOT_SHOWN:
                continue
            for text in _texts_of_errors(file.read_text("utf-8")):
                seen += 1
                if text not in _OF_CALLERS and not re.search("[а-я]", in_words(text)):
                    english.append(f"{name}: {text}")
    assert english == []
    assert seen > 100


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

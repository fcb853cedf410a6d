"""The commands speak the language of whoever runs them, and programs are answered in English."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import click
import pytest
from babel.messages.catalog import Message
from babel.messages.extract import extract
from babel.messages.pofile import read_po as read_by_babel

import imgsync
from imgsync.application.accounts import OWNERS
from imgsync.application.survey import Difference
from imgsync.domain.errors import (
    AlreadyLinkedError,
    ClearLimitError,
    DamagedLinkError,
    FailureCause,
    ImageTooLargeError,
    ImgsyncError,
    MissingKeyError,
    NoImageUploadedError,
    NotAnImageError,
    PayloadError,
    SyncIsOffError,
    UnknownAccountError,
)
from imgsync.domain.model import AccountRole, TokenKind
from imgsync.domain.ports.tasks import CANCELLED
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.solutions import InstallationState
from imgsync.domain.tasks import SyncOutcome, TaskStatus
from imgsync.entrypoints import translation
from imgsync.entrypoints.cli.commands import LazyCommand
from imgsync.entrypoints.cli.help import metavars, paragraphs
from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.translation import (
    catalogue,
    gettext,
    language_of,
    ngettext,
    read_po,
    speak,
    speaking,
    translated,
)
from tests.cli.conftest import Cli
from tests.shop import Shop, pictures

_PACKAGE = Path(imgsync.__file__).parent
_RUSSIAN = files("imgsync") / "locale" / "ru"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_SAME = {"ID", "id", "GIF", "BMP", "WEBP", "API", "APP_ID"}
"""What is written alike in both."""


@pytest.fixture
def russian() -> Iterator[None]:
    with speaking("ru", is_for_programs=False):
        yield


def _commands() -> Iterator[tuple[list[str], click.Command]]:
    """Every command, by how it is called."""

    def below(path: list[str], command: click.Command) -> Iterator[tuple[list[str], click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            for name, one in command.commands.items():
                loaded = one.loaded if isinstance(one, LazyCommand) else one
                yield from below([*path, name], loaded)

    return below([], main)


def _marked() -> dict[str, str | None]:
    """Messages of the code beside the pages, with their plurals."""
    found: dict[str, str | None] = {}
    keywords = {"gettext": None, "ngettext": (1, 2), "marked": None}
    for file in sorted((_PACKAGE / "entrypoints").rglob("*.py")):
        if "web" in file.parts:
            continue
        for _, message, _, _ in extract("python", BytesIO(file.read_bytes()), keywords):
            one, many = message if isinstance(message, tuple) else (message, None)
            found[one] = many
    return found


def _of_help() -> set[str]:
    """Paragraphs of help, and words that stand for what is to be given."""
    found: set[str] = set()
    for path, command in _commands():
        context = click.Context(command, info_name="imgsync")
        for text in filter(None, (command.help, command.epilog)):
            found |= set(paragraphs(text))
        found |= set(metavars(command.get_usage(context))) - set(map(str.upper, path))
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                record = parameter.get_help_record(context)
                assert record is not None
                found |= set(metavars(record[0])) | ({parameter.help} if parameter.help else set())
    for one in main.commands.values():
        found |= set(paragraphs(one.help or ""))
    return found - {"N", "JSON"}


def _words() -> set[str]:
    """Of the domain, as they are shown: states, kinds and the like."""
    enums = (
        AccountRole,
        Difference,
        FailureCause,
        InstallationState,
        RunCause,
        RunKind,
        SyncOutcome,
        TaskStatus,
        TokenKind,
    )
    words = {str(one.value) for enum in enums for one in enum}
    words |= {CANCELLED, "parked", "superseded", "completed-with-warnings"}
    return words | set(OWNERS.values()) | {"product", "bundle", "variant", "image_sync", "undo"}


def test_every_message_has_a_text_with_the_same_placeholders() -> None:
    known: dict[str, tuple[str, ...]] = {}
    for file in _RUSSIAN.iterdir():
        for message in read_by_babel(BytesIO(file.read_bytes()), locale="ru"):
            if not message.id:
                continue
            assert not message.fuzzy, message.id
            ids = (message.id,) if isinstance(message.id, str) else tuple(message.id)
            texts = _texts(message)
            assert len(texts) == (1 if len(ids) == 1 else 3), ids
            assert ids[0] not in known
            known[ids[0]] = texts
            wanted = set(_PLACEHOLDER.findall(" ".join(ids)))
            for text in texts:
                assert set(_PLACEHOLDER.findall(text)) == wanted, ids
                assert "%" not in _PLACEHOLDER.sub("", text).replace("%%", "") or not wanted, ids
                assert re.search("[а-яё]", text, re.IGNORECASE) or _is_untouched(ids[0], text), ids
    marked = _marked()
    assert len(marked) > 300
    assert len(_of_help()) > 150
    assert (marked.keys() | _of_help() | _words()) - known.keys() == set()
    assert {one for one, many in marked.items() if many and len(known[one]) != 3} == set()


def _texts(message: Message) -> tuple[str, ...]:
    text = message.string or ""
    return (text,) if isinstance(text, str) else tuple(text)


def _is_untouched(message: str, text: str) -> bool:
    """Whether nothing in it is a word of a language."""
    plain = _PLACEHOLDER.sub("", message)
    return text in _SAME or not re.search("[a-z]{2}", plain)


def test_catalogues_are_read_as_babel_reads_them() -> None:
    for file in _RUSSIAN.iterdir():
        ours = {
            (one if many is None else (one, many)): texts
            for one, many, texts in read_po(file.read_text("utf-8"))
            if one
        }
        theirs = {
            message.id: _texts(message)
            for message in read_by_babel(BytesIO(file.read_bytes()), locale="ru")
            if message.id
        }
        assert ours == theirs, file.name


def test_a_reader_of_catalogues_takes_nothing_that_is_no_text() -> None:
    text = (
        'msgid "a"\nmsgstr ""\n\n#, fuzzy\nmsgid "b"\nmsgstr "х"\n\n'
        'msgid ""\n"c \\"d\\"\\n"\nmsgstr "э"\n'
    )
    assert list(read_po(text)) == [('c "d"\n', None, ("э",))]
    with pytest.raises(ValueError, match="line 1"):
        list(read_po("message"))
    with pytest.raises(ValueError, match="line 1"):
        list(read_po('msgid "a'))


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "ru_RU.UTF-8"}, "ru"),
        ({"LC_MESSAGES": "ru", "LANG": "en_US.UTF-8"}, "ru"),
        ({"LC_ALL": "C", "LC_MESSAGES": "ru_RU", "LANG": "ru_RU"}, "en"),
        ({"LC_ALL": "", "LANG": "ru_RU@euro"}, "ru"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "rue"}, "en"),
        ({"IMGSYNC_LANGUAGE": "en", "LC_ALL": "ru_RU.UTF-8"}, "en"),
        ({"IMGSYNC_LANGUAGE": "RU", "LANG": "C"}, "ru"),
        ({"IMGSYNC_LANGUAGE": "xx", "LANG": "ru_RU"}, "en"),
    ],
)
def test_the_language_is_that_of_the_variable_or_of_the_locale(
    environment: dict[str, str], language: str
) -> None:
    assert language_of(environment) == language


def test_plurals_are_those_of_the_language(russian: None) -> None:
    said = [ngettext("%(num)s image", "%(num)s images", n) for n in (1, 2, 5, 11, 21, 104, 111)]
    assert said == [
        "1 изображение",
        "2 изображения",
        "5 изображений",
        "11 изображений",
        "21 изображение",
        "104 изображения",
        "111 изображений",
    ]


def test_what_programs_read_is_english_whatever_is_asked_for() -> None:
    with speaking("ru", is_for_programs=True):
        speak("ru")
        assert gettext("Nothing to undo.") == "Nothing to undo."
    assert translation.spoken() == "en"


@pytest.mark.slow
def test_english_reads_no_catalogue(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "catalogue", lambda code: pytest.fail(code))
    for path, command in _commands():
        told = cli.ok(*path, "--help", LANG="C", LC_ALL="C")
        context = click.Context(command, info_name="imgsync", terminal_width=80)
        assert told.split("\n", 1)[1] == command.get_help(context).split("\n", 1)[1] + "\n" or (
            not path
        )
    assert "No accounts yet; add one" in cli.ok("account", "list", LC_ALL="C")
    assert "Error: Account 'x' is not stored" in cli.fail("account", "show", "x", LC_ALL="C")


_QUOTED = re.compile(r"'[^']*'|\[[^\]]*\]|«[^»]*»|\([^()]*\)|https?://\S+")
_ENGLISH = re.compile(r"(?:\b[A-Z]?[a-z]{2,}\b[ ;:.]+){3,}[a-z]{2,}\b")


def _english_in(text: str) -> list[str]:
    """Lines with four words of Latin letters or more in a row, but for what is code. Lists of
    names, with commas, are none."""
    lines = _QUOTED.sub("", text).splitlines()
    return [line for line in lines if _ENGLISH.search(line)]


@pytest.mark.slow
def test_no_help_has_an_english_sentence_left(cli: Cli) -> None:
    for path, _ in _commands():
        told = cli.ok(*path, "--help", IMGSYNC_LANGUAGE="ru")
        assert told.startswith("Вызов: "), path
        assert "Параметры:" in told
        assert "Показать эту справку и выйти." in told
        assert _english_in(told) == [], path
        assert not re.search(r"\[(?:default|required)|Usage|Options|Commands:", told), path


def test_the_heuristic_finds_english() -> None:
    assert _english_in("  Only show what would be done.")
    assert not _english_in("  'imgsync webhooks install now' — команда")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["sync", "--nothing"], 2, "Ошибка: Параметра «--nothing» нет."),
        (["settings", "set"], 2, "Ошибка: Не указан параметр «--child»."),
        (["queue", "lst"], 2, "Ошибка: Команды «lst» нет. Может быть, «list»?"),
        (["queue", "show"], 2, "Ошибка: Не указан аргумент «ID»."),
        (["link"], 2, "Ошибка: Не указан аргумент «ГЛАВНЫЙ»."),
        (["account", "rename", "x"], 2, "Ошибка: Не указан аргумент «НАЗВАНИЕ»."),
        (["queue", "list", "--limit", "0"], 2, "Неверное значение «--limit»: 0 не входит в"),
        (["queue", "list", "--status", "x"], 2, "«x» — не одно из 'pending', "),
        (["queue", "list", "--since", "never"], 2, "не время вроде 2026-01-31T12:00"),
        (["worker", "--concurrency", "many"], 2, "«many» — не целое число."),
        (["links", "more"], 2, "Лишний аргумент (more)"),
        (["links", "more", "still"], 2, "Лишние аргументы (more still)"),
        (["account", "show", "Омск"], 1, "Аккаунт «Омск» не сохранён; добавьте его командой"),
        (["queue", "show", "7"], 1, "Задачи 7 нет"),
        (["sync"], 1, "Ни один аккаунт не связан; создайте связь командой"),
        (["-q", "-v", "links"], 2, "-q и -v противоположны"),
        (["undo", "--run", "none"], 1, "О том, что изменил запуск «none», ничего не известно"),
    ],
)
def test_errors_in_russian(cli: Cli, arguments: list[str], status: int, said: str) -> None:
    told = cli.fail(*arguments, status=status, IMGSYNC_LANGUAGE="ru")
    assert said in told
    assert _english_in(told) == []
    english = cli.run(*arguments, IMGSYNC_LANGUAGE="en")
    assert english.exit_code == status
    assert not re.search("[а-яё]", english.output.replace("Омск", ""), re.IGNORECASE)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"IMGSYNC_CONCURRENCY": "99"}, "IMGSYNC_CONCURRENCY — это целое число от 1 до 64"),
        ({"IMGSYNC_LOG_LEVEL": "LOUD"}, "IMGSYNC_LOG_LEVEL — это одно из 'DEBUG', 'INFO'"),
        ({"IMGSYNC_API_URL": "ftp://x"}, "IMGSYNC_API_URL: это адрес вроде https://"),
        ({"IMGSYNC_CONFIG": "none.toml"}, "Не удалось прочитать файл конфигурации ./none.toml"),
        ({"IMGSYNC_DATABASE_URL": "oracle://x"}, "IMGSYNC_DATABASE_URL"),
    ],
)
def test_a_wrong_configuration_in_russian(cli: Cli, variables: dict[str, str], said: str) -> None:
    cli.env |= variables
    told = cli.fail("links", IMGSYNC_LANGUAGE="ru")
    assert told.startswith("Ошибка: ")
    assert said in told


def test_a_language_in_the_file_counts_and_another_is_an_error(cli: Cli) -> None:
    Path("imgsync.toml").write_text('language = "ru"\n', "utf-8")
    assert cli.ok("links").startswith("Связей пока нет;")
    assert cli.ok("links", IMGSYNC_LANGUAGE="en").startswith("No links yet;")
    assert cli.json("links")["status"] == "done"
    told = cli.fail("links", IMGSYNC_LANGUAGE="fr")
    assert "IMGSYNC_LANGUAGE is one of 'en', 'ru', not 'fr'" in told


@pytest.mark.slow
@pytest.mark.database
def test_a_sync_and_what_tells_of_it_in_russian(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", pictures(2), code="L-1")
    shop.pair("Sofa", [("broken.png", b"no picture")], code="S-1")
    there = {"IMGSYNC_LANGUAGE": "ru"}
    pair = ["--main", "Main", "--child", "Child"]

    checked = ready.run("check", *pair, **there)
    assert checked.exit_code == 1
    assert "Child: товар «Lamp» (код L-1): нет изображений: главный: " in checked.stdout
    assert "; дочерний: нет\n" in checked.stdout
    assert "«Child»: совпадает: 0, нет изображений: 2, отличается: 0, " in checked.stdout

    would = ready.ok("sync", *pair, "--dry-run", **there)
    assert "Было бы скопировано: 3 изображения, 2 позиции; без изменений 0" in would

    synced = ready.run("sync", *pair, **there)
    assert synced.exit_code == 3
    assert "Выполнено: 1 задача; без изменений 0, пропущено 0." in synced.stdout
    assert "Загружено: 2 изображения (" in synced.stdout
    assert "Не удалось: 1 задача; см. 'imgsync queue failed'." in synced.stdout
    assert "это не файл JPEG и не PNG" in synced.stderr
    assert synced.stderr.startswith("Child: товар «Sofa» (код S-1), задача ")

    listed = ready.ok("queue", "list", **there)
    assert listed.splitlines()[0].split() == (
        [
            "Задача",
            "Состояние",
            "Дочерний",
            "аккаунт",
            "Позиция",
            "Попытки",
            "Изменена",
            "(UTC)",
            "Что",
            "случилось",
        ]
    )
    assert "товар «Sofa» (код S-1)" in listed
    assert "не удалась" in listed
    assert "выполнена" in listed
    assert "Ни одно изображение не загружено: broken.png: " in listed
    assert "не изображение" in ready.ok("images", "failed", **there)
    assert re.search(r"^выполнена +1$", ready.ok("queue", "status", **there), re.MULTILINE)

    for command in (["runs"], ["account", "list"], ["settings", "show"], ["plugins"]):
        told = ready.ok(*command, **there)
        assert re.search("[А-Яа-я]", told.splitlines()[0]), command
        assert _english_in(told) == [], command

    for command in (["queue", "list"], ["check", *pair], ["account", "show", "none"]):
        english, asked = ready.run(*command, "--json"), ready.run(*command, "--json", **there)
        assert asked.exit_code == english.exit_code
        assert asked.output == english.output


def _printed_in(document: Path) -> list[str]:
    """What the blocks of a document show below the commands."""
    blocks = re.findall(r"```console\n(\$ .*?)```", document.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("$ ")]


@pytest.mark.slow
@pytest.mark.database
def test_the_document_shows_what_commands_print(ready: Cli, shop: Shop) -> None:
    ready.ok("account", "rename", "Child", "Омск")
    ready.ok("link", "Main", "Омск")
    shop.pair("Лампа", pictures(2), code="L-1")
    shop.pair("Диван", [("broken.png", b"no picture")], code="S-1")
    printed = ""
    for command in (["check"], ["sync"], ["queue", "list"], ["images", "failed"]):
        printed += ready.run(*command, IMGSYNC_LANGUAGE="ru").output
    printed += ready.fail("sync", "--child", "Омс", IMGSYNC_LANGUAGE="ru")
    shown = _printed_in(Path(__file__).parents[2] / "docs" / "ru" / "commands.md")
    assert len(shown) > 12
    for line in shown:
        pattern = re.escape(line).replace("…", ".+")
        assert re.search(f"^{pattern}$", printed, re.MULTILINE), line


@pytest.mark.slow
@pytest.mark.database
def test_the_doctor_in_russian(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", pictures(1), code="L-1")
    ready.ok("sync", "--main", "Main", "--child", "Child")
    found = ready.run("doctor", IMGSYNC_LANGUAGE="ru")
    assert found.exit_code == ready.run("doctor").exit_code
    assert re.search("^. конфигурация ", found.stdout, re.MULTILINE)
    assert "это «main», видно: 1 товар; может управлять вебхуками" in found.stdout
    assert "sqlite, схема " in found.stdout
    assert re.search(r"\d+ пункт\w*: неладно — ", found.stdout)
    assert _english_in(found.stdout) == []


def test_questions_are_asked_and_answered_in_russian(cli: Cli) -> None:
    cli.ok("account", "add", "m-1", "--offline", "--name", "Лавка", IMGSYNC_TOKEN="t" * 40)
    command = ["account", "remove", "Лавка"]
    kept = cli.run(*command, stdin="что\nнет\n", IMGSYNC_LANGUAGE="ru")
    assert kept.exit_code == 1
    assert "Удалить его? [д/Н]" in kept.stderr
    assert "Ошибка: непонятный ответ" in kept.stderr
    assert "Ошибка: Ничего не сделано" in kept.stderr
    assert "Лавка" in cli.ok("account", "list")
    gone = cli.ok(*command, stdin="д\n", IMGSYNC_LANGUAGE="ru")
    assert gone == "Аккаунт «Лавка» удалён.\n"


_BELOW: list[tuple[ImgsyncError, str]] = [
    (UnknownAccountError("Омск"), "Аккаунт «Омск» не сохранён"),
    (
        UnknownAccountError("Омс", ["Омск", "Орск"]),
        "Аккаунт «Омс» не сохранён (может быть, 'Омск' или 'Орск'?)",
    ),
    (
        SyncIsOffError("Омск", "c-1"),
        "Для дочернего аккаунта «Омск» (c-1) копирование изображений выключено; ничего не сделано",
    ),
    (
        ImageTooLargeError(11_000_000, 10_000_000),
        "11.0 МБ — больше предела в 10.0 МБ",
    ),
    (ImageTooLargeError(None, 10_000_000), "больше предела в 10.0 МБ"),
    (NotAnImageError(), "это не файл JPEG и не PNG"),
    (
        NoImageUploadedError(["a.png: it is neither a JPEG nor a PNG file"], retryable=False),
        "Ни одно изображение не загружено: a.png: это не файл JPEG и не PNG",
    ),
    (
        DamagedLinkError("c-1", "match_by is 7"),
        "Сохранённая связь дочернего аккаунта «c-1» повреждена: match_by is 7; свяжите его заново",
    ),
    (
        AlreadyLinkedError("Омск", "Лавка"),
        "аккаунт «Омск» уже дочерний у аккаунта «Лавка»; сначала прекратите эту связь (unlink)",
    ),
    (
        AlreadyLinkedError("Омск", None),
        "аккаунт «Омск» — главный у других, поэтому не может быть дочерним",
    ),
    (
        PayloadError("images.0", "must be a text"),
        "Неверные данные задачи: поле «images.0»: нужен текст",
    ),
    (
        ClearLimitError(30, 20, ["Lamp"]),
        "Были бы очищены изображения у стольких позиций дочернего аккаунта: 30 (среди них Lamp) — "
        "в главном аккаунте их там больше нет; это больше предела 20, поэтому не очищена ни одна",
    ),
    (
        MissingKeyError("1a2b", "there is no key in the key file k"),
        "Токены в базе данных зашифрованы ключом 1a2b, но ключа нет: файл ключей k; верните этот "
        "ключ, и ничего не пропадёт (IMGSYNC_KEY_FILE, IMGSYNC_KEY)",
    ),
]


@pytest.mark.parametrize(("error", "said"), _BELOW, ids=lambda one: type(one).__name__)
def test_errors_of_below_are_told_by_patterns(
    russian: None, error: ImgsyncError, said: str
) -> None:
    assert translated(error) == said


_LINES = {
    "Task 7 (product 'Lamp' (L-1) of 'Омск'): big.jpg: 11.9 MB is over the limit of 10 MB": (
        "Задача 7 (товар «Lamp» (L-1) для «Омск»): big.jpg: 11.9 МБ — больше предела в 10 МБ"
    ),
    "Main: product 'Lamp' (code 00017), task 7: x.png: it does not decode: broken": (
        "Main: товар «Lamp» (код 00017), задача 7: x.png: не читается как изображение: broken"
    ),
    "x.png: it is neither a JPEG nor a PNG file; its earlier copy stays": (
        "x.png: это не файл JPEG и не PNG; прежняя копия остаётся"
    ),
    "x.gif: converted from GIF to JPEG": "x.gif: преобразовано из GIF в JPEG",
    "x.jpg: scaled from 11.9 MB to 640 kB": "x.jpg: уменьшено с 11.9 МБ до 640 КБ",
    "it has no external code": "у неё нет внешнего кода",
    "no child entity has code '7'": "в дочернем аккаунте нет позиции с кодом «7»",
    "several child entities have name 'a'": "в дочернем аккаунте несколько позиций с названием «a»",
    "connection to api.example for account 'Омск' failed: Connection refused": (
        "нет соединения с api.example для аккаунта «Омск»: в соединении отказано"
    ),
    'connection to server at "127.0.0.1", port 1 failed: Connection refused': (
        "нет соединения с сервером «127.0.0.1», порт 1: в соединении отказано"
    ),
    "Account 'Ом' is not stored (did you mean 'Омск' or 'Томск' or 'Орск'?)": (
        "Аккаунт «Ом» не сохранён (может быть, 'Омск' или 'Томск' или 'Орск'?)"
    ),
    "Cannot read the key file /k: Permission denied": (
        "Не удалось прочитать файл ключей /k: нет прав"
    ),
    "Cannot read nofile: No such file or directory": (
        "Не удалось прочитать nofile: нет такого файла или папки"
    ),
    "it configures nothing in imgsync; did you mean 'IMGSYNC_LIMIT'?": (
        "в imgsync она ничего не настраивает; может быть, «IMGSYNC_LIMIT»?"
    ),
    "MoySklad account 'Омск': 401 (code 1056)": "Аккаунт МоегоСклада «Омск»: 401 (code 1056)",
    "storage host 'a.example' answered 503": "хост изображений «a.example» ответил 503",
    "Cannot use the database sqlite:///x: why": "База данных sqlite:///x недоступна: why",
    "Account 'Омск' (c-1) is not linked": "Аккаунт «Омск» (c-1) не связан",
    "3 accounts are called 'Омск'; give the ID: a, b": (
        "Аккаунтов с названием «Омск» — 3; укажите ID: a, b"
    ),
    "it is 'omsk', 2 products in sight; a request costs 1 unit of 45 in 3 s; may manage webhooks": (
        "это «omsk», видно: 2 товара; запрос стоит: 1 единицу из 45 за 3 с; "
        "может управлять вебхуками"
    ),
    "2 accounts, 1 link": "2 аккаунта, 1 связь",
    "alive: 5 tasks under way": "работают; задачи в работе: 5 задач",
    "the oldest due task has waited for 12 minutes": "самая старая задача ждёт 12 минут",
    "this machine's clock is 90 s behind that of MoySklad": (
        "часы этой машины отстают на 90 с (сравнение с MoySklad)"
    ),
    "7 of 9 work: its tariff has no webhooks": "работают 7 из 9: на его тарифе нет вебхуков",
    "many entities in one request: yes, HEAD: no": ("многие позиции одним запросом: да, HEAD: нет"),
    "Account 'Омск' is stored under id c-1, but its token belongs to account c-2; nothing is "
    "read or written with it; give it its own with 'imgsync account rotate'": (
        "Аккаунт «Омск» сохранён с id c-1, но его токен принадлежит аккаунту c-2; с ним ничего не "
        "читается и не пишется; задайте свой: 'imgsync account rotate'"
    ),
    "Account 'Омск' is stored under id c-1, but its password belongs to account c-2; nothing is "
    "read or written with it; give it its own with 'imgsync account rotate'": (
        "Аккаунт «Омск» сохранён с id c-1, но его пароль принадлежит аккаунту c-2; с ним ничего не "
        "читается и не пишется; задайте свой: 'imgsync account rotate'"
    ),
    "The stored solution '5f3c' is damaged: its encrypted token cannot be read; add it anew with "
    "'imgsync solution add'": (
        "Сохранённое решение '5f3c' повреждено: его зашифрованный токен не прочитать; добавьте его "
        "заново: 'imgsync solution add'"
    ),
    "The stored token of solution '5f3c' on account 'c-1' cannot be read; install the solution "
    "there anew": (
        "Сохранённый токен решения '5f3c' для аккаунта 'c-1' не прочитать; установите решение там "
        "заново"
    ),
    "This is not what an export makes: version": "Это не выгрузка imgsync: version",
    "The links of the export do not go with those here, so nothing is changed: why": (
        "Связи из выгрузки не подходят к здешним, поэтому ничего не изменено: why"
    ),
    "/b is no folder: keep the database elsewhere": (
        "/b — не папка: храните базу данных в другом месте"
    ),
    "the system's keyring": "системное хранилище ключей",
    "another survey is under way": "уже идёт другой обход",
    "Missing option '--child'.": "Не указан параметр «--child».",
    "default: 50": "по умолчанию: 50",
}


def test_lines_of_below_are_told_by_patterns(russian: None) -> None:
    assert {line: translated(line) for line in _LINES} == _LINES


def test_names_stay_as_they_are_and_unknown_lines_too(russian: None) -> None:
    assert translated("Account 'Name' is not stored") == "Аккаунт «Name» не сохранён"
    assert translated("Account 'a' is not stored' is not stored") == (
        "Аккаунт «a' is not stored» не сохранён"
    )
    assert translated("something that nobody knows") == "something that nobody knows"
    assert translated("x" * 100_000) == "x" * 100_000
    assert gettext("Account '%(name)s' is removed.", name="100 % %(x)s") == (
        "Аккаунт «100 % %(x)s» удалён."
    )


def _said_in(folder: Path) -> str:
    """The code, with texts of several lines in one."""
    code = "\n".join(file.read_text("utf-8") for file in folder.rglob("*.py"))
    return re.sub(r'"\s+f?"', "", code)


def test_patterns_are_of_texts_that_the_code_still_makes() -> None:
    system = "\n".join(map(os.strerror, range(1, 130)))
    for name, folder in (("errors.po", _PACKAGE), ("click.po", Path(click.__file__).parent)):
        code = system + _said_in(folder)
        known = 0
        for message, _, _ in read_po((_RUSSIAN / name).read_text("utf-8")):
            words = _PLACEHOLDER.sub(" \0 ", message).split()
            pairs = [" ".join(pair) for pair in pairwise(words) if "\0" not in pair]
            if len(pairs) < 2:
                pairs = [word for word in words if word != "\0"]
            found = sum(pair.strip(".,;:()'\"") in code for pair in pairs)
            assert found >= len(pairs) / 2, f"{name}: {message} is said nowhere any more"
            known += bool(pairs)
        assert known >= 20


@pytest.mark.slow
@pytest.mark.process
def test_russian_needs_no_babel() -> None:
    code = (
        "import sys\nfrom imgsync.entrypoints.cli.main import main\ntry:\n"
        "    main(['account', '--help'], prog_name='imgsync')\n"
        "finally:\n    print('babel' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env=os.environ | {"LANG": "ru_RU.UTF-8", "LC_ALL": "", "PYTHONIOENCODING": "utf-8"},
    )
    assert "Аккаунты и доступ к ним." in done.stdout.decode()
    assert done.stderr.split() == [b"False"]
    assert catalogue("en").gettext("Name") == "Name"

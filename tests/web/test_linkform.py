"""The form of a link's settings: what it takes, what it refuses, and that nothing is lost."""

import re
import sqlite3
import warnings
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from imgsync.domain.model import LinkSettings, MatchField
from imgsync.domain.pictures import PictureSettings
from imgsync.domain.schedule import LinkSchedule
from imgsync.entrypoints.container import Container
from tests.web.test_pages import add_child, token_of
from tests.web.test_pages import browser as browser
from tests.web.test_pages import container as container

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would like another HTTP client better
    from starlette.testclient import TestClient

pytestmark = pytest.mark.database

PATH = "/children/child"
FORM = {
    "types": ["product", "bundle", "variant"],
    "folders": "",
    "match_by": "",
    "fit": "on",
    "convert": "on",
    "max_side": "",
    "quality": "",
    "sweep": "03:30",
    "survey_every": "15",
}


def stored(browser: TestClient, container: Container) -> LinkSettings:
    assert browser.portal is not None
    return browser.portal.call(container.settings().get, "child")


def changes(browser: TestClient, container: Container) -> list[Any]:
    assert browser.portal is not None
    return [dict(one.detail) for one in browser.portal.call(container.audit_log().find)]


def hidden(page: str) -> dict[str, str]:
    seen = re.search(r'name="seen" value="([^"]+)"', page)
    assert seen
    return {"csrf": token_of(page), "seen": seen[1]}


def test_the_form_shows_what_is_stored_and_saved_as_it_is_changes_nothing(
    browser: TestClient, container: Container
) -> None:
    add_child(browser, container)
    before = stored(browser, container)
    page = browser.get(PATH).text
    for name in ("product", "bundle", "variant"):
        assert f'name="types" value="{name}" checked' in page
    assert 'name="sweep" type="time" value="03:30"' in page
    answer = browser.post(f"{PATH}/settings", data=FORM | hidden(page))
    assert answer.status_code == 303
    assert stored(browser, container) == before
    assert changes(browser, container) == []


def test_every_setting_is_changed_by_its_field(browser: TestClient, container: Container) -> None:
    add_child(browser, container)
    form = hidden(browser.get(PATH).text) | {
        "types": ["variant", "product"],
        "folders": " Lamps/Desk lamps \r\n\r\nTables\r\nTables",
        "match_by": "article",
        "max_side": "1600",
        "quality": "80",
        "keep_metadata": "on",
        "sweep": "",
        "survey_every": "60",
        "check_only": "on",
        "guard": "on",
    }
    answer = browser.post(f"{PATH}/settings", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PATH}?saved=settings")
    assert stored(browser, container) == LinkSettings(
        sync_images_all=True,
        match_by=MatchField.ARTICLE,
        types=("product", "variant"),
        folders=("Lamps/Desk lamps", "Tables"),
        pictures=PictureSettings(False, False, 1600, 80, drop_metadata=False),
        schedule=LinkSchedule(None, 60, copies=False),
        guard=True,
    )
    (noted,) = changes(browser, container)
    assert noted["folders"] == ["Lamps/Desk lamps", "Tables"]
    assert noted["match_by"] == "article"
    assert (noted["sweep"], noted["copies"], noted["guard"]) == (None, False, True)
    page = browser.get(answer.headers["location"]).text
    assert 'name="guard" checked' in page
    assert "Saved." in page
    assert ">Lamps/Desk lamps\nTables</textarea>" in page
    assert 'value="bundle" checked' not in page


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("types", [], "Choose at least one"),
        ("types", ["product", "spaceship"], "Choose at least one"),
        ("folders", "Lamps\n/ /", "“/ /” is no name"),
        ("match_by", "colour", "Choose one of these"),
        ("max_side", "63", "from 64 to 100,000"),
        ("max_side", "1_000", "from 64 to 100,000"),
        ("quality", "96", "from 20 to 95"),
        ("quality", "-20", "from 20 to 95"),
        ("quality", "９０", "from 20 to 95"),
        ("sweep", "24:00", "A time such as 03:30"),
        ("survey_every", "0", "from 1 to 1,440"),
        ("survey_every", "<script>", "from 1 to 1,440"),
    ],
)
def test_a_bad_value_is_told_beside_its_field_and_nothing_is_lost(
    browser: TestClient, container: Container, name: str, given: Any, said: str
) -> None:
    add_child(browser, container)
    before = stored(browser, container)
    good = {"folders": "Sofas"} if name != "folders" else {"quality": "77"}
    form = FORM | hidden(browser.get(PATH).text) | good | {name: given}
    answer = browser.post(f"{PATH}/settings", data=form)
    assert answer.status_code == 422
    page = unescape(answer.text)
    wrong = re.search(rf'<p class="bad" id="{name}-wrong">([^<]*)</p>', page)
    assert wrong
    assert said in wrong[1]
    assert f'aria-describedby="{name}-hint {name}-wrong"' in page or name in ("types", "match_by")
    assert "<script>" not in answer.text
    if name not in ("types", "match_by"):
        assert f'value="{given}"' in page or f">{given}</textarea>" in page
    assert ">Sofas</textarea>" in page or 'value="77"' in page
    assert stored(browser, container) == before
    assert changes(browser, container) == []


def test_a_form_that_others_have_overtaken_is_shown_again(
    browser: TestClient, container: Container
) -> None:
    add_child(browser, container)
    first = hidden(browser.get(PATH).text)
    assert (
        browser.post(f"{PATH}/settings", data=FORM | first | {"quality": "80"}).status_code == 303
    )
    answer = browser.post(f"{PATH}/settings", data=FORM | first | {"max_side": "900"})
    assert answer.status_code == 409
    assert 'value="900"' in answer.text
    assert stored(browser, container).pictures == PictureSettings(quality=80)
    again = browser.post(f"{PATH}/settings", data=FORM | hidden(answer.text) | {"max_side": "900"})
    assert again.status_code == 303
    assert stored(browser, container).pictures == PictureSettings(max_side=900)


def test_a_refused_form_that_is_loaded_anew_is_the_page(
    browser: TestClient, container: Container
) -> None:
    add_child(browser, container)
    answer = browser.get(f"{PATH}/settings?lang=ru")
    assert (answer.status_code, answer.headers["location"]) == (303, PATH)
    assert '<html lang="ru">' in browser.get(PATH).text


def test_the_settings_need_the_token_too(browser: TestClient, container: Container) -> None:
    add_child(browser, container)
    browser.get(PATH)
    assert browser.post(f"{PATH}/settings", data=FORM).status_code == 403


def test_a_damaged_link_has_no_form(
    browser: TestClient, container: Container, tmp_path: Path, sqlite_url: str
) -> None:
    add_child(browser, container)
    form = FORM | hidden(browser.get(PATH).text)
    with sqlite3.connect(sqlite_url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE sync_settings SET types = '3' WHERE account_id = 'child'")
    page = browser.get(PATH)
    assert page.status_code == 200
    assert 'name="seen"' not in page.text
    assert browser.post(f"{PATH}/settings", data=form).status_code == 404

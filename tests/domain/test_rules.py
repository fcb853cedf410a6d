"""Small rules: settings, retry schedule, rate weights, names, formats, daily schedule."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.application.clean import DailySchedule
from imgsync.domain.diff import CopiedImage, SetTo, SyncRecord, diff
from imgsync.domain.errors import PluginError, UnknownEntityTypeError, WrongAccountError
from imgsync.domain.formats import (
    CONVERTIBLE,
    SENDABLE,
    image_format,
    is_sendable,
    safe_suffix,
    upload_name,
)
from imgsync.domain.matching import CounterpartIndex, FieldMatcher, in_folder
from imgsync.domain.model import (
    Account,
    AccountRole,
    Entity,
    EntityType,
    EntityTypes,
    ImageFingerprint,
    Keep,
    LinkSettings,
    MatchField,
    RemoteImage,
    SourceImage,
    TokenKind,
    check_roles,
)
from imgsync.domain.tasks import retry_delay

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_images_are_off_by_default() -> None:
    assert LinkSettings() == LinkSettings(sync_images=False, sync_images_all=False)
    assert LinkSettings().limit_for(EntityType("product")) == 0
    assert not LinkSettings().enabled


def test_setting_one_switch_clears_the_other() -> None:
    first = LinkSettings().with_first_only(True)
    assert (first.sync_images, first.sync_images_all) == (True, False)
    both = first.with_all(True)
    assert (both.sync_images, both.sync_images_all) == (False, True)
    assert both.with_first_only(True) == first


@pytest.mark.parametrize("maximum", [10, 15])
def test_all_means_as_many_as_the_type_may_have(maximum: int) -> None:
    entity_type = EntityType("contentcard", maximum)
    assert LinkSettings(sync_images_all=True).limit_for(entity_type) == maximum
    assert LinkSettings(sync_images=True).limit_for(entity_type) == 1
    assert LinkSettings(sync_images=True).enabled


def test_clearing_one_switch_leaves_the_other() -> None:
    all_images = LinkSettings().with_all(True)
    assert all_images.with_first_only(False) == all_images
    assert all_images.with_all(False) == LinkSettings()


def test_both_switches_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude"):
        LinkSettings(True, True)


def test_attempts_run_at_once_after_one_and_after_five_minutes() -> None:
    assert retry_delay(1, 3) == timedelta(minutes=1)
    assert retry_delay(2, 3) == timedelta(minutes=5)
    assert retry_delay(3, 3) is None
    with pytest.raises(ValueError, match="attempts"):
        retry_delay(0, 3)


def test_an_account_never_shows_its_secret() -> None:
    account = Account("1", "Main", TokenKind.PASSWORD, "hush", "admin@shop")
    assert "hush" not in repr(account) + str(account)


@pytest.mark.parametrize(
    ("kind", "secret", "login"),
    [
        (TokenKind.USER, "", None),
        (TokenKind.USER, "t", "me"),
        (TokenKind.PASSWORD, "t", None),
        (TokenKind.SOLUTION, "two\nlines", None),
        (TokenKind.SOLUTION, "two words", None),
        (TokenKind.USER, "токен", None),
    ],
)
def test_incomplete_credentials_are_refused(
    kind: TokenKind, secret: str, login: str | None
) -> None:
    with pytest.raises(ValueError, match=r"token|login"):
        Account("1", "Main", kind, secret, login)


def account(account_id: str, role: AccountRole | None) -> Account:
    return Account(account_id, f"Shop {account_id}", TokenKind.SOLUTION, "t", role=role)


@pytest.mark.parametrize("main", [None, AccountRole.MAIN])
@pytest.mark.parametrize("child", [None, AccountRole.CHILD])
def test_accounts_on_their_sides(main: AccountRole | None, child: AccountRole | None) -> None:
    check_roles(account("m", main), account("c", child))


@pytest.mark.parametrize(
    ("main", "child", "wrong"),
    [
        (AccountRole.CHILD, None, "'Shop m' (m) is a child account"),
        (None, AccountRole.MAIN, "'Shop c' (c) is a main account"),
        (AccountRole.CHILD, AccountRole.MAIN, "'Shop m' (m) is a child account"),
    ],
)
def test_accounts_on_the_wrong_sides_are_named(
    main: AccountRole | None, child: AccountRole | None, wrong: str
) -> None:
    with pytest.raises(WrongAccountError) as caught:
        check_roles(account("m", main), account("c", child))
    assert wrong in str(caught.value)
    assert "'Shop m' (m)" in str(caught.value)
    assert "'Shop c' (c)" in str(caught.value)


def test_an_account_is_never_a_child_of_itself() -> None:
    with pytest.raises(WrongAccountError, match=r"are the same: account 'Shop A1' \(A1\)"):
        check_roles(account("A1", None), account("a1", None))


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.png", "a.png"),
        ("фото товара.jpg", "фото товара.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.png", "x.png"),
        ("..", "image"),
        ("", "image"),
        ("a\x00b\n.png", "ab.png"),
        ("  a.png ", "a.png"),
    ],
)
def test_upload_name(name: str, clean: str) -> None:
    assert upload_name(name) == clean


@given(st.text())
def test_upload_names_are_never_paths_and_fit_the_api(name: str) -> None:
    clean = upload_name(name)
    assert 0 < len(clean) <= 255
    assert not set(clean) & {"/", "\\", "\x00"}


def test_a_long_name_keeps_its_suffix() -> None:
    assert upload_name("x" * 400 + ".JPEG").endswith("x.jpeg")


@given(st.text())
def test_suffixes_are_plain(name: str) -> None:
    suffix = safe_suffix(name)
    assert suffix == "" or (suffix[0] == "." and suffix[1:].isascii() and suffix[1:].isalnum())


def test_image_format() -> None:
    assert image_format(b"\xff\xd8\xff\xe0rest") == "jpg"
    assert image_format(b"\x89PNG\r\n\x1a\n") == "png"
    assert image_format(b"GIF89a") == image_format(b"GIF87a") == "gif"
    assert image_format(b"BM\x36\x10\0\0\0\0\0\0\x36\0") == "bmp"
    assert image_format(b"RIFF\x10\0\0\0WEBPVP8 ") == "webp"
    assert image_format(b"II*\0\x08\0\0\0") == image_format(b"MM\0*\0\0\0\x08") == "tiff"
    assert image_format(b"\0\0\0\x18ftypheic") == "heic"
    assert image_format(b"\0\0\0\x18ftypmif1") == "heic"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"B",
        b"BM",
        b"BMW is no bitmap",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypisom",
        b"\0\0\0\x18ftypavif",
        b"GIF88a",
        b"<?xml version",
    ],
)
def test_what_is_no_picture_has_no_format(head: bytes) -> None:
    assert image_format(head) is None
    assert not is_sendable(head)


def test_what_is_sent_is_jpeg_or_png() -> None:
    assert is_sendable(b"\xff\xd8\xff\xe0rest")
    assert is_sendable(b"\x89PNG\r\n\x1a\n")
    assert not is_sendable(b"GIF89a")
    assert SENDABLE.isdisjoint(CONVERTIBLE)


def test_a_daily_job_is_due_once_a_day() -> None:
    schedule = DailySchedule.starting(time(3), datetime(2026, 11, 24, 2, 0, tzinfo=UTC))
    assert not schedule.due(datetime(2026, 11, 24, 2, 59, tzinfo=UTC))
    assert schedule.due(datetime(2026, 11, 24, 3, 0, tzinfo=UTC))
    assert not schedule.due(datetime(2026, 11, 24, 23, 0, tzinfo=UTC))
    assert schedule.due(datetime(2026, 11, 25, 4, 0, tzinfo=UTC))


def test_a_schedule_that_starts_late_waits_for_tomorrow() -> None:
    schedule = DailySchedule.starting(time(3), datetime(2026, 11, 24, 12, 0, tzinfo=UTC))
    assert not schedule.due(datetime(2026, 11, 24, 12, 1, tzinfo=UTC))
    assert schedule.due(datetime(2026, 11, 25, 3, 0, tzinfo=UTC))


UUID = "f2728180-6afd-4d37-8a13-f3b48069bbb6"


@pytest.mark.parametrize(
    ("href", "image_id"),
    [
        (f"https://api.moysklad.ru/api/remap/1.2/download/{UUID}", UUID),
        (f"https://api.moysklad.ru/api/remap/1.2/download/{UUID}?miniature=true", UUID),
        ("https://cdn.moysklad.ru/a/image/b", None),
        ("https://api.moysklad.ru/download/not-an-id", None),
        (f"https://api.moysklad.ru/download/{UUID}0", None),
    ],
)
def test_the_id_of_a_source_image(href: str, image_id: str | None) -> None:
    assert SourceImage(href, "a.png").id == image_id


def test_a_fingerprint_needs_id_size_and_time() -> None:
    href = f"https://api.moysklad.ru/download/{UUID}"
    assert SourceImage(href, "a", 1, "t").fingerprint is not None
    assert SourceImage(href, "a", None, "t").fingerprint is None
    assert SourceImage(href, "a", 1, None).fingerprint is None
    assert SourceImage("https://x/1", "a", 1, "t").fingerprint is None


def counterparts(*keys: tuple[str | None, str, bool]) -> CounterpartIndex[str]:
    """By key, id and whether it is archived."""
    index: CounterpartIndex[str] = CounterpartIndex("code", "product", str)
    for key, child_id, archived in keys:
        index.add(key, child_id, archived=archived)
    return index


def test_counterparts() -> None:
    index = counterparts(
        *(("a", "1", False), ("b", "2", False), ("b", "3", False)),
        *((None, "4", False), ("a", "1", False)),  # listed again
    )
    assert index.find("a") == ("1", "")
    assert index.find("b")[1] == "several child entities have code 'b'"
    assert index.find("c")[1] == "no child entity has code 'c'"
    assert index.find(None)[1] == "it has no code"


def test_an_archived_entity_is_a_counterpart_where_no_other_is() -> None:
    index = counterparts(
        *(("a", "1", True), ("a", "2", False), ("a", "3", True)),
        *(("b", "4", True), ("c", "5", True), ("c", "6", True)),
    )
    assert index.find("a") == ("2", "")
    assert index.find("b") == ("4", "")
    assert index.find("c")[1] == "several child entities have code 'c'"


def test_a_counterpart_goes_to_the_first_main_entity_only() -> None:
    index = counterparts(("a", "1", False))
    assert index.assign("a", "m") == ("1", "")
    assert index.assign("a", "n") == (
        None,
        "its counterpart is already that of another product (m)",
    )
    assert index.assign("a", "m") == ("1", "")
    assert index.assign("c", "n")[1] == "no child entity has code 'c'"


def test_a_blank_field_matches_nothing() -> None:
    matcher = FieldMatcher(MatchField.CODE)
    assert matcher.key(Entity("m", "A", code="a")) == "a"
    assert matcher.key(Entity("m", "A", code=" ")) is None


@pytest.mark.parametrize(
    ("path", "folder", "inside"),
    [
        ("Light", "Light", True),
        ("Light/Lamps", "Light", True),
        ("Light/Lamps", "Lamps", True),
        ("Light/Lamps/Red", "Light/Lamps", True),
        ("Home/Lamps", "Light/Lamps", False),
        ("Lights", "Light", False),
        ("Red Light", "Light", False),
        ("light", "Light", False),
        ("", "Light", False),
    ],
)
def test_folders_are_named_by_name_or_path(path: str, folder: str, inside: bool) -> None:
    assert in_folder(path, [folder]) is inside
    assert in_folder(path, ["another", f"/{folder}/"]) is inside
    assert not in_folder(path, [])


@pytest.mark.parametrize("max_images", ["15", None, 0, -1])
def test_a_type_needs_a_number_of_images(max_images: Any) -> None:
    with pytest.raises(PluginError, match="contentcard"):
        EntityType("contentcard", max_images)


def test_entity_types() -> None:
    types = EntityTypes([EntityType("product"), EntityType("bundle")])
    assert types.get("bundle") == EntityType("bundle")
    assert types.names == ["product", "bundle"]
    with pytest.raises(UnknownEntityTypeError, match=r"'x' \(known: product, bundle\)"):
        types.get("x")
    with pytest.raises(PluginError, match="'product' is registered twice"):
        EntityTypes([EntityType("product"), EntityType("product")])


@pytest.mark.parametrize("name", ["", "a/b", "../x", "продукт", "a b"])
def test_an_entity_type_name_must_be_plain(name: str) -> None:
    with pytest.raises(PluginError, match="letters and digits"):
        EntityType(name)


def test_a_reordered_child_list_is_not_current() -> None:
    seen = ImageFingerprint("i", 1, "t")
    record = SyncRecord((seen,), (), ("a", "b"), settled=True)
    assert record.is_current([seen], ["a", "b"], 10)
    assert not record.is_current([seen], ["b", "a"], 10)
    assert not record.is_current([None], ["a", "b"], 10)


@pytest.mark.parametrize("secret", ["a\x00b", "\x00", "a\nb", "a\x1bb", "a\ud800"])
def test_a_password_that_no_header_can_hold_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        Account("1", "Main", TokenKind.PASSWORD, secret, "admin@shop")


def test_a_password_may_have_spaces_and_letters_of_any_script() -> None:
    assert Account("1", "Main", TokenKind.PASSWORD, "пароль с 🙂", "admin@shop").secret


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_image_that_stands_twice_has_two_copies(version: str) -> None:
    """Two metas of one copy are a list that the child may not keep."""
    id_ = "5f2a7f1c-0000-4000-8000-00000000000a"
    first = ImageFingerprint(id_, 100, "1")
    copied = tuple(CopiedImage(first, child_id) for child_id in ("c1", "c2"))
    record = SyncRecord((first, first), copied, ("c1", "c2"), settled=False)
    current = [RemoteImage(f"http://h/{c}", "a.png", 100, "1", "") for c in ("c1", "c2")]
    image = SourceImage(f"http://h/download/{id_}", "a.png", 100, version)
    change = diff([image, image, image], record, current, 10)
    assert isinstance(change, SetTo)
    found = [o.element if version == "1" else o.earlier for o in change.outcomes]
    assert found == [Keep("http://h/c1"), Keep("http://h/c2"), None]

"""Calls of MoySklad's Vendor API: signed, repeated, late, forged, on both databases."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, select

from imgsync.adapters.sql.tables import accounts, installations, used_tokens
from imgsync.domain.errors import StoreError
from imgsync.domain.model import (
    NO_END,
    NO_TOKEN,
    Account,
    AccountRole,
    LinkSettings,
    Parking,
    TokenKind,
)
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.solutions import REMOVED, SUSPENDED, InstallationState
from imgsync.domain.tasks import TaskStatus
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.serving import app_of

pytestmark = [pytest.mark.anyio]
APP = "5f3c5489-6a17-48b7-9fe5-b2000eb807fe"
OTHER_APP = "5f3c5489-6a17-48b7-9fe5-b2000eb807ff"
ACCOUNT = "f088b0a7-9490-4a57-b804-393163e7680f"
SECRET = "a-secret-key-of-the-developers-cabinet"
HUSH = ("t0ken-of-the-account", "t0ken-number-two", SECRET)
_numbers = itertools.count()


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(secret: str = SECRET, head: Any = None, **claims: Any) -> str:
    now = int(time.time())
    told = {"iat": now, "exp": now + 300, "jti": f"jti-{next(_numbers)}"} | claims
    told = {name: value for name, value in told.items() if value is not None}
    parts = [head or {"alg": "HS256", "typ": "JWT"}, told]
    text_ = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    mac = hmac.new(secret.encode(), text_.encode(), hashlib.sha256).digest()
    return f"{text_}.{encoded(mac)}"


def _texts(query: Any, connection: Connection) -> list[str]:
    return list(connection.execute(query).scalars())


def body(cause: str = "Install", token: str | None = HUSH[0], **fields: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"appUid": "imgsync.shop", "accountName": "omsk", "cause": cause}
    if token is not None:
        resource = "https://api.moysklad.ru/api/remap/1.2"
        told["access"] = [{"resource": resource, "scope": ["custom"], "access_token": token}]
    return told | fields


class MoySklad:
    """Calls as MoySklad does."""

    def __init__(self, container: Container) -> None:
        self.container = container
        # As the log of the server tells of them, faults of ours fail the test.
        transport = httpx.ASGITransport(app_of(container))
        self.http = httpx.AsyncClient(transport=transport, base_url="https://sync.example")

    async def call(
        self,
        method: str,
        json_: Any = None,
        *,
        token: str | None = None,
        request_id: str | None = "",
        app: str = APP,
        account: str = ACCOUNT,
        content: bytes | None = None,
        **claims: Any,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or signed(**claims)}"}
        if request_id is not None:
            headers["X_Lognex_RequestId"] = request_id or f"request-{next(_numbers)}"
        return await self.http.request(
            method,
            f"/api/moysklad/vendor/1.0/apps/{app}/{account}",
            content=json.dumps(json_).encode() if content is None else content,
            headers=headers,
        )

    async def put(self, told: dict[str, Any] | None = None, **how: Any) -> httpx.Response:
        return await self.call("PUT", told or body(), **how)

    async def delete(self, cause: str = "Uninstall", **how: Any) -> httpx.Response:
        return await self.call("DELETE", body(cause, None), **how)

    async def is_on(self) -> bool:
        status = (await self.call("GET", content=b"")).status_code
        assert status in (200, 404)
        return status == 200

    async def account(self) -> Account:
        return await self.container.accounts().get(ACCOUNT)

    async def reason(self) -> str | None:
        parking = await self.container.accounts().parking(ACCOUNT)
        assert parking is None or parking.until == NO_END
        return parking.reason if parking else None


@pytest.fixture
async def container(database_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=database_url))
    await made.add_solution()(APP, SECRET, is_draft=False)
    yield made
    await close(made)


@pytest.fixture
async def moysklad(container: Container) -> AsyncIterator[MoySklad]:
    made = MoySklad(container)
    yield made
    await made.http.aclose()


@contextmanager
def hushed(caplog: pytest.LogCaptureFixture, *answers: httpx.Response) -> Iterator[None]:
    """No secret is logged within."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert not any(secret in caplog.text for secret in HUSH)


async def test_an_account_that_installs_is_stored(
    moysklad: MoySklad, caplog: pytest.LogCaptureFixture
) -> None:
    assert not await moysklad.is_on()
    with hushed(caplog):
        answer = await moysklad.put()
    assert (answer.status_code, answer.json()) == (200, {"status": "Activated"})
    assert answer.headers["content-type"] == "application/json"
    assert await moysklad.account() == Account(ACCOUNT, "omsk", TokenKind.SOLUTION, HUSH[0])
    assert (await moysklad.account()).role is None
    assert await moysklad.is_on()
    (entry,) = await moysklad.container.audit_log().find()
    assert (entry.who, entry.action, entry.subject) == (
        f"solution {APP}",
        "take up account",
        ACCOUNT,
    )
    assert entry.detail == {"cause": "Install", "account": "omsk"}


async def test_a_draft_s_accounts_cost_more_until_it_is_published(moysklad: MoySklad) -> None:
    add = moysklad.container.add_solution()
    await add(APP, SECRET, is_draft=True)
    await moysklad.put()
    assert (await moysklad.account()).token_kind is TokenKind.DRAFT
    await add(APP, SECRET, is_draft=False)
    assert (await moysklad.account()).token_kind is TokenKind.SOLUTION


async def test_an_account_that_is_there_keeps_its_name_its_links_and_its_role(
    moysklad: MoySklad,
) -> None:
    accounts_, settings = moysklad.container.accounts(), moysklad.container.settings()
    # Its id as somebody typed it.
    known = Account(ACCOUNT.upper(), "Омск", TokenKind.USER, "mine", role=AccountRole.CHILD)
    await accounts_.add(known)
    await accounts_.add(Account("m", "Main", TokenKind.USER, "t"))
    await settings.link("m", known.id, LinkSettings(sync_images_all=True))
    await accounts_.park(known.id, Parking("refused", datetime.now(UTC) + timedelta(hours=1)))
    assert (await moysklad.put()).status_code == 200
    stored = await accounts_.get(known.id)
    assert (stored.name, stored.secret, stored.token_kind, stored.role) == (
        "Омск",
        HUSH[0],
        TokenKind.SOLUTION,
        AccountRole.CHILD,
    )
    assert await accounts_.parking(known.id) is None
    assert [link.child_id for link in await settings.links()] == [known.id]
    assert len(await accounts_.all()) == 2


async def test_suspended_it_is_parked_and_resumed_it_goes_on(
    moysklad: MoySklad, caplog: pytest.LogCaptureFixture
) -> None:
    queue = moysklad.container.queue()
    await moysklad.put()
    await queue.enqueue(
        [NewTask({"child_account_id": ACCOUNT}, f"x/product/{n}", ACCOUNT) for n in "ab"]
    )
    (task,) = await queue.claim(lease=timedelta(minutes=1), limit=1)
    with hushed(caplog):
        answer = await moysklad.delete("Suspend")
        assert (answer.status_code, answer.content) == (200, b"")
        assert await moysklad.reason() == SUSPENDED
        assert (await moysklad.account()).secret == NO_TOKEN
        assert not await moysklad.is_on()
        assert await queue.park(task, account_id=ACCOUNT, until=NO_END, error="parked") >= 1
        assert await queue.claim(lease=timedelta(minutes=1)) == []
        # What is paid for changes: that is not yet the new token.
        assert (await moysklad.put(body("TariffChanged", None))).status_code == 200
        assert await moysklad.reason() == SUSPENDED
        assert (await moysklad.put(body("Resume", HUSH[1]))).status_code == 200
    assert await moysklad.reason() is None
    assert (await moysklad.account()).secret == HUSH[1]
    assert (await queue.counts())[TaskStatus.PENDING] == 2
    assert len(await queue.claim(lease=timedelta(minutes=1), limit=5)) == 2


async def test_removed_its_token_is_forgotten_and_its_links_are_not(moysklad: MoySklad) -> None:
    settings = moysklad.container.settings()
    await moysklad.container.accounts().add(Account("m", "Main", TokenKind.USER, "t"))
    await moysklad.put()
    await settings.link("m", ACCOUNT, LinkSettings(sync_images_all=True))
    assert (await moysklad.delete()).status_code == 200
    assert await moysklad.reason() == REMOVED
    assert [link.child_id for link in await settings.links()] == [ACCOUNT]
    database = moysklad.container.database()
    for column in (accounts.c.secret, installations.c.token):
        query = select(column)
        found = await database.run(partial(_texts, query))
        assert HUSH[0] not in found
    assert (await moysklad.put(body(token=HUSH[1]))).status_code == 200
    assert await moysklad.reason() is None
    assert (await settings.get(ACCOUNT)).sync_images_all


@pytest.mark.parametrize("cause", ["TariffChanged", "Autoprolongation"])
async def test_what_brings_no_token_keeps_the_one_that_is_there(
    moysklad: MoySklad, cause: str
) -> None:
    await moysklad.put()
    assert (await moysklad.put(body(cause, None))).json() == {"status": "Activated"}
    assert (await moysklad.account()).secret == HUSH[0]
    assert await moysklad.is_on()


@pytest.mark.parametrize("cause", ["TariffChanged", "Autoprolongation"])
async def test_what_is_not_known_yet_is_to_be_told_again(moysklad: MoySklad, cause: str) -> None:
    token = signed()
    told = body(cause, None)
    early = await moysklad.put(told, token=token, request_id="r")
    assert early.status_code == 503
    await moysklad.put()
    assert (await moysklad.put(told, token=token, request_id="r")).status_code == 200


@pytest.mark.parametrize("cause", ["Install", "Resume"])
async def test_without_access_it_is_not_installed(moysklad: MoySklad, cause: str) -> None:
    assert (await moysklad.put(body(cause, None))).status_code == 400
    assert await moysklad.container.accounts().all() == []
    assert not await moysklad.is_on()


async def test_a_call_that_comes_again_is_answered_and_changes_nothing(moysklad: MoySklad) -> None:
    queue = moysklad.container.queue()
    token = signed()
    first = await moysklad.put(token=token, request_id="r-1")
    await moysklad.container.accounts().add(Account(ACCOUNT, "omsk", TokenKind.USER, "by-hand"))
    await queue.enqueue([NewTask({"child_account_id": ACCOUNT}, "k", ACCOUNT)])
    (task,) = await queue.claim(lease=timedelta(minutes=1))
    await moysklad.container.accounts().park(
        ACCOUNT, Parking("x", datetime.now(UTC) + timedelta(1))
    )
    await queue.park(task, account_id=ACCOUNT, until=datetime.now(UTC) + timedelta(1), error="x")
    for again in (token, signed()):  # whether MoySklad signs a repeated call anew, it does not say
        answer = await moysklad.put(body(token=HUSH[1]), token=again, request_id="r-1")
        assert (answer.status_code, answer.content) == (200, first.content)
    assert (await moysklad.account()).secret == "by-hand"
    assert len(await moysklad.container.audit_log().find()) == 1
    # Whoever took it first may have ended before it woke the tasks.
    assert len(await queue.claim(lease=timedelta(minutes=1))) == 1


async def test_a_token_serves_once(moysklad: MoySklad) -> None:
    token = signed()
    await moysklad.put(token=token, request_id="r-1")
    for how in (
        {"request_id": "r-2"},
        {"request_id": None},
        {"request_id": "r-1", "account": ACCOUNT.replace("f", "e")},
    ):
        assert (await moysklad.put(body(token=HUSH[1]), token=token, **how)).status_code == 401
    assert (await moysklad.delete(token=token, request_id="r-1")).status_code == 401
    get = await moysklad.call("GET", token=token, request_id="r-1", content=b"")
    assert get.status_code == 401
    assert (await moysklad.account()).secret == HUSH[0]
    assert len(await moysklad.container.accounts().all()) == 1


async def test_without_a_request_id_a_call_is_taken_once(moysklad: MoySklad) -> None:
    token = signed()
    assert (await moysklad.put(token=token, request_id=None)).status_code == 200
    assert (await moysklad.put(token=token, request_id=None)).status_code == 401
    assert (await moysklad.put(request_id=None)).status_code == 200


async def test_used_tokens_are_forgotten_once_they_have_expired(moysklad: MoySklad) -> None:
    database = moysklad.container.database()
    await moysklad.put()
    past = datetime.now(UTC) - timedelta(seconds=1)
    await database.run(lambda c: c.execute(used_tokens.update().values(expires_at=past)))
    await moysklad.delete()
    left = await database.run(lambda c: c.execute(select(used_tokens)).all())
    assert len(left) == 2  # the call's token and its request


async def test_a_removal_that_comes_first_outlasts_a_late_installation(moysklad: MoySklad) -> None:
    now = int(time.time())
    assert (await moysklad.delete(iat=now)).status_code == 200
    assert (await moysklad.put(iat=now - 5)).status_code == 200
    assert await moysklad.container.accounts().all() == []
    assert not await moysklad.is_on()
    assert (await moysklad.put(iat=now + 1)).status_code == 200
    assert await moysklad.is_on()
    assert (await moysklad.delete(iat=now - 2)).status_code == 200
    assert await moysklad.is_on()
    assert (await moysklad.account()).secret == HUSH[0]


async def test_removed_twice_it_stays_removed_and_what_was_never_there_may_go(
    moysklad: MoySklad,
) -> None:
    assert (await moysklad.delete()).status_code == 200
    await moysklad.put()
    await moysklad.delete("Suspend")
    for _ in range(2):
        assert (await moysklad.delete()).status_code == 200
    assert await moysklad.reason() == REMOVED
    (there,) = await moysklad.container.solutions().installations()
    assert there.state is InstallationState.REMOVED


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 50_000])
async def test_a_removal_is_heeded_whatever_its_body(moysklad: MoySklad, content: bytes) -> None:
    await moysklad.put()
    assert (await moysklad.call("DELETE", content=content)).status_code == 200
    assert await moysklad.reason() == REMOVED


async def test_a_token_that_somebody_stored_by_hand_outlasts_a_removal(moysklad: MoySklad) -> None:
    await moysklad.put()
    mine = Account(ACCOUNT, "omsk", TokenKind.USER, "by-hand")
    await moysklad.container.accounts().add(mine)
    await moysklad.delete()
    assert await moysklad.account() == mine
    assert await moysklad.reason() is None


async def test_of_two_solutions_the_other_s_token_serves_once_one_is_removed(
    moysklad: MoySklad,
) -> None:
    await moysklad.container.add_solution()(OTHER_APP, SECRET, is_draft=True)
    await moysklad.put()
    await moysklad.put(body(token=HUSH[1]), app=OTHER_APP)
    assert (await moysklad.account()).secret == HUSH[1]
    await moysklad.delete(app=OTHER_APP)
    assert await moysklad.account() == Account(ACCOUNT, "omsk", TokenKind.SOLUTION, HUSH[0])
    assert await moysklad.reason() is None
    await moysklad.delete()
    assert await moysklad.reason() == REMOVED


def spoilt() -> Iterator[str]:
    now = int(time.time())
    whole = signed()
    head, claims, mac = whole.split(".")
    none = encoded(b'{"alg":"none","typ":"JWT"}')
    yield signed("another secret key of somebody else's")
    yield f"{none}.{claims}."
    yield f"{none}.{claims}.{mac}"
    yield signed(head={"alg": "HS512", "typ": "JWT"})
    yield signed(head={"alg": "RS256", "typ": "JWT"})
    yield signed(head={"alg": "HS256", "typ": "JWT", "crit": ["x"]})
    yield f"{head}.{claims}.{mac[:-2]}"
    yield f"{head}.{encoded(b'{}')}.{mac}"
    yield signed(iat=now - 400, exp=now - 100)
    yield signed(iat=now + 300, exp=now + 600)
    yield signed(exp=now + 400 * 86_400)
    yield signed(nbf=now + 600)
    yield from (signed(iat=None), signed(exp=None), signed(jti=None))
    strange: tuple[Any, ...] = ("x", [], {}, True, 1e300, -1e300, float("nan"), float("inf"))
    for one in strange:
        yield signed(exp=one)
        yield signed(iat=one)
    no_ids: tuple[Any, ...] = ("", 5, [])
    for one in no_ids:
        yield signed(jti=one)
    yield "x"
    yield "..."
    yield "[" * 5000
    yield f"{head}.{encoded(b'[' * 9000)}.{mac}"


async def test_a_token_that_is_not_right_opens_nothing(
    moysklad: MoySklad, caplog: pytest.LogCaptureFixture
) -> None:
    with hushed(caplog):
        for number, token in enumerate(spoilt()):
            answer = await moysklad.put(token=token)
            assert answer.status_code == 401, number
            assert answer.json() == {"error": "The token of the request is not valid"}
    for wrong in ("", "Bearer", "Bearer ", f"Basic {signed()}", "Bearer \xff"):
        headers = [(b"authorization", wrong.encode("latin-1"))]
        path = f"/api/moysklad/vendor/1.0/apps/{APP}/{ACCOUNT}"
        assert (await moysklad.http.put(path, json=body(), headers=headers)).status_code == 401
    assert await moysklad.container.accounts().all() == []
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1  # a minute, however many come


async def test_clocks_may_differ_a_little(moysklad: MoySklad) -> None:
    now = int(time.time())
    assert (await moysklad.put(iat=now - 330, exp=now - 30)).status_code == 200
    assert (await moysklad.put(iat=now + 30, exp=now + 330)).status_code == 200


async def test_another_solution_s_secret_or_none_opens_nothing(moysklad: MoySklad) -> None:
    answer = await moysklad.put(app=OTHER_APP)
    wrong = await moysklad.put(token=signed("another secret key"))
    assert (answer.status_code, answer.content) == (401, wrong.content)
    await moysklad.container.solutions().remove(APP)
    assert (await moysklad.put()).status_code == 401


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 50_000, 400),
        (b" " * 100_001, 413),
        (json.dumps(body(token="with space")).encode(), 400),
        (json.dumps(body(token="т")).encode(), 400),
        (json.dumps(body(token="x" * 1001)).encode(), 400),
        (json.dumps(body(token=None, access="x")).encode(), 400),
        (json.dumps(body(token=None, access=[1, {"access_token": 5}])).encode(), 400),
    ],
)
async def test_a_body_that_is_none_is_refused_and_may_come_again(
    moysklad: MoySklad, told: bytes, status: int
) -> None:
    token = signed()
    answer = await moysklad.call("PUT", content=told, token=token, request_id="r")
    assert answer.status_code == status
    assert await moysklad.container.accounts().all() == []
    assert (await moysklad.put(token=token, request_id="r")).status_code == 200


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("Омск", "Омск"),
        ("  a\nb\x1b[31m ", "a b\\x1b[31m"),
        ("", ACCOUNT),
        (None, ACCOUNT),
        (5, ACCOUNT),
        ("\ud800\x00", "\\ud800\\x00"),
        ("x" * 300, "x" * 255),
    ],
)
async def test_a_strange_name_costs_no_installation(
    moysklad: MoySklad, name: Any, stored: str
) -> None:
    assert (await moysklad.put(body(accountName=name))).status_code == 200
    assert (await moysklad.account()).name == stored


@pytest.mark.parametrize(
    "path",
    [
        f"apps/{APP}/x",
        f"apps/x/{ACCOUNT}",
        f"apps/{APP}/{ACCOUNT}%00",
        f"apps/{APP}/{ACCOUNT}/event",
        f"apps/{APP}",
    ],
)
async def test_another_address_is_none(moysklad: MoySklad, path: str) -> None:
    url = f"/api/moysklad/vendor/1.0/{path}"
    assert (await moysklad.http.put(url, json=body())).status_code == 404
    assert (
        await moysklad.http.post(f"/api/moysklad/vendor/1.0/apps/{APP}/{ACCOUNT}")
    ).status_code == 405


async def test_a_store_that_cannot_be_used_is_asked_again(
    moysklad: MoySklad, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed()

    class Broken:
        def __getattr__(self, name: str) -> Any:
            async def broken(*_: Any) -> Any:
                raise StoreError("gone")

            return broken

    for override in (moysklad.container.solutions, moysklad.container.queue):
        with hushed(caplog), override.override(Broken()):
            answer = await moysklad.put(token=token, request_id="r")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert (await moysklad.put(token=token, request_id="r")).status_code == 200
    assert (await moysklad.account()).secret == HUSH[0]


async def test_two_hosts_take_one_call_once(database_url: str, moysklad: MoySklad) -> None:
    second = Container(config=fixed_config(database_url=database_url))
    other = MoySklad(second)
    try:
        for number in range(5):
            token = signed()
            both = await asyncio.gather(
                *(
                    one.put(token=token, request_id=f"both {number}")
                    for one in (moysklad, other) * 3
                )
            )
            assert [answer.status_code for answer in both] == [200] * 6
            replays = await asyncio.gather(
                *(
                    one.delete(token=used, request_id=None)
                    for used in [signed()]
                    for one in (moysklad, other) * 3
                )
            )
            assert sorted(answer.status_code for answer in replays) == [200] + [401] * 5
        assert len(await moysklad.container.audit_log().find()) == 10
    finally:
        await other.http.aclose()
        await close(second)


async def test_whatever_the_order_the_newest_call_counts(
    database_url: str, moysklad: MoySklad
) -> None:
    """Of calls to two hosts at once, the account stands as the one that was signed last says."""
    second = Container(config=fixed_config(database_url=database_url))
    other = MoySklad(second)
    now = int(time.time())
    try:
        for round_ in range(6):
            at = now - 60 + round_ * 8
            calls = [
                moysklad.put(body(token=f"t-{round_}"), iat=at),
                other.delete("Suspend", iat=at + 2),
                moysklad.put(body("Resume", token=f"r-{round_}"), iat=at + 4),
                *([other.delete(iat=at + 6)] if round_ % 2 else []),
            ]
            answers = await asyncio.gather(*calls[round_ % 3 :], *calls[: round_ % 3])
            assert {answer.status_code for answer in answers} == {200}
            assert await moysklad.is_on() == (round_ % 2 == 0)
            stored = (await moysklad.account()).secret
            assert stored == (NO_TOKEN if round_ % 2 else f"r-{round_}")
            assert await moysklad.reason() == (REMOVED if round_ % 2 else None)
    finally:
        await other.http.aclose()
        await close(second)

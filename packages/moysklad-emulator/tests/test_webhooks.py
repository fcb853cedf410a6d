"""Webhooks: how they are managed, and how they are sent (section Webhooks)."""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from moysklad_emulator import Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.images import NewImage
from moysklad_emulator.stats import WebhookFate
from receiver import Receiver, answers, receiving
from service import JPEG, Service, StartService, codes, entity_path, images_path, upload

QUIET = "X-Lognex-WebHook-DisableByPrefix"
URL = "https://sync.example/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def admin(service: Service) -> Iterator[httpx.Client]:
    service.account.add_user(token=f"{service.token}-admin", kind="user", login="anna")
    with service.client_for(f"{service.token}-admin") as client:
        yield client


def hook(**fields: Any) -> dict[str, Any]:
    return {"url": URL, "action": "UPDATE", "entityType": "product", **fields}


def create(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = client.post("entity/webhook", json=hook(**fields))
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def sent(server: EmulatorServer) -> dict[WebhookFate, int]:
    assert server.await_webhooks()
    return dict(server.emulator.stats.webhooks)


# Managing them


def test_a_new_webhook_is_answered_as_documented(admin: httpx.Client, service: Service) -> None:
    made = create(admin, action="CREATE")
    href = f"{service.server.api_url}/entity/webhook/{made['id']}"
    assert made == {
        "meta": {
            "href": href,
            "metadataHref": f"{service.server.api_url}/entity/webhook/metadata",
            "type": "webhook",
            "mediaType": "application/json",
        },
        "id": made["id"],
        "accountId": service.account.id,
        "entityType": "product",
        "url": URL,
        "method": "POST",
        "enabled": True,
        "action": "CREATE",
    }
    assert admin.get(href).json() == made
    page = admin.get("entity/webhook").json()
    assert (page["meta"]["size"], page["rows"]) == (1, [made])


def test_diff_type_is_none_unless_asked_for(admin: httpx.Client) -> None:
    assert create(admin)["diffType"] == "NONE"
    assert create(admin, url=f"{URL}/2", diffType="FIELDS")["diffType"] == "FIELDS"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"url": None}, 3000),
        ({"action": None}, 3000),
        ({"entityType": None}, 3000),
        ({"entityType": "webhook"}, 30000),
        ({"method": "GET"}, 30001),
        ({"action": "REMOVE"}, 30002),
        ({"url": "ftp://sync.example"}, 30005),
        ({"url": "https://"}, 30005),
        ({"url": "https://sync.example/" + "x" * 235}, 30010),
        ({"action": "PROCESSED"}, 30008),
        ({"action": "CREATE", "diffType": "NONE"}, 30009),
        ({"diffType": "ALL"}, 3005),
        ({"enabled": 1}, 2016),
        ({"color": "red"}, 1007),
    ],
)
def test_wrong_webhooks_are_refused(admin: httpx.Client, fields: dict[str, Any], code: int) -> None:
    response = admin.post("entity/webhook", json=hook(**fields))
    assert codes(response) == [code]
    assert admin.get("entity/webhook").json()["rows"] == []


def test_255_characters_are_a_url(admin: httpx.Client) -> None:
    url = "https://sync.example/" + "x" * 234
    assert (len(url), create(admin, url=url)["url"]) == (255, url)


def test_type_action_and_url_are_unique_together(admin: httpx.Client) -> None:
    create(admin)
    assert codes(admin.post("entity/webhook", json=hook(diffType="FIELDS"))) == [30003]
    create(admin, entityType="variant")
    create(admin, action="DELETE")


def test_users_have_five_of_a_kind_and_a_solution_one(
    admin: httpx.Client, service: Service
) -> None:
    for number in range(5):
        create(admin, url=f"{URL}/{number}")
    assert codes(admin.post("entity/webhook", json=hook(url=f"{URL}/5"))) == [30007]
    made = create(service.client, url=f"{URL}/own")
    assert made["authorApplication"]["meta"]["type"] == "application"
    refused = service.client.post("entity/webhook", json=hook(url=f"{URL}/own/2"))
    assert codes(refused) == [30007]
    create(service.client, url=f"{URL}/own", action="DELETE")


def test_a_change_is_checked_as_a_new_one(admin: httpx.Client) -> None:
    first, second = create(admin, diffType="FIELDS"), create(admin, url=f"{URL}/2")
    path = f"entity/webhook/{second['id']}"
    assert codes(admin.put(path, json={"url": URL})) == [30003]
    assert admin.get(path).json() == second
    assert admin.put(path, json={"enabled": False}).json() == {**second, "enabled": False}
    changed = admin.put(f"entity/webhook/{first['id']}", json={"action": "DELETE"}).json()
    assert (changed["action"], "diffType" in changed) == ("DELETE", False)


def test_an_array_creates_and_updates_each_for_itself(admin: httpx.Client) -> None:
    made = create(admin)
    array = [hook(action="CREATE"), {"meta": made["meta"], "enabled": False}, hook(method="GET")]
    response = admin.post("entity/webhook", json=array)
    new, old, error = response.json()
    assert (response.status_code, new["action"], old["enabled"]) == (400, "CREATE", False)
    assert error["errors"][0]["code"] == 30001


def test_webhooks_are_deleted_one_by_one_and_many_at_once(admin: httpx.Client) -> None:
    made = [create(admin, url=f"{URL}/{number}") for number in range(3)]
    response = admin.delete(f"entity/webhook/{made[0]['id']}")
    assert (response.status_code, response.content) == (200, b"")
    metas = [{"meta": hook["meta"]} for hook in made[1:]]
    assert admin.post("entity/webhook/delete", json=metas).status_code == 200
    assert admin.get("entity/webhook").json()["rows"] == []
    assert codes(admin.delete(f"entity/webhook/{made[0]['id']}")) == [1021]


@pytest.mark.parametrize(("kind", "login"), [("user", "worker"), ("solution", "other.vendor")])
def test_without_the_right_there_are_none(service: Service, kind: Any, login: str) -> None:
    token = f"{service.token}-{kind}"
    service.account.add_user(token=token, kind=kind, login=login, webhooks="none")
    with service.client_for(token) as client:
        for response in (
            client.get("entity/webhook"),
            client.post("entity/webhook", json=hook()),
            client.delete("entity/webhook/00000000-0000-0000-0000-000000000000"),
        ):
            assert (response.status_code, codes(response)) == (403, [30004])


def test_a_solution_changes_its_own_alone(admin: httpx.Client, service: Service) -> None:
    of_user, own = create(admin), create(service.client, url=f"{URL}/own")
    assert service.client.get("entity/webhook").json()["rows"] == [own]
    path = f"entity/webhook/{of_user['id']}"
    assert codes(service.client.get(path)) == [1021]
    assert codes(service.client.put(path, json={"enabled": False})) == [1021]
    service.emulator.dialect = service.emulator.dialect.changed({"solution_sees": "all"})
    assert service.client.get(path).json() == of_user
    assert codes(service.client.delete(path)) == [1021]
    assert len(admin.get("entity/webhook").json()["rows"]) == 2


def test_a_tariff_may_have_none(admin: httpx.Client, service: Service, receiver: Receiver) -> None:
    made = create(admin, url=receiver.url)
    service.account.set_webhooks(False)
    assert codes(admin.post("entity/webhook", json=hook(action="DELETE"))) == [30006]
    assert codes(admin.put(f"entity/webhook/{made['id']}", json={"enabled": True})) == [30006]
    service.account.add_image(service.product(), _image())
    assert sent(service.server) == {}


# Sending them


def test_a_notification_has_the_documented_shape(
    admin: httpx.Client, service: Service, receiver: Receiver
) -> None:
    create(admin, url=receiver.url, diffType="FIELDS")
    product = service.product()
    admin.put(entity_path(product), json={"name": "Chair", "code": "c1"})
    assert sent(service.server) == {"attempt": 1, "delivered": 1}
    (got,) = receiver.received
    audit, (event,) = got.body["auditContext"], got.events
    assert (got.path, len(got.request_id)) == ("/hook", 36)
    assert (
        got.headers["User-Agent"] == "MoySklad webhook touch agent 2.0 (/https://www.moysklad.ru)"
    )
    assert audit["uid"] == f"anna@{service.account.login}"
    assert audit["meta"]["type"] == "audit"
    assert audit["meta"]["href"].startswith(f"{service.server.api_url}/audit/")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", audit["moment"])
    meta = service.entity_meta(product)
    assert event == {
        "meta": {"type": "product", "href": meta["href"]},
        "action": "UPDATE",
        "accountId": service.account.id,
        "updatedFields": ["name", "code"],
    }


def test_only_updates_with_fields_name_them(
    admin: httpx.Client, service: Service, receiver: Receiver
) -> None:
    for action in ("CREATE", "UPDATE", "DELETE"):
        create(admin, url=receiver.url, action=action)
    made = admin.post("entity/product", json={"name": "Chair"}).json()
    assert service.server.await_webhooks()
    admin.put(made["meta"]["href"], json={"name": "Stool"})
    assert service.server.await_webhooks()
    admin.delete(made["meta"]["href"])
    assert service.server.await_webhooks()
    assert receiver.actions() == ["CREATE", "UPDATE", "DELETE"]
    assert all("updatedFields" not in event for got in receiver.received for event in got.events)


def test_nothing_is_told_of_other_types_refusals_and_sameness(
    admin: httpx.Client, service: Service, receiver: Receiver
) -> None:
    create(admin, url=receiver.url)
    product = service.product(("a.jpg", JPEG))
    admin.post("entity/bundle", json={"name": "Set"})
    assert admin.put(entity_path(product), json={"name": ""}).status_code == 412
    admin.put(entity_path(product), json={"name": product.name})
    admin.post(images_path(product), json=[service.meta(product, 0)])
    assert sent(service.server) == {}


def test_a_webhook_that_is_off_is_silent(
    admin: httpx.Client, service: Service, receiver: Receiver
) -> None:
    create(admin, url=receiver.url, enabled=False)
    service.account.add_image(service.product(), _image())
    assert sent(service.server) == {}


@pytest.mark.parametrize("way", ["add", "set", "delete", "one", "entity", "test"])
def test_a_change_of_images_is_an_update(
    admin: httpx.Client, service: Service, receiver: Receiver, way: str
) -> None:
    create(admin, url=receiver.url, diffType="FIELDS")
    product = service.product(("a.jpg", JPEG))
    images, meta = images_path(product), service.meta(product, 0)
    if way == "test":
        service.account.set_images(product, [_image()])
    else:
        response = {
            "add": lambda: admin.post(images, json=upload()),
            "set": lambda: admin.post(images, json=[upload()]),
            "delete": lambda: admin.post(f"{images}/delete", json=[meta]),
            "one": lambda: admin.delete(meta["meta"]["href"]),
            "entity": lambda: admin.put(entity_path(product), json={"images": [upload()]}),
        }[way]()
        assert response.status_code == 200
    assert sent(service.server) == {"attempt": 1, "delivered": 1}
    assert receiver.received[0].events[0]["updatedFields"] == ["images"]


@pytest.mark.parametrize(("switch", "fields"), [("unnamed", [[]]), ("none", [])])
def test_images_may_be_unnamed_or_no_event(
    admin: httpx.Client, service: Service, receiver: Receiver, switch: str, fields: list[Any]
) -> None:
    service.emulator.dialect = service.emulator.dialect.changed({"image_events": switch})
    create(admin, url=receiver.url, diffType="FIELDS")
    service.account.add_image(service.product(), _image())
    assert service.server.await_webhooks()
    assert [got.events[0]["updatedFields"] for got in receiver.received] == fields


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, [["a", "b"], ["c"]]),
        ({"webhook_order": "reversed"}, [["b", "a"], ["c"]]),
        ({"webhook_events": "single"}, [["a"], ["b"], ["c"]]),
        ({"webhook_events": "of_url"}, [["a", "b", "c"]]),
    ],
)
def test_events_of_one_request_come_together(
    admin: httpx.Client,
    service: Service,
    receiver: Receiver,
    switches: dict[str, Any],
    expected: list[list[str]],
) -> None:
    service.emulator.dialect = service.emulator.dialect.changed(switches)
    create(admin, url=receiver.url)
    create(admin, url=receiver.url, action="CREATE")
    entities = {name: service.product(name=name) for name in ("a", "b")}
    assert service.server.await_webhooks()
    receiver.received.clear()
    bodies = [
        {"meta": service.entity_meta(entity), "code": name} for name, entity in entities.items()
    ]
    new = admin.post("entity/product", json=[*bodies, {"name": "c"}]).json()[2]
    names = {entity.id: name for name, entity in entities.items()} | {new["id"]: "c"}
    assert service.server.await_webhooks()
    got = [
        [names[event["meta"]["href"].rpartition("/")[2]] for event in request.events]
        for request in receiver.received
    ]
    assert sorted(got) == sorted(expected)


def test_a_refusal_is_sent_again_at_once_with_the_same_id(
    admin: httpx.Client, service: Service
) -> None:
    with receiving(answers([500, 302, 201])) as receiver:
        create(admin, url=receiver.url)
        service.account.add_image(service.product(), _image())
        assert sent(service.server) == {"attempt": 4, "delivered": 1}
    assert len({got.request_id for got in receiver.received}) == 1


def test_after_three_resends_it_is_lost(admin: httpx.Client, service: Service) -> None:
    with receiving(answers([500] * 4)) as receiver:
        create(admin, url=receiver.url)
        product = service.product()
        service.account.add_image(product, _image())
        assert sent(service.server) == {"attempt": 4, "lost": 1}
        admin.put(entity_path(product), json={"name": "Chair"})
        assert sent(service.server) == {"attempt": 5, "lost": 1, "delivered": 1}
    assert len({got.request_id for got in receiver.received}) == 2


def test_nobody_listens(admin: httpx.Client, service: Service) -> None:
    with receiving() as receiver:
        pass
    create(admin, url=receiver.url)
    service.account.add_image(service.product(), _image())
    assert sent(service.server) == {"attempt": 4, "lost": 1}


def test_other_machines_are_never_asked(admin: httpx.Client, service: Service) -> None:
    create(admin, url="http://192.0.2.1/hook")
    service.account.add_image(service.product(), _image())
    started = time.monotonic()
    assert sent(service.server) == {"attempt": 4, "lost": 1}
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("resends", "attempts"), [(True, 2), (False, 1)])
def test_an_answer_is_wanted_in_time(
    start_service: StartService, *, resends: bool, attempts: int
) -> None:
    service = start_service(EmulatorLimits(webhook_seconds=0.2, webhook_resends=1))
    service.emulator.dialect = service.emulator.dialect.changed(
        {"webhook_timeout_resends": resends}
    )
    with receiving(lambda _: (204, 0.6)) as receiver:
        create(service.client, url=receiver.url)
        service.account.add_image(service.product(), _image())
        assert sent(service.server) == {"attempt": attempts, "lost": 1}


def test_the_documented_limit() -> None:
    limits = EmulatorLimits()
    assert (limits.webhook_seconds, limits.webhook_resends) == (1.5, 3)


def test_the_answer_of_the_api_does_not_wait(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_units=1000))
    with receiving(lambda _: (204, 1.5)) as receiver:
        create(service.client, url=receiver.url)
        product = service.product()
        started = time.monotonic()
        for number in range(5):
            service.client.put(entity_path(product), json={"name": f"{number}"})
        assert time.monotonic() - started < 5  # of 7.5, were each waited for
        assert not service.server.await_webhooks(0)


def test_what_waits_at_the_end_is_lost_and_nothing_stays_open() -> None:
    with receiving(lambda _: (204, 3.0)) as receiver:
        with EmulatorServer(Emulator()) as server:
            service = Service(server, server.emulator.add_account("A"), "t")
            with service.client:
                create(service.client, url=receiver.url)
            service.account.add_image(service.product(), _image())
            started = time.monotonic()
        assert time.monotonic() - started < 2.5
        service.account.add_image(service.product(), _image())
        assert len(receiver.received) <= 1


def test_more_than_may_wait_is_lost(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(max_waiting_notifications=2))
    with receiving(lambda _: (204, 0.3)) as receiver:
        create(service.client, url=receiver.url, action="CREATE")
        for _ in range(5):
            service.product()
        assert sent(service.server) == {"attempt": 2, "delivered": 2, "lost": 3}


def test_it_may_come_twice_after_it_was_taken(
    admin: httpx.Client, service: Service, receiver: Receiver
) -> None:
    service.emulator.dialect = service.emulator.dialect.changed({"webhook_twice": True})
    create(admin, url=receiver.url)
    service.account.add_image(service.product(), _image())
    assert sent(service.server) == {"attempt": 2, "delivered": 1}
    first, second = receiver.received
    assert (first.request_id, first.body) == (second.request_id, second.body)


@pytest.mark.slow
def test_it_may_come_late(admin: httpx.Client, service: Service, receiver: Receiver) -> None:
    service.emulator.dialect = service.emulator.dialect.changed({"webhook_delay": 2})
    create(admin, url=receiver.url)
    service.account.add_image(service.product(), _image())
    assert not service.server.await_webhooks(1.5)
    assert sent(service.server) == {"attempt": 1, "delivered": 1}


@pytest.mark.parametrize(
    ("prefixes", "told"),
    [
        (["http://127.0.0.1"], 0),
        (["https://sync.example", "{url}"], 0),
        (["{url}/deeper"], 1),
        (["https://127.0.0.1"], 1),
    ],
)
def test_a_request_silences_webhooks_by_prefix(
    admin: httpx.Client, service: Service, receiver: Receiver, prefixes: list[str], told: int
) -> None:
    create(admin, url=receiver.url)
    product = service.product()
    headers = [(QUIET, prefix.replace("{url}", receiver.url)) for prefix in prefixes]
    assert admin.put(entity_path(product), json={"name": "A"}, headers=headers).is_success
    assert service.server.await_webhooks()
    assert len(receiver.received) == told
    assert service.emulator.stats.webhooks["quiet"] == 1 - told
    admin.put(entity_path(product), json={"name": "B"})
    assert service.server.await_webhooks()
    assert len(receiver.received) == told + 1


@pytest.mark.parametrize(
    "prefix",
    ["https://", "https://some_url", "https://localhost", "https://a.example,https://b.example"],
)
def test_a_prefix_names_protocol_and_host(admin: httpx.Client, prefix: str) -> None:
    response = admin.get("entity/product", headers={QUIET: prefix})
    assert (response.status_code, codes(response)) == (400, [3030])


# Switching them off


def _fail_for(service: Service, days: int) -> None:
    for _ in range(days):
        service.account.add_image(service.product(), _image())
        assert service.server.await_webhooks()
        service.emulator.clock.pass_days(1)


def _is_on(client: httpx.Client) -> bool:
    (row,) = client.get("entity/webhook").json()["rows"]
    return bool(row["enabled"])


def test_eight_days_of_failures_switch_it_off(service: Service, admin: httpx.Client) -> None:
    made = create(admin, url="http://127.0.0.1:9/hook")
    _fail_for(service, 7)
    assert _is_on(admin)
    _fail_for(service, 1)
    assert not _is_on(admin)
    assert admin.put(f"entity/webhook/{made['id']}", json={"enabled": True}).json()["enabled"]
    _fail_for(service, 1)
    assert _is_on(admin)


def test_one_success_in_ten_days_keeps_it_on(service: Service, admin: httpx.Client) -> None:
    with receiving(answers([])) as receiver:
        create(admin, url=receiver.url)
        _fail_for(service, 1)
    _fail_for(service, 9)
    assert _is_on(admin)
    _fail_for(service, 1)
    assert not _is_on(admin)


def test_days_pass_over_http(service: Service) -> None:
    with httpx.Client(base_url=service.server.control_url, trust_env=False) as control:
        day = control.post("clock", json={"days": 0}).json()["day"]
        assert control.post("clock", json={"days": 3}).json() == {"day": day + 3}
        wrongs: tuple[Any, ...] = ({"days": -1}, {"days": "3"}, [], {"days": True})
        for wrong in wrongs:
            assert control.post("clock", json=wrong).status_code == 400


def _image() -> Any:
    return NewImage.create("new.jpg", JPEG + b"new")

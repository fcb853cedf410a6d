import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from moysklad_emulator import Dialect
from moysklad_emulator.process import emulator_process
from service import JPEG, PNG, plain

pytestmark = pytest.mark.process

SEED = {
    "accounts": [
        {
            "id": "11111111-1111-1111-1111-111111111111",
            "name": "Main",
            "users": [{"token": "main"}, {"login": "l", "password": "p", "weight": 4}],
            "entities": [
                {
                    "type": "product",
                    "name": "P",
                    "external_code": "e",
                    "images": [{"filename": "r.jpg", "size": 5000}],
                }
            ],
        }
    ]
}


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[httpx.Client, str, subprocess.Popen[str]]]:
    """(client of the API with token `main`, storage URL, process)"""
    command = [sys.executable, "-m", "moysklad_emulator", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None
            urls = json.loads(process.stdout.readline())
            headers = {"Authorization": "Bearer main"}
            with httpx.Client(base_url=urls["api_url"], headers=headers) as client:
                yield client, urls["storage_url"], process
        finally:
            process.terminate()


def control(client: httpx.Client, path: str) -> str:
    return str(client.base_url.join(f"/_emulator/{path}"))


def stats(client: httpx.Client) -> dict[str, Any]:
    result: dict[str, Any] = plain.get(control(client, "stats")).json()
    return result


def test_a_process_is_seeded_used_measured_and_stopped(tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(JPEG + b"from a file")
    with running("--rate-interval", "0.5") as (client, storage_url, process):
        assert plain.post(control(client, "seed"), json=SEED).status_code == 200
        more = {
            "accounts": [
                {
                    "id": "11111111-1111-1111-1111-111111111111",
                    "name": "Main",
                    "entities": [
                        {"name": "Q", "images": [{"filename": "f.jpg", "path": str(picture)}]}
                    ],
                }
            ]
        }
        answer = plain.post(control(client, "seed"), json=more).json()
        (entity_id,) = answer["accounts"][0]["entities"]
        rows = client.get("entity/product?limit=2&expand=images").json()["rows"]
        assert [row["name"] for row in rows] == ["P", "Q"]
        assert rows[1]["id"] == entity_id
        contents = []
        for row in rows:
            image = row["images"]["rows"][0]
            location = client.get(image["meta"]["downloadHref"]).headers["location"]
            assert location.startswith(storage_url)
            contents.append(plain.get(location).content)
        assert contents[0].startswith(PNG)
        assert len(contents[0]) == 5000
        assert contents[1] == picture.read_bytes()
        counted = stats(client)
        assert (counted["api_calls"], counted["downloads"]) == (3, 2)
        assert counted["requests"]["GET entity/{type}"] == 1
        assert counted["statuses"] == {"200": 3, "302": 2}
        basic = plain.get(f"{client.base_url}entity/product", auth=("l", "p"))
        assert basic.headers["X-RateLimit-Remaining"] == "41"
        assert basic.headers["X-Lognex-Retry-TimeInterval"] == "500"
        assert plain.post(control(client, "stats/reset")).status_code == 200
        assert stats(client)["api_calls"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_generated_images_are_the_same_every_time(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text(json.dumps(SEED), encoding="utf-8")
    ids = []
    for _ in range(2):
        with running("--state", str(state)) as (client, _, _):
            (row,) = client.get("entity/product?limit=1&expand=images").json()["rows"]
            ids.append(row["images"]["rows"][0]["meta"]["href"].rsplit("/", 1)[1])
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("seed", "problem"),
    [
        ({"accounts": [{}]}, "name"),
        ({"accounts": [{"name": "M", "other": 1}]}, "other"),
        ({"accounts": [], "dialect": {"head": "yes"}}, "head is one of"),
        ({"accounts": [{"name": "M", "users": [{"token": "t", "kind": "boss"}]}]}, "draft"),
        ({"accounts": [{"name": "M", "entities": [{"name": "P", "type": "x"}]}]}, "unknown entity"),
        (
            {
                "accounts": [
                    {"name": "M", "entities": [{"name": "P", "images": [{"filename": "a"}]}]}
                ]
            },
            "a path or a size",
        ),
    ],
)
def test_a_wrong_seed_is_explained(shared_server: Any, seed: Any, problem: str) -> None:
    response = plain.post(f"{shared_server.control_url}/seed", json=seed)
    assert response.status_code == 400
    assert problem in response.json()["error"]


def test_the_dialect_comes_from_the_command_line_and_the_seed(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    entities = [
        {"name": None, "nulls": ["images"]},
        {"name": "Old", "archived": True},
        {"type": "contentcard", "name": "Card", "objects": {"salesChannels": [1]}},
    ]
    users = [{"token": "main", "kind": "user", "login": "anna"}]
    account = {"name": "Main", "login": "shop", "users": users, "entities": entities}
    seed = {"dialect": {"head": False}, "accounts": [account]}
    state.write_text(json.dumps(seed), encoding="utf-8")
    arguments = (
        "--state",
        str(state),
        "--dialect",
        "storage_host=127.0.0.1",
        "--dialect=nulls=yes",
    )
    with running(*arguments) as (client, storage_url, _):
        told = plain.get(control(client, "dialect")).json()
        assert told == Dialect(head=False, nulls=True, storage_host="127.0.0.1").as_dict()
        assert storage_url.startswith("http://127.0.0.1:")
        assert client.get("context/employee").json()["uid"] == "anna@shop"
        (row,) = client.get("entity/product").json()["rows"]
        assert (row["name"], row["images"]) == (None, None)
        (card,) = client.get("entity/contentcard").json()["rows"]
        assert card["salesChannels"] == [1]


def test_a_process_is_controlled_by_its_handle() -> None:
    with emulator_process(SEED) as emulator:
        headers = {"Authorization": "Bearer main"}
        emulator.change_dialect(rate_headers="none")
        emulator.add_fault(status=503, times=9)
        answers = [plain.get(f"{emulator.api_url}/entity/product", headers=headers)]
        emulator.clear_faults()
        assert emulator.stats()["statuses"] == {"503": 1}
        emulator.reset_stats()
        assert emulator.stats()["statuses"] == {}
        answers.append(plain.get(f"{emulator.api_url}/entity/product", headers=headers))
        assert [a.status_code for a in answers] == [503, 200]
        assert "X-RateLimit-Limit" not in answers[1].headers
        with pytest.raises(ValueError, match="head is one of"):
            emulator.change_dialect(head=7)
        emulator.seed({"accounts": [{"name": "More", "users": [{"token": "more"}]}]})
        headers = {"Authorization": "Bearer more"}
        assert plain.get(f"{emulator.api_url}/entity/product", headers=headers).status_code == 200
        with pytest.raises(ValueError, match="another user has"):
            emulator.seed({"accounts": [{"name": "P", "users": [{"token": "more"}]}]})


@pytest.mark.parametrize("switch", ["head=maybe", "colour=red"])
def test_a_wrong_switch_is_explained(switch: str) -> None:
    command = [sys.executable, "-m", "moysklad_emulator", "--dialect", switch]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    assert result.returncode == 1
    assert result.stderr.startswith("dialect: ")
    assert "Traceback" not in result.stderr


def test_a_start_that_fails_is_explained(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "moysklad_emulator", "--state", str(tmp_path / "no")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    assert result.returncode == 1
    assert "No such file" in result.stderr
    assert result.stdout == ""
